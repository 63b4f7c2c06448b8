package handler

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

var errSubmitting = errors.New("the take is being submitted")

// handleDeletion handles the deletion of an uploaded file. If the file is in the bucket again,
// handleDeletion does nothing. Otherwise it cancels each unfinished take for which CancelledBy
// returns true. A failed take may be unfinished, because its execution may have been redriven.
// A failure that RunComfy reported (JobFailed) is final: a redrive cannot change it.
func (h *Handler) handleDeletion(ctx context.Context, key string, c *call) error {
	name, prefix := drop.ParseKey(key).Owns()
	if name == "" {
		return nil
	}
	if exists, err := h.Ledger.Bucket.Exists(ctx, key); exists || err != nil {
		return err
	}
	names := []string{name}
	if prefix != "" {
		more, err := h.Ledger.Names(ctx, prefix)
		if err != nil {
			return err
		}
		names = append(names, more...)
	}
	var errs []error
	for _, name := range names {
		takes, err := h.Ledger.Takes(ctx, name)
		errs = append(errs, err)
		for _, rec := range takes {
			switch {
			case !rec.CancelledBy(key):
			case !rec.State.Ended(), rec.State == ledger.Failed && rec.Code != problem.JobFailed:
				errs = append(errs, h.cancelTake(ctx, rec, key, c))
			case rec.Code == problem.CancelledByDeletion && h.Now().Sub(rec.Times.Ended) < sweepBack:
				errs = append(errs, h.stopExecution(ctx, rec)) // an earlier attempt may have failed to stop it
			}
		}
	}
	return errors.Join(errs...)
}

// cancelTake cancels the job of a take because one of its files was deleted. A failed take
// stays failed. If RunComfy can no longer cancel the job, the take goes on, so that a paid output
// is archived.
func (h *Handler) cancelTake(ctx context.Context, rec ledger.Record, key string, c *call) error {
	if rec.State == ledger.Submitting {
		if !rec.ClaimEnded(h.Now()) {
			return errSubmitting
		}
		return nil // submit or the sweep records that the take's outcome is unknown
	}
	end := ending{
		state: ledger.Cancelled, code: problem.CancelledByDeletion,
		reason: key + " was deleted, and RunComfy cancelled the job before it started", notCharged: true,
	}
	if rec.State == ledger.Failed {
		end.state, end.code = ledger.Failed, problem.ExecutionStopped
		if running, err := h.isRunning(ctx, rec); !running {
			return err
		}
	}
	state, err := h.cancelJob(ctx, rec, c)
	if err != nil {
		return h.warn(ctx, rec, key+" was deleted", err)
	}
	if state != runcomfy.ResultCancelled {
		rec, err = h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
			if !r.State.Ended() {
				r.Code, r.Reason = problem.TooLateToCancel, key+" was deleted, but RunComfy could no longer cancel the job"
			}
		})
		if err != nil {
			return err
		}
		return h.Ledger.PostTake(ctx, rec)
	}
	// Record the end first. Otherwise settle might record only that the execution was stopped.
	if err := h.recordEnd(ctx, rec, end); err != nil {
		return err
	}
	return h.stopExecution(ctx, rec)
}

func (h *Handler) isRunning(ctx context.Context, rec ledger.Record) (bool, error) {
	exec, err := h.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(h.Ledger.ExecutionARN(rec.Name, rec.Take))})
	if _, gone := errors.AsType[*types.ExecutionDoesNotExist](err); gone {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("describe the execution: %w", err)
	}
	return exec.Status == types.ExecutionStatusRunning, nil
}

// deletedError is the error of an execution that was stopped because of a deletion.
const deletedError = "Deleted"

// stopExecution stops the execution of a take. It returns no error if the execution
// has ended or was never started.
func (h *Handler) stopExecution(ctx context.Context, rec ledger.Record) error {
	_, err := h.States.StopExecution(ctx, &sfn.StopExecutionInput{
		ExecutionArn: aws.String(h.Ledger.ExecutionARN(rec.Name, rec.Take)),
		Error:        aws.String(deletedError), Cause: aws.String("a dropped file was deleted"),
	})
	if _, gone := errors.AsType[*types.ExecutionDoesNotExist](err); gone || err == nil {
		return nil
	}
	return fmt.Errorf("stop the execution: %w", err)
}
