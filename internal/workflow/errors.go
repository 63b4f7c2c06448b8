package workflow

import "fmt"

// Step Functions sees the name of the outermost Go type of an error that a
// function returns: *QueuedTooLong is "QueuedTooLong", but wrapped once more
// with fmt.Errorf it is "wrapError", which no Retry matches and no person can
// look up. Handlers return the types below bare, as pointers.
//
// Each name in snake_case is a code of package ledger.
type (
	// RequestLost ends a job whose request RunComfy does not know any more.
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
	// OutputRefused ends a job whose output lies where OutputOrigins does not allow.
	OutputRefused struct{ Failure }
	// OutputTooLarge ends a job whose output is larger than MaxOutputGiB.
	OutputTooLarge struct{ Failure }
	// OutputChanged ends a job whose output kept changing while it was copied.
	OutputChanged struct{ Failure }
	// OutputOccupied ends a job in whose place another object lies than its output.
	OutputOccupied struct{ Failure }

	// ResultUnavailable is retried: RunComfy did not tell the result.
	ResultUnavailable struct{ Failure }
	// OutputUnavailable is retried: the output could not be fetched.
	OutputUnavailable struct{ Failure }
	// StorageUnavailable is retried: S3 did not take or give an object.
	StorageUnavailable struct{ Failure }
)

// Failure is the message of an error that ends a job or a try of it.
type Failure struct{ Message string }

func (f Failure) Error() string { return f.Message }

// Failuref formats a Failure.
func Failuref(format string, args ...any) Failure {
	return Failure{fmt.Sprintf(format, args...)}
}
