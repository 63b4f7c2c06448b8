// Package handler is the poll function. At each turn of the loop it asks RunComfy
// for the state of a job, writes the state into the record and the status, and returns
// how long to wait. Package workflow makes the decisions.
package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler handles the turns of all executions.
type Handler struct {
	Ledger *ledger.Store
	API    *runcomfy.Client

	QueueLimit, RunLimit time.Duration

	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error // returns early if the context ends
	Jitter func() float64                             // in [0, 1)
}

// askTime is enough for a request to RunComfy, and for writing the state that the response
// reports. If the function has less time left, it makes no request except the first.
const askTime = runcomfy.Timeout + 5*time.Second

// Handle asks RunComfy for the state of the job and returns the updated job. If the job may end
// soon, Handle asks several times, because another turn of the loop would cost more.
// Handle returns the errors *workflow.RequestLost, *workflow.QueuedTooLong and
// *workflow.RanTooLong unwrapped. A failure of RunComfy or S3 is not an error,
// because the next turn asks again.
func (h *Handler) Handle(ctx context.Context, turn workflow.Turn) (workflow.Job, error) {
	job := turn.Begin()
	started := h.Now()
	for {
		nearEnd, err := h.ask(ctx, &job)
		if err != nil && h.hasEnded(ctx, job) {
			job.Ended, job.WaitSeconds, err = true, 0, nil
			h.record(ctx, job, ledger.Archiving, nil)
		}
		if err != nil || !nearEnd || !h.mayAskAgain(ctx, started) || h.Sleep(ctx, workflow.AskEvery) != nil {
			return job, err
		}
	}
}

// hasNoState reports whether /status responded with HTTP 2xx, but not with a known state.
func hasNoState(status runcomfy.Status, err error) bool {
	if response, ok := errors.AsType[*runcomfy.Error](err); ok {
		return response.HTTPStatus/100 == 2
	}
	s := status.State
	return err == nil && s != runcomfy.InQueue && s != runcomfy.InProgress && !s.Ended()
}

// hasEnded asks /result, if there is time, whether a job has ended. /result is more reliable than
// /status. So poll asks /result if /status returns no known state, and before it gives up a job.
func (h *Handler) hasEnded(ctx context.Context, job workflow.Job) bool {
	if !workflow.HasTime(ctx, h.Now(), askTime) {
		return false
	}
	result, err := h.API.Result(ctx, job.RequestID)
	return err == nil && result.State.Ended()
}

// ask asks RunComfy for the state of the job, and updates the job, its record and its status.
// It reports whether the job may end soon.
func (h *Handler) ask(ctx context.Context, job *workflow.Job) (nearEnd bool, err error) {
	limits, jitter := workflow.Limits{Queue: h.QueueLimit, Run: h.RunLimit}, h.Jitter()
	status, err := h.API.Status(ctx, job.RequestID)
	if hasNoState(status, err) && h.hasEnded(ctx, *job) {
		status, err = runcomfy.Status{State: runcomfy.Completed}, nil // that is, ended, successfully or not
	}
	now := ledger.Timestamp(h.Now())
	if err != nil {
		giveUp := job.Unanswered(err, now, limits, jitter)
		slog.WarnContext(ctx, "state not known", "name", job.Name, "take", job.Take, "request_id", job.RequestID, "troubles", job.Troubles, "err", err)
		h.warn(ctx, job, fmt.Sprintf("RunComfy has not reported the state of the job since %s: %v; lipdrop keeps asking", workflow.Clock(job.TroubleSince), err))
		return false, giveUp
	}
	nearEnd, err = job.Answered(status, now, limits)
	state := stateOf(*job, status)
	seen := string(state)
	if state != ledger.InQueue {
		status.QueuePosition = nil
	} else if status.QueuePosition != nil {
		seen = fmt.Sprintf("%s %d", state, *status.QueuePosition)
	}
	switch {
	case state == "":
		slog.WarnContext(ctx, "RunComfy reports a state that lipdrop does not know", "name", job.Name, "take", job.Take, "request_id", job.RequestID, "state", status.State)
		h.warn(ctx, job, fmt.Sprintf("RunComfy reports the state %q, which lipdrop does not know; lipdrop keeps asking", status.State))
	case job.Seen != seen:
		job.Seen = ""
		if h.record(ctx, *job, state, status.QueuePosition) {
			job.Seen = seen
		}
	}
	return nearEnd, err
}

// mayAskAgain reports whether the call of Handle that began at the given time may ask once more.
func (h *Handler) mayAskAgain(ctx context.Context, started time.Time) bool {
	next := h.Now().Add(workflow.AskEvery)
	return next.Sub(started) <= workflow.AskFor && workflow.HasTime(ctx, next, askTime)
}

// stateOf returns the state to record, or "" if RunComfy reports an unknown word.
func stateOf(job workflow.Job, status runcomfy.Status) ledger.State {
	switch {
	case job.Ended:
		return ledger.Archiving
	case status.State == runcomfy.InQueue:
		return ledger.InQueue
	case status.State == runcomfy.InProgress:
		return ledger.InProgress
	default:
		return ""
	}
}

// record writes a state and the position in the queue into the record and the status,
// and reports whether that succeeded. The position is nil if it is not known. A failed
// write does not stop a paid job: the next turn or archive writes the state that is
// current then.
func (h *Handler) record(ctx context.Context, job workflow.Job, state ledger.State, position *int) bool {
	rec, err := h.Ledger.GetOrRecreate(ctx, job)
	if err == nil {
		rec, err = h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
			if !r.State.CanBecome(state) {
				return
			}
			r.State, r.QueuePosition = state, position
			since := map[ledger.State]*time.Time{
				ledger.InQueue: &r.Times.Queued, ledger.InProgress: &r.Times.Running, ledger.Archiving: &r.Times.Archiving,
			}[state]
			if since.IsZero() {
				*since = ledger.Timestamp(h.Now())
			}
		})
	}
	if err == nil {
		err = h.Ledger.PostTake(ctx, rec)
	}
	if err != nil {
		slog.WarnContext(ctx, "state not recorded", "name", job.Name, "take", job.Take, "state", state, "err", err)
		return false
	}
	slog.InfoContext(ctx, "turn", "name", job.Name, "take", job.Take, "state", rec.State, "request_id", job.RequestID)
	return true
}

// warn writes a job's status with a warning. It repeats a warning, because another function may have
// written the status without the warning. warn clears job.Seen, so that the next known state replaces
// the warning, even if the state has not changed.
func (h *Handler) warn(ctx context.Context, job *workflow.Job, warning string) {
	job.Seen = ""
	h.Ledger.PostWarning(ctx, *job, warning)
}
