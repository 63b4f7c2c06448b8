package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

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
}

type mediaGroup struct {
	Properties  []string `json:"properties"`
	MaxDuration duration `json:"maxDuration"`
	MaxMB       int64    `json:"maxMB"`
	MediaProperty
}

// duration is a duration in the notation of time.ParseDuration.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// compile compiles a schema of draft 2020-12. This draft does not check formats, and
// neither does RunComfy's API.
func compile(doc any) (*jsonschema.Schema, error) {
	const url = "urn:lipdrop:schema"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertVocabs()
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "urn:lipdrop:text", Compile: compileTextRule})
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// typeKeyword matches the keyword "type" of a schema, and its value.
var typeKeyword = regexp.MustCompile(`"type"\s*:\s*("[^"]*"|\[[^\]]*\])`)

func parseModel(data []byte) (*Model, error) {
	translated := typeKeyword.ReplaceAllFunc(data, func(keyword []byte) []byte { // RunComfy's float is JSON Schema's number
		return bytes.ReplaceAll(keyword, []byte(`"float"`), []byte(`"number"`))
	})
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(translated))
	if err != nil {
		return nil, err
	}
	var file modelFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	m := &Model{ID: file.ID, Usual: Usual{time.Duration(file.Usual.Base), file.Usual.PerSecond}}
	if r := file.References; r != nil {
		r.pattern = regexp.MustCompile(`(?i)\b` + r.Word + `([0-9]+)\b`)
	}
	schema := file.validationSchema(doc.(map[string]any))
	m.names = slices.Sorted(maps.Keys(schema["properties"].(map[string]any)))
	if m.schema, err = compile(schema); err != nil {
		return nil, fmt.Errorf("inputSchema: %w", err)
	}
	for _, g := range file.Media {
		for _, name := range g.Properties {
			p := g.MediaProperty
			p.Name, p.Required = name, m.isRequired(name)
			p.MaxDuration, p.MaxBytes = time.Duration(g.MaxDuration), g.MaxMB*mb
			m.media = append(m.media, p)
		}
	}
	if option := m.schema.Properties[file.OutputLength.Option]; option != nil {
		if option.Enum != nil {
			file.OutputLength.modes = texts(option.Enum.Values)
		}
		if option.Maximum != nil {
			most, _ := option.Maximum.Float64()
			file.OutputLength.most = int(most)
		}
	}
	m.file = file
	return m, nil
}

// validationSchema returns the schema by which lipdrop validates an input: RunComfy's
// inputSchema with the rules of the model's file, but without RunComfy's rules for media. The
// parameter doc is the model's file f as generic JSON; validationSchema changes it.
func (f *modelFile) validationSchema(doc map[string]any) map[string]any {
	schema := doc["inputSchema"].(map[string]any)
	properties := schema["properties"].(map[string]any)
	for _, g := range f.Media {
		for _, name := range g.Properties {
			// RunComfy's rules are for a URL, but job.json may have a file name here.
			properties[name] = map[string]any{"type": "string", notBlank: true}
		}
	}
	rules, _ := doc["rules"].(map[string]any)
	for name, keywords := range rules {
		if property, ok := properties[name].(map[string]any); ok {
			maps.Copy(property, keywords.(map[string]any))
		}
	}
	delete(schema, "$schema") // it may name another draft than compile uses
	return schema
}
