package lambda

import (
	"encoding/json"
	"fmt"
	"time"
)

// The types of the errors that Lambda itself reports for a function.
const (
	TypeTimeout  = "Sandbox.Timedout"
	TypeExit     = "Runtime.ExitError"
	TypeTooLarge = "Function.ResponseSizeTooLarge"
	typeUnknown  = "Runtime.Unknown" // an error report that cannot be read
)

// Error is how an invocation failed: what Lambda's Invoke answers with
// X-Amz-Function-Error: Unhandled.
type Error struct {
	Type       string          `json:"errorType"`
	Message    string          `json:"errorMessage"`
	StackTrace json.RawMessage `json:"stackTrace,omitempty"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Payload returns the error as Invoke's body has it.
func (e *Error) Payload() []byte {
	text, err := json.Marshal(e)
	if err != nil { // a stack trace is JSON as it was read
		panic(err)
	}
	return text
}

// reported returns the error in a runtime's report.
func reported(body []byte) *Error {
	var e Error
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" {
		return &Error{Type: typeUnknown, Message: string(body)}
	}
	return &e
}

func timedOut(requestID string, after time.Duration) *Error {
	return &Error{Type: TypeTimeout, Message: fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", requestID, after.Seconds())}
}

// exited is the error of an environment whose process ended, with the error of
// its end.
func exited(requestID string, end error) *Error {
	how := "Runtime exited without providing a reason"
	if end != nil {
		how = "Runtime exited with error: " + end.Error()
	}
	return &Error{Type: TypeExit, Message: fmt.Sprintf("RequestId: %s Error: %s", requestID, how)}
}
