package handler_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

// A job that failed at RunComfy is recorded as failed. If RunComfy sends a reason, in any JSON
// form, the status has it. Archive writes the status itself, so a lost event of the execution
// does not delay the status. A redrive changes nothing.
func TestFailedJob(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallResult) {
		if !strings.HasPrefix(fault.Name, "error as ") {
			continue
		}
		t.Run(fault.Name, func(t *testing.T) {
			w := worldtest.New(t)
			w.LoseStatusEvents = true
			w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
				return runcomfytest.Script{Run: time.Minute, Fail: "the fault replaces this"}
			}
			worldtest.Faulty(w, runcomfytest.CallResult, fault, 24*time.Hour)
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
			want := "face not found"
			if fault.Name == "error as null" {
				want = "without a reason"
			}
			if !strings.Contains(st.Reason, want) || st.Remedy == "" {
				t.Errorf("reason %q, want %q in it; remedy %q, want one", st.Reason, want, st.Remedy)
			}
			worldtest.WantCharges(t, w, 1)
			before, _ := w.Record("ads/talk", st.Take)
			w.Pass(time.Hour)
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
			if after, _ := w.Record("ads/talk", st.Take); after.Revision != before.Revision {
				t.Errorf("the redrive changed the record from %+v to %+v, want no change", before, after)
			}
		})
	}
}

// A result has the state "completed", but also an error, and its output is not a URL. The
// reason of the failure says all of this.
func TestEndedWithoutOutputButWithAnError(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.Fault{Status: 200, Body: []byte(`{"status":"completed","error":{"message":"no face"},"output":{"video":7}}`)}, 24*time.Hour)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	const want = "RunComfy reports success without an output, and the error: no face; outputs not fetched because they are not URLs: 1 of 1"
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.NoOutput); st.Reason != want {
		t.Errorf("reason %q, want %q", st.Reason, want)
	}
}

// If RunComfy reports the cost of a failed job, the job's status has the cost.
func TestCostOfAFailedJob(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.Fault{Status: 200, Body: []byte(`{"status":"failed","error":"no face","cost":1.5}`)}, time.Hour)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed); st.CostUSD == nil || *st.CostUSD != 1.5 {
		t.Errorf("the status is %+v, want a cost of 1.5 USD", st)
	}
}

// If RunComfy cannot fetch an input, the job fails. The reason does not contain the
// signature (canary) of the URL that RunComfy's error quotes.
func TestInputCannotBeFetched(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.FetchAtStart = true
	w.RunComfy.Script = func(_ string, input map[string]any) runcomfytest.Script {
		input["video_url"] = strings.Replace(input["video_url"].(string), "etag=", "etag=x", 1) // a version that does not exist
		return runcomfytest.Script{Run: time.Minute}
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
	if !strings.Contains(st.Reason, "could not download video_url") || strings.Contains(st.Reason, "canary") {
		t.Errorf("reason %q, want RunComfy's error without the signature", st.Reason)
	}
}

// A job that was cancelled on RunComfy's own page is recorded as cancelled, whichever
// spelling of the state RunComfy returns.
func TestJobCancelledElsewhere(t *testing.T) {
	for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult} {
		for _, spelling := range []string{"canceled", "upper case"} {
			w := worldtest.New(t)
			w.RunComfy.Queue = time.Hour
			worldtest.Faulty(w, call, runcomfytest.FaultNamed(call, spelling), 24*time.Hour)
			worldtest.DropPair(w)
			w.Run(time.Minute)
			if err := w.CancelElsewhere(w.RunComfy.Submitted()[0].RequestID); err != nil {
				t.Fatal(err)
			}
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.JobCancelled)
		}
	}
}

// Archive records that a job was cancelled on RunComfy's page, and then dies or cannot write the
// status. The next run still ends the execution with JobCancelled.
func TestJobCancelledElsewhereIfTheStatusIsNotWritten(t *testing.T) {
	for name, fail := range map[string]func() error{
		"S3 refuses the status": func() error { return s3test.Error(http.StatusForbidden, "AccessDenied") },
		"archive dies":          func() error { panic(world.Crash{}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Queue = time.Hour
			worldtest.DropPair(w)
			w.Run(time.Minute)
			take := w.Status("ads/talk").Take
			if err := w.CancelElsewhere(w.Status("ads/talk").RequestID); err != nil {
				t.Fatal(err)
			}
			w.Before = func(c world.Call) error {
				if rec, _ := w.Record("ads/talk", take); c.Function == "archive" && rec.State == ledger.Cancelled {
					w.Before = nil
					return fail()
				}
				return nil
			}
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.JobCancelled)
			if e, _ := w.Execution("ads/talk", take); e.Status != states.Failed || e.Error != "JobCancelled" {
				t.Errorf("the execution is %s with the error %q, want FAILED with JobCancelled", e.Status, e.Error)
			}
			if w.Before != nil {
				t.Error("archive did not record that the job was cancelled, want it recorded before the failure")
			}
		})
	}
}

// If an execution failed after its job was paid for, a redrive archives the paid result once
// the cause is fixed, and the status no longer has a reason.
func TestRedriveArchives(t *testing.T) {
	faulty := func(call runcomfytest.Call, fault runcomfytest.Fault) func(*world.World) {
		return func(w *world.World) { worldtest.Faulty(w, call, fault, 3*24*time.Hour) }
	}
	named := func(call runcomfytest.Call, name string) func(*world.World) {
		return faulty(call, runcomfytest.FaultNamed(call, name))
	}
	tests := []struct {
		name   string
		code   problem.Code
		broken func(w *world.World)
	}{
		{"no output", problem.NoOutput, faulty(runcomfytest.CallResult, runcomfytest.Fault{Accept: true, Edit: func(members map[string]any) { delete(members, "output") }})},
		{"an empty output", problem.NoOutput, faulty(runcomfytest.CallOutput, runcomfytest.Fault{Status: 200, Body: []byte{}})},
		{"the result cannot be fetched", problem.ResultUnavailable, named(runcomfytest.CallResult, "502 huge page")},
		{"the result is not ready for hours", problem.ResultUnavailable, named(runcomfytest.CallResult, "not ready under HTTP 400")},
		{"the token is refused for hours", problem.ResultUnavailable, named(runcomfytest.CallResult, "token refused under HTTP 401")},
		{"the output cannot be fetched", problem.OutputUnavailable, named(runcomfytest.CallOutput, "404")},
		{"the output breaks off", problem.OutputUnavailable, named(runcomfytest.CallOutput, "cut off")},
		{"the request is lost", problem.RequestLost, named(runcomfytest.CallResult, "unknown request")},
		{"S3 is not available for hours", problem.StorageUnavailable, func(w *world.World) {
			end := w.Now().Add(24 * time.Hour)
			w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool { return c.Function == "archive" && c.Service == "s3" && w.Now().Before(end) })
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
		{"the state machine times out", problem.ExecutionTimedOut, func(w *world.World) {
			w.RunComfy.Queue, w.RunComfy.Run = 0, 6*24*time.Hour
			w.RunLimit = 10 * 24 * time.Hour
		}},
		{"another object has the output's key before archive reads the result", problem.OutputOccupied, func(w *world.World) {
			w.Before = func(c world.Call) error {
				if c.Op == string(runcomfytest.CallResult) {
					w.Bucket.Set("outbox/ads/talk/"+w.Status("ads/talk").Take+"/talk.mp4", []byte("another"))
				}
				return nil
			}
		}},
		{"another object has the output's key", problem.OutputOccupied, func(w *world.World) {
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
			w := worldtest.New(t)
			tt.broken(w)
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			w.Pass(25 * time.Hour)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, tt.code)
			if !strings.Contains(st.Remedy, "redrive") {
				t.Errorf("remedy %q, want a redrive", st.Remedy)
			}
			// The cause is fixed.
			w.RunComfy.Fault, w.Before = nil, nil
			w.Bucket.Remove("outbox/ads/talk/" + st.Take + "/talk.mp4")
			w.Pass(24 * time.Hour)
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if st = w.Status("ads/talk"); st.Reason != "" || st.Remedy != "" {
				t.Errorf("the status of the archived job has the reason %q and the remedy %q, want neither", st.Reason, st.Remedy)
			}
		})
	}
}

// While archive fails and is retried, the status has a warning that says why.
func TestStatusWarnsWhileArchiveFails(t *testing.T) {
	for call, name := range map[runcomfytest.Call]string{runcomfytest.CallResult: "not ready under HTTP 400", runcomfytest.CallOutput: "404"} {
		w := worldtest.New(t)
		w.RunComfy.Make = outputtest.Right.Make // a copy of the input, the default, causes warnings
		worldtest.Faulty(w, call, runcomfytest.FaultNamed(call, name), 3*time.Hour)
		worldtest.DropPair(w)
		for range 2 {
			w.Run(time.Hour)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Archiving, "")
			if len(st.Warnings) != 1 || !strings.HasPrefix(st.Warnings[0], "the outputs are not archived; the last try ended at ") {
				t.Errorf("%s: the status has the warnings %q, want one that says why the outputs are not archived", call, st.Warnings)
			}
		}
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
		if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
			t.Errorf("%s: after the end the status has the warnings %q, want none", call, st.Warnings)
		}
	}
}

// If a redriven execution fails for another reason, the status has the new reason.
func TestRedriveFailsAnew(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallOutput, runcomfytest.FaultNamed(runcomfytest.CallOutput, "404"), 24*time.Hour)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.OutputUnavailable)
	w.Pass(24 * time.Hour)
	worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.FaultNamed(runcomfytest.CallResult, "unknown request"), 24*time.Hour)
	worldtest.Redrive(t, w)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
	w.Pass(24 * time.Hour)
	worldtest.Redrive(t, w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// An execution was stopped and is redriven. If the job has failed at RunComfy, or was cancelled
// there, the status stays failed, says why and no longer asks for a redrive.
func TestRedriveFindsAJobWithoutAnOutput(t *testing.T) {
	for result, want := range map[string]struct {
		code   problem.Code
		reason string
	}{
		`{"status":"failed","error":"no face"}`: {problem.JobFailed, "RunComfy reports: no face"},
		`{"status":"cancelled"}`:                {problem.JobCancelled, "RunComfy reports that the job was cancelled; RunComfy cancelled the job before it started"},
	} {
		t.Run(result, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Run = time.Hour
			worldtest.DropPair(w)
			w.Run(10 * time.Minute)
			take := w.Status("ads/talk").Take
			w.Stop("ads/talk", take)
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
			worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.Fault{Status: 200, Body: []byte(result)}, 24*time.Hour)
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, want.code)
			if st.Reason != want.reason || !strings.Contains(st.Remedy, "upload") || strings.Contains(st.Remedy, "redrive") {
				t.Errorf("reason %q, want %q; remedy %q, want an upload and no redrive", st.Reason, want.reason, st.Remedy)
			}
		})
	}
}

// Several outputs are archived in their order, and result.json lists them.
func TestSeveralOutputs(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Minute, Outputs: 3}
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	prefix := "outbox/ads/talk/" + st.Take + "/"
	if got, want := strings.Join(st.Outputs, " "), prefix+"talk.mp4 "+prefix+"talk-2.mp4 "+prefix+"talk-3.mp4"; got != want {
		t.Errorf("outputs %s, want %s", got, want)
	}
	var result ledger.Result
	body, _ := w.Bucket.Object(ledger.ResultKey("ads/talk", st.Take))
	if err := json.Unmarshal(body, &result); err != nil || len(result.Outputs) != 3 {
		t.Errorf("result.json has the outputs %v, error %v; want 3 outputs", result.Outputs, err)
	}
}

// The status of a failed job keeps its reason if the execution is redriven after RunComfy
// has forgotten the job.
func TestReasonStaysAfterRunComfyForgets(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Minute, Fail: "face not found"}
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	before := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
	worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.FaultNamed(runcomfytest.CallResult, "unknown request"), 30*24*time.Hour)
	w.Pass(8 * 24 * time.Hour)
	worldtest.Redrive(t, w)
	worldtest.Rest(t, w)
	w.Pass(2 * time.Hour)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed); st.Reason != before.Reason {
		t.Errorf("the reason %q became %q, want no change", before.Reason, st.Reason)
	}
}
