package main

import (
	"context"
	"errors"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// follower reads the statuses of jobs until each has ended.
type follower struct {
	statuses *ledger.Store // for reading
	display  *display
	logs     string // folder of the functions' logs
	jobs     []*followedJob
	since    time.Time
}

// followedJob is a job that uploaded files start.
type followedJob struct {
	name  string
	order string // of the take of the uploaded files, see ledger.Posted
	now   ledger.Status
	took  time.Duration // 0 until the job has ended
}

// silence is how long a job may have no status before the command says where the
// logs are.
const silence = 30 * time.Second

// errStackFailed is returned if a part of the local stack has failed.
var errStackFailed = errors.New("the local stack has failed")

// untilEnd shows each change of a status and returns when every job has ended.
func (f *follower) untilEnd(ctx context.Context, failed <-chan struct{}) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	silent := time.NewTimer(silence)
	defer silent.Stop()
	for open := len(f.jobs); open > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-failed:
			return errStackFailed
		case <-silent.C:
			f.sayMissingStatuses()
			continue
		case <-tick.C:
		}
		for _, job := range f.jobs {
			if job.took > 0 {
				continue
			}
			posted, err := f.statuses.Posted(ctx, ledger.StatusKey(job.name))
			if err != nil {
				return err
			}
			if !job.isAbout(posted) || posted.State == job.now.State && posted.Code == job.now.Code {
				continue
			}
			job.now = posted.Status
			f.display.change(job.name, client.Describe(job.now))
			if job.now.State.Ended() || job.now.State == ledger.Rejected {
				job.took = max(time.Since(f.since), 1)
				open--
			}
		}
	}
	return nil
}

// isAbout reports whether a status is about the uploaded files: about their
// take, or about no take and files that are not older.
func (j *followedJob) isAbout(st ledger.Posted) bool {
	if st.Take != "" {
		return st.Take == j.order
	}
	return ledger.Stamp(st.Order) >= ledger.Stamp(j.order)
}

func (f *follower) sayMissingStatuses() {
	for _, job := range f.jobs {
		if job.now.State == "" {
			f.display.say(escapef("%s has no status after %s; the logs of the functions are in %s", job.name, silence, f.logs))
		}
	}
}
