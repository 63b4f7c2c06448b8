package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type cancelCmd struct {
	client.Target
	Names []client.Pattern `arg:"" predictor:"job" name:"name-or-prefix" help:"Jobs to cancel: a name such as ads/talk, or ads/ for all jobs under way in a folder."`
}

// Run cancels each job's takes under way, as the deletion of a job's files
// does. The error is nil only if all these takes are cancelled.
func (c *cancelCmd) Run(ctx context.Context, stack *client.Client, out *terminal) error {
	jobs, err := chosenJobs(ctx, stack, c.Names, nil)
	if err != nil {
		return err
	}
	return forEach(ctx, jobs, func(name string) error {
		return stack.Cancel(ctx, name, func(text string) { printf(out, "%s\n", text) })
	})
}

type redriveCmd struct {
	client.Target
	Take  string           `help:"Take to redrive, as lipdrop show prints it. By default the newest failed one. For one job only."`
	State []ledger.State   `default:"failed" enum:"${states}" help:"For a prefix: only jobs whose status has one of these states. By default failed."`
	Names []client.Pattern `arg:"" predictor:"job" name:"name-or-prefix" help:"Jobs to redrive: a name such as ads/talk, or ads/ for the jobs in a folder that --state selects."`
}

// Run continues the executions of failed takes where they failed. It submits nothing
// again.
func (c *redriveCmd) Run(ctx context.Context, stack *client.Client, out *terminal) error {
	jobs, err := chosenJobs(ctx, stack, c.Names, c.State)
	if err != nil {
		return err
	}
	if c.Take != "" && len(jobs) > 1 {
		return &client.UsageError{Reason: fmt.Sprintf("--take is for one job, and %d jobs are selected; give the name of one", len(jobs))}
	}
	return forEach(ctx, jobs, func(name string) error {
		rec, newest, err := stack.Redrive(ctx, name, c.Take)
		if err != nil {
			return err
		}
		outcome := ledger.StatusKey(rec.Name)
		if !newest { // the status describes a newer take
			outcome = ledger.RecordKey(rec.Name, rec.Take)
		}
		printf(out, "take %s of %s continues where it failed; %s shows the outcome\n", rec.Take, rec.Name, outcome)
		return nil
	})
}

// chosenJobs returns the jobs that the patterns select. named[job] is true if a pattern is the
// job's name, and false if only a prefix selects the job. A prefix selects only jobs whose status
// has one of the states, or all jobs if states is nil.
func chosenJobs(ctx context.Context, stack *client.Client, patterns []client.Pattern, states []ledger.State) (named map[string]bool, err error) {
	named = map[string]bool{}
	for _, p := range patterns {
		if !p.Prefix {
			named[p.Text] = true
			continue
		}
		statuses, err := stack.Statuses(ctx, ledger.StatusPrefix, time.Time{}, p)
		if err != nil {
			return nil, err
		}
		if len(statuses) == 0 {
			return nil, stack.NoJob(ctx, p)
		}
		for _, st := range statuses {
			if _, ok := named[st.Name]; !ok && (states == nil || slices.Contains(states, st.State)) {
				named[st.Name] = false
			}
		}
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("none of these jobs is %s. Run: lipdrop jobs", joinStates(states))
	}
	return named, nil
}

// jobsAtOnce is how many jobs are cancelled or redriven at the same time.
const jobsAtOnce = 8

// forEach calls the function do with each job, several at the same time, and continues after an error.
// If only a prefix selects a job, forEach ignores the error that there is nothing to do for this job.
// If every job has such an error, it returns an error that contains the first one.
func forEach(ctx context.Context, named map[string]bool, do func(name string) error) error {
	names := sortedKeys(named)
	errs, _ := client.InParallel(ctx, jobsAtOnce, names, func(_ context.Context, name string) ([]error, error) {
		return []error{do(name)}, nil
	})
	var others, idle []error
	for i, err := range errs {
		if state, ok := errors.AsType[*client.StateError](err); ok && state.Idle && !named[names[i]] {
			idle = append(idle, err)
		} else if err != nil {
			others = append(others, err)
		}
	}
	switch {
	case len(idle) < len(names):
		return errors.Join(others...)
	case len(idle) > 1:
		return fmt.Errorf("there is nothing to do for these %d jobs; for example, %w", len(idle), idle[0])
	}
	return errors.Join(idle...)
}

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
