package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/problem"
)

type getCmd struct {
	client.Target
	Take     string   `xor:"take" help:"Take to fetch. By default the newest one that has succeeded."`
	AllTakes bool     `xor:"take" help:"Fetch every take that has succeeded. Each file name then has its take in it."`
	JSON     bool     `name:"json" help:"Print one JSON object for each file."`
	Names    []string `arg:"" predictor:"job" name:"name-or-prefix… [dir]" help:"Jobs whose outputs to fetch: a name such as ads/talk, or ads/ for all jobs in a folder. The last argument may be the folder for the outputs: one that exists, or a path that begins with . or /. By default the outputs are stored in the current folder."`
}

// Run fetches outputs.
func (c *getCmd) Run(ctx context.Context, out *terminal, say messages) error {
	names, dir := splitFolder(c.Names)
	patterns := make([]client.Pattern, len(names))
	for i, name := range names {
		if err := patterns[i].UnmarshalText([]byte(name)); err != nil {
			return err
		}
	}
	stack, err := c.Find(ctx)
	if err != nil {
		return err
	}
	names, err = stack.Names(ctx, patterns...)
	missing, ok := errors.AsType[*client.NoJobError](err)
	if ok && len(c.Names) == 1 && isFolder(c.Names[0]) {
		missing.Remedy = fmt.Sprintf("If %s is the folder for the outputs, write the names of jobs before it, or inbox/ for all jobs", c.Names[0])
	}
	if ok && len(c.Names) > 1 && missing.Name == c.Names[len(c.Names)-1] {
		missing.Remedy = fmt.Sprintf("If %s is the folder for the outputs, write %s", missing.Name, problem.ShellWord("./"+missing.Name))
	}
	if err != nil {
		return err
	}
	return c.fetch(ctx, stack, out, say, names, dir)
}

// splitFolder splits arguments into names and the folder for the outputs. If there are
// several arguments, and the last one begins with . or / or is an existing folder, dir
// is the last argument. Otherwise dir is the current folder.
func splitFolder(args []string) (names []string, dir string) {
	last := len(args) - 1
	if last == 0 || !strings.HasPrefix(args[last], ".") && !filepath.IsAbs(args[last]) && !isFolder(args[last]) {
		return args, "."
	}
	return args[:last], args[last]
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// fetch fetches the outputs of jobs into a folder and prints the files. If there are several
// jobs, it prints a message for each job without an output. If no job has an output, it
// returns an error.
func (c *getCmd) fetch(ctx context.Context, stack *client.Client, out *terminal, say messages, names []string, dir string) error {
	take := c.Take
	if c.AllTakes {
		take = client.AllTakes
	}
	outputs, err := client.InParallel(ctx, client.ReadsAtOnce, names, func(ctx context.Context, name string) ([]client.Output, error) {
		found, err := stack.Archived(ctx, name, take)
		if noOutput, ok := errors.AsType[*client.StateError](err); ok && len(names) > 1 {
			printf(say, "%v\n", noOutput)
			return nil, nil
		}
		return found, err
	})
	if err != nil {
		return err
	}
	if len(outputs) == 0 {
		return errors.New("there is no output to fetch")
	}
	var total int64
	for _, o := range outputs {
		total += o.Bytes
	}
	add, end := newBar(say.terminal, total)
	done, err := stack.Download(ctx, client.DownloadOptions{Dir: dir, TakeInName: c.AllTakes, Progress: add}, outputs)
	end()
	for _, d := range done {
		if c.JSON {
			err = errors.Join(err, writeJSON(out, d))
			continue
		}
		what := "fetched"
		if !d.Fetched {
			what = "is here already"
		}
		printf(out, "%s: %s, %s, %s\n", d.Name, d.Path, byteSize(d.Bytes), what)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; run the same command again to fetch the rest")
	}
	return err
}
