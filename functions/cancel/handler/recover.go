package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// recoverAfter and recoverUntil say how long ago a record was written last
	// that the sweep reads. Submit finishes its own work within minutes, and
	// the queue tries it for a day.
	recoverAfter = 15 * time.Minute
	recoverUntil = 48 * time.Hour

	// recoverTime is what must be left of the function's time to read one more
	// record.
	recoverTime = 15 * time.Second
)

// recoverTakes finishes what submit left undone and no message leads to any
// longer: it starts the execution of a paid take that has none, and ends a claim
// whose invocation died.
func (h *Handler) recoverTakes(ctx context.Context, takes []ledger.TakeID) error {
	var errs []error
	for i, id := range takes {
		if h.Now().Sub(id.Written) < recoverAfter {
			continue
		}
		if deadline, ok := ctx.Deadline(); ok && deadline.Sub(h.Now()) < recoverTime {
			slog.WarnContext(ctx, "not all records were read", "read", i, "records", len(takes))
			break
		}
		rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
		if errors.Is(err, bucket.ErrNotFound) {
			continue
		}
		if err == nil {
			err = h.recoverTake(ctx, rec)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (h *Handler) recoverTake(ctx context.Context, rec ledger.Record) error {
	switch rec.State {
	case ledger.Submitting:
		slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", problem.SubmitInterrupted)
		return h.end(ctx, rec, ledger.Unknown, problem.SubmitInterrupted, problem.InterruptedReason)
	case ledger.Submitted:
		slog.WarnContext(ctx, "recovered", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID)
		err := workflow.Start(ctx, h.States, h.MachineARN, rec.Name, rec.Take, rec.RequestID, rec.Model, rec.Times.Submitted)
		if err != nil {
			return err
		}
		return h.Ledger.PostTake(ctx, rec)
	default:
		return nil
	}
}
