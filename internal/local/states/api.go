package states

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// maxRequest bounds the body of a request: an input of 256 KiB may be six times
// as long when each byte of it is escaped.
const maxRequest = 2 << 20

// apiError is an error that the API answers with.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(code, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// invalid is the answer to a member that breaks a constraint of the API.
func invalid(member, constraint string, args ...any) error {
	return refuse("ValidationException", "1 validation error detected: Value at '%s' failed to satisfy constraint: %s",
		member, fmt.Sprintf(constraint, args...))
}

// ServeHTTP answers the Step Functions API in AWS JSON 1.0. It does not check
// signatures: see package access. It refuses unknown members of a request by name.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amzn-RequestId", newUUID())
	status := http.StatusOK
	answer, err := s.answer(w, r)
	if err != nil {
		failure, known := errors.AsType[*apiError](err)
		if !known {
			slog.Error("request not answered", "target", r.Header.Get("X-Amz-Target"), "err", err)
			failure = &apiError{http.StatusInternalServerError, "InternalServerError", err.Error()}
		}
		status = failure.status
		answer = map[string]string{"__type": failure.code, "message": failure.message}
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, compact(answer))
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	if !s.ready() {
		return nil, &apiError{http.StatusServiceUnavailable, "ServiceUnavailable", "the endpoint is not running"}
	}
	operation, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AWSStepFunctions.")
	if r.Method != http.MethodPost || !known {
		return nil, refuse("UnknownOperationException", "this endpoint takes POST requests with X-Amz-Target: AWSStepFunctions.OPERATION")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	switch operation {
	case "StartExecution":
		return handle(body, s.startExecution)
	case "DescribeExecution":
		return handle(body, s.describeExecution)
	case "ListExecutions":
		return handle(body, s.listExecutions)
	case "StopExecution":
		return handle(body, s.stopExecution)
	case "GetExecutionHistory":
		return handle(body, s.getExecutionHistory)
	case "RedriveExecution":
		return handle(body, s.redriveExecution)
	}
	return nil, refuse("UnknownOperationException", "%s is not known; known: StartExecution, DescribeExecution, "+
		"ListExecutions, StopExecution, GetExecutionHistory, RedriveExecution", operation)
}

// handle decodes a request and has it answered.
func handle[Request, Answer any](body []byte, do func(Request) (Answer, error)) (any, error) {
	var request Request
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		if strings.Contains(err.Error(), "unknown field") {
			return nil, refuse("ValidationException", "%v is not known here", err)
		}
		return nil, refuse("SerializationException", "%v", err)
	}
	return do(request)
}

// executionARN is the ARN of the execution of a name.
func (s *Server) executionARN(name string) string {
	return strings.Replace(s.ARN, ":stateMachine:", ":execution:", 1) + ":" + name
}

// find returns the execution with an ARN.
func (s *Server) find(arn string) (*run, error) {
	parts := strings.Split(arn, ":")
	if len(parts) != 8 || parts[0] != "arn" || parts[2] != "states" || parts[5] != "execution" {
		return nil, refuse("InvalidArn", "Invalid Arn: '%s'", arn)
	}
	r := s.run(parts[7])
	if r == nil || arn != s.executionARN(parts[7]) {
		return nil, refuse("ExecutionDoesNotExist", "Execution Does Not Exist: '%s'", arn)
	}
	return r, nil
}

// checkMachine refuses the ARN of any other state machine.
func (s *Server) checkMachine(arn string) error {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 || parts[0] != "arn" || parts[2] != "states" || parts[5] != "stateMachine" {
		return refuse("InvalidArn", "Invalid Arn: '%s'", arn)
	}
	if arn != s.ARN {
		return refuse("StateMachineDoesNotExist", "State Machine Does Not Exist: '%s'", arn)
	}
	return nil
}
