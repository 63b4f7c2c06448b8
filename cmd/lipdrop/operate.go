package main

import (
	"context"
	"io"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type cancelCmd struct {
	client.Target
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

type redriveCmd struct {
	client.Target
	Take string `help:"Take to redrive, as its status names it. By default the newest failed one."`
	Name string `arg:"" help:"Name of the job, such as ads/talk."`
}

// Run cancels every take of a name that is under way, as a deletion of its files
// does. The error is nil only if each is cancelled.
func (c *cancelCmd) Run(ctx context.Context, out io.Writer) error {
	name, err := client.ParsePattern(c.Name)
	if err != nil {
		return err
	}
	stack, err := c.Find(ctx)
	if err != nil {
		return err
	}
	return stack.Cancel(ctx, name.Text, func(text string) { printf(out, "%s\n", text) })
}

// Run continues the execution of a failed take where it failed. It submits nothing
// again.
func (c *redriveCmd) Run(ctx context.Context, out io.Writer) error {
	name, err := client.ParsePattern(c.Name)
	if err != nil {
		return err
	}
	stack, err := c.Find(ctx)
	if err != nil {
		return err
	}
	rec, newest, err := stack.Redrive(ctx, name.Text, c.Take)
	if err != nil {
		return err
	}
	outcome := ledger.StatusKey(rec.Name)
	if !newest { // the status describes a newer take
		outcome = ledger.RecordKey(rec.Name, rec.Take)
	}
	printf(out, "take %s of %s continues where it failed; %s shows the outcome\n", rec.Take, rec.Name, outcome)
	return nil
}
