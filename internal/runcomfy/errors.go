package runcomfy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
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

// Error is a response that is not the expected one: an error of the API under any
// HTTP status, 200 included, an error of a proxy, a redirect, or a response that
// cannot be read.
type Error struct {
	Method string
	Path   string // below the base URL, without a query

	HTTPStatus int
	Code       int // error_code of the body; 0 if the body has no code

	// Message is the message in the response, or says what is wrong with the response. It is one
	// line of at most 500 runes, without the token and without the query of any URL.
	Message string

	// RetryAfter is the response's Retry-After, from one second to six hours; 0 if
	// there is no valid one.
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

// Kind is the class of an Error, from a closed list.
type Kind string

// The kinds. After KindUnavailable, RunComfy may have accepted a submitted job. After every
// other kind it did not, unless Submit also returned a request id.
const (
	// KindThrottled: too many requests, or HTTP 503 with Retry-After.
	KindThrottled Kind = "throttled"
	// KindToken: the token is wrong, expired or revoked, or the account is inactive
	// or has no permission.
	KindToken Kind = "token"
	// KindBalance: the account has no balance left.
	KindBalance Kind = "balance"
	// KindForeign: the request id belongs to another account, for example because
	// the token of another account was set.
	KindForeign Kind = "foreign"
	// KindUnknownRequest: the request id is not known, or is no longer known. Every HTTP 404
	// counts, except in response to a request about a model.
	KindUnknownRequest Kind = "unknown_request"
	// KindBadModel: there is no such model.
	KindBadModel Kind = "bad_model"
	// KindBadInput: RunComfy refuses the input.
	KindBadInput Kind = "bad_input"
	// KindUnavailable: everything else, such as 5xx, 408, a redirect, or a response
	// under 2xx that is not JSON or lacks a required member.
	KindUnavailable Kind = "unavailable"
)

// Kind returns the class of an error, by the documented error codes first, then by
// the HTTP status. Under HTTP 2xx, an undocumented code 4xxyyy counts as HTTP 4xx. Under HTTP 400, it
// does so only if 4xx is 401, 402, 403, 404 or 429. Any other undocumented code is ignored: after
// HTTP 5xx, RunComfy may have accepted the job.
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
	switch prefix := e.Code / 1000; {
	case status/100 == 2 && prefix/100 == 4,
		status == http.StatusBadRequest && slices.Contains([]int{401, 402, 403, 404, 429}, prefix):
		status = prefix
	}
	switch status {
	case http.StatusTooManyRequests:
		return KindThrottled
	case http.StatusServiceUnavailable:
		// Without Retry-After the response may come from a proxy, and the job may
		// have been accepted.
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

// IsKind reports whether err is or wraps an [*Error] of one of the kinds.
func IsKind(err error, kinds ...Kind) bool {
	response, ok := errors.AsType[*Error](err)
	return ok && slices.Contains(kinds, response.Kind())
}

// TokenError says that nothing was sent, because Client.Token returned an error or
// a text that cannot be a token.
type TokenError struct{ Err error }

func (e *TokenError) Error() string { return "API token: " + e.Err.Error() }

func (e *TokenError) Unwrap() error { return e.Err }

// sendError says that no HTTP response came.
type sendError struct {
	method, path string
	notSent      bool
	text         string // of err, bounded and without secrets; "" if err needs no change
	err          error
}

func (e *sendError) Error() string {
	return e.method + " " + e.path + ": " + cmp.Or(e.text, e.err.Error())
}

func (e *sendError) Unwrap() error { return e.err }

// NotSent reports whether it is certain that no byte of the request was written:
// the request was not made, for example because there was no token, or the transport
// could not connect (DNS, TCP, TLS). The hooks of net/http/httptrace show whether the transport
// connected, so NotSent returns false if the transport does not call these hooks.
func NotSent(err error) bool {
	if _, ok := errors.AsType[*TokenError](err); ok {
		return true
	}
	send, ok := errors.AsType[*sendError](err)
	return ok && send.notSent
}
