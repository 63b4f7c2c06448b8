package handler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// estimate writes the cost of a job at RunComfy's base price into the job's record, or a
// warning that says why the cost is not known. It also warns if a cap does not count the job.
func (h *Handler) estimate(ctx context.Context, rec *ledger.Record, length time.Duration) {
	estimate := h.Prices.Estimate(ctx, rec.Model, length)
	rec.EstimateUSD = estimate.USD
	for _, warning := range []string{estimate.Warning(), h.Caps.NotCounted(reservationOf(*rec))} {
		if warning != "" {
			rec.Warn(warning)
		}
	}
}

// reservationOf returns what a take reserves of the caps of its day.
func reservationOf(rec ledger.Record) budget.Take {
	t := budget.Take{Name: rec.Name, Take: rec.Take, Seconds: rec.ExpectedSeconds}
	if rec.EstimateUSD != nil {
		t.USD = *rec.EstimateUSD
	}
	return t
}

// checkCaps returns an error if a take that is about to be claimed does not fit into the
// caps of the day. A take that a cap holds may be tried again for days, and without this check
// each try would claim the take and release the claim.
func (h *Handler) checkCaps(ctx context.Context, claim ledger.Record) error {
	if h.Caps.None() {
		return nil
	}
	return logIfOver(ctx, claim, h.Books.Check(ctx, budget.Day(claim.Times.Claimed), reservationOf(claim), h.Caps))
}

// bookError says that the book of the day could not be read or written.
type bookError struct{ error }

// logIfOver logs and returns a *budget.OverError. It returns any other error as a bookError,
// without logging it. CapAlarm reads cap_used in the log lines "over budget" and "reserved".
func logIfOver(ctx context.Context, rec ledger.Record, err error) error {
	if over, ok := errors.AsType[*budget.OverError](err); ok {
		slog.WarnContext(ctx, "over budget", "name", rec.Name, "take", rec.Take, "parameter", over.Parameter, "cap_used", over.CapUsed)
	} else if err != nil {
		return bookError{err}
	}
	return err
}

// reserve reserves what a claimed take needs, in the book of the day of the claim. If
// there is no cap, it returns the zero Reservation.
func (h *Handler) reserve(ctx context.Context, rec ledger.Record) (budget.Reservation, error) {
	if h.Caps.None() {
		return budget.Reservation{}, nil
	}
	r, err := h.Books.Reserve(ctx, budget.Day(rec.Times.Claimed), reservationOf(rec), h.Caps)
	if err != nil {
		// There is no reservation to give back, unless S3 wrote it and still returned an error.
		// The next claim of the take then replaces that reservation, or the sweep frees it.
		return budget.Reservation{}, logIfOver(ctx, rec, err)
	}
	slog.InfoContext(ctx, "reserved", "name", rec.Name, "take", rec.Take, "cap_used", r.CapUsed,
		"reserved_jobs", r.Used.Jobs, "reserved_seconds", r.Used.Seconds, "reserved_usd", r.Used.USD)
	return r, nil
}

// giveBack gives back the reservation of a take that RunComfy certainly did not accept. If
// that fails, the hourly sweep of the cancel function frees the reservation.
func (h *Handler) giveBack(ctx context.Context, r budget.Reservation) {
	if r.Day == "" {
		return
	}
	if err := h.Books.GiveBack(ctx, r); err != nil {
		slog.WarnContext(ctx, "reservation not given back", "name", r.Take.Name, "take", r.Take.Take, "err", err)
	}
}
