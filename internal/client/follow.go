package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// How long Follow waits before it lists the statuses again: FirstPause after a change,
// and up to LongestPause while nothing changes.
const (
	FirstPause   = time.Second
	LongestPause = 15 * time.Second

	localFirstPause   = 200 * time.Millisecond
	localLongestPause = time.Second
)

// mostFailures is how many failures in a row Follow ignores if a repetition may succeed.
const mostFailures = 10

// Follow calls handle with the statuses that the patterns select, even if there are none. It calls
// handle again with statuses that are new or have changed. It ends when handle returns true or an
// error, when ctx ends, or when it cannot read the statuses (see mostFailures).
func (c *Client) Follow(ctx context.Context, handle func([]Status) (done bool, err error), patterns ...Pattern) error {
	seen := map[string]string{}
	first, longest := FirstPause, LongestPause
	if c.Local() {
		first, longest = localFirstPause, localLongestPause
	}
	pause, failures := first, 0
	for begun := false; ; {
		statuses, err := c.Changes(ctx, ledger.StatusPrefix, seen, patterns...)
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !mayPass(err) || failures == mostFailures {
				return err
			}
			failures++
		case !begun || len(statuses) > 0:
			if done, err := handle(statuses); done || err != nil {
				return err
			}
			begun, pause, failures = true, first, 0
		default:
			failures = 0
		}
		if err := workflow.Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(pause*3/2, longest)
	}
}

// Changes returns the selected statuses or answer files that are new or have changed. etags has the
// ETag of each key that was read before; Changes updates it. The folder is ledger.StatusPrefix or
// ledger.AnswerPrefix.
func (c *Client) Changes(ctx context.Context, folder string, etags map[string]string, patterns ...Pattern) ([]Status, error) {
	entries, err := c.list(ctx, folder, patterns)
	if err != nil {
		return nil, err
	}
	changed := slices.DeleteFunc(entries, func(e entry) bool { return etags[e.Key] == e.ETag })
	statuses, err := c.read(ctx, changed)
	if err != nil {
		return nil, err
	}
	for _, e := range changed {
		etags[e.Key] = e.ETag
	}
	return statuses, nil
}

// mayPass reports whether a request that failed with err may succeed if it is repeated.
func mayPass(err error) bool {
	_, denied := errors.AsType[*DeniedError](err)
	_, refused := errors.AsType[*CredentialsError](err)
	return !denied && !refused
}

// Final reports whether a status is the last one, unless somebody drops or deletes a file, or
// redrives the job. A held job is retried, and the missing files of a waiting job may be on their
// way, so the statuses of these jobs are not final.
func Final(st ledger.Status) bool {
	return st.State.Ended() || st.State == ledger.Rejected || st.State == ledger.Withdrawn || st.State == ledger.Used || st.State == ledger.Accepted
}
