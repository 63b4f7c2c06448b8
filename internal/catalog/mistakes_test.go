package catalog

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lipdrop/lipdrop/internal/media"
)

//go:embed model.schema.json
var modelSchema []byte

// TestFilesOfTheModels checks the files of the models that lipdrop comes with.
func TestFilesOfTheModels(t *testing.T) {
	for _, mistake := range mistakesIn(t, os.DirFS("models")) {
		t.Error(mistake)
	}
}

// mistakesIn returns the mistakes of all model files of fsys, each with the file's name.
// For a file that does not match model.schema.json, mistakesIn returns only the mismatches.
func mistakesIn(t *testing.T, fsys fs.FS) (mistakes []error) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(modelSchema))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := compile(doc)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Glob(fsys, "*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("found the files %q, %v; want at least one", files, err)
	}
	from := map[string]string{}
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			t.Fatal(err)
		}
		m, errs := checkFile(data, schema)
		for _, err := range errs {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", file, err))
		}
		if m == nil {
			continue
		}
		if first, twice := from[m.ID]; twice {
			mistakes = append(mistakes, fmt.Errorf("%s: %s has the same id %s", file, first, m.ID))
		}
		from[m.ID] = file
	}
	return mistakes
}

// checkFile returns the model and the mistakes of a file. The model is nil if the file does not
// match the schema or cannot be parsed.
func checkFile(data []byte, schema *jsonschema.Schema) (*Model, []error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, []error{err}
	}
	if errs := mismatches(schema.Validate(doc)); len(errs) > 0 {
		return nil, errs
	}
	m, err := parseModel(data)
	if err != nil {
		return nil, []error{err}
	}
	members := doc.(map[string]any)
	properties := members["inputSchema"].(map[string]any)["properties"].(map[string]any)
	mistakes := checkMedia(m.file.Media, properties)
	rules, _ := members["rules"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if _, ok := properties[name].(map[string]any); !ok {
			mistakes = append(mistakes, fmt.Errorf("rules: inputSchema has no property %s", name))
		}
	}
	return m, slices.Concat(mistakes, m.checkRequired(), m.checkPair(), m.checkLength(), m.checkNames())
}

// mismatches returns one error for each mismatch that a validation found.
func mismatches(err error) []error {
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

// checkMedia checks that each media property is named once and has the type string in
// inputSchema, and that the limits of each group fit its kind.
func checkMedia(groups []mediaGroup, properties map[string]any) (mistakes []error) {
	named := map[string]bool{}
	for _, g := range groups {
		if g.Kind == media.Image && g.MaxDuration > 0 {
			mistakes = append(mistakes, errors.New("media: maxDuration of an image"))
		}
		if g.Kind == media.Audio && g.MinShortSide > 0 {
			mistakes = append(mistakes, errors.New("media: minShortSide of an audio file"))
		}
		for _, name := range g.Properties {
			published, _ := properties[name].(map[string]any)
			if named[name] {
				mistakes = append(mistakes, fmt.Errorf("media: %s is named twice", name))
			} else if published["type"] != "string" {
				mistakes = append(mistakes, fmt.Errorf("media: inputSchema has no property %s of type string", name))
			}
			named[name] = true
		}
	}
	return mistakes
}

func (m *Model) checkRequired() (mistakes []error) {
	for _, name := range m.schema.Required {
		if !slices.Contains(m.names, name) {
			mistakes = append(mistakes, fmt.Errorf("inputSchema.required: %s is not a property", name))
		}
	}
	return mistakes
}

// checkPair checks that visual and audio of the pair are media properties of the right kinds,
// that no other media property is required, and that the defaults are valid options.
func (m *Model) checkPair() (mistakes []error) {
	if m.file.Pair == nil {
		return nil
	}
	if p, ok := m.mediaProperty(m.file.Pair.Visual); !ok || p.Kind == media.Audio {
		mistakes = append(mistakes, fmt.Errorf("pair.visual: %s accepts no video and no image", m.file.Pair.Visual))
	}
	if p, ok := m.mediaProperty(m.file.Pair.Audio); !ok || p.Kind != media.Audio {
		mistakes = append(mistakes, fmt.Errorf("pair.audio: %s accepts no audio", m.file.Pair.Audio))
	}
	for _, p := range m.media {
		if p.Required && p.Name != m.file.Pair.Visual && p.Name != m.file.Pair.Audio {
			mistakes = append(mistakes, fmt.Errorf("pair: %s is required, but is neither visual nor audio", p.Name))
		}
	}
	for _, p := range m.ValidateOptions(m.file.Pair.Defaults) {
		mistakes = append(mistakes, fmt.Errorf("pair: defaults: %s", p.Reason))
	}
	return mistakes
}

// checkLength checks that outputLength fits the options and the media of the model.
func (m *Model) checkLength() (mistakes []error) {
	l := &m.file.OutputLength
	if l.Option == "" {
		return nil
	}
	option := m.schema.Properties[l.Option]
	if option == nil || option.Default == nil {
		return []error{fmt.Errorf("outputLength.option: %s is not a property with a default", l.Option)}
	}
	if l.Modes != nil {
		if option.Enum == nil {
			return []error{fmt.Errorf("outputLength: %s has no values to choose from", l.Option)}
		}
		for _, mode := range texts(option.Enum.Values) {
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
		mistakes = append(mistakes, fmt.Errorf("outputLength.option: %s is not an integer", l.Option))
	}
	if l.FramesOption == "" {
		return mistakes
	}
	if frames := m.schema.Properties[l.FramesOption]; frames == nil || !isWholeNumber(frames) || frames.Default == nil {
		mistakes = append(mistakes, fmt.Errorf("outputLength.framesOption: %s is not an integer with a default", l.FramesOption))
	}
	if option.Maximum == nil {
		mistakes = append(mistakes, fmt.Errorf("outputLength: %s has no maximum", l.Option))
	}
	return mistakes
}

// checkNames checks that the properties in references and samples exist.
func (m *Model) checkNames() (mistakes []error) {
	if r := m.file.References; r != nil {
		if m.schema.Properties[r.In] == nil {
			mistakes = append(mistakes, fmt.Errorf("references.in: %s is not a property", r.In))
		}
		if !slices.ContainsFunc(m.media, func(p MediaProperty) bool { return strings.HasPrefix(p.Name, r.Property) }) {
			mistakes = append(mistakes, fmt.Errorf("references: no media property begins with %s", r.Property))
		}
	}
	for _, name := range m.file.Samples {
		if m.schema.Properties[name] == nil {
			mistakes = append(mistakes, fmt.Errorf("samples: %s is not a property", name))
		}
	}
	return mistakes
}

func isWholeNumber(s *jsonschema.Schema) bool {
	return s.Types != nil && s.Types.String() == "[integer]"
}

func TestEveryMistakeIsFound(t *testing.T) {
	const good = `{"id": "a/b", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
		"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}}}}`
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{
			name:  "a file that is not JSON, and a file of two objects",
			files: map[string]string{"a.json": `{"id": "a/b",}`, "b.json": good + good, "c.json": good},
			want: []string{
				"a.json: invalid character '}' looking for beginning of object key string",
				"b.json: invalid character after top-level value",
			},
		},
		{
			name: "a file that does not match model.schema.json",
			files: map[string]string{"a.json": `{"id": "react-1", "usual": {"base": "0s", "perSecond": 0, "source": "a test"}, "colour": 1,
				"media": [{"properties": [], "kind": "text", "formats": ["tiff"], "maxDuration": 15}],
				"rules": {"v": {"multipleof": 4}},
				"inputSchema": {"type": "object", "properties": {"v": 1}}}`},
			want: []string{
				"a.json: /: additional properties 'colour' not allowed",
				"a.json: /id: 'react-1' does not match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){1,4}$'",
				"a.json: /inputSchema/properties/v: got number, want object",
				"a.json: /media/0/formats/0: value must be one of 'mp4', 'mov', 'm4a', 'wav', 'mp3', 'jpeg', 'png', 'webp'",
				"a.json: /media/0/kind: value must be one of 'video', 'audio', 'image'",
				"a.json: /media/0/maxDuration: got number, want string",
				"a.json: /media/0/properties: minItems: got 0, want 1",
				"a.json: /rules/v: additional properties 'multipleof' not allowed",
				"a.json: /usual/base: '0s' does not match pattern '^[1-9][0-9]{0,5}(ms|s|m)$'",
			},
		},
		{
			name: "members that do not fit inputSchema, and limits that do not fit their kind",
			files: map[string]string{"a.json": `{"id": "a/b", "usual": {"base": "1m", "perSecond": 0, "source": "a test"},
				"media": [
					{"properties": ["v", "v", "w", "k"], "kind": "video"},
					{"properties": ["i"], "kind": "image", "maxDuration": "1s"},
					{"properties": ["s"], "kind": "audio", "minShortSide": 1}
				],
				"pair": {"visual": "s", "audio": "v", "defaults": {"n": "two", "m": 1, "v": "talk.mp4"}},
				"outputLength": {"option": "n", "framesOption": "x", "framesPerSecond": 1},
				"rules": {"x": {"minimum": 1}},
				"references": {"in": "x", "word": "character", "property": "image_url_"},
				"samples": ["x"],
				"inputSchema": {"type": "object", "required": ["i", "x"], "properties": {
					"v": {"type": "string"}, "i": {"type": "string"}, "s": {"type": "string"}, "n": {"type": "integer"}, "k": {"type": "integer"}}}}`},
			want: []string{
				"a.json: media: v is named twice",
				"a.json: media: inputSchema has no property w of type string",
				"a.json: media: inputSchema has no property k of type string",
				"a.json: media: maxDuration of an image",
				"a.json: media: minShortSide of an audio file",
				"a.json: rules: inputSchema has no property x",
				"a.json: inputSchema.required: x is not a property",
				"a.json: pair.visual: s accepts no video and no image",
				"a.json: pair.audio: v accepts no audio",
				"a.json: pair: i is required, but is neither visual nor audio",
				"a.json: pair: defaults: m is not an option of a/b, which accepts n (the nearest is n)",
				`a.json: pair: defaults: n is "two"; a/b accepts a whole number`,
				"a.json: pair: defaults: v accepts media; it is not an option",
				"a.json: outputLength.option: n is not a property with a default",
				"a.json: references.in: x is not a property",
				"a.json: references: no media property begins with image_url_",
				"a.json: samples: x is not a property",
			},
		},
		{
			name: "an outputLength whose option is not an integer and has no maximum, and whose framesOption does not exist",
			files: map[string]string{"a.json": `{"id": "a/b", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
				"outputLength": {"option": "n", "framesOption": "x", "framesPerSecond": 1},
				"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}, "n": {"type": "number", "default": 1}}}}`},
			want: []string{
				"a.json: outputLength.option: n is not an integer",
				"a.json: outputLength.framesOption: x is not an integer with a default",
				"a.json: outputLength: n has no maximum",
			},
		},
		{
			name: "modes that leave out a value, for a model without audio, and modes for an option without values",
			files: map[string]string{"a.json": `{"id": "a/b", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
				"outputLength": {"option": "m", "modes": {"cut": "shorter"}},
				"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}, "m": {"enum": ["cut", "loop"], "default": "cut"}}}}`,
				"b.json": `{"id": "a/c", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
				"outputLength": {"option": "m", "modes": {"cut": "shorter"}},
				"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}, "m": {"type": "string", "default": "cut"}}}}`},
			want: []string{
				"a.json: outputLength: modes leaves out loop",
				"a.json: outputLength: modes need an input of the kind audio",
				"b.json: outputLength: m has no values to choose from",
			},
		},
		{
			name:  "the same id twice",
			files: map[string]string{"a.json": good, "b.json": good},
			want:  []string{"b.json: a.json has the same id a/b"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, data := range tt.files {
				fsys[name] = &fstest.MapFile{Data: []byte(data)}
			}
			var got []string
			for _, mistake := range mistakesIn(t, fsys) {
				got = append(got, mistake.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadReportsAWrongSchema(t *testing.T) {
	fsys := fstest.MapFS{"a.json": {Data: []byte(`{"id": "a/b", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
		"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}, "n": {"type": "double"}}}}`)}}
	_, err := Load(fsys)
	if err == nil || !strings.HasPrefix(err.Error(), "a.json: inputSchema: ") || !strings.Contains(err.Error(), "/properties/n/type") {
		t.Errorf(`got %v, want an error that begins with "a.json: inputSchema: " and contains "/properties/n/type"`, err)
	}
}
