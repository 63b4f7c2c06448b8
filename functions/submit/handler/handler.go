// Package handler is the submit function. It finds the jobs that a changed file may
// complete, and submits each once. An event is only a hint: package drop reads what
// is in the bucket now.
//
// The function may die between any two of its calls. The next delivery then
// finishes the work without a second POST: before the POST, the handler claims
// the take with a record that only one invocation can create; after the POST, it
// records the request id before it does anything else.
package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler assesses drops and submits jobs.
type Handler struct {
	Resolver *drop.Resolver
	Ledger   *ledger.Store
	Presign  func(context.Context, drop.File) (string, error)
	API      *runcomfy.Client
	States   workflow.Starter
	Now      func() time.Time

	// MaxReceives is how often the queue delivers a message. 0 means no limit.
	MaxReceives int

	// SignUntil is the last moment at which a URL that this process presigns is
	// valid for long enough. After it, the process submits nothing more and
	// calls Exit. Zero means no limit.
	SignUntil time.Time
	// Exit ends the process.
	Exit func()

	// Sleep waits. Defaults to a timer.
	Sleep func(context.Context, time.Duration) error
}

const (
	// submitTime is how much of the function's time must be left before the POST. It
	// is enough for the POST and for recording its response.
	submitTime = runcomfy.Timeout + 10*time.Second
	// claimTime is how much time must be left before the claim.
	claimTime = submitTime + 5*time.Second
	// assessTime is how much time must be left before a subject is assessed.
	assessTime = 20 * time.Second
	// returnTime is how long before the function's timeout every call is cancelled,
	// so that the function can still return its response.
	returnTime = 3 * time.Second
	// clockSkew is by how much two clocks may differ.
	clockSkew = time.Minute

	// manySubjects is a number of subjects. If one change has more, later deliveries
	// skip the subjects that an earlier delivery finished. They recognize these by
	// the time of the status, so the status is written even if nothing else in it
	// changes.
	manySubjects = 20
)

var (
	errBusy       = errors.New("another invocation is submitting this take")
	errNoTime     = errors.New("not enough time left in this invocation")
	errOldSession = errors.New("the credentials of this process end too soon to sign URLs; another process submits the job")
	errChanging   = errors.New("the files keep changing")
)

// heldError is returned for a held job, so that the queue delivers the message
// again.
type heldError struct{ code problem.Code }

func (e *heldError) Error() string { return "held: " + string(e.code) }

// Handle handles a batch of queue messages, or one event without a queue. Handle
// returns each unfinished message as a batch item failure, so that the queue
// delivers it again. For an unfinished event it returns an error.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	if h.sessionEnds() {
		// Nothing has been done yet. Lambda reports this batch as failed, the queue
		// delivers it again, and a new process gets new credentials.
		slog.WarnContext(ctx, "the process exits, because its credentials end too soon to sign URLs", "sign_until", h.SignUntil)
		h.Exit()
		return response, errOldSession
	}
	messages, err := parseEvent(raw)
	if err != nil {
		return response, err
	}
	b := &batch{uploads: map[string]time.Time{}, assessed: map[assessmentKey]*assessment{}}
	b.again = slices.ContainsFunc(messages, func(m message) bool { return m.receives > 1 })
	for _, m := range messages {
		for _, c := range m.changes {
			if c.at.After(b.newest) {
				b.newest = c.at
			}
			if at, repeated := b.uploads[c.key]; !c.deleted && (!repeated || c.at.After(at)) {
				b.uploads[c.key] = c.at
			}
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		b.timeout = deadline.Sub(h.Now())
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-returnTime))
		defer cancel()
	}
	// Handle messages that failed before last, so that they do not use up the time
	// of the others.
	slices.SortStableFunc(messages, func(a, b message) int { return cmp.Compare(a.receives, b.receives) })
	for i, m := range messages {
		err := h.handleMessage(ctx, b, m, h.startUntil(ctx, m, len(messages)-i))
		if err == nil {
			continue
		}
		if isRetry(err) {
			slog.InfoContext(ctx, "tried again later", "reason", err.Error(), "message_id", m.id, "receives", m.receives)
		} else {
			slog.ErrorContext(ctx, "not finished", "err", err, "message_id", m.id, "receives", m.receives)
		}
		if m.id == "" {
			return response, err
		}
		response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.id})
	}
	return response, nil
}

// batch is the state that the messages of one invocation share.
type batch struct {
	again    bool                 // an earlier delivery of one of the messages was not finished
	newest   time.Time            // the time of the newest change
	uploads  map[string]time.Time // the time of the newest upload of each key
	timeout  time.Duration        // the function's timeout, or 0 if it has none
	assessed map[assessmentKey]*assessment
}

// assessmentKey identifies assessments that have the same result, because every
// event of a batch happened before the first of them. A deletion is assessed
// separately: it starts no job for a name whose newest take used the deleted
// file.
type assessmentKey struct {
	subject drop.Subject
	deleted string
}

// handleMessage assesses every subject that a message may concern. It always
// assesses the first subject. It starts no other assessment after until. Repeating
// an assessment that changes nothing costs a few reads.
func (h *Handler) handleMessage(ctx context.Context, b *batch, m message, until time.Time) error {
	errs := []error{m.err}
	started := false
	mayStart := func() bool {
		if !started {
			return h.hasTime(ctx, assessTime)
		}
		return until.IsZero() || !h.Now().After(until)
	}
	for _, c := range m.changes {
		if c.bucket != h.Ledger.Bucket.Name {
			slog.WarnContext(ctx, "event of another bucket", "bucket", c.bucket)
			continue
		}
		if !mayStart() {
			return errors.Join(append(errs, errNoTime)...)
		}
		if c.deleted {
			if gone, err := h.isGone(ctx, c.key); !gone {
				errs = append(errs, err)
				continue
			}
		}
		subjects, err := h.Resolver.Touched(ctx, drop.ParseKey(c.key))
		errs = append(errs, err)
		for _, s := range subjects {
			key := assessmentKey{subject: s}
			if c.deleted {
				key.deleted = c.key
			}
			a, done := b.assessed[key]
			if !done {
				if !mayStart() {
					return errors.Join(append(errs, errNoTime)...)
				}
				started = true
				a = &assessment{subject: s, at: b.newest, uploads: b.uploads, again: b.again, last: h.MaxReceives > 0 && m.receives >= h.MaxReceives}
				if m.receives > 1 && len(subjects) > manySubjects {
					a.rewrite = true
					if finished, err := h.isFinished(ctx, s, c, b.timeout); finished || err != nil {
						errs = append(errs, err)
						continue
					}
				}
				if c.deleted {
					a.deleted = c
				}
				b.assessed[key] = a
				a.err = h.assess(ctx, a)
			}
			errs = append(errs, a.err)
			if !c.deleted {
				for _, take := range a.kept {
					errs = append(errs, h.warnIfUnused(ctx, take, c.key))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// isGone reports whether there is no file at the key of a deletion. If there is one,
// an old version was deleted, which changes nothing, or the file was uploaded again,
// which has an event of its own.
func (h *Handler) isGone(ctx context.Context, key string) (bool, error) {
	_, err := h.Resolver.Files.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return true, nil
	}
	if _, refused := errors.AsType[*bucket.RefusedError](err); refused {
		return false, nil // S3 has the file
	}
	return false, err
}

// isFinished reports whether an assessment of the subject that certainly began after
// the change has posted a status that needs no further assessment now. For a job
// that is still beyond MaxJobsPerDrop it also returns *heldError, so that the queue
// delivers the message again.
func (h *Handler) isFinished(ctx context.Context, s drop.Subject, c change, timeout time.Duration) (bool, error) {
	posted, err := h.Ledger.Posted(ctx, s.Key())
	if err != nil || timeout == 0 || c.at.IsZero() || posted.State == "" || posted.State.Claimed() {
		return false, err // other functions write the status of a take too
	}
	if !posted.UpdatedAt.After(c.at.Add(timeout + clockSkew)) {
		return false, nil
	}
	if posted.State != ledger.Held {
		return true, nil
	}
	if posted.Code == problem.TooManyJobs && s.TooMany() {
		return true, &heldError{posted.Code}
	}
	return false, nil
}

// startUntil returns the time until which assessments for a message may start. Zero
// means no limit. A message that failed twice gets an equal share of the time that
// is left, so that time is left for the messages after it.
func (h *Handler) startUntil(ctx context.Context, m message, messagesLeft int) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}
	}
	until := deadline.Add(-assessTime)
	if m.receives > 2 {
		return h.Now().Add(until.Sub(h.Now()) / time.Duration(messagesLeft))
	}
	return until
}

// isRetry reports whether an error only says that the queue must deliver the
// message again: a job is held, or another invocation is submitting the take.
func isRetry(err error) bool {
	switch e := err.(type) { //nolint:errorlint // every error of a join must be a retry
	case *heldError:
		return true
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !isRetry(err) })
	case interface{ Unwrap() error }:
		return isRetry(e.Unwrap())
	default:
		return errors.Is(err, errBusy)
	}
}

// hasTime reports whether at least d of the function's time is left.
func (h *Handler) hasTime(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(h.Now()) >= d
}

// sessionEnds reports whether URLs that are signed now expire too soon.
func (h *Handler) sessionEnds() bool { return !h.SignUntil.IsZero() && h.Now().After(h.SignUntil) }

// timestamp returns the time as it is recorded: UTC, to the millisecond.
func (h *Handler) timestamp() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }

func (h *Handler) sleep(ctx context.Context, d time.Duration) error {
	if h.Sleep == nil {
		return workflow.Sleep(ctx, d)
	}
	return h.Sleep(ctx, d)
}
