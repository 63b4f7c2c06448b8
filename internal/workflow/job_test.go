package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

var (
	submitted = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	limits    = workflow.Limits{Queue: 6 * time.Hour, Run: 24 * time.Hour}
)

func after(d time.Duration) time.Time { return submitted.Add(d) }

func TestAnswered(t *testing.T) {
	four := 4
	tests := []struct {
		name   string
		job    workflow.Job // the test adds SubmittedAt and UsualSeconds
		status runcomfy.Status
		after  time.Duration
		want   workflow.Job
		err    string
	}{
		{
			"a job that has ended", workflow.Job{WaitSeconds: 5},
			runcomfy.Status{State: runcomfy.Completed}, time.Minute,
			workflow.Job{Ended: true}, "",
		},
		{
			"a job that has ended after both limits", workflow.Job{RunningSince: after(time.Hour)},
			runcomfy.Status{State: runcomfy.Completed}, 100 * time.Hour,
			workflow.Job{RunningSince: after(time.Hour), Ended: true}, "",
		},
		{
			"the first turn that finds the job in progress sets RunningSince", workflow.Job{},
			runcomfy.Status{State: runcomfy.InProgress}, time.Minute,
			workflow.Job{RunningSince: after(time.Minute), WaitSeconds: 1}, "",
		},
		{
			"a later turn that finds the job in progress keeps RunningSince", workflow.Job{RunningSince: after(time.Minute)},
			runcomfy.Status{State: runcomfy.InProgress}, 2 * time.Minute,
			workflow.Job{RunningSince: after(time.Minute), WaitSeconds: 3}, "",
		},
		{
			"a queue position lengthens the wait", workflow.Job{},
			runcomfy.Status{State: runcomfy.InQueue, QueuePosition: &four}, time.Minute,
			workflow.Job{QueuedAt: after(time.Minute), WaitSeconds: 85}, "",
		},
		{
			"the wait assumes that the run began when a turn last found the job queued", workflow.Job{QueuedAt: after(50 * time.Second)},
			runcomfy.Status{State: runcomfy.InProgress}, time.Minute,
			workflow.Job{QueuedAt: after(50 * time.Second), RunningSince: after(time.Minute), WaitSeconds: 35}, "",
		},
		{
			"a response clears earlier troubles", workflow.Job{Troubles: 7, TroubleSince: after(1), Losses: 2, LostSince: after(2)},
			runcomfy.Status{State: runcomfy.InQueue}, time.Minute,
			workflow.Job{QueuedAt: after(time.Minute), WaitSeconds: 45}, "",
		},
		{
			"an unknown status is not an end", workflow.Job{},
			runcomfy.Status{State: "resting"}, time.Minute,
			workflow.Job{WaitSeconds: 1}, "",
		},
		{
			"queued for as long as allowed", workflow.Job{},
			runcomfy.Status{State: runcomfy.InQueue}, 6 * time.Hour,
			workflow.Job{QueuedAt: after(6 * time.Hour), WaitSeconds: 900}, "",
		},
		{
			"queued for longer than allowed", workflow.Job{},
			runcomfy.Status{State: runcomfy.InQueue}, 6*time.Hour + time.Minute,
			workflow.Job{}, "QueuedTooLong: the job has been queued at RunComfy for 6 h 1 min; QueueHours allows 6 h 0 min",
		},
		{
			"running for longer than allowed", workflow.Job{RunningSince: after(time.Hour)},
			runcomfy.Status{State: runcomfy.InProgress}, 25*time.Hour + time.Minute,
			workflow.Job{RunningSince: after(time.Hour)}, "RanTooLong: the job has been running at RunComfy for 24 h 1 min; MaxHours allows 24 h 0 min",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			job := tt.job
			job.SubmittedAt, tt.want.SubmittedAt = submitted, submitted
			job.UsualSeconds, tt.want.UsualSeconds = 100, 100
			_, err := job.Answered(tt.status, after(tt.after), limits)
			checkTurn(t, job, tt.want, err, tt.err)
		})
	}
}

func TestUnanswered(t *testing.T) {
	unavailable := &runcomfy.Error{Method: "GET", Path: "/p", HTTPStatus: 502}
	throttled := &runcomfy.Error{Method: "GET", Path: "/p", HTTPStatus: 429, RetryAfter: 2 * time.Minute}
	unknown := &runcomfy.Error{Method: "GET", Path: "/p", HTTPStatus: 404}
	tests := []struct {
		name  string
		job   workflow.Job
		cause error
		after time.Duration
		want  workflow.Job
		err   string
	}{
		{
			"the first failure", workflow.Job{}, errors.New("broken pipe"), time.Minute,
			workflow.Job{Troubles: 1, TroubleSince: after(time.Minute), WaitSeconds: 5}, "",
		},
		{
			"the fourth failure", workflow.Job{Troubles: 3, TroubleSince: after(time.Minute)}, unavailable, time.Hour,
			workflow.Job{Troubles: 4, TroubleSince: after(time.Minute), WaitSeconds: 40}, "",
		},
		{
			"Retry-After lengthens the wait", workflow.Job{}, throttled, time.Minute,
			workflow.Job{Troubles: 1, TroubleSince: after(time.Minute), WaitSeconds: 120}, "",
		},
		{
			"the first response that does not know the request", workflow.Job{}, unknown, time.Minute,
			workflow.Job{Troubles: 1, TroubleSince: after(time.Minute), Losses: 1, LostSince: after(time.Minute), WaitSeconds: 5}, "",
		},
		{
			"the third response that does not know the request, within a minute", workflow.Job{Troubles: 2, TroubleSince: after(0), Losses: 2, LostSince: after(0)}, unknown, 59 * time.Second,
			workflow.Job{Troubles: 3, TroubleSince: after(0), Losses: 3, LostSince: after(0), WaitSeconds: 20}, "",
		},
		{
			"the second response that does not know the request, after a minute", workflow.Job{Troubles: 1, TroubleSince: after(0), Losses: 1, LostSince: after(0)}, unknown, time.Hour,
			workflow.Job{Troubles: 2, TroubleSince: after(0), Losses: 2, LostSince: after(0), WaitSeconds: 10}, "",
		},
		{
			"the third response that does not know the request, after a minute", workflow.Job{RequestID: "r", Troubles: 2, TroubleSince: after(0), Losses: 2, LostSince: after(0)}, unknown, time.Minute,
			workflow.Job{RequestID: "r", Troubles: 3, TroubleSince: after(0), Losses: 3, LostSince: after(0)},
			"RequestLost: RunComfy has not known request r since 2026-11-21 12:00:00 UTC: GET /p: HTTP 404",
		},
		{
			"another failure after two responses that do not know the request", workflow.Job{Troubles: 2, TroubleSince: after(0), Losses: 2, LostSince: after(0)}, unavailable, time.Hour,
			workflow.Job{Troubles: 3, TroubleSince: after(0), WaitSeconds: 20}, "",
		},
		{
			"the second failure past the limit of the queue", workflow.Job{Troubles: 1, TroubleSince: after(7 * time.Hour)}, unavailable, 8 * time.Hour,
			workflow.Job{Troubles: 2, TroubleSince: after(7 * time.Hour), WaitSeconds: 10}, "",
		},
		{
			"the third failure past the limit of the queue", workflow.Job{Troubles: 2, TroubleSince: after(7 * time.Hour)}, unavailable, 8 * time.Hour,
			workflow.Job{Troubles: 3, TroubleSince: after(7 * time.Hour)},
			"QueuedTooLong: the job has been queued at RunComfy for 8 h 0 min; QueueHours allows 6 h 0 min; RunComfy has not reported the job's state since 2026-11-21 19:00:00 UTC",
		},
		{
			"the third failure past the limit of a run", workflow.Job{RunningSince: after(0), Troubles: 2, TroubleSince: after(0)}, unavailable, 30 * time.Hour,
			workflow.Job{RunningSince: after(0), Troubles: 3, TroubleSince: after(0)},
			"RanTooLong: the job has been running at RunComfy for 30 h 0 min; MaxHours allows 24 h 0 min; RunComfy has not reported the job's state since 2026-11-21 12:00:00 UTC",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			job := tt.job
			job.SubmittedAt, tt.want.SubmittedAt = submitted, submitted
			err := job.Unanswered(tt.cause, after(tt.after), limits, 0.999) // this jitter hardly shortens a wait
			checkTurn(t, job, tt.want, err, tt.err)
		})
	}
}

// checkTurn compares the job after a turn, and the type and message of the error.
func checkTurn(t *testing.T, job, want workflow.Job, err error, wantErr string) {
	t.Helper()
	if diff := cmp.Diff(want, job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	got := ""
	if err != nil {
		got = strings.TrimPrefix(fmt.Sprintf("%T: %v", err, err), "*workflow.")
	}
	if got != wantErr {
		t.Errorf("error %q\nwant  %q", got, wantErr)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := workflow.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestBegin(t *testing.T) {
	job := workflow.Job{RequestID: "r", Redrives: 1, Troubles: 4, TroubleSince: submitted, Losses: 2, LostSince: submitted}
	if got := (workflow.Turn{Job: job, Redrives: 1}).Begin(); got != job {
		t.Errorf("there was no redrive since the last turn, but the turn starts with %+v, want %+v", got, job)
	}
	if got, want := (workflow.Turn{Job: job, Redrives: 2}).Begin(), (workflow.Job{RequestID: "r", Redrives: 2}); got != want {
		t.Errorf("a turn after a redrive starts with %+v, want %+v", got, want)
	}
}
