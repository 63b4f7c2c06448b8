package world_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// Whatever /status or /result answers, once or for an hour, the job ends
// archived; one that RunComfy says not to know is lost, and still archived by
// a redrive once it is known again.
func TestStatusAndResultAnswers(t *testing.T) {
	for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult} {
		for _, fault := range runcomfytest.Faults(call) {
			for _, lasts := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprintf("%s, %s, for %v", call, fault.Name, lasts), func(t *testing.T) {
					w := newWorld(t)
					dropPair(t, w)
					w.Run(11 * time.Second)
					count := faulty(w, call, fault, lasts)
					rest(t, w)
					if *count == 0 {
						t.Fatal("nothing went wrong")
					}
					if fault.Name == "unknown request" && lasts > 0 {
						st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
						w.Pass(lasts)
						if err := w.Redrive("ads/talk", st.Take); err != nil {
							t.Fatal(err)
						}
						rest(t, w)
					}
					wantArchived(t, w)
					if limit := world.Begin.Add(lasts + 40*time.Minute); fault.Name != "unknown request" && w.Now().After(limit) {
						t.Errorf("archived only at %v", w.Now())
					}
				})
			}
		}
	}
}

// An outage of an hour, whatever kind of it, is told in the status and outlived.
func TestOutage(t *testing.T) {
	for _, name := range []string{"not sent", "reset", "silence", "429", "503", "502 page", "500", "401", "403", "foreign request"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dropPair(t, w)
			w.Run(11 * time.Second)
			faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, name), time.Hour)
			w.Run(50 * time.Minute)
			st := w.Status("ads/talk")
			if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "has not reported the state of the job since") {
				t.Errorf("in the outage the status has the warnings %q", st.Warnings)
			}
			rest(t, w)
			wantArchived(t, w)
			if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
				t.Errorf("after the outage the status has the warnings %q", st.Warnings)
			}
		})
	}
}

// The token is changed at RunComfy, and in the secret half an hour later.
func TestRotatedToken(t *testing.T) {
	for _, queue := range []time.Duration{20 * time.Second, time.Hour} {
		w := newWorld(t)
		w.RunComfy.Queue = queue
		dropPair(t, w)
		w.Run(11 * time.Second)
		w.RunComfy.SetToken("new-canary")
		reads := 0
		w.Before = func(c world.Call) error {
			if c.Service == "secretsmanager" {
				reads++
			}
			return nil
		}
		w.Run(30 * time.Minute)
		if st := w.Status("ads/talk"); st.State.Ended() || len(st.Warnings) != 1 {
			t.Errorf("while the token is refused: %s, warnings %q", st.State, st.Warnings)
		}
		w.Secret = `{"token": "new-canary"}`
		if reads < 3 || reads > 30 {
			t.Errorf("the secret was read %d times in half an hour, want at most once a minute", reads)
		}
		rest(t, w)
		wantArchived(t, w)
	}
}

// A request is lost after three answers in a row over a minute that say so,
// and not before: another answer in between begins the count anew.
func TestRequestLost(t *testing.T) {
	lost := named(t, runcomfytest.CallStatus, "unknown request")
	tests := []struct {
		name   string
		call   runcomfytest.Call
		answer func(n int, since time.Duration) bool // whether the n-th call is answered so
		lost   bool
	}{
		{"twice", runcomfytest.CallStatus, func(n int, _ time.Duration) bool { return n <= 2 }, false},
		{"for less than a minute", runcomfytest.CallStatus, func(_ int, since time.Duration) bool { return since < 50*time.Second }, false},
		{"every other time", runcomfytest.CallStatus, func(n int, _ time.Duration) bool { return n%2 == 0 && n < 60 }, false},
		{"from then on", runcomfytest.CallStatus, func(int, time.Duration) bool { return true }, true},
		{"/result, twice", runcomfytest.CallResult, func(n int, _ time.Duration) bool { return n <= 2 }, false},
		{"/result, from then on", runcomfytest.CallResult, func(int, time.Duration) bool { return true }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.RunComfy.Run = 10 * time.Minute
			dropPair(t, w)
			w.Run(11 * time.Second)
			n, first := 0, time.Time{}
			w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				if call, _ := runcomfytest.CallOf(r); call != tt.call {
					return nil
				}
				if n++; n == 1 {
					first = w.Now()
				}
				if tt.answer(n, w.Now().Sub(first)) {
					return &lost
				}
				return nil
			}
			rest(t, w)
			if !tt.lost {
				wantArchived(t, w)
				return
			}
			st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
			if n < 3 || w.Now().Sub(first) < time.Minute {
				t.Errorf("lost after %d answers over %v", n, w.Now().Sub(first))
			}
			w.RunComfy.Fault = nil
			if err := w.Redrive("ads/talk", st.Take); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			wantArchived(t, w)
		})
	}
}

// A job that queues longer than QueueHours is cancelled at RunComfy, and its
// status says so.
func TestQueuedTooLong(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Queue = 7 * time.Hour
	dropPair(t, w)
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.QueuedTooLong)
	if !strings.Contains(st.Reason, "queued at RunComfy for 6 h") || !strings.Contains(st.Reason, "RunComfy cancelled the job before it started") {
		t.Errorf("reason %q", st.Reason)
	}
	if n := len(w.RunComfy.Cancelled()); n != 1 {
		t.Errorf("%d jobs cancelled at RunComfy, want 1", n)
	}
}

// A job that runs longer than MaxHours fails, and its paid result is archived
// by a redrive once it has ended.
func TestRanTooLong(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Run = 30 * time.Hour
	dropPair(t, w)
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.RanTooLong)
	if !strings.Contains(st.Reason, "running at RunComfy for 24 h") || !strings.Contains(st.Remedy, "lipdrop redrive ads/talk") {
		t.Errorf("reason %q, remedy %q", st.Reason, st.Remedy)
	}
	w.Pass(6 * time.Hour)
	if err := w.Redrive("ads/talk", st.Take); err != nil {
		t.Fatal(err)
	}
	rest(t, w)
	wantArchived(t, w)
}

// The deadline is looked at after the answer: a job that has ended is archived
// however late it is found.
func TestEndedAfterTheDeadline(t *testing.T) {
	tests := []struct {
		name       string
		queue, run time.Duration
	}{
		{"it would have queued too long", 5 * time.Hour, 30 * time.Minute},
		{"it would have run too long", time.Minute, 23*time.Hour + 55*time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.RunComfy.Queue, w.RunComfy.Run = tt.queue, tt.run
			dropPair(t, w)
			w.Run(tt.queue / 2)
			if tt.run > tt.queue {
				w.Run(tt.queue + tt.run/2)
			}
			// Lambda runs nothing until long after the deadline.
			open := w.Now().Add(8 * time.Hour)
			if tt.run > tt.queue {
				open = w.Now().Add(14 * time.Hour)
			}
			w.Before = func(c world.Call) error {
				if c.Service == "lambda" && w.Now().Before(open) {
					return world.ErrLambda
				}
				return nil
			}
			w.Pass(24 * time.Hour)
			// Lambda was away for longer than poll is tried again.
			st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionFailed)
			if err := w.Redrive("ads/talk", st.Take); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			wantArchived(t, w)
		})
	}
}

// A job of 24 h takes fewer than 2,000 turns.
func TestTurnsOfADay(t *testing.T) {
	for _, queue := range []time.Duration{0, 5 * time.Hour} {
		w := newWorld(t)
		w.RunComfy.Queue, w.RunComfy.Run = queue, 23*time.Hour+50*time.Minute
		turns := 0
		w.Before = func(c world.Call) error {
			if c.Function == "poll" && c.Service == "lambda" {
				turns++
			}
			return nil
		}
		dropPair(t, w)
		rest(t, w)
		wantArchived(t, w)
		st := w.Status("ads/talk")
		execution, _ := w.Execution("ads/talk", st.Take)
		t.Logf("%d turns, %d events", turns, len(execution.Events))
		if turns >= 2000 || len(execution.Events) >= 25000 {
			t.Errorf("%d turns, %d events", turns, len(execution.Events))
		}
	}
}

// A state that could not be written is written at the next turn.
func TestStateIsWrittenLater(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Run = time.Hour
	w.Before = func(c world.Call) error {
		if c.Function == "poll" && c.Service == "s3" && w.Now().Before(world.Begin.Add(5*time.Minute)) {
			return world.Throttled
		}
		return nil
	}
	dropPair(t, w)
	w.Run(4 * time.Minute)
	wantStatus(t, w, "ads/talk", ledger.Submitted, "")
	w.Run(3 * time.Minute)
	wantStatus(t, w, "ads/talk", ledger.InProgress, "")
	rest(t, w)
	wantArchived(t, w)
}

// A redriven execution, whose deadline is long past, does not end again over
// the first trouble: an answer of 503, or a process that has kept an old token.
func TestRedrivePastTheDeadline(t *testing.T) {
	tests := []struct {
		name    string
		trouble func(w *world.World)
	}{
		{"a 503", func(w *world.World) {
			faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, "503"), 0)
		}},
		{"the token was changed meanwhile", func(w *world.World) {
			w.RunComfy.SetToken("new-canary")
			w.Secret = "new-canary"
		}},
	}
	for _, tt := range tests {
		for _, code := range []problem.Code{problem.RanTooLong, problem.QueuedTooLong} {
			t.Run(fmt.Sprintf("%s, after %s", tt.name, code), func(t *testing.T) {
				w := newWorld(t)
				w.RunComfy.Run = 30 * time.Hour
				if code == problem.QueuedTooLong { // as it seems in an outage
					w.RunComfy.Run = time.Minute
					faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, "401"), 7*time.Hour)
				}
				dropPair(t, w)
				rest(t, w)
				st := wantStatus(t, w, "ads/talk", ledger.Failed, code)
				w.Pass(10 * time.Hour)
				tt.trouble(w)
				if err := w.Redrive("ads/talk", st.Take); err != nil {
					t.Fatal(err)
				}
				rest(t, w)
				wantArchived(t, w)
			})
		}
	}
}
