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
)

// Machine is a parsed state machine. Its methods change only the Execution that
// they are given.
type Machine struct {
	// Random returns a number from 0 up to 1, by which full jitter multiplies a delay.
	// Parse sets it to rand.Float64.
	Random func() float64

	startAt string
	timeout time.Duration
	states  map[string]*state
}

// The types of states.
const (
	waitState   = "Wait"
	taskState   = "Task"
	choiceState = "Choice"
)

// state is a state as the definition has it, and its compiled expressions.
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

	seconds, output expression
	payload         value
}

type choice struct {
	Condition string `yaml:"Condition"`
	Next      string `yaml:"Next"`

	condition expression
}

type arguments struct {
	FunctionName string `yaml:"FunctionName"`
	Payload      any    `yaml:"Payload"`
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

// substitution matches ${Name} in a definition.
var substitution = regexp.MustCompile(`\$\{([^}]*)\}`)

// Parse reads a definition in the States Language, in which it replaces each
// ${Name} by the substitution of that name. Its error has a line for each thing
// that is wrong or that this package does not know.
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
	// JSON is YAML. Unlike encoding/json, this decoder refuses a member that is
	// given twice or in another case.
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
		for _, err := range append(s.compile(), s.checkTransitions(d.States)...) {
			problems = append(problems, fmt.Errorf("state %q: %w", name, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Machine{
		Random: rand.Float64, startAt: d.StartAt, timeout: time.Duration(d.TimeoutSeconds) * time.Second, states: d.States,
	}, nil
}

// compile checks a state and parses its expressions. It returns what is wrong.
func (s *state) compile() (problems []error) {
	check := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	require := func(ok bool, problem string) {
		if !ok {
			check(errors.New(problem))
		}
	}
	known := state{Comment: s.Comment, Type: s.Type}
	switch s.Type {
	case waitState:
		known.Seconds, known.Next = s.Seconds, s.Next
	case choiceState:
		known.Choices, known.Default = s.Choices, s.Default
	case taskState:
		known.Resource, known.Arguments, known.Output, known.TimeoutSeconds, known.Retry = s.Resource, s.Arguments, s.Output, s.TimeoutSeconds, s.Retry
		known.Next, known.End = s.Next, s.End
	default:
		return []error{fmt.Errorf("the type %q is not known; known: Choice, Task, Wait", s.Type)}
	}
	require(reflect.DeepEqual(*s, known), "it has a field that a "+s.Type+" does not have here")
	var err error
	switch s.Type {
	case waitState:
		s.seconds, err = parseExpression(s.Seconds, "input")
		check(err)
	case choiceState:
		require(len(s.Choices) > 0, "it has no Choices")
		for i := range s.Choices {
			s.Choices[i].condition, err = parseExpression(s.Choices[i].Condition, "input")
			check(err)
		}
	case taskState:
		require(s.Resource == "arn:aws:states:::lambda:invoke", "the Resource is not lambda:invoke")
		require(s.Arguments.FunctionName != "" && !strings.HasPrefix(s.Arguments.FunctionName, "{%"), "FunctionName must be an ARN")
		require(s.TimeoutSeconds > 0, "TimeoutSeconds must be at least 1")
		s.payload, err = parseValue(s.Arguments.Payload)
		check(err)
		s.output, err = parseExpression(s.Output, "result")
		check(err)
		for i, r := range s.Retry {
			check(r.check(i == len(s.Retry)-1))
		}
	}
	return problems
}

// check returns an error if a retrier has a form that is not known.
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
		return fmt.Errorf("the retrier of %s has no MaxAttempts", r.ErrorEquals[0])
	}
	if *r.MaxAttempts > 0 && (r.IntervalSeconds < 1 || r.BackoffRate < 1 || r.MaxDelaySeconds <= r.IntervalSeconds || r.JitterStrategy != "FULL") {
		return fmt.Errorf("the retrier of %s needs an interval, a rate of at least 1, a greater MaxDelaySeconds, and the jitter FULL", r.ErrorEquals[0])
	}
	return nil
}

// checkTransitions returns an error for each transition to a state that does not
// exist.
func (s *state) checkTransitions(all map[string]*state) (problems []error) {
	targets := []string{s.Next}
	if s.Type == choiceState {
		targets = []string{s.Default}
		for _, c := range s.Choices {
			targets = append(targets, c.Next)
		}
	}
	if s.End {
		if s.Next != "" {
			problems = append(problems, errors.New("it has both Next and End"))
		}
		return problems
	}
	for _, target := range targets {
		if all[target] == nil {
			problems = append(problems, fmt.Errorf("it leads to %q, which does not exist", target))
		}
	}
	return problems
}

// scope is what an expression can read: $states.input and $states.result, as JSON
// texts, and how often the execution was redriven.
type scope struct {
	input, result string
	redrives      int
}

// expression is a JSONata expression of one of three forms: $states.input or
// $states.result, a member of one of them, or redriveCount.
type expression struct{ text, root, member string }

// redriveCount is the only expression about the context object that Parse accepts. AWS
// documents the member only for executions that were redriven, and an expression without
// a value fails the state. So the expression is 0 if the member is missing.
const redriveCount = "{% $states.context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0 %}"

var path = regexp.MustCompile(`^\{% *\$states\.(input|result)(?:\.([A-Za-z_][A-Za-z0-9_]*))? *%\}$`)

// parseExpression parses an expression about the given roots.
func parseExpression(text string, roots ...string) (expression, error) {
	if text == redriveCount && slices.Contains(roots, redriveCount) {
		return expression{text: text, root: redriveCount}, nil
	}
	if found := path.FindStringSubmatch(text); found != nil && slices.Contains(roots, found[1]) {
		return expression{text, found[1], found[2]}, nil
	}
	return expression{}, fmt.Errorf("the expression %q is not known", text)
}

// eval returns the JSON text of the value.
func (e expression) eval(sc scope) (string, error) {
	if e.root == redriveCount {
		return fmt.Sprint(sc.redrives), nil
	}
	whole := sc.input
	if e.root == "result" {
		whole = sc.result
	}
	if e.member == "" {
		return whole, nil
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal([]byte(whole), &members) // only an object has members
	member, ok := members[e.member]
	if !ok {
		return "", fmt.Errorf("the JSONata expression %s returned nothing (undefined)", e.text)
	}
	return string(member), nil
}

// value is the payload of a task: an expression, or an object of expressions.
type value struct {
	whole   expression
	members map[string]expression
}

func parseValue(decoded any) (v value, err error) {
	switch d := decoded.(type) {
	case string:
		v.whole, err = parseExpression(d, "input", redriveCount)
		return v, err
	case map[string]any:
		v.members = map[string]expression{}
		for name, member := range d {
			text, _ := member.(string)
			if v.members[name], err = parseExpression(text, "input", redriveCount); err != nil {
				return v, err
			}
		}
		return v, nil
	}
	return v, errors.New("the Payload must be an expression or an object of expressions")
}

func (v value) eval(sc scope) (string, error) {
	if v.members == nil {
		return v.whole.eval(sc)
	}
	members := map[string]json.RawMessage{}
	for name, e := range v.members {
		text, err := e.eval(sc)
		if err != nil {
			return "", err
		}
		members[name] = json.RawMessage(text)
	}
	return compact(members), nil
}

// compact returns the JSON text of v on one line, with < > & as they are.
func compact(v any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // v was decoded from JSON, or holds only strings and numbers
	}
	return strings.TrimSuffix(text.String(), "\n")
}
