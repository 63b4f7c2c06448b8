// Package handler decides what a drop leads to: it finds the jobs that an event
// in the bucket may have completed, and submits each once. Package drop says
// what is there; an event is only a hint to assess it.
//
// The function may die between any two of its calls: the next delivery finishes
// the work without a second POST. Before the POST it claims the take with a
// record that only one invocation can make. After the POST it records the
// request id before anything else.
package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler decides what a drop leads to.
type Handler struct {
	Bucket, MachineARN string

	Resolver *drop.Resolver
	Ledger   *ledger.Store
	Presign  func(context.Context, drop.File) (string, error)
	API      *runcomfy.Client
	States   workflow.Starter
	Now      func() time.Time

	// SignUntil is the last moment at which a URL that this process presigns is
	// valid for long enough. After it the process submits nothing more and
	// calls Exit. Zero sets no limit.
	SignUntil time.Time
	// Exit ends the process.
	Exit func()

	// Sleep waits. Defaults to a timer.
	Sleep func(context.Context, time.Duration) error
}

const (
	// lifetime is the function's timeout in template.yaml. A claim that is
	// older than lifetime and clockSkew belongs to no running invocation.
	lifetime  = 2 * time.Minute
	clockSkew = time.Minute

	// submitTime is what must be left of the function's time before the POST:
	// the POST itself, and the record of its response.
	submitTime = runcomfy.Timeout + 10*time.Second
	// claimTime is what must be left before the claim.
	claimTime = submitTime + 5*time.Second
	// assessTime is what must be left before a subject is assessed.
	assessTime = 20 * time.Second
	// returnTime is when every call is cancelled, so that the function returns
	// what it has done before Lambda ends it.
	returnTime = 3 * time.Second

	// lastDelivery is maxReceiveCount of the queue in template.yaml.
	lastDelivery = 120

	// manySubjects is the number of subjects of one change above which later
	// deliveries skip those that an earlier one has finished. They see that by
	// the time of the status, which they write even if it does not change.
	manySubjects = 20

	// recoverMost bounds how many takes of a name are read to recover them. The
	// hourly sweep of the cancel function recovers the others.
	recoverMost = 10

	// maxAssessments bounds how often a name is assessed again because it
	// changed meanwhile. After that the queue delivers the message again.
	maxAssessments = 5
)

var (
	errBusy       = errors.New("another invocation is submitting this take")
	errNoTime     = errors.New("not enough time left in this invocation")
	errOldSession = errors.New("the credentials of this process end too soon to sign URLs; another process submits the job")
	errChanging   = errors.New("the files keep changing")
)

// heldError says that the job is held, and that the queue must deliver the
// message again.
type heldError struct{ code problem.Code }

func (e *heldError) Error() string { return "held: " + string(e.code) }

// Handle handles a batch of the queue, or one plain event. A message that could
// not be finished is a batch item failure, which the queue delivers again. A
// plain event that could not be finished is an error.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	if h.sessionEnds() {
		// Nothing is done yet. Lambda reports this batch as failed, the queue
		// delivers it again, and a new process gets new credentials.
		slog.WarnContext(ctx, "the process exits, because its credentials end too soon to sign URLs", "sign_until", h.SignUntil)
		h.Exit()
		return response, errOldSession
	}
	messages, err := parseEvent(raw)
	if err != nil {
		return response, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-returnTime))
		defer cancel()
	}
	// Messages that failed before come last, so that they cannot take the time
	// of others.
	slices.SortStableFunc(messages, func(a, b message) int { return cmp.Compare(a.receives, b.receives) })
	b := &batch{assessed: map[assessmentKey]*assessment{}}
	b.again = slices.ContainsFunc(messages, func(m message) bool { return m.receives > 1 })
	for i, m := range messages {
		until := h.share(ctx, m, len(messages)-i)
		err := h.deliver(ctx, b, m, until)
		if err == nil {
			continue
		}
		slog.ErrorContext(ctx, "not finished", "err", err, "message_id", m.id, "receives", m.receives)
		if m.id == "" {
			return response, err
		}
		response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.id})
	}
	return response, nil
}

// share returns until when subjects of a message may be begun. A message that
// failed twice gets its share of the time that is left, so that the messages
// behind it get theirs. Other messages may take all the time there is.
func (h *Handler) share(ctx context.Context, m message, left int) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}
	}
	until := deadline.Add(-assessTime)
	if m.receives > 2 {
		return h.Now().Add(until.Sub(h.Now()) / time.Duration(left))
	}
	return until
}

// batch is what the messages of one call of the function share.
type batch struct {
	again    bool // an earlier delivery of one of the messages was not finished
	assessed map[assessmentKey]*assessment
}

// assessmentKey says which assessments are the same: every event of a batch
// happened before the first of them. A deletion is assessed by itself, because
// it starts no job for a name whose newest take used the deleted file.
type assessmentKey struct {
	subject drop.Subject
	deleted string
}

// assessment is one assessment of a subject.
type assessment struct {
	subject drop.Subject
	deleted change // the deletion that led to it, else zero
	dropped string // a bundle whose job.json no longer names the match, else ""
	again   bool   // an earlier delivery was not finished
	last    bool   // the queue does not deliver the message again

	rewrite   bool // post statuses that do not change too
	recovered bool
	err       error
	// standing are the takes whose statuses stayed as they are, although there
	// may be files that they do not use.
	standing []standing
}

type standing struct{ name, take string }

// deliver assesses every subject that a message may concern. What is done stays
// done: an assessment that changes nothing costs a few reads.
func (h *Handler) deliver(ctx context.Context, b *batch, m message, until time.Time) error {
	errs := []error{m.err}
	began := false // the first subject of each message is always begun
	for _, c := range m.changes {
		if c.bucket != h.Bucket {
			slog.WarnContext(ctx, "event of another bucket", "bucket", c.bucket)
			continue
		}
		if h.late(ctx, until, began) {
			return errors.Join(append(errs, errNoTime)...)
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
				if h.late(ctx, until, began) {
					return errors.Join(append(errs, errNoTime)...)
				}
				began = true
				many := m.receives > 1 && len(subjects) > manySubjects
				if many {
					if skip, err := h.finished(ctx, s, c); skip || err != nil {
						errs = append(errs, err)
						continue
					}
				}
				a = &assessment{subject: s, again: b.again, last: m.receives >= lastDelivery, rewrite: many}
				if c.deleted {
					a.deleted = c
				}
				b.assessed[key] = a
				a.err = h.assess(ctx, a)
			}
			errs = append(errs, a.err)
			if !c.deleted {
				for _, t := range a.standing {
					errs = append(errs, h.warnUnused(ctx, t, c.key))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// late reports whether no further subject may be begun.
func (h *Handler) late(ctx context.Context, until time.Time, began bool) bool {
	if !began {
		return !h.timeFor(ctx, assessTime)
	}
	return !until.IsZero() && h.Now().After(until)
}

// timeFor reports whether a duration is left of the function's time.
func (h *Handler) timeFor(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(h.Now()) >= d
}

// sessionEnds reports whether URLs that are signed now end too soon.
func (h *Handler) sessionEnds() bool { return !h.SignUntil.IsZero() && h.Now().After(h.SignUntil) }

// finished reports whether an assessment of the subject that certainly began
// after the change has posted a status that needs no further try.
func (h *Handler) finished(ctx context.Context, s drop.Subject, c change) (bool, error) {
	posted, err := h.Ledger.Posted(ctx, s.Key())
	if err != nil || c.at.IsZero() || posted.State == "" || posted.State == ledger.Held || posted.State.Claimed() {
		return false, err // the functions that follow a take write its status too
	}
	return posted.UpdatedAt.After(c.at.Add(lifetime + clockSkew)), nil
}

// assess decides what a subject needs and does it, once more from the beginning
// whenever something changes underway.
func (h *Handler) assess(ctx context.Context, a *assessment) error {
	var recovered error
	for range maxAssessments {
		a.standing = nil
		err := h.assessOnce(ctx, a, &recovered)
		if !errors.Is(err, ledger.ErrStale) && !errors.Is(err, bucket.ErrChanged) {
			return errors.Join(recovered, err)
		}
	}
	return errors.Join(recovered, fmt.Errorf("%s: %w", a.subject.Name, errChanging))
}

func (h *Handler) assessOnce(ctx context.Context, a *assessment, recovered *error) error {
	// Statuses are read before the bucket, so that what is posted over them is
	// never older than what they say.
	s := a.subject
	prev, err := h.Ledger.Posted(ctx, s.Key())
	if err != nil {
		return err
	}
	if mayHaveTakes := s.Key() == ledger.StatusKey(s.Name) && (a.again || prev.State != ""); mayHaveTakes && !a.recovered {
		a.recovered = true
		var some bool
		if some, *recovered = h.recoverTakes(ctx, s.Name, a.again); some {
			if prev, err = h.Ledger.Posted(ctx, s.Key()); err != nil {
				return err
			}
		}
	}
	prev.Rewrite = a.rewrite
	findings, err := h.Resolver.Find(ctx, s)
	if err != nil {
		return err
	}
	statuses := map[string]ledger.Posted{s.Key(): prev}
	for _, f := range findings {
		if _, read := statuses[f.Key]; read {
			continue
		}
		if statuses[f.Key], err = h.Ledger.Posted(ctx, f.Key); err != nil {
			return err
		}
	}
	if len(statuses) > 1 {
		// The names of a bundle's matches were not known before. Their statuses
		// were read after the bucket, so read the bucket again.
		if findings, err = h.Resolver.Find(ctx, s); err != nil {
			return err
		}
	}
	if err := h.reassessMatches(ctx, a, prev, findings); err != nil {
		return err
	}
	var errs []error
	for _, f := range findings {
		prev, read := statuses[f.Key]
		if !read {
			return ledger.ErrStale
		}
		if f.Job == nil {
			err = h.answer(ctx, a, f, prev)
		} else {
			err = h.run(ctx, a, f, prev)
		}
		if errors.Is(err, ledger.ErrStale) || errors.Is(err, bucket.ErrChanged) {
			return err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

// reassessMatches withdraws the matches of a bundle's wildcard that were not
// submitted and that its job.json no longer names. The status of the bundle
// lists its matches, so that no other status is read. It is replaced after
// this, so that an invocation that dies in between is made up for.
func (h *Handler) reassessMatches(ctx context.Context, a *assessment, bundle ledger.Posted, findings []drop.Finding) error {
	if bundle.Jobs == nil || !strings.HasPrefix(a.subject.Key(), "status/") {
		return nil
	}
	for _, name := range bundle.Jobs {
		named := slices.ContainsFunc(findings, func(f drop.Finding) bool { return f.Name == name || slices.Contains(f.Jobs, name) })
		if named || !strings.HasPrefix(name, bundle.Name+"/") {
			continue
		}
		posted, err := h.Ledger.Posted(ctx, ledger.StatusKey(name))
		if err != nil {
			return err
		}
		if posted.State != ledger.Held && posted.State != ledger.Waiting && posted.State != ledger.Rejected {
			continue
		}
		// A pair may have the same name. Its own assessment says what is there.
		if err := h.assess(ctx, &assessment{subject: drop.SubjectOf(name), dropped: bundle.Name, last: a.last}); err != nil {
			return err
		}
	}
	return nil
}

// answer posts a finding that is not a job, unless the status is about a take
// that is as new. For a held finding it returns *heldError, so that the queue
// delivers the message again.
func (h *Handler) answer(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) error {
	age := strings.Compare(ledger.Stamp(f.Order), ledger.Stamp(prev.Order))
	if prev.State.Claimed() && (age < 0 || age == 0 && f.Job == nil) {
		if f.Problems != nil && f.State != ledger.Withdrawn {
			a.standing = append(a.standing, standing{prev.Name, prev.Take})
		}
		return nil
	}
	order := ledger.Stamp(f.Order)
	if order == "" {
		order = prev.Order
	} else if f.Job != nil {
		order = ledger.Order(f.Order, h.clock())
	}
	if f.State == ledger.Withdrawn && a.dropped != "" {
		f.Problems = []problem.Problem{{Code: problem.NoLongerNamed, Reason: fmt.Sprintf("the job.json of %s no longer asks for %s", a.dropped, path.Base(f.Name))}}
	}
	st := ledger.Status{Name: f.Name, State: f.State, Warnings: f.Warnings, Jobs: f.Jobs}
	if f.Problems != nil {
		st.Code, st.Reason, st.Remedy = f.Problems[0].Code, problem.Reason(f.Problems), problem.Remedy(f.Name, f.Problems)
	}
	if f.State == ledger.Held && a.last {
		endRetries(&st)
	}
	if err := h.Ledger.Post(ctx, f.Key, st, order, prev); err != nil {
		return err
	}
	slog.InfoContext(ctx, "answered", "name", f.Name, "state", st.State, "code", st.Code)
	if f.State == ledger.Held {
		return &heldError{st.Code}
	}
	return nil
}

// warnUnused adds a warning to a take whose status stands: the file at key was
// uploaded, and the take does not use it.
func (h *Handler) warnUnused(ctx context.Context, t standing, key string) error {
	file, err := h.Resolver.Files.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := h.Ledger.Get(ctx, t.name, t.take)
	if err != nil {
		return nil // whoever needs the record reports it
	}
	if slices.ContainsFunc(rec.Inputs, func(in ledger.Input) bool {
		return in.Key == key && file.SameVersion(in.ETag, in.LastModified)
	}) {
		return nil
	}
	base := path.Base(key)
	text := base + " was uploaded, but S3 says that its upload began before the files of this job; it started nothing. Upload it again to use it."
	switch {
	case ofBundle(key) && rec.Uses(key):
		text = base + " was uploaded again after this job was submitted. Upload job.json again to start a job with it."
	case ofBundle(key):
		text = base + " was uploaded, but job.json of this job does not use it. Name it in job.json and upload that again to use it."
	}
	return h.warn(ctx, rec, text, nil)
}

// warn adds a warning to the record and the status of a take, with a further
// change of the record.
func (h *Handler) warn(ctx context.Context, rec ledger.Record, text string, change func(*ledger.Record)) error {
	slog.WarnContext(ctx, "nothing started", "name", rec.Name, "take", rec.Take, "reason", text)
	rec, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		r.Warn(text)
		if change != nil {
			change(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return h.Ledger.PostTake(ctx, rec)
}

// ofBundle reports whether a key is of a file in a .job folder.
func ofBundle(key string) bool { return strings.Contains(strings.ToLower(key), ".job/") }
