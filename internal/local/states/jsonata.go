package states

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// scope is what an expression can see: $states.input, in the Output of a Task
// $states.result, and in its Payload how often the execution was redriven. The
// first two are JSON texts.
type scope struct {
	input, result string
	redrives      int
}

// redriveCount is the only expression about the context object that is known, after
// "$states.". It is 0 also where the context object of an execution that was never
// redriven lacks the member: an expression without a value fails the state.
const redriveCount = "context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0"

// value is a field of the definition that is evaluated: JSON in which each
// string of the form {% … %} is an expression.
type value interface {
	// eval returns the JSON text of the value.
	eval(scope) (string, error)
}

type (
	literal    string
	list       []value
	dictionary map[string]value

	// path is $states.input or $states.result, followed by member names, or the
	// expression redriveCount.
	path struct {
		text  string
		root  string
		steps []string
	}
)

var (
	numberPattern = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	pathPattern   = regexp.MustCompile(`^\$states\.(input|result)((?:\.[A-Za-z_][A-Za-z0-9_]*)*)$`)
)

// parseValue compiles a decoded JSON value. The roots are the members of
// $states that its expressions may name.
func parseValue(decoded any, roots ...string) (value, error) {
	switch v := decoded.(type) {
	case string:
		return parseString(v, roots)
	case []any:
		l := make(list, len(v))
		for i, item := range v {
			var err error
			if l[i], err = parseValue(item, roots...); err != nil {
				return nil, err
			}
		}
		return l, nil
	case map[string]any:
		d := make(dictionary, len(v))
		for name, member := range v {
			var err error
			if d[name], err = parseValue(member, roots...); err != nil {
				return nil, err
			}
		}
		return d, nil
	default:
		return literal(compact(v)), nil
	}
}

func parseString(s string, roots []string) (value, error) {
	inner, opened := strings.CutPrefix(s, "{%")
	inner, closed := strings.CutSuffix(inner, "%}")
	if !opened && !closed {
		return literal(compact(s)), nil
	}
	inner = strings.TrimSpace(inner)
	if opened && closed {
		if numberPattern.MatchString(inner) {
			return literal(inner), nil
		}
		if inner == "$states."+redriveCount && slices.Contains(roots, redriveCount) {
			return path{text: inner, root: redriveCount}, nil
		}
		if m := pathPattern.FindStringSubmatch(inner); m != nil && slices.Contains(roots, m[1]) {
			p := path{text: inner, root: m[1]}
			if m[2] != "" {
				p.steps = strings.Split(m[2][1:], ".")
			}
			return p, nil
		}
	}
	return nil, fmt.Errorf("the expression %s is not known; known: {%% and %%} around a number or a path of names from $states.%s",
		s, strings.Join(roots, " or $states."))
}

func (l literal) eval(scope) (string, error) { return string(l), nil }

func (l list) eval(sc scope) (string, error) {
	items := make([]string, len(l))
	for i, item := range l {
		var err error
		if items[i], err = item.eval(sc); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(items, ",") + "]", nil
}

func (d dictionary) eval(sc scope) (string, error) {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(d)) {
		member, err := d[name].eval(sc)
		if err != nil {
			return "", err
		}
		members = append(members, compact(name)+":"+member)
	}
	return "{" + strings.Join(members, ",") + "}", nil
}

func (p path) eval(sc scope) (string, error) {
	at := sc.input
	switch p.root {
	case "result":
		at = sc.result
	case redriveCount:
		at = strconv.Itoa(sc.redrives)
	}
	for _, step := range p.steps {
		// JSONata maps a path over an array, which the file has no use for.
		if strings.HasPrefix(strings.TrimSpace(at), "[") {
			return "", fmt.Errorf("the JSONata expression '%s' leads through an array at '%s'; only objects are known", p.text, step)
		}
		var members map[string]json.RawMessage
		// An error means that there is no object here, and so nothing below.
		_ = json.Unmarshal([]byte(at), &members)
		member, ok := members[step]
		if !ok {
			return "", fmt.Errorf("the JSONata expression '%s' returned nothing (undefined)", p.text)
		}
		at = string(member)
	}
	return at, nil
}

// compact is the JSON text of v on one line, with < > & as they are.
func compact(v any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		// Only what was decoded from JSON, and structs of strings and numbers, come here.
		panic(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
