package states

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxEvents is the hard limit of the events of an execution:
// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
const maxEvents = 25000

// Instant is a time as AWS JSON writes it: seconds since 1970, with milliseconds.
type Instant struct{ time.Time }

// MarshalJSON writes a number such as 1551225271.984.
func (i Instant) MarshalJSON() ([]byte, error) {
	ms := i.UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (i *Instant) UnmarshalJSON(text []byte) error {
	ms, err := strconv.ParseInt(strings.Replace(string(text), ".", "", 1), 10, 64)
	i.Time = time.UnixMilli(ms).UTC()
	return err
}

// Event is an event of an execution's history, in the form in which
// GetExecutionHistory gives it. Ids count from 1.
type Event struct {
	ID         int64   `json:"id"`
	PreviousID int64   `json:"previousEventId"`
	Timestamp  Instant `json:"timestamp"`
	Type       string  `json:"type"`

	Started          *DataDetails       `json:"executionStartedEventDetails,omitempty"`
	StateEntered     *DataDetails       `json:"stateEnteredEventDetails,omitempty"`
	StateExited      *DataDetails       `json:"stateExitedEventDetails,omitempty"`
	TaskScheduled    *ScheduledDetails  `json:"taskScheduledEventDetails,omitempty"`
	TaskStarted      *TaskDetails       `json:"taskStartedEventDetails,omitempty"`
	TaskSucceeded    *TaskDetails       `json:"taskSucceededEventDetails,omitempty"`
	TaskFailed       *TaskDetails       `json:"taskFailedEventDetails,omitempty"`
	TaskTimedOut     *TaskDetails       `json:"taskTimedOutEventDetails,omitempty"`
	EvaluationFailed *EvaluationDetails `json:"evaluationFailedEventDetails,omitempty"`
	Succeeded        *DataDetails       `json:"executionSucceededEventDetails,omitempty"`
	Failed           *ErrorDetails      `json:"executionFailedEventDetails,omitempty"`
	TimedOut         *ErrorDetails      `json:"executionTimedOutEventDetails,omitempty"`
	Aborted          *ErrorDetails      `json:"executionAbortedEventDetails,omitempty"`
	Redriven         *RedrivenDetails   `json:"executionRedrivenEventDetails,omitempty"`
}

// DataDetails is the input or the output of a state, with its name, or of an
// execution, as JSON text.
type DataDetails struct {
	Name          string      `json:"name,omitempty"`
	Input         string      `json:"input,omitempty"`
	InputDetails  *Truncation `json:"inputDetails,omitempty"`
	Output        string      `json:"output,omitempty"`
	OutputDetails *Truncation `json:"outputDetails,omitempty"`
}

// Truncation says whether data was cut, which it never is here.
type Truncation struct {
	Truncated bool `json:"truncated"`
}

// ScheduledDetails is what a task was scheduled with.
type ScheduledDetails struct {
	ResourceType     string `json:"resourceType"`
	Resource         string `json:"resource"`
	Region           string `json:"region"`
	Parameters       string `json:"parameters"`
	TimeoutInSeconds int64  `json:"timeoutInSeconds"`
}

// TaskDetails is how a task began or ended.
type TaskDetails struct {
	ResourceType  string      `json:"resourceType"`
	Resource      string      `json:"resource"`
	Output        string      `json:"output,omitempty"`
	OutputDetails *Truncation `json:"outputDetails,omitempty"`
	ErrorDetails
}

// ErrorDetails is how a task or an execution failed or was stopped.
type ErrorDetails struct {
	Error string `json:"error,omitempty"`
	Cause string `json:"cause,omitempty"`
}

// EvaluationDetails is an expression that could not be evaluated.
type EvaluationDetails struct {
	State    string `json:"state"`
	Location string `json:"location"`
	ErrorDetails
}

// RedrivenDetails counts the redrives.
type RedrivenDetails struct {
	RedriveCount int `json:"redriveCount"`
}

// Path returns the names of the states that were entered, in order. A redrive
// does not enter the state that it goes on from.
func Path(history []Event) []string {
	var path []string
	for _, event := range history {
		if event.StateEntered != nil {
			path = append(path, event.StateEntered.Name)
		}
	}
	return path
}

// record adds an event. An execution that would have more than the limit allows
// fails in its place; one that has ended takes no more.
func (x *Execution) record(now time.Time, event Event) {
	if x.Status != Running {
		return
	}
	if x.LastEventID == maxEvents-1 {
		x.fail(now, errRuntime, fmt.Sprintf("The execution reached the maximum number of history events (%d).", maxEvents))
		return
	}
	x.add(now, event)
}

func (x *Execution) add(now time.Time, event Event) {
	event.Timestamp = Instant{now}
	// The first event after the start, and the two that come from outside, follow
	// no other: seen in histories of Step Functions itself.
	if x.LastEventID > 1 && event.Aborted == nil && event.TimedOut == nil {
		event.PreviousID = x.LastEventID
	}
	x.LastEventID++
	event.ID = x.LastEventID
	x.Events = append(x.Events, event)
}

// encodeEvents writes events as lines of JSON.
func encodeEvents(events []Event) []byte {
	var lines []byte
	for _, event := range events {
		lines = append(lines, compact(event)...)
		lines = append(lines, '\n')
	}
	return lines
}

// decodeEvents reads what encodeEvents writes.
func decodeEvents(lines [][]byte) ([]Event, error) {
	events := make([]Event, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal(line, &events[i]); err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	return events, nil
}
