package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type tryCmd struct {
	Dir       string   `default:".lipdrop" type:"folder" predictor:"folder" help:"Folder of the local stack's state."`
	Out       string   `default:"lipdrop-out" type:"folder" predictor:"folder" help:"Folder that the outputs are stored in."`
	RunTime   delay    `name:"run" default:"2s" help:"How long the fake RunComfy runs each job."`
	QueueTime delay    `name:"queue" default:"0s" help:"How long the fake RunComfy queues each job."`
	Files     []string `arg:"" optional:"" predictor:"file" name:"file" help:"What to drop: pairs of files, or .job folders. A built-in clip and voice by default."`
}

// errStackFailed is returned if a part of the local stack has failed.
var errStackFailed = errors.New("the local stack has failed")

// Run starts a local stack, drops the files, follows their jobs and fetches the
// outputs. The error is nil only if every job has succeeded.
func (c *tryCmd) Run(ctx context.Context, out *terminal, say messages) error {
	files, err := c.gather(ctx)
	if err != nil {
		return err
	}
	if err := c.check(ctx, files); err != nil {
		return err
	}
	if err := client.CheckFolder(c.Out); err != nil {
		return fmt.Errorf("%w with --out", err)
	}
	stack, err := local.Start(ctx, local.Options{
		Dir: c.Dir, QueueTime: time.Duration(c.QueueTime), RunTime: time.Duration(c.RunTime),
		Say: func(text string) { fmt.Fprintln(out, text) },
	})
	if err != nil {
		return err
	}
	defer stack.Close()
	stackCtx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		select {
		case <-stack.Failed():
			fail(errStackFailed)
		case <-stackCtx.Done():
		}
	}()
	switch jobs, err := c.drop(stackCtx, files, out, say); {
	case errors.Is(context.Cause(stackCtx), errStackFailed):
		return errors.Join(errStackFailed, stack.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; to continue the jobs under way, run `lipdrop local --dir %s`", problem.ShellWord(problem.PathArgument(c.Dir)))
	default:
		c.conclude(out, jobs)
		return err
	}
}

// drop calls removeEarlier, drops the files as `lipdrop drop --get` does, and returns the jobs.
func (c *tryCmd) drop(ctx context.Context, files *gatheredFiles, out *terminal, say messages) ([]*followed, error) {
	stack, err := client.Target{Dir: c.Dir}.Find(ctx)
	if err != nil {
		return nil, err
	}
	removed, err := removeEarlier(ctx, stack.Bucket, sortedKeys(files.byKey))
	if err != nil {
		return nil, err
	}
	if removed > 0 {
		printf(out, "removed %s of earlier drops\n", count(removed, "file"))
		// S3's times have a resolution of one second, and the new files must be newer
		// than the deleted ones.
		if err := workflow.Sleep(ctx, time.Until(time.Now().Truncate(time.Second).Add(time.Second))); err != nil {
			return nil, err
		}
	}
	d := &dropCmd{Files: c.Files, Get: c.Out}
	p, err := d.makePlan(ctx, stack, ledger.InboxPrefix, say)
	if err != nil {
		return nil, err
	}
	if err := p.sendFiles(ctx, say, false); err != nil {
		return nil, err
	}
	return d.follow(ctx, p, out, say)
}

// removeEarlier deletes the objects of earlier drops that could form jobs together with the
// files at the given keys, and returns how many it deleted. It deletes the preset of inbox/,
// and the files and bundles that have the jobStem of a given key. Each given key is directly
// below inbox/ or in a bundle there. removeEarlier deletes every job.json first, then the
// audio files, then the rest, so that no deletion starts a job.
func removeEarlier(ctx context.Context, b *bucket.Bucket, keys []string) (int, error) {
	const preset = ledger.InboxPrefix + "preset.json"
	stems := map[string]bool{}
	for _, key := range keys {
		if !strings.EqualFold(key, preset) {
			stems[jobStem(key)] = true
		}
	}
	delete(stems, "")
	earlier, err := keysBelow(ctx, b, ledger.InboxPrefix)
	if err != nil {
		return 0, err
	}
	earlier = slices.DeleteFunc(earlier, func(key string) bool { return !stems[jobStem(key)] && !strings.EqualFold(key, preset) })
	slices.SortStableFunc(earlier, func(a, b string) int { return check.UploadRank(b) - check.UploadRank(a) })
	for _, key := range earlier {
		if err := remove(ctx, b, key); err != nil {
			return 0, plainly(err)
		}
	}
	return len(earlier), nil
}

// jobStem returns the beginning of the name of a file or bundle in inbox/, up to the first dot:
// talk for inbox/talk.de.wav and for inbox/talk.job/job.json. It returns "" for a file in a
// plain folder.
func jobStem(key string) string {
	first, _, inFolder := strings.Cut(strings.TrimPrefix(key, ledger.InboxPrefix), "/")
	if inFolder && !isBundle(first) {
		return ""
	}
	stem, _, _ := strings.Cut(norm.NFC.String(first), ".")
	return stem
}

// isBundle reports whether a folder's name makes it a bundle.
func isBundle(folder string) bool { return strings.EqualFold(path.Ext(folder), ".job") }

// gather checks the arguments and gives each file its key. Without arguments, it writes
// the built-in files and uses those.
func (c *tryCmd) gather(ctx context.Context) (*gatheredFiles, error) {
	if len(c.Files) == 0 {
		dir := filepath.Join(c.Dir, "sample")
		if err := sample.Write(dir); err != nil {
			return nil, err
		}
		c.Files = []string{filepath.Join(dir, "sample.mp4"), filepath.Join(dir, "sample.wav")}
	}
	for _, file := range c.Files {
		info, err := os.Stat(file)
		if err == nil && info.IsDir() && !isBundle(filepath.Base(filepath.Clean(file))) {
			return nil, fmt.Errorf("%s is a folder; give the files in it, or a folder whose name ends in .job", file)
		}
	}
	files, err := gather(ctx, ledger.InboxPrefix, c.Files)
	if err == nil && files.problems != nil {
		err = fmt.Errorf("nothing was dropped:\n%w", errors.Join(files.problems...))
	}
	return files, err
}

// check returns an error that names every problem of the files and of their jobs. It also
// returns an error if the files form no job. It needs no running stack.
func (c *tryCmd) check(ctx context.Context, files *gatheredFiles) error {
	stack := &client.Client{Dir: c.Dir}
	resolver, err := stack.Resolver()
	if err != nil {
		return err
	}
	p := &plan{Drop: &client.Drop{Client: stack, Resolver: resolver, Uploads: files.byKey}}
	err = p.checkJobs(ctx, "nothing was dropped", func(o check.Outcome) bool { return !o.Good() })
	if err == nil && len(p.readyNames()) == 0 {
		err = errors.New("nothing was dropped: these files form no job. Give a video and an audio file that have the same name")
	}
	return err
}

// fakeOutputs says what the fake RunComfy returns.
const fakeOutputs = "each output is the job's own input video or image, so the output has the picture and the length of the input"

// conclude prints the warnings of the jobs and, if one has succeeded, what the fake RunComfy
// returns.
func (c *tryCmd) conclude(out io.Writer, jobs []*followed) {
	succeeded := false
	for _, job := range jobs {
		for _, warning := range job.Warnings {
			printf(out, "warning: %s: %s\n", job.Name, warning)
		}
		succeeded = succeeded || job.State == ledger.Succeeded
	}
	if succeeded {
		printf(out, "\nThe local RunComfy is a fake: %s. Nothing was lip-synced, so a warning about an output is normal. Nothing was charged.\n", fakeOutputs)
	}
}
