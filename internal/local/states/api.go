package states

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Operations returns the operations of the Step Functions API that the functions and
// the command call. Every operation fails before Resume and after Close.
func (s *Server) Operations() awsjson.Operations {
	return awsjson.Operations{
		"AWSStepFunctions.StartExecution":    operation(s, s.startExecution),
		"AWSStepFunctions.DescribeExecution": operation(s, s.describeExecution),
		"AWSStepFunctions.ListExecutions":    operation(s, s.listExecutions),
		"AWSStepFunctions.StopExecution":     operation(s, s.stopExecution),
		"AWSStepFunctions.RedriveExecution":  operation(s, s.redriveExecution),
	}
}

func operation[Request any](s *Server, do func(Request) (any, error)) func([]byte) (any, error) {
	return awsjson.Operation(func(request Request) (any, error) {
		s.mu.Lock()
		running := s.life != nil && s.life.Err() == nil
		s.mu.Unlock()
		if !running {
			return nil, errors.New("the endpoint is not running")
		}
		return do(request)
	})
}

func (s *Server) executionARN(name string) string { return workflow.ExecutionARN(s.ARN, name) }

func (s *Server) find(arn string) (*run, error) {
	name, ok := strings.CutPrefix(arn, s.executionARN(""))
	if r := s.runNamed(name); ok && r != nil {
		return r, nil
	}
	return nil, awsjson.Errorf("ExecutionDoesNotExist", "Execution Does Not Exist: '%s'", arn)
}

func (s *Server) checkMachine(arn string) error {
	if arn != s.ARN {
		return awsjson.Errorf("StateMachineDoesNotExist", "State Machine Does Not Exist: '%s'", arn)
	}
	return nil
}

// unixSeconds returns a time in the format of AWS JSON: seconds since 1970, or 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// executionName matches the names that workflow.ExecutionName makes. Step Functions accepts more characters.
var executionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// startExecution starts an execution. If an execution with the same name and input is running,
// startExecution returns the ARN of the running execution instead.
func (s *Server) startExecution(request struct{ StateMachineARN, Name, Input string }) (any, error) {
	if err := s.checkMachine(request.StateMachineARN); err != nil {
		return nil, err
	}
	if !executionName.MatchString(request.Name) {
		return nil, awsjson.Errorf("InvalidName", "Invalid Name: '%s'", request.Name)
	}
	if len(request.Input) > maxData || !json.Valid([]byte(request.Input)) {
		return nil, awsjson.Errorf("InvalidExecutionInput", "Invalid State Machine Execution Input: not JSON of at most %d bytes", maxData)
	}
	r, created, err := s.create(request.Name, request.Input)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.record.Execution
	if !created && (x.Status != Running || x.Input != request.Input) {
		return nil, awsjson.Errorf("ExecutionAlreadyExists", "Execution Already Exists: '%s'", s.executionARN(request.Name))
	}
	return map[string]any{"executionArn": s.executionARN(request.Name)}, nil
}

// description is what DescribeExecution returns, with the members that the functions read.
// ListExecutions leaves out Input, Error and Cause.
type description struct {
	ExecutionARN string  `json:"executionArn"`
	Name         string  `json:"name"`
	Status       Status  `json:"status"`
	StartDate    float64 `json:"startDate"`
	StopDate     float64 `json:"stopDate,omitzero"`
	RedriveCount int     `json:"redriveCount"`

	Input string `json:"input,omitempty"`
	Error string `json:"error,omitempty"`
	Cause string `json:"cause,omitempty"`
}

func (s *Server) describe(r *run, withData bool) description {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.record.Execution
	d := description{
		ExecutionARN: s.executionARN(r.record.Name), Name: r.record.Name, Status: x.Status,
		StartDate: unixSeconds(x.StartedAt), StopDate: unixSeconds(x.StoppedAt), RedriveCount: x.RedriveCount,
	}
	if withData {
		d.Input, d.Error, d.Cause = x.Input, x.Error, x.Cause
	}
	return d
}

func (s *Server) describeExecution(request struct{ ExecutionARN string }) (any, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return nil, err
	}
	return s.describe(r, true), nil
}

// listExecutions returns the executions that have the status StatusFilter, newest first. It has no
// pages: MaxResults is ignored.
func (s *Server) listExecutions(request struct {
	StateMachineARN string
	StatusFilter    Status
	MaxResults      int
}) (any, error) {
	if err := s.checkMachine(request.StateMachineARN); err != nil {
		return nil, err
	}
	s.mu.Lock()
	runs := slices.Collect(maps.Values(s.runs))
	s.mu.Unlock()
	matching := []description{}
	for _, r := range runs {
		if d := s.describe(r, false); d.Status == request.StatusFilter {
			matching = append(matching, d)
		}
	}
	slices.SortFunc(matching, func(a, b description) int {
		return cmp.Or(cmp.Compare(b.StartDate, a.StartDate), cmp.Compare(a.ExecutionARN, b.ExecutionARN))
	})
	return map[string]any{"executions": matching}, nil
}

// stopExecution aborts an execution and cancels its task. If the execution has ended,
// stopExecution does nothing.
func (s *Server) stopExecution(request struct{ ExecutionARN, Error, Cause string }) (any, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record.Execution.Status == Running {
		err := s.change(r, func(x *Execution) error {
			x.Abort(now(), request.Error, request.Cause)
			return nil
		})
		if err != nil {
			return nil, err
		}
		r.stop()
		s.notifyEnd(&r.record)
	}
	return struct{}{}, nil
}

// redriveExecution ignores the ClientToken. With it, AWS recognizes a request that a client
// sends again because the response was lost. No response is lost on loopback.
func (s *Server) redriveExecution(request struct{ ExecutionARN, ClientToken string }) (any, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	err = s.change(r, func(x *Execution) error { return s.Machine.Redrive(x, now()) })
	if reason, ok := errors.AsType[*NotRedrivable](err); ok {
		return nil, awsjson.Errorf("ExecutionNotRedrivable", "%s", reason.Reason)
	}
	if err != nil {
		return nil, err
	}
	s.startDriving(r)
	return struct{}{}, nil
}
