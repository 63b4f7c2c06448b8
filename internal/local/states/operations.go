package states

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxName is the most characters of an execution's name.
const maxName = 80

// The most bytes of the error and of the cause that StopExecution takes.
const (
	maxError = 256
	maxCause = 32768
)

// A client token of RedriveExecution is known again for 15 minutes, the last 10
// of them: https://docs.aws.amazon.com/step-functions/latest/apireference/API_RedriveExecution.html
const (
	redriveTokenLife = 15 * time.Minute
	maxRedriveTokens = 10
)

// redriveToken remembers an answered RedriveExecution, which a client whose
// answer was lost sends again.
type redriveToken struct {
	Token string    `json:"token"`
	At    time.Time `json:"at"`
}

type startRequest struct {
	StateMachineARN string  `json:"stateMachineArn"`
	Name            string  `json:"name"`
	Input           *string `json:"input"`
}

type startAnswer struct {
	ExecutionARN string  `json:"executionArn"`
	StartDate    Instant `json:"startDate"`
}

func (s *Server) startExecution(request startRequest) (startAnswer, error) {
	if err := s.checkMachine(request.StateMachineARN); err != nil {
		return startAnswer{}, err
	}
	name, input := request.Name, "{}"
	if name == "" {
		name = newUUID()
	}
	if !validName(name) {
		return startAnswer{}, refuse("InvalidName", "Invalid Name: '%s'", name)
	}
	if request.Input != nil {
		input = *request.Input
	}
	if len(input) > maxData {
		return startAnswer{}, invalid("input", "Member must have length less than or equal to %d", maxData)
	}
	if !json.Valid([]byte(input)) {
		return startAnswer{}, refuse("InvalidExecutionInput", "Invalid State Machine Execution Input: not JSON")
	}
	r, created, err := s.create(name, input)
	if err != nil {
		return startAnswer{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.record.Execution
	if !created && (x.Status != Running || x.Input != input) {
		return startAnswer{}, refuse("ExecutionAlreadyExists", "Execution Already Exists: '%s'", s.executionARN(name))
	}
	return startAnswer{s.executionARN(name), Instant{x.StartedAt}}, nil
}

// validName says whether Step Functions takes the name of an execution.
func validName(name string) bool {
	return utf8.RuneCountInString(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("<>{}[]?*\"#%\\^|~`$&,;:/\ufffe\uffff\U0010ffff", r)
	})
}

type executionRequest struct {
	ExecutionARN string `json:"executionArn"`
}

// summary is what ListExecutions says about an execution.
type summary struct {
	ExecutionARN    string   `json:"executionArn"`
	StateMachineARN string   `json:"stateMachineArn"`
	Name            string   `json:"name"`
	Status          Status   `json:"status"`
	StartDate       Instant  `json:"startDate"`
	StopDate        *Instant `json:"stopDate,omitempty"`
	RedriveCount    int      `json:"redriveCount"`
	RedriveDate     *Instant `json:"redriveDate,omitempty"`
}

type description struct {
	summary
	Input               string    `json:"input"`
	InputDetails        included  `json:"inputDetails"`
	Output              string    `json:"output,omitempty"`
	OutputDetails       *included `json:"outputDetails,omitempty"`
	RedriveStatus       string    `json:"redriveStatus"`
	RedriveStatusReason string    `json:"redriveStatusReason,omitempty"`
	ErrorDetails
}

func (s *Server) summary(rec *record) summary {
	x := &rec.Execution
	return summary{
		ExecutionARN:    s.executionARN(rec.Name),
		StateMachineARN: s.ARN,
		Name:            rec.Name,
		Status:          x.Status,
		StartDate:       Instant{x.StartedAt},
		StopDate:        instant(x.StoppedAt),
		RedriveCount:    x.RedriveCount,
		RedriveDate:     instant(x.RedrivenAt),
	}
}

func instant(t time.Time) *Instant {
	if t.IsZero() {
		return nil
	}
	return &Instant{t}
}

func (s *Server) describeExecution(request executionRequest) (description, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return description{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.record.Execution
	d := description{
		summary:      s.summary(&r.record),
		Input:        x.Input,
		InputDetails: included{true},
		Output:       x.Output,
		ErrorDetails: ErrorDetails{x.Error, x.Cause},
	}
	if x.Status == Succeeded {
		d.OutputDetails = &included{true}
	}
	d.RedriveStatus, d.RedriveStatusReason = redriveStatus(x, s.now())
	return d, nil
}

type stopRequest struct {
	ExecutionARN string `json:"executionArn"`
	Error        string `json:"error"`
	Cause        string `json:"cause"`
}

type stopAnswer struct {
	StopDate Instant `json:"stopDate"`
}

// stopExecution aborts an execution and cancels its task. For one that has
// ended it answers when that was.
func (s *Server) stopExecution(request stopRequest) (stopAnswer, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return stopAnswer{}, err
	}
	if len(request.Error) > maxError {
		return stopAnswer{}, invalid("error", "Member must have length less than or equal to %d", maxError)
	}
	if len(request.Cause) > maxCause {
		return stopAnswer{}, invalid("cause", "Member must have length less than or equal to %d", maxCause)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record.Execution.Status == Running {
		err := s.change(r, func(rec *record) error {
			rec.Execution.Abort(s.now(), request.Error, request.Cause)
			return nil
		})
		if err != nil {
			return stopAnswer{}, err
		}
		r.stop()
	}
	return stopAnswer{Instant{r.record.Execution.StoppedAt}}, nil
}

type redriveRequest struct {
	ExecutionARN string `json:"executionArn"`
	ClientToken  string `json:"clientToken"`
}

type redriveAnswer struct {
	RedriveDate Instant `json:"redriveDate"`
}

func (s *Server) redriveExecution(request redriveRequest) (redriveAnswer, error) {
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return redriveAnswer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := s.now()
	known := slices.Clone(r.record.Redrives)
	known = slices.DeleteFunc(known, func(t redriveToken) bool { return now.Sub(t.At) > redriveTokenLife })
	for _, t := range known {
		if t.Token == request.ClientToken {
			return redriveAnswer{Instant{t.At}}, nil
		}
	}
	err = s.change(r, func(rec *record) error {
		if request.ClientToken != "" {
			known = append(known, redriveToken{request.ClientToken, now})
			rec.Redrives = known[max(0, len(known)-maxRedriveTokens):]
		}
		return s.Machine.Redrive(&rec.Execution, now)
	})
	if reason, ok := errors.AsType[*NotRedrivable](err); ok {
		return redriveAnswer{}, refuse("ExecutionNotRedrivable", "%s", reason.Reason)
	}
	if err != nil {
		return redriveAnswer{}, err
	}
	s.goOn(r)
	return redriveAnswer{Instant{now}}, nil
}
