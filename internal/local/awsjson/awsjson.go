// Package awsjson serves services of AWS by their JSON protocol: a POST whose header
// X-Amz-Target names the operation. It does not check signatures: see package access.
package awsjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
)

// maxRequest bounds the body of a request. The longest is the body of SendMessage: a
// message of 256 KiB, in which each byte may be escaped.
const maxRequest = 2 << 20

// Operations are the operations that are served, by their X-Amz-Target.
type Operations map[string]func(request []byte) (response any, err error)

// Join returns the operations of several services.
func Join(services ...Operations) Operations {
	all := Operations{}
	for _, service := range services {
		maps.Copy(all, service)
	}
	return all
}

// Error is an error that the client receives.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Operation returns an operation that decodes its request. It refuses unknown members.
// A member may be spelled in another case than the field.
func Operation[Request any](do func(Request) (any, error)) func([]byte) (any, error) {
	return func(text []byte) (any, error) {
		var request Request
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&request); err != nil {
			return nil, Errorf("SerializationException", "the local stack cannot read the request: %v", err)
		}
		return do(request)
	}
}

// ServeHTTP serves the operations.
func (o Operations) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := Body(w, r)
	if !ok {
		return
	}
	target := r.Header.Get("X-Amz-Target")
	do, known := o[target]
	if !known {
		Refuse(w, http.StatusBadRequest, Errorf("UnknownOperationException", "the local stack does not serve %s", target))
		return
	}
	response, err := do(body)
	if refused, ok := errors.AsType[*Error](err); ok {
		Refuse(w, http.StatusBadRequest, refused)
		return
	}
	if err != nil {
		slog.Error("request failed", "target", target, "err", err)
		Refuse(w, http.StatusInternalServerError, &Error{"InternalFailure", err.Error()})
		return
	}
	reply(w, http.StatusOK, response)
}

// Body returns the body of a request, which can be read again afterwards. If it is too
// long, Body refuses the request and returns false.
func Body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		Refuse(w, http.StatusBadRequest, &Error{"SerializationException", err.Error()})
		return nil, false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, true
}

// Refuse responds with an error.
func Refuse(w http.ResponseWriter, status int, err *Error) {
	reply(w, status, map[string]string{"__type": err.Code, "message": err.Message})
}

func reply(w http.ResponseWriter, status int, response any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(response)
}
