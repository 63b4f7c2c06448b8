package list

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// byteOrderMark begins the files that Excel saves as UTF-8.
var byteOrderMark = []byte("\ufeff")

// separatorLine matches a first line that names the separator, an ASCII character. Some
// programs write it for Excel.
var separatorLine = regexp.MustCompile(`^(?i)"?sep=([\t !#-~])"?\r?\n`)

const saveAsUTF8 = "Save the list as CSV UTF-8."

// readTable reads a table: CSV as spreadsheets write it, with commas, semicolons, tabs or the
// separator that the first line names.
func (r *reader) readTable(text []byte) []Row {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if bytes.IndexByte(text, 0) >= 0 {
		r.report(Problem{Reason: "the list is not text in UTF-8: it contains bytes with the value 0", Remedy: saveAsUTF8})
		return nil
	}
	if bytes.IndexByte(text, '\n') < 0 { // as Excel for Mac saves "CSV (Macintosh)"
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	}
	separator := separatorOf(text)
	if match := separatorLine.FindSubmatch(text); match != nil {
		separator, text = rune(match[1][0]), text[len(match[0]):]
	}
	in := csv.NewReader(bytes.NewReader(text))
	in.Comma, in.FieldsPerRecord = separator, -1

	var rows []Row
	var header []string
	labels := map[string]string{}
	for number := 0; ; {
		from := in.InputOffset()
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return rows
		}
		raw := text[from:in.InputOffset()]
		number += 1 + emptyLines(raw)
		syntax, _ := errors.AsType[*csv.ParseError](err)
		switch {
		case err != nil: // a *csv.ParseError, because the text is in memory
			r.report(brokenQuotes(number, raw, separator, syntax))
			if header == nil {
				return nil
			}
		case strings.TrimSpace(strings.Join(fields, "")) == "":
		case header == nil:
			if header = r.header(number, fields, labels); header == nil {
				return nil
			}
		default:
			if cells, ok := r.cells(number, header, fields, labels, separator); ok {
				rows = append(rows, r.fill(Row{Number: number, table: true, labels: maps.Clone(labels)}, cells))
			}
		}
	}
}

// cells returns the cells of a row that are not empty and belong to a known column. The result
// ok is false if cells reports a problem.
func (r *reader) cells(number int, header, fields []string, labels map[string]string, separator rune) (cells []cell, ok bool) {
	ok = true
	for i, field := range fields {
		name, label := "", letters(i)
		if i < len(header) && header[i] != "" {
			name, label = header[i], labels[header[i]]
		}
		switch {
		case strings.TrimSpace(field) == "":
		case name == "":
			r.report(Problem{
				Row: number, Column: label, Reason: `the cell holds "` + problem.ShortValue(field) + `", but its column has no name in the header`,
				Remedy: "Name the column in the header, or empty the cell. If a " + separatorWord(separator) + " split one text into two cells, put the whole text in plain double quotes.",
			})
			ok = false
		case !utf8.ValidString(field):
			r.report(Problem{Row: number, Column: label, Reason: fmt.Sprintf("the cell %q is not text in UTF-8", field), Remedy: saveAsUTF8})
			ok = false
		case r.isColumn(name):
			cells = append(cells, cell{name, field})
		}
	}
	return cells, ok
}

// header returns the names of the columns, and fills labels (see Row.labels).
// If it knows none of the columns, header reports this and returns nil.
func (r *reader) header(number int, fields []string, labels map[string]string) []string {
	names := make([]string, len(fields))
	for i, field := range fields {
		names[i] = strings.ToLower(strings.TrimSpace(field))
	}
	if !slices.ContainsFunc(names, r.isColumn) {
		r.report(Problem{
			Row: number, Reason: "the first row names no column that a list may have",
			Remedy: "Begin the list with the names of the columns, such as name, video, audio and model.",
		})
		return nil
	}
	for i, name := range names {
		if name == "" {
			continue
		}
		label := fmt.Sprintf("%s (%s)", letters(i), problem.ShortValue(name))
		if first, twice := labels[name]; twice {
			r.report(Problem{Row: number, Column: label, Reason: fmt.Sprintf("%s has the same name", first), Remedy: "Remove one of the two columns."})
			continue
		}
		labels[name] = label
		r.checkColumn(number, name, label)
	}
	if _, ok := labels[nameColumn]; !ok {
		r.report(Problem{Row: number, Column: `column "name"`, Reason: "the column is missing", Remedy: "Add this column: each row needs its own name."})
	}
	return names
}

// letters returns what a spreadsheet calls the column with the index i: "column A" for 0.
func letters(i int) string {
	text := ""
	for i++; i > 0; i = (i - 1) / 26 {
		text = string(rune('A'+(i-1)%26)) + text
	}
	return "column " + text
}

// separatorOf returns the separator that is most frequent in the first line that is not empty.
func separatorOf(text []byte) rune {
	line, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte("\n"))
	count := func(separator rune) int { return bytes.Count(line, []byte(string(separator))) }
	return slices.MaxFunc([]rune(",;\t"), func(a, b rune) int { return cmp.Compare(count(a), count(b)) })
}

func separatorWord(separator rune) string {
	words := map[rune]string{',': "comma", ';': "semicolon", '\t': "tab", ' ': "space"}
	return cmp.Or(words[separator], string(separator))
}

// emptyLines returns how many empty lines a record begins with. The CSV reader skips these
// lines, but a spreadsheet counts them.
func emptyLines(raw []byte) int {
	empty := raw[:len(raw)-len(bytes.TrimLeft(raw, "\r\n"))]
	return bytes.Count(empty, []byte("\n"))
}

// quoted matches a text in double quotes. The closing quote may be missing.
var quoted = regexp.MustCompile(`"[^"]*("|$)`)

// brokenQuotes returns the problem of a row whose double quotes break the rules of CSV.
func brokenQuotes(number int, raw []byte, separator rune, err *csv.ParseError) Problem {
	p := Problem{Row: number, Reason: "a double quote is inside a cell that has no quotes around it", Remedy: `Put the whole cell in double quotes, and write "" for each quote inside it.`}
	if errors.Is(err.Err, csv.ErrQuote) {
		p.Reason = "a cell begins with a double quote, but does not end with one, or a double quote inside the cell is not written twice"
		p.Remedy = `Write "" for each quote inside the cell, and end the cell with one quote.`
	}
	if err.Line == err.StartLine { // the mistake is in the first line of the record
		line := bytes.TrimLeft(raw, "\r\n")
		before := line[:min(max(err.Column-1, 0), len(line))]
		p.Column = letters(bytes.Count(quoted.ReplaceAll(before, nil), []byte(string(separator))))
	}
	return p
}
