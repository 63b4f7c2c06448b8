package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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
	for _, problem := range files.problems {
		printf(out, "%v\n", problem)
	}
	err = eachFinding(ctx, resolver, files.keys, func(key string, f drop.Finding) error {
		found++
		ok, err := report(ctx, out, resolver, f)
		if !ok {
			wrong++
		}
		return err
	})
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
		for _, s := range subjects {
			findings, err := resolver.Find(ctx, s)
			if err != nil {
				return err
			}
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
	job      drop.Ready // if ready
}

// good reports whether nothing is wrong.
func (o outcome) good() bool {
	return o.state == ready || o.state == ledger.Used || o.state == ledger.Accepted
}

func outcomeOf(ctx context.Context, resolver *drop.Resolver, f drop.Finding) (outcome, error) {
	if f.Job == nil {
		return outcome{state: f.State, problems: f.Problems}, nil
	}
	job, problems, err := resolver.Prepare(ctx, f.Job)
	if err != nil || len(problems) > 0 {
		return outcome{state: drop.StateOf(problems), problems: problems}, err
	}
	return outcome{state: ready, job: job}, nil
}

// report prints a finding and returns whether nothing is wrong with it.
func report(ctx context.Context, out io.Writer, resolver *drop.Resolver, f drop.Finding) (bool, error) {
	o, err := outcomeOf(ctx, resolver, f)
	if err != nil {
		return false, err
	}
	warnings := f.Warnings
	switch o.state {
	case ready:
		printf(out, "%s: one job of %s\n", f.Name, o.job.Model)
		for _, used := range o.job.Media {
			printf(out, "  %s = %s\n", used.Property, describe(used))
		}
		for _, name := range sortedKeys(o.job.Input) {
			printf(out, "  %s = %v\n", name, o.job.Input[name])
		}
		warnings = o.job.Warnings
	case ledger.Used:
		printf(out, "%s: used by %s\n", f.Name, strings.Join(f.Jobs, ", "))
	default:
		printf(out, "%s: %s\n", f.Name, o.state)
	}
	for _, p := range o.problems {
		printf(out, "  %s: %s\n    %s\n", p.Code, p.Reason, p.RemedyFor(f.Name))
	}
	for _, w := range warnings {
		printf(out, "  warning: %s\n", w)
	}
	return o.good(), nil
}

// describe returns what is known about a file, in one line.
func describe(used drop.Used) string {
	if used.URL != "" {
		return used.Input().URL
	}
	text := show(used.File.Key)
	if l := used.Info.Length(); l.Exact {
		text += fmt.Sprintf(", %.1f s", l.D.Seconds())
	} else if l.Known() {
		text += fmt.Sprintf(", about %.1f s", l.D.Seconds())
	}
	if used.Info.Width > 0 {
		text += fmt.Sprintf(", %d×%d", used.Info.Width, used.Info.Height)
	}
	return text
}
