// Package handler stops paying for jobs that nobody waits for, and settles the
// records of executions that ended badly. It decides on the outcome that
// RunComfy tells, and never overwrites a success.
package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler settles what ended badly.
type Handler struct {
	Bucket, MachineARN string

	Ledger *ledger.Store
	Files  *bucket.Bucket
	API    *runcomfy.Client
	States Executions
	Now    func() time.Time
}

// Executions is what cancel needs of Step Functions.
type Executions interface {
	workflow.Starter
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	ListExecutions(context.Context, *sfn.ListExecutionsInput, ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error)
	StopExecution(context.Context, *sfn.StopExecutionInput, ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error)
}

// event is what EventBridge sends: one of three kinds.
type event struct {
	DetailType string `json:"detail-type"`
	Detail     struct {
		// of an execution's status change
		ExecutionARN string `json:"executionArn"`
		RedriveCount int32  `json:"redriveCount"`
		// of a deleted object
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key string `json:"key"`
		} `json:"object"`
		Reason string `json:"reason"`
	} `json:"detail"`
}

// lifecycleReason is the reason of a deletion that a lifecycle rule made: it
// cancels nothing.
const lifecycleReason = "Lifecycle Expiration"

// A pass is one call of the function. It may be about many jobs.
type pass struct {
	// silent is set when RunComfy did not respond to a call: the next one would
	// take as long.
	silent bool
}

// errSilent says that RunComfy was not asked, because it did not respond before.
var errSilent = errors.New("RunComfy did not respond to an earlier call")

// Handle settles one event of EventBridge, or a batch of deletions from their
// queue. After an error Lambda calls it again with the same event, and the
// hourly sweep does so after that. It returns the messages of a batch that it
// could not finish: the queue delivers those again for hours.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(raw, &batch); err != nil {
		return events.SQSEventResponse{}, fmt.Errorf("event: %w", err)
	}
	if len(batch.Records) == 0 {
		return events.SQSEventResponse{}, h.event(ctx, raw, &pass{})
	}
	var response events.SQSEventResponse
	p := &pass{}
	for _, m := range batch.Records {
		err := errNoTime
		if h.timeFor(ctx) {
			err = h.event(ctx, []byte(m.Body), p)
		}
		if err != nil {
			slog.WarnContext(ctx, "deletion not finished", "message_id", m.MessageId, "err", err)
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	return response, nil
}

// callTime is how long one job may take: two calls of RunComfy that do not
// respond, and a few of S3 and Step Functions.
const callTime = 2*runcomfy.Timeout + 5*time.Second

var errNoTime = errors.New("no time is left in this call of the function")

// timeFor reports whether there is time for another job.
func (h *Handler) timeFor(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(h.Now()) >= callTime
}

// event settles one event of EventBridge.
func (h *Handler) event(ctx context.Context, raw []byte, p *pass) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	switch e.DetailType {
	case "Step Functions Execution Status Change":
		return h.settle(ctx, e.Detail.ExecutionARN, e.Detail.RedriveCount, p)
	case "Object Deleted":
		if e.Detail.Bucket.Name != h.Bucket || e.Detail.Reason == lifecycleReason {
			return nil
		}
		return h.deleted(ctx, e.Detail.Object.Key, p)
	case "Scheduled Event":
		return h.sweep(ctx, p)
	default:
		return fmt.Errorf("event: unknown detail-type %q", e.DetailType)
	}
}

// cancelAtRunComfy asks to cancel a take's job. It reports whether the job is
// cancelled; that of a record that is archiving has ended already.
func (h *Handler) cancelAtRunComfy(ctx context.Context, rec ledger.Record, p *pass) (bool, error) {
	if rec.State == ledger.Archiving || rec.RequestID == "" {
		return false, nil
	}
	if p.silent {
		return false, errSilent
	}
	cancelled, err := h.cancelRequest(ctx, rec.RequestID)
	answered, ok := errors.AsType[*runcomfy.Error](err)
	p.silent = err != nil && !ok
	if ok && answered.Kind() == runcomfy.KindUnknownRequest {
		return false, nil // there is nothing to cancel
	}
	if err != nil {
		return false, fmt.Errorf("cancel request %s: %w", rec.RequestID, err)
	}
	slog.InfoContext(ctx, "asked to cancel", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID, "cancelled", cancelled)
	return cancelled, nil
}

// cancelRequest asks to cancel a request. One that was cancelled already, by a
// call whose answer was lost, is not cancellable either: its result tells.
func (h *Handler) cancelRequest(ctx context.Context, requestID string) (bool, error) {
	outcome, err := h.API.Cancel(ctx, requestID)
	if err != nil || outcome == runcomfy.OutcomeCancelled {
		return err == nil, err
	}
	result, err := h.API.Result(ctx, requestID)
	return err == nil && result.State == runcomfy.ResultCancelled, err
}

// end records the end of a take, unless it has ended meanwhile. Of one that had
// ended as failed when it was read, it records why it failed again.
func (h *Handler) end(ctx context.Context, rec ledger.Record, state ledger.State, code problem.Code, reason string) error {
	read := rec.Revision
	rec, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		if r.State.Ended() && r.Revision != read {
			return nil
		}
		r.State, r.Code, r.Reason = state, code, reason
		r.Times.Ended = h.Now().UTC().Truncate(time.Millisecond)
		return nil
	})
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "settled", "name", rec.Name, "take", rec.Take, "state", rec.State, "code", rec.Code)
	return h.Ledger.PostTake(ctx, rec)
}

// causeOf returns the message in the cause of a failed Lambda task.
func causeOf(cause string) string {
	var failed struct {
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(cause), &failed) == nil && failed.Message != "" {
		return failed.Message
	}
	return cause
}

// jobOf returns the job that an execution was started with.
func jobOf(input string) (workflow.Job, error) {
	var job workflow.Job
	if err := json.Unmarshal([]byte(input), &job); err != nil || job.Name == "" || job.Take == "" {
		return job, errors.New("the execution's input is not of this project")
	}
	return job, nil
}
