package world_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// A redriven execution counts anew, however soon it is redriven: it does not end
// again over the first response that it does not get.
func TestRedriveCountsAnew(t *testing.T) {
	tests := []struct {
		name    string
		run     time.Duration
		fault   string        // of /status, until the job has failed
		lasts   time.Duration // of the fault
		code    problem.Code
		another string // the fault of the first call after the redrive
	}{
		{"queued too long, then a 503", time.Minute, "401", 7 * time.Hour, problem.QueuedTooLong, "503"},
		{"lost, then lost once more", 10 * time.Minute, "unknown request", 2 * time.Minute, problem.RequestLost, "unknown request"},
		{"lost, then a 503", 10 * time.Minute, "unknown request", 2 * time.Minute, problem.RequestLost, "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.RunComfy.Run = tt.run
			dropPair(t, w)
			w.Run(11 * time.Second)
			faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, tt.fault), tt.lasts)
			rest(t, w)
			st := wantStatus(t, w, "ads/talk", ledger.Failed, tt.code)
			w.Pass(2 * time.Minute)
			count := faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, tt.another), 0)
			if err := w.Redrive("ads/talk", st.Take); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			if *count != 1 {
				t.Error("nothing went wrong after the redrive")
			}
			wantArchived(t, w)
		})
	}
}

// What RunComfy said of a job stays, when a redrive finds that RunComfy has
// forgotten the job.
func TestVerdictStaysAfterRunComfyForgets(t *testing.T) {
	for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult} {
		w := newWorld(t)
		w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
			return runcomfytest.Script{Run: time.Minute, Fail: "face not found"}
		}
		dropPair(t, w)
		rest(t, w)
		before := wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
		faulty(w, call, named(t, call, "unknown request"), 30*24*time.Hour)
		w.Pass(8 * 24 * time.Hour)
		if err := w.Redrive("ads/talk", before.Take); err != nil {
			t.Fatal(err)
		}
		rest(t, w)
		w.Pass(2 * time.Hour)
		if st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed); st.Reason != before.Reason {
			t.Errorf("the reason %q became %q", before.Reason, st.Reason)
		}
	}
}

// A response that is not an end, whatever its word, ends the warning that RunComfy
// does not respond.
func TestWarningEndsWithAnUnknownWord(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Run = time.Hour
	dropPair(t, w)
	w.Run(11 * time.Second)
	faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, "503"), 30*time.Second)
	w.Run(5 * time.Second)
	if st := w.Status("ads/talk"); len(st.Warnings) != 1 {
		t.Fatalf("during the outage: warnings %q", st.Warnings)
	}
	w.Run(25 * time.Second)
	faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, "unknown word"), 40*time.Minute)
	w.Run(30 * time.Minute)
	if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
		t.Errorf("after the outage: warnings %q", st.Warnings)
	}
	rest(t, w)
	wantArchived(t, w)
}

// RunComfy puts a job that ran back into its queue: record and status say so.
func TestJobGoesBackToTheQueue(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Queue, w.RunComfy.Run = 0, 3*time.Hour
	dropPair(t, w)
	w.Run(5 * time.Minute)
	wantStatus(t, w, "ads/talk", ledger.InProgress, "")
	back := runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m["status"], m["queue_position"] = "in_queue", 7 }}
	faulty(w, runcomfytest.CallStatus, back, time.Hour)
	w.Run(30 * time.Minute)
	st := wantStatus(t, w, "ads/talk", ledger.InQueue, "")
	if rec, _ := w.Record("ads/talk", st.Take); rec.State != ledger.InQueue {
		t.Errorf("the record is %s", rec.State)
	}
	w.Run(time.Hour)
	wantStatus(t, w, "ads/talk", ledger.InProgress, "")
	rest(t, w)
	wantArchived(t, w)
}

// Step Functions refuses to stop the execution of a job that was cancelled by a
// deletion: the code stays, and the execution does not count as failed.
func TestCancelledButNotStopped(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Queue = time.Hour
	dropPair(t, w)
	w.Run(time.Minute)
	w.Before = func(c world.Call) error {
		if c.Op == "StopExecution" {
			return world.ErrThrottledStates
		}
		return nil
	}
	w.Delete("inbox/ads/talk.wav")
	w.Run(10 * time.Second)
	wantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	rest(t, w)
	w.Pass(2 * time.Hour)
	st := wantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if x, _ := w.Execution("ads/talk", st.Take); x.Status != states.Succeeded && x.Status != states.Aborted {
		t.Errorf("the execution is %s", x.Status)
	}
}

// S3 fails for a moment while an output is inspected: that is not said of the
// output.
func TestVerdictOverTroubleOfS3(t *testing.T) {
	w := newWorld(t)
	failures := 0
	w.Before = func(c world.Call) error {
		if c.Function == "archive" && c.Op == "GetObject" && c.Key[:7] == "outbox/" && failures < 3 {
			failures++
			return world.Throttled
		}
		return nil
	}
	dropPair(t, w)
	rest(t, w)
	if failures != 3 {
		t.Fatalf("%d failures", failures)
	}
	wantArchived(t, w)
	if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
		t.Errorf("warnings %q", st.Warnings)
	}
}

// Archive dies when it has copied the output, and then the source is gone: what
// is in the bucket counts.
func TestSourceGoneAfterTheCopy(t *testing.T) {
	w := newWorld(t)
	copied := false
	w.After = func(c world.Call) error {
		if c.Function == "archive" && c.Op == "PutObject" && c.Key[:7] == "outbox/" && !copied {
			copied = true
			panic(world.Crash{})
		}
		return nil
	}
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput && copied {
			gone := named(t, runcomfytest.CallOutput, "404")
			return &gone
		}
		return nil
	}
	dropPair(t, w)
	rest(t, w)
	if !copied {
		t.Fatal("nothing was copied")
	}
	wantArchived(t, w)
}
