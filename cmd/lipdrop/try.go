package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

type tryCmd struct {
	Dir       string        `default:".lipdrop" help:"Folder of the local stack's state."`
	Out       string        `default:"lipdrop-out" help:"Folder that the outputs are copied to."`
	RunTime   time.Duration `name:"run" default:"2s" help:"How long the fake RunComfy runs each job."`
	QueueTime time.Duration `name:"queue" default:"0s" help:"How long the fake RunComfy queues each job."`
	Output    string        `enum:"own-input,right,short,long,no-sound,silent,smaller,broken,wrong-type" default:"own-input" help:"What the fake RunComfy returns: the own input of the job, or a made-up file in which nothing can be decoded (${enum})."`
	Files     []string      `arg:"" optional:"" name:"file" help:"What to drop: pairs of files, or .job folders. A built-in clip and voice by default."`
}

// Help returns examples.
func (*tryCmd) Help() string {
	return examples("lipdrop try", "lipdrop try talk.mp4 talk.wav --out videos")
}

// lookEvery is how often a status is read while a person waits for it.
const lookEvery = 200 * time.Millisecond

// Run starts a local stack, drops the files, shows the states of their jobs and
// copies the outputs. The error is nil only if every output was copied.
func (c *tryCmd) Run(ctx context.Context, out *terminal) error {
	files, err := c.gather()
	if err != nil {
		return err
	}
	names, err := jobsOf(ctx, files)
	if err != nil {
		return err
	}
	outputs, err := openOutputs(c.Out, filepath.Join(c.Dir, "try-outputs.json"))
	if err != nil {
		return err
	}
	defer outputs.close()
	if err := outputs.refuse(names); err != nil {
		return err
	}
	display := newDisplay(out)
	stack, err := local.Start(ctx, local.Options{
		Dir: c.Dir, QueueTime: c.QueueTime, RunTime: c.RunTime, Output: runcomfytest.Form(c.Output), Say: display.say,
	})
	if err != nil {
		return err
	}
	defer stack.Close()

	b := &bucket.Bucket{S3: stack.S3(), Name: local.Bucket}
	follow, err := c.drop(ctx, b, files, names, display)
	if err != nil {
		return err
	}
	if err := follow.untilEnd(ctx, stack.Failed()); err != nil {
		display.close()
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted; jobs under way continue with the next `lipdrop local --dir %s`", c.Dir)
		}
		return errors.Join(err, stack.Err())
	}
	display.close()
	return c.collect(ctx, out, b, outputs, follow)
}

// drop uploads the files in place of earlier ones of the same names, and
// returns a follower of the jobs that these files start.
func (c *tryCmd) drop(ctx context.Context, b *bucket.Bucket, files *dropped, names []string, d *display) (*follower, error) {
	removed, err := removeEarlier(ctx, b, files.keys)
	if err != nil {
		return nil, err
	}
	if removed > 0 {
		d.say(fmt.Sprintf("removed %s of earlier drops with the same names", count(removed, "file")))
		// S3's times have a resolution of one second, and the new files must be newer
		// than the deleted ones.
		if err := nextSecond(ctx); err != nil {
			return nil, err
		}
	}
	follow := &follower{
		statuses: &ledger.Store{Bucket: b},
		display:  d, logs: filepath.Join(c.Dir, "logs"), since: time.Now(),
	}
	for _, name := range names {
		d.job(name)
	}
	for _, key := range inUploadOrder(files.keys) {
		if err := upload(ctx, b, files.paths[key], key); err != nil {
			return nil, err
		}
	}
	d.say(fmt.Sprintf("dropped %s into s3://%s/inbox/", count(len(files.keys), "file"), local.Bucket))
	resolver, err := newResolver(b)
	if err != nil {
		return nil, err
	}
	orders, err := ordersOf(ctx, resolver, files.keys)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if orders[name] == "" {
			return nil, fmt.Errorf("the files of %s were changed while they were dropped", name)
		}
		follow.jobs = append(follow.jobs, &followedJob{name: name, order: orders[name]})
	}
	return follow, nil
}

// nextSecond waits until the clock's second is over.
func nextSecond(ctx context.Context) error {
	now := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		return nil
	}
}

// ordersOf returns the orders that the statuses of the files at keys will have,
// by name: the take of each job.
func ordersOf(ctx context.Context, resolver *drop.Resolver, keys []string) (map[string]string, error) {
	orders := map[string]string{}
	err := check.Each(ctx, resolver, keys, func(_ string, f drop.Finding) error {
		orders[f.Name] = f.Order
		if f.Job != nil {
			orders[f.Name] = f.Job.Take
		}
		return nil
	})
	return orders, err
}

func newResolver(files drop.Files) (*drop.Resolver, error) {
	models, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	return &drop.Resolver{Files: files, Catalog: models, Settings: permissions.DefaultSettings()}, nil
}

// gather checks the arguments and gives each file its key in the bucket.
func (c *tryCmd) gather() (*dropped, error) {
	if len(c.Files) == 0 {
		dir, err := sample.Write(filepath.Join(c.Dir, "sample"))
		if err != nil {
			return nil, err
		}
		c.Files = []string{filepath.Join(dir, "sample.mp4"), filepath.Join(dir, "sample.wav")}
	}
	for _, file := range c.Files {
		info, err := os.Stat(file)
		if err == nil && info.IsDir() && !isBundle(filepath.Base(filepath.Clean(file))) {
			return nil, fmt.Errorf("%s is a folder; name the files in it, or a folder whose name ends in .job", file)
		}
	}
	files, err := gather(c.Files)
	if err == nil && files.problems != nil {
		err = fmt.Errorf("nothing was dropped:\n%w", errors.Join(files.problems...))
	}
	return files, err
}

// jobsOf returns the names of the jobs that the files form. The error names every
// file that is not part of a job, and why.
func jobsOf(ctx context.Context, files *dropped) ([]string, error) {
	resolver, err := newResolver(files)
	if err != nil {
		return nil, err
	}
	var names, wrong []string
	for _, key := range files.keys {
		if err := tooLong(strings.TrimPrefix(key, ledger.InboxPrefix)); err != nil {
			wrong = append(wrong, escapef("%v", err))
		}
	}
	err = check.Each(ctx, resolver, files.keys, func(key string, f drop.Finding) error {
		o, err := check.Assess(ctx, resolver, f)
		if err != nil {
			return err
		}
		if o.State == check.Ready {
			names = append(names, f.Name)
		}
		if !o.Good() {
			for _, p := range o.Problems {
				wrong = append(wrong, escapef("%s: %s. %s", f.Name, p.Reason, p.RemedyFor(f.Name)))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if wrong != nil {
		return nil, fmt.Errorf("nothing was dropped:\n  %s", strings.Join(wrong, "\n  "))
	}
	if names == nil {
		return nil, errors.New("nothing was dropped: these files form no job. Name a video and an audio file of the same name")
	}
	return names, nil
}

// collect copies the outputs and prints how each job ended.
func (c *tryCmd) collect(ctx context.Context, out io.Writer, b *bucket.Bucket, outputs *outputFolder, follow *follower) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\njob\tstate\ttime\toutput")
	missing := 0
	for _, job := range follow.jobs {
		name, st := job.name, job.now
		var here []string
		for _, key := range st.Outputs {
			path, err := outputs.copy(ctx, b, name, key)
			if err != nil {
				return err
			}
			here = append(here, path)
		}
		if st.State != ledger.Succeeded || len(here) == 0 {
			missing++
		}
		printf(table, "%s\t%s\t%.1f s\t%s\n", name, st.State, job.took.Seconds(), strings.Join(here, ", "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, job := range follow.jobs {
		for _, warning := range job.now.Warnings {
			printf(out, "warning: %s: %s\n", job.name, warning)
		}
	}
	if missing > 0 {
		return fmt.Errorf("%s without an output", count(missing, "job"))
	}
	returns := "each output is the job's own input video or image, which is why its picture is unchanged"
	if form := runcomfytest.Form(c.Output); form != runcomfytest.OwnInput {
		returns = fmt.Sprintf("each output is made up (%s), and nothing in it can be decoded", form)
	}
	printf(out, "\nThe local RunComfy is a fake: %s. Nothing was lip-synced or charged.\n", returns)
	return nil
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
