package main

import (
	"context"
	"errors"

	"github.com/lipdrop/lipdrop/internal/client"
)

type reviewCmd struct {
	client.Target
	Approve bool    `xor:"decision" help:"The output may be used."`
	Reject  bool    `xor:"decision" help:"The output must not be used."`
	Note    string  `placeholder:"TEXT" help:"Reason for the decision."`
	Take    string  `help:"Take to review. By default the newest one that has succeeded."`
	JSON    bool    `name:"json" help:"Print the review as a JSON object."`
	Name    jobName `arg:"" predictor:"job" help:"Name of the job, such as ads/talk."`
}

// Validate is called by kong. Required flags would make the help say that both are needed.
func (c *reviewCmd) Validate() error {
	if !c.Approve && !c.Reject {
		return errors.New("missing flag: --approve or --reject")
	}
	return nil
}

// Run stores a decision about the output of a job.
func (c *reviewCmd) Run(ctx context.Context, stack *client.Client, out *terminal) error {
	decision := client.Approved
	if c.Reject {
		decision = client.Rejected
	}
	review, err := stack.Review(ctx, string(c.Name), c.Take, decision, c.Note, nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(out, review)
	}
	printf(out, "%s, take %s: %s by %s\n", review.Name, review.Take, review.Decision, review.By)
	return nil
}
