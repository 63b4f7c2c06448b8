// Package handler asks RunComfy whether a job has ended, once a turn of the
// loop, and tells the state machine how long to wait. RunComfy's trouble is no
// error here: the deadlines decide, and only after an answer was looked for.
package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler decides whether a job has ended, and when to ask again.
type Handler struct {
	Ledger *ledger.Store
	Models *catalog.Catalog
	API    *runcomfy.Client

	QueueLimit, RunLimit time.Duration

	Now    func() time.Time
	Jitter func() float64
}

const (
	// A request that RunComfy does not know is lost once it has said so this
	// often in a row, over at least this time.
	lostAnswers = 3
	lostAfter   = time.Minute

	// patience is how many turns in a row must bring no response before a
	// deadline decides: a redriven execution, whose deadline is long past, does
	// not end at the first failure.
	patience = 3
)

// Handle asks RunComfy once and returns the job with what it learned. Its errors
// are *workflow.RequestLost, *workflow.QueuedTooLong and *workflow.RanTooLong.
// It returns no error when RunComfy or S3 fails.
func (h *Handler) Handle(ctx context.Context, turn workflow.Turn) (workflow.Job, error) {
	job := turn.Job
	if turn.Redrives > job.Redrives {
		// A turn that failed leaves the job as the turn before returned it. What
		// that one counted does not count against the redriven execution.
		job.Redrives = turn.Redrives
		job.Troubles, job.TroubleSince, job.Losses, job.LostSince = 0, time.Time{}, 0, time.Time{}
	}
	status, err := h.API.Status(ctx, job.RequestID)
	now := h.Now().UTC().Truncate(time.Millisecond)
	if err != nil {
		return h.troubled(ctx, job, err, now)
	}
	wasTroubled := job.Troubles > 0
	job.Troubles, job.TroubleSince, job.Losses, job.LostSince = 0, time.Time{}, 0, time.Time{}
	if status.State.Ended() {
		job.Ended, job.WaitSeconds = true, 0
		h.record(ctx, job, ledger.Archiving, now)
		return job, nil
	}
	state := ledger.State("")
	switch status.State {
	case runcomfy.InQueue:
		state = ledger.InQueue
	case runcomfy.InProgress:
		state = ledger.InProgress
		if job.RunningSince.IsZero() {
			job.RunningSince = now
		}
	default:
		slog.WarnContext(ctx, "unknown word for a status", "request_id", job.RequestID, "word", status.State)
	}
	switch {
	case state != "" && (wasTroubled || job.Seen != string(state)):
		job.Seen = ""
		if h.record(ctx, job, state, now) {
			job.Seen = string(state)
		}
	case state == "" && wasTroubled:
		h.post(ctx, job) // the warning is no longer true
	}
	if err := h.deadline(job, now); err != nil {
		return job, err
	}
	progress := h.progress(job, now)
	progress.Queued = status.State == runcomfy.InQueue
	if status.QueuePosition != nil {
		progress.Position = *status.QueuePosition
	}
	job.WaitSeconds = progress.Wait()
	return job, nil
}

// troubled is a turn without an answer: the end is not known yet. It waits
// longer and says so in the status.
func (h *Handler) troubled(ctx context.Context, job workflow.Job, cause error, now time.Time) (workflow.Job, error) {
	var answered *runcomfy.Error
	progress := h.progress(job, now)
	if errors.As(cause, &answered) {
		progress.RetryAfter = answered.RetryAfter
	}
	if answered != nil && answered.Kind() == runcomfy.KindUnknownRequest {
		if job.Losses == 0 {
			job.LostSince = now
		}
		job.Losses++
		if job.Losses >= lostAnswers && now.Sub(job.LostSince) >= lostAfter {
			return job, &workflow.RequestLost{Failure: workflow.Failuref(
				"RunComfy has not known request %s since %s: %v", job.RequestID, clock(job.LostSince), cause)}
		}
	} else {
		job.Losses, job.LostSince = 0, time.Time{}
	}
	if job.Troubles == 0 {
		job.TroubleSince = now
	}
	job.Troubles++
	slog.WarnContext(ctx, "no answer", "name", job.Name, "take", job.Take, "request_id", job.RequestID, "troubles", job.Troubles, "err", cause)
	if job.Troubles == 1 {
		h.warn(ctx, job, cause)
	}
	if job.Troubles >= patience {
		if err := h.deadline(job, now); err != nil {
			return job, err
		}
	}
	progress.Troubles = job.Troubles
	job.WaitSeconds = progress.Wait()
	return job, nil
}

// deadline is looked at after the answer: a job that has ended is archived
// however late. One that was never seen to run counts as queued.
func (h *Handler) deadline(job workflow.Job, now time.Time) error {
	suffix := ""
	if job.Troubles > 0 {
		suffix = fmt.Sprintf("; RunComfy has not answered since %s", clock(job.TroubleSince))
	}
	if job.RunningSince.IsZero() {
		if waited := now.Sub(job.SubmittedAt); waited > h.QueueLimit {
			return &workflow.QueuedTooLong{Failure: workflow.Failuref(
				"the job has been queued at RunComfy for %s; QueueHours allows %s%s", short(waited), short(h.QueueLimit), suffix)}
		}
		return nil
	}
	if ran := now.Sub(job.RunningSince); ran > h.RunLimit {
		return &workflow.RanTooLong{Failure: workflow.Failuref(
			"the job has been running at RunComfy for %s; MaxHours allows %s%s", short(ran), short(h.RunLimit), suffix)}
	}
	return nil
}

func (h *Handler) progress(job workflow.Job, now time.Time) workflow.Progress {
	p := workflow.Progress{Elapsed: now.Sub(job.SubmittedAt), Jitter: h.Jitter()}
	if model, ok := h.Models.Model(job.Model); ok {
		p.Usual = model.UsualDuration
	}
	return p
}

// record writes a state into the ledger and the status, and reports whether it
// could. The paid job goes on when it could not: the next turn, or archive,
// writes what is true then.
func (h *Handler) record(ctx context.Context, job workflow.Job, state ledger.State, now time.Time) bool {
	rec, err := h.Ledger.Update(ctx, job.Name, job.Take, func(r *ledger.Record) error {
		if !r.State.CanBecome(state) {
			return nil
		}
		r.State = state
		switch state {
		case ledger.InQueue:
			first(&r.Times.Queued, now)
		case ledger.InProgress:
			first(&r.Times.Running, now)
		case ledger.Archiving:
			first(&r.Times.Archiving, now)
		}
		return nil
	})
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

// warn says in the status that RunComfy does not respond.
func (h *Handler) warn(ctx context.Context, job workflow.Job, cause error) {
	h.post(ctx, job, fmt.Sprintf("RunComfy has given no answer since %s and is asked again: %v", clock(job.TroubleSince), cause))
}

// post writes the status of a job's record, with warnings of the moment.
func (h *Handler) post(ctx context.Context, job workflow.Job, warnings ...string) {
	rec, err := h.Ledger.Get(ctx, job.Name, job.Take)
	if err == nil {
		err = h.Ledger.PostTake(ctx, rec, warnings...)
	}
	if err != nil {
		slog.WarnContext(ctx, "status not written", "name", job.Name, "take", job.Take, "err", err)
	}
}

// first sets a time that is not set yet.
func first(t *time.Time, now time.Time) {
	if t.IsZero() {
		*t = now
	}
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// short returns a duration for a person: hours and minutes, or seconds.
func short(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Minute)
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}
