package handler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// sweepBack is how far back the hourly sweep looks: AWS delivers status
	// changes by best effort, and two dozen sweeps make up for a lost one.
	sweepBack = 24 * time.Hour

	// listBack is how far back the sweep reads the list of executions, which is
	// ordered by their start. An execution can be redriven for 14 days after it
	// ended, and lasts a few days.
	listBack = 21 * 24 * time.Hour

	// giveUpAfter is when a job is settled even though RunComfy could not be
	// asked to cancel it: before the sweep no longer sees its execution.
	giveUpAfter = 20 * time.Hour

	// jobCancelled is the name of the error of an execution whose job was
	// cancelled, workflow.JobCancelled.
	jobCancelled = "JobCancelled"
)

var errSubmitting = errors.New("the take is being submitted at this moment")

// settle ends the take of an execution that failed, timed out or was stopped
// when it had been redriven so many times. It describes the execution as it is
// now: a late event of one that was redriven since changes nothing.
func (h *Handler) settle(ctx context.Context, executionARN string, redrives int32, p *pass) error {
	exec, err := h.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &executionARN})
	if err != nil {
		return fmt.Errorf("describe the execution: %w", err)
	}
	now := aws.ToInt32(exec.RedriveCount)
	ended := exec.Status == types.ExecutionStatusFailed || exec.Status == types.ExecutionStatusTimedOut || exec.Status == types.ExecutionStatusAborted
	switch {
	case exec.Status == types.ExecutionStatusSucceeded, now > redrives && !ended:
		return nil
	case !ended, now < redrives:
		// DescribeExecution is eventually consistent. Lambda tries again.
		return fmt.Errorf("the execution ended after %d redrives, and is still described as %s after %d", redrives, exec.Status, now)
	}
	job, err := jobOf(aws.ToString(exec.Input))
	if err != nil {
		return err
	}
	rec, err := h.Ledger.Get(ctx, job.Name, job.Take)
	if err != nil {
		return err
	}
	if rec.State.Ended() && !failedAnew(rec, exec) {
		return h.Ledger.PostTake(ctx, rec)
	}
	cancelled, err := h.cancelAtRunComfy(ctx, rec, p)
	if err != nil && h.Now().Sub(aws.ToTime(exec.StopDate)) < giveUpAfter {
		return err
	}
	if cancelled && exec.Status == types.ExecutionStatusAborted && !rec.State.Ended() {
		return h.end(ctx, rec, ledger.Cancelled, problem.CancelledByStop, "the execution was stopped, and RunComfy cancelled the job before it started")
	}
	code, reason := why(exec)
	switch {
	case err != nil:
		reason += "; RunComfy could not be asked to cancel the job: " + err.Error()
	case cancelled:
		reason += "; RunComfy cancelled the job before it started"
	case rec.State != ledger.Archiving:
		reason += "; RunComfy could not cancel the job any more, so it is paid for"
	}
	return h.end(ctx, rec, ledger.Failed, code, reason)
}

// failedAnew reports whether a redriven execution ended badly again, for another
// reason than the record names. Archive records what RunComfy says of its job,
// and that stays: RunComfy may have forgotten the job since.
func failedAnew(rec ledger.Record, exec *sfn.DescribeExecutionOutput) bool {
	code, _ := why(exec)
	return rec.State == ledger.Failed && code != rec.Code && code != problem.JobFailed && rec.Code != problem.JobFailed &&
		aws.ToString(exec.Error) != jobCancelled && aws.ToTime(exec.StopDate).After(rec.Times.Ended)
}

// why returns the code and the reason of an execution's bad end.
func why(exec *sfn.DescribeExecutionOutput) (problem.Code, string) {
	name, cause := aws.ToString(exec.Error), causeOf(aws.ToString(exec.Cause))
	code := workflow.CodeOf(name)
	known := code.State() == string(ledger.Failed)
	if !known {
		code = problem.ExecutionFailed
	}
	switch {
	case exec.Status == types.ExecutionStatusAborted:
		return problem.ExecutionStopped, "the execution was stopped"
	case exec.Status == types.ExecutionStatusTimedOut:
		return problem.ExecutionTimedOut, "the execution passed its timeout"
	case known && cause != "":
		return code, cause
	case cause == "":
		return code, "the execution failed with " + name
	default:
		return code, "the execution failed with " + name + ": " + cause
	}
}

// sweep settles the unsuccessful executions of the last day, then recovers what
// submit left undone.
func (h *Handler) sweep(ctx context.Context, p *pass) error {
	takes, err := h.Ledger.Written(ctx, h.Now().Add(-recoverUntil))
	return errors.Join(err, h.settleAll(ctx, takes, p), h.recoverTakes(ctx, takes))
}

// settleAll settles the unsuccessful executions of the last day, the oldest
// first: those are settled even when RunComfy does not respond, before the sweep
// no longer sees them. When the time of the function is over the next hour goes on.
func (h *Handler) settleAll(ctx context.Context, takes []ledger.TakeID, p *pass) error {
	takeOf := map[string]ledger.TakeID{} // by the ARN of the execution
	for _, id := range takes {
		takeOf[workflow.ExecutionARN(h.MachineARN, workflow.ExecutionName(id.Name, id.Take))] = id
	}
	ended, err := h.unsuccessful(ctx)
	errs := []error{err}
	for _, exec := range ended {
		if !h.timeFor(ctx) {
			errs = append(errs, errNoTime)
			break
		}
		if id, ok := takeOf[aws.ToString(exec.ExecutionArn)]; ok {
			settled, err := h.settledBefore(ctx, id, exec)
			if errs = append(errs, err); settled {
				continue
			}
		}
		if err := h.settle(ctx, aws.ToString(exec.ExecutionArn), aws.ToInt32(exec.RedriveCount), p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", aws.ToString(exec.Name), err))
		}
	}
	return errors.Join(errs...)
}

// settledBefore reports whether the record of an execution's take says how it
// ended, and then posts its status. The execution is not described for this.
func (h *Handler) settledBefore(ctx context.Context, id ledger.TakeID, exec types.ExecutionListItem) (bool, error) {
	rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
	if err != nil || !rec.State.Ended() {
		return false, nil // settle decides
	}
	if rec.State == ledger.Failed && rec.Code != problem.JobFailed && aws.ToTime(exec.StopDate).After(rec.Times.Ended) {
		return false, nil // it may have failed again after a redrive
	}
	return true, h.Ledger.PostTake(ctx, rec)
}

// unsuccessful returns the executions that ended badly within the last day, the
// oldest end first. With an error it returns those that it found.
func (h *Handler) unsuccessful(ctx context.Context) (found []types.ExecutionListItem, err error) {
	for _, status := range []types.ExecutionStatus{types.ExecutionStatusFailed, types.ExecutionStatusTimedOut, types.ExecutionStatusAborted} {
		pages := sfn.NewListExecutionsPaginator(h.States, &sfn.ListExecutionsInput{StateMachineArn: &h.MachineARN, StatusFilter: status, MaxResults: 1000})
		for more := true; more && pages.HasMorePages(); {
			page, listErr := pages.NextPage(ctx)
			if listErr != nil {
				err = errors.Join(err, fmt.Errorf("list executions: %w", listErr))
				break
			}
			for _, exec := range page.Executions {
				if h.Now().Sub(aws.ToTime(exec.StopDate)) <= sweepBack {
					found = append(found, exec)
					continue
				}
				more = h.Now().Sub(aws.ToTime(exec.StartDate)) < listBack
			}
		}
	}
	slices.SortStableFunc(found, func(a, b types.ExecutionListItem) int {
		return aws.ToTime(a.StopDate).Compare(aws.ToTime(b.StopDate))
	})
	return found, err
}

// deleted cancels the open takes that use a dropped file which is gone.
func (h *Handler) deleted(ctx context.Context, key string, p *pass) error {
	name, further := drop.ParseKey(key).Owns()
	if name == "" {
		return nil
	}
	if _, err := h.Files.Head(ctx, key); !errors.Is(err, bucket.ErrNotFound) {
		return err // there again, or not known
	}
	names := []string{name}
	if further != "" {
		more, err := h.Ledger.Names(ctx, further)
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
			case !rec.Uses(key):
			case !rec.State.Ended():
				errs = append(errs, h.unwanted(ctx, rec, key, p))
			case rec.Code == problem.CancelledByDeletion && h.Now().Sub(rec.Times.Ended) < sweepBack:
				errs = append(errs, h.stop(ctx, rec)) // an earlier try may have failed to
			}
		}
	}
	return errors.Join(errs...)
}

// unwanted cancels an open take because a file of it was deleted. What
// RunComfy cannot cancel any more is paid for, goes on and is archived.
func (h *Handler) unwanted(ctx context.Context, rec ledger.Record, key string, p *pass) error {
	if rec.State == ledger.Submitting {
		if !rec.ClaimEnded(h.Now()) {
			return errSubmitting
		}
		return nil // submit finds its outcome unknown
	}
	cancelled, err := h.cancelAtRunComfy(ctx, rec, p)
	if err != nil {
		return err
	}
	if !cancelled {
		rec, err = h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
			if !r.State.Ended() {
				r.Code, r.Reason = problem.TooLateToCancel, key+" was deleted, but RunComfy could not cancel the job any more"
			}
			return nil
		})
		if err != nil {
			return err
		}
		return h.Ledger.PostTake(ctx, rec)
	}
	// Recorded before the execution is stopped: its own event then finds an end.
	err = h.end(ctx, rec, ledger.Cancelled, problem.CancelledByDeletion, key+" was deleted, and RunComfy cancelled the job before it started")
	if err != nil {
		return err
	}
	return h.stop(ctx, rec)
}

// stop stops the execution of a take. One that has ended, or that was never
// started, needs nothing.
func (h *Handler) stop(ctx context.Context, rec ledger.Record) error {
	_, err := h.States.StopExecution(ctx, &sfn.StopExecutionInput{
		ExecutionArn: aws.String(workflow.ExecutionARN(h.MachineARN, workflow.ExecutionName(rec.Name, rec.Take))),
		Error:        aws.String("Deleted"), Cause: aws.String("a dropped file was deleted"),
	})
	if _, gone := errors.AsType[*types.ExecutionDoesNotExist](err); gone || err == nil {
		return nil
	}
	return fmt.Errorf("stop the execution: %w", err)
}
