package catalog

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lipdrop/lipdrop/internal/media"
)

//go:embed model.schema.json
var form []byte

// modelFile is a model's file. model.schema.json describes its members.
type modelFile struct {
	ID           string          `json:"id"`
	Usual        usual           `json:"usual"`
	Media        []mediaGroup    `json:"media"`
	Pair         *pair           `json:"pair"`
	OutputLength outputLength    `json:"outputLength"`
	References   *references     `json:"references"`
	Samples      []string        `json:"samples"`
	InputSchema  json.RawMessage `json:"inputSchema"`
}

type usual struct {
	Base      duration `json:"base"`
	PerSecond float64  `json:"perSecond"`
	Source    string   `json:"source"`
}

type mediaGroup struct {
	Properties   []string   `json:"properties"`
	Kind         media.Kind `json:"kind"`
	Formats      []string   `json:"formats"`
	MaxDuration  duration   `json:"maxDuration"`
	MaxMB        int64      `json:"maxMB"`
	MinShortSide int        `json:"minShortSide"`
}

// duration is a duration in the notation of time.ParseDuration.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// compileForm compiles the schema of model files.
func compileForm() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(form))
	if err != nil {
		return nil, err
	}
	return compile(doc)
}

// compile compiles a schema of draft 2020-12. In this draft a format is only an
// annotation. RunComfy's API does not check formats either.
func compile(doc any) (*jsonschema.Schema, error) {
	const url = "urn:lipdrop:schema"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertVocabs()
	c.RegisterVocabulary(vocabulary())
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// parseModel parses a model's file. The file must match the schema form, unless form is
// nil.
func parseModel(data []byte, form *jsonschema.Schema) (*Model, []error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, []error{err}
	}
	if form != nil {
		if errs := mistakesOfForm(form.Validate(doc)); len(errs) > 0 {
			return nil, errs
		}
	}
	var file modelFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, []error{err}
	}
	m := &Model{
		ID:         file.ID,
		Usual:      Usual{time.Duration(file.Usual.Base), file.Usual.PerSecond, file.Usual.Source},
		published:  file.InputSchema,
		pair:       file.Pair,
		length:     file.OutputLength,
		references: file.References,
		samples:    file.Samples,
	}
	if m.references != nil {
		m.references.pattern = regexp.MustCompile(`(?i)\b` + m.references.Word + `([0-9]+)\b`)
	}

	members := doc.(map[string]any)
	schema := members["inputSchema"].(map[string]any)
	properties := schema["properties"].(map[string]any)
	m.names = slices.Sorted(maps.Keys(properties))
	mistakes := m.addMedia(file.Media, properties)
	if rules, ok := members["rules"].(map[string]any); ok {
		mistakes = append(mistakes, addRules(rules, properties)...)
	}
	translateFloat(schema)
	delete(schema, "$schema")
	if m.schema, err = compile(schema); err != nil {
		return nil, append(mistakes, fmt.Errorf("inputSchema: %w", err))
	}
	mistakes = append(mistakes, m.checkRequired()...)
	mistakes = append(mistakes, m.checkPair()...)
	mistakes = append(mistakes, m.checkLength()...)
	mistakes = append(mistakes, m.checkNames()...)
	return m, mistakes
}

// mistakesOfForm returns one error for each mistake that a validation found.
func mistakesOfForm(err error) []error {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return nil
	}
	english := message.NewPrinter(language.English)
	var errs []error
	for _, leaf := range leaves(invalid) {
		errs = append(errs, fmt.Errorf("/%s: %s", strings.Join(leaf.InstanceLocation, "/"), leaf.ErrorKind.LocalizedString(english)))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// addMedia sets the model's media properties. In the schema it replaces RunComfy's
// rules for a media URL by a text that is not blank, because file names are
// validated before they become URLs.
func (m *Model) addMedia(groups []mediaGroup, properties map[string]any) (mistakes []error) {
	for _, g := range groups {
		if g.Kind == media.Image && g.MaxDuration > 0 {
			mistakes = append(mistakes, errors.New("media: maxDuration of an image"))
		}
		if g.Kind == media.Audio && g.MinShortSide > 0 {
			mistakes = append(mistakes, errors.New("media: minShortSide of an audio file"))
		}
		for _, name := range g.Properties {
			published, ok := properties[name].(map[string]any)
			if _, twice := m.mediaProperty(name); twice {
				mistakes = append(mistakes, fmt.Errorf("media: %s is named twice", name))
				continue
			} else if !ok || published["type"] != "string" {
				mistakes = append(mistakes, fmt.Errorf("media: inputSchema has no property %s of type string", name))
				continue
			}
			properties[name] = map[string]any{"type": "string", notBlank: true}
			m.media = append(m.media, MediaProperty{
				Name:         name,
				Kind:         g.Kind,
				Formats:      g.Formats,
				MaxDuration:  time.Duration(g.MaxDuration),
				MaxBytes:     g.MaxMB * mb,
				MinShortSide: g.MinShortSide,
			})
		}
	}
	return mistakes
}

// addRules adds the keywords of rules to the schemas of properties.
func addRules(rules, properties map[string]any) (mistakes []error) {
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		property, ok := properties[name].(map[string]any)
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("rules: inputSchema has no property %s", name))
			continue
		}
		maps.Copy(property, rules[name].(map[string]any))
	}
	return mistakes
}

// translateFloat replaces RunComfy's type float by JSON Schema's number throughout a
// schema.
func translateFloat(schema map[string]any) {
	if schema["type"] == "float" {
		schema["type"] = "number"
	}
	if types, ok := schema["type"].([]any); ok {
		for i := range types {
			if types[i] == "float" {
				types[i] = "number"
			}
		}
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		for _, property := range properties {
			if property, ok := property.(map[string]any); ok {
				translateFloat(property)
			}
		}
	}
	if items, ok := schema["items"].(map[string]any); ok {
		translateFloat(items)
	}
	for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
		alternatives, _ := schema[keyword].([]any)
		for _, alternative := range alternatives {
			if alternative, ok := alternative.(map[string]any); ok {
				translateFloat(alternative)
			}
		}
	}
}

// checkRequired sets which media are required, and checks that every required name
// is a property.
func (m *Model) checkRequired() (mistakes []error) {
	for i := range m.media {
		m.media[i].Required = m.isRequired(m.media[i].Name)
	}
	for _, name := range m.schema.Required {
		if !slices.Contains(m.names, name) {
			mistakes = append(mistakes, fmt.Errorf("inputSchema: required names %s, which is not a property", name))
		}
	}
	return mistakes
}

// checkPair checks that a pair sets properties of the right kinds to valid values,
// and leaves out no required media.
func (m *Model) checkPair() (mistakes []error) {
	if m.pair == nil {
		return nil
	}
	if p, ok := m.mediaProperty(m.pair.Visual); !ok || p.Kind == media.Audio {
		mistakes = append(mistakes, fmt.Errorf("pair: visual names %s, which accepts no video and no image", m.pair.Visual))
	}
	if p, ok := m.mediaProperty(m.pair.Audio); !ok || p.Kind != media.Audio {
		mistakes = append(mistakes, fmt.Errorf("pair: audio names %s, which accepts no audio", m.pair.Audio))
	}
	for _, p := range m.media {
		if p.Required && p.Name != m.pair.Visual && p.Name != m.pair.Audio {
			mistakes = append(mistakes, fmt.Errorf("pair: leaves out %s, which is required", p.Name))
		}
	}
	for _, p := range m.ValidateOptions(m.pair.Defaults) {
		mistakes = append(mistakes, fmt.Errorf("pair: defaults: %s", p.Reason))
	}
	return mistakes
}

// checkLength checks that options with defaults decide the length of the output, and
// that the lengths of inputs decide it only if the model has such inputs.
func (m *Model) checkLength() (mistakes []error) {
	l := &m.length
	if l.Option == "" {
		return nil
	}
	option := m.schema.Properties[l.Option]
	if option == nil || option.Default == nil {
		return []error{fmt.Errorf("outputLength: option names %s, which is not a property with a default", l.Option)}
	}
	if l.Modes != nil {
		if option.Enum == nil {
			return []error{fmt.Errorf("outputLength: %s has no values to choose from", l.Option)}
		}
		l.modes = texts(option.Enum.Values)
		for _, mode := range l.modes {
			if l.Modes[mode] == "" {
				mistakes = append(mistakes, fmt.Errorf("outputLength: modes leaves out %s", mode))
			}
		}
		for _, kind := range []media.Kind{media.Video, media.Audio} {
			if !slices.ContainsFunc(m.media, func(p MediaProperty) bool { return p.Kind == kind }) {
				mistakes = append(mistakes, fmt.Errorf("outputLength: modes need an input of the kind %s", kind))
			}
		}
		return mistakes
	}
	if !isWholeNumber(option) {
		mistakes = append(mistakes, fmt.Errorf("outputLength: option names %s, which is not an integer", l.Option))
	}
	if l.FramesOption == "" {
		return mistakes
	}
	if frames := m.schema.Properties[l.FramesOption]; frames == nil || !isWholeNumber(frames) || frames.Default == nil {
		mistakes = append(mistakes, fmt.Errorf("outputLength: framesOption names %s, which is not an integer with a default", l.FramesOption))
	}
	if option.Maximum == nil {
		return append(mistakes, fmt.Errorf("outputLength: %s has no maximum", l.Option))
	}
	most, _ := option.Maximum.Float64()
	l.most = int(most)
	return mistakes
}

// checkNames checks that references and samples name properties.
func (m *Model) checkNames() (mistakes []error) {
	if r := m.references; r != nil {
		if m.schema.Properties[r.In] == nil {
			mistakes = append(mistakes, fmt.Errorf("references: in names %s, which is not a property", r.In))
		}
		if !slices.ContainsFunc(m.media, func(p MediaProperty) bool { return strings.HasPrefix(p.Name, r.Property) }) {
			mistakes = append(mistakes, fmt.Errorf("references: no media property begins with %s", r.Property))
		}
	}
	for _, name := range m.samples {
		if m.schema.Properties[name] == nil {
			mistakes = append(mistakes, fmt.Errorf("samples: %s is not a property", name))
		}
	}
	return mistakes
}
