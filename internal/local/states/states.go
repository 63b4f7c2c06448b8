// Package states is the Step Functions of the local stack. It runs the state
// machine of statemachine.asl.json and serves the few operations of the API that
// the functions and the command call.
//
// It knows the part of the States Language that the file uses; Parse refuses
// everything else. A Machine takes an Execution from one instant to the next and
// uses no clock, file or network, so that a simulation can drive it in virtual
// time. A Server drives many executions in real time and keeps them in files.
package states

import (
	"context"
	"errors"
	"time"
)

// Invoker calls a function with a JSON payload and returns its JSON result. An
// error of the function, or of Lambda, is a *TaskError; any other error counts
// as Lambda.SdkClientException. Invoker must return soon after ctx is done: ctx
// carries the timeout of the task and the end of the execution.
type Invoker func(ctx context.Context, functionARN string, payload []byte) (result []byte, err error)

// TaskError is how a task failed.
type TaskError struct {
	// Name is what a Retry matches: the errorType that a function returned, or a
	// name of Lambda or of the States Language.
	Name string

	// Cause is the whole error payload of a function, as JSON text, or a sentence.
	Cause string
}

func (e *TaskError) Error() string { return e.Name + ": " + e.Cause }

// Error names of the States Language and of its Lambda integration, as listed in
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
const (
	errAll               = "States.ALL"
	errTimeout           = "States.Timeout"
	errQueryEvaluation   = "States.QueryEvaluationError"
	errDataLimitExceeded = "States.DataLimitExceeded"
	errRuntime           = "States.Runtime"
	errSDKClient         = "Lambda.SdkClientException"
	errLambdaUnknown     = "Lambda.Unknown"
)

const (
	// maxData is the quota of Step Functions for an input or an output, in bytes
	// of UTF-8.
	maxData = 256 << 10

	// maxEvents is how many events the history of an execution may have:
	// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
	maxEvents = 25000
)

// Call is a task that has started. The caller of Advance invokes the function and
// passes the outcome to Deliver.
type Call struct {
	FunctionARN string
	Payload     []byte

	// Deadline is when the task, or the execution, times out.
	Deadline time.Time
}

// Step advances x to where it must wait: it enters and leaves states and invokes
// functions. It returns when to call it next, or that x has ended. In a simulation
// now is the virtual clock, which invoke may move.
//
// If ctx ends during an invocation, Step discards its outcome and returns; the
// next Step invokes the function again.
func (m *Machine) Step(ctx context.Context, x *Execution, now func() time.Time, invoke Invoker) (wake time.Time, done bool) {
	for {
		call, wake := m.Advance(x, now())
		if call == nil {
			return wake, x.Status != Running
		}
		result, err := call.do(ctx, now(), invoke)
		if ctx.Err() != nil {
			return now(), false
		}
		m.Deliver(x, now(), result, err)
	}
}

// do invokes the function, and cancels it at the deadline.
func (c *Call) do(ctx context.Context, now time.Time, invoke Invoker) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, c.Deadline.Sub(now))
	defer cancel()
	result, err := invoke(limited, c.FunctionARN, c.Payload)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return nil, &TaskError{Name: errTimeout}
	}
	return result, err
}
