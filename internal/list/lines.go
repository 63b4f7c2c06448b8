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
func (l reader) readLines(text []byte) ([]record, []Problem) {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
		return nil, []Problem{{Reason: "the list is not text in UTF-8", Remedy: "Save the list as UTF-8."}}
	}
	var records []record
	var problems []Problem
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		rec, wrong := l.readLine(number, line)
		problems = append(problems, wrong...)
		if rec != nil {
			records = append(records, *rec)
		}
	}
	return records, problems
}

// readLine reads one line. It returns nil if the line is not an object.
func (l reader) readLine(number int, line []byte) (*record, []Problem) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	broken := func(reason, remedy string) (*record, []Problem) {
		return nil, []Problem{{Row: number, Reason: reason, Remedy: remedy}}
	}
	if line[0] != '{' {
		return broken("the line is not a JSON object", `Write one object a line, such as {"name": "a", "video": "a.mp4", "audio": "a.wav"}.`)
	}
	if !json.Valid(line) {
		err := json.Unmarshal(line, new(any))
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return broken(fmt.Sprintf("the line is not JSON at character %d: %v", utf8.RuneCount(line[:min(int(syntax.Offset), len(line))]), err), "Fix the line. Each object must be on one line.")
		}
		return broken("the line is not JSON", "Fix the line. Each object must be on one line.")
	}
	rec := &record{number: number}
	var problems []Problem
	seen := map[string]bool{}
	for _, _ = dec.Token(); dec.More(); {
		token, err := dec.Token()
		name, _ := token.(string)
		label := fmt.Sprintf("member %q", problem.ShortValue(name))
		var value any
		if err == nil {
			err = dec.Decode(&value)
		}
		text, isText := value.(string)
		switch {
		case err != nil:
			return broken(fmt.Sprintf("the line is not JSON: %v", err), "Fix the line.")
		case seen[name]:
			problems = append(problems, Problem{Row: number, Column: label, Reason: "the member is there twice", Remedy: "Remove one of the two."})
		case !l.isColumn(name):
			problems = append(problems, l.unknownColumn(number, name, label))
		case value == nil || isText && strings.TrimSpace(text) == "":
		default:
			rec.cells = append(rec.cells, cell{name, value})
		}
		seen[name] = true
	}
	return rec, problems
}
