package catalog

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hbollon/go-edlib"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lipdrop/lipdrop/internal/problem"
)

const (
	// maxShown is the length of the longest value or name that a reason shows without
	// shortening it, in code points.
	maxShown = 60

	// minContained is how long a name must be, in bytes, to be near to a longer name
	// that contains it: audio probably means audio_url, but v2 could mean anything.
	minContained = 4

	// maxCompared is the length of the longest name, in bytes, that Nearest compares with
	// known names. It bounds the work.
	maxCompared = 200
)

// allowed describes what a property accepts.
func (m *Model) allowed(name string) string {
	if p, ok := m.mediaProperty(name); ok {
		return "the name of " + p.Kind.Noun() + " or an https URL"
	}
	s := m.schema.Properties[name]
	if s.Enum != nil {
		return oneOf(s.Enum.Values)
	}
	words := "a value"
	if s.Types != nil {
		var kinds []string
		for _, t := range s.Types.ToStrings() {
			kinds = append(kinds, typeWords[t])
		}
		words = problem.List(kinds, "or")
	}
	words += limits(s)
	if s.MultipleOf != nil {
		words += " that is a multiple of " + decimal(s.MultipleOf)
	}
	rule := textRuleOf(s)
	if s.MaxLength != nil {
		words += " of at most " + thousands(*s.MaxLength) + " characters"
	}
	if rule.maxChinese > 0 {
		words += " (" + thousands(rule.maxChinese) + " if it is Chinese)"
	}
	if rule.notBlank {
		words += " that is not blank"
	}
	return words
}

// typeWords are the JSON types in words, with articles.
var typeWords = map[string]string{
	"string":  "a text",
	"integer": "a whole number",
	"number":  "a number",
	"boolean": "true or false",
	"array":   "a list",
	"object":  "an object",
	"null":    "null",
}

// limits returns the range of a property as the end of a phrase, such as " of at least 1".
// Without a range it returns "".
func limits(s *jsonschema.Schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return " from " + decimal(s.Minimum) + " to " + decimal(s.Maximum)
	case s.Minimum != nil:
		return " of at least " + decimal(s.Minimum)
	case s.Maximum != nil:
		return " of at most " + decimal(s.Maximum)
	}
	return ""
}

// oneOf lists the values of an enumeration. If the values are three or more consecutive whole
// numbers, oneOf returns a range.
func oneOf(values []any) string {
	words := make([]string, len(values))
	run := len(values) > 2
	for i, v := range values {
		words[i] = show(v)
		if s, ok := v.(string); ok {
			words[i] = s
		}
		n, ok := v.(json.Number)
		run = run && ok && number(n) == number(values[0])+float64(i)
	}
	if run {
		return "a whole number from " + words[0] + " to " + words[len(words)-1]
	}
	return problem.List(words, "or")
}

func textRuleOf(s *jsonschema.Schema) textRule {
	for _, extension := range s.Extensions {
		if rule, ok := extension.(*textRule); ok {
			return *rule
		}
	}
	return textRule{}
}

// show describes a value on one short line. It shows nothing of a URL, because a URL may hold
// a secret.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		if strings.Contains(v, "://") {
			return "a URL"
		}
		if isBlank(v) {
			return "blank"
		}
		return strconv.Quote(shorten(v))
	case json.Number:
		return shorten(v.String())
	case float64:
		return shorten(strconv.FormatFloat(v, 'f', -1, 64))
	case int:
		return strconv.Itoa(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "not a JSON value"
}

// showName returns a member's name, or what show returns if the name is not a short, plain
// word.
func showName(name string) string {
	strange := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.", r)
	}
	if name == "" || len(name) > maxShown || strings.ContainsFunc(name, strange) {
		return show(name)
	}
	return name
}

func shorten(s string) string {
	shown := 0
	for i := range s {
		if shown == maxShown {
			return s[:i] + "…"
		}
		shown++
	}
	return s
}

// ranges shortens a list of names. If three or more successive names differ only in their last
// digit, and it counts up, they become one text: image_url_1 to image_url_9.
func ranges(names []string) []string {
	follows := func(a, b string) bool {
		last := len(a) - 1
		return a != "" && len(a) == len(b) && a[:last] == b[:last] && a[last]+1 == b[last] && '0' <= a[last] && b[last] <= '9'
	}
	var words []string
	for i := 0; i < len(names); {
		end := i
		for end+1 < len(names) && follows(names[end], names[end+1]) {
			end++
		}
		if end-i < 2 {
			words = append(words, names[i:end+1]...)
		} else {
			words = append(words, names[i]+" to "+names[end])
		}
		i = end + 1
	}
	return words
}

func thousands(n int) string { return message.NewPrinter(language.English).Sprintf("%d", n) }

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func nearestClause(name string) string { return " (the nearest is " + name + ")" }

// Nearest returns the known name that a wrong name probably means, or "". It compares the names as
// fold returns them. Two names are near if they differ in one letter, or in at most a third of the
// longer one's letters; two exchanged neighbouring letters count as one difference. They are also
// near if the longer one contains the shorter one, and the shorter one has at least minContained
// bytes. If several known names are equally near, Nearest returns the first.
func Nearest(name string, known []string) string {
	if len(name) > maxCompared {
		return ""
	}
	best, least := "", 0
	wrong := fold(name)
	for _, k := range known {
		right := fold(k)
		short, long := wrong, right
		if len(short) > len(long) {
			short, long = long, short
		}
		distance := edlib.OSADamerauLevenshteinDistance(wrong, right)
		near := distance <= max(1, utf8.RuneCountInString(long)/3) || len(short) >= minContained && strings.Contains(long, short)
		if near && (best == "" || distance < least) {
			best, least = k, distance
		}
	}
	return best
}

// fold returns the same text for names that differ only in case, or in the signs that join
// their words.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-/.", r) {
			return '_'
		}
		return unicode.ToLower(r)
	}, name)
}
