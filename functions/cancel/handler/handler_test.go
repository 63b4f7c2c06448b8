package handler_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/functions/cancel/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

// stopped drops ads/talk, and stops its execution after the given time. RunComfy queues the job
// for queueTime. If prepare is not nil, it is called right before the stop.
func stopped(t *testing.T, queueTime, after time.Duration, prepare func(*world.World)) *world.World {
	t.Helper()
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = queueTime, time.Hour
	worldtest.DropPair(w)
	w.Run(after)
	if prepare != nil {
		prepare(w)
	}
	w.Stop("ads/talk", w.Status("ads/talk").Take)
	return w
}

func TestStoppedExecution(t *testing.T) {
	w := stopped(t, time.Hour, time.Minute, nil)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByStop)
	worldtest.WantCancelled(t, w, 1)

	w = stopped(t, 0, time.Minute, nil)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
	if !strings.Contains(st.Reason, "paid for") || !strings.Contains(st.Remedy, "lipdrop redrive ads/talk") {
		t.Errorf("reason %q, remedy %q; want that the job is paid for, and a redrive", st.Reason, st.Remedy)
	}
	worldtest.Redrive(t, w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// failedUnseen returns a world in which the job of a pair has failed at RunComfy, and no
// function has noticed this.
func failedUnseen(t *testing.T) *world.World {
	t.Helper()
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Fail: "no face found"} // at once
	}
	worldtest.DropPair(w)
	for w.Status("ads/talk").State != ledger.Submitted {
		w.Run(time.Second)
	}
	return w
}

// A job fails at RunComfy. Before poll sees the failure, the execution is stopped or a file
// is deleted. The record says why the job failed, even after RunComfy has forgotten the job.
func TestFailedJobIsNotCancelled(t *testing.T) {
	for _, by := range []string{"stop", "deletion"} {
		t.Run(by, func(t *testing.T) {
			w := failedUnseen(t)
			take := w.Status("ads/talk").Take
			if by == "stop" {
				w.Stop("ads/talk", take)
			} else {
				w.Delete("inbox/ads/talk.wav")
			}
			w.Before = worldtest.FailIf(world.ErrBroken, func(c world.Call) bool { return c.Service == "runcomfy" && c.Function != "cancel" }) // so that cancel is the first that learns of the failure
			w.Run(2 * time.Minute)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
			if rec, _ := w.Record("ads/talk", take); rec.Times.Ended.IsZero() || rec.Times.Finished.IsZero() {
				t.Errorf("the times of the record are %+v, want the end of the job and of the take", rec.Times)
			}

			w.Before = nil
			unknown := runcomfytest.FaultNamed(runcomfytest.CallStatus, "unknown request")
			w.RunComfy.Fault = func(*http.Request, []byte) *runcomfytest.Fault { return &unknown }
			if by == "stop" {
				worldtest.Redrive(t, w)
			}
			worldtest.Rest(t, w)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
			if want := "RunComfy reports: no face found"; st.Reason != want {
				t.Errorf("reason %q, want %q", st.Reason, want)
			}
		})
	}
}

// A job has failed at RunComfy, and its execution is stopped. For more than 20 hours (giveUpAfter),
// cancel cannot write the record. In the end the record says that the job failed, not that the
// execution was stopped.
func TestFailedJobIsRecordedLate(t *testing.T) {
	w := failedUnseen(t)
	w.Stop("ads/talk", w.Status("ads/talk").Take)
	late, refusedLate := w.Now().Add(20*time.Hour), false
	w.Before = func(c world.Call) error {
		if c.Function != "cancel" || c.Op != "PutObject" || !strings.HasPrefix(c.Key, "jobs/") || refusedLate {
			return nil
		}
		refusedLate = w.Now().After(late)
		return s3test.Error(http.StatusForbidden, "AccessDenied")
	}
	w.Pass(24 * time.Hour)
	if !refusedLate {
		t.Fatal("no late write was refused, want one")
	}
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
}

// If a job has ended, /cancel may respond with an error each time. Cancel then asks /result, which
// says that the job has ended, and records the end of the stopped execution.
func TestCancelOfAnEndedJobIsAnError(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPair(w)
	w.Run(time.Minute)
	worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.Fault{Status: http.StatusConflict, Body: []byte(`{"detail":"it has ended"}`)}, 24*time.Hour)
	w.Stop("ads/talk", w.Status("ads/talk").Take)
	w.Pass(2 * time.Hour)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped); !strings.Contains(st.Reason, "paid for") {
		t.Errorf("reason %q, want that the job is paid for", st.Reason)
	}
}

// Whatever RunComfy's first response to a cancellation is, the record agrees with
// RunComfy's job in the end: both are cancelled, or the output is archived. If the execution
// was stopped, the output is archived after a redrive.
func TestCancelResponses(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallCancel) {
		for _, by := range []string{"stop", "deletion"} {
			t.Run(fault.Name+", by "+by, func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.Queue = time.Hour
				worldtest.DropPair(w)
				w.Run(time.Minute)
				count := worldtest.Faulty(w, runcomfytest.CallCancel, fault, 0)
				if by == "stop" {
					w.Stop("ads/talk", w.Status("ads/talk").Take)
				} else {
					w.Delete("inbox/ads/talk.wav")
				}
				w.Run(10 * time.Minute)
				worldtest.Rest(t, w)
				if *count != 1 {
					t.Fatalf("the fault happened %d times, want once", *count)
				}
				switch cancelled := len(w.RunComfy.Cancelled()); {
				case cancelled == 1 && by == "stop":
					worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByStop)
				case cancelled == 1:
					// If the response was lost, poll may be the first to see that
					// the job is cancelled.
					if st := w.Status("ads/talk"); st.State != ledger.Cancelled {
						t.Errorf("status %s %s (%s), want cancelled", st.State, st.Code, st.Reason)
					}
				case fault.Name != "not cancellable":
					t.Errorf("%d jobs cancelled at RunComfy, want 1", cancelled)
				case by == "stop":
					worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
					worldtest.Redrive(t, w)
					worldtest.Rest(t, w)
					worldtest.WantArchived(t, w)
				default:
					worldtest.WantArchived(t, w)
				}
				if n := len(w.RunComfy.Submitted()); n != 1 {
					t.Errorf("%d jobs submitted, want 1", n)
				}
			})
		}
	}
}

// An execution is stopped, and RunComfy no longer knows the job. After a few minutes cancel
// records the take as failed. The reason does not say whether the job is paid for.
func TestStopOfAnUnknownJob(t *testing.T) {
	unknown := runcomfytest.FaultNamed(runcomfytest.CallCancel, "unknown request")
	w := stopped(t, 3*time.Hour, time.Minute, func(w *world.World) { setFaults(w, &unknown, &unknown) })
	w.Pass(10 * time.Minute)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped); st.Reason != "the execution was stopped" {
		t.Errorf("reason %q, want \"the execution was stopped\"", st.Reason)
	}
}

// For an hour, /cancel returns HTTP 503, and /result says that RunComfy does not know the request.
// The response of /result does not prove that there is no job, so cancel tries until the job is
// cancelled.
func TestCancelWhileTheResultIsUnknown(t *testing.T) {
	broken, unknown := runcomfytest.FaultNamed(runcomfytest.CallCancel, "503"), runcomfytest.FaultNamed(runcomfytest.CallResult, "unknown request")
	w := stopped(t, 3*time.Hour, time.Minute, func(w *world.World) { setFaults(w, &broken, &unknown) })
	w.Pass(time.Hour)
	w.RunComfy.Fault = nil
	w.Pass(2 * time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByStop)
}

// setFaults sets what RunComfy responds to every /cancel and /result.
func setFaults(w *world.World, cancel, result *runcomfytest.Fault) {
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		call, _ := runcomfytest.CallOf(r)
		return map[runcomfytest.Call]*runcomfytest.Fault{runcomfytest.CallCancel: cancel, runcomfytest.CallResult: result}[call]
	}
}

// RunComfy accepts no cancellation and returns no result for 22 hours. The take is recorded as
// failed before its execution is too old for the sweep. A redrive archives the paid result.
func TestCancelImpossibleFor22Hours(t *testing.T) {
	for _, name := range []string{"token refused under HTTP 401", "502 huge page", "not sent", "silence"} {
		t.Run(name, func(t *testing.T) {
			w := stopped(t, 3*time.Hour, time.Minute, func(w *world.World) {
				fault := runcomfytest.FaultNamed(runcomfytest.CallCancel, name)
				setFaults(w, &fault, &fault)
			})
			w.Pass(19 * time.Hour)
			if st := w.Status("ads/talk"); st.State.Ended() {
				t.Errorf("after 19 h the take is %s (%s), want one that has not ended", st.State, st.Reason)
			}
			w.Pass(3 * time.Hour)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
			if !strings.Contains(st.Reason, "not known whether RunComfy cancelled the job") || !strings.HasPrefix(st.Remedy, "Check RunComfy's page.") {
				t.Errorf("reason %q, remedy %q; want that it is not known whether the job was cancelled, and a remedy that begins with \"Check RunComfy's page.\"", st.Reason, st.Remedy)
			}
			w.RunComfy.Fault = nil
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
		})
	}
}

// The events of failed and stopped executions are lost. The sweep records the end of each of
// these executions.
func TestSweepMakesUpForLostEvents(t *testing.T) {
	const jobs = 60 // several pages of a listing
	w := worldtest.New(t)
	w.LoseStatusEvents = true
	worldtest.DropMany(w, "ads/%d", jobs)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Queue: []time.Duration{0, 0, 2 * time.Hour, 7 * time.Hour}[w.RunComfy.Charges()%4], Run: time.Hour}
	}
	w.Run(5 * time.Minute)
	for i := range jobs {
		if name := fmt.Sprintf("ads/%d", i); i%4 == 1 || i%4 == 2 {
			w.Stop(name, w.Status(name).Take)
		}
	}
	w.Pass(8 * time.Hour)
	for i := range jobs {
		want := []problem.Code{"", problem.ExecutionStopped, problem.CancelledByStop, problem.QueuedTooLong}[i%4]
		if st := w.Status(fmt.Sprintf("ads/%d", i)); !st.State.Ended() || st.Code != want {
			t.Errorf("ads/%d is %s with the code %q, want the code %q", i, st.State, st.Code, want)
		}
	}
}

// The sweep cannot read the record of a stopped execution, and Step Functions refuses to
// list the failed executions. The sweep settles the other stopped execution.
func TestSweepContinuesAfterAnError(t *testing.T) {
	w := worldtest.New(t)
	w.LoseStatusEvents, w.RunComfy.Queue = true, 5*time.Hour
	names := []string{"ads/0", "ads/1"}
	worldtest.DropPairs(w, names...)
	w.Run(time.Minute)
	unreadable := ledger.RecordKey("ads/0", w.Status("ads/0").Take)
	w.Before = worldtest.FailIf(s3test.Error(http.StatusForbidden, "AccessDenied"), func(c world.Call) bool {
		return c.Function == "cancel" && c.Key == unreadable || c.Op == "ListExecutions" && c.Key == "FAILED"
	})
	for _, name := range names {
		w.Stop(name, w.Status(name).Take)
		w.Run(time.Second)
	}
	w.Pass(2 * time.Hour)
	worldtest.WantStatus(t, w, "ads/1", ledger.Cancelled, problem.CancelledByStop)
}

// The sweep settles the executions in the order in which they ended. Step Functions lists the
// newest execution first.
func TestSweepSettlesTheOldestEndFirst(t *testing.T) {
	w := worldtest.New(t)
	w.LoseStatusEvents, w.RunComfy.Queue = true, 5*time.Hour
	for _, name := range []string{"ads/0", "ads/1"} {
		worldtest.DropPairs(w, name)
		w.Run(time.Minute)
	}
	for _, name := range []string{"ads/0", "ads/1"} {
		w.Stop(name, w.Status(name).Take)
		w.Run(time.Minute)
	}
	var settled []string
	w.Before = func(c world.Call) error {
		if c.Function == "cancel" && c.Op == "PutObject" && strings.HasPrefix(c.Key, "status/") {
			settled = append(settled, c.Key)
		}
		return nil
	}
	w.Sweep()
	w.Run(time.Minute)
	if want := []string{"status/ads/0.json", "status/ads/1.json"}; !slices.Equal(settled, want) {
		t.Errorf("the sweep settled %q, want %q", settled, want)
	}
}

// S3 is so slow that the sweep can read only one of two records. It reads the newest one, and starts
// the execution that submit could not start.
func TestSweepReadsTheNewestRecordFirst(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Function == "submit" && c.Op == "StartExecution" })
	worldtest.DropPairs(w, "ads/z")
	w.Run(20 * time.Minute)
	w.Before = func(c world.Call) error {
		switch {
		case c.Function == "submit":
			return world.ErrLambda
		case c.Function == "cancel" && c.Op == "GetObject" && strings.HasPrefix(c.Key, "jobs/"):
			w.Spend(110 * time.Second)
		}
		return nil
	}
	w.Sweep()
	w.Run(time.Hour)
	worldtest.WantStatus(t, w, "ads/z", ledger.Succeeded, "")
}

// A stopped execution is redriven, and later succeeds. Late events of the stop change nothing, and
// cancel returns no error.
func TestLateStatusEvent(t *testing.T) {
	w := stopped(t, 0, time.Minute, nil)
	worldtest.Rest(t, w)
	st := w.Status("ads/talk")
	worldtest.Redrive(t, w)
	execution, _ := w.Execution("ads/talk", st.Take)
	for i := range 20 {
		w.NotifyStatus(execution.ARN, time.Duration(i)*10*time.Minute)
	}
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if len(w.Errors) > 0 {
		t.Errorf("the functions returned the errors %q, want none", w.Errors)
	}
}

// An execution is stopped and redriven before cancel receives the event of the stop. Because the
// execution runs again, neither the late event nor the sweep cancels the queued job.
func TestRedrivenBeforeItIsSettled(t *testing.T) {
	w := stopped(t, time.Hour, time.Minute, func(w *world.World) { w.LoseStatusEvents = true })
	take := w.Status("ads/talk").Take
	worldtest.Redrive(t, w)
	execution, _ := w.Execution("ads/talk", take)
	w.NotifyStatus(execution.ARN, 10*time.Minute)
	w.Pass(30 * time.Minute)
	w.Sweep()
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// If the execution is stopped after archive has recorded the success, the record stays
// succeeded.
func TestCancelNeverOverwritesSucceeded(t *testing.T) {
	w := worldtest.New(t)
	w.After = func(c world.Call) error {
		if takes := w.Takes("ads/talk"); c.Function == "archive" && len(takes) == 1 && takes[0].State == ledger.Succeeded {
			w.After = nil
			w.Stop("ads/talk", takes[0].Take)
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	w.Sweep()
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	st := w.Status("ads/talk")
	if execution, _ := w.Execution("ads/talk", st.Take); execution.Status != states.Aborted {
		t.Errorf("the execution is %s, want ABORTED", execution.Status)
	}

	// Now cancel reads the record before the take succeeds, and tries to write it afterwards.
	w = worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = 0, 2*time.Minute
	worldtest.DropPair(w)
	w.Run(2 * time.Minute) // the job ends ten seconds later
	w.Stop("ads/talk", w.Status("ads/talk").Take)
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Function == "cancel" && c.Op == "PutObject" }, func() {
		if err := w.Redrive("ads/talk", w.Status("ads/talk").Take); err != nil {
			t.Error(err)
		}
		for w.Takes("ads/talk")[0].State != ledger.Succeeded && w.Step(time.Minute) {
		}
		if w.Takes("ads/talk")[0].State != ledger.Succeeded {
			t.Errorf("while cancel ran, the take became %s, want %s", w.Takes("ads/talk")[0].State, ledger.Succeeded)
		}
	})
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// The deletion of an object of another bucket is ignored. A message that cancel does not
// understand is returned, so that it becomes a dead letter that an alarm reports.
func TestUnexpectedMessages(t *testing.T) {
	for body, returned := range map[string]bool{
		`{"detail-type": "Object Deleted", "detail": {"bucket": {"name": "other"}, "object": {"key": "inbox/ads/talk.wav"}}}`: false,
		`{"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "inbox/ads/talk.wav"}}}`:     true,
		`{`: true,
	} {
		h := &handler.Handler{Ledger: &ledger.Store{Bucket: &bucket.Bucket{Name: "b"}}, Now: time.Now} // without a client, so any request panics
		response, err := h.Handle(t.Context(), bucket.JSON(events.SQSEvent{Records: []events.SQSMessage{{MessageId: "1", Body: body}}}, ""))
		if err != nil || (len(response.BatchItemFailures) == 1) != returned {
			t.Errorf("%s: response %+v, error %v; want the message returned: %t, and no error", body, response, err, returned)
		}
	}
}

// A file is deleted while archive copies the output. RunComfy is not asked to cancel the
// job, because the job has ended.
func TestDeletionWhileTheOutputIsCopied(t *testing.T) {
	w := worldtest.New(t)
	deleted := false
	w.Before = func(c world.Call) error {
		switch {
		case c.Function == "cancel" && c.Service == "runcomfy":
			t.Errorf("cancel sent %v while the output is copied, want no request to RunComfy", c)
		case c.Service == "output" && !deleted:
			deleted = true
			w.Delete("inbox/ads/talk.wav")
			w.Run(5 * time.Second)
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if !deleted {
		t.Error("nothing was copied, want an output")
	}
}

func TestDeletion(t *testing.T) {
	tests := []struct {
		name   string
		queue  time.Duration // of the job at RunComfy
		after  time.Duration // from the drop to the deletion
		key    string
		reason string // in the event
		back   bool   // the file is dropped again before the events are handled
		late   bool   // until the job ends, the status says that it is too late to cancel the job
		state  ledger.State
		code   problem.Code
	}{
		{name: "of the audio, while the job is queued", queue: time.Hour, after: time.Minute, state: ledger.Cancelled, code: problem.CancelledByDeletion},
		{name: "of the video, while the job is queued", queue: time.Hour, after: time.Minute, key: "inbox/ads/talk.mp4", state: ledger.Cancelled, code: problem.CancelledByDeletion},
		{name: "while the job runs", after: time.Minute, late: true, state: ledger.Succeeded},
		{name: "after the job has ended", after: 2 * time.Hour, state: ledger.Succeeded},
		{name: "by a lifecycle rule", queue: time.Hour, after: time.Minute, reason: "Lifecycle Expiration", state: ledger.Succeeded},
		{name: "of a file that is dropped again at once", queue: time.Hour, after: time.Minute, back: true, state: ledger.Succeeded},
		{name: "before the job is submitted", after: 5 * time.Second, state: ledger.Waiting, code: problem.WaitingForAudio},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Queue, w.RunComfy.Run = tt.queue, time.Hour
			worldtest.DropPair(w)
			w.Run(tt.after)
			key := cmp.Or(tt.key, "inbox/ads/talk.wav")
			w.Bucket.Remove(key)
			w.Notify("Object Deleted", key, 0)
			w.NotifyCancel(key, cmp.Or(tt.reason, "DeleteObject"), 0)
			charges := 1
			if tt.back {
				_, voice := sample.Files()
				w.Drop(key, voice)
				charges = 2 // the new audio makes a new take
			}
			if tt.state == ledger.Waiting {
				charges = 0
			}
			w.Run(30 * time.Second)
			if st := w.Status("ads/talk"); tt.late && st.Code != problem.TooLateToCancel {
				t.Errorf("while the job runs the status says %s %s, want %s", st.State, st.Code, problem.TooLateToCancel)
			}
			worldtest.Rest(t, w)
			st := worldtest.WantStatus(t, w, "ads/talk", tt.state, tt.code)
			worldtest.WantCharges(t, w, charges)
			for _, rec := range w.Takes("ads/talk") {
				if rec.State != tt.state {
					t.Errorf("take %s is %s, want %s", rec.Take, rec.State, tt.state)
				}
			}
			if cancelled := len(w.RunComfy.Cancelled()); (cancelled == 1) != (tt.state == ledger.Cancelled) {
				t.Errorf("%d jobs cancelled at RunComfy, want 1 only if the take is cancelled", cancelled)
			}
			if execution, ok := w.Execution("ads/talk", st.Take); tt.state == ledger.Cancelled && (!ok || execution.Status != states.Aborted) {
				t.Errorf("the execution is %v, want ABORTED", execution.Status)
			}
		})
	}
}

// The deletion of talk.mp4 cancels the jobs of talk.de.wav and talk.fr.wav. The deletion of
// one of these audio files cancels only its own job.
func TestDeletionOfTaggedFiles(t *testing.T) {
	for deleted, want := range map[string][]string{
		"inbox/talk.mp4":    {"talk.de", "talk.fr"},
		"inbox/talk.de.wav": {"talk.de"},
	} {
		w := worldtest.New(t)
		w.RunComfy.Queue = time.Hour
		clip, voice := sample.Files()
		w.Drop("inbox/talk.de.wav", voice)
		w.Drop("inbox/talk.fr.wav", voice)
		w.Drop("inbox/talk.mp4", clip)
		w.Run(time.Minute)
		w.Delete(deleted)
		worldtest.Rest(t, w)
		worldtest.WantCharges(t, w, 2)
		for _, name := range []string{"talk.de", "talk.fr"} {
			state := ledger.Succeeded
			if slices.Contains(want, name) {
				state = ledger.Cancelled
			}
			if st := w.Status(name); st.State != state {
				t.Errorf("%s deleted: %s is %s, want %s", deleted, name, st.State, state)
			}
		}
	}
}

// As long as each request to cancel the job of a stopped execution fails, the status warns that the
// job is not cancelled yet. The hourly sweep does not remove the warning.
func TestStatusWarnsUntilTheJobIsCancelled(t *testing.T) {
	for _, after := range []time.Duration{10 * time.Second, time.Minute} { // before and after poll has seen the job
		w := stopped(t, 20*time.Hour, after, func(w *world.World) {
			worldtest.Faulty(w, worldtest.EveryCall, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), 4*time.Hour)
		})
		for range 3 {
			w.Pass(time.Hour)
			st := w.Status("ads/talk")
			if len(st.Warnings) != 1 || !strings.HasPrefix(st.Warnings[0], "the execution was stopped, but the job is not cancelled yet: ") {
				t.Errorf("stopped after %v: at %v the status is %s with the warnings %q, want one that says that the job is not cancelled yet", after, w.Now(), st.State, st.Warnings)
			}
		}
		w.Pass(4 * time.Hour)
		if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByStop); len(st.Warnings) > 0 {
			t.Errorf("stopped after %v: at the end the status has the warnings %q, want none", after, st.Warnings)
		}
	}
}

// A file is deleted, and for an hour each request to cancel its job fails. After each try, cancel
// writes a status with a warning, even if the take had failed and its execution was redriven. A
// failed take stays failed after its job is cancelled.
func TestStatusWarnsUntilTheJobOfADeletedFileIsCancelled(t *testing.T) {
	for _, redriven := range []bool{false, true} {
		want, code := ledger.Cancelled, problem.CancelledByDeletion
		w := worldtest.New(t)
		w.RunComfy.Queue = 20 * time.Hour
		worldtest.DropPair(w)
		w.Run(time.Minute)
		if redriven {
			want, code = ledger.Failed, problem.ExecutionStopped
			worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "not cancellable"), time.Minute)
			take := w.Status("ads/talk").Take
			w.Stop("ads/talk", take)
			w.Run(2 * time.Minute)
			worldtest.Redrive(t, w)
		}
		worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "503"), time.Hour)
		warned := 0
		w.After = func(c world.Call) error {
			if c.Function == "cancel" && c.Op == "PutObject" && strings.HasPrefix(strings.Join(w.Status("ads/talk").Warnings, ""), "inbox/ads/talk.wav was deleted, but the job is not cancelled yet: ") {
				warned++
			}
			return nil
		}
		w.Delete("inbox/ads/talk.wav")
		w.Pass(2 * time.Hour)
		if warned < 5 {
			t.Errorf("%d statuses say that the job is not cancelled yet, want 5 or more, one for each try", warned)
		}
		if st := worldtest.WantStatus(t, w, "ads/talk", want, code); len(st.Warnings) > 0 {
			t.Errorf("at the end the status has the warnings %q, want none", st.Warnings)
		}
	}
}

// A person deletes the record of a job that runs, and the event of the audio file comes once more.
// The job is not submitted again. The output is archived or, if the execution is stopped, the take
// fails. A warning says that the record was deleted.
func TestRecordIsDeletedWhileItsJobRuns(t *testing.T) {
	for _, stop := range []bool{false, true} {
		w := worldtest.New(t)
		w.RunComfy.Queue, w.RunComfy.Run = 0, time.Hour
		worldtest.DropPair(w)
		w.Run(5 * time.Minute)
		take := worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "").Take
		w.Bucket.Remove(ledger.RecordKey("ads/talk", take))
		w.Notify("Object Created", "inbox/ads/talk.wav", 0)
		state, code := ledger.Succeeded, problem.Code("")
		if stop {
			state, code = ledger.Failed, problem.ExecutionStopped
			w.Stop("ads/talk", take)
		}
		worldtest.Rest(t, w)
		worldtest.WantCharges(t, w, 1)
		st := worldtest.WantStatus(t, w, "ads/talk", state, code)
		if len(st.Warnings) == 0 || !strings.HasPrefix(st.Warnings[0], "the record of this job was deleted") || (len(st.Outputs) == 1) == stop {
			t.Errorf("stopped: %t; warnings %q, outputs %q; want a warning that the record was deleted, and an output unless stopped", stop, st.Warnings, st.Outputs)
		}
	}
}

// A person deletes the record and the status of a job that has failed. The sweep writes both
// again, with a warning.
func TestRecordIsDeletedAfterItsJobFailed(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return runcomfytest.Script{Fail: "no face"} }
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	take := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed).Take
	w.Bucket.Remove(ledger.RecordKey("ads/talk", take))
	w.Bucket.Remove(ledger.StatusKey("ads/talk"))
	w.Pass(2 * time.Hour)
	if _, ok := w.Record("ads/talk", take); !ok {
		t.Error("the record is missing, want one")
	}
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.JobFailed)
	want := []string{"the record of this job was deleted; its options, inputs and estimate are not known"}
	if !slices.Equal(st.Warnings, want) {
		t.Errorf("warnings %q, want %q", st.Warnings, want)
	}
}

// A take was held. Then RunComfy accepts its job, but submit cannot write the status, and poll
// does not run. The sweep changes the state in the status from held to submitted.
func TestSweepReplacesTheStatusOfAHeldTake(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 20 * time.Hour
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.Fault{
		Name: "429", Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"600"}},
	}, time.Minute)
	worldtest.DropPair(w)
	w.Run(5 * time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled)
	w.Before = func(c world.Call) error {
		switch {
		case c.Function == "submit" && c.Op == "PutObject" && strings.HasPrefix(c.Key, "status/"):
			return world.Throttled
		case c.Function == "poll" && c.Service == "lambda":
			return world.ErrLambda
		}
		return nil
	}
	w.Pass(2 * time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
}
