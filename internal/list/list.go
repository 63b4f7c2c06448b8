// Package list reads lists of jobs: a table that a spreadsheet saved as CSV, or JSON
// lines. Each row is a job. The package reads no media and no bucket.
package list

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Row is a job that a list asks for.
type Row struct {
	// Number is the number of the row in a spreadsheet, whose header is row 1, or of
	// the line.
	Number int

	Name  string // in NFC
	Model *catalog.Model

	// Options are the options of the model. Links are the media that are an https
	// URL or a file of the bucket, and Files those that are files of this computer,
	// as the list writes them; both by the property of the model.
	Options map[string]any
	Links   map[string]string
	Files   map[string]string

	record  record
	columns map[string]string // what to call the column of a property, if it has another name
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

// Problem returns a problem of the row with a property of its model, with "name", or
// with "" if it is about the whole row.
func (r Row) Problem(property, reason, remedy string) Problem {
	p := Problem{Row: r.Number, Reason: reason, Remedy: remedy}
	if property != "" {
		p.Column = r.label(property)
	}
	return p
}

func (r Row) label(property string) string {
	return cmp.Or(r.columns[property], r.record.label(property))
}

// Defaults complete the rows of a list.
type Defaults struct {
	Catalog *catalog.Catalog

	// Model is the model of rows that name none. If it is empty too, a row with a video
	// has the VideoModel, and a row with an image the ImageModel.
	Model, VideoModel, ImageModel string

	// Options are the options of rows that do not set them.
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

// The columns that belong to no model.
const (
	nameColumn  = "name"
	modelColumn = "model"
)

// kindColumns are the columns that name the first medium of a kind.
var kindColumns = []string{string(media.Video), string(media.Audio), string(media.Image)}

// cell is a cell of a list that is not empty.
type cell struct {
	column string // in small letters
	value  any    // a string, if the list is a table
}

// record is a row as the list writes it.
type record struct {
	number int
	cells  []cell
	table  bool              // not JSON, so that every value is a text
	labels map[string]string // what to call each column, those with empty cells included
}

// label returns what to call a column, even if the list does not have it.
func (r record) label(column string) string {
	noun := "member"
	if r.table {
		noun = "column"
	}
	return cmp.Or(r.labels[column], fmt.Sprintf("%s %q", noun, column))
}

// Read reads the list in a file of the given name. It returns the rows that could be
// read, and every problem of every row.
func Read(file string, text []byte, d Defaults) ([]Row, []Problem) {
	r := reader{d, d.columns()}
	read := r.readTable
	if strings.HasPrefix(strings.ToLower(filepath.Ext(file)), ".json") || strings.EqualFold(filepath.Ext(file), ".ndjson") {
		read = r.readLines
	}
	records, problems := read(text)
	if records == nil && problems == nil {
		problems = []Problem{{Reason: filepath.Base(file) + " has no rows", Remedy: "Add a row for each job."}}
	}
	var rows []Row
	seen := map[string]int{} // the row of each name
	for _, rec := range records {
		row, wrong := r.row(rec)
		if name := row.Name; name != "" {
			if first, twice := seen[name]; twice {
				wrong = append(wrong, row.Problem(nameColumn, fmt.Sprintf("%q is also the name of row %d", problem.Short(name), first), "Give each row its own name."))
			} else {
				seen[name] = rec.number
			}
		}
		problems = append(problems, wrong...)
		rows = append(rows, row)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Row, b.Row) })
	return rows, problems
}

// reader reads a list. known are the columns that it may have, sorted.
type reader struct {
	Defaults
	known []string
}

// Pair returns the job of the files of a pair, named by their kinds, with the default
// model and options.
func (d Defaults) Pair(name string, files map[string]string) (Row, []Problem) {
	rec := record{cells: []cell{{nameColumn, name}}, labels: map[string]string{nameColumn: "the name"}}
	for _, kind := range kindColumns {
		rec.labels[kind] = "the " + kind
		if files[kind] != "" {
			rec.cells = append(rec.cells, cell{kind, files[kind]})
		}
	}
	return d.row(rec)
}

// isColumn reports whether a column has a meaning.
func (r reader) isColumn(name string) bool {
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

// unknownColumn returns the problem of a column that has no meaning.
func (r reader) unknownColumn(row int, name, label string) Problem {
	p := Problem{Row: row, Column: label, Reason: fmt.Sprintf("there is no column %q", problem.ShortValue(name)), Remedy: "Remove the column."}
	if near := catalog.Nearest(name, r.known); near != "" {
		p.Reason += fmt.Sprintf(" (the nearest is %q)", near)
		p.Remedy = fmt.Sprintf("Rename it to %s, or remove it.", near)
	}
	return p
}

// row returns the job of a record.
func (d Defaults) row(rec record) (Row, []Problem) {
	row := Row{Number: rec.number, Options: map[string]any{}, Links: map[string]string{}, Files: map[string]string{}, record: rec, columns: map[string]string{}}
	var problems []Problem
	wrong := func(column, reason, remedy string) { problems = append(problems, row.Problem(column, reason, remedy)) }
	texts := map[string]string{} // of the columns that hold a text
	given := map[string]cell{}   // the others
	for _, c := range rec.cells {
		text, isText := c.value.(string)
		switch {
		case !slices.Contains(kindColumns, c.column) && c.column != nameColumn && c.column != modelColumn:
			given[c.column] = c
		case !isText:
			wrong(c.column, fmt.Sprintf("%s is not a text", c.column), fmt.Sprintf("Write %s in double quotes.", c.column))
		default:
			texts[c.column] = strings.TrimSpace(text)
		}
	}
	row.Name = norm.NFC.String(texts[nameColumn])
	if reason, remedy := badName(row.Name); reason != "" {
		wrong(nameColumn, reason, remedy)
	}
	id := cmp.Or(texts[modelColumn], d.Model)
	switch {
	case id != "":
	case texts["video"] != "":
		id = d.VideoModel
	case texts["image"] != "":
		id = d.ImageModel
	default:
		wrong("video", "the row has neither a video nor an image", "Name a file in the column video or image, or a model in the column model.")
		return row, problems
	}
	model, ok := d.Catalog.Model(id)
	if !ok {
		reason, remedy := fmt.Sprintf("there is no model %q", problem.ShortValue(id)), fmt.Sprintf("Write %s.", problem.List(d.Catalog.IDs(), "or"))
		if near := d.Catalog.Nearest(id); near != "" {
			reason, remedy = reason+" (the nearest is "+near+")", fmt.Sprintf("Write %s.", near)
		}
		wrong(modelColumn, reason, remedy)
		return row, problems
	}
	row.Model = model
	problems = append(problems, row.addMedia(texts, given)...)
	return row, append(problems, row.addOptions(given, d.Options)...)
}

// badName returns what is wrong with the name of a row, and what to do.
func badName(name string) (reason, remedy string) {
	switch {
	case name == "":
		return "the row has no name", "Give each row its own name: it becomes the name of the job."
	case !problem.IsPrintable(name):
		return fmt.Sprintf("the name %q has characters that cannot be seen or typed", problem.Short(name)), "Remove them."
	case strings.Contains(name, "/"):
		return fmt.Sprintf("the name %q has a slash", problem.Short(name)), "Write - in place of the slash, or make a list for each folder."
	case strings.HasPrefix(name, "."):
		return fmt.Sprintf("the name %q begins with a dot, and such files are ignored", problem.Short(name)), "Remove the dot."
	}
	return "", ""
}

// addMedia adds the media of the record to the row. The column of a kind stands for
// the first property of that kind.
func (r *Row) addMedia(texts map[string]string, given map[string]cell) []Problem {
	var problems []Problem
	wrong := func(column, reason, remedy string) { problems = append(problems, r.Problem(column, reason, remedy)) }
	known := map[string]bool{} // the columns of the kinds that the model accepts
	for _, p := range r.Model.MediaProperties() {
		value := ""
		c, ok := given[p.Name]
		delete(given, p.Name)
		if ok {
			text, isText := c.value.(string)
			if !isText {
				wrong(p.Name, p.Name+" is not a text", "Name a file or an https URL, in double quotes.")
				continue
			}
			value = strings.TrimSpace(text)
		}
		kind := string(p.Kind) // which is also the name of a column
		if first := !known[kind]; first && value == "" {
			value = texts[kind]
			r.columns[p.Name] = r.label(kind)
		} else if first && texts[kind] != "" {
			wrong(kind, fmt.Sprintf("%s and %s are the same input of %s", kind, p.Name, r.Model.ID), "Remove one of the two.")
		}
		known[kind] = true
		if value != "" {
			if bad := r.addMedium(p, value); bad != nil {
				problems = append(problems, *bad)
			}
		} else if p.Required {
			wrong(p.Name, fmt.Sprintf("the row has no %s; %s requires one", kind, r.Model.ID), fmt.Sprintf("Name %s there.", p.Kind.Noun()))
		}
	}
	for _, kind := range kindColumns {
		if texts[kind] != "" && !known[kind] {
			wrong(kind, fmt.Sprintf("%s accepts no %s", r.Model.ID, kind), "Leave it out of the row, or choose another model.")
		}
	}
	return problems
}

// addMedium adds a medium to the row. It returns what is wrong with the value.
func (r *Row) addMedium(p catalog.MediaProperty, value string) *Problem {
	scheme, _, isURL := strings.Cut(value, "://")
	switch {
	case isURL && strings.EqualFold(scheme, "https"), strings.HasPrefix(value, "/"+ledger.InboxPrefix):
		r.Links[p.Name] = value
		return nil
	case isURL:
		bad := r.Problem(p.Name, fmt.Sprintf("the %s begins with %s:, but only https URLs are passed on", p.Kind, problem.Short(scheme)),
			"Name a file on this computer, or a URL that begins with https:.")
		return &bad
	}
	r.Files[p.Name] = value
	switch kind, known := media.KindOf(value); {
	case !known:
		bad := r.Problem(p.Name, fmt.Sprintf("%s is not accepted: its suffix is not one of %s", problem.Short(value), problem.List(media.Suffixes(p.Kind), "and")), fmt.Sprintf("Name %s.", p.Kind.Noun()))
		return &bad
	case kind != p.Kind:
		bad := r.Problem(p.Name, fmt.Sprintf("%s is %s; %s accepts %s there", problem.Short(value), kind.Noun(), r.Model.ID, p.Kind.Noun()), fmt.Sprintf("Name %s.", p.Kind.Noun()))
		return &bad
	}
	return nil
}

var (
	// decimalComma matches a number as spreadsheets write it in many countries.
	decimalComma = regexp.MustCompile(`^-?[0-9]+,[0-9]+$`)

	// shortened matches a number that a spreadsheet wrote with fewer digits.
	shortened = regexp.MustCompile(`^-?[0-9](\.[0-9]+)?E\+[0-9]+$`)

	// formulaError matches what a spreadsheet shows for a formula that has no value.
	formulaError = regexp.MustCompile(`^#(REF!|N/A|NAME\?|VALUE!|DIV/0!|NUM!|NULL!|SPILL!|CALC!|ERROR!)$`)
)

// addOptions adds the options of a record and the default ones to the row, and
// validates them.
func (r *Row) addOptions(given map[string]cell, defaults map[string]string) []Problem {
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(given)) {
		text, isText := given[name].value.(string)
		if !isText || !r.record.table { // JSON has its own numbers
			r.Options[name] = given[name].value
			continue
		}
		value := r.Model.Value(name, text)
		r.Options[name] = value
		trimmed := strings.TrimSpace(text)
		_, becameText := value.(string)
		switch {
		case formulaError.MatchString(trimmed):
			problems = append(problems, r.Problem(name, fmt.Sprintf("%s is %s, the error of a formula", name, trimmed), "Fix the formula, then save the list again."))
		case becameText && decimalComma.MatchString(trimmed) && !r.takesText(name):
			problems = append(problems, r.Problem(name, fmt.Sprintf("%s is %s, with a decimal comma", name, trimmed), fmt.Sprintf("Write %s, with a point.", strings.Replace(trimmed, ",", ".", 1))))
		case !becameText && shortened.MatchString(trimmed):
			problems = append(problems, r.Problem(name, fmt.Sprintf("%s is %s, a number whose last digits the spreadsheet left out", name, trimmed),
				"Format the column as a number without decimals, then save the list again."))
		default:
			continue
		}
		delete(r.Options, name)
	}
	for name, text := range defaults {
		if _, ok := given[name]; !ok {
			r.columns[name] = "--set " + name
			r.Options[name] = r.Model.Value(name, text)
		}
	}
	for _, p := range r.Model.Validate(r.placeholders()) {
		if r.isMedia(p.Member) || slices.ContainsFunc(problems, func(other Problem) bool { return other.Column == r.label(p.Member) }) {
			continue // it is reported in words for a list
		}
		problems = append(problems, r.Problem(p.Member, p.Reason, p.Remedy))
	}
	return problems
}

// placeholders returns the options of the row, completed by PairInput, with texts in
// place of the media.
func (r *Row) placeholders() map[string]any {
	input := r.Options
	if _, _, ok := r.Pair(); ok {
		input, _ = r.Model.PairInput(r.Options, media.Info{})
	}
	whole := maps.Clone(input)
	for _, p := range r.Model.MediaProperties() {
		if p.Required || r.Links[p.Name] != "" || r.Files[p.Name] != "" {
			whole[p.Name] = "https://example.com/"
		}
	}
	return whole
}

// Pair returns the properties of the row's two media, if it is a pair that its model
// accepts. PairInput then completes the options.
func (r *Row) Pair() (visual, audio string, ok bool) {
	for _, kind := range []media.Kind{media.Video, media.Image} {
		visual, audio, ok = r.Model.Pair(kind)
		if ok && r.has(visual) && r.has(audio) {
			return visual, audio, true
		}
	}
	return "", "", false
}

func (r *Row) has(property string) bool { return r.Links[property] != "" || r.Files[property] != "" }

func (r *Row) isMedia(property string) bool {
	return slices.ContainsFunc(r.Model.MediaProperties(), func(p catalog.MediaProperty) bool { return p.Name == property })
}

// takesText reports whether an option accepts any text.
func (r *Row) takesText(option string) bool {
	const text = "no value of any list"
	for _, p := range r.Model.ValidateOptions(map[string]any{option: text}) {
		if p.Member == option {
			return false
		}
	}
	return true
}
