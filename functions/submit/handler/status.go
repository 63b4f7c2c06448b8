package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/token"
)

// postFinding posts why a name has no job, or why its job cannot be submitted. It does not
// replace the status of a newer take. A finding without a job does not replace the status of a
// take of the same drop. If a file of a take was deleted (see deletedFile), a pair without a job
// does not replace the take's status. If postFinding posts the state held, it returns *heldError, so
// that the message is delivered again. It returns nil for a job beyond MaxJobsPerDrop: assessChange
// sends one message that retries all such jobs.
func (h *Handler) postFinding(ctx context.Context, f finding) error {
	prev := f.prev
	if prev.State.Claimed() && (f.Order.OlderThan(prev.Order) || f.Job == nil && f.Order.SameStamp(prev.Order)) {
		if f.Problems != nil && f.State != ledger.Withdrawn {
			f.warnLater(prev.Name, prev.Take)
		}
		return h.rewrite(ctx, f)
	}
	if prev.State.Claimed() && f.Job == nil && f.Files() != nil {
		if _, gone, err := h.deletedFile(ctx, f); err != nil {
			return err
		} else if gone != "" {
			return h.rewrite(ctx, f)
		}
	}
	order := cmp.Or(f.Order, prev.Order)
	if f.Job != nil {
		order = ledger.OrderOf(f.Job.Take, ledger.Timestamp(h.Now()))
	}
	if f.State == ledger.Withdrawn && f.change.UnnamedBy != "" {
		f.Problems = []problem.Problem{drop.NoLongerNamed(f.change.UnnamedBy, f.Name)}
	}
	st := ledger.Status{Name: f.Name, State: f.State, Warnings: f.Warnings, Jobs: f.Jobs}
	if f.Problems != nil {
		st.Code, st.Reason, st.Remedy = f.Problems[0].Code, problem.Reason(f.Problems), problem.Remedy(f.Name, f.Problems)
	}
	if f.State == ledger.Held && f.isLastTry() {
		endRetries(&st, f.Restart())
	}
	if err := h.Ledger.Post(ctx, f.Key, st, order, prev); err != nil {
		return err
	}
	slog.InfoContext(ctx, "assessed", "name", f.Name, "state", st.State, "code", st.Code)
	if f.State == ledger.Held && st.Code != problem.TooManyJobs {
		return &heldError{code: st.Code}
	}
	return nil
}

// rewrite writes the previous status again if it must be written (see mustWrite).
func (h *Handler) rewrite(ctx context.Context, f finding) error {
	if !f.prev.Rewrite {
		return nil
	}
	return h.Ledger.Post(ctx, f.Key, f.prev.Status, f.prev.Order, f.prev)
}

// endRetries changes the status of a held job or file that is not tried again.
func endRetries(st *ledger.Status, restart problem.Restart) {
	const redrive = "redrive the dead-letter queue (see the stack's output DeadLetterQueueUrl)"
	st.Reason += "; lipdrop retried for about a day, and no longer retries"
	if st.Code == problem.RecordUnreadable { // an upload could charge the job a second time
		st.Remedy += " After a restore, " + redrive + "."
		return
	}
	st.Remedy = "Fix the cause. If the state is still held then, " + redrive + ", or upload " + restart.File() + " again."
}

// handleSubmitError handles an error of the reservation or the POST. It releases the claim and
// gives back the reservation only if RunComfy certainly did not accept the job.
func (h *Handler) handleSubmitError(ctx context.Context, f finding, rec ledger.Record, reserved budget.Reservation, cause error) error {
	code, state := classify(cause)
	if state == ledger.Unknown {
		rec, err := h.recordUnknown(ctx, rec, code, "it is not known whether RunComfy accepted the job: "+describe(cause))
		if err != nil {
			return err
		}
		return h.postTake(ctx, f, rec)
	}
	if err := h.release(ctx, rec, reserved); err != nil {
		return err
	}
	if state == ledger.Rejected || f.isLastTry() { // this status may be the last one, so the files must still be those of the take
		if err := h.checkInputs(ctx, rec); err != nil {
			return err
		}
	}
	return h.postNotSubmitted(ctx, f, rec, cause)
}

// recordUnknown records that it is not known whether RunComfy accepted the job. Such
// a take is never submitted again.
func (h *Handler) recordUnknown(ctx context.Context, rec ledger.Record, code problem.Code, reason string) (ledger.Record, error) {
	slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", code, "reason", reason)
	return h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
		if r.State == ledger.Submitting {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Unknown, code, reason, ledger.Timestamp(h.Now())
		}
	})
}

// postNotSubmitted posts the status of a take for which this try certainly started no job.
// If the take is held, postNotSubmitted returns *heldError.
func (h *Handler) postNotSubmitted(ctx context.Context, f finding, rec ledger.Record, cause error) error {
	code, state := classify(cause)
	st := ledger.Status{
		Name: rec.Name, State: state, Code: code, Reason: describe(cause), Remedy: code.RemedyFor(rec.Restart()),
		Warnings: rec.Warnings, Take: rec.Take, Model: rec.Model, ExpectedSeconds: rec.ExpectedSeconds, EstimateUSD: rec.EstimateUSD,
	}
	if state == ledger.Held && f.isLastTry() && code != problem.OverBudget { // a job over budget has no last try
		endRetries(&st, rec.Restart())
	}
	slog.WarnContext(ctx, "not submitted", "name", rec.Name, "take", rec.Take, "state", state, "code", code, "err", cause)
	if err := h.Ledger.Post(ctx, f.Key, st, ledger.OrderOf(rec.Take, ledger.Timestamp(h.Now())), f.prev); err != nil {
		return err
	}
	if state == ledger.Held {
		held := &heldError{code: code}
		if response, ok := errors.AsType[*runcomfy.Error](cause); ok && !f.isLastTry() {
			held.retryAfter = response.RetryAfter
		}
		return held
	}
	return nil
}

// describe returns a text for people about an error of the record, the token, the caps or the POST.
// For a response of RunComfy, it is the HTTP status, and the code and the message if there are any.
func describe(err error) string {
	response, ok := errors.AsType[*runcomfy.Error](err)
	if !ok {
		return err.Error()
	}
	text := fmt.Sprintf("RunComfy returned HTTP %d", response.HTTPStatus)
	if response.Code != 0 {
		text += fmt.Sprintf(", code %d", response.Code)
	}
	if response.Message != "" {
		text += ": " + response.Message
	}
	return text
}

// classify returns what an error of the record, the token, the caps or the POST means for a take:
// held or rejected if this try certainly started no job, else unknown.
func classify(err error) (problem.Code, ledger.State) {
	var noToken *runcomfy.TokenError
	var response *runcomfy.Error
	var over *budget.OverError
	var book bookError
	var unreadable *bucket.UnreadableError
	switch {
	case errors.As(err, &over):
		return problem.OverBudget, ledger.Held
	case errors.As(err, &book):
		return problem.BudgetUnreadable, ledger.Held
	case errors.As(err, &unreadable):
		return problem.RecordUnreadable, ledger.Held
	case errors.Is(err, token.ErrNone):
		return problem.TokenMissing, ledger.Held
	case errors.As(err, &noToken):
		return problem.TokenUnreadable, ledger.Held
	case runcomfy.NotSent(err):
		return problem.Unreachable, ledger.Held
	case !errors.As(err, &response):
		return problem.OutcomeUnknown, ledger.Unknown
	}
	switch response.Kind() {
	case runcomfy.KindThrottled:
		return problem.Throttled, ledger.Held
	case runcomfy.KindToken:
		return problem.TokenRefused, ledger.Held
	case runcomfy.KindBalance:
		return problem.NoBalance, ledger.Held
	case runcomfy.KindForeign:
		return problem.AccountRefused, ledger.Held
	case runcomfy.KindBadModel, runcomfy.KindBadInput, runcomfy.KindUnknownRequest:
		return problem.RefusedByRunComfy, ledger.Rejected
	default:
		return problem.OutcomeUnknown, ledger.Unknown
	}
}
