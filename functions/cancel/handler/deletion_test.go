package handler_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// Both files of a queued job are deleted while every call of /cancel fails. The job is
// cancelled at most ten minutes after /cancel works again.
func TestDeletionIsTriedForHours(t *testing.T) {
	for _, fault := range []string{"503", "token refused under HTTP 401", "not sent", "silence"} {
		for _, lasts := range []time.Duration{5 * time.Minute, 2 * time.Hour} {
			t.Run(fmt.Sprintf("%s for %v", fault, lasts), func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.Queue = 3 * time.Hour
				worldtest.DropPair(w)
				w.Run(time.Minute)
				worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, fault), lasts)
				w.Delete("inbox/ads/talk.wav")
				w.Delete("inbox/ads/talk.mp4")
				w.Run(lasts + 10*time.Minute)
				worldtest.WantCancelled(t, w, 1)
				worldtest.Rest(t, w)
				worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
				if len(w.DeadDeletions) > 0 {
					t.Errorf("%d dead letters, want none", len(w.DeadDeletions))
				}
			})
		}
	}
}

// S3 refuses a HEAD or a GET of a deleted file, so cancel lists its key. If the list has the file
// because it was uploaded again, cancel does nothing. If the file is gone, S3 here refuses the list
// for ten minutes, and cancel tries again until it gets the list. It then cancels the job.
func TestDeletionIfS3RefusesTheFile(t *testing.T) {
	const key = "inbox/ads/talk.wav"
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("uploaded again %t", again), func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Queue = 3 * time.Hour
			worldtest.DropPair(w)
			w.Run(time.Minute)
			until, requests := w.Now().Add(10*time.Minute), 0
			w.Before = func(c world.Call) error {
				if c.Key != key {
					return nil
				}
				if c.Function == "cancel" {
					requests++
				}
				if c.Op == "HeadObject" || c.Op == "GetObject" || !again && w.Now().Before(until) {
					return s3test.Error(http.StatusForbidden, "AccessDenied")
				}
				return nil
			}
			w.Delete(key)
			if again {
				_, voice := sample.Files()
				w.Put(key, voice)
			}
			w.Run(time.Hour)
			cancelled := len(w.RunComfy.Cancelled())
			if again && (cancelled != 0 || requests != 1) {
				t.Errorf("%d jobs are cancelled after %d requests of cancel for the file, want 0 jobs after 1 request", cancelled, requests)
			}
			if !again && (cancelled != 1 || requests < 2) {
				t.Errorf("%d jobs are cancelled after %d requests of cancel for the file, want 1 job after at least 2 requests", cancelled, requests)
			}
			worldtest.WantCharges(t, w, 1)
		})
	}
}

// failOnce makes one request fail: the nth that cancel sends from now on. The result becomes true
// when it fails. From now on poll cannot reach RunComfy, so only cancel sees how the job ends.
func failOnce(w *world.World, nth int) *bool {
	requests, failed := 0, false
	w.Before = func(c world.Call) error {
		if c.Function == "poll" && c.Service == "runcomfy" {
			return world.ErrBroken
		}
		if c.Function != "cancel" || c.Service == "lambda" { // "lambda" is the invocation itself
			return nil
		}
		if requests++; requests != nth {
			return nil
		}
		failed = true
		return s3test.Error(http.StatusForbidden, "AccessDenied")
	}
	return &failed
}

// In each round, a different request of cancel fails while cancel handles the deletion of a video
// that two jobs use. Within minutes, queued jobs are cancelled and their executions stop. The
// statuses of running jobs say that it is too late to cancel.
func TestRequestFailsDuringADeletion(t *testing.T) {
	for _, tt := range []struct {
		queue time.Duration
		code  problem.Code
		state states.Status
	}{
		{time.Hour, problem.CancelledByDeletion, states.Aborted},
		{0, problem.TooLateToCancel, states.Running},
	} {
		for nth, failed := 1, true; failed; nth++ {
			w := worldtest.New(t)
			w.RunComfy.Queue, w.RunComfy.Run = tt.queue, time.Hour
			clip, voice := sample.Files()
			w.Drop("inbox/talk.de.wav", voice)
			w.Drop("inbox/talk.fr.wav", voice)
			w.Drop("inbox/talk.mp4", clip)
			w.Run(time.Minute)
			hit := failOnce(w, nth)
			w.Delete("inbox/talk.mp4")
			w.Run(15 * time.Minute)
			for _, name := range []string{"talk.de", "talk.fr"} {
				st := w.Status(name)
				if x, _ := w.Execution(name, st.Take); st.Code != tt.code || x.Status != tt.state {
					t.Errorf("request %d fails: %s is %s %s, and its execution is %s; want %s and %s", nth, name, st.State, st.Code, x.Status, tt.code, tt.state)
				}
			}
			if failed = *hit; !failed && nth < 10 {
				t.Errorf("cancel sent only %d requests, want 9 or more", nth-1)
			}
		}
	}
}

// In each round, a different request of cancel fails while cancel handles the deletion of a file
// of a redriven take. The take stays failed, is not charged, and loses its reservation. If pollSees
// is true, poll may see the cancelled job before cancel tries again.
func TestRequestFailsDuringADeletionAfterARedrive(t *testing.T) {
	for _, pollSees := range []bool{false, true} {
		for nth, failed := 1, true; failed; nth++ {
			w := worldtest.New(t)
			w.Caps = budget.Caps{Jobs: 5}
			w.RunComfy.Queue = 5 * time.Hour
			worldtest.DropPair(w)
			w.Run(time.Minute)
			take := w.Status("ads/talk").Take
			worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "not cancellable"), 30*time.Minute)
			w.Stop("ads/talk", take)
			w.Run(20 * time.Minute)
			w.RunComfy.Fault = nil
			worldtest.Redrive(t, w)
			w.Run(time.Minute)
			hit := failOnce(w, nth)
			before := w.Before
			w.Before = func(c world.Call) error {
				if pollSees && c.Function == "poll" {
					return nil
				}
				return before(c)
			}
			w.Delete("inbox/ads/talk.wav")
			w.Run(15 * time.Minute)
			rec, _ := w.Record("ads/talk", take)
			x, _ := w.Execution("ads/talk", take)
			ended := x.Status == states.Aborted || pollSees && x.Status == states.Failed
			round := fmt.Sprintf("pollSees %t, request %d", pollSees, nth)
			if n := len(w.RunComfy.Cancelled()); n != 1 {
				t.Errorf("%s: %d jobs are cancelled, want 1", round, n)
			}
			if !ended {
				t.Errorf("%s: the execution is %s, want ABORTED, or also FAILED if pollSees is true", round, x.Status)
			}
			if why := "RunComfy cancelled the job before it started"; rec.State != ledger.Failed || !rec.NotCharged || !strings.HasSuffix(rec.Reason, why) {
				t.Errorf("%s: the take is %s, want failed; NotCharged is %t, want true; the reason is %q, want one that ends with %q", round, rec.State, rec.NotCharged, rec.Reason, why)
			}
			w.Pass(time.Hour) // the sweep frees the reservation if cancel could not
			if n := len(takesOf(t, w, budget.Day(world.Begin))); n > 0 {
				t.Errorf("%s: %d takes have a reservation, want none", round, n)
			}
			if failed = *hit; !failed && nth < 5 {
				t.Errorf("cancel sent only %d requests, want 4 or more", nth-1)
			}
		}
	}
}

// In each round, a different request of cancel fails while cancel settles an execution that was
// stopped. Cancel still writes the status within 15 minutes, before the next sweep.
func TestRequestFailsDuringAStop(t *testing.T) {
	for nth, failed := 1, true; failed; nth++ {
		var hit *bool
		w := stopped(t, 2*time.Hour, time.Minute, func(w *world.World) { hit = failOnce(w, nth) })
		w.Run(15 * time.Minute)
		if st := w.Status("ads/talk"); st.Code != problem.CancelledByStop || len(w.RunComfy.Cancelled()) != 1 {
			t.Errorf("request %d fails: %s %s, and %d jobs are cancelled; want %s and 1", nth, st.State, st.Code, len(w.RunComfy.Cancelled()), problem.CancelledByStop)
		}
		if failed = *hit; !failed && nth < 5 {
			t.Errorf("cancel sent only %d requests, want 4 or more", nth-1)
		}
	}
}

// A file is deleted while submit sends the job to RunComfy. The job is cancelled after its
// record has the request id.
func TestDeletionDuringSubmit(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Service == "runcomfy" && c.Op == "submit" }, func() {
		w.Delete("inbox/ads/talk.wav")
		w.Run(5 * time.Second)
	})
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 1)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
}

// A file is deleted or replaced before submit claims the take. After the deletion, cancel finds no
// record, so it cancels nothing. Submit notices the change after the claim, and does not send the
// job of the earlier files.
func TestChangeBeforeTheClaim(t *testing.T) {
	const key = "inbox/ads/talk.wav"
	_, voice := sample.Files()
	for _, tt := range []struct {
		change  func(w *world.World)
		charges int
		state   ledger.State
		code    problem.Code
	}{
		{func(w *world.World) { w.Delete(key) }, 0, ledger.Waiting, problem.WaitingForAudio},
		{func(w *world.World) { w.Drop(key, append(slices.Clip(voice), 0, 0)) }, 1, ledger.Succeeded, ""},
	} {
		w := worldtest.New(t)
		worldtest.BeforeFirst(t, w, func(c world.Call) bool {
			return c.Function == "submit" && c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/")
		}, func() {
			tt.change(w)
			w.Run(5 * time.Second)
		})
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		worldtest.WantCharges(t, w, tt.charges)
		worldtest.WantStatus(t, w, "ads/talk", tt.state, tt.code)
	}
}

// A file of a redriven take is deleted while the take's job runs. RunComfy can no longer cancel
// the job, so the job's output is archived, and the take keeps its reservation.
func TestDeletionWhileARedrivenJobRuns(t *testing.T) {
	w := worldtest.New(t)
	w.Caps = budget.Caps{Jobs: 5}
	w.RunComfy.Queue, w.RunComfy.Run = 0, time.Hour
	worldtest.DropPair(w)
	w.Run(time.Minute)
	w.Stop("ads/talk", w.Status("ads/talk").Take)
	w.Run(time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
	worldtest.Redrive(t, w)
	w.Run(time.Minute)
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if n := len(takesOf(t, w, budget.Day(world.Begin))); n != 1 {
		t.Errorf("%d takes have a reservation, want 1", n)
	}
}

// A file of a failed take is deleted. The execution has ended, or Step Functions has forgotten
// it. Cancel sends RunComfy no request, and the message about the deletion does not become a
// dead letter.
func TestDeletionAfterAFailure(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		w := stopped(t, 0, time.Minute, nil)
		w.Run(time.Minute)
		worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
		w.Before = func(c world.Call) error {
			if c.Service == "runcomfy" {
				t.Errorf("request %v after the failure, want none to RunComfy", c)
			}
			if forgotten && c.Op == "DescribeExecution" {
				return &types.ExecutionDoesNotExist{}
			}
			return nil
		}
		w.Delete("inbox/ads/talk.wav")
		worldtest.Rest(t, w)
		worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
		if n := len(w.DeadDeletions); n > 0 {
			t.Errorf("execution forgotten: %t: %d dead letters, want none", forgotten, n)
		}
	}
}

// A file is deleted before Step Functions has started the execution of its job. The job is
// cancelled, and the message about the deletion does not become a dead letter.
func TestDeletionBeforeTheExecution(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Op == "StartExecution" })
	worldtest.DropPair(w)
	w.Run(30 * time.Second)
	worldtest.WantCharges(t, w, 1)
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if n := len(w.DeadDeletions); n > 0 {
		t.Errorf("%d dead letters, want none", n)
	}
}

// Two jobs use a deleted video, and /cancel fails for one of them. The other job is cancelled.
func TestDeletionOfAVideoOfTwoJobs(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	clip, voice := sample.Files()
	w.Drop("inbox/talk.de.wav", voice)
	w.Drop("inbox/talk.fr.wav", voice)
	w.Drop("inbox/talk.mp4", clip)
	w.Run(time.Minute)
	broken, requestID := runcomfytest.FaultNamed(runcomfytest.CallCancel, "503"), w.Status("talk.de").RequestID
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallCancel && strings.Contains(r.URL.Path, requestID) {
			return &broken
		}
		return nil
	}
	w.Delete("inbox/talk.mp4")
	w.Run(5 * time.Minute)
	worldtest.WantStatus(t, w, "talk.fr", ledger.Cancelled, problem.CancelledByDeletion)
}

// A bundle names a video that is not in the bundle, and the bundle's name is the video's name
// with a tag. The deletion of the video does not cancel the bundle's job.
func TestDeletionOfAVideoThatABundleNames(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	clip, voice := sample.Files()
	w.Drop("inbox/talk.mp4", clip)
	w.Drop("inbox/talk.de.job/voice.wav", voice)
	w.Drop("inbox/talk.de.job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "/inbox/talk.mp4", "audio_url": "voice.wav"}}`))
	w.Pass(5 * time.Minute)
	w.Delete("inbox/talk.mp4")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "talk.de", ledger.Succeeded, "")
}

// queueBatch drops pairs, and waits until their jobs are in RunComfy's queue. If one file of each
// pair is deleted later, cancel receives all these deletions in one batch.
func queueBatch(w *world.World, jobs int) {
	w.Batch, w.RunComfy.Queue = jobs, 3*time.Hour
	worldtest.DropMany(w, "ads/%d", jobs)
	w.Run(2 * time.Minute)
}

// RunComfy responds slowly while cancel handles a batch of deletions. Cancel returns the
// rest of the batch before Lambda ends the function.
func TestBatchOfDeletionsWhileRunComfyIsSlow(t *testing.T) {
	const jobs = 10
	w := worldtest.New(t)
	queueBatch(w, jobs)
	w.TimedOut = func(c world.Call) {
		if c.Function == "cancel" {
			t.Errorf("Lambda ended cancel before the request %v, want cancel to return in time", c)
		}
	}
	w.After = func(c world.Call) error {
		if c.Function == "cancel" && c.Service == "runcomfy" {
			w.Spend(runcomfy.Timeout - time.Second)
		}
		return nil
	}
	for i := range jobs {
		w.Delete(fmt.Sprintf("inbox/ads/%d.wav", i))
	}
	w.Run(time.Hour)
	worldtest.WantCancelled(t, w, jobs)
}

// A file is deleted while its job runs, and the job succeeds before cancel writes that it is
// too late to cancel. The status says only that the job has succeeded.
func TestJobSucceedsDuringADeletion(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = 0, 2*time.Minute
	worldtest.DropPair(w)
	w.Run(2 * time.Minute) // the job ends ten seconds later
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Function == "cancel" && c.Op == "PutObject" }, func() {
		for w.Takes("ads/talk")[0].State != ledger.Succeeded && w.Step(time.Minute) {
		}
	})
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if rec := w.Takes("ads/talk")[0]; rec.Code != "" {
		t.Errorf("the record is %s %s, want no code", rec.State, rec.Code)
	}
}

// RunComfy does not respond while cancel handles a batch of deletions. Each call of cancel sends
// RunComfy at most one request. All jobs are cancelled later.
func TestBatchOfDeletionsWhileRunComfyIsSilent(t *testing.T) {
	const jobs = 10
	w := worldtest.New(t)
	queueBatch(w, jobs)
	worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "silence"), 2*runcomfy.Timeout)
	end, requests := w.Now().Add(2*runcomfy.Timeout), map[int]int{} // the requests to RunComfy before end, by invocation of cancel
	w.Before = func(c world.Call) error {
		if c.Function == "cancel" && c.Service == "runcomfy" && w.Now().Before(end) {
			requests[c.Invocation]++
		}
		return nil
	}
	for i := range jobs {
		w.Delete(fmt.Sprintf("inbox/ads/%d.wav", i))
	}
	w.Run(20 * time.Minute)
	if most := slices.Max(slices.Collect(maps.Values(requests))); most > 1 {
		t.Errorf("a call of cancel sent %d requests that got no response, want at most 1", most)
	}
	worldtest.WantCancelled(t, w, jobs)
}

// A deletion cancels a job, and for five minutes Step Functions refuses to stop the job's
// execution. Cancel tries again until the execution is stopped.
func TestStopIsTriedAgain(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 3 * time.Hour
	worldtest.DropPair(w)
	w.Run(time.Minute)
	open := w.Now().Add(5 * time.Minute)
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool {
		return (c.Op == "StopExecution" || c.Function == "poll") && w.Now().Before(open)
	})
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if x, _ := w.Execution("ads/talk", st.Take); x.Status != states.Aborted {
		t.Errorf("the execution is %s, want ABORTED", x.Status)
	}
}

// DescribeExecution is eventually consistent: just after an execution has ended, it may still
// return the status RUNNING. Lambda retries the event, so cancel settles the execution before the
// next sweep.
func TestStaleDescriptionOfAnExecution(t *testing.T) {
	w := stopped(t, 3*time.Hour, time.Minute, func(w *world.World) {
		w.LoseStatusEvents = true
		w.NotifyStatus(w.Executions()[0].ARN, 0)
		w.Run(10 * time.Second) // cancel handles the event, but DescribeExecution returns RUNNING
		if len(w.Errors) != 1 {
			t.Errorf("errors %q, want one, about the status RUNNING", w.Errors)
		}
	})
	w.Run(4 * time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByStop)
	worldtest.WantCancelled(t, w, 1)
}

// Many executions are stopped, the events of their ends are lost, and RunComfy does not respond to
// /cancel. The sweep settles each execution within 25 hours.
func TestManyStoppedWhileRunComfyIsSilent(t *testing.T) {
	const jobs = 80
	w := worldtest.New(t)
	w.RunComfy.Queue = 5 * time.Hour
	worldtest.DropMany(w, "ads/%d", jobs)
	w.Run(10 * time.Minute)
	w.LoseStatusEvents = true
	worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "silence"), 30*time.Hour)
	for i := range jobs {
		name := fmt.Sprintf("ads/%d", i)
		w.Stop(name, w.Status(name).Take)
		w.Run(time.Second)
	}
	w.Pass(25 * time.Hour)
	for i := range jobs {
		worldtest.WantStatus(t, w, fmt.Sprintf("ads/%d", i), ledger.Failed, problem.ExecutionStopped)
	}
}

// The sweep does not call DescribeExecution for an execution whose end is in the take's record, but
// it still writes the take's status if that is missing.
func TestSweepDescribesNothingThatIsSettled(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 20 * time.Minute
	worldtest.DropMany(w, "ads/%d", 30)
	w.Run(5 * time.Minute)
	for i := range 30 {
		name := fmt.Sprintf("ads/%d", i)
		w.Stop(name, w.Status(name).Take)
	}
	w.Run(30 * time.Minute)
	worldtest.WantStatus(t, w, "ads/7", ledger.Failed, problem.ExecutionStopped)
	w.Bucket.Remove(ledger.StatusKey("ads/7"))
	described := 0
	w.Before = func(c world.Call) error {
		if c.Op == "DescribeExecution" {
			described++
		}
		return nil
	}
	w.Pass(3 * time.Hour)
	if described > 0 {
		t.Errorf("%d executions were described, want none", described)
	}
	worldtest.WantStatus(t, w, "ads/7", ledger.Failed, problem.ExecutionStopped)
}

// An execution can be redriven for 14 days. The sweep finds an old execution that
// failed again, although many younger executions come before it in the list.
func TestSweepSeesALateRedrive(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 20 * time.Minute
	worldtest.DropPair(w)
	w.Run(5 * time.Minute)
	take := w.Status("ads/talk").Take
	w.Stop("ads/talk", take)
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Minute, Fail: "no face found"}
	}
	worldtest.DropMany(w, "ads/%d", 40) // two pages of the list
	w.Pass(13 * 24 * time.Hour)
	w.LoseStatusEvents = true
	worldtest.Faulty(w, worldtest.EveryCall, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), 3*time.Hour)
	worldtest.Redrive(t, w)
	w.Pass(4 * time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RanTooLong)
}

// A deletion cancels a job, and Step Functions refuses to stop the job's execution. The status
// keeps its code, and the execution does not fail.
func TestCancelledButNotStopped(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	worldtest.DropPair(w)
	w.Run(time.Minute)
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Op == "StopExecution" })
	w.Delete("inbox/ads/talk.wav")
	w.Run(10 * time.Second)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	worldtest.Rest(t, w)
	w.Pass(2 * time.Hour)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if x, _ := w.Execution("ads/talk", st.Take); x.Status != states.Succeeded && x.Status != states.Aborted {
		t.Errorf("the execution is %s, want SUCCEEDED or ABORTED", x.Status)
	}
}

// A take has failed, its execution was redriven, and its job is still queued. The job is
// cancelled if a file is deleted or the execution is stopped. A further redrive then changes
// nothing.
func TestRedrivenJobIsCancelled(t *testing.T) {
	failures := []struct {
		name string
		code problem.Code
		fail func(w *world.World, take string)
	}{
		{"RunComfy did not know the request for a while", problem.RequestLost, func(w *world.World, _ string) {
			worldtest.Faulty(w, worldtest.EveryCall, runcomfytest.FaultNamed(runcomfytest.CallStatus, "unknown request"), 30*time.Minute)
			w.Run(20 * time.Minute)
		}},
		{"the execution was stopped, but RunComfy did not cancel the job", problem.ExecutionStopped, func(w *world.World, take string) {
			worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "not cancellable"), 30*time.Minute)
			w.Stop("ads/talk", take)
			w.Run(20 * time.Minute)
		}},
	}
	acts := []struct {
		name string
		act  func(w *world.World, take string)
		why  string
	}{
		{"a file is deleted", func(w *world.World, _ string) { w.Delete("inbox/ads/talk.wav") }, "inbox/ads/talk.wav was deleted, and RunComfy cancelled the job before it started"},
		{"the execution is stopped", func(w *world.World, take string) { w.Stop("ads/talk", take) }, "the execution was stopped; RunComfy cancelled the job before it started"},
	}
	for _, f := range failures {
		for _, a := range acts {
			t.Run(f.name+", then "+a.name, func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.Queue = 5 * time.Hour
				worldtest.DropPair(w)
				w.Run(time.Minute)
				take := w.Status("ads/talk").Take
				f.fail(w, take)
				worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, f.code)
				w.RunComfy.Fault = nil
				worldtest.Redrive(t, w)
				w.Run(10 * time.Minute)
				w.Before = func(c world.Call) error {
					if c.Op == "StopExecution" {
						w.Spend(time.Second) // the execution ends after the take, but settle must not replace the reason
					}
					return nil
				}
				a.act(w, take)
				worldtest.Rest(t, w)
				worldtest.WantCancelled(t, w, 1)
				remedy := problem.ExecutionStopped.RemedyFor(problem.Restart{NotCharged: true})
				if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionStopped); st.Reason != a.why || st.Remedy != remedy {
					t.Errorf("reason %q, want %q; remedy %q, want %q", st.Reason, a.why, st.Remedy, remedy)
				}
				if x, _ := w.Execution("ads/talk", take); x.Status != states.Aborted {
					t.Errorf("the execution is %s, want ABORTED", x.Status)
				}
				before, _ := w.Record("ads/talk", take)
				worldtest.Redrive(t, w)
				worldtest.Rest(t, w)
				if after, _ := w.Record("ads/talk", take); after.Revision != before.Revision {
					t.Errorf("the further redrive changed the record from %+v to %+v, want no change", before, after)
				}
			})
		}
	}
}

// An execution fails because its job is queued for too long, and RunComfy does not accept
// the cancellation. After a redrive, the execution fails for the same reason, and this time
// RunComfy accepts the cancellation.
func TestQueuedJobIsCancelledAfterARedrive(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 200 * time.Hour
	worldtest.Faulty(w, runcomfytest.CallCancel, runcomfytest.FaultNamed(runcomfytest.CallCancel, "not cancellable"), 40*time.Hour)
	worldtest.DropPair(w)
	w.Pass(40 * time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.QueuedTooLong)
	worldtest.WantCancelled(t, w, 0)
	worldtest.Redrive(t, w)
	w.Pass(2 * time.Hour)
	worldtest.WantCancelled(t, w, 1)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.QueuedTooLong); !strings.HasSuffix(st.Reason, "RunComfy cancelled the job before it started") {
		t.Errorf("reason %q, want one that ends with the cancellation", st.Reason)
	}
}

// Poll and archive find a cancelled job before cancel has recorded the cancellation. In
// the end, the status says that a deletion cancelled the job.
func TestCancelledJobIsFoundFirst(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = time.Hour
	worldtest.DropPair(w)
	w.Run(15 * time.Second)
	found := false
	w.After = func(c world.Call) error {
		if c.Function == "cancel" && c.Service == "runcomfy" && !found {
			found = true
			w.Run(time.Minute)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.JobCancelled)
		}
		return nil
	}
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if !found {
		t.Error("cancel sent RunComfy no request, want one")
	}
}

// A held take is claimed again while the sweep runs, after the sweep has listed the
// take's old record. The sweep leaves the take to the invocation that claimed it.
func TestSweepLeavesALiveClaim(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.Fault{
		Name: "429", Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"18000"}},
	}, time.Minute)
	worldtest.DropPair(w)
	w.Run(40 * time.Minute)
	take := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled).Take
	claimed := false
	w.Before = func(c world.Call) error {
		switch {
		case c.Service == "runcomfy" && c.Op == "submit":
			panic(world.Crash{}) // so that the record stays in the state submitting
		case c.Function == "cancel" && c.Op == "GetObject" && c.Key == ledger.RecordKey("ads/talk", take) && !claimed:
			claimed = true
			if _, err := w.Submit(world.Message("inbox/ads/talk.wav")); err == nil {
				t.Error("submit returned no error, want the crash at the POST")
			}
		}
		return nil
	}
	w.Sweep()
	w.Run(10 * time.Second)
	if rec, _ := w.Record("ads/talk", take); !claimed || rec.State != ledger.Submitting {
		t.Errorf("claimed again: %v, want true; the record is %s %s, want submitting", claimed, rec.State, rec.Code)
	}
}
