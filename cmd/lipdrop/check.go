package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

type checkCmd struct {
	VideoModel     string   `default:"${video_model}" help:"Model for a video and an audio file without a preset."`
	ImageModel     string   `default:"${image_model}" help:"Model for an image and an audio file without a preset."`
	SharedFolders  []string `default:"${shared_folders}" placeholder:"FOLDER,…" help:"Folders whose files any job.json may name."`
	MaxJobsPerDrop int      `default:"${max_jobs_per_drop}" help:"How many jobs one changed file may start."`
	LengthMismatch string   `default:"${length_mismatch}" enum:"warn,reject" help:"What happens if a part of a file would be missing in the output: warn or reject."`
	JSON           bool     `name:"json" help:"Print one JSON object for each job, in the form of docs/check.md."`
	Files          []string `arg:"" name:"file-or-folder" help:"What you would drop."`
}

// ready is the state of a finding whose job would be submitted.
const ready ledger.State = "ready"

// Run prints what job each file would start, or what is wrong with it. It runs the
// same code as submit, and sends nothing anywhere.
func (c *checkCmd) Run(ctx context.Context, out io.Writer) error {
	files, err := gather(c.Files)
	if err != nil {
		return err
	}
	models, err := catalog.Default()
	if err != nil {
		return err
	}
	resolver := &drop.Resolver{Files: files, Catalog: models, Settings: drop.Settings{
		DefaultVideoModel: c.VideoModel, DefaultImageModel: c.ImageModel, SharedFolders: c.SharedFolders, MaxJobsPerDrop: c.MaxJobsPerDrop,
		RejectMismatch: c.LengthMismatch == "reject",
	}}
	found, wrong := len(files.problems), len(files.problems)
	if !c.JSON {
		for _, problem := range files.problems {
			printf(out, "%v\n", problem)
		}
	}
	err = eachFinding(ctx, resolver, files.keys, func(key string, f drop.Finding) error {
		found++
		o, err := outcomeOf(ctx, resolver, f)
		if err != nil {
			return err
		}
		if !o.good() {
			wrong++
		}
		if c.JSON {
			return writeLine(out, o.describe(f))
		}
		report(out, f, o)
		return nil
	})
	if c.JSON {
		err = errors.Join(append(files.problems, err)...)
	}
	switch {
	case err != nil:
		return err
	case found == 0:
		return errors.New("none of these files is a drop")
	case wrong > 0:
		return fmt.Errorf("%d of %d would start no job", wrong, found)
	}
	return nil
}

// eachFinding calls report once with each finding about the files at keys.
func eachFinding(ctx context.Context, resolver *drop.Resolver, keys []string, report func(key string, f drop.Finding) error) error {
	seen := map[string]bool{}
	for _, key := range keys {
		subjects, err := resolver.Touched(ctx, drop.ParseKey(key))
		if err != nil {
			return err
		}
		for len(subjects) > 0 {
			findings, err := resolver.Find(ctx, subjects[0])
			if err != nil {
				return err
			}
			subjects = append(subjects[1:], findings[0].Matches...)
			for _, f := range findings {
				if seen[f.Key] {
					continue
				}
				seen[f.Key] = true
				if err := report(key, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// outcome is what submit would do about a finding.
type outcome struct {
	state    ledger.State // ready, or the state of the status
	problems []problem.Problem
	warnings []string
	job      drop.Ready // what is known about the job, if there is one
}

// good reports whether nothing is wrong.
func (o outcome) good() bool {
	return o.state == ready || o.state == ledger.Used || o.state == ledger.Accepted
}

func outcomeOf(ctx context.Context, resolver *drop.Resolver, f drop.Finding) (outcome, error) {
	if f.Job == nil {
		return outcome{state: f.State, problems: f.Problems, warnings: f.Warnings}, nil
	}
	job, problems, err := resolver.Prepare(ctx, f.Job)
	o := outcome{state: ready, problems: problems, warnings: job.Warnings, job: job}
	if len(problems) > 0 {
		o.state = drop.StateOf(problems)
	}
	return o, err
}

// report prints a finding.
func report(out io.Writer, f drop.Finding, o outcome) {
	switch o.state {
	case ready:
		printf(out, "%s: one job of %s\n", f.Name, o.job.Model)
		for _, used := range o.job.Media {
			printf(out, "  %s = %s\n", used.Property, describe(used))
		}
		for _, name := range sortedKeys(o.job.Input) {
			printf(out, "  %s = %v\n", name, o.job.Input[name])
		}
		if length := o.job.Expected.Length; length > 0 {
			printf(out, "  expected output: %.1f s\n", length.Seconds())
		}
	case ledger.Used:
		printf(out, "%s: used by %s\n", f.Name, strings.Join(f.Jobs, ", "))
	default:
		printf(out, "%s: %s\n", f.Name, o.state)
	}
	for _, p := range o.problems {
		printf(out, "  %s: %s\n    %s\n", p.Code, p.Reason, p.RemedyFor(f.Name))
	}
	for _, w := range o.warnings {
		printf(out, "  warning: %s\n", w)
	}
}

// describe returns what is known about a file, in one line.
func describe(used drop.Used) string {
	if used.URL != "" {
		return used.Input().URL
	}
	text := show(used.File.Key)
	if l := used.Info.Longest(); l.Exact {
		text += fmt.Sprintf(", %.1f s", l.D.Seconds())
	} else if l.Known() {
		text += fmt.Sprintf(", about %.1f s", l.D.Seconds())
	}
	if used.Info.Width > 0 {
		text += fmt.Sprintf(", %d×%d", used.Info.Width, used.Info.Height)
	}
	return text
}

// checkedJob is a line of check --json. docs/check.md describes its members.
type checkedJob struct {
	Name     string           `json:"name"`
	State    ledger.State     `json:"state"`
	Model    string           `json:"model,omitempty"`
	Input    map[string]any   `json:"input,omitempty"`
	Media    []checkedMedium  `json:"media,omitempty"`
	Expected float64          `json:"expectedSeconds,omitempty"`
	Jobs     []string         `json:"jobs,omitempty"`
	Problems []checkedProblem `json:"problems,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
}

type checkedMedium struct {
	File     string   `json:"file"`
	Property string   `json:"property,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"`
	Exact    bool     `json:"exact"`
	Width    int      `json:"width,omitempty"`
	Height   int      `json:"height,omitempty"`
	Codecs   []string `json:"codecs,omitempty"`
}

type checkedProblem struct {
	Code   problem.Code `json:"code"`
	Reason string       `json:"reason"`
	Remedy string       `json:"remedy"`
}

// describe returns the line of check --json about a finding.
func (o outcome) describe(f drop.Finding) checkedJob {
	c := checkedJob{Name: f.Name, State: o.state, Model: o.job.Model, Jobs: f.Jobs, Warnings: o.warnings}
	if o.state == ready {
		c.Input, c.Expected = o.job.Input, millis(o.job.Expected.Length)
	}
	for _, used := range o.job.Media {
		m := checkedMedium{File: show(used.File.Key), Property: used.Property}
		if used.URL != "" {
			m.File = used.Input().URL
		}
		length := used.Info.Longest()
		m.Seconds, m.Exact = millis(length.D), length.Exact
		m.Width, m.Height, m.Codecs = used.Info.Width, used.Info.Height, used.Info.Codecs()
		c.Media = append(c.Media, m)
	}
	for _, p := range o.problems {
		c.Problems = append(c.Problems, checkedProblem{p.Code, p.Reason, p.RemedyFor(f.Name)})
	}
	return c
}

// millis returns a duration in seconds, rounded to milliseconds.
func millis(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// writeLine writes a value as a line of JSON without control and format characters.
func writeLine(out io.Writer, value any) error {
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
	fmt.Fprintln(out, safe.String())
	return nil
}
