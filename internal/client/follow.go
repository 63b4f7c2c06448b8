package client

import (
	"context"
	"errors"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// How long Follow waits before it lists the statuses again: a short time after a
// change, and up to a long one while nothing changes.
const (
	firstPause   = time.Second
	longestPause = 15 * time.Second

	localFirstPause   = 200 * time.Millisecond
	localLongestPause = time.Second
)

// patientPolls is how many listings in a row may fail before Follow gives up.
const patientPolls = 10

// Follow calls changed with the statuses that the patterns select, and again with
// those that have changed, until it returns true or an error. The first call may have
// no statuses. Follow lists the statuses and reads only those with another ETag. It
// waits longer while nothing changes.
func (c *Client) Follow(ctx context.Context, changed func([]Status) (done bool, err error), patterns ...Pattern) error {
	seen := map[string]string{} // ETags by name
	first, longest := firstPause, longestPause
	if c.Local() {
		first, longest = localFirstPause, localLongestPause
	}
	pause, failures := first, 0
	for begun := false; ; {
		statuses, err := c.changes(ctx, seen, patterns)
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return ctx.Err()
		case !mayPass(err) || failures == patientPolls:
			return err
		default:
			failures++
		}
		if err == nil && (!begun || len(statuses) > 0) {
			if done, err := changed(statuses); done || err != nil {
				return err
			}
			begun, pause = true, first
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*3/2, longest)
	}
}

// changes reads the statuses that have changed since the last call, and notes their
// ETags.
func (c *Client) changes(ctx context.Context, seen map[string]string, patterns []Pattern) ([]Status, error) {
	entries, err := c.List(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	var changed []Entry
	for _, entry := range entries {
		if seen[entry.Name] != entry.ETag {
			changed = append(changed, entry)
		}
	}
	statuses, err := c.Read(ctx, changed)
	if err != nil {
		return nil, err
	}
	for _, entry := range changed {
		seen[entry.Name] = entry.ETag
	}
	return statuses, nil
}

// mayPass reports whether the next request may succeed after an error.
func mayPass(err error) bool {
	var denied *DeniedError
	var credentials *CredentialsError
	return !errors.As(err, &denied) && !errors.As(err, &credentials)
}

// Settled reports whether a status needs no more watching. A held drop is retried, and a
// waiting one continues when its other file arrives, so neither is settled.
func Settled(st ledger.Status) bool {
	return st.State.Ended() || st.State == ledger.Rejected || st.State == ledger.Withdrawn || st.State == ledger.Used || st.State == ledger.Accepted
}
