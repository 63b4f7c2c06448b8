package list

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// byteOrderMark begins the files that Excel saves as UTF-8.
var byteOrderMark = []byte("\ufeff")

// separatorLine matches the first line by which some programs tell Excel the separator.
var separatorLine = regexp.MustCompile(`^(?i)"?sep=(.)"?\r?\n`)

const saveAsUTF8 = "Save the list as CSV UTF-8."

// readTable reads a table: CSV as spreadsheets write it, with commas, semicolons or
// tabs.
func (l reader) readTable(text []byte) ([]record, []Problem) {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, []Problem{{Reason: "the list is not text in UTF-8: it has zero bytes", Remedy: saveAsUTF8}}
	}
	if bytes.IndexByte(text, '\n') < 0 { // as Excel for Mac saves "CSV (Macintosh)"
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	}
	var r *csv.Reader
	if match := separatorLine.FindSubmatch(text); match != nil {
		r = csv.NewReader(bytes.NewReader(text[len(match[0]):]))
		r.Comma, text = rune(match[1][0]), text[len(match[0]):]
	} else {
		r = csv.NewReader(bytes.NewReader(text))
		r.Comma = separatorOf(text)
	}
	r.FieldsPerRecord = -1

	var records []record
	var problems []Problem
	var header []string
	labels := map[string]string{}
	for number := 0; ; {
		from := r.InputOffset()
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return records, problems
		}
		raw := text[from:r.InputOffset()]
		number += 1 + emptyLines(raw)
		var syntax *csv.ParseError
		switch {
		case errors.As(err, &syntax):
			problems = append(problems, brokenQuotes(number, raw, r.Comma, syntax))
			if header == nil {
				return nil, problems
			}
			continue
		case err != nil:
			return nil, append(problems, Problem{Row: number, Reason: err.Error(), Remedy: "Fix the row."})
		case header == nil && isEmpty(fields):
			continue
		case header == nil:
			var wrong []Problem
			header, wrong = l.header(number, fields, labels)
			problems = append(problems, wrong...)
			continue
		case isEmpty(fields):
			continue
		}
		rec := record{number: number, table: true, labels: labels}
		bad := false
		for i, field := range fields {
			label := letters(i)
			if i < len(header) {
				label = labels[header[i]]
			}
			switch {
			case strings.TrimSpace(field) == "":
			case i >= len(header) || header[i] == "":
				problems = append(problems, Problem{
					Row: number, Column: label, Reason: fmt.Sprintf("the cell holds %q, but its column has no name in the header", problem.ShortValue(field)),
					Remedy: "Name the column in the header, or empty the cell. If the text before it has a " + separatorWord(r.Comma) + ", put that text in double quotes.",
				})
				bad = true
			case !utf8.ValidString(field):
				problems = append(problems, Problem{Row: number, Column: label, Reason: fmt.Sprintf("the cell %q is not text in UTF-8", field), Remedy: saveAsUTF8})
				bad = true
			case l.isColumn(header[i]):
				rec.cells = append(rec.cells, cell{header[i], field})
			}
		}
		if !bad {
			records = append(records, rec)
		}
	}
}

// header returns the names of the columns, and adds what to call them to labels.
func (l reader) header(number int, fields []string, labels map[string]string) ([]string, []Problem) {
	names := make([]string, len(fields))
	var problems []Problem
	for i, field := range fields {
		name := strings.ToLower(strings.TrimSpace(field))
		if name == "" {
			continue
		}
		names[i] = name
		label := fmt.Sprintf("%s (%s)", letters(i), problem.Short(name))
		if first, twice := labels[name]; twice {
			problems = append(problems, Problem{Row: number, Column: label, Reason: fmt.Sprintf("%s has the same name", first), Remedy: "Remove one of the two columns."})
			continue
		}
		labels[name] = label
		if !l.isColumn(name) {
			problems = append(problems, l.unknownColumn(number, name, label))
		}
	}
	if _, ok := labels[nameColumn]; !ok && len(problems) == len(labels) {
		problems = []Problem{{
			Row: number, Reason: "the first row names none of the columns of a list",
			Remedy: "Begin the list with the names of the columns, such as name, video, audio and model.",
		}}
	} else if !ok {
		problems = append(problems, Problem{Row: number, Column: `column "name"`, Reason: "the column is missing", Remedy: "Add a column name: each row needs a name of its own."})
	}
	return names, problems
}

// letters returns what a spreadsheet calls the column with an index.
func letters(i int) string {
	text := ""
	for i++; i > 0; i = (i - 1) / 26 {
		text = string(rune('A'+(i-1)%26)) + text
	}
	return "column " + text
}

// separatorOf returns the separator that is most frequent in the header.
func separatorOf(text []byte) rune {
	line, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte("\n"))
	best, most := ',', 0
	for _, separator := range ",;\t" {
		if n := bytes.Count(line, []byte(string(separator))); n > most {
			best, most = separator, n
		}
	}
	return best
}

func separatorWord(separator rune) string {
	switch separator {
	case ',':
		return "comma"
	case ';':
		return "semicolon"
	case '\t':
		return "tab"
	}
	return string(separator)
}

// emptyLines returns how many empty lines come before a record. The reader skips them,
// but a spreadsheet counts them.
func emptyLines(raw []byte) int {
	n := 0
	for {
		rest, ok := bytes.CutPrefix(bytes.TrimPrefix(raw, []byte("\r")), []byte("\n"))
		if !ok {
			return n
		}
		raw = rest
		n++
	}
}

func isEmpty(fields []string) bool {
	return strings.TrimSpace(strings.Join(fields, "")) == ""
}

// brokenQuotes returns the problem of a row whose quotes the reader does not accept.
func brokenQuotes(number int, raw []byte, separator rune, err *csv.ParseError) Problem {
	p := Problem{Row: number, Reason: "a double quote is inside a cell that has no quotes around it", Remedy: `Put the whole cell in double quotes, and write "" for each quote inside it.`}
	if errors.Is(err.Err, csv.ErrQuote) {
		p.Reason = "a cell in double quotes does not end with one, or has a single one inside it"
		p.Remedy = `Write "" for each quote inside the cell, and end the cell with one quote.`
	}
	// The error is in a line of the record: count the separators before it.
	line := bytes.TrimLeft(raw, "\r\n")
	for range err.Line - err.StartLine {
		_, line, _ = bytes.Cut(line, []byte("\n"))
	}
	if err.Line == err.StartLine {
		before, quoted, column := line[:min(max(err.Column-1, 0), len(line))], false, 0
		for _, r := range string(before) {
			switch {
			case r == '"':
				quoted = !quoted
			case r == separator && !quoted:
				column++
			}
		}
		p.Column = letters(column)
	}
	return p
}
