// Package handler is the cancel function. It cancels jobs whose files were deleted,
// and settles executions that failed, timed out or were stopped. Every hour, it finishes what
// the functions left undone (see sweep). Only RunComfy's responses decide whether a job counts as
// cancelled. A success is never overwritten.
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

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler handles the events of EventBridge.
type Handler struct {
	Ledger *ledger.Store
	API    *runcomfy.Client
	States StepFunctions
	Books  *budget.Books
	Now    func() time.Time

	// MinBalance is the balance in US dollars below which an alarm goes off. With 0, the
	// sweep does not ask RunComfy for the balance.
	MinBalance float64
}

// StepFunctions is the part of the Step Functions client that Handler uses.
type StepFunctions interface {
	workflow.Starter
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	ListExecutions(context.Context, *sfn.ListExecutionsInput, ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error)
	StopExecution(context.Context, *sfn.StopExecutionInput, ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error)
}

type event struct {
	DetailType string `json:"detail-type"`
	Detail     struct {
		drop.EventDetail // set if an object was deleted
		// set if an execution's status changed
		ExecutionARN string `json:"executionArn"`
		RedriveCount int32  `json:"redriveCount"`
	} `json:"detail"`
}

// call is the state of one call of Handle, which may concern many jobs.
type call struct {
	// silent is set after a request to RunComfy could not be made or got no response.
	// The next request might last until its timeout too, so this call sends RunComfy no more requests.
	silent bool
}

var (
	errSilent         = errors.New("an earlier request to RunComfy could not be made or got no response")
	errNoTime         = errors.New("no time is left in this call of the function")
	errUnknownRequest = errors.New("RunComfy does not know the request")
)

// jobTime is how long the work for one job may take: two slow requests to RunComfy, and a few
// to S3 and Step Functions.
const jobTime = 2*runcomfy.Timeout + 5*time.Second

// Handle handles one event of EventBridge, or a batch of deletions from their queue.
// If it does not finish an event, it returns an error, and Lambda retries the event. If the retries
// fail too, the hourly sweep settles an execution that has ended. Handle returns the unfinished
// messages of a batch, which the queue delivers again for hours.
func (h *Handler) Handle(ctx context.Context, raw json.RawMessage) (events.SQSEventResponse, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(raw, &batch); err != nil {
		return events.SQSEventResponse{}, fmt.Errorf("event: %w", err)
	}
	if len(batch.Records) == 0 {
		return events.SQSEventResponse{}, h.handleEvent(ctx, raw, &call{})
	}
	var response events.SQSEventResponse
	c := &call{}
	for _, m := range batch.Records {
		err := errNoTime
		if workflow.HasTime(ctx, h.Now(), jobTime) {
			err = h.handleEvent(ctx, []byte(m.Body), c)
		}
		if err != nil {
			slog.WarnContext(ctx, "deletion not finished", "message_id", m.MessageId, "err", err)
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	return response, nil
}

func (h *Handler) handleEvent(ctx context.Context, raw []byte, c *call) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	switch e.DetailType {
	case "Step Functions Execution Status Change":
		return h.settle(ctx, e.Detail.ExecutionARN, e.Detail.RedriveCount, c)
	case "Object Deleted":
		if e.Detail.Bucket.Name != h.Ledger.Bucket.Name || e.Detail.Expired() {
			return nil
		}
		return h.handleDeletion(ctx, e.Detail.Object.Key, c)
	case "Scheduled Event":
		return h.sweep(ctx, c)
	default:
		return fmt.Errorf("event: unknown detail-type %q", e.DetailType)
	}
}

// cancelJob asks RunComfy to cancel the job of a take, and returns the state of the job.
// If the record has no request id, or is archiving, cancelJob sends no request and returns "". If
// RunComfy reports that the job failed, cancelJob records the failure, because RunComfy may forget
// the job. If RunComfy does not know the job, cancelJob returns errUnknownRequest: RunComfy may
// know the job again later.
func (h *Handler) cancelJob(ctx context.Context, rec ledger.Record, c *call) (runcomfy.ResultStatus, error) {
	if rec.State == ledger.Archiving || rec.RequestID == "" {
		return "", nil
	}
	if c.silent {
		return "", errSilent
	}
	result, err := h.cancelRequest(ctx, rec.RequestID)
	c.silent = isSilent(err)
	if runcomfy.IsKind(err, runcomfy.KindUnknownRequest) {
		return "", errUnknownRequest
	}
	if err != nil {
		return "", fmt.Errorf("cancel request %s: %w", rec.RequestID, err)
	}
	slog.InfoContext(ctx, "asked to cancel", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID, "state", result.State)
	if result.State == runcomfy.ResultFailed {
		err = h.Ledger.RecordEnd(ctx, rec, result)
	}
	return result.State, err
}

// cancelRequest asks RunComfy to cancel a request, and returns the result of the request. If
// RunComfy responds with an error, or that the request is not cancellable, cancelRequest asks for
// the result: the request may have ended, or an earlier call may have cancelled it. If the
// first response is an error, and the second is an error or says that the request has not ended,
// cancelRequest returns the first error.
func (h *Handler) cancelRequest(ctx context.Context, requestID string) (runcomfy.Result, error) {
	outcome, err := h.API.Cancel(ctx, requestID)
	if err == nil && outcome == runcomfy.OutcomeCancelled {
		return runcomfy.Result{State: runcomfy.ResultCancelled}, nil
	}
	if isSilent(err) {
		return runcomfy.Result{}, err
	}
	result, resultErr := h.API.Result(ctx, requestID)
	if err == nil || isSilent(resultErr) || resultErr == nil && result.State.Ended() {
		return result, resultErr
	}
	return runcomfy.Result{}, err
}

// isSilent reports whether an error says that a request could not be made or got no
// response.
func isSilent(err error) bool {
	_, responded := errors.AsType[*runcomfy.Error](err)
	return err != nil && !responded
}

// ending is how a take ended.
type ending struct {
	state      ledger.State
	code       problem.Code
	reason     string
	notCharged bool // RunComfy cancelled the job before the job started
}

// recordEnd records the end of a take, and posts the take's status. If the take has ended since
// rec was read, the recorded end stays, unless archive recorded a cancellation and end says why
// the job was cancelled. If rec is already failed, the new reason replaces the old one. If the
// take is certainly not charged, recordEnd frees its reservation.
func (h *Handler) recordEnd(ctx context.Context, rec ledger.Record, end ending) error {
	read := rec.Revision
	rec, err := h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
		foundByArchive := end.state == ledger.Cancelled && r.State == ledger.Cancelled && r.Code == problem.JobCancelled
		if r.State.Ended() && r.Revision != read && !foundByArchive {
			return
		}
		r.State, r.Code, r.Reason, r.NotCharged = end.state, end.code, end.reason, r.NotCharged || end.notCharged
		r.Times.Ended = ledger.Timestamp(h.Now())
	})
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "settled", "name", rec.Name, "take", rec.Take, "state", rec.State, "code", rec.Code)
	if rec.CostsNothing() {
		_, err := h.Books.Free(ctx, budget.Day(rec.Times.Claimed), func(t budget.Take) bool { return t.Name == rec.Name && t.Take == rec.Take })
		if err != nil {
			// The sweep frees the reservation.
			slog.WarnContext(ctx, "reservation not freed", "name", rec.Name, "take", rec.Take, "err", err)
		}
	}
	return h.Ledger.PostTake(ctx, rec)
}

// warn posts a status that says why a job is to be cancelled, and that err has prevented the
// cancellation so far. It returns err, so that the event is delivered again or the next sweep
// continues.
func (h *Handler) warn(ctx context.Context, rec ledger.Record, why string, err error) error {
	return errors.Join(err, h.Ledger.PostTake(ctx, rec, fmt.Sprintf("%s, but the job is not cancelled yet: %v; lipdrop tries again", why, err)))
}
