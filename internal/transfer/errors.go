package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The names of these errors are what Step Functions sees when archive returns
// them, and each has a code: see workflow.CodeOf.

// OutputRefused says that an address may not be fetched: it is off the list of
// origins, or its name resolves to an address of a private network. Trying
// again changes nothing.
type OutputRefused struct {
	Host   string // host and port; empty where the address has none
	Reason string
}

func (e *OutputRefused) Error() string {
	if e.Host == "" {
		return e.Reason
	}
	return e.Host + ": " + e.Reason
}

// OutputTooLarge says that the source is longer than the Copier's limit.
type OutputTooLarge struct {
	Bytes int64 // the source's length, or how much had come when the limit was passed
	Limit int64
}

func (e *OutputTooLarge) Error() string {
	return fmt.Sprintf("the source has at least %d bytes, the limit is %d", e.Bytes, e.Limit)
}

// NoOutput says that the source has no bytes, or that there is no source.
type NoOutput struct {
	Host string // host and port; empty if there is no source
}

func (e *NoOutput) Error() string {
	if e.Host == "" {
		return "RunComfy reports success without an output"
	}
	return e.Host + ": the source is empty"
}

// OutputChanged says that the source changed while it was copied, and once more
// while it was copied again, and could not be read in one response either.
type OutputChanged struct {
	Host string // host and port
	What string // what was not as in the first answer
}

func (e *OutputChanged) Error() string {
	return e.Host + ": the source changed while it was copied: " + e.What
}

// OutputUnavailable says that the source could not be read: no connection, an
// answer that is not a success, a body that broke off, and each of them as
// often as it was tried. It may be gone later.
type OutputUnavailable struct {
	Host   string // host and port; empty if Err says enough
	Status int    // HTTP status of the last answer; 0 where there was none or it was a success
	Err    error  // what went wrong where the status does not say it
}

func (e *OutputUnavailable) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: answered %d %s", e.Host, e.Status, http.StatusText(e.Status))
	}
	if e.Host == "" {
		return unquoted(e.Err.Error())
	}
	return e.Host + ": " + unquoted(e.Err.Error())
}

// maxReason is how many bytes of a reason are shown.
const maxReason = 300

// unquoted returns what an error of net/http says before it quotes the server,
// which may send the query of its own address.
func unquoted(text string) string {
	text, _, _ = strings.Cut(text, `"`)
	text = text[:min(len(text), maxReason)]
	return strings.TrimRight(strings.ToValidUTF8(text, ""), " :[")
}

func (e *OutputUnavailable) Unwrap() error { return e.Err }

// StorageUnavailable says that a call of S3 failed after the SDK's own retries.
type StorageUnavailable struct {
	Op  string // the call, such as UploadPart; empty if Err names it
	Key string
	Err error
}

func (e *StorageUnavailable) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Key, e.Err)
}

func (e *StorageUnavailable) Unwrap() error { return e.Err }

// OutputOccupied says that the key holds another object than the source. It is
// left as it is, and trying again changes nothing.
type OutputOccupied struct {
	Key    string
	Reason string
}

func (e *OutputOccupied) Error() string {
	return fmt.Sprintf("%s holds another object: %s", e.Key, e.Reason)
}

// A restartError ends one run of a copy that is worth another from the first
// byte.
type restartError struct {
	err     error  // what Copy returns where there is no other run
	without manner // what the next runs do not do
}

func (e *restartError) Error() string { return e.err.Error() }
func (e *restartError) Unwrap() error { return e.err }

// Why a request was given up.
var (
	errNoAnswer     = errors.New("no answer in time")
	errStalled      = errors.New("the connection stalled")
	errSlow         = errors.New("one range was far slower than the others")
	errShort        = errors.New("the body ended early")
	errLong         = errors.New("the body is longer than it says")
	errRange        = errors.New("another range than asked for")
	errTransformed  = errors.New("the answer has a content encoding")
	errRangeIgnored = errors.New("the whole file instead of a range")
)

// cause returns why ctx was cancelled, or err where it was not: what a reader
// returns after a cancellation says less than the reason for it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}
