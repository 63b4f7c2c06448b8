package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// board shows followed jobs. On a terminal, it redraws one line for each job in place;
// elsewhere, it prints one line for each change. It is safe for concurrent use.
type board struct {
	out  *terminal
	json bool // print each change as a line of JSON
	now  func() time.Time
	size func() (columns, lines int) // of the terminal; zeros if the terminal cannot redraw

	mu    sync.Mutex
	jobs  map[string]*followed
	drawn int // how many lines are drawn now
	stop  func()
	ended sync.WaitGroup
}

// followed is a job on the board.
type followed struct {
	client.Status
	since time.Time     // when its take was submitted; zero if not known
	usual time.Duration // how long its run usually takes; 0 if not known
}

// redrawEvery is how often the times on the board change.
const redrawEvery = time.Second

func newBoard(out *terminal, json bool) *board {
	ctx, stop := context.WithCancel(context.Background())
	b := &board{out: out, json: json, now: time.Now, size: out.canvas, jobs: map[string]*followed{}, stop: stop}
	if b.canRedraw() {
		b.ended.Go(func() {
			for workflow.Sleep(ctx, redrawEvery) == nil {
				b.mu.Lock()
				b.draw()
				b.mu.Unlock()
			}
		})
	}
	return b
}

func (b *board) canRedraw() bool {
	columns, _ := b.size()
	return columns > 0 && !b.json
}

// change shows a job that has changed.
func (b *board) change(job *followed) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	prev := b.jobs[job.Name]
	b.jobs[job.Name] = job
	switch {
	case b.json:
		return writeJSON(b.out, job.Status.Status)
	case b.canRedraw():
		b.draw()
	case prev == nil || b.describe(prev, false) != b.describe(job, false):
		printf(b.out, "%s\n", b.describe(job, false))
	}
	return nil
}

// above calls write, and then draws the lines again below what write has printed.
func (b *board) above(write func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn == 0 {
		write()
		return
	}
	_ = b.out.raw(fmt.Sprintf("\x1b[%dA\x1b[J", b.drawn)) // b.out stores the error
	b.drawn = 0
	write()
	b.draw()
}

// close stops redrawing. If the board redraws, close draws the lines a last time, and prints below
// them at most mostShown of the problems that the lines may have cut or left out. It prints none
// if the person interrupted the command and some jobs have no line.
func (b *board) close(interrupted bool) {
	b.stop()
	b.ended.Wait()
	if !b.canRedraw() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draw()
	columns, height := b.size()
	hidden := len(b.jobs) > height-2 // then b.lines leaves out some jobs
	if interrupted && hidden {
		return
	}
	problems := slices.DeleteFunc(b.sorted(), func(job *followed) bool {
		cut := hidden || text.StringWidthWithoutEscSequences(escape(b.describe(job, true), "")) >= columns
		return job.Code == "" || !cut
	})
	slices.SortStableFunc(problems, byUrgency)
	for _, job := range problems[:min(len(problems), mostShown)] {
		printf(b.out, "\n%s\n", b.describe(job, false))
	}
	if len(problems) > mostShown {
		printf(b.out, "\nand %s; to list all jobs, run: lipdrop jobs\n", count(len(problems)-mostShown, "more problem"))
	}
}

// sorted returns the jobs by name.
func (b *board) sorted() []*followed {
	var jobs []*followed
	for _, name := range sortedKeys(b.jobs) {
		jobs = append(jobs, b.jobs[name])
	}
	return jobs
}

// describe returns a line about a job. If elapsed is true, the line also says how long the job has
// taken so far. The elapsed time always changes, so only redrawn lines have it.
func (b *board) describe(job *followed, elapsed bool) string {
	line := job.Name + ": " + string(job.State)
	if job.QueuePosition != nil {
		line += fmt.Sprintf(", %s ahead", count(*job.QueuePosition, "job"))
	}
	if elapsed && !client.Final(job.Status.Status) && !job.since.IsZero() {
		line += ", " + shortDuration(b.now().Sub(job.since))
		if job.usual > 0 {
			line += fmt.Sprintf(" (usually runs for %s)", shortDuration(job.usual))
		}
	}
	if job.Verdict == ledger.VerdictDoubtful {
		line += ", doubtful"
	}
	if job.Code != "" {
		line += fmt.Sprintf(" (%s): %s. %s", job.Code, job.Reason, job.Remedy)
	}
	return line
}

// lines returns what to draw on a terminal: a line for each job or, if these do not fit, a summary
// and the most urgent jobs.
func (b *board) lines(columns, height int) []string {
	jobs := b.sorted()
	var lines []string
	if len(jobs) > height-2 {
		lines = append(lines, summary(jobs))
		jobs = slices.DeleteFunc(jobs, func(j *followed) bool { return exitCodeOf(j.Status.Status) == 0 })
		slices.SortStableFunc(jobs, byUrgency)
		jobs = jobs[:min(len(jobs), max(height-3, 0))]
	}
	colored := b.out.colored()
	for _, job := range jobs {
		line := escape(b.describe(job, true), "")
		if name, state := escape(job.Name, "")+": ", escape(string(job.State), ""); colored {
			line = name + colorOf(job.State).Sprint(state) + strings.TrimPrefix(line, name+state)
		}
		lines = append(lines, line)
	}
	for i, line := range lines {
		lines[i] = text.Snip(line, columns-1, "…")
	}
	return lines
}

// draw replaces the drawn lines.
func (b *board) draw() {
	lines := b.lines(b.size())
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	for _, line := range lines {
		s.WriteString("\r\x1b[2K" + line + "\n")
	}
	s.WriteString("\x1b[J")
	b.drawn = len(lines)
	_ = b.out.raw(s.String()) // b.out stores the error
}

// byUrgency compares jobs whose exit codes are not 0. The most urgent job comes first.
func byUrgency(x, y *followed) int {
	rank := func(j *followed) int {
		return slices.Index([]int{exitFailed, exitHeldOrUnknown, exitTimeout}, exitCodeOf(j.Status.Status))
	}
	return rank(x) - rank(y)
}

// summary returns how many jobs are in each state, how long the outputs are, and what the
// jobs cost. A job that has succeeded or is under way counts with its expected length and,
// if RunComfy has not reported its cost, with its estimate.
func summary(jobs []*followed) string {
	counts, length, cost := map[ledger.State]int{}, 0.0, 0.0
	for _, j := range jobs {
		counts[j.State]++
		expected := j.State == ledger.Succeeded || j.State.Claimed() && !j.State.Ended()
		if expected {
			length += j.ExpectedSeconds
		}
		if j.CostUSD != nil {
			cost += *j.CostUSD
		} else if expected && j.EstimateUSD != nil {
			cost += *j.EstimateUSD
		}
	}
	var parts []string
	for _, state := range ledger.StatusStates() {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	line := fmt.Sprintf("%s: %s", count(len(jobs), "job"), strings.Join(parts, ", "))
	if length > 0 {
		line += fmt.Sprintf("; %s of output", seconds(length))
	}
	if cost > 0 {
		line += "; " + dollars(cost)
	}
	return line
}
