package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/middleware"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Queue is the queue whose messages the function handles.
type Queue interface {
	// Send sends a message, to be delivered soon. Messages make a chain if each was sent while
	// the one before it was handled. After about sixteen messages, Lambda takes the chain for an
	// endless loop, and no longer calls the function with its messages. If newChain is true, the
	// message is the first of a new chain.
	Send(ctx context.Context, body string, newChain bool) error
	// Postpone sets when a message is delivered again: after a pause from now. The
	// receipt identifies the message's latest delivery.
	Postpone(ctx context.Context, receipt string, pause time.Duration) error
}

// SQS implements Queue with an SQS queue.
type SQS struct {
	Client *sqs.Client
	URL    string
}

// Send implements Queue. The message is delivered after a second, whatever the delay of
// the queue is.
func (q SQS) Send(ctx context.Context, body string, newChain bool) error {
	const delay = 1 // second; the SDK does not send 0
	_, err := q.Client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &q.URL, MessageBody: &body, DelaySeconds: delay}, func(o *sqs.Options) {
		if newChain {
			o.APIOptions = append(o.APIOptions, leaveOutChain)
		}
	})
	if err != nil {
		return fmt.Errorf("send to the queue: %w", err)
	}
	return nil
}

// leaveOutChain removes the SDK's step that adds the header in which Lambda counts the messages of
// a chain.
func leaveOutChain(stack *middleware.Stack) error {
	_, err := stack.Build.Remove((&awsmiddleware.RecursionDetection{}).ID())
	return err
}

// Postpone implements Queue. It rounds the pause up to whole seconds.
func (q SQS) Postpone(ctx context.Context, receipt string, pause time.Duration) error {
	_, err := q.Client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.URL, ReceiptHandle: &receipt, VisibilityTimeout: int32(math.Ceil(pause.Seconds())),
	})
	if err != nil {
		return fmt.Errorf("postpone a message: %w", err)
	}
	return nil
}

const (
	// basePause is the longest pause after a message's first delivery, if RunComfy asks for no
	// pause. The longest pause doubles with each delivery. After more than growingPauses
	// deliveries, the pause is the visibility timeout of the queue. If RunComfy asks for a pause,
	// basePause is the most that is added to it.
	basePause     = 15 * time.Second
	growingPauses = 6
	// After more than askedPauses deliveries, the pause is no longer RunComfy's Retry-After.
	// With a short Retry-After, the queue would reach its limit of deliveries in less than a day.
	askedPauses = 30
	// burnPause is the pause of a message with a job that is no longer retried. It is short, so
	// that the message soon becomes a dead letter.
	burnPause = time.Second
)

var (
	errBusy         = errors.New("another invocation is submitting this take")
	errNoTime       = errors.New("not enough time left in this invocation")
	errOldSession   = errors.New("URLs that this process signs now would expire too soon; another process submits the job")
	errChanging     = errors.New("the files keep changing")
	errRetriesEnded = errors.New("the job is held, and is no longer retried")
)

// heldError is returned for a job or a file that is held, and for a take whose record cannot be
// read, so that the queue delivers the message again.
type heldError struct {
	code       problem.Code
	retryAfter time.Duration // the pause that RunComfy asks for; 0 if RunComfy asks for none
}

func (e *heldError) Error() string { return "held: " + string(e.code) }

// outcome holds an error for each step that is not finished.
type outcome []error

// add adds the error of one step, which may be nil.
func (o *outcome) add(err error) {
	if err != nil {
		*o = append(*o, err)
	}
}

// failed reports whether a step failed. heldError, errBusy and errRetriesEnded are not failures.
func (o outcome) failed() bool {
	return slices.ContainsFunc(o, func(err error) bool {
		_, held := errors.AsType[*heldError](err)
		return !held && !errors.Is(err, errBusy) && !errors.Is(err, errRetriesEnded)
	})
}

// overBudget reports whether a cap of the day holds a job.
func (o outcome) overBudget() bool {
	return slices.ContainsFunc(o, func(err error) bool {
		held, ok := errors.AsType[*heldError](err)
		return ok && held.code == problem.OverBudget
	})
}

// retryAfter returns the longest pause that RunComfy asks for.
func (o outcome) retryAfter() (longest time.Duration) {
	for _, err := range o {
		if held, ok := errors.AsType[*heldError](err); ok {
			longest = max(longest, held.retryAfter)
		}
	}
	return longest
}

// postpone sets when the queue delivers an unfinished message again (see pause). If SQS
// refuses, the queue delivers the message after the queue's visibility timeout.
func (h *Handler) postpone(ctx context.Context, m message, out outcome) {
	pause := h.pause(out, m.receives)
	if m.receipt == "" || pause == 0 {
		return
	}
	if err := h.Queue.Postpone(ctx, m.receipt, pause); err != nil {
		slog.WarnContext(ctx, "message not postponed", "message_id", m.id, "err", err)
	}
}

// pause returns how long an unfinished message waits for its next delivery, or 0 for the
// visibility timeout of the queue. A random part spreads the pauses of many messages.
func (h *Handler) pause(out outcome, receives int) time.Duration {
	after := out.retryAfter()
	switch {
	case errors.Is(errors.Join(out...), errRetriesEnded):
		return burnPause
	case after > 0 && receives <= askedPauses:
		return after + time.Duration(h.Jitter()*float64(min(after, basePause)))
	case receives <= growingPauses:
		return time.Duration((0.25 + 0.75*h.Jitter()) * float64(basePause<<max(receives-1, 0)))
	default:
		return 0
	}
}
