// Package workflow holds what the functions and statemachine.asl.json share:
// the state that goes round the loop, and the names of the errors that end it.
package workflow

import (
	"encoding/json"
	"strings"
	"time"
)

// Job is the whole state of an execution: ids, keys and counters, below 4 KB,
// never a URL of media. Submit starts an execution with it, poll takes and
// returns it at every turn, and archive takes it when the job has ended.
type Job struct {
	Name        string    `json:"name"`
	Take        string    `json:"take"`
	RequestID   string    `json:"requestId"`
	Model       string    `json:"model"`
	SubmittedAt time.Time `json:"submittedAt"`

	// WaitSeconds is how long the Wait state waits before the next turn.
	WaitSeconds int `json:"waitSeconds"`

	// Ended says that RunComfy has ended the job, for good or bad.
	Ended bool `json:"ended"`

	// Seen is the state that the last turn wrote into the ledger.
	Seen string `json:"seen,omitempty"`

	// RunningSince is when a turn first found the job in progress.
	RunningSince time.Time `json:"runningSince,omitzero"`

	// Redrives is how often the execution had been redriven at the last turn.
	Redrives int `json:"redrives,omitempty"`

	// Troubles counts the turns in a row that brought no answer; TroubleSince
	// is the time of the first of them.
	Troubles     int       `json:"troubles,omitempty"`
	TroubleSince time.Time `json:"troubleSince,omitzero"`

	// Losses counts the turns in a row in which RunComfy did not know the
	// request; LostSince is the time of the first of them.
	Losses    int       `json:"losses,omitempty"`
	LostSince time.Time `json:"lostSince,omitzero"`
}

// Turn is what the state machine passes to poll.
type Turn struct {
	Job Job `json:"job"`
	// Redrives is how often the execution has been redriven.
	Redrives int `json:"redrives"`
}

// UnmarshalJSON also accepts a Job by itself: an execution that was started
// before an update of the stack keeps its old definition, which passes that.
func (t *Turn) UnmarshalJSON(text []byte) error {
	type turn Turn
	if err := json.Unmarshal(text, (*turn)(t)); err != nil {
		return err
	}
	if t.Job == (Job{}) {
		return json.Unmarshal(text, &t.Job)
	}
	return nil
}

// Archived is what archive returns, and so the output of an execution.
type Archived struct {
	Name    string   `json:"name"`
	Take    string   `json:"take"`
	Outputs []string `json:"outputs"`
}

// maxExecutionName is the longest name that Step Functions takes.
const maxExecutionName = 80

// ExecutionName returns the name of the execution of a take: a slug of the
// job's name, a hyphen and the take, at most 80 ASCII letters, digits, hyphens
// and underscores. The take holds a hash of the name, so that two names with
// one slug do not meet, and starting a take twice starts one execution.
func ExecutionName(name, take string) string {
	var slug strings.Builder
	for _, r := range name {
		if slug.Len() == maxExecutionName-len(take)-1 {
			break
		}
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			slug.WriteRune(r)
		default:
			slug.WriteByte('-')
		}
	}
	return slug.String() + "-" + take
}

// ExecutionARN returns the ARN of an execution of the machine with the given
// ARN.
func ExecutionARN(machineARN, executionName string) string {
	return strings.Replace(machineARN, ":stateMachine:", ":execution:", 1) + ":" + executionName
}
