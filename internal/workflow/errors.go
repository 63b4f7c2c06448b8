package workflow

import "fmt"

// Step Functions sees the name of the outermost Go type of an error that a
// function returns: *QueuedTooLong is "QueuedTooLong", but wrapped once with
// fmt.Errorf it is "wrapError", which no Retry matches and no person can look
// up. Handlers return the types below bare, as pointers.
//
// Each name in snake_case is a code of package ledger.

// These errors end an execution at once: another try would fail in the same way
// until a person has acted. The first retrier of a Task names them.
type (
	// RequestLost ends a job whose request RunComfy no longer knows.
	RequestLost struct{ Failure }
	// QueuedTooLong ends a job that did not start within QueueHours.
	QueuedTooLong struct{ Failure }
	// RanTooLong ends a job that started and did not end within MaxHours.
	RanTooLong struct{ Failure }

	// JobFailed ends a job that RunComfy reports as failed.
	JobFailed struct{ Failure }
	// JobCancelled ends a job that RunComfy reports as cancelled.
	JobCancelled struct{ Failure }

	// NoOutput ends a job that succeeded without an output, or with an empty one.
	NoOutput struct{ Failure }
	// OutputRefused ends a job whose output is at an address that OutputOrigins
	// does not allow.
	OutputRefused struct{ Failure }
	// OutputTooLarge ends a job whose output is larger than MaxOutputGiB.
	OutputTooLarge struct{ Failure }
	// OutputTooMany ends a job with more outputs than MaxOutputs.
	OutputTooMany struct{ Failure }
	// OutputChanged ends a job whose output kept changing while it was copied.
	OutputChanged struct{ Failure }
	// OutputOccupied ends a job when another object is stored under the key of
	// its output.
	OutputOccupied struct{ Failure }
)

// These errors may pass: a later retrier names them.
type (
	// OutputTooSlow says that the function's time ended before one output was
	// copied. It is retried once.
	OutputTooSlow struct{ Failure }
	// ResultUnavailable says that RunComfy did not return the result.
	ResultUnavailable struct{ Failure }
	// OutputUnavailable says that the output could not be fetched.
	OutputUnavailable struct{ Failure }
	// StorageUnavailable says that S3 did not store or return an object.
	StorageUnavailable struct{ Failure }
)

// Failure is the message of an error that ends a job or a try of it.
type Failure struct{ Message string }

func (f Failure) Error() string { return f.Message }

// Failuref formats a Failure.
func Failuref(format string, args ...any) Failure {
	return Failure{fmt.Sprintf(format, args...)}
}
