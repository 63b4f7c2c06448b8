package states

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// Machine is a parsed state machine. Its methods change only the Execution that
// they are given.
type Machine struct {
	// Random returns a number from 0 to below 1, by which full jitter multiplies a delay.
	// Parse sets Random to rand.Float64.
	Random func() float64

	startAt string
	timeout time.Duration
	states  map[string]*state
}

const (
	waitState   = "Wait"
	taskState   = "Task"
	choiceState = "Choice"
)

type state struct {
	Comment        string    `yaml:"Comment"`
	Type           string    `yaml:"Type"`
	Seconds        string    `yaml:"Seconds"`
	Choices        []choice  `yaml:"Choices"`
	Default        string    `yaml:"Default"`
	Resource       string    `yaml:"Resource"`
	Arguments      arguments `yaml:"Arguments"`
	Output         string    `yaml:"Output"`
	TimeoutSeconds int       `yaml:"TimeoutSeconds"`
	Retry          []retrier `yaml:"Retry"`
	Next           string    `yaml:"Next"`
	End            bool      `yaml:"End"`
}

type choice struct {
	Condition string `yaml:"Condition"`
	Next      string `yaml:"Next"`
}

type arguments struct {
	FunctionName string `yaml:"FunctionName"`
	Payload      any    `yaml:"Payload"` // an expression, or an object of expressions
}

// retrier is one entry of a Task's Retry.
type retrier struct {
	Comment         string   `yaml:"Comment"`
	ErrorEquals     []string `yaml:"ErrorEquals"`
	IntervalSeconds int      `yaml:"IntervalSeconds"`
	MaxAttempts     *int     `yaml:"MaxAttempts"`
	BackoffRate     float64  `yaml:"BackoffRate"`
	MaxDelaySeconds int      `yaml:"MaxDelaySeconds"`
	JitterStrategy  string   `yaml:"JitterStrategy"`
}

var substitution = regexp.MustCompile(`\$\{([^}]*)\}`)

// Parse reads a definition in the States Language. It first replaces each ${Name} in the
// definition by the substitution of that name. The error has a line for each problem that Parse
// found. Parse checks the states only if each ${Name} has a substitution and the result is JSON
// that can be decoded.
func Parse(text []byte, substitutions map[string]string) (*Machine, error) {
	var problems []error
	text = substitution.ReplaceAllFunc(text, func(match []byte) []byte {
		replacement, ok := substitutions[string(match[2:len(match)-1])]
		if !ok {
			problems = append(problems, fmt.Errorf("%s has no substitution", match))
		}
		return []byte(replacement)
	})
	if !json.Valid(text) {
		problems = append(problems, errors.New("the definition is not JSON"))
	}
	var d struct {
		Comment        string            `yaml:"Comment"`
		QueryLanguage  string            `yaml:"QueryLanguage"`
		StartAt        string            `yaml:"StartAt"`
		TimeoutSeconds int               `yaml:"TimeoutSeconds"`
		States         map[string]*state `yaml:"States"`
	}
	// JSON is YAML. Unlike encoding/json, this decoder refuses a member that occurs twice,
	// or whose name has the wrong case.
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := errors.Join(append(problems, decoder.Decode(&d))...); err != nil {
		return nil, err
	}
	if d.QueryLanguage != "JSONata" {
		problems = append(problems, fmt.Errorf("QueryLanguage is %q; only JSONata is known", d.QueryLanguage))
	}
	if d.TimeoutSeconds < 1 {
		problems = append(problems, errors.New("TimeoutSeconds must be at least 1"))
	}
	if d.States[d.StartAt] == nil {
		problems = append(problems, fmt.Errorf("StartAt: there is no state %q", d.StartAt))
	}
	for name, s := range d.States {
		if s == nil {
			problems = append(problems, fmt.Errorf("state %q: it is empty", name))
			continue
		}
		for _, problem := range s.check(d.States) {
			problems = append(problems, fmt.Errorf("state %q: %w", name, problem))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Machine{
		Random: rand.Float64, startAt: d.StartAt, timeout: time.Duration(d.TimeoutSeconds) * time.Second, states: d.States,
	}, nil
}

// check returns what is wrong with a state of a machine.
func (s *state) check(all map[string]*state) (problems []error) {
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	expression := func(text string, accepted ...string) {
		require(isExpression(text, accepted...), "the expression %q is not known", text)
	}
	known := state{Comment: s.Comment, Type: s.Type} // gets the fields that a state of the type may have
	targets := []string{s.Next}
	switch s.Type {
	case waitState:
		known.Seconds, known.Next = s.Seconds, s.Next
		expression(s.Seconds, "input")
	case choiceState:
		known.Choices, known.Default = s.Choices, s.Default
		require(len(s.Choices) > 0, "it has no Choices")
		targets = []string{s.Default}
		for _, c := range s.Choices {
			expression(c.Condition, "input")
			targets = append(targets, c.Next)
		}
	case taskState:
		known.Resource, known.Arguments, known.Output, known.TimeoutSeconds, known.Retry = s.Resource, s.Arguments, s.Output, s.TimeoutSeconds, s.Retry
		known.Next, known.End = s.Next, s.End
		require(s.Resource == "arn:aws:states:::lambda:invoke", "the Resource is not lambda:invoke")
		require(s.Arguments.FunctionName != "" && !strings.HasPrefix(s.Arguments.FunctionName, "{%"), "FunctionName must be an ARN")
		require(s.TimeoutSeconds > 0, "TimeoutSeconds must be at least 1")
		payload, ok := s.Arguments.Payload.(map[string]any)
		if !ok {
			payload = map[string]any{"": s.Arguments.Payload}
		}
		for _, value := range payload {
			expression(fmt.Sprint(value), "input", redriveCountExpression)
		}
		expression(s.Output, "result")
		for i, r := range s.Retry {
			if err := r.check(i == len(s.Retry)-1); err != nil {
				problems = append(problems, err)
			}
		}
		if s.End {
			require(s.Next == "", "it has both Next and End")
			targets = nil
		}
	default:
		return []error{fmt.Errorf("the type %q is not known; known: Choice, Task, Wait", s.Type)}
	}
	require(reflect.DeepEqual(*s, known), "it has a field that the local stack does not know in a %s", s.Type)
	for _, target := range targets {
		require(all[target] != nil, "its Next or Default is %q, which is not a state", target)
	}
	return problems
}

// check returns an error if a retrier has a form that the local stack does not know.
func (r *retrier) check(last bool) error {
	if len(r.ErrorEquals) == 0 {
		return errors.New("a retrier has no ErrorEquals")
	}
	for _, name := range r.ErrorEquals {
		if strings.HasPrefix(name, "States.") && name != errAll && name != errTimeout {
			return fmt.Errorf("a retrier of %s is not known", name)
		}
		if name == errAll && (len(r.ErrorEquals) > 1 || !last) {
			return fmt.Errorf("%s must be the only error of the last retrier", errAll)
		}
	}
	if r.MaxAttempts == nil || *r.MaxAttempts < 0 {
		return fmt.Errorf("the retrier of %s needs a MaxAttempts of at least 0", r.ErrorEquals[0])
	}
	if *r.MaxAttempts > 0 && (r.IntervalSeconds < 1 || r.BackoffRate < 1 || r.MaxDelaySeconds <= r.IntervalSeconds || r.JitterStrategy != "FULL") {
		return fmt.Errorf("the retrier of %s needs an IntervalSeconds and a BackoffRate of at least 1, a MaxDelaySeconds above its IntervalSeconds, and the JitterStrategy FULL", r.ErrorEquals[0])
	}
	return nil
}

// scope is what an expression can read: $states.input and $states.result, as JSON
// texts, and how often the execution was redriven.
type scope struct {
	input, result string
	redrives      int
}

// redriveCountExpression is the only expression about the context object that Parse accepts. AWS
// documents RedriveCount only for executions that were redriven, and an expression without
// a value fails the state. So the expression is 0 if RedriveCount is missing.
const redriveCountExpression = "{% $states.context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0 %}"

// memberExpression matches the other expressions that Parse accepts: $states.input, $states.result, or a
// member of either.
var memberExpression = regexp.MustCompile(`^\{% *\$states\.(input|result)(?:\.([A-Za-z_][A-Za-z0-9_]*))? *%\}$`)

// isExpression reports whether a text is one of the accepted expressions. Among the accepted
// expressions, "input" stands for $states.input and its members, "result" for $states.result and its
// members, and redriveCountExpression for itself.
func isExpression(text string, accepted ...string) bool {
	found := memberExpression.FindStringSubmatch(text)
	if found == nil {
		return text == redriveCountExpression && slices.Contains(accepted, text)
	}
	return slices.Contains(accepted, found[1])
}

// eval returns the JSON text of the value of an expression.
func (sc scope) eval(text string) (string, error) {
	found := memberExpression.FindStringSubmatch(text)
	if found == nil {
		return fmt.Sprint(sc.redrives), nil // it is redriveCountExpression; Parse refuses every other expression
	}
	whole := map[string]string{"input": sc.input, "result": sc.result}[found[1]]
	if found[2] == "" {
		return whole, nil
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal([]byte(whole), &members) // only an object has members
	member, ok := members[found[2]]
	if !ok {
		return "", fmt.Errorf("the JSONata expression %s returned nothing (undefined)", text)
	}
	return string(member), nil
}

// payload returns the JSON text of the payload of a task.
func (sc scope) payload(s *state) (string, error) {
	expressions, ok := s.Arguments.Payload.(map[string]any)
	if !ok {
		return sc.eval(s.Arguments.Payload.(string))
	}
	members := map[string]json.RawMessage{}
	for name, expression := range expressions {
		text, err := sc.eval(expression.(string))
		if err != nil {
			return "", err
		}
		members[name] = json.RawMessage(text)
	}
	return string(bytes.TrimSpace(bucket.JSON(members, ""))), nil
}
