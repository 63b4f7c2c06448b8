package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type cancelCmd struct {
	target
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

type redriveCmd struct {
	target
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

// settleTime is how long a command waits for the cancel function to settle an
// execution that was stopped.
const settleTime = time.Minute

// takes returns the records of a name's takes, oldest first, or why there are
// none. The status would not do: it may be about a newer drop that is no take.
func (d *deployment) takes(ctx context.Context, name string) ([]ledger.Record, error) {
	name = norm.NFC.String(name)
	takes, err := d.ledger.Takes(ctx, name)
	if err != nil || len(takes) > 0 {
		return takes, err
	}
	st, err := d.bucket.status(ctx, name)
	if err != nil {
		return nil, err
	}
	if st.State == "" {
		return nil, fmt.Errorf("there is no job named %s; the name is the key below inbox/, without its suffix", name)
	}
	return nil, fmt.Errorf("%s has not been submitted: it is %s", name, describeStatus(st))
}

// describe returns a take's state in a line.
func (d *deployment) describe(rec ledger.Record) string {
	return describeStatus(d.ledger.TakeStatus(rec))
}

func (d *deployment) executionARN(rec ledger.Record) *string {
	arn := workflow.ExecutionARN(d.machineARN, workflow.ExecutionName(rec.Name, rec.Take))
	return &arn
}

// Run cancels every take of a name that is under way, as the deletion of its
// files does. The error is nil only when each is cancelled.
func (c *cancelCmd) Run(ctx context.Context, out io.Writer) error {
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	takes, err := d.takes(ctx, c.Name)
	if err != nil {
		return err
	}
	newest := takes[len(takes)-1]
	open := slices.DeleteFunc(takes, func(rec ledger.Record) bool { return rec.State.Ended() })
	if len(open) == 0 {
		return fmt.Errorf("%s has ended already: it is %s", newest.Name, d.describe(newest))
	}
	var errs []error
	for _, rec := range open {
		errs = append(errs, d.cancel(ctx, out, rec))
	}
	return errors.Join(errs...)
}

// cancel stops a take's execution: the cancel function then cancels the job at
// RunComfy. A job that cannot be cancelled any more is paid for, so it is
// redriven and its result archived.
func (d *deployment) cancel(ctx context.Context, out io.Writer, rec ledger.Record) error {
	_, err := d.states.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: d.executionARN(rec)})
	if err != nil {
		return fmt.Errorf("stop the execution of %s: %w", rec.Name, inWords(err))
	}
	printf(out, "the execution of %s is stopped; RunComfy is being asked to cancel the job\n", rec.Name)
	if rec, err = d.settled(ctx, rec); err != nil {
		return err
	}
	switch {
	case rec.State == ledger.Cancelled:
		printf(out, "%s: %s\n", rec.Name, d.describe(rec))
		return nil
	case rec.Code == ledger.ExecutionStopped:
		if err := d.redrive(ctx, rec); err != nil {
			return err
		}
		return fmt.Errorf("it was too late to cancel %s: the job is paid for, so its execution goes on and its result is archived", rec.Name)
	default:
		return fmt.Errorf("%s was not cancelled: it is %s", rec.Name, d.describe(rec))
	}
}

// settled waits for the end of a take whose execution was stopped.
func (d *deployment) settled(ctx context.Context, rec ledger.Record) (ledger.Record, error) {
	for deadline := time.Now().Add(settleTime); !rec.State.Ended(); {
		if time.Now().After(deadline) {
			return rec, fmt.Errorf("%s is still %s after %s; its status tells when it is settled", rec.Name, rec.State, settleTime)
		}
		select {
		case <-ctx.Done():
			return rec, ctx.Err()
		case <-time.After(lookEvery):
		}
		var err error
		if rec, err = d.ledger.Get(ctx, rec.Name, rec.Take); err != nil {
			return rec, err
		}
	}
	return rec, nil
}

// Run has the execution of a name's newest take go on where it failed. It
// submits nothing again.
func (c *redriveCmd) Run(ctx context.Context, out io.Writer) error {
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	takes, err := d.takes(ctx, c.Name)
	if err != nil {
		return err
	}
	rec := takes[len(takes)-1]
	if rec.State.Ended() && rec.State != ledger.Failed {
		return fmt.Errorf("%s has not failed: it is %s", rec.Name, d.describe(rec))
	}
	// Where the record is open its execution may have failed all the same, and
	// the event of that be lost.
	if err := d.redrive(ctx, rec); err != nil {
		return err
	}
	printf(out, "the execution of %s goes on where it failed; %s tells the outcome\n", rec.Name, ledger.StatusKey(rec.Name))
	return nil
}

func (d *deployment) redrive(ctx context.Context, rec ledger.Record) error {
	_, err := d.states.RedriveExecution(ctx, &sfn.RedriveExecutionInput{ExecutionArn: d.executionARN(rec)})
	if not, ok := errors.AsType[*types.ExecutionNotRedrivable](err); ok {
		return fmt.Errorf("%s is %s, and cannot be redriven: %s", rec.Name, d.describe(rec), not.ErrorMessage())
	}
	if err != nil {
		return fmt.Errorf("redrive the execution of %s: %w", rec.Name, inWords(err))
	}
	return nil
}

// inWords returns an error of Step Functions as a person is told it.
func inWords(err error) error {
	if _, ok := errors.AsType[*types.ExecutionDoesNotExist](err); ok {
		return errors.New("there is none; a take that is being submitted gets one in a moment")
	}
	return err
}
