package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type jobsCmd struct {
	client.Target
	State  []string      `placeholder:"STATE" help:"Only jobs in these states, such as failed,held."`
	Since  time.Duration `placeholder:"24h" help:"Only jobs whose status changed in this time. Reads only these."`
	JSON   bool          `name:"json" help:"Print one JSON object for each job: its status."`
	Prefix string        `arg:"" optional:"" predictor:"job" help:"Only jobs whose names begin with this, such as ads/."`
}

// Help returns examples.
func (*jobsCmd) Help() string {
	return examples("lipdrop jobs ads/ --state failed,held", "lipdrop jobs --since 24h --json")
}

// Run lists jobs, the last change first.
func (c *jobsCmd) Run(ctx context.Context, out *terminal, say messages) error {
	if err := checkStates(c.State); err != nil {
		return err
	}
	pattern := client.All
	if c.Prefix != "" {
		var err error
		if pattern, err = client.ParsePattern(c.Prefix); err != nil {
			return err
		}
		pattern.Prefix = true
	}
	stack, err := c.Find(ctx)
	if err != nil {
		return err
	}
	since := time.Time{}
	if c.Since > 0 {
		since = time.Now().Add(-c.Since)
	}
	statuses, err := stack.Statuses(ctx, since, pattern)
	if err != nil {
		return err
	}
	statuses = slices.DeleteFunc(statuses, func(st client.Status) bool {
		return len(c.State) > 0 && !slices.Contains(c.State, string(st.State))
	})
	slices.SortStableFunc(statuses, func(a, b client.Status) int { return b.UpdatedAt.Compare(a.UpdatedAt) })
	if c.JSON {
		for _, st := range statuses {
			if err := writeJSON(out, st.Status); err != nil {
				return err
			}
		}
		return nil
	}
	if len(statuses) == 0 {
		fmt.Fprintln(say, "no jobs")
		return nil
	}
	var rows [][]string
	for _, st := range statuses {
		rows = append(rows, []string{st.Name, string(st.State), ago(st.UpdatedAt, time.Now()), detail(st.Status)})
	}
	printTable(out, []string{"NAME", "STATE", "AGE", "DETAIL"}, 2, rows)
	return nil
}

// detail returns what a person wants to know of a status beside its state, in a line.
func detail(st ledger.Status) string {
	switch {
	case st.State == "":
		return "the status cannot be read: it is not JSON"
	case st.Code != "":
		return st.Reason
	case st.QueuePosition != nil:
		return count(*st.QueuePosition, "job") + " ahead"
	case st.State == ledger.Used:
		return "used by " + strings.Join(st.Jobs, ", ")
	case st.State == ledger.Succeeded:
		return fmt.Sprintf("%s, %s", count(len(st.Outputs), "output"), cmp.Or(string(st.Verdict), string(ledger.VerdictUnchecked)))
	}
	return ""
}

type showCmd struct {
	client.Target
	JSON bool   `name:"json" help:"Print one JSON object: the status and the takes."`
	Name string `arg:"" predictor:"job" help:"Name of the job, such as ads/talk; or a file that cannot belong to a job, such as notes.txt."`
}

// Help returns examples.
func (*showCmd) Help() string {
	return examples("lipdrop show ads/talk", "lipdrop show ads/talk --json | jq .status.state")
}

// Run prints everything that is known about a name.
func (c *showCmd) Run(ctx context.Context, out *terminal) error {
	name, err := client.ParseName(c.Name)
	if err != nil {
		return err
	}
	stack, err := c.Find(ctx)
	if err != nil {
		return err
	}
	job, err := stack.Show(ctx, name)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(out, job)
	}
	showJob(out, job)
	return nil
}

// showJob prints a status and its takes.
func showJob(out *terminal, job client.Job) {
	st := job.Status
	printf(out, "%s: %s\n", st.Name, st.State)
	line := func(what, text string) {
		if text != "" {
			printf(out, "  %-9s %s\n", what, text)
		}
	}
	line("changed", ago(st.UpdatedAt, time.Now())+" ago")
	if st.Code != "" {
		line("reason", fmt.Sprintf("%s (%s)", st.Reason, st.Code))
		line("do", st.Remedy)
	}
	for _, warning := range st.Warnings {
		line("warning", warning)
	}
	if st.Jobs != nil {
		line("used by", strings.Join(st.Jobs, ", "))
	}
	if st.Links != nil {
		line("execution", st.Links.Execution)
		line("RunComfy", st.Links.RunComfy)
		line("outputs", st.Links.Outputs)
	}
	for _, take := range job.Takes {
		showTake(out, take)
	}
}

// showTake prints the record of a take.
func showTake(out *terminal, take client.Take) {
	printf(out, "\ntake %s: %s\n", take.Take, take.State)
	line := func(what, format string, args ...any) {
		printf(out, "  %-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("model", "%s", take.Model)
	for _, name := range sortedKeys(take.Options) {
		line("option", "%s = %v", name, take.Options[name])
	}
	for _, in := range take.Inputs {
		line("input", "%s", strings.Join(slices.DeleteFunc([]string{
			cmp.Or(in.Key, in.URL), in.Property, seconds(in.DurationSeconds), picture(in.Width, in.Height), strings.Join(in.Codecs, "+"), bytesOf(in.Bytes),
		}, func(s string) bool { return s == "" }), ", "))
	}
	if take.ExpectedSeconds > 0 {
		line("expected", "%s", seconds(take.ExpectedSeconds))
	}
	for _, o := range take.Outputs {
		verdict := ""
		if o.Verdict != nil {
			verdict = string(o.Verdict.State)
			for _, doubt := range o.Verdict.Doubts {
				verdict += fmt.Sprintf(" (%s)", doubt.Code)
			}
		}
		line("output", "%s", strings.Join(slices.DeleteFunc([]string{
			o.Key, seconds(o.DurationSeconds), picture(o.Width, o.Height), strings.Join(o.Codecs, "+"), bytesOf(o.Bytes), verdict,
		}, func(s string) bool { return s == "" }), ", "))
	}
	if take.EstimateUSD != nil {
		line("estimate", "$%.4f", *take.EstimateUSD)
	}
	if take.CostUSD != nil {
		line("cost", "$%.4f", *take.CostUSD)
	}
	if take.RequestID != "" {
		line("request", "%s", take.RequestID)
	}
	line("times", "%s", timesOf(take.Times))
	if take.Code != "" {
		line("reason", "%s (%s)", take.Reason, take.Code)
	}
	if r := take.Review; r != nil {
		line("review", "%s by %s, %s", r.Decision, r.By, strings.Join(slices.DeleteFunc([]string{r.At.Format(time.RFC3339), r.Note}, func(s string) bool { return s == "" }), ": "))
	}
}

// timesOf returns when a take was submitted, and how long after that each step began.
func timesOf(t ledger.Times) string {
	if t.Submitted.IsZero() {
		return "claimed " + t.Claimed.Format(time.RFC3339)
	}
	steps := []string{"submitted " + t.Submitted.Format(time.RFC3339)}
	for _, step := range []struct {
		name string
		at   time.Time
	}{{"queued", t.Queued}, {"running", t.Running}, {"archiving", t.Archiving}, {"ended", t.Ended}} {
		if !step.at.IsZero() {
			steps = append(steps, fmt.Sprintf("%s after %s", step.name, short(step.at.Sub(t.Submitted))))
		}
	}
	return strings.Join(steps, ", ")
}

func seconds(s float64) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f s", s)
}

func picture(width, height int) string {
	if width == 0 {
		return ""
	}
	return fmt.Sprintf("%d×%d", width, height)
}

func bytesOf(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func joined[S ~string](list []S) string {
	var texts []string
	for _, s := range list {
		texts = append(texts, string(s))
	}
	return strings.Join(texts, ", ")
}

// examples returns the examples of a verb for its help.
func examples(lines ...string) string {
	return "Examples:\n\n  " + strings.Join(lines, "\n\n  ")
}
