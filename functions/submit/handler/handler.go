// Package handler answers drops: it finds the jobs that an event in the bucket
// may have completed, and submits each once. What is there to find is package
// drop's; an event is a hint to look, and never believed.
//
// It may die between any two of its calls: the next delivery finishes the work
// without a second POST. Before the POST stands the claim, a record that one
// invocation alone can make; after it comes the request id, before all else.
package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// Handler decides what a drop leads to.
type Handler struct {
	Bucket, MachineARN string

	Resolver *drop.Resolver
	Ledger   *ledger.Store
	Presign  func(context.Context, drop.File) (string, error)
	API      *runcomfy.Client
	Token    *config.Token
	States   Executions
	Now      func() time.Time

	// Sleep waits. Defaults to a timer.
	Sleep func(context.Context, time.Duration) error
}

// Executions is what submit needs of Step Functions.
type Executions interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
}

const (
	// lifetime is the function's timeout in template.yaml: a claim that is
	// older than this, and clockSkew, has nobody working on it.
	lifetime  = 2 * time.Minute
	clockSkew = time.Minute

	// enoughTime is what must be left of the function's time before a job is
	// claimed: the call that submits it, and what is written after it.
	enoughTime = runcomfy.Timeout + 15*time.Second

	// lastDelivery is maxReceiveCount of the queue in template.yaml.
	lastDelivery = 120

	// recordPause is how long after a failed record of a paid job it is tried
	// again; the pause doubles up to longestPause.
	recordPause  = time.Second
	longestPause = 16 * time.Second

	// maxLooks bounds how often a name is looked at again because it changed
	// meanwhile. Past it the queue delivers the message again.
	maxLooks = 5
)

var (
	errBusy     = errors.New("another invocation is submitting this take")
	errNoTime   = errors.New("not enough time left to submit a job safely")
	errChanging = errors.New("the files keep changing")
)

// heldError says that the job is held, and that the queue must deliver the
// message again.
type heldError struct{ code ledger.Code }

func (e *heldError) Error() string { return "held: " + string(e.code) }

// Handle answers a batch of the queue, or one plain event. What could not be
// finished is a batch item failure, which the queue delivers again; of a plain
// event it is an error.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	messages, err := parseEvent(raw)
	if err != nil {
		return response, err
	}
	again := slices.ContainsFunc(messages, func(m message) bool { return m.receives > 1 })
	// Every event of a batch came before the look: one look serves them all.
	looked := map[drop.Subject]error{}
	for _, m := range messages {
		err := h.deliver(ctx, m, again, looked)
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

// deliver looks at everything that a message may concern; again says that an
// earlier delivery of it, or of one beside it, was not finished.
func (h *Handler) deliver(ctx context.Context, m message, again bool, looked map[drop.Subject]error) error {
	errs := []error{m.err}
	for _, c := range m.changes {
		if c.bucket != h.Bucket {
			slog.WarnContext(ctx, "event of another bucket", "bucket", c.bucket)
			continue
		}
		subjects, err := h.Resolver.Look().Touched(ctx, c.key)
		errs = append(errs, err)
		for _, s := range subjects {
			err, done := looked[s]
			if !done {
				if again {
					err = h.orphans(ctx, s.Name())
				}
				last := m.receives >= lastDelivery
				err = errors.Join(err, h.look(ctx, s, last))
				if err == nil && ofBundle(c.key) {
					err = h.forsaken(ctx, s.Name(), last)
				}
				looked[s] = err
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ofBundle reports whether a key is of a file in a .job folder.
func ofBundle(key string) bool { return strings.Contains(strings.ToLower(key), ".job/") }

// forsaken looks at the matches of a bundle's wildcard that are held and that
// its job.json, which was changed or deleted, does not ask for any more: each
// as the pair of its name, of which as a rule there is nothing.
func (h *Handler) forsaken(ctx context.Context, bundle string, last bool) error {
	used, err := h.Ledger.Posted(ctx, ledger.StatusKey(bundle))
	if err != nil {
		return err
	}
	names, err := h.Ledger.Answered(ctx, bundle+"/")
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(used.Jobs, name) {
			continue
		}
		posted, err := h.Ledger.Posted(ctx, ledger.StatusKey(name))
		if err != nil {
			return err
		}
		if posted.State != ledger.Held {
			continue
		}
		subjects, err := h.Resolver.Look().Touched(ctx, ledger.InboxPrefix+name+".wav")
		if err != nil {
			return err
		}
		for _, s := range subjects {
			if err := h.look(ctx, s, last); err != nil {
				return err
			}
		}
	}
	return nil
}

// look finds what there is of a subject and answers it, once more from the
// beginning whenever something changes underway.
func (h *Handler) look(ctx context.Context, s drop.Subject, last bool) error {
	for range maxLooks {
		err := h.lookOnce(ctx, s, last)
		if !errors.Is(err, ledger.ErrStale) && !errors.Is(err, drop.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", s.Name(), errChanging)
}

func (h *Handler) lookOnce(ctx context.Context, s drop.Subject, last bool) error {
	// The status is read before the bucket is looked at, so that what is
	// posted over it is never older than what it says.
	over, err := h.Ledger.Posted(ctx, s.Key())
	if err != nil {
		return err
	}
	look := h.Resolver.Look()
	findings, err := look.Find(ctx, s)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range findings {
		before := over
		if f.Key != s.Key() {
			if before, err = h.Ledger.Posted(ctx, f.Key); err != nil {
				return err
			}
		}
		if f.Job == nil {
			err = h.answer(ctx, f, before, last)
		} else {
			err = h.run(ctx, look, f, before, last)
		}
		if errors.Is(err, ledger.ErrStale) || errors.Is(err, drop.ErrChanged) {
			return err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

// answer posts a finding that is no job, unless the status is about a take
// that is as new: a deletion does not change what has been submitted. For a held
// finding it returns *heldError, so that the queue delivers the message again.
func (h *Handler) answer(ctx context.Context, f drop.Finding, over ledger.Posted, last bool) error {
	if over.State.Claimed() && f.Order <= over.Order {
		return nil
	}
	if f.State == ledger.Withdrawn {
		f.Order = over.Order
	}
	st := ledger.Status{Name: f.Name, State: f.State, Warnings: f.Warnings, Jobs: f.Jobs}
	if f.Problems != nil {
		st.Code, st.Reason, st.Remedy = f.Problems[0].Code, drop.Reason(f.Problems), drop.Remedy(f.Name, f.Problems)
	}
	if f.State == ledger.Held && last {
		heldForGood(&st)
	}
	if err := h.Ledger.Post(ctx, f.Key, st, f.Order, over); err != nil {
		return err
	}
	slog.InfoContext(ctx, "answered", "name", f.Name, "state", st.State, "code", st.Code)
	if f.State == ledger.Held {
		return &heldError{st.Code}
	}
	return nil
}
