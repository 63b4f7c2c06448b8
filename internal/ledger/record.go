// Package ledger stores the record of each take and the status of each name as
// JSON objects in the bucket. Every change is a conditional write: the loser of
// a race reads the object and decides again. Package drop decides what a drop
// means, and the functions decide when a record changes.
package ledger

import (
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// State is the state of a take or of a drop.
type State string

// The states of takes and of drops.
const (
	// A record may have these states. A status may have all of them except Submitting.

	Submitting State = "submitting"
	Submitted  State = "submitted"
	InQueue    State = "in_queue"
	InProgress State = "in_progress"
	Archiving  State = "archiving"
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Unknown    State = "unknown"

	// The status of a drop that was not submitted has one of these states.

	Waiting   State = "waiting"
	Rejected  State = "rejected"
	Held      State = "held"
	Withdrawn State = "withdrawn"
	Used      State = "used"
	Accepted  State = "accepted"

	// Released is the state of a record whose claim was released, because RunComfy
	// certainly did not accept the job. The record is treated as if it did not exist.
	Released State = "released"
)

// StatusStates returns the states that a status may have.
func StatusStates() []State {
	return []State{
		Waiting, Rejected, Held, Withdrawn, Used, Accepted,
		Submitted, InQueue, InProgress, Archiving, Succeeded, Failed, Cancelled, Unknown,
	}
}

// nextStates has the states to which a take in each state may change. A take moves forward, may skip
// states that no function saw, and ends once. There are two exceptions: RunComfy may put a
// running job back into its queue, and a redriven execution may still archive the paid result of
// a failed take.
var nextStates = map[State][]State{
	Submitting: {Submitted, Unknown, Released},
	Submitted:  {InQueue, InProgress, Archiving, Succeeded, Failed, Cancelled},
	InQueue:    {InProgress, Archiving, Succeeded, Failed, Cancelled},
	InProgress: {InQueue, Archiving, Succeeded, Failed, Cancelled},
	Archiving:  {Succeeded, Failed, Cancelled},
	Failed:     {Succeeded},
}

// CanBecome reports whether s and t are the same state, or a take in state s may change to state t.
func (s State) CanBecome(t State) bool { return s == t || slices.Contains(nextStates[s], t) }

// Claimed reports whether s is the state of a record whose claim was not released.
func (s State) Claimed() bool { return s.rank() > 0 }

// Ended reports whether a take in state s has ended. A failed take has ended too, although
// a redrive may still make it Succeeded.
func (s State) Ended() bool {
	return s == Succeeded || s == Failed || s == Cancelled || s == Unknown
}

// rank orders the states of a take, so that a late writer does not overwrite the status
// with an earlier state. It returns 0 for any other state.
func (s State) rank() int {
	order := []State{Submitting, Submitted, InQueue, InProgress, Archiving, Unknown, Cancelled, Failed, Succeeded}
	return slices.Index(order, s) + 1
}

// rank returns the rank of the take's state. A job that RunComfy put back into its queue ranks
// as a running job, so the status of the take may change back to InQueue.
func (r Record) rank() int {
	if r.State == InQueue && !r.Times.Running.IsZero() {
		return InProgress.rank()
	}
	return r.State.rank()
}

// Record is what the ledger stores about one take.
type Record struct {
	Name  string `json:"name"`
	Take  string `json:"take"`
	State State  `json:"state"`

	// Code and Reason say why a take is Failed, Cancelled or Unknown. A take that has not
	// ended has them if one of its files was deleted, but RunComfy could not cancel the job.
	Code   problem.Code `json:"code,omitempty"`
	Reason string       `json:"reason,omitempty"`

	Model string `json:"model"`
	// Options is the model's input without the media.
	Options map[string]any `json:"options"`
	Inputs  []Input        `json:"inputs"`

	// Manifest is the key of a bundle's job.json, which is also one of Inputs. Match is the
	// key of the input that matched the wildcard of job.json, or "" if there is no wildcard.
	// Both are "" for a pair.
	Manifest string `json:"manifest,omitempty"`
	Match    string `json:"match,omitempty"`

	// ExpectedSeconds is how long each output should be. ExpectedWithin is the allowed
	// difference in seconds. Both are 0 if the expected length is not known.
	ExpectedSeconds float64 `json:"expectedSeconds,omitempty"`
	ExpectedWithin  float64 `json:"expectedWithinSeconds,omitempty"`

	// EstimateUSD is what the job costs by RunComfy's base price. CostUSD is the cost that
	// RunComfy reported. An amount that is not known is nil.
	EstimateUSD *float64 `json:"estimateUsd,omitempty"`
	CostUSD     *float64 `json:"costUsd,omitempty"`
	// NotCharged says that RunComfy cancelled the job before it started.
	NotCharged bool `json:"notCharged,omitempty"`

	RequestID string   `json:"requestId,omitempty"`
	Outputs   []Output `json:"outputs,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Times     Times    `json:"times"`

	// QueuePosition is how many jobs were ahead in RunComfy's queue when poll last recorded
	// the state; nil if the job was not queued, or if the number is not known.
	QueuePosition *int `json:"queuePosition,omitempty"`

	// UsualSeconds is how long a run of the job usually takes; 0 if not known.
	UsualSeconds int `json:"usualSeconds,omitempty"`

	// ClaimEnds is when the invocation that claimed the take has certainly ended.
	ClaimEnds time.Time `json:"heldUntil,omitzero"`

	// Deleted is when a deletion of one of this take's files last left the files of another take.
	// An upload of a pair's shared file, such as talk.mp4 for the job talk.de, does not start the
	// other take if the upload is known to be older than Deleted.
	Deleted time.Time `json:"deleted,omitzero"`

	// NoticeDue says that the notice about the end of the take was not sent yet.
	NoticeDue bool `json:"noticeDue,omitempty"`

	// Revision is a random text that each write replaces. A writer that got no response
	// compares its text with the stored one to learn whether the write took effect.
	Revision string `json:"revision"`

	etag string // the object's ETag when it was last read or written; empty if there is no object
}

// Job returns the input with which the execution of the take starts.
func (r Record) Job() workflow.Job {
	return workflow.Job{
		Name: r.Name, Take: r.Take, RequestID: r.RequestID, Model: r.Model,
		SubmittedAt: r.Times.Submitted, UsualSeconds: r.UsualSeconds,
	}
}

// CostsNothing reports whether a released, failed or cancelled take costs nothing: RunComfy did
// not accept the job, cancelled the job before it started, or reports a cost of 0. It is also
// true for a cancelled take without a reported cost. It is false in every other state.
func (r Record) CostsNothing() bool {
	switch r.State {
	case Released:
		return true
	case Cancelled:
		return r.CostUSD == nil || *r.CostUSD == 0
	case Failed:
		return r.NotCharged || r.CostUSD != nil && *r.CostUSD == 0
	default:
		return false
	}
}

// Seconds returns a duration in seconds, rounded to milliseconds, as records hold it.
func Seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// Timestamp returns a time as records hold it: in UTC, truncated to milliseconds.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// Result is result.json, which archive stores with the outputs of a take. Archive writes it once,
// just before the take becomes Succeeded, and copies all members except Times.Ended from the record.
// docs/result.md describes each member.
type Result struct {
	Name  string `json:"name"`
	Take  string `json:"take"`
	Model string `json:"model"`
	// Options is the model's input without the media.
	Options map[string]any `json:"options"`
	Inputs  []Input        `json:"inputs"`
	Outputs []Output       `json:"outputs"`
	// RequestID is RunComfy's id of the job.
	RequestID string `json:"requestId"`
	// Times has in Ended the time when all outputs were in the bucket.
	Times Times `json:"times"`

	// ExpectedSeconds is how long each output should be; 0 if not known.
	ExpectedSeconds float64 `json:"expectedSeconds,omitempty"`

	// EstimateUSD is what the job costs by RunComfy's base price. CostUSD is the cost that
	// RunComfy reported. An amount that is not known is nil.
	EstimateUSD *float64 `json:"estimateUsd,omitempty"`
	CostUSD     *float64 `json:"costUsd,omitempty"`

	// Warnings include the doubts about the outputs.
	Warnings []string `json:"warnings,omitempty"`
}

// Input is a file of a take, or an https URL that was passed on unchanged. The
// URL is recorded without its query, which counts as a secret.
type Input struct {
	Property        string    `json:"property,omitempty"`
	Key             string    `json:"key,omitempty"`
	URL             string    `json:"url,omitempty"`
	ETag            string    `json:"etag,omitempty"`
	VersionID       string    `json:"versionId,omitempty"`
	Bytes           int64     `json:"bytes,omitempty"`
	LastModified    time.Time `json:"lastModified,omitzero"`
	DurationSeconds float64   `json:"durationSeconds,omitempty"`
	Width           int       `json:"width,omitempty"`
	Height          int       `json:"height,omitempty"`
	Codecs          []string  `json:"codecs,omitempty"`

	// PictureHash is a hash of the sizes of a video's coded pictures. An output with the same
	// hash has the input's own pictures.
	PictureHash string `json:"pictureHash,omitempty"`
}

// Output is one archived file.
type Output struct {
	Key             string   `json:"key"`
	Bytes           int64    `json:"bytes"`
	SHA256          string   `json:"sha256"`
	Type            string   `json:"type"`
	DurationSeconds float64  `json:"durationSeconds,omitempty"`
	Width           int      `json:"width,omitempty"`
	Height          int      `json:"height,omitempty"`
	Codecs          []string `json:"codecs,omitempty"`
	Verdict         *Verdict `json:"verdict,omitempty"`
}

// Verdict says whether an archived output is as expected.
type Verdict struct {
	State  VerdictState `json:"state"`
	Doubts []Doubt      `json:"doubts,omitempty"`
}

// Doubt is one thing that is wrong with an output. The output is kept, because it is
// paid for. A person decides whether it is usable.
type Doubt struct {
	Code   DoubtCode `json:"code"`
	Reason string    `json:"reason"`
}

// VerdictState is the result of a check of an output.
type VerdictState string

// The states of a verdict.
const (
	VerdictOK        VerdictState = "ok"
	VerdictDoubtful  VerdictState = "doubtful"
	VerdictUnchecked VerdictState = "unchecked" // the output, its format or its tracks could not be read
)

// DoubtCode says what is wrong with an output.
type DoubtCode string

// The codes of doubts. docs/result.md says what each means.
const (
	OutputShort      DoubtCode = "output_short"
	OutputLong       DoubtCode = "output_long"
	NoSound          DoubtCode = "no_sound"
	SilentSound      DoubtCode = "silent_sound"
	SmallerPicture   DoubtCode = "smaller_picture"
	PictureUnchanged DoubtCode = "picture_unchanged"
	NotPlayable      DoubtCode = "not_playable"
	UnexpectedType   DoubtCode = "unexpected_type"
)

// DoubtCodes returns all codes of doubts.
func DoubtCodes() []DoubtCode {
	return []DoubtCode{OutputShort, OutputLong, NoSound, SilentSound, SmallerPicture, PictureUnchanged, NotPlayable, UnexpectedType}
}

// verdict returns the worst state of the outputs' verdicts, or "".
func (r Record) verdict() VerdictState {
	worst := VerdictState("")
	for _, state := range []VerdictState{VerdictOK, VerdictUnchecked, VerdictDoubtful} {
		if slices.ContainsFunc(r.Outputs, func(o Output) bool { return o.Verdict != nil && o.Verdict.State == state }) {
			worst = state
		}
	}
	return worst
}

// Times are when the functions saw the steps of a take, in UTC. Created and
// Finished are RunComfy's own times.
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

// Warn adds a warning to the record, unless the record has the same warning already, or has
// 50 warnings.
func (r *Record) Warn(text string) {
	const most = 50
	if len(r.Warnings) < most && !slices.Contains(r.Warnings, text) {
		r.Warnings = append(slices.Clone(r.Warnings), text)
	}
}

// AddResult copies the cost, the times and the warnings of a result into the record.
func (r *Record) AddResult(result runcomfy.Result) {
	r.CostUSD, r.Times.Created, r.Times.Finished = result.CostUSD, result.CreatedAt, result.FinishedAt
	for _, text := range result.Warnings {
		r.Warn(text)
	}
}

// ClaimEnded reports whether the invocation that claimed the take has certainly ended.
func (r Record) ClaimEnded(now time.Time) bool { return !now.Before(r.ClaimEnds) }

// Uses reports whether the file at key is one of the take's inputs. It is false for the
// key "", although an input that is a URL has this key.
func (r Record) Uses(key string) bool {
	return key != "" && slices.ContainsFunc(r.Inputs, func(in Input) bool { return in.Key == key })
}

// CancelledBy reports whether the deletion of the file at key cancels the take: the file is an
// input of a pair, or the job.json of a bundle.
func (r Record) CancelledBy(key string) bool {
	return r.Uses(key) && (r.Manifest == "" || r.Manifest == key)
}

// The prefixes of keys. An answer file holds the status of a file that cannot belong to a job, or
// of a name that is too long for StatusKey.
const (
	InboxPrefix  = "inbox/"
	RecordPrefix = "jobs/"
	StatusPrefix = "status/"
	AnswerPrefix = "answers/"
)

// RecordKey returns the key of a take's record.
func RecordKey(name, take string) string { return RecordPrefix + name + "/" + take + ".json" }

// StatusKey returns the key of a name's status.
func StatusKey(name string) string { return StatusPrefix + name + ".json" }

// OutputPrefix returns the prefix of a take's outputs.
func OutputPrefix(name, take string) string { return "outbox/" + name + "/" + take + "/" }

// ResultKey returns the key of a take's Result.
func ResultKey(name, take string) string { return OutputPrefix(name, take) + "result.json" }
