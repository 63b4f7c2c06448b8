package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type watchCmd struct {
	client.Target
	Timeout    period           `placeholder:"2h" help:"End after this time with exit code 4, or 5 if all jobs that have not ended are held. The jobs continue."`
	ExitStatus bool             `help:"When all jobs have ended, exit with 1 if one has failed or was rejected, cancelled or withdrawn, or else with 5 if one is unknown. Without this flag, exit with 0."`
	JSON       bool             `name:"json" help:"Print one JSON object for each change: the status."`
	Names      []client.Pattern `arg:"" predictor:"job" name:"name-or-prefix" help:"Jobs to watch: a name such as ads/talk, or ads/ for all jobs in a folder."`
}

// Run shows the states of jobs until all have ended.
func (c *watchCmd) Run(ctx context.Context, stack *client.Client, out *terminal, say messages) error {
	f := &follower{stack: stack, board: newBoard(out, c.JSON), say: say, wanted: c.Names, listed: c.Names, timeout: time.Duration(c.Timeout)}
	code, err := f.untilEnd(ctx)
	if err == nil && c.ExitStatus && code != 0 {
		err = &exitError{code, errors.New(summary(f.board.sorted()))}
	}
	return err
}

type follower struct {
	stack   *client.Client
	board   *board
	say     messages
	timeout time.Duration // 0: none

	// wanted selects the jobs to follow. listed selects the jobs whose statuses are read: it may
	// select more jobs than wanted, because one request can list a whole folder.
	wanted, listed []client.Pattern

	// about, if set, reports whether a status is about the followed drop or a newer one.
	// Statuses about earlier drops of the same name are ignored.
	about func(client.Status) bool

	forced bool // the command has the flag --force, so repeating the command would start the jobs again
}

// missingTime is how long to wait for names that have no status. The wait starts anew each
// time that a name gets its first status. A drop is assessed within seconds, but hundreds of
// drops take longer, and events of a new stack may come late.
const missingTime = 5 * time.Minute

// errMissing is the cause with which untilEnd stops following if names get no status
// within missingTime.
var errMissing = errors.New("no status")

// untilEnd shows each change until every job has ended, and returns the exit code for
// their states. If the time runs out or the person interrupts the command, the error says
// how many jobs continue.
func (f *follower) untilEnd(ctx context.Context) (int, error) {
	defer func() { f.board.close(ctx.Err() != nil) }()
	following, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f.timeout > 0 {
		var stop context.CancelFunc
		following, stop = context.WithTimeout(following, f.timeout)
		defer stop()
	}
	giveUp := time.AfterFunc(missingTime, func() { cancel(errMissing) })
	defer giveUp.Stop()
	seen := map[string]client.Status{}
	hinted := f.about != nil // the drop command needs no hint: it has just sent the files
	err := f.stack.Follow(following, func(changed []client.Status) (bool, error) {
		for _, st := range changed {
			if f.about != nil && !f.about(st) {
				continue
			}
			if _, known := seen[st.Name]; !known {
				giveUp.Reset(missingTime)
			}
			seen[st.Name] = st
			if err := f.board.change(f.withTimes(following, st, len(seen))); err != nil {
				return true, err
			}
		}
		missing := f.missing(seen)
		switch {
		case len(missing) == 0:
			giveUp.Stop()
		case !hinted:
			hinted = true
			remedy := f.stack.NoJob(following, missing[0]).Remedy
			longest := missingTime
			if f.timeout > 0 {
				longest = min(longest, f.timeout)
			}
			f.board.above(func() {
				printf(f.say, "%s; a drop gets one within about 20 seconds. If none comes, watch ends after %s\n%s\n", noStatus(missing[0]), shortDuration(longest), remedy)
			})
		}
		return len(missing) == 0 && len(openExitCodes(seen)) == 0, nil
	}, f.listed...)
	return f.outcome(ctx, context.Cause(following), seen, err)
}

// outcome returns the results of untilEnd after Follow has returned err. The parameter cause
// says why the context of Follow ended; ctx is the context of the command.
func (f *follower) outcome(ctx context.Context, cause error, seen map[string]client.Status, err error) (int, error) {
	missing := f.missing(seen)
	switch {
	case err == nil:
		return worstExitCode(seen), nil
	case ctx.Err() != nil:
		command := "the same command"
		if f.forced {
			command += " without --force"
		}
		return 0, fmt.Errorf("watching has ended; %s. Run %s to watch again", f.continuing(seen), command)
	case errors.Is(cause, context.DeadlineExceeded): // not err, which may be a timeout of the network
		code := exitHeldOrUnknown // if each job that has not ended is held
		if len(missing) > 0 || slices.Contains(openExitCodes(seen), exitTimeout) {
			code = exitTimeout
		}
		return 0, &exitError{code, fmt.Errorf("time ran out after %s; %s", f.timeout, f.continuing(seen))}
	case errors.Is(cause, errMissing) && len(missing) > 0:
		remedy := "Run: lipdrop doctor"
		if f.stack.Local() {
			remedy = "The logs of the functions are in " + filepath.Join(f.stack.Dir, "logs")
		}
		return 0, &client.NoJobError{Name: missing[0].String(), Remedy: fmt.Sprintf("No status came within %s. %s", shortDuration(missingTime), remedy)}
	}
	return 0, err
}

// missing returns the wanted patterns that no status matches.
func (f *follower) missing(seen map[string]client.Status) []client.Pattern {
	var missing []client.Pattern
	names := slices.Collect(maps.Keys(seen))
	for _, p := range f.wanted {
		if _, found := seen[p.Text]; !found && (!p.Prefix || !slices.ContainsFunc(names, p.Matches)) {
			missing = append(missing, p)
		}
	}
	return missing
}

// noStatus says that a pattern selects no status.
func noStatus(p client.Pattern) string {
	if p.Prefix {
		return "no job that matches " + p.String() + " has a status yet"
	}
	return p.Text + " has no status yet"
}

// continuing says how many jobs continue, how many other jobs wait for a file, and how many
// names have no status. If only one name has none, continuing says which.
func (f *follower) continuing(seen map[string]client.Status) string {
	say := func(n int, one, several string) string {
		switch n {
		case 0:
			return ""
		case 1:
			return one
		}
		return fmt.Sprintf(several, n)
	}
	waiting, noStatuses := 0, ""
	for _, st := range seen {
		if st.State == ledger.Waiting {
			waiting++
		}
	}
	if missing := f.missing(seen); len(missing) > 0 {
		noStatuses = say(len(missing), noStatus(missing[0]), "%d names have no status yet")
	}
	open := len(openExitCodes(seen)) - waiting
	return cmp.Or(joinNonEmpty(", and ", say(open, "1 job continues", "%d jobs continue"), say(waiting, "1 job waits for a file", "%d jobs wait for files"), noStatuses), "0 jobs continue")
}

// openExitCodes returns the exit codes for the jobs that have not ended.
func openExitCodes(seen map[string]client.Status) []int {
	var codes []int
	for _, st := range seen {
		if !client.Final(st.Status) {
			codes = append(codes, exitCodeOf(st.Status))
		}
	}
	return codes
}

// mostTimed limits the requests of withTimes. If more jobs than this have a status, withTimes
// adds no times.
const mostTimed = 50

// withTimes adds two things to a status: the time at which its take was submitted, and
// how long a run usually takes.
func (f *follower) withTimes(ctx context.Context, st client.Status, jobs int) *followed {
	job := &followed{Status: st}
	if st.Take == "" || client.Final(st.Status) || jobs > mostTimed || !f.board.canRedraw() {
		return job
	}
	if rec, err := f.stack.Ledger.Get(ctx, st.Name, st.Take); err == nil { // after an error, the line has no times
		job.since, job.usual = rec.Times.Submitted, time.Duration(rec.UsualSeconds)*time.Second
	}
	return job
}
