// Package list reads lists of jobs: a table that a spreadsheet saved as CSV or TSV, or JSON
// lines. Each row is a job. The package reads no media and no bucket.
package list

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Row is a job that a list asks for.
type Row struct {
	// Number is the number of the row in a spreadsheet, or of the line in JSON lines. The
	// first row or line is 1.
	Number int

	Name  string         // in NFC; "" only if Read reports a problem
	Model *catalog.Model // nil only if Read reports a problem

	// Options are the options of the model.
	Options map[string]any

	// Links are the media that are https URLs or files of the bucket, and Files are the
	// media that are files of this computer. The keys are properties of the model; the
	// values are as in the list or in Defaults.Options. A file with a wrong suffix, which
	// Read reports, is in Links, not in Files.
	Links, Files map[string]string

	table bool // from a table, in which every value is a text

	// labels says what problems call a column or property: for example, "column B (audio)" for
	// the property audio_url.
	labels map[string]string
}

// Problem is something wrong with a row.
type Problem struct {
	Row    int    // 0 for the whole list
	Column string // what to call the column, or ""
	Reason string // a clause
	Remedy string // sentences
}

// Error returns the place, the reason and the remedy.
func (p Problem) Error() string {
	var place []string
	if p.Row > 0 {
		place = append(place, fmt.Sprintf("row %d", p.Row))
	}
	if p.Column != "" {
		place = append(place, p.Column)
	}
	text := p.Reason + ". " + p.Remedy
	if place == nil {
		return text
	}
	return strings.Join(place, ", ") + ": " + text
}

// Problem returns a problem of the row. The property is a property of the row's model or a
// column such as "name"; it is "" if the problem is about the whole row.
func (r Row) Problem(property, reason, remedy string) Problem {
	p := Problem{Row: r.Number, Reason: reason, Remedy: remedy}
	if property != "" {
		p.Column = r.label(property)
	}
	return p
}

// label returns the Problem.Column of a column or property.
func (r Row) label(column string) string {
	noun := "member"
	if r.table {
		noun = "column"
	}
	return cmp.Or(r.labels[column], fmt.Sprintf("%s %q", noun, column))
}

// Defaults are the values for what a row leaves out.
type Defaults struct {
	Catalog *catalog.Catalog

	// Model is the model of rows that name none. If Model is empty, such a row has the
	// VideoModel if its column video is set, and the ImageModel if only its column image is.
	Model, VideoModel, ImageModel string

	// Options are values for the options and media properties that a row does not set.
	Options map[string]string
}

// IsList reports whether a file's name has the suffix of a list.
func IsList(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv", ".tsv", ".jsonl", ".ndjson":
		return true
	}
	return false
}

// The columns that are neither media nor options.
const (
	nameColumn  = "name"
	modelColumn = "model"
)

// kindColumns are the columns that are named after a kind of media. Each stands for the
// first medium of that kind that the model accepts.
var kindColumns = []string{string(media.Video), string(media.Audio), string(media.Image)}

// cell is a non-empty cell of a list.
type cell struct {
	column string // one of reader.known
	value  any    // a string, if the list is a table
}

// reader reads a list, and collects what is wrong with it.
type reader struct {
	Defaults
	known    []string // the columns that the list may have, sorted
	problems []Problem
}

// Read reads a list. The suffix of the file name says whether the list is a table or JSON
// lines. Read returns each row whose cells it can read, even if the row has a problem, and all
// problems that it finds.
func Read(file string, text []byte, d Defaults) ([]Row, []Problem) {
	r := &reader{Defaults: d, known: d.columns()}
	read := r.readTable
	if ext := strings.ToLower(filepath.Ext(file)); ext == ".jsonl" || ext == ".ndjson" {
		read = r.readLines
	}
	rows := read(text)
	if rows == nil && r.problems == nil {
		r.report(Problem{Reason: filepath.Base(file) + " has no rows", Remedy: "Add a row for each job."})
	}
	seen := map[string]int{} // the number of the first row with each name
	for _, row := range rows {
		if first, twice := seen[row.Name]; twice {
			r.report(row.Problem(nameColumn, fmt.Sprintf("%s is also the name of row %d", problem.Quote(row.Name), first), "Give each row its own name."))
		} else if row.Name != "" {
			seen[row.Name] = row.Number
		}
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Row, b.Row) })
	return rows, r.problems
}

func (r *reader) report(p Problem) { r.problems = append(r.problems, p) }

// isColumn reports whether a list may have a column with this name.
func (r *reader) isColumn(name string) bool {
	_, ok := slices.BinarySearch(r.known, name)
	return ok
}

// columns returns every column that a list may have, sorted.
func (d Defaults) columns() []string {
	all := append([]string{nameColumn, modelColumn}, kindColumns...)
	for _, id := range d.Catalog.IDs() {
		model, _ := d.Catalog.Model(id)
		for _, p := range model.MediaProperties() {
			all = append(all, p.Name)
		}
		for _, o := range model.Options() {
			all = append(all, o.Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// checkColumn reports the column or member with the given name if a list may not have it.
func (r *reader) checkColumn(row int, name, label string) {
	if r.isColumn(name) {
		return
	}
	noun, _, _ := strings.Cut(label, " ")
	p := Problem{Row: row, Column: label, Reason: fmt.Sprintf("there is no %s %s", noun, problem.Quote(name)), Remedy: "Remove the " + noun + "."}
	if near := catalog.Nearest(name, r.known); near != "" {
		p.Reason += fmt.Sprintf(" (the nearest is %q)", near)
		p.Remedy = fmt.Sprintf("Rename it to %s, or remove it.", near)
	}
	r.report(p)
}
