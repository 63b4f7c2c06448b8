package workflow

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Step Functions sees the name of the outermost Go type of an error that a
// function returns: *QueuedTooLong is "QueuedTooLong", but wrapped once with
// fmt.Errorf it is "wrapError", which no Retry names. Handlers therefore return
// these errors unwrapped, as pointers.
//
// The file statemachine.asl.json says which errors are retried.

type (
	// RequestLost says that RunComfy no longer knows the request.
	RequestLost struct{ Failure }
	// QueuedTooLong says that a job did not start within QueueHours.
	QueuedTooLong struct{ Failure }
	// RanTooLong says that a job started and did not end within MaxHours.
	RanTooLong struct{ Failure }

	// JobFailed says that RunComfy reports the job as failed.
	JobFailed struct{ Failure }
	// JobCancelled says that RunComfy reports the job as cancelled.
	JobCancelled struct{ Failure }

	// ResultUnavailable says that RunComfy did not return the result.
	ResultUnavailable struct{ Failure }
	// NoOutput says that RunComfy reports success without an output, or that an
	// output has no bytes.
	NoOutput struct{ Failure }
	// OutputRefused says that an output's URL, or a redirect from it, may not be fetched. For
	// example, its origin is not in OutputOrigins, or its host resolves to an IP address that
	// is not public.
	OutputRefused struct{ Failure }
	// OutputUnavailable says that one call of archive could not copy an output.
	OutputUnavailable struct{ Failure }
	// OutputChanged says that an output changed while it was copied.
	OutputChanged struct{ Failure }
	// OutputTooLarge says that an output is larger than MaxOutputGiB.
	OutputTooLarge struct{ Failure }
	// OutputTooMany says that a job has more outputs than MaxOutputs.
	OutputTooMany struct{ Failure }
	// OutputTooSlow says that the time of one call of archive was not enough to copy one
	// output.
	OutputTooSlow struct{ Failure }
	// OutputOccupied says that another object has the output's key. That object is
	// not changed.
	OutputOccupied struct{ Failure }
	// StorageUnavailable says that an object in S3 could not be read or written.
	StorageUnavailable struct{ Failure }
)

// Failure is an error with a message for people.
type Failure struct{ Err error }

func (f Failure) Error() string { return f.Err.Error() }
func (f Failure) Unwrap() error { return f.Err }
func (Failure) failure()        {}

// failure is an error of one of the types above.
type failure interface {
	error
	failure()
}

// Failuref formats a Failure, as fmt.Errorf does.
func Failuref(format string, args ...any) Failure {
	return Failure{fmt.Errorf(format, args...)}
}

// CodeOf returns the code of an error: the error's name in Step Functions, in snake_case.
// For an error of AWS, such as States.Timeout, the code is not in the list of problem.Code.
func CodeOf(errorName string) problem.Code {
	var snake strings.Builder
	for i, r := range errorName {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				snake.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		snake.WriteRune(r)
	}
	return problem.Code(snake.String())
}

// Bare returns the first error of err's tree that is one of the types above, for a
// handler to return. It returns nil if there is no such error.
func Bare(err error) error {
	bare, _ := errors.AsType[failure](err)
	return bare
}
