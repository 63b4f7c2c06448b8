// Package states is the Step Functions of the local stack: it steps through
// the state machine of statemachine.asl.json and answers the few calls of the
// API that the functions, the command and a person with the aws command make.
//
// It knows the part of the States Language that the file uses, and Parse
// refuses the rest: the states Wait, Task (lambda:invoke) and Choice, with
// JSONata that is a number or a path. A Machine takes an Execution from one
// instant to the next and knows no clock, file or network, so that a simulation
// drives it in virtual time; a Server drives many in real time and keeps them
// in files. What the functions do, and where they run, is left to an Invoker.
package states

import (
	"context"
	"errors"
	"time"
)

// Invoker calls a function with a JSON payload and returns its JSON result. An
// error of the function, or of Lambda, is a *TaskError; any other error counts
// as Lambda.SdkClientException. It returns soon after ctx is done: ctx carries
// the timeout of the task and the end of the execution.
type Invoker func(ctx context.Context, functionARN string, payload []byte) (result []byte, err error)

// TaskError is how a task or an execution failed.
type TaskError struct {
	// Name is what a Retry matches: the errorType that a function returned, or
	// a name of Lambda's or of the States Language.
	Name string

	// Cause is the whole error payload of a function, as JSON text, or a sentence.
	Cause string
}

func (e *TaskError) Error() string { return e.Name + ": " + e.Cause }

// Error names of the States Language and of its Lambda integration, as listed in
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
const (
	errAll               = "States.ALL"
	errTaskFailed        = "States.TaskFailed"
	errTimeout           = "States.Timeout"
	errQueryEvaluation   = "States.QueryEvaluationError"
	errNoChoiceMatched   = "States.NoChoiceMatched"
	errDataLimitExceeded = "States.DataLimitExceeded"
	errRuntime           = "States.Runtime"
	errSDKClient         = "Lambda.SdkClientException"
	errLambdaUnknown     = "Lambda.Unknown"
)

// maxData is the most bytes that the input or output of a state, an execution
// or a task may have, as UTF-8: 256 KiB, Step Functions' quota.
const maxData = 256 << 10

// Call is a task that has been started: somebody has to invoke the function and
// hand the outcome to Machine.Deliver.
type Call struct {
	FunctionARN string
	Payload     []byte

	// Deadline is when the task, or the execution, times out.
	Deadline time.Time
}

// Step takes x from now to where it must wait: it enters and leaves states and
// invokes functions. It returns when to call it next, or that x has ended. The
// time that an invocation takes is read from now, which in a simulation is the
// virtual clock.
//
// When ctx ends during an invocation, Step drops its outcome and returns; the
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

// do invokes the function, no longer than the deadline allows.
func (c *Call) do(ctx context.Context, now time.Time, invoke Invoker) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, c.Deadline.Sub(now))
	defer cancel()
	result, err := invoke(limited, c.FunctionARN, c.Payload)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return nil, &TaskError{Name: errTimeout}
	}
	return result, err
}
