package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type costCmd struct {
	client.Target
	By     string         `default:"folder" enum:"folder,model,day" help:"What to sum by: folder, model or day (in UTC)."`
	Since  period         `placeholder:"30d" help:"Only jobs that were submitted within this time, such as 30d or 12h."`
	CSV    bool           `name:"csv" xor:"form" help:"Print comma-separated values."`
	JSON   bool           `name:"json" xor:"form" help:"Print one JSON object for each folder, model or day, in the form of docs/money.md."`
	Prefix client.Pattern `arg:"" optional:"" predictor:"job" help:"Only jobs whose names begin with this, such as ads/."`
}

// costs is the sum over the takes of a group. docs/money.md describes its members.
type costs struct {
	Group       string  `json:"group"`
	Jobs        int     `json:"jobs"`
	Seconds     float64 `json:"seconds"`
	EstimateUSD float64 `json:"estimateUsd"`
	CostUSD     float64 `json:"costUsd"`

	WithoutEstimate int `json:"withoutEstimate"`
	WithoutCost     int `json:"withoutCost"`
	Unknown         int `json:"unknown"`
}

func (s *costs) add(rec ledger.Record) {
	if rec.State == ledger.Unknown {
		s.Unknown++
		return
	}
	s.Jobs++
	s.Seconds += rec.ExpectedSeconds
	if rec.EstimateUSD == nil {
		s.WithoutEstimate++
	} else {
		s.EstimateUSD += *rec.EstimateUSD
	}
	if rec.CostUSD == nil {
		s.WithoutCost++
	} else {
		s.CostUSD += *rec.CostUSD
	}
}

func groupOf(rec ledger.Record, by string) string {
	switch by {
	case "model":
		return rec.Model
	case "day":
		return budget.Day(rec.Times.Claimed)
	}
	if folder := path.Dir(rec.Name); folder != "." {
		return folder + "/"
	}
	return ""
}

// sumCosts returns the sums of the takes of each group, ordered by group, and the total.
// It leaves out takes that cost nothing, and takes without a request id unless their state is unknown.
func sumCosts(recs []ledger.Record, by string) (groups []costs, total costs) {
	sums := map[string]*costs{}
	for _, rec := range recs {
		if rec.RequestID == "" && rec.State != ledger.Unknown || rec.CostsNothing() {
			continue
		}
		group := groupOf(rec, by)
		if sums[group] == nil {
			sums[group] = &costs{Group: group}
		}
		sums[group].add(rec)
		total.add(rec)
	}
	round := func(s costs) costs {
		s.Seconds, s.EstimateUSD, s.CostUSD = budget.Round(s.Seconds), budget.Round(s.EstimateUSD), budget.Round(s.CostUSD)
		return s
	}
	for _, group := range sortedKeys(sums) {
		groups = append(groups, round(*sums[group]))
	}
	return groups, round(total)
}

// Run prints what jobs cost.
func (c *costCmd) Run(ctx context.Context, stack *client.Client, out *terminal, say messages) error {
	recs, unreadable, err := stack.Records(ctx, c.Prefix.Text, c.Since.start())
	if err != nil {
		return err
	}
	if unreadable > 0 {
		fmt.Fprintf(say, "not counted: %s below jobs/ that cannot be read\n", count(unreadable, "record"))
	}
	groups, total := sumCosts(recs, c.By)
	switch {
	case c.JSON:
		return writeJSON(out, groups...)
	case c.CSV:
		return writeCosts(out, c.By, groups)
	case len(groups) == 0:
		fmt.Fprintln(say, "no jobs")
	default:
		printCosts(out, c.By, groups, total)
	}
	return nil
}

func printCosts(out *terminal, by string, groups []costs, total costs) {
	row := func(s costs) []string {
		cells := []string{cmp.Or(s.Group, "(no folder)"), ifKnown(s.CostUSD, s.Jobs-s.WithoutCost), ifKnown(s.EstimateUSD, s.Jobs-s.WithoutEstimate), strconv.Itoa(s.Jobs), fmt.Sprintf("%.1f", s.Seconds)}
		note := func(n int, text string) string {
			if n == 0 {
				return ""
			}
			return fmt.Sprintf("%d %s", n, text)
		}
		return append(cells, joinNonEmpty(", ", note(s.WithoutEstimate, "without an estimate"), note(s.WithoutCost, "without a cost"), note(s.Unknown, "unknown, not counted")))
	}
	var rows [][]string
	for _, group := range groups {
		rows = append(rows, row(group))
	}
	total.Group = "total"
	printTable(out, []string{strings.ToUpper(by), "COST", "ESTIMATE", "JOBS", "SECONDS", "NOTES"}, 0, append(rows, row(total)))
	printf(out, "Estimates are %s. Costs are what RunComfy reported.\n", budget.EstimateNote)
}

// ifKnown returns a sum in dollars, or "" if none of its amounts is known.
func ifKnown(usd float64, known int) string {
	if known == 0 {
		return ""
	}
	return dollars(usd)
}

// writeCosts writes the sums as CSV.
func writeCosts(out io.Writer, by string, groups []costs) error {
	w := csv.NewWriter(out)
	rows := [][]string{{by, "jobs", "seconds", "estimateUsd", "costUsd", "withoutEstimate", "withoutCost", "unknown"}}
	number := func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
	for _, s := range groups {
		rows = append(rows, []string{client.ForSheet(s.Group), strconv.Itoa(s.Jobs), number(s.Seconds), number(s.EstimateUSD), number(s.CostUSD),
			strconv.Itoa(s.WithoutEstimate), strconv.Itoa(s.WithoutCost), strconv.Itoa(s.Unknown)})
	}
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("write the CSV: %w", err)
	}
	return nil
}
