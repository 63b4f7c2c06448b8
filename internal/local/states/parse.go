package states

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var substitutionPattern = regexp.MustCompile(`\$\{([^}]*)\}`)

// definition is the decoder of one definition: JSON with ${Name} in its
// strings. It collects what is wrong.
type definition struct {
	substitutions map[string]string
	problems      []error
}

func (d *definition) problem(at, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// decode returns the object of a definition, its strings substituted. Unlike
// encoding/json it refuses a member that is given twice: of two states with one
// name, only one would run.
func (d *definition) decode(text []byte) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	decoded, err := d.value(decoder, "")
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	} else if err == nil {
		if _, after := decoder.Token(); !errors.Is(after, io.EOF) {
			err = errors.New("there is something after the value")
		}
	}
	if err != nil {
		d.problem("definition", "not JSON: %v", err)
		return nil
	}
	object, ok := decoded.(map[string]any)
	if !ok {
		d.problem("definition", "not a JSON object")
	}
	return object
}

func (d *definition) value(decoder *json.Decoder, at string) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return d.object(decoder, at)
	case json.Delim('['):
		items := []any{}
		for decoder.More() {
			item, err := d.value(decoder, fmt.Sprintf("%s[%d]", at, len(items)))
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		_, err := decoder.Token()
		return items, err
	}
	if s, ok := token.(string); ok {
		return d.substitute(s, at), nil
	}
	return token, nil
}

func (d *definition) object(decoder *json.Decoder, at string) (map[string]any, error) {
	members := map[string]any{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string) // the decoder allows no other key
		where := strings.TrimPrefix(at+"."+name, ".")
		if substitutionPattern.MatchString(name) {
			d.problem(where, "a substitution is known in values alone, not in the name of a member")
		}
		value, err := d.value(decoder, where)
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			d.problem(where, "given twice")
			continue
		}
		members[name] = value
	}
	_, err := decoder.Token()
	return members, err
}

func (d *definition) substitute(s, at string) string {
	return substitutionPattern.ReplaceAllStringFunc(s, func(match string) string {
		name := match[2 : len(match)-1]
		replacement, ok := d.substitutions[name]
		if !ok {
			d.problem(at, "%s has no substitution; given: %s", match, names(slices.Sorted(maps.Keys(d.substitutions))))
			return match
		}
		return replacement
	})
}

// fields reads the members of one object of the definition.
type fields struct {
	*definition
	at      string // such as: state "Poll"
	members map[string]any
}

func (f fields) problem(field, format string, args ...any) {
	f.definition.problem(fmt.Sprintf("%s: field %q", f.at, field), format, args...)
}

// only refuses every field that is not one of the known ones, each of them in
// what, such as: a Task.
func (f fields) only(what string, known ...string) {
	slices.Sort(known)
	for _, field := range slices.Sorted(maps.Keys(f.members)) {
		if !slices.Contains(known, field) {
			f.problem(field, "not known; known in %s: %s", what, strings.Join(known, ", "))
		}
	}
}

func (f fields) missing(field string) bool {
	_, there := f.members[field]
	return !there
}

// text is a string that must be there and not be empty.
func (f fields) text(field string) string {
	s, ok := f.members[field].(string)
	if !ok || s == "" {
		f.problem(field, "must be a text that is not empty")
	}
	return s
}

// word is text that must be one of the known words.
func (f fields) word(field string, known ...string) string {
	s, _ := f.members[field].(string)
	if f.missing(field) {
		f.problem(field, "must be there; known: %s", strings.Join(known, ", "))
	} else if !slices.Contains(known, s) {
		f.problem(field, "%s is not known; known: %s", compact(f.members[field]), strings.Join(known, ", "))
	}
	return s
}

// whole is a whole number from least to most.
func (f fields) whole(field string, least, most int64) int64 {
	number, ok := f.members[field].(json.Number)
	n, err := number.Int64()
	if !ok || err != nil || n < least || n > most {
		f.problem(field, "must be a whole number from %d to %d", least, most)
	}
	return n
}

func (f fields) object(field string) fields {
	members, ok := f.members[field].(map[string]any)
	if !ok {
		f.problem(field, "must be an object")
	}
	return fields{f.definition, f.at + ": " + field, members}
}

// list is an array of objects, which must have at least one.
func (f fields) list(field string) []fields {
	items, _ := f.members[field].([]any)
	if len(items) == 0 {
		f.problem(field, "must be a list of objects")
	}
	var all []fields
	for i, item := range items {
		members, ok := item.(map[string]any)
		if !ok {
			f.problem(field, "must be a list of objects")
		}
		all = append(all, fields{f.definition, fmt.Sprintf("%s: %s[%d]", f.at, field, i), members})
	}
	return all
}

// value is a field whose expressions may name the given members of $states.
func (f fields) value(field string, roots ...string) value {
	if f.missing(field) {
		f.problem(field, "must be there")
		return nil
	}
	v, err := parseValue(f.members[field], roots...)
	if err != nil {
		f.problem(field, "%v", err)
	}
	return v
}

func names(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
