package world

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Execution is an execution with its ARN.
type Execution struct {
	ARN string
	*states.Execution
}

// execution is an execution that a World runs.
type execution struct {
	Execution
	wake time.Time
	busy bool // one of its functions is running
}

// stepFunctions is the Step Functions client of the Lambda functions.
type stepFunctions struct{ *World }

func (w stepFunctions) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	arn := workflow.ExecutionARN(machineARN, *in.Name)
	return call(ctx, w.World, "states", "StartExecution", arn, func() (*sfn.StartExecutionOutput, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		e, ok := w.executions[arn]
		if ok && (e.Status != states.Running || e.Input != *in.Input) {
			return nil, &types.ExecutionAlreadyExists{}
		}
		if !ok {
			e = &execution{Execution: Execution{arn, w.machine.Start(*in.Input, w.now)}, wake: w.now}
			w.executions[arn] = e
			w.running = append(w.running, e)
		}
		return &sfn.StartExecutionOutput{ExecutionArn: &arn}, nil
	})
}

func (w stepFunctions) DescribeExecution(ctx context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	return call(ctx, w.World, "states", "DescribeExecution", *in.ExecutionArn, func() (*sfn.DescribeExecutionOutput, error) {
		e, ok := w.executions[*in.ExecutionArn]
		if !ok {
			return nil, &types.ExecutionDoesNotExist{}
		}
		out := &sfn.DescribeExecutionOutput{
			ExecutionArn: in.ExecutionArn, Status: types.ExecutionStatus(e.Status), Input: aws.String(e.Input),
			StartDate: aws.Time(e.StartedAt), StopDate: aws.Time(e.StoppedAt),
			Error: aws.String(e.Error), Cause: aws.String(e.Cause), RedriveCount: aws.Int32(int32(e.RedriveCount)),
		}
		if e.Status == states.Running {
			out.StopDate, out.Error, out.Cause = nil, nil, nil
		}
		return out, nil
	})
}

// page is the number of executions on a page. It is small, so that listings have several pages.
const page = 20

func (w stepFunctions) ListExecutions(ctx context.Context, in *sfn.ListExecutionsInput, _ ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error) {
	return call(ctx, w.World, "states", "ListExecutions", string(in.StatusFilter), func() (*sfn.ListExecutionsOutput, error) {
		var all []types.ExecutionListItem
		for _, e := range w.Executions() {
			if types.ExecutionStatus(e.Status) == in.StatusFilter {
				all = append(all, types.ExecutionListItem{
					ExecutionArn: aws.String(e.ARN), Name: aws.String(strings.TrimPrefix(e.ARN, workflow.ExecutionARN(machineARN, ""))), StartDate: aws.Time(e.StartedAt), StopDate: aws.Time(e.StoppedAt),
					RedriveCount: aws.Int32(int32(e.RedriveCount)),
				})
			}
		}
		first, _ := strconv.Atoi(aws.ToString(in.NextToken))
		all = all[min(first, len(all)):]
		if len(all) <= page {
			return &sfn.ListExecutionsOutput{Executions: all}, nil
		}
		return &sfn.ListExecutionsOutput{Executions: all[:page], NextToken: aws.String(strconv.Itoa(first + page))}, nil
	})
}

func (w stepFunctions) StopExecution(ctx context.Context, in *sfn.StopExecutionInput, _ ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error) {
	return call(ctx, w.World, "states", "StopExecution", *in.ExecutionArn, func() (*sfn.StopExecutionOutput, error) {
		if !w.stop(*in.ExecutionArn, aws.ToString(in.Error), aws.ToString(in.Cause)) {
			return nil, &types.ExecutionDoesNotExist{}
		}
		return &sfn.StopExecutionOutput{}, nil
	})
}

// Executions returns every execution that was ever started, newest first. Step
// Functions lists them in the same order.
func (w *World) Executions() []Execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]Execution, 0, len(w.executions))
	for _, e := range w.executions {
		all = append(all, e.Execution)
	}
	slices.SortFunc(all, func(a, b Execution) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), strings.Compare(a.ARN, b.ARN))
	})
	return all
}

// Execution returns the execution of a take.
func (w *World) Execution(name, take string) (Execution, bool) {
	e, ok := w.executions[executionARN(name, take)]
	if !ok {
		return Execution{}, false
	}
	return e.Execution, true
}

func executionARN(name, take string) string {
	return workflow.ExecutionARN(machineARN, workflow.ExecutionName(name, take))
}

// Stop stops the execution of a take, as a person does.
func (w *World) Stop(name, take string) { w.stop(executionARN(name, take), "", "") }

// stop stops an execution with an error and a cause. It reports whether the execution exists.
func (w *World) stop(arn, errorName, cause string) bool {
	e, ok := w.executions[arn]
	if ok && e.Status == states.Running {
		e.Abort(w.now, errorName, cause)
		w.ended(e)
	}
	return ok
}

// ended removes an execution from the running ones. If the execution ended badly, ended sends
// its event.
func (w *World) ended(e *execution) {
	at := slices.Index(w.running, e)
	if at < 0 {
		return // the execution was stopped while one of its functions ran
	}
	w.running = slices.Delete(w.running, at, at+1)
	if !w.LoseStatusEvents && e.Status != states.Succeeded {
		w.NotifyStatus(e.ARN, 0)
	}
}

// NotifyStatus calls cancel, a second plus delay from now, with the event of an execution that ended
// badly. If the execution is running or has succeeded, the event says that it was aborted before its
// last redrive. If it was never redriven, this event contradicts DescribeExecution.
func (w *World) NotifyStatus(arn string, delay time.Duration) {
	x := w.executions[arn]
	status, redrives := x.Status, x.RedriveCount
	if status == states.Running || status == states.Succeeded {
		status, redrives = states.Aborted, max(redrives-1, 0)
	}
	payload := encode(events.StatusChange(w.now, machineARN, arn, string(status), redrives))
	w.cancelCalls = append(w.cancelCalls, &cancelCall{payload: []byte(payload), at: w.now.Add(time.Second + delay)})
}

// Redrive redrives the execution of a take, as a person does.
func (w *World) Redrive(name, take string) error {
	e, ok := w.executions[executionARN(name, take)]
	if !ok {
		return errors.New("no such execution")
	}
	if err := w.machine.Redrive(e.Execution.Execution, w.now); err != nil {
		return err
	}
	e.wake = w.now
	w.running = append(w.running, e)
	return nil
}

// Path returns the states that the execution of a take has entered.
func (w *World) Path(name, take string) []string {
	if e, ok := w.executions[executionARN(name, take)]; ok {
		return e.Path()
	}
	return nil
}
