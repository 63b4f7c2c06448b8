package states

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	entered  phase = "entered"  // what the state does is to be begun
	waiting  phase = "waiting"  // a Wait goes on until WakeAt
	calling  phase = "calling"  // a Task waits for its function
	backoff  phase = "backoff"  // a Task is tried again at WakeAt
)

// Execution is one run of a Machine. It holds all that is needed to go on with
// it, as JSON too.
type Execution struct {
	Status     Status    `json:"status"`
	Input      string    `json:"input"`
	StartedAt  time.Time `json:"startedAt"`
	Deadline   time.Time `json:"deadline"`
	State      string    `json:"state"`
	StateInput string    `json:"stateInput"`
	Phase      phase     `json:"phase"`

	// WakeAt is when a wait or a delay before a retry ends, and TaskDeadline
	// when the task under way times out.
	WakeAt       time.Time `json:"wakeAt,omitzero"`
	TaskDeadline time.Time `json:"taskDeadline,omitzero"`

	// Retries counts the retries in the current state, by the place of the
	// retrier in Retry.
	Retries map[int]int `json:"retries,omitempty"`

	StoppedAt    time.Time `json:"stoppedAt,omitzero"`
	Output       string    `json:"output,omitempty"`
	Error        string    `json:"error,omitempty"`
	Cause        string    `json:"cause,omitempty"`
	RedriveCount int       `json:"redriveCount"`
	RedrivenAt   time.Time `json:"redrivenAt,omitzero"`
	LastEventID  int64     `json:"lastEventId"`

	// Events is the history since its owner last took it away. An owner that
	// keeps the history elsewhere may empty it at any time.
	Events []Event `json:"events,omitempty"`
}

// Start begins an execution with an input, which must be JSON text of at most
// 256 KiB.
func (m *Machine) Start(input string, now time.Time) *Execution {
	x := &Execution{
		Status:     Running,
		Input:      input,
		StartedAt:  now,
		Deadline:   now.Add(m.timeout),
		State:      m.startAt,
		StateInput: input,
		Phase:      arriving,
	}
	x.record(now, Event{Type: "ExecutionStarted", Started: &DataDetails{Input: input, InputDetails: &Truncation{}}})
	return x
}

// Advance takes x as far as it can go now. It returns the call that x waits
// for, or when to call Advance again; neither when x has ended. Advance again
// instead of Deliver begins the call anew, which is how an execution goes on
// whose caller was killed.
func (m *Machine) Advance(x *Execution, now time.Time) (call *Call, wake time.Time) {
	for x.Status == Running {
		if !now.Before(x.Deadline) {
			x.end(now, TimedOut, Event{Type: "ExecutionTimedOut", TimedOut: &ErrorDetails{}})
			break
		}
		s, there := m.states[x.State]
		if !there {
			x.fail(now, errRuntime, fmt.Sprintf("The state machine has no state %q.", x.State))
			break
		}
		switch x.Phase {
		case arriving:
			x.record(now, Event{
				Type:         string(s.kind) + "StateEntered",
				StateEntered: &DataDetails{Name: x.State, Input: x.StateInput, InputDetails: &Truncation{}},
			})
			x.Phase = entered
		case entered:
			m.begin(x, s, now)
		case calling:
			payload, err := s.payload.eval(scope{input: x.StateInput, redrives: x.RedriveCount})
			if err != nil {
				m.evaluationFailed(x, s, now, "Payload", err)
				continue
			}
			x.TaskDeadline = now.Add(s.timeout)
			return &Call{FunctionARN: s.functionARN, Payload: []byte(payload), Deadline: earlier(x.TaskDeadline, x.Deadline)}, time.Time{}
		case waiting, backoff:
			if now.Before(x.WakeAt) {
				return nil, earlier(x.WakeAt, x.Deadline)
			}
			if x.Phase == waiting {
				x.leave(now, s, s.next, x.StateInput)
			} else {
				x.Phase = entered
			}
		}
	}
	return nil, time.Time{}
}

// begin does what a state does when it has been entered, or a Task when it is
// tried again.
func (m *Machine) begin(x *Execution, s state, now time.Time) {
	sc := scope{input: x.StateInput}
	switch s.kind {
	case waitState:
		text, err := s.seconds.eval(sc)
		seconds, notWhole := strconv.ParseInt(text, 10, 64)
		if err == nil && (notWhole != nil || seconds < 0 || seconds > maxSeconds) {
			err = fmt.Errorf("the value is %.100s, not a whole number of seconds from 0 to %d", text, maxSeconds)
		}
		if err != nil {
			m.evaluationFailed(x, s, now, "Seconds", err)
			return
		}
		x.WakeAt = now.Add(time.Duration(seconds) * time.Second)
		x.Phase = waiting
	case choiceState:
		m.choose(x, s, now)
	case taskState:
		payload, err := s.payload.eval(scope{input: x.StateInput, redrives: x.RedriveCount})
		if err != nil {
			m.evaluationFailed(x, s, now, "Payload", err)
			return
		}
		scheduled := &ScheduledDetails{
			ResourceType:     "lambda",
			Resource:         "invoke",
			Parameters:       `{"FunctionName":` + compact(s.functionARN) + `,"Payload":` + payload + `}`,
			TimeoutInSeconds: int64(s.timeout / time.Second),
		}
		if parts := strings.Split(s.functionARN, ":"); len(parts) > 3 {
			scheduled.Region = parts[3]
		}
		x.record(now, Event{Type: "TaskScheduled", TaskScheduled: scheduled})
		x.record(now, Event{Type: "TaskStarted", TaskStarted: lambdaTask()})
		x.Phase = calling
	}
}

func (m *Machine) choose(x *Execution, s state, now time.Time) {
	next := s.next
	for i, c := range s.choices {
		text, err := c.condition.eval(scope{input: x.StateInput})
		if err == nil && text != "true" && text != "false" {
			err = fmt.Errorf("the value is %.100s, not true or false", text)
		}
		if err != nil {
			m.evaluationFailed(x, s, now, fmt.Sprintf("Choices[%d].Condition", i), err)
			return
		}
		if text == "true" {
			next = c.next
			break
		}
	}
	if next == "" {
		x.fail(now, errNoChoiceMatched, fmt.Sprintf("No choice of state %q holds, and it has no Default.", x.State))
		return
	}
	x.leave(now, s, next, x.StateInput)
}

// Deliver hands over the outcome of the call that Advance returned: the result
// of the function, or how it failed. It takes x no further than to the next
// state or attempt. The outcome of a call that x no longer waits for is dropped.
func (m *Machine) Deliver(x *Execution, now time.Time, result []byte, err error) {
	// The end of the execution's own time is Advance's to record.
	if x.Status != Running || x.Phase != calling || !now.Before(x.Deadline) {
		return
	}
	s := m.states[x.State]
	details := lambdaTask()
	failure := taskError(result, err)
	if !now.Before(x.TaskDeadline) {
		failure = &TaskError{Name: errTimeout}
	}
	output := `{"ExecutedVersion":"$LATEST","Payload":` + string(result) + `,"StatusCode":200}`
	if failure == nil && len(output) > maxData {
		failure = &TaskError{errDataLimitExceeded, "The state/task 'lambda' returned a result with a size exceeding the maximum number of bytes service limit."}
	}
	switch {
	case failure == nil:
		details.Output, details.OutputDetails = output, &Truncation{}
		x.record(now, Event{Type: "TaskSucceeded", TaskSucceeded: details})
	case failure.Name == errTimeout:
		details.ErrorDetails = ErrorDetails{failure.Name, failure.Cause}
		x.record(now, Event{Type: "TaskTimedOut", TaskTimedOut: details})
	default:
		details.ErrorDetails = ErrorDetails{failure.Name, failure.Cause}
		x.record(now, Event{Type: "TaskFailed", TaskFailed: details})
	}
	if failure != nil {
		m.raise(x, s, now, failure)
		return
	}
	if s.output != nil {
		if output, err = s.output.eval(scope{input: x.StateInput, result: output}); err != nil {
			m.evaluationFailed(x, s, now, "Output", err)
			return
		}
	}
	x.leave(now, s, s.next, output)
}

func lambdaTask() *TaskDetails {
	return &TaskDetails{ResourceType: "lambda", Resource: "invoke"}
}

// taskError is what an invocation's outcome counts as, nil for success.
func taskError(result []byte, err error) *TaskError {
	if failure, ok := errors.AsType[*TaskError](err); ok {
		return failure
	}
	if err != nil {
		return &TaskError{errSDKClient, err.Error()}
	}
	if !json.Valid(result) {
		return &TaskError{errLambdaUnknown, "The function returned what is not JSON."}
	}
	return nil
}

func (m *Machine) evaluationFailed(x *Execution, s state, now time.Time, field string, err error) {
	failure := &TaskError{errQueryEvaluation, fmt.Sprintf("An error occurred while executing the state '%s': the field '%s': %v.", x.State, field, err)}
	x.record(now, Event{Type: "EvaluationFailed", EvaluationFailed: &EvaluationDetails{
		State: x.State, Location: field, ErrorDetails: ErrorDetails{failure.Name, failure.Cause},
	}})
	m.raise(x, s, now, failure)
}

// raise has the first retrier that matches the error try the state again, if it
// has attempts left, and fails the execution otherwise.
func (m *Machine) raise(x *Execution, s state, now time.Time, failure *TaskError) {
	for i, r := range s.retry {
		if !r.matches(failure.Name) {
			continue
		}
		made := x.Retries[i]
		if made == r.maxAttempts {
			break
		}
		if x.Retries == nil {
			x.Retries = map[int]int{}
		}
		x.Retries[i]++
		x.WakeAt = now.Add(r.delay(made, m.Random))
		x.Phase = backoff
		return
	}
	x.fail(now, failure.Name, failure.Cause)
}

// leave exits the state with an output, which is the next state's input, or the
// execution's output after the last one.
func (x *Execution) leave(now time.Time, s state, next, output string) {
	if len(output) > maxData {
		x.fail(now, errDataLimitExceeded, fmt.Sprintf("The state/task '%s' returned a result with a size exceeding the maximum number of bytes service limit.", x.State))
		return
	}
	x.record(now, Event{
		Type:        string(s.kind) + "StateExited",
		StateExited: &DataDetails{Name: x.State, Output: output, OutputDetails: &Truncation{}},
	})
	if next == "" {
		x.end(now, Succeeded, Event{Type: "ExecutionSucceeded", Succeeded: &DataDetails{Output: output, OutputDetails: &Truncation{}}})
		return
	}
	if x.Status == Running {
		x.State, x.StateInput, x.Phase, x.Retries = next, output, arriving, nil
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
