// Package workflow holds what the functions and statemachine.asl.json share: the
// state that each turn of the loop passes to the next, how long the loop waits and
// when it gives up, and the names of the errors that poll and archive return.
package workflow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// Job is the whole state of an execution: ids, times and counters. As JSON it has at most
// a few KB. It never holds a URL of media. Submit starts an execution with it, poll
// accepts and returns it at every turn, and archive accepts it when the job has
// ended.
type Job struct {
	Name        string    `json:"name"`
	Take        string    `json:"take"`
	RequestID   string    `json:"requestId"`
	Model       string    `json:"model"`
	SubmittedAt time.Time `json:"submittedAt"`

	// UsualSeconds is how long a run of the job usually takes; 0 if not known.
	UsualSeconds int `json:"usualSeconds,omitempty"`

	// WaitSeconds is how long the Wait state waits before the next turn.
	WaitSeconds int `json:"waitSeconds"`

	// Ended says that the job has ended at RunComfy, successfully or not.
	Ended bool `json:"ended"`

	// Seen is the state that poll last wrote into the status. For a queued job, its position in
	// the queue follows, if it is known. Seen is "" if poll has not written a state yet, if the last
	// write failed, or if the last turn did not learn the state.
	Seen string `json:"seen,omitempty"`

	// QueuedAt is when a turn last found the job queued.
	QueuedAt time.Time `json:"queuedAt,omitzero"`

	// RunningSince is when a turn first found the job in progress.
	RunningSince time.Time `json:"runningSince,omitzero"`

	// Redrives is how often the execution had been redriven at the last turn.
	Redrives int `json:"redrives,omitempty"`

	// Troubles counts the last turns in a row that did not learn the job's state;
	// TroubleSince is the time of the first of them.
	Troubles     int       `json:"troubles,omitempty"`
	TroubleSince time.Time `json:"troubleSince,omitzero"`

	// Losses counts the last turns in a row in which RunComfy did not know the
	// request; LostSince is the time of the first of them.
	Losses    int       `json:"losses,omitempty"`
	LostSince time.Time `json:"lostSince,omitzero"`
}

// Turn is what the state machine passes to poll.
type Turn struct {
	Job Job `json:"job"`
	// Redrives is how often the execution has been redriven.
	Redrives int `json:"redrives"`
}

// Begin returns the job with which a turn starts. In the first turn after a redrive, it resets
// the counters of troubles and losses.
func (t Turn) Begin() Job {
	job := t.Job
	if t.Redrives > job.Redrives {
		job.Redrives = t.Redrives
		job.forgetTroubles()
	}
	return job
}

// UnmarshalJSON also accepts a Job without the object around it. That is the input of an
// execution, which a person may pass to poll by hand.
func (t *Turn) UnmarshalJSON(text []byte) error {
	type turn Turn
	if err := json.Unmarshal(text, (*turn)(t)); err != nil {
		return err
	}
	if t.Job == (Job{}) {
		return json.Unmarshal(text, &t.Job)
	}
	return nil
}

// Archived is what archive returns: the output of an execution.
type Archived struct {
	Name    string   `json:"name"`
	Take    string   `json:"take"`
	Outputs []string `json:"outputs"`
}

// Limits are how long a job may take.
type Limits struct {
	Queue time.Duration // QueueHours: how long a job may be queued
	Run   time.Duration // MaxHours: how long it may run
}

const (
	// LostResponses is how many responses in a row must say that RunComfy does not
	// know the request before the job counts as lost.
	LostResponses = 3
	// LostAfter is the least time between the first and the last of these responses.
	LostAfter = time.Minute

	// patience is how many turns in a row must fail to learn the job's state before Unanswered
	// applies the limits. Otherwise one failed request could end a redriven execution that is
	// already past its limit.
	patience = 3
)

// Answered updates the job after RunComfy has reported the job's status. It returns a
// *QueuedTooLong or a *RanTooLong if a limit has passed and the job has not ended. If nearEnd
// is true, the job may end soon, and poll should ask again before it returns.
func (j *Job) Answered(status runcomfy.Status, now time.Time, limits Limits) (nearEnd bool, err error) {
	j.forgetTroubles()
	if status.State.Ended() {
		j.Ended, j.WaitSeconds = true, 0
		return false, nil
	}
	if status.State == runcomfy.InProgress && j.RunningSince.IsZero() {
		j.RunningSince = now
	}
	if err := j.overdue(now, limits); err != nil {
		return false, err
	}
	if status.State == runcomfy.InQueue {
		j.QueuedAt = now
	}
	p := j.progress(now)
	p.queued = status.State == runcomfy.InQueue
	if status.QueuePosition != nil {
		p.position = *status.QueuePosition
	}
	j.WaitSeconds = p.wait()
	return status.State == runcomfy.InProgress && p.nearEnd(), nil
}

// Unanswered updates the job after a turn that did not learn the job's state because of cause.
// It returns a *RequestLost if RunComfy has said often and long enough that it does not know the
// request (see LostResponses, LostAfter). It returns a *QueuedTooLong or a *RanTooLong if a limit
// has passed (see patience). See progress.jitter for jitter.
func (j *Job) Unanswered(cause error, now time.Time, limits Limits, jitter float64) error {
	if j.Troubles == 0 {
		j.TroubleSince = now
	}
	j.Troubles++
	response, ok := errors.AsType[*runcomfy.Error](cause)
	if ok && response.Kind() == runcomfy.KindUnknownRequest {
		if j.Losses == 0 {
			j.LostSince = now
		}
		j.Losses++
	} else {
		j.Losses, j.LostSince = 0, time.Time{}
	}
	if j.Losses >= LostResponses && now.Sub(j.LostSince) >= LostAfter {
		return &RequestLost{Failuref("RunComfy has not known request %s since %s: %v", j.RequestID, Clock(j.LostSince), cause)}
	}
	if j.Troubles >= patience {
		if err := j.overdue(now, limits); err != nil {
			return err
		}
	}
	p := j.progress(now)
	p.troubles, p.jitter = j.Troubles, jitter
	if ok {
		p.retryAfter = response.RetryAfter
	}
	j.WaitSeconds = p.wait()
	return nil
}

func (j *Job) forgetTroubles() {
	j.Troubles, j.TroubleSince, j.Losses, j.LostSince = 0, time.Time{}, 0, time.Time{}
}

// overdue returns an error if the job has been queued or has run for longer than
// the limits allow. A job that was never found in progress counts as queued.
func (j *Job) overdue(now time.Time, limits Limits) error {
	suffix := ""
	if j.Troubles > 0 {
		suffix = "; RunComfy has not reported the job's state since " + Clock(j.TroubleSince)
	}
	if j.RunningSince.IsZero() {
		if queued := now.Sub(j.SubmittedAt); queued > limits.Queue {
			return &QueuedTooLong{Failuref("the job has been queued at RunComfy for %s; QueueHours allows %s%s", inWords(queued), inWords(limits.Queue), suffix)}
		}
		return nil
	}
	if ran := now.Sub(j.RunningSince); ran > limits.Run {
		return &RanTooLong{Failuref("the job has been running at RunComfy for %s; MaxHours allows %s%s", inWords(ran), inWords(limits.Run), suffix)}
	}
	return nil
}

func (j *Job) progress(now time.Time) progress {
	return progress{
		usual:   time.Duration(j.UsualSeconds) * time.Second,
		elapsed: now.Sub(j.SubmittedAt), running: now.Sub(cmp.Or(j.QueuedAt, j.SubmittedAt)),
	}
}

// Clock returns a time for a message.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// inWords returns a duration for a message: hours and minutes, or seconds.
func inWords(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Minute)
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// Sleep waits, or returns the context's error if the context ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HasTime reports whether at least d of the function's time is left at the given time.
func HasTime(ctx context.Context, at time.Time, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(at) >= d
}
