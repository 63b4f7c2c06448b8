package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// colorOf returns the colour of a state.
func colorOf(state ledger.State) text.Color {
	switch state {
	case ledger.Succeeded, ledger.Accepted:
		return text.FgGreen
	case ledger.Failed, ledger.Rejected, ledger.Unknown:
		return text.FgRed
	case ledger.Held, ledger.Waiting, ledger.Cancelled, ledger.Withdrawn:
		return text.FgYellow
	}
	return text.FgCyan
}

// printTable prints rows under a header, or nothing if there are no rows. On a terminal, it
// cuts the last column, and the first one if necessary, so that a row fits into a line, and
// it colours the states. The parameter states is the number of their column, counted from
// 1, or 0 if there is no such column.
func printTable(out *terminal, header []string, states int, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Name: "plain", Box: table.BoxStyle{PaddingRight: "  "}, Options: table.OptionsNoBordersAndSeparators,
	})
	widest := make([]int, len(header))
	add := func(cells []string, do func(table.Row)) {
		row := make(table.Row, len(cells))
		for i, cell := range cells {
			cell = escape(cell, "")
			row[i], widest[i] = cell, max(widest[i], text.StringWidthWithoutEscSequences(cell))
		}
		do(row)
	}
	add(header, func(r table.Row) { t.AppendHeader(r) })
	for _, cells := range rows {
		add(cells, func(r table.Row) { t.AppendRow(r) })
	}
	var columns []table.ColumnConfig
	if width, _ := out.size(); width > 0 {
		columns = fit(widest, width)
	}
	if out.colored() && states > 0 {
		columns = append(columns, table.ColumnConfig{Number: states, Transformer: func(v any) string {
			state, _, _ := strings.Cut(fmt.Sprint(v), " ")
			return colorOf(ledger.State(state)).Sprint(v)
		}})
	}
	t.SetColumnConfigs(columns)
	var lines strings.Builder
	for line := range strings.Lines(t.Render() + "\n") {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_ = out.raw(lines.String()) // the function run reports the error
}

// fit returns how wide columns may be, so that a row fits into a line of the given width.
// The last column gets what the others leave, but at least a third of the line. If that is
// too much, the first column is cut too.
func fit(widest []int, width int) []table.ColumnConfig {
	last := len(widest) - 1
	others := 2 * last
	for _, w := range widest[:last] {
		others += w
	}
	snip := func(column string, most int) string { return text.Snip(column, most, "…") }
	room := max(width-others, width/3)
	columns := []table.ColumnConfig{{Number: last + 1, WidthMax: room, WidthMaxEnforcer: snip}}
	if over := others + room - width; over > 0 {
		columns = append(columns, table.ColumnConfig{Number: 1, WidthMax: max(widest[0]-over, 4), WidthMaxEnforcer: snip})
	}
	return columns
}

// writeJSON writes a value as a line of JSON. It writes control and format characters as
// \u escapes. Otherwise the type terminal would escape them as Go does, which JSON does not
// allow.
func writeJSON(out io.Writer, value any) error {
	var line strings.Builder
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	var safe strings.Builder
	for _, r := range strings.TrimSuffix(line.String(), "\n") {
		if !acts(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	_, err := fmt.Fprintln(out, safe.String())
	return err
}

// ago returns how long ago something was, for a person.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(now.Sub(t))
}

// short returns a duration in one or two units, such as 45s, 1m30s or 3d.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
