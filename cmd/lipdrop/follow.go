package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// follower reads the statuses of jobs until each has ended.
type follower struct {
	client  bucket
	names   []string
	display *display

	before, now map[string]ledger.Status
	took        map[string]time.Duration
	since       time.Time
}

func newFollower(client bucket, names []string, d *display) *follower {
	return &follower{
		client: client, names: names, display: d,
		before: map[string]ledger.Status{}, now: map[string]ledger.Status{}, took: map[string]time.Duration{},
	}
}

// begin remembers the statuses of earlier drops of the same names.
func (f *follower) begin(ctx context.Context) error {
	for _, name := range f.names {
		st, err := f.client.status(ctx, name)
		if err != nil {
			return err
		}
		f.before[name] = st
		f.display.job(name)
	}
	f.since = time.Now()
	return nil
}

// errStackFailed says that a part of the local stack has ended by itself.
var errStackFailed = errors.New("the local stack has failed")

// untilEnd shows each change of a status and returns when every job has ended.
func (f *follower) untilEnd(ctx context.Context, failed <-chan struct{}) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for open := len(f.names); open > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-failed:
			return errStackFailed
		case <-tick.C:
		}
		for _, name := range f.names {
			if _, ended := f.took[name]; ended {
				continue
			}
			st, err := f.client.status(ctx, name)
			if err != nil {
				return err
			}
			if st.Take != "" && st.Take == f.before[name].Take || st.State == f.now[name].State && st.Code == f.now[name].Code {
				continue
			}
			f.now[name] = st
			f.display.change(name, describeStatus(st))
			if st.State.Ended() || st.State == ledger.Rejected {
				f.took[name] = time.Since(f.since)
				open--
			}
		}
	}
	return nil
}

// describeStatus returns a status in a line: the state, and why.
func describeStatus(st ledger.Status) string {
	if st.Code == "" {
		return string(st.State)
	}
	return fmt.Sprintf("%s (%s): %s. %s", st.State, st.Code, st.Reason, st.Remedy)
}
