package drop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// maxDoc bounds a job.json or preset.json, in bytes: the longest prompt and
// nine file names fit many times.
const maxDoc = 64 << 10

// doc is a job.json or a preset.json.
type doc struct {
	file     File
	Model    string
	hasModel bool           // also where its form is wrong
	Input    map[string]any // nil where it cannot be told
}

// readDoc reads a job.json or preset.json. What is wrong with its form comes
// back as problems, all of them where the form allows to go on.
func (l *Look) readDoc(ctx context.Context, file File) (*doc, []Problem, error) {
	base := path.Base(file.Key)
	if file.Size > maxDoc {
		return nil, []Problem{invalid(base, "%s has %d bytes; at most %d are read", base, file.Size, maxDoc)}, nil
	}
	text, err := l.Files.ReadRange(ctx, file, 0, file.Size)
	if err != nil {
		return nil, nil, err
	}
	d, problems := parseDoc(base, text)
	if d != nil {
		d.file = file
	}
	return d, problems, nil
}

func invalid(base, format string, args ...any) Problem {
	return Problem{ledger.InvalidJSON, fmt.Sprintf(format, args...), fmt.Sprintf("Mend %s and drop it again.", base)}
}

// parseDoc parses the text of a doc. Numbers stay as they are written.
func parseDoc(base string, text []byte) (*doc, []Problem) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // Windows editors write one
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, []Problem{{Code: ledger.FileEmpty, Reason: base + " is empty"}}
	}
	if !utf8.Valid(text) {
		return nil, []Problem{invalid(base, "%s is not UTF-8 text", base)}
	}
	var members map[string]json.RawMessage
	err := json.Unmarshal(text, &members)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, []Problem{invalid(base, "%s is not JSON at %s: %s", base, position(text, int(syntax.Offset)), mistake(text, syntax))}
	}
	if err != nil || members == nil {
		return nil, []Problem{invalid(base, `%s is %s; it must be an object such as {"model": …, "input": {…}}`, base, kindOfJSON(text))}
	}
	d := &doc{}
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch name {
		case "model":
			d.hasModel = true
			if json.Unmarshal(members[name], &d.Model) != nil || d.Model == "" {
				problems = append(problems, invalid(base, `model in %s is %s; it must be a text such as "sync/react-1"`, base, kindOfJSON(members[name])))
			}
		case "input":
			dec := json.NewDecoder(bytes.NewReader(members[name]))
			dec.UseNumber()
			if err := dec.Decode(&d.Input); err != nil || d.Input == nil {
				problems = append(problems, invalid(base, "input in %s is %s; it must be an object", base, kindOfJSON(members[name])))
			}
		default:
			problems = append(problems, unknownMember(base, name))
		}
	}
	if twice, ok := repeated(text); ok {
		problems = append(problems, invalid(base, "%s has the member %q twice", base, short(twice)))
	}
	if problems == nil && d.Input == nil {
		d.Input = map[string]any{}
	}
	return d, problems
}

func unknownMember(base, name string) Problem {
	p := Problem{ledger.UnknownMember, fmt.Sprintf("%s has the unknown member %q", base, short(name)),
		fmt.Sprintf(`Remove %q, or put it into "input" if it is an option of the model, and drop %s again.`, short(name), base)}
	if near := catalog.Nearest(name, []string{"model", "input"}); near != "" {
		p.Reason += fmt.Sprintf("; the nearest is %q", near)
		p.Remedy = fmt.Sprintf("Rename %q to %q, or remove it, and drop %s again.", short(name), near, base)
	}
	return p
}

// mistake says what is wrong with a JSON text in the words of a person for what
// people get wrong most: a comma before a bracket, and typographic quotes.
func mistake(text []byte, syntax *json.SyntaxError) string {
	at := min(max(int(syntax.Offset)-1, 0), len(text)-1)
	switch r, _ := utf8.DecodeRune(text[at:]); {
	case r >= utf8.RuneSelf:
		return fmt.Sprintf("%q has no meaning there; JSON takes plain quotes", r)
	case (r == '}' || r == ']') && bytes.HasSuffix(bytes.TrimSpace(text[:at]), []byte(",")):
		return "there is a comma too many before it"
	default:
		return syntax.Error()
	}
}

// position says where in a text its byte of the given number is.
func position(text []byte, offset int) string {
	before := text[:min(offset, len(text))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, max(column, 1))
}

// repeated returns the first member that stands twice in one object: of two
// values one would be ignored in silence. The text is valid JSON.
func repeated(text []byte) (string, bool) {
	type level struct {
		object, value bool
		seen          map[string]bool
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	levels := []level{{}}
	for {
		token, err := dec.Token()
		if err != nil {
			return "", false
		}
		top := &levels[len(levels)-1]
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if top.object && !top.value {
			name, _ := token.(string)
			if top.seen[name] {
				return name, true
			}
			top.seen[name], top.value = true, true
			continue
		}
		top.value = false
		if token == json.Delim('{') || token == json.Delim('[') {
			levels = append(levels, level{object: token == json.Delim('{'), seen: map[string]bool{}})
		}
	}
}

// kindOfJSON says what a JSON value is. It does not repeat the value, which may
// hold the query of a URL.
func kindOfJSON(value []byte) string {
	switch value = bytes.TrimSpace(value); value[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		if len(value) == 2 {
			return "an empty text"
		}
		return "a text"
	case 't', 'f', 'n':
		return string(value)
	default:
		return "a number"
	}
}
