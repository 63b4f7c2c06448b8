// Package handler is the submit function. It finds the jobs that a changed file
// completes, and submits each job at most once. An event is only a hint: package drop reads what
// is in the bucket now.
//
// The function may die between any two of its requests. The next delivery then
// finishes the work without a second POST: before the POST, the handler claims
// the take with a record that only one invocation can create; after the POST, it
// records the request id before it writes anything else.
//
// Handle reads messages (events.go) and handles the changes in each message (change.go). For
// each change, Handle assesses the names that the change concerns (assess.go), and submits the
// complete jobs (submit.go).
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

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler assesses drops and submits jobs.
type Handler struct {
	Resolver *drop.Resolver // reads the files of Ledger.Bucket
	Ledger   *ledger.Store
	Presign  func(context.Context, drop.File) (string, error)
	API      *runcomfy.Client
	States   workflow.Starter
	Now      func() time.Time
	Sleep    func(context.Context, time.Duration) error // returns early if the context ends
	Queue    Queue
	Prices   *budget.Prices
	Books    *budget.Books
	Caps     budget.Caps
	Jitter   func() float64 // in [0, 1): spreads the next deliveries of many messages

	// MaxReceives is how often the queue delivers a message at most. 0 means no limit.
	MaxReceives int

	// SignUntil is the time after which a URL that this process presigns would expire
	// too soon. After SignUntil, the process submits nothing more and calls Exit. Zero
	// means no limit.
	SignUntil time.Time
	Exit      func() // ends the process
}

// returnTime is reserved at the end of the function's time, to postpone unfinished messages and
// return the response.
const returnTime = 3 * time.Second

// Handle handles a batch of queue messages, or one event without a queue. Handle
// returns each unfinished message as a batch item failure, so that the queue
// delivers the message again. Handle returns an error if an event without a queue is not
// finished, if the payload cannot be parsed, and after SignUntil.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	messages, err := parseEvent(raw, h.Ledger.Bucket.Name)
	if err != nil {
		return response, err
	}
	if h.sessionEnds() {
		// Nothing has been done yet. The whole batch fails, so the queue delivers it again,
		// until a process with newer credentials handles it.
		slog.WarnContext(ctx, "the process exits, because URLs that it signs now would expire too soon", "sign_until", h.SignUntil)
		for _, m := range messages {
			h.postpone(ctx, m, outcome{errOldSession})
		}
		h.Exit()
		return response, errOldSession
	}
	b := newBatch(messages)
	invocation := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-returnTime))
		defer cancel()
	}
	// Messages that earlier deliveries did not finish come last, so that they do not use up
	// the time of the others.
	slices.SortStableFunc(messages, func(a, b message) int { return cmp.Compare(a.receives, b.receives) })
	for _, m := range messages {
		out := h.handleMessage(ctx, delivery{message: m, batch: b, last: h.MaxReceives > 0 && m.receives >= h.MaxReceives})
		err := errors.Join(out...)
		if err == nil {
			continue
		}
		if out.failed() {
			slog.ErrorContext(ctx, "not finished", "err", err, "message_id", m.id, "receives", m.receives)
		} else {
			slog.InfoContext(ctx, "held or busy", "reason", err.Error(), "message_id", m.id, "receives", m.receives)
		}
		if m.id == "" {
			return response, err
		}
		response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.id})
		h.postpone(invocation, m, out)
	}
	return response, nil
}

// delivery is one receive of a message.
type delivery struct {
	message
	batch *batch
	last  bool // the queue does not deliver the message again
}

func (h *Handler) handleMessage(ctx context.Context, d delivery) (out outcome) {
	out.add(d.err)
	for _, c := range d.changes {
		out = append(out, h.handleChange(ctx, d, c)...)
	}
	return out
}

// sessionEnds reports whether URLs that are signed now expire too soon.
func (h *Handler) sessionEnds() bool { return !h.SignUntil.IsZero() && h.Now().After(h.SignUntil) }
