package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// settleTime is how long Cancel waits for the cancel function to settle an execution
// that was stopped. Lambda's last retry of a failed call comes after about three minutes.
const settleTime = 4 * time.Minute

// readEvery is how often Cancel reads a record while it waits.
const readEvery = 200 * time.Millisecond

// StateError says why an action, such as a cancel, a redrive, a review or a download, was not done,
// or why it is not known whether it was.
type StateError struct {
	Reason string

	// Idle is true if there is nothing to cancel or to redrive. A command for all names of a
	// folder then ignores the name.
	Idle bool
}

func (e *StateError) Error() string { return e.Reason }

// SubmittedTakes returns the records of a name's takes, oldest first. If there are none, the
// error says why: *NoJobError or *StateError.
func (c *Client) SubmittedTakes(ctx context.Context, name string) ([]ledger.Record, error) {
	takes, err := c.Takes(ctx, name)
	if err != nil || len(takes) > 0 {
		return takes, err
	}
	st, err := c.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	if st.State.Claimed() {
		return nil, &StateError{Reason: fmt.Sprintf("%s is %s, but the record of its take, %s, is not in the bucket", name, st.State, ledger.RecordKey(name, st.Take))}
	}
	return nil, &StateError{Reason: fmt.Sprintf("nothing was submitted for %s: it is %s", name, Describe(st.Status)), Idle: true}
}

// Describe returns the state, code, reason and remedy of a status in one line. For a file that other
// jobs use, it returns the names of at most ten.
func Describe(st ledger.Status) string {
	if st.State == ledger.Used {
		const most = 10
		names := slices.Clone(st.Jobs[:min(len(st.Jobs), most)])
		if more := len(st.Jobs) - most; more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		return "used by " + strings.Join(names, ", ")
	}
	if st.Code == "" {
		return string(st.State)
	}
	return fmt.Sprintf("%s (%s): %s. %s", st.State, st.Code, st.Reason, st.Remedy)
}

func (c *Client) describeTake(rec ledger.Record) string { return Describe(c.Ledger.TakeStatus(rec)) }

// Cancel cancels the takes of a name that have not ended, as a deletion of the name's files does.
// It calls the function say with each step. The error is nil only if all these takes are cancelled.
// If there is no such take, the error is *StateError, or *NoJobError if no job has the name.
func (c *Client) Cancel(ctx context.Context, name string, say func(string)) error {
	takes, err := c.SubmittedTakes(ctx, name)
	if err != nil {
		return err
	}
	newest := takes[len(takes)-1]
	open := slices.DeleteFunc(takes, func(rec ledger.Record) bool { return rec.State.Ended() })
	if len(open) == 0 {
		return &StateError{Reason: fmt.Sprintf("%s has already ended: it is %s", newest.Name, c.describeTake(newest)), Idle: true}
	}
	var errs []error
	for _, rec := range open {
		errs = append(errs, c.cancelTake(ctx, say, rec))
	}
	return errors.Join(errs...)
}

// cancelTake stops a take's execution. The cancel function then cancels the job at
// RunComfy. If it is too late to cancel the job, the job is paid for. In this case, cancelTake
// redrives the execution, which archives the output.
func (c *Client) cancelTake(ctx context.Context, say func(string), rec ledger.Record) error {
	arn := c.Ledger.ExecutionARN(rec.Name, rec.Take)
	_, err := c.States.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: &arn})
	if err != nil {
		return c.explainARN("stop the execution of "+rec.Name, arn, err)
	}
	say(fmt.Sprintf("stopped the execution of %s; lipdrop is asking RunComfy to cancel the job", rec.Name))
	if rec, err = c.waitUntilEnded(ctx, rec); err != nil {
		return err
	}
	switch {
	case rec.State == ledger.Cancelled:
		say(fmt.Sprintf("%s: %s", rec.Name, c.describeTake(rec)))
		return nil
	case rec.Code == problem.ExecutionStopped:
		err := c.redriveTake(ctx, rec)
		if state, ok := errors.AsType[*StateError](err); err != nil && (!ok || !state.Idle) { // if Idle, another person has redriven it
			return err
		}
		return &StateError{Reason: fmt.Sprintf("it was too late to cancel %s: the job is paid for, so its execution continues and the output will be archived. Until then, its status may say failed", rec.Name)}
	default:
		return &StateError{Reason: fmt.Sprintf("%s was not cancelled: it is %s", rec.Name, c.describeTake(rec))}
	}
}

// waitUntilEnded waits until the take of a stopped execution has ended.
func (c *Client) waitUntilEnded(ctx context.Context, rec ledger.Record) (ledger.Record, error) {
	for deadline := time.Now().Add(settleTime); !rec.State.Ended(); {
		if time.Now().After(deadline) {
			return rec, &StateError{Reason: fmt.Sprintf("%s is still %s after %s; its status will say how it ended", rec.Name, rec.State, settleTime)}
		}
		if err := workflow.Sleep(ctx, readEvery); err != nil {
			return rec, err
		}
		latest, err := c.Ledger.Get(ctx, rec.Name, rec.Take)
		if err != nil {
			return rec, c.Explain("read the record of "+rec.Name, ledger.RecordKey(rec.Name, rec.Take), err)
		}
		rec = latest
	}
	return rec, nil
}

// Redrive continues the execution of a failed take where it failed, and returns the
// take's record. It submits nothing again. If the parameter take is empty, takeToRedrive
// chooses the take. isNewest reports whether rec is the name's newest take.
func (c *Client) Redrive(ctx context.Context, name, take string) (rec ledger.Record, isNewest bool, err error) {
	takes, err := c.SubmittedTakes(ctx, name)
	if err != nil {
		return ledger.Record{}, false, err
	}
	rec, ok := takeToRedrive(takes, take)
	if !ok {
		return rec, false, &StateError{Reason: fmt.Sprintf("%s has no take %s; its takes are %s", rec.Name, take, strings.Join(takesOf(takes), ", "))}
	}
	if rec.State.Ended() && rec.State != ledger.Failed {
		return rec, false, &StateError{Reason: fmt.Sprintf("%s has not failed: it is %s", rec.Name, c.describeTake(rec)), Idle: true}
	}
	return rec, rec.Take == takes[len(takes)-1].Take, c.redriveTake(ctx, rec)
}

// takeToRedrive returns the wanted take of a name or, if wanted is empty, the newest take
// that failed. If no record says failed, it returns the newest take. The execution of that
// take may have failed although the record does not say so yet: the event of the failure may
// have been lost. If the wanted take does not exist, it returns the newest take and false.
func takeToRedrive(takes []ledger.Record, wanted string) (ledger.Record, bool) {
	newest := takes[len(takes)-1]
	for _, rec := range slices.Backward(takes) {
		if rec.Take == wanted || wanted == "" && rec.State == ledger.Failed {
			return rec, true
		}
	}
	return newest, wanted == ""
}

func takesOf(records []ledger.Record) []string {
	var takes []string
	for _, rec := range records {
		takes = append(takes, rec.Take)
	}
	return takes
}

func (c *Client) redriveTake(ctx context.Context, rec ledger.Record) error {
	arn := c.Ledger.ExecutionARN(rec.Name, rec.Take)
	_, err := c.States.RedriveExecution(ctx, &sfn.RedriveExecutionInput{ExecutionArn: &arn})
	if refused, ok := errors.AsType[*types.ExecutionNotRedrivable](err); ok {
		if strings.Contains(refused.ErrorMessage(), "RUNNING") { // the record may still say failed
			return &StateError{Reason: rec.Name + " needs no redrive: its execution is running", Idle: true}
		}
		st := c.Ledger.TakeStatus(rec)
		if !rec.NotCharged {
			st.Remedy = fmt.Sprintf("If RunComfy's page still shows the job's result, download it there. Otherwise upload %s again, which submits the job again and may charge again.", rec.Restart().File())
		}
		return &StateError{Reason: fmt.Sprintf("%s cannot be redriven: %s; it is %s", rec.Name, strings.TrimSuffix(refused.ErrorMessage(), "."), Describe(st))}
	}
	return c.explainARN("redrive the execution of "+rec.Name, arn, err)
}
