package states

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Status is the status of an execution.
type Status string

// The statuses that an execution can have.
const (
	Running   Status = "RUNNING"
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	TimedOut  Status = "TIMED_OUT"
	Aborted   Status = "ABORTED"
)

// phase is how far an execution has come in its state.
type phase string

const (
	arriving phase = "arriving" // the state is not entered yet
	entered  phase = "entered"  // the work of the state, or its next attempt, has not begun
	waiting  phase = "waiting"  // a Wait lasts until WakeAt
	calling  phase = "calling"  // a Task waits for its function
	backoff  phase = "backoff"  // a Task is tried again at WakeAt
)

// Execution is one run of a Machine. Encoded as JSON, it holds all that is needed
// to continue the run.
type Execution struct {
	Status     Status    `json:"status"`
	Input      string    `json:"input"`
	StartedAt  time.Time `json:"startedAt"`
	Deadline   time.Time `json:"deadline"`
	State      string    `json:"state"`
	StateInput string    `json:"stateInput"`
	Phase      phase     `json:"phase"`

	// WakeAt is when a wait, or a delay before a retry, ends.
	WakeAt time.Time `json:"wakeAt,omitzero"`

	// Retries counts the retries in the current state, by the index of the retrier.
	Retries map[int]int `json:"retries,omitempty"`

	StoppedAt    time.Time `json:"stoppedAt,omitzero"`
	Output       string    `json:"output,omitempty"`
	Error        string    `json:"error,omitempty"`
	Cause        string    `json:"cause,omitempty"`
	RedriveCount int       `json:"redriveCount"`
	Events       []Event   `json:"events"`
}

// Event is an event of the history of an execution. Type is the name that Step Functions
// gives the event. State is the name of the state that was entered, if any. Error is the name
// of the error, if any.
type Event struct {
	At    time.Time `json:"at"`
	Type  string    `json:"type"`
	State string    `json:"state,omitempty"`
	Error string    `json:"error,omitempty"`
}

// Path returns the names of the states that the execution entered, in order. A state that a
// redrive continues is not entered again.
func (x *Execution) Path() []string {
	var path []string
	for _, event := range x.Events {
		if event.State != "" {
			path = append(path, event.State)
		}
	}
	return path
}

// Start returns a new execution with an input, which must be JSON text of at most
// 256 KiB.
func (m *Machine) Start(input string, now time.Time) *Execution {
	x := &Execution{
		Status: Running, Input: input, StartedAt: now, Deadline: now.Add(m.timeout),
		State: m.startAt, StateInput: input, Phase: arriving,
	}
	x.record(now, Event{Type: "ExecutionStarted"})
	return x
}

// Step enters and leaves states and invokes functions until x must wait or has ended. wake
// is the time of the next call of Step, and done reports whether x has ended. In a
// simulation, now is a virtual clock, and invoke may advance that clock.
//
// If ctx is done during an invocation, Step discards the outcome of the invocation and
// returns. The next Step invokes the function again. Step also invokes it again if x was
// stored during an invocation, and the process was killed before the invocation ended.
func (m *Machine) Step(ctx context.Context, x *Execution, now func() time.Time, invoke Invoker) (wake time.Time, done bool) {
	for x.Status == Running {
		at := now()
		if !at.Before(x.Deadline) {
			x.end(at, TimedOut, "ExecutionTimedOut", "", "")
			break
		}
		s := m.states[x.State]
		if s == nil {
			x.fail(at, errRuntime, fmt.Sprintf("The state machine has no state %q.", x.State))
			break
		}
		switch x.Phase {
		case arriving:
			x.record(at, Event{Type: s.Type + "StateEntered", State: x.State})
			x.Phase = entered
		case entered:
			m.begin(x, s, at)
		case calling:
			result, failure := s.call(ctx, x, now, invoke)
			if ctx.Err() != nil {
				return now(), false
			}
			m.finishCall(x, s, now(), result, failure)
		case waiting, backoff:
			if at.Before(x.WakeAt) {
				return earlier(x.WakeAt, x.Deadline), false
			}
			if x.Phase == waiting {
				x.leave(at, s, s.Next, x.StateInput)
			} else {
				x.Phase = entered
			}
		}
	}
	return time.Time{}, true
}

// call invokes the function of a Task, and cancels the invocation when the task or the
// execution times out. It returns the result, or how the task failed.
func (s *state) call(ctx context.Context, x *Execution, now func() time.Time, invoke Invoker) ([]byte, *TaskError) {
	payload, _ := scope{input: x.StateInput, redrives: x.RedriveCount}.payload(s) // begin has checked the payload
	began := now()
	deadline := began.Add(time.Duration(s.TimeoutSeconds) * time.Second)
	limited, cancel := context.WithTimeout(ctx, earlier(deadline, x.Deadline).Sub(began))
	defer cancel()
	result, err := invoke(limited, s.Arguments.FunctionName, []byte(payload))
	if !now().Before(deadline) || err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return nil, &TaskError{Name: errTimeout}
	}
	return result, taskError(result, err)
}

// begin begins the work of the state s, or another attempt of a Task.
func (m *Machine) begin(x *Execution, s *state, now time.Time) {
	switch s.Type {
	case waitState:
		text, err := scope{input: x.StateInput}.eval(s.Seconds)
		seconds, notWhole := strconv.ParseUint(text, 10, 32)
		if err == nil && notWhole != nil {
			err = fmt.Errorf("%s is %.100s, not a whole number of seconds", s.Seconds, text)
		}
		if err != nil {
			m.evaluationFailed(x, s, now, err)
			return
		}
		x.WakeAt, x.Phase = now.Add(time.Duration(seconds)*time.Second), waiting
	case choiceState:
		m.choose(x, s, now)
	case taskState:
		if _, err := (scope{input: x.StateInput, redrives: x.RedriveCount}).payload(s); err != nil {
			m.evaluationFailed(x, s, now, err)
			return
		}
		x.record(now, Event{Type: "TaskScheduled"})
		x.record(now, Event{Type: "TaskStarted"})
		x.Phase = calling
	}
}

func (m *Machine) choose(x *Execution, s *state, now time.Time) {
	next := s.Default
	for _, c := range s.Choices {
		text, err := scope{input: x.StateInput}.eval(c.Condition)
		if err == nil && text != "true" && text != "false" {
			err = fmt.Errorf("%s is %.100s, not true or false", c.Condition, text)
		}
		if err != nil {
			m.evaluationFailed(x, s, now, err)
			return
		}
		if text == "true" {
			next = c.Next
			break
		}
	}
	x.leave(now, s, next, x.StateInput)
}

// finishCall records in x the outcome of a call.
func (m *Machine) finishCall(x *Execution, s *state, now time.Time, result []byte, failure *TaskError) {
	// x may have been stopped or redriven during the call. If the deadline of x has passed, Step
	// ends x.
	if x.Status != Running || x.Phase != calling || !now.Before(x.Deadline) {
		return
	}
	if failure != nil {
		event := Event{Type: "TaskFailed", Error: failure.Name}
		if failure.Name == errTimeout {
			event.Type = "TaskTimedOut"
		}
		x.record(now, event)
		m.retryOrFail(x, s, now, failure)
		return
	}
	x.record(now, Event{Type: "TaskSucceeded"})
	output, err := scope{result: `{"ExecutedVersion":"$LATEST","Payload":` + string(result) + `,"StatusCode":200}`}.eval(s.Output)
	if err != nil {
		m.evaluationFailed(x, s, now, err)
		return
	}
	x.leave(now, s, s.Next, output)
}

// taskError returns how an invocation failed, or nil if it succeeded.
func taskError(result []byte, err error) *TaskError {
	if failure, ok := errors.AsType[*TaskError](err); ok {
		return failure
	}
	switch {
	case err != nil:
		return &TaskError{errSDKClient, err.Error()}
	case !json.Valid(result):
		return &TaskError{errLambdaUnknown, "The response of the function is not JSON."}
	case len(result) > maxData:
		return &TaskError{errDataLimitExceeded, "The state/task 'lambda' returned a result with a size exceeding the maximum number of bytes service limit."}
	}
	return nil
}

func (m *Machine) evaluationFailed(x *Execution, s *state, now time.Time, err error) {
	x.record(now, Event{Type: "EvaluationFailed", Error: errQueryEvaluation})
	m.retryOrFail(x, s, now, &TaskError{errQueryEvaluation, fmt.Sprintf("An error occurred while executing the state '%s': %v.", x.State, err)})
}

// retryOrFail schedules another attempt if the first retrier that matches the error has
// attempts left, and fails the execution otherwise.
func (m *Machine) retryOrFail(x *Execution, s *state, now time.Time, failure *TaskError) {
	for i, r := range s.Retry {
		if !r.matches(failure.Name) {
			continue
		}
		made := x.Retries[i]
		if made >= *r.MaxAttempts {
			break
		}
		if x.Retries == nil {
			x.Retries = map[int]int{}
		}
		x.Retries[i]++
		x.WakeAt, x.Phase = now.Add(r.delay(made, m.Random())), backoff
		return
	}
	x.fail(now, failure.Name, failure.Cause)
}

// matches reports whether the retrier is for the error with this name. As on AWS, States.ALL
// matches neither States.Runtime nor States.DataLimitExceeded.
func (r *retrier) matches(name string) bool {
	return slices.Contains(r.ErrorEquals, name) ||
		slices.Contains(r.ErrorEquals, errAll) && name != errRuntime && name != errDataLimitExceeded
}

// delay returns how long to wait before the next attempt, in whole milliseconds. The jitter also
// shortens a delay that MaxDelaySeconds limits.
func (r *retrier) delay(made int, jitter float64) time.Duration {
	seconds := min(float64(r.IntervalSeconds)*math.Pow(r.BackoffRate, float64(made)), float64(r.MaxDelaySeconds))
	return time.Duration(seconds * jitter * float64(time.Second)).Round(time.Millisecond)
}

// leave exits the state s with an output. The output becomes the input of the next state, or
// the output of the execution if s is the last state.
func (x *Execution) leave(now time.Time, s *state, next, output string) {
	x.record(now, Event{Type: s.Type + "StateExited"})
	switch {
	case x.Status != Running: // the history is full
	case next == "":
		x.Output = output
		x.end(now, Succeeded, "ExecutionSucceeded", "", "")
	default:
		x.State, x.StateInput, x.Phase, x.Retries = next, output, arriving, nil
	}
}

// record adds an event to x. If the history of x has room for only one more event, x fails
// instead, and its failure is the last event. If x has ended, record does nothing.
func (x *Execution) record(now time.Time, event Event) {
	if x.Status != Running {
		return
	}
	if len(x.Events) == maxEvents-1 {
		x.fail(now, errRuntime, fmt.Sprintf("The execution reached the maximum number of history events (%d).", maxEvents))
		return
	}
	event.At = now
	x.Events = append(x.Events, event)
}

func (x *Execution) fail(now time.Time, name, cause string) {
	x.end(now, Failed, "ExecutionFailed", name, cause)
}

// Abort stops x with an error name and a cause, which may both be empty. If x has ended,
// Abort does nothing.
func (x *Execution) Abort(now time.Time, name, cause string) {
	x.end(now, Aborted, "ExecutionAborted", name, cause)
}

// end ends x. If x has ended before, end does nothing.
func (x *Execution) end(now time.Time, status Status, event, name, cause string) {
	if x.Status != Running {
		return
	}
	x.Events = append(x.Events, Event{At: now, Type: event, Error: name})
	x.Status, x.StoppedAt, x.Error, x.Cause = status, now, name, cause
}

// NotRedrivable says why an execution cannot be redriven.
type NotRedrivable struct{ Reason string }

func (e *NotRedrivable) Error() string { return e.Reason }

// Redrive continues x from the state that did not succeed, with the input of that
// state: a Wait waits again, a Task has all its retries again, and the timeout of
// the machine starts again. It returns a *NotRedrivable if x cannot be redriven.
func (m *Machine) Redrive(x *Execution, now time.Time) error {
	switch {
	case x.Status == Running || x.Status == Succeeded:
		return &NotRedrivable{"Execution is " + string(x.Status) + " and cannot be redriven"}
	case len(x.Events) >= maxEvents-1: // there must be room for the event of the redrive and one more event
		return &NotRedrivable{"Execution history event limit exceeded"}
	}
	x.Status, x.StoppedAt, x.Error, x.Cause = Running, time.Time{}, "", ""
	x.Deadline, x.Retries = now.Add(m.timeout), nil
	if x.Phase != arriving {
		x.Phase = entered
	}
	x.RedriveCount++
	x.record(now, Event{Type: "ExecutionRedriven"})
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
