// Package states is the Step Functions of the local stack. It runs the state
// machine of statemachine.asl.json and serves the few operations of the API that
// the functions and the command call.
//
// The package knows the part of the States Language that statemachine.asl.json uses; Parse
// refuses everything else. A Machine advances an Execution. A Machine uses no file and no
// network, and takes the time from its caller, so that a simulation can use virtual time. Even
// then, the context of an invocation expires in real time. A Server drives many executions in
// real time and keeps them in files.
package states

import "context"

// Invoker calls a function with a JSON payload and returns its JSON result. An
// error of the function, or of Lambda, is a *TaskError; any other error counts
// as Lambda.SdkClientException. ctx is done when the task times out, when the execution
// ends, or when the Server is closed. Invoker must then return soon, and what it returns is ignored.
type Invoker func(ctx context.Context, functionARN string, payload []byte) (result []byte, err error)

// TaskError is how a task failed.
type TaskError struct {
	// Name is what a Retry matches: the errorType that a function returned, or the name
	// of an error of Lambda or of the States Language.
	Name string

	// Cause is the whole error payload of Lambda, as JSON text. For an error without a
	// payload, Cause is a sentence or empty.
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
