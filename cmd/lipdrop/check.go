package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
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
	VideoModel     *string  `predictor:"model" placeholder:"ID" help:"Model for a video and an audio file without a preset."`
	ImageModel     *string  `predictor:"model" placeholder:"ID" help:"Model for an image and an audio file without a preset."`
	SharedFolders  []string `sep:"none" placeholder:"FOLDER,..." help:"Folders whose files any job.json may name."`
	MaxJobsPerDrop int      `type:"number" range:"1-1000" placeholder:"N" help:"How many jobs one changed file may start."`
	LengthMismatch *string  `placeholder:"warn|reject" enum:"warn,reject" help:"What happens if a part of a file would be missing in the output: warn or reject."`
	Price          bool     `help:"Ask RunComfy for prices, and print an estimate for each job. Uses the token in RUNCOMFY_TOKEN, or the token of the stack."`
	JSON           bool     `name:"json" help:"Print one JSON object for each job, in the form of docs/check.md."`
	client.Target
	Files []string `arg:"" predictor:"file" name:"file-or-folder" help:"What you would drop."`
}

// Help is called by kong.
func (c *checkCmd) Help() string {
	return "Uses the settings of a stack, such as its models, if you name one or if --price needs its token. Otherwise uses the defaults of the template."
}

// Validate is called by kong. It accepts what the stack parameter SharedFolders accepts. It splits
// the value itself, because kong would ignore an empty value.
func (c *checkCmd) Validate() error {
	if len(c.SharedFolders) == 0 {
		return nil
	}
	env := &config.Env{Getenv: func(string) string { return strings.Join(c.SharedFolders, ",") }}
	c.SharedFolders = env.Folders("--shared-folders")
	if err := env.Err(); err != nil || len(c.SharedFolders) > 0 {
		return err
	}
	return errors.New("--shared-folders: names no folder")
}

// Run prints what job each file would start, or what is wrong with the file. It runs the same
// code as submit. It uploads nothing, and asks RunComfy for prices only if c.Price is set.
func (c *checkCmd) Run(ctx context.Context, out *terminal) error {
	files, err := gather(ctx, ledger.InboxPrefix, c.Files)
	if err != nil {
		return err
	}
	stack, err := c.stack(ctx)
	if err != nil {
		return err
	}
	resolver, err := c.resolver(stack)
	if err != nil {
		return err
	}
	resolver.Files = client.Files(files.byKey)
	var prices *budget.Prices
	if c.Price {
		if prices, err = c.prices(stack); err != nil {
			return err
		}
	}
	found, wrong := len(files.problems), len(files.problems)
	if !c.JSON {
		for _, problem := range files.problems {
			printf(out, "%v\n", problem)
		}
	}
	err = check.AssessEach(ctx, &resolver, sortedKeys(files.byKey), func(_ string, o check.Outcome) error {
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

// stack finds a stack if the flags or LIPDROP_STACK name one, or if c.Price needs a stack's token.
// Otherwise it returns a client without parameters.
func (c *checkCmd) stack(ctx context.Context) (*client.Client, error) {
	needsToken := c.Price && os.Getenv("RUNCOMFY_TOKEN") == ""
	if !needsToken && !c.Named() {
		return &client.Client{}, nil
	}
	stack, err := c.Find(ctx)
	if none, ok := errors.AsType[*client.NoStackError](err); ok && needsToken {
		none.Remedy += " Or put the RunComfy token into the variable RUNCOMFY_TOKEN."
	}
	return stack, err
}

// resolver returns a resolver that has the settings of a stack, except those that flags replace.
func (c *checkCmd) resolver(stack *client.Client) (drop.Resolver, error) {
	r, err := stack.Resolver()
	if err != nil {
		return r, err
	}
	r.MaxJobsPerDrop = cmp.Or(c.MaxJobsPerDrop, r.MaxJobsPerDrop)
	if len(c.SharedFolders) > 0 {
		r.SharedFolders = c.SharedFolders
	}
	if c.LengthMismatch != nil {
		r.RejectMismatch = *c.LengthMismatch == "reject"
	}
	for _, choice := range []struct {
		flag, parameter string
		given, id       *string
		kind            media.Kind
	}{
		{"--video-model", "DefaultVideoModel", c.VideoModel, &r.DefaultVideoModel, media.Video},
		{"--image-model", "DefaultImageModel", c.ImageModel, &r.DefaultImageModel, media.Image},
	} {
		setting := "the stack's parameter " + choice.parameter
		if choice.given != nil {
			setting, *choice.id = choice.flag, *choice.given
		}
		if err := r.Catalog.CheckPair(*choice.id, choice.kind); err != nil {
			return r, &client.UsageError{Reason: setting + ": " + err.Error()}
		}
	}
	return r, nil
}

// prices returns RunComfy's prices. It uses the token in the environment or, if there is none,
// the stack's token.
func (c *checkCmd) prices(stack *client.Client) (*budget.Prices, error) {
	api := stack.RunComfy()
	if token := os.Getenv("RUNCOMFY_TOKEN"); token != "" {
		api = &runcomfy.Client{Token: runcomfy.StaticToken(token)}
		if os.Getenv("RUNCOMFY_BASE_URL") != "" {
			env := &config.Env{Getenv: os.Getenv}
			api.BaseURL = env.BaseURL("RUNCOMFY_BASE_URL")
			if err := env.Err(); err != nil {
				return nil, &client.UsageError{Reason: err.Error()}
			}
		}
	}
	return &budget.Prices{API: api, Now: time.Now}, nil
}

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

// describeMedium returns a text about a file of a job, or the URL without its query if the medium is
// not a file.
func describeMedium(medium drop.Medium) string {
	if medium.URL != "" {
		return medium.Input().URL
	}
	l := medium.Info.Longest()
	length := seconds(l.D.Seconds())
	if l.Known() && !l.Exact {
		length = "about " + length
	}
	return joinNonEmpty(", ", check.File(medium.File.Key), length, pictureSize(medium.Info.Width, medium.Info.Height))
}
