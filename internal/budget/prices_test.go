package budget_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// world is a fake RunComfy with a clock. It counts requests.
type world struct {
	fake     runcomfytest.Server
	now      time.Time
	requests int
	timeout  time.Duration // of the last request
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.requests++
	if deadline, ok := req.Context().Deadline(); ok {
		w.timeout = time.Until(deadline)
	}
	return w.fake.Transport().RoundTrip(req)
}

func newPrices() (*budget.Prices, *world) {
	w := &world{now: time.Date(2050, 1, 3, 12, 0, 0, 0, time.UTC)}
	api := &runcomfy.Client{Token: runcomfy.StaticToken("canary"), HTTPClient: &http.Client{Transport: w}}
	return &budget.Prices{API: api, Now: func() time.Time { return w.now }}, w
}

func TestEstimate(t *testing.T) {
	tests := []struct {
		name, model string
		length      time.Duration
		want        float64 // 0: not known
		unknown     string
	}{
		{"priced by the second", "sync/react-1", 2500 * time.Millisecond, 0.4, ""},
		{"the length is rounded to milliseconds", "sync/react-1", 2500*time.Millisecond + 400*time.Microsecond, 0.4, ""},
		{"priced by the output", "happyhorse/happyhorse-1.0/reference-to-video", 5 * time.Second, 0.9, ""},
		{"priced by the output, whose length is not known", "happyhorse/happyhorse-1.0/reference-to-video", 0, 0.9, ""},
		{"priced by the second, output of an unknown length", "sync/react-1", 0, 0, "the length of the output is not known"},
		{"a model without a price", "a/b", time.Second, 0, "RunComfy's description of the model has no usable price"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				prices, w := newPrices()
				if tt.model == "a/b" {
					w.fake.Prices = map[string]runcomfytest.Price{}
				}
				got := prices.Estimate(t.Context(), tt.model, tt.length)
				if tt.want == 0 && got.USD != nil || tt.want != 0 && (got.USD == nil || *got.USD != tt.want) || got.Unknown != tt.unknown {
					t.Errorf("%+v, want %v US dollars, unknown %q", got, tt.want, tt.unknown)
				}
				if warning := got.Warning(); (warning != "") != (tt.want == 0) || !strings.HasSuffix(warning, tt.unknown) {
					t.Errorf("warning %q; want one that ends with %q only if the estimate is not known", warning, tt.unknown)
				}
				if w.timeout != 2*time.Second {
					t.Errorf("the request has a timeout of %v, want 2s", w.timeout)
				}
			})
		})
	}
}

// If RunComfy does not return a price, the estimate is unknown, not 0. The price is requested
// again after a minute.
func TestPriceThatIsNotKnown(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallModel) {
		t.Run(fault.Name, func(t *testing.T) {
			prices, w := newPrices()
			w.fake.Fault = func(*http.Request, []byte) *runcomfytest.Fault { return &fault }
			first := prices.Estimate(t.Context(), "sync/react-1", time.Second)
			if first.USD != nil || first.Unknown == "" || strings.Contains(first.Unknown, "canary") {
				t.Errorf("%+v, want no estimate, and a reason without the token", first)
			}
			for range 59 {
				w.now = w.now.Add(time.Second)
				if got := prices.Estimate(t.Context(), "sync/react-1", time.Second); got != first {
					t.Errorf("%+v, want the first estimate %+v", got, first)
				}
			}
			if w.requests != 1 {
				t.Errorf("%d requests within a minute, want 1", w.requests)
			}
			if got := prices.Estimate(t.Context(), "sync/lipsync-2-pro", time.Second); got != first {
				t.Errorf("another model: %+v, want %+v, because the same fault gives the same reason", got, first)
			}
			w.fake.Fault = nil
			w.now = w.now.Add(time.Second)
			if got := prices.Estimate(t.Context(), "sync/react-1", time.Second); got.USD == nil || *got.USD != 0.16 {
				t.Errorf("after a minute: %+v, want 0.16 US dollars", got)
			}
		})
	}
}

// slowToken is a token source that does not return before the context ends.
type slowToken struct{}

func (slowToken) Token(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func (slowToken) Refused() {}

// Without a token no request is made, so the reason names the token, not a response.
func TestPriceWithoutAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prices, w := newPrices()
		prices.API.Token = slowToken{}
		const want = "RunComfy was not asked what the model costs: the token is not set or cannot be read"
		if got := prices.Estimate(t.Context(), "sync/react-1", time.Second); got.Unknown != want || w.requests != 0 {
			t.Errorf("%d requests, %+v; want none, and %q", w.requests, got, want)
		}
	})
}

// After a cancelled call, the next call asks RunComfy at once.
func TestPriceAfterACallerThatGaveUp(t *testing.T) {
	prices, w := newPrices()
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	if got := prices.Estimate(gaveUp, "sync/react-1", time.Second); got.USD != nil {
		t.Errorf("%+v, want no estimate", got)
	}
	if got := prices.Estimate(t.Context(), "sync/react-1", time.Second); got.USD == nil {
		t.Errorf("%+v after %d requests, want an estimate", got, w.requests)
	}
}

// A small amount is never rounded to 0, because a cost of 0 means that the cost is not known.
func TestRound(t *testing.T) {
	for usd, want := range map[float64]float64{0: 0, 1e-9: 1e-6, 0.1234564: 0.123456, 0.1234566: 0.123457} {
		if got := budget.Round(usd); got != want {
			t.Errorf("%v is rounded to %v, want %v", usd, got, want)
		}
	}
}

func TestPriceIsKeptForADay(t *testing.T) {
	prices, w := newPrices()
	for range 24 {
		prices.Estimate(t.Context(), "sync/react-1", time.Second)
		w.now = w.now.Add(time.Hour)
	}
	if w.requests != 1 {
		t.Errorf("%d requests in a day, want 1", w.requests)
	}
	w.fake.Prices = map[string]runcomfytest.Price{"sync/react-1": {USD: 0.2, Unit: "second"}}
	if got := prices.Estimate(t.Context(), "sync/react-1", time.Second); got.USD == nil || *got.USD != 0.2 || w.requests != 2 {
		t.Errorf("%+v after %d requests, want 0.2 US dollars after 2", got, w.requests)
	}
}
