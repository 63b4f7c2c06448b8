package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

type checkCmd struct {
	VideoModel     string   `default:"${video_model}" predictor:"model" help:"Model for a video and an audio file without a preset."`
	ImageModel     string   `default:"${image_model}" predictor:"model" help:"Model for an image and an audio file without a preset."`
	SharedFolders  []string `default:"${shared_folders}" placeholder:"FOLDER" help:"Folders whose files any job.json may name."`
	MaxJobsPerDrop jobCount `default:"${max_jobs_per_drop}" help:"How many jobs one changed file may start."`
	LengthMismatch string   `default:"${length_mismatch}" enum:"warn,reject" help:"What happens if a part of a file would be missing in the output: warn or reject."`
	Price          bool     `help:"Ask RunComfy for prices, and print an estimate for each job. Uses the token in RUNCOMFY_TOKEN, or the token of the stack."`
	JSON           bool     `name:"json" help:"Print one JSON object for each job, in the form of docs/check.md."`
	client.Target
	Files []string `arg:"" predictor:"file" name:"file-or-folder" help:"What you would drop."`
}

// Validate is called by kong. It accepts what the stack parameter SharedFolders accepts.
func (c *checkCmd) Validate() error {
	env := &config.Env{Getenv: func(string) string { return strings.Join(c.SharedFolders, ",") }}
	c.SharedFolders = env.Folders("--shared-folders")
	return env.Err()
}

// Run prints what job each file would start, or what is wrong with the file. It runs the same
// code as submit. It uploads nothing, and asks RunComfy for prices only if c.Price is set.
func (c *checkCmd) Run(ctx context.Context, out *terminal) error {
	files, err := gather(ledger.InboxPrefix, c.Files)
	if err != nil {
		return err
	}
	models, err := catalog.Default()
	if err != nil {
		return err
	}
	for _, choice := range []struct {
		id   string
		kind media.Kind
	}{{c.VideoModel, media.Video}, {c.ImageModel, media.Image}} {
		if err := checkModel(models, choice.id); err != nil {
			return err
		}
		model, _ := models.Model(choice.id)
		if _, _, ok := model.Pair(choice.kind); !ok {
			return &client.UsageError{Reason: fmt.Sprintf("%s does not accept a pair of %s and an audio file", choice.id, choice.kind.Noun())}
		}
	}
	resolver := &drop.Resolver{Files: client.Files(files.byKey), Catalog: models, Settings: drop.Settings{
		DefaultVideoModel: c.VideoModel, DefaultImageModel: c.ImageModel, SharedFolders: c.SharedFolders, MaxJobsPerDrop: int(c.MaxJobsPerDrop),
		RejectMismatch: c.LengthMismatch == "reject",
	}}
	var prices *budget.Prices
	if c.Price {
		if prices, err = c.prices(ctx); err != nil {
			return err
		}
	}
	found, wrong := len(files.problems), len(files.problems)
	if !c.JSON {
		for _, problem := range files.problems {
			printf(out, "%v\n", problem)
		}
	}
	err = check.AssessEach(ctx, resolver, sortedKeys(files.byKey), func(_ string, o check.Outcome) error {
		found++
		if !o.Good() {
			wrong++
		}
		var estimate budget.Estimate
		if prices != nil && o.State == check.Ready {
			estimate = prices.Estimate(ctx, o.Job.Model, o.Job.Expected.Length)
			if estimate.USD == nil {
				o.Warnings = append(o.Warnings, estimate.Warning())
			}
		}
		if c.JSON {
			job := o.Describe()
			job.EstimateUSD = estimate.USD
			return writeJSON(out, job)
		}
		report(out, o, estimate)
		return nil
	})
	if c.JSON {
		err = errors.Join(append(files.problems, err)...)
	}
	switch {
	case err != nil:
		return err
	case found == 0:
		return nothingIn(c.Files)
	case wrong == found:
		return errors.New("no job would start")
	case wrong > 0:
		return fmt.Errorf("wrong or incomplete: %d of %d jobs and files", wrong, found)
	}
	return nil
}

// prices returns RunComfy's prices. It uses the token in the environment. If the environment
// has none, it needs a stack and uses the stack's token.
func (c *checkCmd) prices(ctx context.Context) (*budget.Prices, error) {
	if token := os.Getenv("RUNCOMFY_TOKEN"); token != "" {
		api := &runcomfy.Client{Token: runcomfy.StaticToken(token)}
		if os.Getenv("RUNCOMFY_BASE_URL") != "" {
			env := &config.Env{Getenv: os.Getenv}
			api.BaseURL = env.BaseURL("RUNCOMFY_BASE_URL")
			if err := env.Err(); err != nil {
				return nil, &client.UsageError{Reason: err.Error()}
			}
		}
		return &budget.Prices{API: api, Now: time.Now}, nil
	}
	stack, err := c.Find(ctx)
	if none, ok := errors.AsType[*client.NoStackError](err); ok {
		none.Remedy += " Or put the RunComfy token into the variable RUNCOMFY_TOKEN."
	}
	if err != nil {
		return nil, err
	}
	return &budget.Prices{API: stack.RunComfy(), Now: time.Now}, nil
}

// report prints an outcome.
func report(out io.Writer, o check.Outcome, estimate budget.Estimate) {
	name := o.Finding.Name
	switch o.State {
	case check.Ready:
		printf(out, "%s: one job of %s\n", name, o.Job.Model)
		for _, used := range o.Job.Media {
			printf(out, "  %s = %s\n", used.Property, describeMedium(used))
		}
		for _, name := range sortedKeys(o.Job.Input) {
			printf(out, "  %s = %v\n", name, o.Job.Input[name])
		}
		if length := o.Job.Expected.Length; length > 0 {
			printf(out, "  expected output: %s\n", problem.Length(length))
		}
		if estimate.USD != nil {
			printf(out, "  estimate: %s, %s\n", dollars(*estimate.USD), budget.EstimateNote)
		}
		if estimate.Note != "" {
			printf(out, "  RunComfy's note on the price: %s\n", estimate.Note)
		}
	case ledger.Used:
		printf(out, "%s: used by %s\n", name, strings.Join(o.Finding.Jobs, ", "))
	default:
		printf(out, "%s: %s\n", name, o.State)
	}
	for _, p := range o.Problems {
		printf(out, "  %s: %s\n    %s\n", p.Code, p.Reason, p.RemedyFor(name))
	}
	for _, w := range o.Warnings {
		printf(out, "  warning: %s\n", w)
	}
}

// describeMedium returns a text about a file of a job, or the URL of a medium that is not a file.
func describeMedium(medium drop.Medium) string {
	if medium.URL != "" {
		return medium.Input().URL
	}
	l := medium.Info.Longest()
	length := seconds(l.D.Seconds())
	if l.Known() && !l.Exact {
		length = "about " + length
	}
	return joinNonEmpty(", ", check.File(medium.File.Key), length, picture(medium.Info.Width, medium.Info.Height))
}
