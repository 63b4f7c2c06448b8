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
	State  []ledger.State `placeholder:"STATE" enum:"${states}" help:"Only jobs in these states, such as failed,held."`
	Since  period         `placeholder:"24h" help:"Only jobs whose status changed within this time, such as 30d or 12h."`
	JSON   bool           `name:"json" help:"Print one JSON object for each job: its status."`
	Prefix client.Pattern `arg:"" optional:"" predictor:"job" help:"Only jobs whose names begin with this, such as ads/."`
}

// Run lists the statuses and the answer files, the last change first.
func (c *jobsCmd) Run(ctx context.Context, stack *client.Client, out *terminal, say messages) error {
	var statuses []client.Status
	for _, folder := range []string{ledger.StatusPrefix, ledger.AnswerPrefix} {
		found, err := stack.Statuses(ctx, folder, c.Since.start(), client.Pattern{Text: c.Prefix.Text, Prefix: true})
		if err != nil {
			return err
		}
		statuses = append(statuses, found...)
	}
	statuses = slices.DeleteFunc(statuses, func(st client.Status) bool {
		return len(c.State) > 0 && !slices.Contains(c.State, st.State)
	})
	slices.SortStableFunc(statuses, func(a, b client.Status) int { return b.UpdatedAt.Compare(a.UpdatedAt) })
	if c.JSON {
		return writeJSON(out, statuses...)
	}
	if len(statuses) == 0 {
		fmt.Fprintln(say, "no jobs")
		return nil
	}
	var rows [][]string
	for _, st := range statuses {
		rows = append(rows, []string{st.Name, string(st.State), ago(st.UpdatedAt), detail(st.Status)})
	}
	printTable(out, []string{"NAME", "STATE", "AGE", "DETAIL"}, 2, rows)
	return nil
}

// unreadable is shown for a status without a State, such as one that is not JSON or is too large.
const unreadable = "the status cannot be read"

// detail returns the most important fact of a status, apart from its state, in a line.
func detail(st ledger.Status) string {
	switch {
	case st.State == "":
		return unreadable
	case st.Code != "":
		return st.Reason
	case st.QueuePosition != nil:
		return count(*st.QueuePosition, "job") + " ahead"
	case st.State == ledger.Used:
		return client.Describe(st)
	case st.State == ledger.Succeeded:
		return fmt.Sprintf("%s, %s", count(len(st.Outputs), "output"), cmp.Or(st.Verdict, ledger.VerdictUnchecked))
	}
	return ""
}

type showCmd struct {
	client.Target
	JSON bool    `name:"json" help:"Print one JSON object: the status and the takes."`
	Name jobName `arg:"" predictor:"job" help:"Name of the job, such as ads/talk; or a file that cannot belong to a job, such as notes.txt."`
}

// Run prints the status of a name and the records of its takes.
func (c *showCmd) Run(ctx context.Context, stack *client.Client, out *terminal) error {
	job, err := stack.Show(ctx, string(c.Name))
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(out, job)
	}
	showJob(out, job)
	return nil
}

// showLine prints a line, unless text is empty.
func showLine(out *terminal, what, text string) {
	if text != "" {
		printf(out, "  %-9s %s\n", what, text)
	}
}

func showJob(out *terminal, job client.Job) {
	st := job.Status
	printf(out, "%s: %s\n", st.Name, cmp.Or(string(st.State), unreadable))
	if !st.UpdatedAt.IsZero() {
		showLine(out, "changed", ago(st.UpdatedAt)+" ago")
	}
	if st.Code != "" {
		showLine(out, "reason", fmt.Sprintf("%s (%s)", st.Reason, st.Code))
		showLine(out, "do", st.Remedy)
	}
	for _, warning := range st.Warnings {
		showLine(out, "warning", warning)
	}
	showLine(out, "jobs", strings.Join(st.Jobs, ", "))
	if st.Links != nil {
		showLine(out, "execution", st.Links.Execution)
		showLine(out, "RunComfy", st.Links.RunComfy)
		showLine(out, "outputs", st.Links.Outputs)
	}
	for _, take := range job.Takes {
		showTake(out, take)
	}
}

func showTake(out *terminal, take client.Take) {
	printf(out, "\ntake %s: %s\n", take.Take, take.State)
	showLine(out, "model", take.Model)
	for _, name := range sortedKeys(take.Options) {
		showLine(out, "option", fmt.Sprintf("%s = %v", name, take.Options[name]))
	}
	for _, in := range take.Inputs {
		showLine(out, "input", joinNonEmpty(", ", cmp.Or(in.Key, in.URL), in.Property, seconds(in.DurationSeconds), pictureSize(in.Width, in.Height), strings.Join(in.Codecs, "+"), byteSize(in.Bytes)))
	}
	showLine(out, "expected", seconds(take.ExpectedSeconds))
	for _, o := range take.Outputs {
		verdict := ""
		if o.Verdict != nil {
			verdict = string(o.Verdict.State)
			for _, doubt := range o.Verdict.Doubts {
				verdict += fmt.Sprintf(" (%s)", doubt.Code)
			}
		}
		showLine(out, "output", joinNonEmpty(", ", o.Key, seconds(o.DurationSeconds), pictureSize(o.Width, o.Height), strings.Join(o.Codecs, "+"), byteSize(o.Bytes), verdict))
	}
	if take.EstimateUSD != nil {
		showLine(out, "estimate", dollars(*take.EstimateUSD))
	}
	if take.CostUSD != nil {
		showLine(out, "cost", dollars(*take.CostUSD))
	}
	showLine(out, "request", take.RequestID)
	showLine(out, "times", timesOf(take.Times))
	if take.Code != "" {
		showLine(out, "reason", fmt.Sprintf("%s (%s)", take.Reason, take.Code))
	}
	if r := take.Review; r != nil {
		showLine(out, "review", fmt.Sprintf("%s by %s, %s", r.Decision, r.By, joinNonEmpty(": ", r.At.Format(time.RFC3339), r.Note)))
	}
}

// timesOf returns, in a line, when a take was submitted, and how much later each later step was.
// If the take was not submitted, timesOf returns when it was claimed.
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
			steps = append(steps, fmt.Sprintf("%s after %s", step.name, shortDuration(step.at.Sub(t.Submitted))))
		}
	}
	return strings.Join(steps, ", ")
}
