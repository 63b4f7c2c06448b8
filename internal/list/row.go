package list

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// reporter reports what is wrong in a column or a property of a row.
type reporter func(column, reason, remedy string)

// fill returns the row with the name, model, media and options that its cells set.
func (r *reader) fill(row Row, cells []cell) Row {
	row.Options, row.Links, row.Files = map[string]any{}, map[string]string{}, map[string]string{}
	wrong := func(column, reason, remedy string) { r.report(row.Problem(column, reason, remedy)) }
	texts := map[string]string{} // the values of name, model and kindColumns
	given := map[string]any{}    // the values of the other columns
	valid := true
	for _, c := range cells {
		text, isText := c.value.(string)
		switch {
		case !slices.Contains(kindColumns, c.column) && c.column != nameColumn && c.column != modelColumn:
			given[c.column] = c.value
		case !isText:
			wrong(c.column, fmt.Sprintf("%s is not a text", c.column), fmt.Sprintf("Write %s in double quotes.", c.column))
			valid = false
		default:
			text = strings.TrimSpace(text)
			texts[c.column] = text
			if reason, remedy := badCell(c.column, text, nil); row.table && reason != "" {
				wrong(c.column, reason, remedy)
				valid = false
			}
		}
	}
	if !valid {
		return row // the checks below would report these values as missing or as wrong again
	}
	row.Name = norm.NFC.String(texts[nameColumn])
	noColumn := row.table && row.labels[nameColumn] == "" // reader.header has reported the missing column
	if reason, remedy := badName(row.Name); reason != "" && !noColumn {
		wrong(nameColumn, reason, remedy)
	}
	id := cmp.Or(texts[modelColumn], r.Model)
	switch {
	case id != "":
	case texts["video"] != "":
		id = r.VideoModel
	case texts["image"] != "":
		id = r.ImageModel
	default:
		wrong("video", "the row names no model, and neither video nor image is set", "Set video or image to a file, or set model.")
		return row
	}
	model, ok := r.Catalog.Model(id)
	if !ok {
		reason, remedy := fmt.Sprintf("there is no model %s", problem.Quote(id)), fmt.Sprintf("Write %s.", problem.List(r.Catalog.IDs(), "or"))
		if near := catalog.Nearest(id, r.Catalog.IDs()); near != "" {
			reason, remedy = reason+" (the nearest is "+near+")", fmt.Sprintf("Write %s.", near)
		}
		wrong(modelColumn, reason, remedy)
		return row
	}
	row.Model = model
	row.addMedia(texts, given, r.Options, wrong)
	row.addOptions(given, r.Options, wrong)
	return row
}

// badName returns what is wrong with the name of a row, and what to do. Both are "" if
// nothing is wrong.
func badName(name string) (reason, remedy string) {
	switch {
	case name == "":
		return "the row has no name", "Give each row its own name: it becomes the name of the job."
	case !problem.IsPrintable(name):
		return `the name "` + problem.Short(name) + `" has characters that cannot be seen or typed`, "Remove them."
	case strings.Contains(name, "/"):
		return fmt.Sprintf("the name %s has a slash", problem.Quote(name)), "Replace the slash with a hyphen, or make a list for each folder."
	case strings.HasPrefix(name, "."):
		return fmt.Sprintf("the name %s begins with a dot, and lipdrop ignores files with such names", problem.Quote(name)), "Remove the dot."
	}
	return "", ""
}

// addMedia adds the row's media from texts, keyed by kind, and from values and defaults, keyed by
// property. It deletes the media from values. A default is used only if the row leaves out the
// medium.
func (r *Row) addMedia(texts map[string]string, values map[string]any, defaults map[string]string, wrong reporter) {
	known := map[string]bool{} // the columns of the kinds that the model accepts
	for _, p := range r.Model.MediaProperties() {
		kind := string(p.Kind) // also the name of a column
		first := !known[kind]
		known[kind] = true
		cell, isSet := values[p.Name]
		value, isText := cell.(string)
		delete(values, p.Name)
		if isSet && !isText {
			wrong(p.Name, p.Name+" is not a text", "Name a file or an https URL, in double quotes.")
			continue
		}
		value = strings.TrimSpace(value)
		if first && value == "" {
			value = texts[kind]
			if value != "" || r.labels[p.Name] == "" {
				r.labels[p.Name] = r.label(kind)
			}
		} else if first && texts[kind] != "" {
			wrong(kind, fmt.Sprintf("%s and %s are the same input of %s", kind, p.Name, r.Model.ID), "Remove one of the two.")
		}
		if byDefault := strings.TrimSpace(defaults[p.Name]); value == "" && byDefault != "" {
			value, r.labels[p.Name] = byDefault, "--set "+p.Name
		}
		if value != "" {
			r.addMedium(p, value, wrong)
		} else if p.Required {
			wrong(p.Name, fmt.Sprintf("%s is missing; %s requires one", p.Kind.Noun(), r.Model.ID), fmt.Sprintf("Name %s there.", p.Kind.Noun()))
		}
	}
	for _, kind := range kindColumns {
		if texts[kind] != "" && !known[kind] {
			wrong(kind, fmt.Sprintf("%s accepts no %s", r.Model.ID, kind), fmt.Sprintf("Remove the %s from the row, or choose another model.", kind))
		}
	}
}

func (r *Row) addMedium(p catalog.MediaProperty, value string, wrong reporter) {
	scheme, _, isURL := strings.Cut(value, "://")
	if isURL && strings.EqualFold(scheme, "https") || strings.HasPrefix(value, "/"+ledger.InboxPrefix) {
		r.Links[p.Name] = value
		return
	}
	if isURL {
		wrong(p.Name, fmt.Sprintf("the URL of the %s begins with %s:, but only https URLs are passed on", p.Kind, problem.Short(scheme)),
			"Name a file on this computer, or a URL that begins with https:.")
		return
	}
	remedy := fmt.Sprintf("Name %s.", p.Kind.Noun())
	switch kind, known := media.KindOf(value); {
	case !known:
		wrong(p.Name, fmt.Sprintf("%s is not accepted: its suffix is not one of %s", problem.Short(value), problem.List(media.Suffixes(p.Kind), "and")), remedy)
	case kind != p.Kind:
		wrong(p.Name, fmt.Sprintf("%s is %s; %s accepts %s there", problem.Short(value), kind.Noun(), r.Model.ID, p.Kind.Noun()), remedy)
	default:
		r.Files[p.Name] = value
		return
	}
	r.Links[p.Name] = value // so that hasMedium returns true; a file in Files would be read and reported again
}

var (
	// decimalComma matches a number as spreadsheets write it in many countries.
	decimalComma = regexp.MustCompile(`^-?[0-9]+,[0-9]+$`)

	// thousands matches a number with separators of thousands. 1,000 may also be 1 with decimals.
	thousands = regexp.MustCompile(`^-?[1-9][0-9]{0,2}([.,'’\s\x{a0}\x{202f}][0-9]{3})+([.,][0-9]+)?$`)

	// shortened matches a number that a spreadsheet wrote with fewer digits.
	shortened = regexp.MustCompile(`^-?[0-9]([.,][0-9]+)?E\+[0-9]+$`)

	// formulaError matches what a spreadsheet shows for a formula that has no value.
	formulaError = regexp.MustCompile(`^#(REF!|N/A|NAME\?|VALUE!|DIV/0!|NUM!|NULL!|SPILL!|CALC!|ERROR!)$`)
)

// addOptions adds the options in values to the row, and those in defaults that the row does not
// set. Then addOptions validates the row's options.
func (r *Row) addOptions(values map[string]any, defaults map[string]string, wrong reporter) {
	reported := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text, isText := values[name].(string)
		if !isText || !r.table { // in JSON, a text is never a number
			r.Options[name] = values[name]
			continue
		}
		value := r.Model.Value(name, text)
		if reason, remedy := badCell(name, strings.TrimSpace(text), value); reason != "" {
			wrong(name, reason, remedy)
			reported[name] = true
			continue
		}
		r.Options[name] = value
	}
	for name, text := range defaults {
		if _, ok := values[name]; !ok && !r.isMedia(name) {
			r.labels[name] = "--set " + name
			r.Options[name] = r.Model.Value(name, text)
		}
	}
	for _, p := range r.Model.Validate(r.placeholders()) {
		text, _ := r.Options[p.Member].(string)
		switch text = strings.TrimSpace(text); {
		case reported[p.Member]: // badCell has reported it
		case r.table && thousands.MatchString(text):
			wrong(p.Member, p.Reason, "Write the number without separators of thousands, and with a point before decimals.")
		case r.table && decimalComma.MatchString(text):
			wrong(p.Member, fmt.Sprintf("%s is %s, with a decimal comma", p.Member, text), fmt.Sprintf("Write %s, with a point.", strings.Replace(text, ",", ".", 1)))
		default:
			wrong(p.Member, p.Reason, p.Remedy)
		}
	}
}

// badCell returns how a spreadsheet spoiled a cell, and what to do. Both are "" if the cell is
// good. A number counts as shortened only if value, the value of an option, is not a text.
func badCell(name, text string, value any) (reason, remedy string) {
	switch _, isText := value.(string); {
	case formulaError.MatchString(text):
		return fmt.Sprintf("%s is %s, the error of a formula", name, text), "Fix the formula, then save the list again."
	case !isText && shortened.MatchString(text):
		return fmt.Sprintf("%s is %s, a number whose last digits the spreadsheet left out", name, text),
			"Format the column as a number without decimals, then save the list again."
	}
	return "", ""
}

// placeholders returns the row's input for Validate: the options, which PairInput completes
// for a pair, and a placeholder for each medium that the row has or the model requires.
func (r *Row) placeholders() map[string]any {
	input := r.Options
	if _, ok := r.PairAudio(); ok {
		input, _ = r.Model.PairInput(r.Options, media.Info{})
	}
	whole := maps.Clone(input)
	for _, p := range r.Model.MediaProperties() {
		if p.Required || r.hasMedium(p.Name) {
			whole[p.Name] = "https://example.com/"
		}
	}
	return whole
}

// PairAudio returns the property of the row's audio. It returns false if the row does not have
// both files of a pair that its model accepts.
func (r *Row) PairAudio() (audio string, ok bool) {
	for _, kind := range []media.Kind{media.Video, media.Image} {
		visual, audio, ok := r.Model.Pair(kind)
		if ok && r.hasMedium(visual) && r.hasMedium(audio) {
			return audio, true
		}
	}
	return "", false
}

func (r *Row) hasMedium(name string) bool { return r.Links[name] != "" || r.Files[name] != "" }

func (r *Row) isMedia(property string) bool {
	return slices.ContainsFunc(r.Model.MediaProperties(), func(p catalog.MediaProperty) bool { return p.Name == property })
}
