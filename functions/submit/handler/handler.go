// Package handler is the submit function. It finds the jobs that a changed file may
// complete, and submits each once. An event is only a hint: package drop reads what
// is in the bucket now.
//
// The function may die between any two of its calls. The next delivery then
// finishes the work without a second POST: before the POST, the handler claims
// the take with a record that only one invocation can create; after the POST, it
// records the request id before it does anything else.
//
// One message makes a bounded number of requests. A change may concern thousands of
// names: a video with tagged audios, or the job.json of a wildcard. Submit then sends
// messages to its own queue, each with the change and a part of the names, and the first
// message is finished. A message with several names is divided again, into about
// ten, until each name has a message of its own. So a held job is retried separately, a
// crash repeats at most the messages of one division, and a message that comes twice
// or late only assesses its name again. Dividing makes a chain of at most six messages.
// Lambda treats a chain of sixteen as a loop, and ends it.
//
// Jobs beyond MaxJobsPerDrop get the status held, and their messages are finished. One
// further message, with the change and the limit, waits in the queue. Its deliveries
// assess nothing until the limit is higher; then the change is handled again.
//
// The caps of a day (package budget) hold each job separately. The message of a held job is
// delivered every 12 minutes. A message that is older than renewAfter is replaced by a new one, because a
// job may wait for days. Each new message adds one to the chain, so Lambda ends the chain
// after about a week.
package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
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
	Queue    Queue
	Prices   *budget.Prices
	Book     *budget.Book
	Caps     budget.Caps
	Jitter   func() float64 // in [0, 1): spreads the next deliveries of many messages

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
	// is enough for the POST and for every try to record its response (see retry).
	submitTime = runcomfy.Timeout + retryTime + writeTime
	// claimTime is how much time must be left before the claim.
	claimTime = submitTime + 5*time.Second
	// assessTime is how much time must be left before a subject is assessed.
	assessTime = 20 * time.Second
	// returnTime is how long before the function's timeout every call is cancelled,
	// so that the function can still return its response.
	returnTime = 3 * time.Second
	// clockSkew is by how much two clocks may differ.
	clockSkew = time.Minute

	// firstHold is the longest pause after the first delivery of a message that is
	// not finished. The pause doubles with each delivery. After promptHolds
	// deliveries, the visibility timeout of the queue is the pause.
	firstHold   = 15 * time.Second
	promptHolds = 6
	// promptReceives is for how many deliveries the pause is RunComfy's Retry-After. Short
	// pauses must not use up the deliveries of a day.
	promptReceives = 30
	// retryFor is for how long a message is tried again. A message that is older is
	// tried once more. Its further deliveries follow each other after burnPause and do
	// nothing, so that it becomes a dead letter soon. A message that waited for a higher
	// MaxJobsPerDrop is tried until its last delivery, however old it is.
	retryFor  = 24 * time.Hour
	burnPause = time.Second
	// renewAfter is the age from which a new message replaces the message of a job that a
	// cap of the day holds. So at least half a day is left for other causes, such as
	// RunComfy's throttling, when the job fits into the cap.
	renewAfter = retryFor / 2
	// mostRetryAfter limits the pause that RunComfy asks for. SQS allows 12 hours.
	mostRetryAfter = 6 * time.Hour
)

var (
	errBusy       = errors.New("another invocation is submitting this take")
	errNoTime     = errors.New("not enough time left in this invocation")
	errOldSession = errors.New("the credentials of this process end too soon to sign URLs; another process submits the job")
	errChanging   = errors.New("the files keep changing")
	errRetried    = errors.New("the job is held, and is no longer retried")
)

// heldError is returned for a held job, so that the queue delivers the message
// again.
type heldError struct {
	code       problem.Code
	retryAfter time.Duration // the pause that RunComfy asks for; 0 if it does not
}

func (e *heldError) Error() string { return "held: " + string(e.code) }

// causes yields the errors that an error wraps or joins and that wrap no other error.
func causes(err error) iter.Seq[error] {
	return func(yield func(error) bool) { yieldCauses(err, yield) }
}

func yieldCauses(err error, yield func(error) bool) bool {
	switch e := err.(type) { //nolint:errorlint // this is what unwraps
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !yieldCauses(err, yield) })
	case interface{ Unwrap() error }:
		return yieldCauses(e.Unwrap(), yield)
	default:
		return yield(err)
	}
}

// isOverBudget reports whether a cap of the day holds one of the jobs of an error.
func isOverBudget(err error) bool {
	for cause := range causes(err) {
		if held, ok := cause.(*heldError); ok && held.code == problem.OverBudget { //nolint:errorlint // a cause wraps nothing
			return true
		}
	}
	return false
}

// retryAfterOf returns the longest pause that RunComfy asks for in an error.
func retryAfterOf(err error) time.Duration {
	var longest time.Duration
	for cause := range causes(err) {
		if held, ok := cause.(*heldError); ok { //nolint:errorlint // a cause wraps nothing
			longest = max(longest, held.retryAfter)
		}
	}
	return longest
}

// isRetry reports whether an error only says that the queue must deliver the
// message again: a job is held, or another invocation is submitting the take.
func isRetry(err error) bool {
	for cause := range causes(err) {
		if _, held := cause.(*heldError); !held && cause != errBusy && cause != errRetried { //nolint:errorlint // a cause wraps nothing
			return false
		}
	}
	return true
}

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
	messages, err := parseEvent(raw, h.Ledger.Bucket.Name)
	if err != nil {
		return response, err
	}
	b := newBatch(messages)
	invocation := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-returnTime))
		defer cancel()
	}
	// Messages that have failed before come last, so that they do not use up the time
	// of the others.
	slices.SortStableFunc(messages, func(a, b message) int { return cmp.Compare(a.receives, b.receives) })
	for i, m := range messages {
		err := h.handleMessage(ctx, &delivery{
			message: m, batch: b, last: h.MaxReceives > 0 && m.receives >= h.MaxReceives,
			until: h.startUntil(ctx, m, len(messages)-i),
		})
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
		h.postpone(invocation, m, err)
	}
	return response, nil
}

// postpone delays the next delivery of a message that err left unfinished. If that fails,
// the queue delivers the message after its visibility timeout.
func (h *Handler) postpone(ctx context.Context, m message, err error) {
	if m.receipt == "" {
		return
	}
	pause := h.pause(err, m.receives)
	if pause == 0 {
		return
	}
	if err := h.Queue.Postpone(ctx, m.receipt, pause); err != nil {
		slog.WarnContext(ctx, "message not postponed", "message_id", m.id, "err", err)
	}
}

// pause returns how long a message that is not finished waits for its next delivery:
// as long as RunComfy asks for, else a time that doubles with each of the first
// deliveries. 0 stands for the visibility timeout of the queue. A message that is no
// longer retried waits for burnPause.
func (h *Handler) pause(err error, receives int) time.Duration {
	after := min(retryAfterOf(err), mostRetryAfter)
	switch {
	case errors.Is(err, errRetried):
		return burnPause
	case isOverBudget(err):
		return 0 // nothing changes before midnight, unless a person raises the cap
	case after > 0 && receives <= promptReceives:
		return after + time.Duration(h.Jitter()*float64(min(after, firstHold)))
	case receives <= promptHolds:
		return time.Duration((0.25 + 0.75*h.Jitter()) * float64(firstHold<<max(receives-1, 0)))
	default:
		return 0
	}
}

// batch is the state that the messages of one invocation share.
type batch struct {
	again    bool                 // an earlier delivery of one of the messages was not finished
	newest   time.Time            // the time of the newest change
	uploads  map[string]time.Time // the time of the newest upload of each key
	events   map[string]time.Time // those uploads of files of jobs whose events are in the batch
	assessed map[assessmentKey]*assessment
	sent     map[assessmentKey]bool // those for which a message was sent
}

// assessmentKey identifies assessments that have the same result, because every
// event of a batch happened before its first assessment. A deletion is assessed
// separately: it starts no job for a name whose newest take used the deleted
// file. A match that a bundle no longer names is also assessed separately: if it becomes
// withdrawn, it gets a reason of its own.
type assessmentKey struct {
	subject drop.Subject
	deleted string
	bundle  string
}

func (c change) assessmentKey(s drop.Subject) assessmentKey {
	return assessmentKey{s, c.deletedKey(), c.Bundle}
}

func newBatch(messages []message) *batch {
	b := &batch{
		uploads: map[string]time.Time{}, events: map[string]time.Time{},
		assessed: map[assessmentKey]*assessment{}, sent: map[assessmentKey]bool{},
	}
	for _, m := range messages {
		b.again = b.again || m.receives > 1
		for _, c := range m.changes {
			b.again = b.again || c.Again
			b.newest = latest(b.newest, latest(c.Time, c.Newest))
			for key, at := range c.Uploads {
				b.uploads[key] = latest(b.uploads[key], at)
			}
			if c.Deleted {
				continue
			}
			b.uploads[c.Key] = latest(b.uploads[c.Key], c.Time)
			if c.Subjects == nil && drop.ParseKey(c.Key).Stem != "" {
				b.events[c.Key] = latest(b.events[c.Key], c.Time)
			}
		}
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// delivery is one receive of a message.
type delivery struct {
	message
	batch   *batch
	last    bool      // the queue does not deliver the message again
	until   time.Time // no assessment starts after it, except the first; zero means no limit
	started bool      // an assessment has started
}

// mayStart reports whether there is time to start an assessment.
func (h *Handler) mayStart(ctx context.Context, d *delivery) bool {
	if !d.started {
		return h.hasTime(ctx, assessTime)
	}
	return d.until.IsZero() || !h.Now().After(d.until)
}

// isOlder reports whether a message is known to be older than age.
func (h *Handler) isOlder(m message, age time.Duration) bool {
	return !m.sent.IsZero() && h.Now().After(m.sent.Add(age))
}

// handleMessage handles the changes of a message.
func (h *Handler) handleMessage(ctx context.Context, d *delivery) error {
	errs := []error{d.err}
	for _, c := range d.changes {
		errs = append(errs, h.handleChange(ctx, d, c))
	}
	return errors.Join(errs...)
}

// withoutPanic calls f and returns a panic of the Go runtime, such as an index out of
// range, as an error. Then a file that triggers a bug does not fail the whole batch.
func withoutPanic(f func() error) (err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("panic: %w\n%s", cause, debug.Stack())
		default:
			panic(cause)
		}
	}()
	return f()
}

// handleChange assesses the subjects of a change. It ignores an event of another bucket, and
// the deletion of a file that is in the bucket. It does not assess a change that still exceeds
// MaxJobsPerDrop, except on its last delivery.
func (h *Handler) handleChange(ctx context.Context, d *delivery, c change) error {
	if c.bucket != h.Ledger.Bucket.Name {
		slog.WarnContext(ctx, "event of another bucket", "bucket", c.bucket)
		return nil
	}
	if c.Deleted && c.Bundle == "" {
		// If the file exists, an old version was deleted, which changes nothing, or the
		// file was uploaded again, which has an event of its own. A part with a Bundle
		// goes on: the new job.json may not name its matches, which then become withdrawn.
		if exists, err := h.Ledger.Bucket.Exists(ctx, c.Key); exists || err != nil {
			return err
		}
	}
	waited := c.MostJobs > 0
	var held error
	if waited {
		if held = h.stillTooMany(ctx, c); held != nil && !d.last {
			return held
		}
		// Handle the whole change again. On the last delivery, the statuses of the
		// jobs beyond the limit say that the retries have ended.
		c.part = part{Last: held != nil}
	}
	var lastSince time.Time
	switch {
	// A message that waited for the limit may be old before its jobs are first tried,
	// so only the number of its deliveries ends its retries.
	case !waited && h.isOlder(d.message, retryFor):
		lastSince = d.sent.Add(retryFor)
	case d.last && !c.Last:
		lastSince = h.Now()
	}
	return errors.Join(held, h.assessChange(ctx, d, c, lastSince))
}

// assessChange assesses every subject that a change may concern, until it has made
// more than fewRequests requests to S3. Then it sends messages for the subjects that
// are left, and for those that are not finished. A message of submit that has several
// subjects is only divided: assessChange assesses none of them. If the message is old or
// is not delivered again, subjects that a cap of the day holds get new messages too.
func (h *Handler) assessChange(ctx context.Context, d *delivery, c change, lastSince time.Time) error {
	ctx, requests := bucket.CountRequests(ctx)
	b, renew := d.batch, d.last || h.isOlder(d.message, renewAfter)
	subjects := c.Subjects
	if subjects == nil {
		var err error
		if subjects, err = h.Resolver.Touched(ctx, drop.ParseKey(c.Key)); err != nil {
			return err
		}
	}
	var errs []error
	var left []drop.Subject
	divide := len(c.Subjects) > 1
	for i := 0; i < len(subjects); i++ {
		s := subjects[i]
		key := c.assessmentKey(s)
		a, done := b.assessed[key]
		switch {
		case b.sent[key]:
			continue
		case done:
		case divide || i > 0 && requests() > fewRequests:
			divide = true
			left = append(left, s)
			continue
		case !h.mayStart(ctx, d):
			return errors.Join(append(errs, errNoTime)...)
		default:
			d.started = true
			a = h.newAssessment(b, c, s, lastSince)
			b.assessed[key] = a
			a.err = withoutPanic(func() error { return h.assess(ctx, a) })
		}
		if a.err == nil {
			subjects = append(subjects, a.matches...)
		}
		if err := errors.Join(a.err, h.warnUnused(ctx, a, c)); err != nil {
			left = append(left, s)
			errs = append(errs, err)
			divide = divide || renew && isOverBudget(err)
		}
	}
	tooMany := c.Subjects == nil && !c.Last && slices.ContainsFunc(subjects, drop.Subject.TooMany)
	if !divide && !tooMany {
		return errors.Join(errs...)
	}
	if err := errors.Join(errs...); err != nil {
		slog.InfoContext(ctx, "the unfinished names go on in new messages", "reason", err.Error())
	}
	c.Again = c.Again || errs != nil
	if err := h.send(ctx, b, c, left); err != nil || !tooMany {
		return err
	}
	c.part = part{MostJobs: h.Resolver.MaxJobsPerDrop} // the message waits until the limit is higher
	return h.sendChange(ctx, c)
}

// newAssessment prepares the assessment of a subject of a change.
func (h *Handler) newAssessment(b *batch, c change, s drop.Subject, lastSince time.Time) *assessment {
	if c.Last && s.TooMany() {
		lastSince = h.Now()
	}
	return &assessment{subject: s, change: c, batch: b, lastSince: lastSince}
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
