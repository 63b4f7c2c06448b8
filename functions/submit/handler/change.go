package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const (
	// retryFor is how long the held jobs of a message are retried. If the message is older, they
	// are tried one last time. A change that waits for a higher MaxJobsPerDrop has no such limit.
	retryFor = 24 * time.Hour
	// A cap of the day may hold a job for days. After renewAfter, submit replaces the job's message
	// with a new one, so that at least half a day of retries is left when the cap has room for the job.
	renewAfter = retryFor / 2
	// If submit has made more than fewRequests requests to S3 for a message, it starts no further
	// assessment, and sends new messages for the subjects that are left.
	fewRequests = 25
	// Submit divides the subjects of a message among at most maxParts new messages. If the subjects
	// are long, there are more: a message gets no further subject after mostBytes of subjects,
	// because SQS may refuse a message of more than 256 KiB.
	maxParts  = 10
	mostBytes = 200 << 10
)

// batch is the state that the messages of one invocation share.
type batch struct {
	again      bool                 // a message was delivered before, or has requeued.Again
	newest     time.Time            // the time of the newest change
	uploads    map[string]time.Time // the time of the newest upload of each key
	ownUploads map[string]time.Time // like uploads, but only of files that can belong to a job, and only from events of this batch
	assessed   map[assessmentKey]*assessment
	sent       map[assessmentKey]bool // whether a message was sent in place of the assessment; see send
}

// assessmentKey identifies an assessment. In a batch, assessments with equal keys have the
// same result, because every event of the batch happened before the batch's first assessment.
// A deletion is assessed separately: it starts no job for a name whose newest take used the
// deleted file. A match that a bundle no longer names is also assessed separately: if it
// becomes withdrawn, it gets a reason of its own.
type assessmentKey struct {
	subject   drop.Subject
	deleted   string // see change.deletedKey
	unnamedBy string
}

func (c change) assessmentKey(s drop.Subject) assessmentKey {
	return assessmentKey{s, c.deletedKey(), c.UnnamedBy}
}

func newBatch(messages []message) *batch {
	b := &batch{
		uploads: map[string]time.Time{}, ownUploads: map[string]time.Time{},
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
			if !c.isPart() && drop.ParseKey(c.Key).Stem != "" {
				b.ownUploads[c.Key] = latest(b.ownUploads[c.Key], c.Time)
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

func (h *Handler) handleChange(ctx context.Context, d delivery, c change) (out outcome) {
	if c.bucket != h.Ledger.Bucket.Name {
		slog.WarnContext(ctx, "event of another bucket", "bucket", c.bucket)
		return nil
	}
	if c.Deleted && c.UnnamedBy == "" {
		// If the file exists, there is nothing to do: either an old version was deleted, or the
		// file was uploaded again, and that upload has an event of its own. A change with
		// UnnamedBy is handled even if the file exists: the matches that job.json no longer
		// names become withdrawn.
		if exists, err := h.Ledger.Bucket.Exists(ctx, c.Key); exists || err != nil {
			out.add(err)
			return out
		}
	}
	switch {
	case c.isWaiting():
		return h.handleWaiting(ctx, d, c)
	case h.isOlder(d.message, retryFor):
		return h.assessChange(ctx, d, c, d.sent.Add(retryFor))
	case d.last:
		return h.assessChange(ctx, d, c, h.Now())
	default:
		return h.assessChange(ctx, d, c, time.Time{})
	}
}

// isOlder reports whether a message is known to be older than age.
func (h *Handler) isOlder(m message, age time.Duration) bool {
	return !m.sent.IsZero() && h.Now().After(m.sent.Add(age))
}

// handleWaiting handles a change that waits for a higher MaxJobsPerDrop. It assesses the whole
// change again if MaxJobsPerDrop was raised. It also does so on the last delivery: the statuses
// then say that the retries have ended. The age of the message does not end the retries, because
// the message may already be old when the jobs are first tried.
func (h *Handler) handleWaiting(ctx context.Context, d delivery, c change) outcome {
	if most := h.Resolver.MaxJobsPerDrop; most == 0 || most > c.MostJobs {
		c.requeued = requeued{}
		var lastTrySince time.Time
		if d.last {
			lastTrySince = h.Now()
		}
		return h.assessChange(ctx, d, c, lastTrySince)
	}
	slog.WarnContext(ctx, "not submitted", "key", c.Key, "state", ledger.Held, "code", problem.TooManyJobs)
	out := outcome{&heldError{code: problem.TooManyJobs}}
	if d.last {
		c.requeued = requeued{Last: true}
		out = append(out, h.assessChange(ctx, d, c, time.Time{})...)
	}
	return out
}

// assessChange assesses the subjects of a change (see assessment about lastTrySince). If
// progress.divide is set, it sends messages for the subjects that are left, and this message is
// finished. Unless c is a part (see isPart) or c.Last is set, it also does so if there are jobs
// beyond MaxJobsPerDrop, and sends one more message, which waits for a higher MaxJobsPerDrop.
func (h *Handler) assessChange(ctx context.Context, d delivery, c change, lastTrySince time.Time) (out outcome) {
	p := h.assessSubjects(ctx, d, c, lastTrySince)
	tooMany := p.tooMany && !c.isPart() && !c.Last
	if !p.divide && !tooMany {
		return p.outcome
	}
	c.newChain = p.newChain
	if p.outcome != nil {
		slog.InfoContext(ctx, "new messages continue with the unfinished names", "reason", errors.Join(p.outcome...).Error())
		c.Again = true
	}
	err := h.send(ctx, d.batch, c, p.left)
	if err == nil && tooMany {
		c.requeued = requeued{MostJobs: h.Resolver.MaxJobsPerDrop}
		err = h.sendChange(ctx, c)
	}
	out.add(err)
	return out
}

// progress is how far the assessment of a change has come.
type progress struct {
	outcome  outcome        // of the subjects that were assessed
	left     []drop.Subject // not assessed, or not finished
	divide   bool           // whether new messages must continue with what is left
	newChain bool           // whether the new messages begin a new chain, because a cap holds a job (see renewAfter)
	tooMany  bool           // whether TooMany is true for a subject
}

// assessSubjects assesses every subject that a change may concern, until it has made more than
// fewRequests requests to S3. It also stops if a cap of the day holds a job and this message is
// older than renewAfter or is not delivered again. In both cases, new messages continue with the
// other subjects, and with each subject that was not finished. If c.Subjects has several subjects,
// assessSubjects assesses none of them, and submit divides the message. If the function's time
// ends, the queue delivers the whole message again.
func (h *Handler) assessSubjects(ctx context.Context, d delivery, c change, lastTrySince time.Time) (p progress) {
	before := h.Ledger.Bucket.Requests() // of the whole process, which runs only one invocation at a time
	renew := d.last || h.isOlder(d.message, renewAfter)
	subjects := c.Subjects
	if !c.isPart() {
		var err error
		if subjects, err = h.Resolver.Touched(ctx, drop.ParseKey(c.Key)); err != nil {
			return progress{outcome: outcome{err}}
		}
	}
	p.divide = len(c.Subjects) > 1
	for i := 0; i < len(subjects); i++ { // an assessment may add subjects
		s := subjects[i]
		key := c.assessmentKey(s)
		p.tooMany = p.tooMany || s.TooMany()
		if d.batch.sent[key] && !c.isPart() {
			continue
		}
		a := d.batch.assessed[key]
		if a == nil && (p.divide || i > 0 && h.Ledger.Bucket.Requests()-before > fewRequests) {
			p.divide, p.left = true, append(p.left, s)
			continue
		}
		if a == nil {
			a = &assessment{subject: s, change: c, batch: d.batch, lastTrySince: lastTrySince}
			if c.Last && s.TooMany() {
				a.lastTrySince = h.Now()
			}
			d.batch.assessed[key] = a
			err := withoutPanic(func() { a.outcome = h.assess(ctx, a) })
			a.outcome.add(err)
		}
		if a.outcome == nil {
			subjects = append(subjects, a.matches...)
		}
		out := slices.Clip(a.outcome)
		out.add(h.warnUnused(ctx, a, c))
		if out != nil {
			p.outcome = append(p.outcome, out...)
			p.left = append(p.left, s)
			p.newChain = p.newChain || renew && out.overBudget()
			p.divide = p.divide || p.newChain
		}
	}
	return p
}

// send divides the subjects of a change into messages (see maxParts), and sends them. A message
// that replaces an event has the ownUploads of the whole batch, so send records its subjects in
// batch.sent, and the batch's other events skip them. A message that replaces a part (see isPart)
// has only the uploads of that part, so send does not record its subjects.
func (h *Handler) send(ctx context.Context, b *batch, c change, subjects []drop.Subject) error {
	isPart := c.isPart()
	if !isPart {
		subjects = slices.DeleteFunc(slices.Clone(subjects), func(s drop.Subject) bool { return b.sent[c.assessmentKey(s)] })
		c.Again, c.Newest, c.Uploads = c.Again || b.again, b.newest, b.ownUploads
	}
	most := (len(subjects) + maxParts - 1) / maxParts
	for len(subjects) > 0 {
		n, size := 0, 0
		for n < min(most, len(subjects)) && size <= mostBytes {
			size += len(bucket.JSON(subjects[n], ""))
			n++
		}
		c.Subjects, subjects = subjects[:n], subjects[n:]
		if err := h.sendChange(ctx, c); err != nil {
			return err
		}
		if isPart {
			continue
		}
		for _, s := range c.Subjects {
			b.sent[c.assessmentKey(s)] = true
		}
	}
	return nil
}

func (h *Handler) sendChange(ctx context.Context, c change) error {
	return h.Queue.Send(ctx, string(bucket.JSON(ownMessage{&c}, "")), c.newChain)
}

// withoutPanic calls f and returns a panic of the Go runtime, such as an index out of
// range, as an error. Then a file that triggers a bug does not fail the whole batch.
func withoutPanic(f func()) (err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("panic: %w\n%s", cause, debug.Stack())
		default:
			panic(cause)
		}
	}()
	f()
	return nil
}
