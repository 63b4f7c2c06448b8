package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

type dropCmd struct {
	client.Target
	To      inboxFolder       `placeholder:"FOLDER" help:"Folder below inbox/ to drop into."`
	Model   string            `predictor:"model" placeholder:"ID" help:"ID of the jobs' model. To see the IDs, run: lipdrop models. A row of a list may name another model."`
	Set     map[string]string `mapsep:"none" placeholder:"OPTION=VALUE" help:"Option of the model, for every job. May be given several times. A row of a list may set another value."`
	Wait    bool              `help:"Wait until the jobs have ended."`
	Timeout period            `placeholder:"2h" help:"With --wait or --get: stop waiting after this time. The jobs continue."`
	Get     string            `type:"folder" predictor:"folder" placeholder:"DIR" help:"Wait, then fetch the outputs into this folder."`
	DryRun  bool              `help:"Only say what would happen."`
	Yes     bool              `short:"y" help:"Do not ask."`
	MaxUSD  *amount           `name:"max-usd" placeholder:"N" help:"Send nothing if the estimate is more than this many US dollars, or is not known."`
	Force   bool              `help:"Also send files that the bucket already holds. Their jobs start again."`
	JSON    bool              `name:"json" help:"Print one JSON object for each job. For the jobs that --wait or --get waits for, print the status at each change instead."`
	Files   []string          `arg:"" predictor:"file" name:"file-or-folder-or-list" help:"What to drop: files, folders, or lists of jobs (.csv, .tsv, .jsonl)."`
}

// Validate is called by kong.
func (c *dropCmd) Validate() error {
	if c.Timeout > 0 && !c.waits() {
		return errors.New("--timeout is how long to wait: add --wait or --get, or leave --timeout out")
	}
	return nil
}

// Run checks the files, asks whether to start their jobs, uploads the files, and with --wait
// or --get follows the jobs.
func (c *dropCmd) Run(ctx context.Context, stack *client.Client, out *terminal, say messages) error {
	p, err := c.makePlan(ctx, stack, cmp.Or(string(c.To), ledger.InboxPrefix), say)
	if ctx.Err() != nil {
		return errors.New("interrupted; nothing was sent")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = p.printJSON(out, c.waits() && !c.DryRun)
	} else {
		p.print(out)
	}
	start := p.total()
	if err == nil && c.MaxUSD != nil && start.jobs > 0 && (start.noPrice > 0 || budget.Round(start.usd) > float64(*c.MaxUSD)) {
		err = fmt.Errorf("nothing was sent: --max-usd allows %s, and the estimate is: %s", dollars(float64(*c.MaxUSD)), start.estimate())
	}
	if err != nil || c.DryRun {
		return err
	}
	if err := c.ask(ctx, start.jobs, say); err != nil {
		return err
	}
	if c.Get != "" && start.jobs > 0 { // check the folder before the jobs are paid for
		if err := client.CheckFolder(c.Get); err != nil {
			return fmt.Errorf("nothing was sent: %w", err)
		}
	}
	if err := p.sendFiles(ctx, say, c.Force); err != nil {
		return err
	}
	if c.waits() && len(p.readyNames()) > 0 {
		_, err = c.follow(ctx, p, out, say)
	}
	if c.waits() && err == nil {
		err = p.incomplete()
	}
	return err
}

// incomplete returns an error that lists the problems of the jobs that cannot start, or nil if
// every job can.
func (p *plan) incomplete() error {
	code, lines := 0, []string{"not every job has started:"}
	for _, job := range p.Jobs {
		if job.Good() {
			continue
		}
		if code == 0 && job.State == ledger.Held {
			code = exitHeldOrUnknown
		} else if job.State != ledger.Held {
			code = exitFailed
		}
		for _, bad := range job.Problems {
			lines = append(lines, escapef("%s: %s. %s", job.Finding.Name, bad.Reason, bad.RemedyFor(job.Finding.Name)))
		}
	}
	if code == 0 {
		return nil
	}
	return &exitError{code, errors.New(strings.Join(lines, "\n"))}
}

func (c *dropCmd) waits() bool { return c.Wait || c.Get != "" }

const (
	// mostDetailed is the largest number of starting jobs that are printed with their media and
	// options. If more jobs start, each is printed in one line, followed by its warnings. If the plan
	// has more jobs, starting or not, those whose state is ledger.Used are not printed.
	mostDetailed = 10

	// mostShown limits how many jobs, problems of jobs, or left-out files are printed.
	mostShown = 30
)

// print prints what the drop would start and send.
func (p *plan) print(out *terminal) {
	p.printJobs(out)
	for _, file := range sortedKeys(p.rowCounts) {
		printf(out, "%s: %s\n", file, count(p.rowCounts[file], "row"))
	}
	p.printTotal(out)
}

// printJobs prints the jobs, first those that do not start: many starting jobs would hide them.
func (p *plan) printJobs(out *terminal) {
	starting, shown := p.total().jobs, 0
	rank := map[bool]int{false: 0, true: 1}
	jobs := slices.SortedStableFunc(slices.Values(p.Jobs), func(a, b client.DroppedJob) int { return rank[a.Starts] - rank[b.Starts] })
	for _, job := range jobs {
		switch {
		case job.State == check.Ready && !job.Starts:
			if len(p.Jobs) <= mostShown { // otherwise these lines would bury the jobs that start
				printf(out, "%s: starts nothing, because %s\n", job.Finding.Name, p.WhyNot(job))
			}
			continue
		case job.State == ledger.Used && len(p.Jobs) > mostDetailed:
			continue
		}
		if shown++; shown > mostShown {
			continue
		}
		if job.Starts && starting > mostDetailed {
			printf(out, "%s: one job of %s, %s\n", job.Finding.Name, job.Job.Model, cmp.Or(seconds(job.Job.Expected.Length.Seconds()), "of unknown length"))
			for _, warning := range job.Warnings {
				printf(out, "  warning: %s\n", warning)
			}
			continue
		}
		report(out, job.Outcome, budget.Estimate{})
	}
	if shown > mostShown {
		printf(out, "and %d more; --dry-run --json prints all\n", shown-mostShown)
	}
}

// printTotal prints how many jobs start, how long their outputs are, what is sent, and
// the estimate.
func (p *plan) printTotal(out *terminal) {
	start := p.total()
	line := fmt.Sprintf("%s to start", count(start.jobs, "job"))
	if start.length > 0 {
		line += fmt.Sprintf(", %s of output", problem.Length(start.length))
	}
	if start.noLength > 0 && start.jobs > start.noLength {
		line += fmt.Sprintf(" (and %s of unknown length)", count(start.noLength, "job"))
	}
	line += "; " + joinNonEmpty(", ", count(len(p.Sent), "file")+" to send", byteSize(client.SizeOf(p.Sent)))
	if len(p.Sent) > 0 {
		line += " to " + p.destination()
	}
	if same := len(p.Uploads) - len(p.Sent); same > 0 {
		line += fmt.Sprintf("; the bucket holds %s already", count(same, "file"))
	}
	printf(out, "%s\n", line)
	if start.jobs > 0 {
		printf(out, "estimate: %s\n", start.estimate())
	}
	if len(p.readyNames()) > 0 && len(p.Sent) == 0 {
		printf(out, "nothing starts; to start these jobs again, and to pay for them again, add --force\n")
	}
}

// destination returns the URI of the folder that the files are sent to.
func (p *plan) destination() string { return fmt.Sprintf("s3://%s/%s", p.Bucket.Name, p.Folder()) }

// droppedJob is what drop --json prints about a job.
type droppedJob struct {
	check.Job
	Starts bool `json:"starts"`
}

// printJSON prints the jobs. If follow is true, it leaves out the jobs that the command
// follows after the upload.
func (p *plan) printJSON(out *terminal, follow bool) error {
	var jobs []droppedJob
	for _, job := range p.Jobs {
		if !follow || job.State != check.Ready {
			line := droppedJob{job.Describe(), job.Starts}
			line.EstimateUSD = job.Estimate.USD
			jobs = append(jobs, line)
		}
	}
	return writeJSON(out, jobs...)
}

// ask asks whether to start the given number of jobs, unless none starts or --yes is set.
// Without a terminal it returns a *client.UsageError.
func (c *dropCmd) ask(ctx context.Context, starting int, say messages) error {
	if c.Yes || starting == 0 {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return &client.UsageError{Reason: fmt.Sprintf("%s would start and be paid for; nothing was sent. Add --yes to start without a question", count(starting, "job"))}
	}
	fmt.Fprintf(say, "Start %s? [y/N] ", count(starting, "job"))
	answer, in := make(chan string, 1), bufio.NewReader(os.Stdin)
	go func() {
		line, err := in.ReadString('\n')
		if err != nil {
			line = ""         // an error means no
			fmt.Fprintln(say) // after Ctrl-D, the terminal is still on the line of the question
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(say) // after Ctrl-C, the terminal is still on the line of the question
		return errors.New("interrupted; nothing was sent")
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
		return errors.New("nothing was sent")
	}
}

const leaveOutForce = "If you run this command again, leave out --force; otherwise the jobs start again, and you pay again"

// sendFiles uploads the files of the plan.
func (p *plan) sendFiles(ctx context.Context, say messages, force bool) error {
	if len(p.Sent) == 0 {
		return nil
	}
	add, end := newBar(say.terminal, client.SizeOf(p.Sent))
	err := p.Send(ctx, slices.Collect(maps.Values(p.Sent)), add)
	end()
	const forced = "Some jobs may have started. With --force, the same command would start them again, and you would pay again. To see them, run: lipdrop jobs. Then drop only the files of the other jobs"
	switch {
	case ctx.Err() != nil && force:
		return errors.New("interrupted. " + forced)
	case ctx.Err() != nil:
		return errors.New("interrupted; run the same command again to send the rest. A job starts when all its files are in the bucket")
	case err != nil && force:
		return fmt.Errorf("%w\n%s", err, forced)
	case err != nil:
		return fmt.Errorf("%w\nNot everything was sent. Run the same command again to send the rest", err)
	}
	printf(say, "sent %s to %s\n", count(len(p.Sent), "file"), p.destination())
	if force {
		printf(say, "%s\n", leaveOutForce)
	}
	return nil
}

// follow follows the jobs of the plan until they have ended. With --get, it then fetches the outputs. It
// returns the jobs, with an error if a job did not succeed or an output was not fetched. If follow stops
// before the jobs have ended, it returns only an error.
func (c *dropCmd) follow(ctx context.Context, p *plan, out *terminal, say messages) ([]*followed, error) {
	findings, err := p.findings(ctx)
	if err != nil {
		return nil, err
	}
	names := p.readyNames()
	printf(say, "waiting for %s; a drop gets its first status within about 20 seconds\n", count(len(names), "job"))
	f := &follower{
		stack: p.Client, board: newBoard(out, c.JSON), say: say, timeout: time.Duration(c.Timeout), wanted: exactly(names), listed: patternsOf(names),
		about: func(st client.Status) bool { return isAbout(st, findings[st.Name]) }, forced: c.Force,
	}
	code, err := f.untilEnd(ctx)
	if err != nil {
		return nil, err
	}
	jobs := f.board.sorted()
	if c.Get != "" {
		var succeeded []string
		for _, job := range jobs {
			if job.State == ledger.Succeeded {
				succeeded = append(succeeded, job.Name)
			}
		}
		if len(succeeded) > 0 {
			err = (&getCmd{JSON: c.JSON}).fetch(ctx, p.Client, out, say, succeeded, c.Get)
			if err != nil && c.Force { // err may advise to run the command again
				err = fmt.Errorf("%w\n%s", err, leaveOutForce)
			}
		}
	}
	if err == nil && code != 0 {
		err = &exitError{code, errors.New(summary(jobs))}
	}
	return jobs, err
}

// isAbout reports whether a status is about the same drop as a finding, or about a newer one. A
// status with a take is about the same drop only if the finding has this take too.
func isAbout(st client.Status, f drop.Finding) bool {
	switch {
	case f.Order == "": // the age of the drop is not known
		return false
	case f.Job != nil && st.Take == f.Job.Take:
		return true
	case st.Take != "":
		return f.Order.OlderThan(st.Order)
	}
	return !st.Order.OlderThan(f.Order)
}

// findings returns the findings about the files of the plan, by name. It must be called after
// the upload, because it lists the bucket.
func (p *plan) findings(ctx context.Context) (map[string]drop.Finding, error) {
	snapshot, err := p.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	resolver := p.Resolver
	resolver.Files = snapshot
	findings := map[string]drop.Finding{}
	err = check.Each(ctx, &resolver, sortedKeys(p.Uploads), func(_ string, f drop.Finding) error {
		findings[f.Name] = f
		return nil
	})
	return findings, p.Explain("see what is in the bucket", "inbox/*", err)
}

// manyNames is the largest number of jobs in a folder that are listed one by one. For more
// jobs, one listing of the folder is cheaper.
const manyNames = 20

// patternsOf returns patterns that select the names, and may select other names below the
// same folders.
func patternsOf(names []string) []client.Pattern {
	folders := map[string][]string{}
	for _, name := range names {
		folder, _ := path.Split(name)
		folders[folder] = append(folders[folder], name)
	}
	var patterns []client.Pattern
	for _, folder := range sortedKeys(folders) {
		if len(folders[folder]) > manyNames {
			patterns = append(patterns, client.Pattern{Text: folder, Prefix: true})
			continue
		}
		patterns = append(patterns, exactly(folders[folder])...)
	}
	return patterns
}

// exactly returns patterns that select only the names.
func exactly(names []string) []client.Pattern {
	var patterns []client.Pattern
	for _, name := range names {
		patterns = append(patterns, client.Pattern{Text: name})
	}
	return patterns
}
