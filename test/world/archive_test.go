package world_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// A job that failed at RunComfy is recorded as failed with what it says, in
// whatever shape it says it, and a redrive changes nothing.
func TestFailedJob(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallResult) {
		if !strings.HasPrefix(fault.Name, "error as ") {
			continue
		}
		t.Run(fault.Name, func(t *testing.T) {
			w := newWorld(t)
			w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
				return runcomfytest.Script{Run: time.Minute, Fail: "no face"}
			}
			faulty(w, runcomfytest.CallResult, fault, 24*time.Hour)
			dropPair(t, w)
			rest(t, w)
			st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
			want := "face not found"
			if fault.Name == "error as null" {
				want = "without a reason"
			}
			if !strings.Contains(st.Reason, want) || st.Remedy == "" {
				t.Errorf("reason %q, remedy %q", st.Reason, st.Remedy)
			}
			wantCharges(t, w, 1)
			if err := w.Redrive("ads/talk", st.Take); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
		})
	}
}

// A job whose input RunComfy could not fetch fails, and the signature in its
// words is kept out.
func TestInputCannotBeFetched(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.FetchAt = runcomfytest.FetchAtStart
	w.RunComfy.Script = func(_ string, input map[string]any) runcomfytest.Script {
		input["video_url"] = strings.Replace(input["video_url"].(string), "etag=", "etag=x", 1)
		return runcomfytest.Script{Run: time.Minute}
	}
	dropPair(t, w)
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
	if !strings.Contains(st.Reason, "could not download video_url") || strings.Contains(st.Reason, "canary") {
		t.Errorf("reason %q", st.Reason)
	}
}

// A job that was cancelled on RunComfy's own page is recorded so, in whatever
// spelling it is told.
func TestJobCancelledElsewhere(t *testing.T) {
	for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult} {
		for _, spelling := range []string{"canceled", "upper case"} {
			w := newWorld(t)
			w.RunComfy.Queue = time.Hour
			faulty(w, call, named(t, call, spelling), 24*time.Hour)
			dropPair(t, w)
			w.Run(time.Minute)
			if err := w.CancelElsewhere(w.RunComfy.Submitted()[0].RequestID); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			wantStatus(t, w, "ads/talk", ledger.Cancelled, problem.JobCancelled)
		}
	}
}

// What ends an execution at Archive is mended, and the redrive archives the
// paid result and says so.
func TestRedriveArchives(t *testing.T) {
	noOutput := runcomfytest.Fault{Name: "no output", Accept: true, Edit: func(members map[string]any) { delete(members, "output") }}
	emptyOutput := runcomfytest.Fault{Name: "an empty file", Status: 200, Body: []byte{}}
	const long = 3 * 24 * time.Hour
	tests := []struct {
		name   string
		code   problem.Code
		broken func(w *world.World)
	}{
		{"no output", problem.NoOutput, func(w *world.World) { faulty(w, runcomfytest.CallResult, noOutput, long) }},
		{"an empty output", problem.NoOutput, func(w *world.World) { faulty(w, runcomfytest.CallOutput, emptyOutput, long) }},
		{"the result cannot be had", problem.ResultUnavailable, func(w *world.World) {
			faulty(w, runcomfytest.CallResult, named(t, runcomfytest.CallResult, "502 huge page"), long)
		}},
		{"the result is not ready for hours", problem.ResultUnavailable, func(w *world.World) {
			faulty(w, runcomfytest.CallResult, named(t, runcomfytest.CallResult, "not ready as 400005"), long)
		}},
		{"the token is refused for hours", problem.ResultUnavailable, func(w *world.World) {
			faulty(w, runcomfytest.CallResult, named(t, runcomfytest.CallResult, "token refused as 401"), long)
		}},
		{"the output cannot be fetched", problem.OutputUnavailable, func(w *world.World) {
			faulty(w, runcomfytest.CallOutput, named(t, runcomfytest.CallOutput, "404"), long)
		}},
		{"the output breaks off", problem.OutputUnavailable, func(w *world.World) {
			faulty(w, runcomfytest.CallOutput, named(t, runcomfytest.CallOutput, "cut off"), long)
		}},
		{"the request is lost", problem.RequestLost, func(w *world.World) {
			faulty(w, runcomfytest.CallResult, named(t, runcomfytest.CallResult, "unknown request"), long)
		}},
		{"S3 is away for hours", problem.StorageUnavailable, func(w *world.World) {
			end := w.Now().Add(24 * time.Hour)
			w.Before = func(c world.Call) error {
				if c.Function == "archive" && c.Service == "s3" && w.Now().Before(end) {
					return world.Throttled
				}
				return nil
			}
		}},
		{"archive dies each time", problem.ExecutionFailed, func(w *world.World) {
			end := w.Now().Add(24 * time.Hour)
			w.Before = func(c world.Call) error {
				if c.Service == "output" && w.Now().Before(end) {
					panic(world.Crash{})
				}
				return nil
			}
		}},
		{"the machine's time is over", problem.ExecutionTimedOut, func(w *world.World) {
			w.RunComfy.Queue, w.RunComfy.Run = 0, time.Minute
			faulty(w, runcomfytest.CallStatus, named(t, runcomfytest.CallStatus, "unknown word"), 6*24*time.Hour)
			w.QueueLimit = 10 * 24 * time.Hour
		}},
		{"another object is in the place", problem.OutputOccupied, func(w *world.World) {
			w.Before = func(c world.Call) error {
				if c.Service == "output" {
					w.Bucket.Set("outbox/ads/talk/"+w.Status("ads/talk").Take+"/talk.mp4", []byte("another"))
				}
				return nil
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.broken(w)
			dropPair(t, w)
			rest(t, w)
			w.Pass(25 * time.Hour)
			st := wantStatus(t, w, "ads/talk", ledger.Failed, tt.code)
			if !strings.Contains(st.Remedy, "redrive") && tt.code != problem.RequestLost {
				t.Errorf("remedy %q", st.Remedy)
			}
			// Mended.
			w.RunComfy.Fault, w.Before = nil, nil
			w.Bucket.Remove("outbox/ads/talk/" + st.Take + "/talk.mp4")
			w.Pass(24 * time.Hour)
			if err := w.Redrive("ads/talk", st.Take); err != nil {
				t.Fatal(err)
			}
			rest(t, w)
			wantArchived(t, w)
			st = w.Status("ads/talk")
			if st.Reason != "" || st.Remedy != "" {
				t.Errorf("the status of the archived job says %q, %q", st.Reason, st.Remedy)
			}
		})
	}
}

// A redriven execution that fails for another reason says that one.
func TestRedriveFailsAnew(t *testing.T) {
	w := newWorld(t)
	faulty(w, runcomfytest.CallOutput, named(t, runcomfytest.CallOutput, "404"), 24*time.Hour)
	dropPair(t, w)
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.OutputUnavailable)
	w.Pass(24 * time.Hour)
	faulty(w, runcomfytest.CallResult, named(t, runcomfytest.CallResult, "unknown request"), 24*time.Hour)
	if err := w.Redrive("ads/talk", st.Take); err != nil {
		t.Fatal(err)
	}
	rest(t, w)
	st = wantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
	w.Pass(24 * time.Hour)
	if err := w.Redrive("ads/talk", st.Take); err != nil {
		t.Fatal(err)
	}
	rest(t, w)
	wantArchived(t, w)
}

// A stopped execution that is redriven finds that the job has failed at
// RunComfy, and its status stops asking for redrives.
func TestRedriveFindsAFailedJob(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Hour, Fail: "no face"}
	}
	dropPair(t, w)
	w.Run(10 * time.Minute)
	take := w.Status("ads/talk").Take
	w.Stop("ads/talk", take)
	rest(t, w)
	wantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
	if err := w.Redrive("ads/talk", take); err != nil {
		t.Fatal(err)
	}
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
	if !strings.Contains(st.Reason, "no face") {
		t.Errorf("reason %q", st.Reason)
	}
}

// Several outputs are archived in their order, and result.json lists them.
func TestSeveralOutputs(t *testing.T) {
	w := newWorld(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Minute, Outputs: 3}
	}
	dropPair(t, w)
	rest(t, w)
	st := wantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	prefix := "outbox/ads/talk/" + st.Take + "/"
	if got, want := strings.Join(st.Outputs, " "), prefix+"talk.mp4 "+prefix+"talk-2.mp4 "+prefix+"talk-3.mp4"; got != want {
		t.Errorf("outputs %s, want %s", got, want)
	}
	var result struct{ Outputs []ledger.Output }
	body, _ := w.Bucket.Object(prefix + "result.json")
	if err := json.Unmarshal(body, &result); err != nil || len(result.Outputs) != 3 {
		t.Errorf("result.json: %v, %v", result.Outputs, err)
	}
}
