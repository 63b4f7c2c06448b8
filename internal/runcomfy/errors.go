package runcomfy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The documented error codes, and codeNotReady, which RunComfy's own tests use
// for a result that is asked for too early.
const (
	codeBadModel       = 400001
	codeNoBalance      = 400002
	codeBadToken       = 400004
	codeNotReady       = 400005
	codeForeign        = 403001
	codeUnknownRequest = 404001
)

// Error is an answer of the API that is not the one that was asked for: an
// error of its own under any HTTP status, 200 included, an error of something
// in front of it, a redirect, or an answer that cannot be read.
type Error struct {
	Method string
	Path   string // below the base URL, without a query

	HTTPStatus int
	Code       int // error_code of the body, 0 when there is none

	// Message is what the answer says for people, in one line of at most 500
	// runes, without the token and without the query of any URL.
	Message string

	// RetryAfter is the answer's Retry-After, given in seconds or as a date:
	// from one second to a day, 0 when there is none that can be read.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: HTTP %d", e.Method, e.Path, e.HTTPStatus)
	if e.Code != 0 {
		fmt.Fprintf(&b, ", code %d", e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// Kind is what an Error means for a caller. The list is closed.
type Kind string

// The kinds, and what each says about a submit: after KindUnavailable the job
// may have been taken, after every other kind it was not.
const (
	// KindThrottled: asked too often, or a server that says when to come
	// back. Nothing was taken; ask later.
	KindThrottled Kind = "throttled"
	// KindToken: the token is wrong, expired or revoked, or the account is
	// inactive or may not do this.
	KindToken Kind = "token"
	// KindBalance: the account has no balance left.
	KindBalance Kind = "balance"
	// KindForeign: the request id belongs to somebody else's account, as it
	// seems after the token of another account was set.
	KindForeign Kind = "foreign"
	// KindUnknownRequest: the request id is not known, or no longer.
	KindUnknownRequest Kind = "unknown_request"
	// KindBadModel: there is no such model.
	KindBadModel Kind = "bad_model"
	// KindBadInput: the request is understood and refused for what it says.
	KindBadInput Kind = "bad_input"
	// KindUnavailable: everything else, such as 5xx, 408, a redirect, and an
	// answer under 2xx that is not JSON or lacks what it must have.
	KindUnavailable Kind = "unavailable"
)

// Kind classifies an error: by the documented error codes first, then by the
// HTTP status. A code that is not documented, under 2xx, stands for the 4xx
// that its first three digits look like; beside an HTTP error it proves
// nothing, least of all that a job was not taken.
func (e *Error) Kind() Kind {
	switch e.Code {
	case codeBadModel:
		return KindBadModel
	case codeNoBalance:
		return KindBalance
	case codeBadToken:
		return KindToken
	case codeForeign:
		return KindForeign
	case codeUnknownRequest:
		return KindUnknownRequest
	}
	status := e.HTTPStatus
	if prefix := e.Code / 1000; prefix/100 == 4 && status/100 == 2 {
		status = prefix
	}
	switch status {
	case http.StatusTooManyRequests:
		return KindThrottled
	case http.StatusServiceUnavailable:
		// Only a server that is there to be asked again says when.
		if e.RetryAfter > 0 {
			return KindThrottled
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		return KindToken
	case http.StatusPaymentRequired:
		return KindBalance
	case http.StatusNotFound:
		if strings.HasPrefix(e.Path, modelsPath) {
			return KindBadModel
		}
		return KindUnknownRequest
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return KindBadInput
	}
	return KindUnavailable
}

// TokenError says that there was no token to send, so that nothing was sent:
// Client.Token returned an error, or something that cannot be a token.
type TokenError struct{ Err error }

func (e *TokenError) Error() string { return "API token: " + e.Err.Error() }

func (e *TokenError) Unwrap() error { return e.Err }

// sendError says that no answer came.
type sendError struct {
	method, path string
	notSent      bool
	err          error
}

func (e *sendError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.method, e.path, e.err)
}

func (e *sendError) Unwrap() error { return e.err }

// quotedError is an error of net/http, which may quote what the server sent. Its
// text is a message: bounded, and without secrets.
type quotedError struct {
	text string
	err  error
}

func (e *quotedError) Error() string { return e.text }

func (e *quotedError) Unwrap() error { return e.err }

// NotSent tells whether it is certain that no byte of the request was written:
// it was never made (no token, a bad address, a bad id), or the transport
// asked for a connection and got none (DNS, connect, TLS). That is known from
// net/http/httptrace and never guessed from an error's text; with a transport
// that calls no trace hooks, NotSent is false.
func NotSent(err error) bool {
	if _, ok := errors.AsType[*TokenError](err); ok {
		return true
	}
	var send *sendError
	return errors.As(err, &send) && send.notSent
}
