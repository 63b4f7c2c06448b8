package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

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
// cuts the first column to two thirds of the terminal's width, and each row to the whole
// width. If the terminal has colours, printTable colours the states. stateColumn is the number of
// the column with the states, counted from 1, or 0 if there is no such column.
func printTable(out *terminal, header []string, stateColumn int, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Name: "plain", Box: table.BoxStyle{PaddingRight: "  "}, Options: table.OptionsNoBordersAndSeparators,
	})
	row := func(cells []string) (row table.Row) {
		for _, cell := range cells {
			row = append(row, escape(cell, ""))
		}
		return row
	}
	t.AppendHeader(row(header))
	for _, cells := range rows {
		t.AppendRow(row(cells))
	}
	var columns []table.ColumnConfig
	width, _ := out.size()
	if width > 0 {
		columns = append(columns, table.ColumnConfig{Number: 1, WidthMax: width * 2 / 3, WidthMaxEnforcer: func(name string, most int) string { return text.Snip(name, most, "…") }})
	}
	if out.colored() && stateColumn > 0 {
		columns = append(columns, table.ColumnConfig{Number: stateColumn, Transformer: func(v any) string {
			state, _, _ := strings.Cut(fmt.Sprint(v), " ")
			return colorOf(ledger.State(state)).Sprint(v)
		}})
	}
	t.SetColumnConfigs(columns)
	var lines strings.Builder
	for line := range strings.Lines(t.Render()) {
		if line = strings.TrimRight(line, " \n"); width > 0 {
			line = text.Snip(line, width, "…")
		}
		lines.WriteString(line + "\n")
	}
	_ = out.raw(lines.String()) // terminal.failed returns the error
}

// writeJSON writes each value as a line of JSON. It writes control and format characters as
// \u escapes. Otherwise the type terminal would escape them as Go does, which JSON does not
// allow.
func writeJSON[T any](out io.Writer, values ...T) error {
	var lines, safe strings.Builder
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for _, value := range values {
		if err := enc.Encode(value); err != nil {
			return err
		}
	}
	for _, r := range lines.String() {
		if r == '\n' || !isControl(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	_, err := io.WriteString(out, safe.String())
	return err
}
