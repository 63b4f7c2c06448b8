package budget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// EstimateNote says what an estimate is.
const EstimateNote = "by RunComfy's base price; not a quote"

const (
	// priceTime is the timeout of a request for a price.
	priceTime = 2 * time.Second
	priceAge  = 24 * time.Hour // how long a known price is used
	askAgain  = time.Minute    // the pause after a request that did not return a price
	// A price of maxPrice US dollars or more is a mistake.
	maxPrice = 1000
)

// Prices estimates what jobs will cost, by RunComfy's base prices. It keeps each price in
// memory, and asks for it again after a day, or after a minute if the price is not known. It is
// safe for concurrent use.
type Prices struct {
	API *runcomfy.Client
	Now func() time.Time

	mu    sync.Mutex
	known map[string]price
}

// price is the price of a model, or why it is not known.
type price struct {
	usd     float64
	unit    string
	note    string
	unknown string // a clause; empty if the price is known
	at      time.Time
}

// Estimate is what a job will cost by RunComfy's base price.
type Estimate struct {
	USD *float64 // nil if it is not known
	// Unknown says why USD is nil. It is a clause.
	Unknown string
	// Note is what RunComfy says about the price, if anything.
	Note string
}

// Warning returns the warning of a job without an estimate, or "".
func (e Estimate) Warning() string {
	if e.USD != nil {
		return ""
	}
	return "there is no estimate of the cost: " + e.Unknown
}

// Estimate returns the estimate of a job by the length of its output; 0 means that the
// length is not known. If Estimate asks RunComfy for the price, the request takes at most two
// seconds. Concurrent calls ask one after the other. Estimate returns no error, because a job runs
// with or without an estimate.
func (p *Prices) Estimate(ctx context.Context, model string, length time.Duration) Estimate {
	price := p.price(ctx, model)
	if price.unknown != "" {
		return Estimate{Unknown: price.unknown}
	}
	amount := 1.0
	if price.unit == runcomfy.PerSecond {
		amount = length.Round(time.Millisecond).Seconds() // rounded as in the record
	}
	if amount == 0 {
		return Estimate{Unknown: "the length of the output is not known", Note: price.note}
	}
	usd := Round(amount * price.usd)
	return Estimate{USD: &usd, Note: price.note}
}

// Round rounds an amount of US dollars to a millionth, but a small amount never to 0.
func Round(usd float64) float64 {
	if usd <= 0 {
		return usd
	}
	return max(math.Round(usd*1e6), 1) / 1e6
}

func (p *Prices) price(ctx context.Context, model string) price {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Now()
	kept, ok := p.known[model]
	age := now.Sub(kept.at)
	if ok && (kept.unknown == "" && age < priceAge || kept.unknown != "" && age < askAgain) {
		return kept
	}
	limited, cancel := context.WithTimeout(ctx, priceTime)
	defer cancel()
	described, err := p.API.Model(limited, model)
	asked := priceOf(described, err)
	if ctx.Err() != nil {
		return asked // the caller gave up, which says nothing about RunComfy
	}
	asked.at = now
	if p.known == nil {
		p.known = map[string]price{}
	}
	p.known[model] = asked
	return asked
}

// priceOf returns the price in RunComfy's description of a model.
func priceOf(m runcomfy.Model, err error) price {
	if _, ok := errors.AsType[*runcomfy.TokenError](err); ok {
		return price{unknown: "RunComfy was not asked what the model costs: the token is not set or cannot be read"}
	}
	if err != nil {
		return price{unknown: "RunComfy did not say what the model costs: " + describe(err)}
	}
	usd := m.BasePriceUSD
	switch {
	case usd == nil:
		return price{unknown: "RunComfy's description of the model has no usable price"}
	case !(*usd > 0 && *usd < maxPrice):
		return price{unknown: fmt.Sprintf("RunComfy says that the model costs %g US dollars, which cannot be right", *usd)}
	case m.PriceUnit != runcomfy.PerSecond && m.PriceUnit != runcomfy.PerOutput:
		return price{unknown: fmt.Sprintf("RunComfy's price of the model is for a unit that lipdrop does not know, %q", m.PriceUnit)}
	}
	return price{usd: *usd, unit: m.PriceUnit, note: m.PricingNote}
}

// describe returns an error in words. It leaves out what differs between two errors of one
// kind, so that their warnings are equal.
func describe(err error) string {
	if response, ok := errors.AsType[*runcomfy.Error](err); ok {
		if response.HTTPStatus/100 == 2 {
			return "its response could not be used"
		}
		return fmt.Sprintf("it returned HTTP %d", response.HTTPStatus)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("it did not respond within %.0f s", priceTime.Seconds())
	}
	return "it could not be reached"
}
