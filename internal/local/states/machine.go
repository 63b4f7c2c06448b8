package states

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// maxSeconds is the most that a field of seconds takes:
// https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html
const maxSeconds = 99999999

// lambdaInvoke is the one Resource that a Task may name.
const lambdaInvoke = "arn:aws:states:::lambda:invoke"

// Machine is a state machine that was parsed. Its methods change nothing but
// the Execution that they are given.
type Machine struct {
	// Random gives the numbers from 0 up to 1 that a full jitter multiplies a
	// delay with. Defaults to math/rand's.
	Random func() float64

	startAt string
	timeout time.Duration
	states  map[string]state
}

// kind is the Type of a state.
type kind string

const (
	waitState   kind = "Wait"
	taskState   kind = "Task"
	choiceState kind = "Choice"
)

type state struct {
	kind kind

	// next is the name of the state after a Wait or a Task, the Default of a
	// Choice; empty where there is none.
	next string

	seconds value    // of a Wait
	choices []choice // of a Choice

	// Of a Task. A nil output is the result as it is.
	functionARN string
	payload     value
	output      value
	timeout     time.Duration
	retry       []retrier
}

type choice struct {
	condition value
	next      string
}

// Parse reads a definition in the States Language, each ${Name} in its strings
// replaced by the substitution of that name. Its error has a line for
// everything that is wrong or not known, each naming the state, the field and
// what is known.
func Parse(text []byte, substitutions map[string]string) (*Machine, error) {
	d := &definition{substitutions: substitutions}
	top := fields{d, "definition", d.decode(text)}
	if top.members == nil {
		return nil, errors.Join(d.problems...)
	}
	top.only("a definition", "Comment", "QueryLanguage", "StartAt", "States", "TimeoutSeconds")
	top.word("QueryLanguage", "JSONata")
	m := &Machine{
		Random:  rand.Float64,
		startAt: top.text("StartAt"),
		timeout: time.Duration(top.whole("TimeoutSeconds", 1, maxSeconds)) * time.Second,
		states:  map[string]state{},
	}
	all := top.object("States")
	for _, name := range slices.Sorted(maps.Keys(all.members)) {
		f := all.object(name)
		f.at = fmt.Sprintf("state %q", name)
		m.states[name] = parseState(f)
	}
	if len(d.problems) == 0 {
		m.checkTransitions(d)
	}
	if len(d.problems) > 0 {
		return nil, errors.Join(d.problems...)
	}
	return m, nil
}

func parseState(f fields) state {
	s := state{kind: kind(f.word("Type", string(choiceState), string(taskState), string(waitState)))}
	switch s.kind {
	case waitState:
		f.only("a Wait", "Comment", "End", "Next", "Seconds", "Type")
		s.seconds = f.value("Seconds", "input")
		s.next = f.transition()
	case choiceState:
		f.only("a Choice", "Choices", "Comment", "Default", "Type")
		for _, c := range f.list("Choices") {
			c.only("a choice", "Comment", "Condition", "Next")
			s.choices = append(s.choices, choice{condition: c.value("Condition", "input"), next: c.text("Next")})
		}
		if !f.missing("Default") {
			s.next = f.text("Default")
		}
	case taskState:
		f.only("a Task", "Arguments", "Comment", "End", "Next", "Output", "Resource", "Retry", "TimeoutSeconds", "Type")
		f.word("Resource", lambdaInvoke)
		arguments := f.object("Arguments")
		arguments.only("the Arguments of lambda:invoke", "FunctionName", "Payload")
		s.functionARN = arguments.text("FunctionName")
		if strings.Contains(s.functionARN, "{%") {
			arguments.problem("FunctionName", "an expression is not known here; known: the ARN of a function")
		}
		s.payload = arguments.value("Payload", "input", redriveCount)
		if !f.missing("Output") {
			s.output = f.value("Output", "input", "result")
		}
		s.timeout = time.Duration(f.whole("TimeoutSeconds", 1, maxSeconds)) * time.Second
		if !f.missing("Retry") {
			s.retry = parseRetry(f.list("Retry"))
		}
		s.next = f.transition()
	}
	return s
}

// transition is the Next of a state, empty for End.
func (f fields) transition() string {
	if f.missing("Next") == f.missing("End") {
		f.problem("Next", "must be there, or End, but not both")
		return ""
	}
	if f.missing("Next") {
		if f.members["End"] != true {
			f.problem("End", "must be true")
		}
		return ""
	}
	return f.text("Next")
}

// parseRetry reads the retriers of a Task. What a retrier leaves out has the
// default of the States Language.
func parseRetry(entries []fields) []retrier {
	var all []retrier
	for i, f := range entries {
		f.only("a retrier", "BackoffRate", "Comment", "ErrorEquals", "IntervalSeconds", "JitterStrategy", "MaxAttempts", "MaxDelaySeconds")
		r := retrier{interval: time.Second, maxAttempts: 3, backoffRate: 2, errorEquals: errorNames(f)}
		if slices.Contains(r.errorEquals, errAll) && (len(r.errorEquals) > 1 || i < len(entries)-1) {
			f.problem("ErrorEquals", "%s must stand alone, in the last retrier", errAll)
		}
		if !f.missing("IntervalSeconds") {
			r.interval = time.Duration(f.whole("IntervalSeconds", 1, maxSeconds)) * time.Second
		}
		if !f.missing("MaxAttempts") {
			r.maxAttempts = int(f.whole("MaxAttempts", 0, maxSeconds))
		}
		if !f.missing("BackoffRate") {
			number, _ := f.members["BackoffRate"].(json.Number)
			rate, err := number.Float64()
			if err != nil || rate < 1 {
				f.problem("BackoffRate", "must be a number of at least 1")
			}
			r.backoffRate = rate
		}
		if !f.missing("MaxDelaySeconds") {
			// A year and a day: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
			const longest = 31622400
			r.maxDelay = time.Duration(f.whole("MaxDelaySeconds", 1, longest)) * time.Second
			if r.maxDelay <= r.interval {
				f.problem("MaxDelaySeconds", "must be greater than IntervalSeconds")
			}
		}
		if !f.missing("JitterStrategy") {
			r.fullJitter = f.word("JitterStrategy", "FULL", "NONE") == "FULL"
		}
		all = append(all, r)
	}
	return all
}

// errorNames is the ErrorEquals of a retrier: names of functions' errors and of
// Lambda's, and those of the States Language that can be retried.
func errorNames(f fields) []string {
	known := []string{errAll, errTaskFailed, errTimeout, errQueryEvaluation}
	items, _ := f.members["ErrorEquals"].([]any)
	if len(items) == 0 {
		f.problem("ErrorEquals", "must be a list of error names")
	}
	var all []string
	for _, item := range items {
		name, ok := item.(string)
		if !ok || name == "" {
			f.problem("ErrorEquals", "must be a list of error names")
		}
		if strings.HasPrefix(name, "States.") && !slices.Contains(known, name) {
			f.problem("ErrorEquals", "%s is not known; known of the States Language: %s", name, strings.Join(known, ", "))
		}
		all = append(all, name)
	}
	return all
}

// checkTransitions refuses a transition to a state that is not there and a state
// that no transition leads to, as Step Functions does.
func (m *Machine) checkTransitions(d *definition) {
	reached := map[string]bool{}
	var visit func(from, name string)
	visit = func(from, name string) {
		s, there := m.states[name]
		if !there {
			d.problem(from, "%q is no state; the states: %s", name, names(slices.Sorted(maps.Keys(m.states))))
		}
		if reached[name] || !there {
			return
		}
		reached[name] = true
		at := fmt.Sprintf("state %q", name)
		for i, c := range s.choices {
			visit(fmt.Sprintf("%s: Choices[%d]: field \"Next\"", at, i), c.next)
		}
		if s.next != "" {
			field := "Next"
			if s.kind == choiceState {
				field = "Default"
			}
			visit(fmt.Sprintf("%s: field %q", at, field), s.next)
		}
	}
	visit(`definition: field "StartAt"`, m.startAt)
	for _, name := range slices.Sorted(maps.Keys(m.states)) {
		if !reached[name] {
			d.problem(fmt.Sprintf("state %q", name), "no transition leads to it")
		}
	}
}
