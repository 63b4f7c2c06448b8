package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Step Functions sees the names of these errors when archive returns them. Each has
// a code: see workflow.CodeOf.

// OutputRefused says that an address may not be fetched: its origin is not
// allowed, or its name resolves to an address that is not public. A later call
// fails in the same way.
type OutputRefused struct {
	Host   string // host and port; empty if the address has none
	Reason string
}

func (e *OutputRefused) Error() string { return strings.TrimPrefix(e.Host+": "+e.Reason, ": ") }

// OutputTooLarge says that the source is longer than Copier.MaxBytes.
type OutputTooLarge struct {
	Bytes int64 // length of the source, or bytes received when the limit was exceeded
	Limit int64 // bytes
}

func (e *OutputTooLarge) Error() string {
	return fmt.Sprintf("the output has at least %d bytes, the limit is %d", e.Bytes, e.Limit)
}

// NoOutput says that the source has no bytes, or that there is no source.
type NoOutput struct {
	Host string // host and port; empty if there is no source
}

func (e *NoOutput) Error() string {
	if e.Host == "" {
		return "RunComfy reports success without an output"
	}
	return e.Host + ": the output is empty"
}

// OutputChanged says that the source changed during the copy, changed again
// during the next one, and could not be read in one response either.
type OutputChanged struct {
	Host string // host and port
	What string // what differs from the first response
}

func (e *OutputChanged) Error() string {
	return e.Host + ": the output changed while it was copied: " + e.What
}

// OutputUnavailable says that the source could not be read, after all retries. A
// later call may succeed.
type OutputUnavailable struct {
	Host   string // host and port; empty if Err says enough
	Status int    // HTTP status of the last response; 0 if there was none or it was a success
	Err    error  // the cause, if it is not the HTTP status
}

func (e *OutputUnavailable) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: HTTP status %d %s", e.Host, e.Status, http.StatusText(e.Status))
	}
	// net/http quotes the server, which may send the query of its own address.
	text, _, _ := strings.Cut(e.Err.Error(), `"`)
	text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	return strings.TrimPrefix(e.Host+": "+strings.TrimRight(text, " :["), ": ")
}

// maxReason is how many bytes of a reason are shown.
const maxReason = 300

func (e *OutputUnavailable) Unwrap() error { return e.Err }

// StorageUnavailable says that a call of S3 failed after all retries. A later
// call may succeed.
type StorageUnavailable struct{ Err error }

func (e *StorageUnavailable) Error() string { return e.Err.Error() }
func (e *StorageUnavailable) Unwrap() error { return e.Err }

// OutputOccupied says that the key holds another object than the source. That
// object is not changed. A later call fails in the same way.
type OutputOccupied struct {
	Key    string
	Reason string
}

func (e *OutputOccupied) Error() string {
	return fmt.Sprintf("%s holds another object: %s", e.Key, e.Reason)
}

// A temporaryError wraps the error of something that may succeed if it is tried
// again.
type temporaryError struct {
	error
	after time.Duration // the shortest wait before that
}

func (e *temporaryError) Unwrap() error { return e.error }

var (
	errNoResponse = errors.New("no response in time")
	errStalled    = errors.New("the connection stalled")
	errSlow       = errors.New("one range was far slower than the others")
	errRange      = errors.New("the response does not hold the requested range")
)
