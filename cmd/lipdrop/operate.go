package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type cancelCmd struct {
	target
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

type redriveCmd struct {
	target
	Take string `help:"Take to redrive, as its status names it. By default the newest failed one."`
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

// settleTime is how long a command waits for the cancel function to settle an
// execution that was stopped. The function returns an error if the execution still
// seems to run. Lambda then calls it again after one and after two more minutes.
const settleTime = 4 * time.Minute

// takes returns the records of a name's takes, oldest first. If there are none, the
// error says why. The status does not suffice, because it may describe a newer drop
// that is not a take.
func (d *deployment) takes(ctx context.Context, name string) ([]ledger.Record, error) {
	name = norm.NFC.String(name)
	takes, err := d.ledger.Takes(ctx, name)
	if err != nil || len(takes) > 0 {
		return takes, err
	}
	st, err := d.ledger.Posted(ctx, ledger.StatusKey(name))
	if err != nil {
		return nil, err
	}
	if st.State == "" {
		return nil, fmt.Errorf("there is no job named %s; the name is the key below inbox/, without its suffix", name)
	}
	return nil, fmt.Errorf("%s has not been submitted: it is %s", name, describeStatus(st.Status))
}

// describe returns a take's state and its reason in one line.
func (d *deployment) describe(rec ledger.Record) string {
	return describeStatus(d.ledger.TakeStatus(rec))
}

func (d *deployment) executionARN(rec ledger.Record) *string {
	arn := workflow.ExecutionARN(d.machineARN, workflow.ExecutionName(rec.Name, rec.Take))
	return &arn
}

// Run cancels every take of a name that is under way, as a deletion of its
// files does. The error is nil only if each is cancelled.
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
		return fmt.Errorf("%s has already ended: it is %s", newest.Name, d.describe(newest))
	}
	var errs []error
	for _, rec := range open {
		errs = append(errs, d.cancel(ctx, out, rec))
	}
	return errors.Join(errs...)
}

// cancel stops a take's execution, and the cancel function then cancels the job at
// RunComfy. If it is too late for that, the job is paid for, so cancel redrives
// the execution and the result is archived.
func (d *deployment) cancel(ctx context.Context, out io.Writer, rec ledger.Record) error {
	_, err := d.states.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: d.executionARN(rec)})
	if err != nil {
		return fmt.Errorf("stop the execution of %s: %w", rec.Name, inWords(err))
	}
	printf(out, "stopped the execution of %s; lipdrop is asking RunComfy to cancel the job\n", rec.Name)
	if rec, err = d.settled(ctx, rec); err != nil {
		return err
	}
	switch {
	case rec.State == ledger.Cancelled:
		printf(out, "%s: %s\n", rec.Name, d.describe(rec))
		return nil
	case rec.Code == problem.ExecutionStopped:
		if err := d.redrive(ctx, rec); err != nil {
			return err
		}
		return fmt.Errorf("it was too late to cancel %s: the job is paid for, so its execution continues and the result will be archived", rec.Name)
	default:
		return fmt.Errorf("%s was not cancelled: it is %s", rec.Name, d.describe(rec))
	}
}

// settled waits until the take of a stopped execution has ended.
func (d *deployment) settled(ctx context.Context, rec ledger.Record) (ledger.Record, error) {
	for deadline := time.Now().Add(settleTime); !rec.State.Ended(); {
		if time.Now().After(deadline) {
			return rec, fmt.Errorf("%s is still %s after %s; its status will say how it ended", rec.Name, rec.State, settleTime)
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

// Run continues the execution of a failed take where it failed. It submits
// nothing again.
func (c *redriveCmd) Run(ctx context.Context, out io.Writer) error {
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	takes, err := d.takes(ctx, c.Name)
	if err != nil {
		return err
	}
	rec, ok := takeToRedrive(takes, c.Take)
	if !ok {
		return fmt.Errorf("%s has no take %s; its takes are %s", rec.Name, c.Take, strings.Join(takesOf(takes), ", "))
	}
	if rec.State.Ended() && rec.State != ledger.Failed {
		return fmt.Errorf("%s has not failed: it is %s", rec.Name, d.describe(rec))
	}
	if err := d.redrive(ctx, rec); err != nil {
		return err
	}
	outcome := ledger.StatusKey(rec.Name)
	if rec.Take != takes[len(takes)-1].Take { // the status describes a newer take
		outcome = ledger.RecordKey(rec.Name, rec.Take)
	}
	printf(out, "take %s of %s continues where it failed; %s shows the outcome\n", rec.Take, rec.Name, outcome)
	return nil
}

// takeToRedrive returns the wanted take of a name or, if wanted is empty, the newest
// take that failed. If no take failed it returns the newest one: if the event was
// lost, its execution may have failed although its record is open. If the wanted
// take does not exist, it returns the newest and false.
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

func (d *deployment) redrive(ctx context.Context, rec ledger.Record) error {
	_, err := d.states.RedriveExecution(ctx, &sfn.RedriveExecutionInput{ExecutionArn: d.executionARN(rec)})
	if not, ok := errors.AsType[*types.ExecutionNotRedrivable](err); ok {
		return fmt.Errorf("%s is %s and cannot be redriven: %s", rec.Name, d.describe(rec), not.ErrorMessage())
	}
	if err != nil {
		return fmt.Errorf("redrive the execution of %s: %w", rec.Name, inWords(err))
	}
	return nil
}

// inWords returns an error of Step Functions in words for a person.
func inWords(err error) error {
	if _, ok := errors.AsType[*types.ExecutionDoesNotExist](err); ok {
		return errors.New("there is no execution; a take that is being submitted gets one within seconds")
	}
	return err
}
