// Package ledger keeps the record of each take and the status of each name, as
// JSON objects in the bucket. Every change is a conditional write: whoever
// loses a race reads again and decides again. What a drop means is package
// drop's; when to change a record is the functions'.
package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// State is the state of a take, in its record and its status. Held, Waiting,
// Rejected, Withdrawn, Used and Accepted stand only in a status: no take is
// claimed. Released stands only in a record.
type State string

// The states of takes and of drops.
const (
	Submitting State = "submitting"
	Submitted  State = "submitted"
	InQueue    State = "in_queue"
	InProgress State = "in_progress"
	Archiving  State = "archiving"
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Unknown    State = "unknown"

	Waiting   State = "waiting"
	Rejected  State = "rejected"
	Held      State = "held"
	Withdrawn State = "withdrawn"
	Used      State = "used"
	Accepted  State = "accepted"

	// Released is the state of a record whose claim was given up, because
	// RunComfy certainly did not accept the job. Such a record counts as none.
	Released State = "released"
)

// next is the table of legal transitions: a take goes forward, may skip what
// nobody saw, and ends once, but that a redriven execution may still archive
// the paid result of a failed one.
func next(s State) []State {
	switch s {
	case Submitting:
		return []State{Submitted, Unknown, Released}
	case Submitted:
		return []State{InQueue, InProgress, Archiving, Succeeded, Failed, Cancelled}
	case InQueue:
		return []State{InProgress, Archiving, Succeeded, Failed, Cancelled}
	case InProgress:
		return []State{InQueue, Archiving, Succeeded, Failed, Cancelled}
	case Archiving:
		return []State{Succeeded, Failed, Cancelled}
	case Failed:
		return []State{Succeeded}
	default:
		return nil
	}
}

// CanBecome reports whether a take in state s may get the state t. A state may
// always stay as it is.
func (s State) CanBecome(t State) bool {
	return s == t || slices.Contains(next(s), t)
}

// Claimed reports whether s is the state of a take that has a record.
func (s State) Claimed() bool {
	return s.rank() > 0
}

// Ended reports whether s is the end of a take.
func (s State) Ended() bool {
	return s == Succeeded || s == Failed || s == Cancelled || s == Unknown
}

// rank orders the states of one take, so that a late writer does not set its
// status back. States without a take have none.
func (s State) rank() int {
	order := []State{Submitting, Submitted, InQueue, InProgress, Archiving, Unknown, Cancelled, Failed, Succeeded}
	return slices.Index(order, s) + 1
}

// rank is that of the take's state. A job that RunComfy has put back into its
// queue has got as far as one that runs: its status may go back.
func (r Record) rank() int {
	if r.State == InQueue && !r.Times.Running.IsZero() {
		return InProgress.rank()
	}
	return r.State.rank()
}

// Record is what the ledger knows of one take.
type Record struct {
	Name  string `json:"name"`
	Take  string `json:"take"`
	State State  `json:"state"`

	// Code and Reason say why a take failed, was cancelled or is unknown.
	Code   problem.Code `json:"code,omitempty"`
	Reason string       `json:"reason,omitempty"`

	Model string `json:"model"`
	// Options is what was sent to the model besides the media.
	Options map[string]any `json:"options"`
	Inputs  []Input        `json:"inputs"`

	RequestID string   `json:"requestId,omitempty"`
	Outputs   []Output `json:"outputs,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	CostUSD   *float64 `json:"costUsd,omitempty"`
	Times     Times    `json:"times"`

	// HeldUntil is when the invocation that claimed the take has certainly
	// ended.
	HeldUntil time.Time `json:"heldUntil,omitzero"`

	// NotRun are takes that a deletion would have started and that submit did
	// not run, because a deletion starts no job.
	NotRun []string `json:"notRun,omitempty"`

	// Revision is a random word of the last write: it tells a writer whose
	// answer was lost that the write took effect.
	Revision string `json:"revision"`

	written
}

// Input is a file of a take, or an https URL (without its query, which counts
// as a secret) that was passed on as it is.
type Input struct {
	Property        string    `json:"property,omitempty"`
	Key             string    `json:"key,omitempty"`
	URL             string    `json:"url,omitempty"`
	ETag            string    `json:"etag,omitempty"`
	VersionID       string    `json:"versionId,omitempty"`
	Bytes           int64     `json:"bytes,omitempty"`
	LastModified    time.Time `json:"lastModified,omitzero"`
	DurationSeconds float64   `json:"durationSeconds,omitempty"`
}

// Output is one archived file.
type Output struct {
	Key             string  `json:"key"`
	Bytes           int64   `json:"bytes"`
	SHA256          string  `json:"sha256"`
	Type            string  `json:"type"`
	DurationSeconds float64 `json:"durationSeconds,omitempty"`
	Width           int     `json:"width,omitempty"`
	Height          int     `json:"height,omitempty"`
}

// Times are when the steps of a take were seen to happen, in UTC. RunComfy's
// own times are Created and Finished.
type Times struct {
	Claimed   time.Time `json:"claimed,omitzero"`
	Submitted time.Time `json:"submitted,omitzero"`
	Queued    time.Time `json:"queued,omitzero"`
	Running   time.Time `json:"running,omitzero"`
	Archiving time.Time `json:"archiving,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	Created   time.Time `json:"created,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
}

// Warn adds a warning to the record, unless it has it already or has many.
func (r *Record) Warn(text string) {
	const most = 50
	if len(r.Warnings) < most && !slices.Contains(r.Warnings, text) {
		r.Warnings = append(slices.Clone(r.Warnings), text)
	}
}

// ClaimEnded reports whether the invocation that claimed the take has certainly
// ended. Records of earlier versions do not say when: they were claimed by
// invocations of at most 2 minutes.
func (r Record) ClaimEnded(now time.Time) bool {
	if r.HeldUntil.IsZero() {
		return now.Sub(r.Times.Claimed) >= 3*time.Minute
	}
	return !now.Before(r.HeldUntil)
}

// Uses reports whether the file at key is one of the take's inputs.
func (r Record) Uses(key string) bool {
	return slices.ContainsFunc(r.Inputs, func(in Input) bool { return in.Key == key })
}

// ErrTransition is what Update returns for a change that next does not allow.
type ErrTransition struct {
	Name, Take string
	From, To   State
}

func (e *ErrTransition) Error() string {
	return fmt.Sprintf("take %s of %s is %s and cannot become %s", e.Take, e.Name, e.From, e.To)
}

// InboxPrefix is where people drop files.
const InboxPrefix = "inbox/"

// RecordKey returns the key of a take's record.
func RecordKey(name, take string) string { return "jobs/" + name + "/" + take + ".json" }

// StatusKey returns the key of a name's status.
func StatusKey(name string) string { return "status/" + name + ".json" }

// OutputPrefix returns the prefix of a take's outputs.
func OutputPrefix(name, take string) string { return "outbox/" + name + "/" + take + "/" }
