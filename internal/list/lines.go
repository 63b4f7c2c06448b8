package list

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// readLines reads JSON lines: an object on each line that is not empty.
func (r *reader) readLines(text []byte) []Row {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
		r.report(Problem{Reason: "the list is not text in UTF-8", Remedy: "Save the list as UTF-8."})
		return nil
	}
	var rows []Row
	number := 0
	for whole := range bytes.Lines(text) {
		number++
		line := bytes.TrimSpace(whole)
		switch {
		case len(line) == 0:
		case line[0] != '{':
			r.report(Problem{Row: number, Reason: "the line is not a JSON object", Remedy: `Write one object per line, such as {"name": "a", "video": "a.mp4", "audio": "a.wav"}.`})
		case !json.Valid(line):
			reason := "the line is not JSON"
			if err, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(whole, new(any))); ok {
				reason += fmt.Sprintf(" at character %d: %s", utf8.RuneCount(whole[:err.Offset]), problem.JSONMistake(whole, err))
			}
			r.report(Problem{Row: number, Reason: reason, Remedy: "Fix the line. Each object must be on one line."})
		default:
			rows = append(rows, r.fill(Row{Number: number, labels: map[string]string{}}, r.readLine(number, line)))
		}
	}
	return rows
}

// readLine reads a valid JSON object. It decodes one member after the other, because a map
// would keep only one of two members with the same name.
func (r *reader) readLine(number int, object []byte) (cells []cell) {
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	_, _ = dec.Token() // the opening brace; the JSON is valid, so no call of dec fails
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		var value any
		_ = dec.Decode(&value)
		label := fmt.Sprintf("member %s", problem.Quote(name))
		if seen[name] {
			r.report(Problem{Row: number, Column: label, Reason: "the object has this member twice", Remedy: "Remove one of the two."})
			continue
		}
		seen[name] = true
		r.checkColumn(number, name, label)
		text, isText := value.(string)
		if r.isColumn(name) && value != nil && (!isText || strings.TrimSpace(text) != "") {
			cells = append(cells, cell{name, value})
		}
	}
	return cells
}
