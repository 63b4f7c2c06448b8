package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// giveUpAfter is how long the cancel function tries to cancel the job of an
// execution that has ended. After that, the execution is settled even if it is not known
// whether RunComfy cancelled the job. giveUpAfter is shorter than sweepBack, so the sweep still finds
// the execution.
const giveUpAfter = 20 * time.Hour

// believeUnknownAfter is the time from the end of an execution until settle believes RunComfy's
// response that the job is unknown. Until then, RunComfy may know the job again. After a
// RequestLost, settle does not wait, because the execution already has. Lambda tries an event for
// the last time after about three minutes, so believeUnknownAfter must be shorter.
const believeUnknownAfter = 2 * time.Minute

// settle records the end of an execution that failed, timed out or was stopped. redrives
// is how often the execution was redriven before the event of its end. The event may be late,
// so settle reads the present state of the execution. If the execution has succeeded, or was
// redriven since and runs again, settle does nothing.
func (h *Handler) settle(ctx context.Context, executionARN string, redrives int32, c *call) error {
	exec, err := h.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &executionARN})
	if err != nil {
		return fmt.Errorf("describe the execution: %w", err)
	}
	redriven := aws.ToInt32(exec.RedriveCount)
	ended := exec.Status == types.ExecutionStatusFailed || exec.Status == types.ExecutionStatusTimedOut || exec.Status == types.ExecutionStatusAborted
	if exec.Status == types.ExecutionStatusSucceeded || redriven > redrives && !ended {
		return nil
	}
	if !ended || redriven < redrives {
		// DescribeExecution is eventually consistent. Lambda tries again.
		return fmt.Errorf("the execution has ended with redrive count %d, but DescribeExecution still returns %s with redrive count %d", redrives, exec.Status, redriven)
	}
	var job workflow.Job
	if err := json.Unmarshal([]byte(aws.ToString(exec.Input)), &job); err != nil || job.Name == "" || job.Take == "" {
		return errors.New("the input of the execution is not a job of lipdrop")
	}
	rec, err := h.Ledger.GetOrRecreate(ctx, job)
	if err != nil {
		return err
	}
	end := endOf(exec)
	if rec.State.Ended() && !failedAgain(rec, exec, end.code) {
		return h.Ledger.PostTake(ctx, rec)
	}
	state, err := h.cancelJob(ctx, rec, c)
	end.notCharged = state == runcomfy.ResultCancelled
	since := h.Now().Sub(aws.ToTime(exec.StopDate))
	if errors.Is(err, errUnknownRequest) && (end.code == problem.RequestLost || since >= believeUnknownAfter) {
		err = nil // there is nothing to cancel
	}
	if err != nil && (since < giveUpAfter || state != "") { // if state is set, RunComfy has responded, but the response could not be recorded
		return h.warn(ctx, rec, end.reason, err)
	}
	switch {
	case end.notCharged && exec.Status == types.ExecutionStatusAborted && !rec.State.Ended():
		end.state, end.code = ledger.Cancelled, problem.CancelledByStop
		end.reason += ", and RunComfy cancelled the job before it started"
	case err != nil:
		end.reason += "; it is not known whether RunComfy cancelled the job: " + err.Error()
	case end.notCharged:
		end.reason += "; RunComfy cancelled the job before it started"
	case state != "":
		end.reason += "; RunComfy could no longer cancel the job, so it is paid for"
	}
	return h.recordEnd(ctx, rec, end)
}

// mayHaveFailedAgain reports whether an execution that stopped at the given time may have been
// redriven and have failed again, after its take was recorded as failed. It returns false if
// RunComfy cancelled the job. It also returns false if RunComfy reported the failure: a redrive
// cannot change that.
func mayHaveFailedAgain(rec ledger.Record, stopped *time.Time) bool {
	return rec.State == ledger.Failed && rec.Code != problem.JobFailed && !rec.NotCharged && aws.ToTime(stopped).After(rec.Times.Ended)
}

// failedAgain reports whether the end of a redriven execution replaces the reason of a failed
// take. Even a second QueuedTooLong does, because settle then cancels the job if it is still queued.
func failedAgain(rec ledger.Record, exec *sfn.DescribeExecutionOutput, code problem.Code) bool {
	stoppedByPerson := exec.Status == types.ExecutionStatusAborted && aws.ToString(exec.Error) != deletedError
	return mayHaveFailedAgain(rec, exec.StopDate) && code != problem.JobFailed && (code != rec.Code || stoppedByPerson || code == problem.QueuedTooLong)
}

// endOf returns how the take of an unsuccessful execution has failed.
func endOf(exec *sfn.DescribeExecutionOutput) ending {
	switch exec.Status {
	case types.ExecutionStatusAborted:
		return ending{state: ledger.Failed, code: problem.ExecutionStopped, reason: "the execution was stopped"}
	case types.ExecutionStatusTimedOut:
		return ending{state: ledger.Failed, code: problem.ExecutionTimedOut, reason: "the execution exceeded its timeout"}
	}
	name, cause := aws.ToString(exec.Error), aws.ToString(exec.Cause)
	var failed struct { // the cause of a Lambda task
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(cause), &failed) == nil && failed.Message != "" {
		cause = failed.Message
	}
	code, reason := workflow.CodeOf(name), cause
	if !code.In(string(ledger.Failed)) {
		code, reason = problem.ExecutionFailed, ""
	}
	if reason == "" {
		reason = "the execution failed with " + name
		if cause != "" {
			reason += ": " + cause
		}
	}
	return ending{state: ledger.Failed, code: code, reason: reason}
}
