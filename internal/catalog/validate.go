package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// maxNumber is the length of the longest number that is accepted, in bytes. It bounds
// the time to parse a number.
const maxNumber = 64

// Validate returns the problems of an input, sorted by reason: at most one for each member, and
// one for the input as a whole. Media are texts; Validate does not read the files that they name.
// Numbers are json.Number, float64 or int; 5.0 is a whole number. Validate does not change the
// input, and fills in no defaults: some defaults in RunComfy's schemas are only samples.
func (m *Model) Validate(input map[string]any) []problem.Problem {
	return m.check(input, false)
}

// Value converts a text to a value of the named property. If the text spells a number or boolean,
// and the property accepts that type but no texts, Value returns the number or boolean; TRUE
// counts as true. Otherwise it returns the text.
func (m *Model) Value(name, text string) any {
	s, ok := m.schema.Properties[name]
	if !ok || s.Types == nil {
		return text
	}
	accepts := func(kind string) bool { return slices.Contains(s.Types.ToStrings(), kind) }
	bare, ok := unquoted(strings.ToLower(strings.TrimSpace(text)))
	kinds := []string{"number", "integer"}
	if _, isBool := bare.(bool); isBool {
		kinds = []string{"boolean"}
	}
	if !ok || accepts("string") || !slices.ContainsFunc(kinds, accepts) {
		return text
	}
	return bare
}

// ValidateOptions is Validate for the options of a preset: no member is required,
// and media are a problem.
func (m *Model) ValidateOptions(options map[string]any) []problem.Problem {
	return m.check(options, true)
}

func (m *Model) check(input map[string]any, preset bool) []problem.Problem {
	known, noun := m.names, "input"
	if preset {
		known, noun = m.optionNames(), "option"
	}
	found := make(map[string]problem.Problem)
	misspelt := make(map[string]bool) // known members that the input misspells
	checked := make(map[string]any, len(input))
	for _, name := range slices.Sorted(maps.Keys(input)) {
		value := input[name]
		_, isMedia := m.mediaProperty(name)
		switch {
		case !slices.Contains(m.names, name):
			found[name] = m.unknownMember(name, input, noun, known, misspelt)
		case preset && isMedia:
			found[name] = problem.Problem{
				Code:   problem.MediaInPreset,
				Reason: fmt.Sprintf("%s accepts media; it is not an option", name),
				Remedy: fmt.Sprintf("Remove %s: the media are the uploaded files.", name),
			}
		case !isUsable(value):
			found[name] = m.badValue(name, value, nil)
		default:
			checked[name] = value
		}
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](m.schema.Validate(checked)); ok {
		for _, leaf := range leaves(invalid) {
			switch required, ok := leaf.ErrorKind.(*kind.Required); {
			case len(leaf.InstanceLocation) > 0:
				// The last leaf of a member is reported. So maxLengthChinese, the smaller limit,
				// is reported in place of maxLength.
				name := leaf.InstanceLocation[0]
				found[name] = m.badValue(name, input[name], leaf)
			case preset:
				// A preset is only a part of the input, so it need not be complete.
			case !ok:
				found[""] = m.badInput(leaf)
			default:
				for _, name := range required.Missing {
					if _, given := input[name]; !given && !misspelt[name] {
						found[name] = m.missingMember(name)
					}
				}
			}
		}
	}
	for name, p := range found {
		p.Member = name
		found[name] = p
	}
	return slices.SortedFunc(maps.Values(found), func(a, b problem.Problem) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Remedy, b.Remedy))
	})
}

// leaves returns the errors of a validation that have no further causes, sorted by
// location and keyword.
func leaves(invalid *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(invalid.Causes) == 0 {
		return []*jsonschema.ValidationError{invalid}
	}
	var all []*jsonschema.ValidationError
	for _, cause := range invalid.Causes {
		all = append(all, leaves(cause)...)
	}
	slices.SortStableFunc(all, func(a, b *jsonschema.ValidationError) int {
		return cmp.Or(slices.Compare(a.InstanceLocation, b.InstanceLocation), cmp.Compare(keyword(a), keyword(b)))
	})
	return all
}

func keyword(leaf *jsonschema.ValidationError) string {
	return strings.Join(leaf.ErrorKind.KeywordPath(), "/")
}

// isUsable reports whether a value is a JSON value whose numbers the validator can
// handle. The validator panics if big.Rat cannot hold a json.Number, such as
// 0e99999999999999999999.
func isUsable(v any) bool {
	switch v := v.(type) {
	case nil, bool, string, int:
		return true
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case json.Number:
		if len(v) > maxNumber || !json.Valid([]byte(v)) {
			return false
		}
		f, err := v.Float64()
		mantissa, _, _ := strings.Cut(strings.ToLower(v.String()), "e")
		isUnderflow := f == 0 && strings.ContainsAny(mantissa, "123456789")
		if err != nil || isUnderflow { // for a huge exponent, big.Rat would compute for long
			return false
		}
		_, ok := new(big.Rat).SetString(v.String())
		return ok
	case []any:
		return !slices.ContainsFunc(v, func(item any) bool { return !isUsable(item) })
	case map[string]any:
		return isUsable(slices.Collect(maps.Values(v)))
	}
	return false
}

// unknownMember returns the problem of a member that is not known; noun is the word for a member
// in the reason. If name probably means a known member that the input lacks, unknownMember adds
// the known member to misspelt.
func (m *Model) unknownMember(name string, input map[string]any, noun string, known []string, misspelt map[string]bool) problem.Problem {
	shown := showName(name)
	p := problem.Problem{
		Code:   problem.UnknownMember,
		Reason: fmt.Sprintf("%s is not an %s of %s, which accepts %s", shown, noun, m.ID, problem.List(ranges(known), "and")),
		Remedy: "Remove " + shown + ".",
	}
	if near := Nearest(name, known); near != "" {
		p.Reason += nearestClause(near)
		if _, given := input[near]; !given && !misspelt[near] {
			p.Remedy = "Rename " + shown + " to " + near + "."
			misspelt[near] = true
		}
	}
	return p
}

func (m *Model) missingMember(name string) problem.Problem {
	return problem.Problem{
		Code:   problem.MissingMember,
		Reason: fmt.Sprintf("%s is missing; %s requires it", name, m.ID),
		Remedy: fmt.Sprintf("Set %s to %s.", name, m.allowed(name)),
	}
}

func (m *Model) badInput(leaf *jsonschema.ValidationError) problem.Problem {
	return problem.Problem{
		Code:   problem.BadValue,
		Reason: fmt.Sprintf("the input as a whole breaks %s of the schema of %s", keyword(leaf), m.ID),
		Remedy: "Compare the input with the schema on the model's page.",
	}
}

// badValue returns the problem of the value of a known member. The parameter leaf is
// the validator's error, or nil if the value is not usable.
func (m *Model) badValue(name string, value any, leaf *jsonschema.ValidationError) problem.Problem {
	got, takes := "is "+show(value), m.allowed(name)
	remedy := fmt.Sprintf("Set %s to %s.", name, takes)
	if !m.isRequired(name) {
		remedy = fmt.Sprintf("Set %s to %s, or leave it out.", name, takes)
	}
	tooLong := func(length, limit int) {
		got = "has " + thousands(length) + " characters"
		remedy = fmt.Sprintf("Shorten %s to at most %s characters.", name, thousands(limit))
	}
	text, _ := value.(string)
	if leaf != nil && !allowedDescribes(leaf) {
		takes += " that satisfies its schema (" + keyword(leaf) + ")"
		remedy = fmt.Sprintf("Compare %s with the schema on the model's page.", name)
	} else if leaf != nil {
		switch broken := leaf.ErrorKind.(type) {
		case *kind.Enum:
			if near := Nearest(text, texts(broken.Want)); near != "" {
				takes += nearestClause(near)
				remedy = fmt.Sprintf("Set %s to %s.", name, near)
			}
		case *kind.MaxLength:
			tooLong(broken.Got, broken.Want)
		case *textError:
			if broken.keyword == maxLengthChinese {
				tooLong(utf8.RuneCountInString(text), broken.limit)
				got += " and is Chinese"
			}
		}
	}
	if bare, ok := unquoted(text); ok && m.schema.Properties[name].Validate(bare) == nil {
		remedy = fmt.Sprintf("Write %s as %s, without quotes.", name, show(bare))
	}
	return problem.Problem{
		Code:   problem.BadValue,
		Reason: fmt.Sprintf("%s %s; %s accepts %s", name, got, m.ID, takes),
		Remedy: remedy,
	}
}

// allowedDescribes reports whether Model.allowed describes the rule that a value breaks.
func allowedDescribes(leaf *jsonschema.ValidationError) bool {
	if len(leaf.InstanceLocation) > 1 {
		return false
	}
	switch leaf.ErrorKind.(type) {
	case *kind.Type, *kind.Enum, *kind.Minimum, *kind.Maximum, *kind.MultipleOf, *kind.MaxLength, *textError:
		return true
	}
	return false
}

// unquoted returns the number or boolean that a text spells. It returns false for any other text.
func unquoted(text string) (any, bool) {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil || !isUsable(v) {
		return nil, false
	}
	switch v.(type) {
	case json.Number, bool:
		return v, true
	}
	return nil, false
}

func texts(values []any) []string {
	var all []string
	for _, v := range values {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}
