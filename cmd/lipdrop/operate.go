package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

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

// take returns the status of a job that has been submitted, and its execution.
func (d *deployment) take(ctx context.Context, name string) (ledger.Status, string, error) {
	st, err := d.bucket.status(ctx, name)
	switch {
	case err != nil:
		return st, "", err
	case st.State == "":
		return st, "", fmt.Errorf("there is no job named %s; the name is the key below inbox/, without its suffix", name)
	case !st.State.Claimed():
		return st, "", fmt.Errorf("%s has not been submitted: it is %s", name, describeStatus(st))
	}
	return st, workflow.ExecutionARN(d.machineARN, workflow.ExecutionName(name, st.Take)), nil
}

// Run stops a job's execution: the cancel function then cancels the job at
// RunComfy. A job that cannot be cancelled any more is paid for, so it is
// redriven and its result archived.
func (c *cancelCmd) Run(ctx context.Context, out io.Writer) error {
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	st, arn, err := d.take(ctx, c.Name)
	if err != nil {
		return err
	}
	if st.State.Ended() {
		return fmt.Errorf("%s has ended already: it is %s", c.Name, describeStatus(st))
	}
	if _, err := d.states.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: &arn}); err != nil {
		return fmt.Errorf("stop the execution of %s: %w", c.Name, err)
	}
	fmt.Fprintf(out, "the execution of %s is stopped; RunComfy is being asked to cancel the job\n", c.Name)
	deadline := time.Now().Add(settleTime)
	for !st.State.Ended() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still %s after %s; its status tells when it is settled", c.Name, st.State, settleTime)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
		if st, err = d.bucket.status(ctx, c.Name); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s: %s\n", c.Name, describeStatus(st))
	if st.State == ledger.Cancelled {
		return nil
	}
	if st.Code == ledger.ExecutionStopped {
		if err := d.redrive(ctx, arn); err != nil {
			return err
		}
		fmt.Fprintln(out, "it was too late: the job is paid for, so its execution goes on and its result is archived")
	}
	return nil
}

// Run has a failed execution go on where it failed. It submits nothing again.
func (c *redriveCmd) Run(ctx context.Context, out io.Writer) error {
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	_, arn, err := d.take(ctx, c.Name)
	if err != nil {
		return err
	}
	if err := d.redrive(ctx, arn); err != nil {
		return err
	}
	fmt.Fprintf(out, "the execution of %s goes on where it failed; status/%s.json tells the outcome\n", c.Name, c.Name)
	return nil
}

func (d *deployment) redrive(ctx context.Context, arn string) error {
	_, err := d.states.RedriveExecution(ctx, &sfn.RedriveExecutionInput{ExecutionArn: aws.String(arn)})
	if not, ok := errors.AsType[*types.ExecutionNotRedrivable](err); ok {
		return fmt.Errorf("the execution cannot be redriven: %s", not.ErrorMessage())
	}
	if err != nil {
		return fmt.Errorf("redrive the execution: %w", err)
	}
	return nil
}
