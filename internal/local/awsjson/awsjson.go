// Package awsjson handles requests in the JSON protocol of AWS: a POST whose header
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
	"strings"
)

// maxRequest bounds the body of a request. The longest bodies hold a text of 256 KiB, each byte
// of which may be escaped as six bytes.
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

// services maps the first part of X-Amz-Target to the name of the service in signatures and
// policies.
var services = map[string]string{
	"AWSStepFunctions": "states",
	"secretsmanager":   "secretsmanager",
	"AmazonSQS":        "sqs",
	"AWSEvents":        "events",
}

// Target returns the service and the operation that a request names. The service is "" if the
// local stack has no such service.
func Target(r *http.Request) (service, operation string) {
	prefix, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return services[prefix], operation
}

// Error is an error that the client receives.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Operation returns an operation that decodes its request and calls handle. The operation refuses
// unknown members. It ignores the case of the members' names.
func Operation[Request any](handle func(Request) (any, error)) func([]byte) (any, error) {
	return func(text []byte) (any, error) {
		var request Request
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&request); err != nil {
			return nil, Errorf("SerializationException", "the local stack cannot read the request: %v", err)
		}
		return handle(request)
	}
}

// Secret returns the operation GetSecretValue of Secrets Manager. The operation returns the given
// value for every secret id: access.Guard refuses a secret that the user's role does not allow.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func Secret(value string) Operations {
	return Operations{"secretsmanager.GetSecretValue": Operation(func(struct{ SecretID string }) (any, error) {
		return map[string]string{"SecretString": value}, nil
	})}
}

// Check returns why a request is refused, or nil.
type Check func(r *http.Request, body []byte) *Error

// Handler returns a handler that serves the operations to the requests that every check
// accepts.
func (o Operations) Handler(checks ...Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, err := o.respond(w, r, checks)
		status := http.StatusOK
		if err != nil {
			refused, ok := errors.AsType[*Error](err)
			status = http.StatusBadRequest
			if !ok {
				slog.Error("request failed", "target", r.Header.Get("X-Amz-Target"), "err", err)
				refused, status = &Error{"InternalFailure", err.Error()}, http.StatusInternalServerError
			}
			response = map[string]string{"__type": refused.Code, "message": refused.Message}
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(response)
	})
}

func (o Operations) respond(w http.ResponseWriter, r *http.Request, checks []Check) (any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, Errorf("SerializationException", "%v", err)
	}
	for _, check := range checks {
		if refused := check(r, body); refused != nil {
			return nil, refused
		}
	}
	target := r.Header.Get("X-Amz-Target")
	do, known := o[target]
	if !known {
		return nil, Errorf("UnknownOperationException", "the local stack does not serve %s", target)
	}
	return do(body)
}
