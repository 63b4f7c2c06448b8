package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type checkCmd struct {
	VideoModel string   `default:"sync/sync/lipsync/v2/pro" help:"Model of a video and an audio without a preset."`
	ImageModel string   `default:"community/live-avatar" help:"Model of an image and an audio without a preset."`
	Files      []string `arg:"" name:"file-or-folder" help:"What you would drop."`
}

// Run says what job each file would start, or what is wrong with it, by the
// code that decides it in the bucket. Nothing is sent anywhere.
func (c *checkCmd) Run(ctx context.Context, out io.Writer) error {
	files, err := gather(c.Files)
	if err != nil {
		return err
	}
	models, err := catalog.Default()
	if err != nil {
		return err
	}
	resolver := &drop.Resolver{Files: files, Catalog: models, DefaultVideoModel: c.VideoModel, DefaultImageModel: c.ImageModel}
	look := resolver.Look()
	seen := map[string]bool{}
	wrong := 0
	for _, key := range files.keys {
		subjects, err := look.Touched(ctx, key)
		if err != nil {
			return err
		}
		if len(subjects) == 0 {
			fmt.Fprintf(out, "%s: no drop, it is left alone\n", show(key))
		}
		for _, s := range subjects {
			findings, err := look.Find(ctx, s)
			if err != nil {
				return err
			}
			for _, f := range findings {
				if seen[f.Key] {
					continue
				}
				seen[f.Key] = true
				ok, err := report(ctx, out, look, f)
				if err != nil {
					return err
				}
				if !ok {
					wrong++
				}
			}
		}
	}
	if len(files.keys) == 0 {
		return fmt.Errorf("there is no file in what you named")
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d would start no job as they are", wrong, len(seen))
	}
	return nil
}

// report prints a finding and returns whether it is right.
func report(ctx context.Context, out io.Writer, look *drop.Look, f drop.Finding) (bool, error) {
	problems, state := f.Problems, f.State
	var ready drop.Ready
	if f.Job != nil {
		var err error
		if ready, problems, err = look.Prepare(ctx, f.Job); err != nil {
			return false, err
		}
		if state = ledger.Rejected; len(problems) == 0 {
			state = "job"
		}
	}
	switch state {
	case "job":
		fmt.Fprintf(out, "%s: one job of %s\n", f.Name, ready.Model)
		for _, used := range ready.Media {
			fmt.Fprintf(out, "  %s = %s\n", used.Property, describe(used))
		}
		for _, name := range sortedKeys(ready.Input) {
			fmt.Fprintf(out, "  %s = %v\n", name, ready.Input[name])
		}
	case ledger.Used:
		fmt.Fprintf(out, "%s: used by %v\n", f.Name, f.Jobs)
	default:
		fmt.Fprintf(out, "%s: %s\n", f.Name, state)
	}
	for _, p := range problems {
		remedy := p.Remedy
		if remedy == "" {
			remedy = p.Code.Remedy(f.Name)
		}
		fmt.Fprintf(out, "  %s: %s\n    %s\n", p.Code, p.Reason, remedy)
	}
	for _, w := range append(f.Warnings, ready.Warnings...) {
		fmt.Fprintf(out, "  warning: %s\n", w)
	}
	return state == "job" || state == ledger.Used || state == ledger.Accepted, nil
}

// describe returns what is known of a file, in one line.
func describe(used drop.Used) string {
	if used.URL != "" {
		return used.Input().URL
	}
	text := show(used.File.Key)
	if used.Info.HasDuration {
		text += fmt.Sprintf(", %.1f s", used.Info.Duration.Truncate(100*time.Millisecond).Seconds())
	}
	if used.Info.Width > 0 {
		text += fmt.Sprintf(", %d×%d", used.Info.Width, used.Info.Height)
	}
	return text
}
