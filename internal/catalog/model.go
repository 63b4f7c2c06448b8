package catalog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lipdrop/lipdrop/internal/media"
)

// Model is one model of RunComfy. It does not change once it is loaded, and is
// safe for concurrent use.
type Model struct {
	// ID is the model's id in RunComfy's API, such as sync/react-1.
	ID string

	// Usual is how long a run usually takes.
	Usual Usual

	file   modelFile
	schema *jsonschema.Schema
	names  []string // of the schema's properties, sorted
	media  []MediaProperty
}

// Usual is how long a run of a model usually takes: Base, and PerSecond seconds for
// each second of the output.
type Usual struct {
	Base      time.Duration
	PerSecond float64
}

// assumedOutput is the length that Usual.Of assumes if the length of the output is not known.
const assumedOutput = 30 * time.Second

// Of returns how long a run usually takes if its output has the given length. A length
// of 0 means that the length is not known.
func (u Usual) Of(output time.Duration) time.Duration {
	if output == 0 {
		output = assumedOutput
	}
	return u.Base + time.Duration(u.PerSecond*float64(output))
}

// MediaProperty is a property of a model's input that accepts a media file, with the
// model's own limits for that file. A zero or empty limit does not apply.
type MediaProperty struct {
	Name         string        `json:"-"`
	Kind         media.Kind    `json:"kind"`
	Required     bool          `json:"-"`
	Formats      []string      `json:"formats"` // as in media.Info.Format
	MaxDuration  time.Duration `json:"-"`
	MaxBytes     int64         `json:"-"`
	MinShortSide int           `json:"minShortSide"` // pixels
}

// Option is a property of a model's input that accepts no media.
type Option struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	Allowed  string `json:"allowed"` // in words: "a whole number from 1 to 100"
	Default  string `json:"default"` // as JSON; "" if there is none, or only a sample, such as a sample prompt
}

// Schema returns the input schema that RunComfy publishes, without its prose. A
// note replaces each default that is a sample.
func (m *Model) Schema() json.RawMessage { return slices.Clone(m.file.InputSchema) }

// MediaProperties returns the properties that accept media, in the order of the
// model's file. The caller must not change them.
func (m *Model) MediaProperties() []MediaProperty { return m.media }

// Options returns the properties that accept no media, sorted by name.
func (m *Model) Options() []Option {
	var options []Option
	for _, name := range m.optionNames() {
		o := Option{Name: name, Required: m.isRequired(name), Allowed: m.allowed(name)}
		if d := m.schema.Properties[name].Default; d != nil && !slices.Contains(m.file.Samples, name) {
			text, _ := json.Marshal(*d) // always succeeds: the schema was parsed from JSON
			o.Default = string(text)
		}
		options = append(options, o)
	}
	return options
}

func (m *Model) optionNames() []string {
	return slices.DeleteFunc(slices.Clone(m.names), func(name string) bool {
		_, isMedia := m.mediaProperty(name)
		return isMedia
	})
}

func (m *Model) mediaProperty(name string) (MediaProperty, bool) {
	i := slices.IndexFunc(m.media, func(p MediaProperty) bool { return p.Name == name })
	if i < 0 {
		return MediaProperty{}, false
	}
	return m.media[i], true
}

func (m *Model) isRequired(name string) bool { return slices.Contains(m.schema.Required, name) }

// references says how a text refers to media: by a word and a number.
type references struct {
	In       string `json:"in"`       // the property of the text, such as prompt
	Word     string `json:"word"`     // such as character
	Property string `json:"property"` // the name of a medium's property without its number, such as image_url_
	pattern  *regexp.Regexp
}

// Warnings returns a warning for each medium that a text in the input refers to but
// that is not given. Each warning is a clause without a full stop.
func (m *Model) Warnings(input map[string]any) []string {
	r := m.file.References
	if r == nil {
		return nil
	}
	text, _ := input[r.In].(string)
	var numbers []int
	for _, match := range r.pattern.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(match[1])
		if err == nil && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	var warnings []string
	for _, n := range numbers {
		property := r.Property + strconv.Itoa(n)
		if _, given := input[property]; given {
			continue
		}
		lacks := property + " is not given"
		if !slices.Contains(m.names, property) {
			lacks = m.ID + " has no input " + property
		}
		warnings = append(warnings, fmt.Sprintf("%s names %s%d, but %s", r.In, r.Word, n, lacks))
	}
	return warnings
}
