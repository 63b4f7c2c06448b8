package handler

import (
	"context"
	"log/slog"
	"strings"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// postFinding posts why a name has no job, or why its job cannot be submitted. It keeps
// the status of a newer take. It also keeps a take's status if a file of the take was
// deleted, and the finding is about the files that are left. For a held finding it returns
// *heldError, except for a job beyond MaxJobsPerDrop: a single message for the whole change
// waits until the parameter is raised.
func (h *Handler) postFinding(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) error {
	age := strings.Compare(ledger.Stamp(f.Order), ledger.Stamp(prev.Order))
	if prev.State.Claimed() && (age < 0 || age == 0 && f.Job == nil) {
		if f.Problems != nil && f.State != ledger.Withdrawn {
			a.keep(prev.Name, prev.Take)
		}
		return h.rewrite(ctx, f.Key, prev)
	}
	if prev.State.Claimed() && f.Job == nil && f.Files() != nil {
		if _, gone, err := h.leftBy(ctx, a, f, prev); err != nil {
			return err
		} else if gone != "" {
			return h.rewrite(ctx, f.Key, prev)
		}
	}
	order := ledger.Stamp(f.Order)
	if order == "" {
		order = prev.Order
	} else if f.Job != nil {
		order = ledger.Order(f.Order, h.timestamp())
	}
	if f.State == ledger.Withdrawn && a.change.Bundle != "" {
		f.Problems = []problem.Problem{drop.NoLongerNamed(a.change.Bundle, f.Name)}
	}
	st := ledger.Status{Name: f.Name, State: f.State, Warnings: f.Warnings, Jobs: f.Jobs}
	if f.Problems != nil {
		st.Code, st.Reason, st.Remedy = f.Problems[0].Code, problem.Reason(f.Problems), problem.Remedy(f.Name, f.Problems)
	}
	if f.State == ledger.Held && a.isLast() {
		endRetries(&st, f.RemedyJob())
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

// rewrite writes a status that stays the same, if mustWrite says so.
func (h *Handler) rewrite(ctx context.Context, key string, prev ledger.Posted) error {
	if !prev.Rewrite {
		return nil
	}
	return h.Ledger.Post(ctx, key, prev.Status, prev.Order, prev)
}

// endRetries changes the status of a held job that is not tried again.
func endRetries(st *ledger.Status, job problem.Job) {
	st.Reason += "; it was tried again for about a day, and is no longer retried"
	st.Remedy = "Fix the cause, then redrive the dead-letter queue (see the stack's output DeadLetterQueueUrl), or upload " + job.File() + " again."
}
