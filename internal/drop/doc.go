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
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// maxDoc is the size of the largest job.json or preset.json that is read, in bytes. A
// long prompt and the names of nine images, which some models accept, need far less.
const maxDoc = 64 << 10

// doc is a job.json or a preset.json.
type doc struct {
	file     File
	Model    string
	hasModel bool           // the member model is there, perhaps misspelled or with a wrong value
	Input    map[string]any // nil if input is not valid, or is missing in a file with a problem
}

// readDoc reads a job.json or preset.json. It also returns the problems with the form of
// the file. If a problem makes the rest of the file unreadable, readDoc returns only that
// problem, and no doc.
func (l *lister) readDoc(ctx context.Context, file File) (*doc, []problem.Problem, error) {
	base := path.Base(file.Key)
	if file.Size > maxDoc {
		return nil, []problem.Problem{invalid(base, "%s has %d bytes; lipdrop reads at most %d", base, file.Size, maxDoc)}, nil
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

func invalid(base, format string, args ...any) problem.Problem {
	return problem.Problem{
		Code: problem.InvalidJSON, Reason: fmt.Sprintf(format, args...),
		Remedy: fmt.Sprintf("Fix %s.", base), Again: []string{base},
	}
}

// parseDoc parses the text of a doc. Numbers stay json.Number.
func parseDoc(base string, text []byte) (*doc, []problem.Problem) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // Windows editors write this byte order mark
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, uploadAgain([]problem.Problem{*media.EmptyFile(base)}, base)
	}
	if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
		p := invalid(base, "%s is not text in UTF-8", base)
		p.Remedy = fmt.Sprintf("Open %s in an editor, and save it as UTF-8.", base)
		return nil, []problem.Problem{p}
	}
	var members map[string]json.RawMessage
	err := json.Unmarshal(text, &members)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, []problem.Problem{invalid(base, "%s is not JSON at %s: %s", base, position(text, int(syntax.Offset)), problem.JSONMistake(text, syntax))}
	}
	if err != nil || members == nil {
		return nil, []problem.Problem{invalid(base, `%s is %s; it must be an object such as {"model": …, "input": {…}}`, base, kindOfJSON(text))}
	}
	d := &doc{}
	var problems []problem.Problem
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
				problems = append(problems, invalid(base, "input in %s is %s; it must be an object, {…}", base, kindOfJSON(members[name])))
			}
		default:
			p, meant := unknownMember(base, name)
			problems = append(problems, p)
			d.hasModel = d.hasModel || meant == "model"
		}
	}
	if twice, ok := repeated(json.NewDecoder(bytes.NewReader(text))); ok {
		p := invalid(base, "%s has the member %s twice", base, problem.Quote(twice))
		p.Remedy = fmt.Sprintf("Remove one of the two members %s.", problem.Quote(twice))
		problems = append(problems, p)
	}
	if problems == nil && d.Input == nil {
		d.Input = map[string]any{}
	}
	return d, problems
}

// unknownMember returns the problem of an unknown member, and the known member that was
// probably meant, or "".
func unknownMember(base, name string) (p problem.Problem, meant string) {
	p = problem.Problem{
		Code: problem.UnknownMember, Reason: fmt.Sprintf("%s has the unknown member %s", base, problem.Quote(name)),
		Remedy: fmt.Sprintf(`Put %s into "input" if the model accepts it, or remove it.`, problem.Quote(name)), Again: []string{base},
	}
	if meant = catalog.Nearest(name, []string{"model", "input"}); meant != "" {
		p.Reason += fmt.Sprintf(" (the nearest is %q)", meant)
		p.Remedy = fmt.Sprintf("Rename %s to %q.", problem.Quote(name), meant)
	}
	return p, meant
}

// position returns the line and column of the byte before offset.
func position(text []byte, offset int) string {
	before := text[:max(min(offset, len(text))-1, 0)]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

// repeated returns the first member that occurs twice in one object of the next JSON value, which
// must be valid. The parser would silently ignore one of the two.
func repeated(dec *json.Decoder) (twice string, ok bool) {
	opening, _ := dec.Token()
	if opening != json.Delim('{') && opening != json.Delim('[') {
		return "", false
	}
	seen := map[json.Token]bool{}
	for dec.More() {
		if opening == json.Delim('{') {
			name, _ := dec.Token()
			if seen[name] {
				return fmt.Sprint(name), true
			}
			seen[name] = true
		}
		if twice, ok = repeated(dec); ok {
			return twice, true
		}
	}
	_, _ = dec.Token() // the closing bracket
	return "", false
}

// kindOfJSON returns the kind of a JSON value. It does not show the content of a text, a
// list or an object, because the content may include a URL with a secret.
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
