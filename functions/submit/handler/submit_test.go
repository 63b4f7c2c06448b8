package handler_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

// untilPoll is how long after a drop a test may run the world without a call of poll.
const untilPoll = 10500 * time.Millisecond

// dropOnce drops the pair ads/talk with a single event.
func dropOnce(w *world.World) {
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip)
	w.Drop("inbox/ads/talk.wav", voice)
}

// Each response to the POST leads to the right state and code. The claim is
// released if RunComfy certainly did not accept the job, and kept otherwise.
func TestSubmitResponses(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallSubmit) {
		t.Run(fault.Name, func(t *testing.T) {
			w := worldtest.New(t)
			worldtest.Faulty(w, runcomfytest.CallSubmit, fault, 0)
			dropOnce(w)
			w.Run(untilPoll)

			charged := map[bool]int{true: 1}[fault.Accept]
			worldtest.WantCharges(t, w, charged)
			state, code := world.AfterSubmit(fault)
			st := worldtest.WantStatus(t, w, "ads/talk", state, code)
			if state != ledger.Submitted && (st.Reason == "" || st.Remedy == "") {
				t.Errorf("reason %q, remedy %q; want both", st.Reason, st.Remedy)
			}
			takes := w.Takes("ads/talk")
			if kept := state == ledger.Submitted || state == ledger.Unknown; kept != (len(takes) == 1) {
				t.Errorf("%d records; want one (the claim): %t", len(takes), kept)
			}

			if state == ledger.Unknown && len(w.Notices) != 1 {
				t.Errorf("%d notices, want one at once", len(w.Notices))
			}

			worldtest.Rest(t, w) // the fault is over
			switch state {
			case ledger.Submitted, ledger.Held:
				worldtest.WantArchived(t, w)
			case ledger.Rejected:
				worldtest.WantStatus(t, w, "ads/talk", state, code)
				worldtest.DropVoice(w)
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
			case ledger.Unknown:
				wantUnknownForGood(t, w, charged)
			}
		})
	}
}

// RunComfy refuses a job, but its response has a request id. The job is held if /status does not know
// the id, or if the POST and /status both return an error about the token or the account. Otherwise the
// job may run, so there is no second POST, and a warning quotes the error of the POST.
func TestRefusalWithARequestID(t *testing.T) {
	tests := []struct {
		code   int
		status string // the fault of /status
		want   problem.Code
	}{
		{400002, "", problem.NoBalance}, // the fake does not know the id
		{400004, "token refused under HTTP 200", problem.TokenRefused},
		{403001, "foreign request", problem.AccountRefused},
		{400002, "foreign request", ""},              // a person has set the token of another account since the POST
		{400002, "token refused under HTTP 200", ""}, // or a wrong token
		{400004, "403", ""},                          // without an error code, so perhaps from a proxy
		{400002, "503", ""},
		{400002, "reset", ""},
		{500100, "", ""}, // such a code does not say that RunComfy refused the job
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.code, " ", tt.status), func(t *testing.T) {
			w := worldtest.New(t)
			posts := 0
			w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				var fault runcomfytest.Fault
				switch call, _ := runcomfytest.CallOf(r); {
				case call == runcomfytest.CallSubmit:
					posts++
					fault = runcomfytest.Fault{Status: http.StatusOK, Body: fmt.Appendf(nil, `{"request_id":"trace-1","error_code":%d,"error_message":"no"}`, tt.code)}
				case call == runcomfytest.CallStatus && tt.status != "":
					fault = runcomfytest.FaultNamed(call, tt.status)
				default:
					return nil
				}
				return &fault
			}
			worldtest.DropPair(w)
			w.Run(untilPoll)
			if tt.want != "" {
				worldtest.WantStatus(t, w, "ads/talk", ledger.Held, tt.want)
				w.RunComfy.Fault = nil
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
				return
			}
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
			if want := fmt.Sprintf("RunComfy returned a request id together with an error, so the job may run; RunComfy returned HTTP 200, code %d: no", tt.code); !slices.Contains(st.Warnings, want) {
				t.Errorf("warnings %q, want %q", st.Warnings, want)
			}
			w.Run(time.Hour)
			w.RunComfy.Fault = nil
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
			worldtest.WantCharges(t, w, 0)
			if posts != 1 {
				t.Errorf("%d POSTs, want 1", posts)
			}
		})
	}
}

// wantUnknownForGood expects that no event leads to another POST until a file is
// uploaded again.
func wantUnknownForGood(t *testing.T, w *world.World, charged int) {
	t.Helper()
	for range 10 {
		w.Notify("Object Created", "inbox/ads/talk.mp4", 0)
		worldtest.Rest(t, w)
	}
	worldtest.WantStatus(t, w, "ads/talk", ledger.Unknown, problem.OutcomeUnknown)
	worldtest.WantCharges(t, w, charged)
	if n := len(w.Executions()); n != 0 {
		t.Errorf("%d executions of a take without a request id, want 0", n)
	}
	worldtest.DropVoice(w)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	worldtest.WantCharges(t, w, charged+1)
}

// If a job is held for longer than the queue retries, its messages become dead letters, and
// its status says that the job is no longer retried. A redrive after the cause is fixed submits
// the job once.
func TestHeldUntilDeadLetter(t *testing.T) {
	seen := map[problem.Code]bool{}
	for _, fault := range runcomfytest.Faults(runcomfytest.CallSubmit) {
		state, code := world.AfterSubmit(fault)
		if state != ledger.Held || seen[code] {
			continue
		}
		seen[code] = true
		t.Run(fault.Name, func(t *testing.T) {
			w := worldtest.New(t)
			tries := worldtest.Faulty(w, runcomfytest.CallSubmit, fault, 30*time.Hour)
			worldtest.DropPair(w)
			w.Run(12 * time.Hour)
			before := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, code)
			if strings.Contains(before.Reason, "no longer retries") {
				t.Errorf("after half a day the reason is %q, want one without \"no longer retries\"", before.Reason)
			}
			if !w.Run(26 * time.Hour) {
				t.Error("after 38 hours the queue still has messages or an execution runs, want neither")
			}
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, code)
			if !strings.Contains(st.Reason, "no longer retries") || !strings.Contains(st.Remedy, "redrive the dead-letter queue") {
				t.Errorf("reason %q, remedy %q; want the end of the retries, and a redrive", st.Reason, st.Remedy)
			}
			if len(w.Dead) != 2 || *tries < 120 {
				t.Errorf("%d dead letters after %d tries, want 2 after at least 120", len(w.Dead), *tries)
			}
			worldtest.WantCharges(t, w, 0)
			w.RunComfy.Fault = nil
			w.RedriveDeadLetters()
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
		})
	}
}

// A hundred invocations that claim one take at the same moment submit it once.
func TestHundredSubmitsAtOnce(t *testing.T) {
	const invocations = 100
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip)
	w.Put("inbox/ads/talk.wav", voice)
	// No invocation writes its claim until every invocation has seen that there is no claim.
	var arrived sync.WaitGroup
	arrived.Add(invocations)
	var seen sync.Map
	w.Before = func(c world.Call) error {
		if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") {
			if _, again := seen.LoadOrStore(c.Invocation, true); !again {
				arrived.Done()
				arrived.Wait()
			}
		}
		return nil
	}
	var all sync.WaitGroup
	for i := range invocations {
		key := []string{"inbox/ads/talk.mp4", "inbox/ads/talk.wav"}[i%2]
		all.Go(func() {
			// Invocations that find a claim without a request id fail as busy. A queue
			// would deliver their messages again.
			_, _ = w.Submit(world.Message(key))
		})
	}
	all.Wait()
	worldtest.WantCharges(t, w, 1)
	w.Before = nil
	w.Notify("Object Created", "inbox/ads/talk.wav", 0)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if n := len(w.Executions()); n != 1 {
		t.Errorf("%d executions, want 1", n)
	}
}

// Two invocations submit a take only once. In round n, the second invocation runs before
// the nth request of the first.
func TestSubmitsSideBySide(t *testing.T) {
	calls := 0
	count := worldtest.New(t)
	count.Before = func(c world.Call) error { calls++; return nil }
	dropOnce(count)
	count.Run(untilPoll)
	for at := range calls {
		w := worldtest.New(t)
		made := 0
		w.Before = func(c world.Call) error {
			if made++; made == at+1 {
				w.Step(30 * time.Second)
			}
			return nil
		}
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
		if t.Failed() {
			t.Fatalf("failed in the round in which the second invocation ran before request %d", at+1)
		}
	}
}

// A claim without a request id is busy until its invocation has certainly ended. After that,
// the outcome of the take is unknown, and the take is not submitted again.
func TestClaimIsBusyWhileItsInvocationMayRun(t *testing.T) {
	w := worldtest.New(t)
	dieBeforePost(t, w)
	worldtest.DropPair(w)
	w.Run(3 * time.Minute)
	if rec := w.Takes("ads/talk"); len(rec) != 1 || rec[0].State != ledger.Submitting {
		t.Errorf("after three minutes: %+v, want one record in state submitting", rec)
	}
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Unknown, problem.SubmitInterrupted)
	if !strings.Contains(st.Remedy, "may be charged again") {
		t.Errorf("remedy %q, want a warning about a second charge", st.Remedy)
	}
	worldtest.WantCharges(t, w, 0)
}

// startNoExecution makes each StartExecution fail.
var startNoExecution = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Op == "StartExecution" })

// A paid take whose execution could not be started gets its execution, even if its audio is
// uploaded again before a retry succeeds. Until then, the status says that nothing waits for the job.
func TestExecutionOfAnOlderTakeIsStarted(t *testing.T) {
	w := worldtest.New(t)
	w.Before = startNoExecution
	worldtest.DropPair(w)
	for range 3 {
		w.Pass(20 * time.Minute)
		st := worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
		if len(st.Warnings) != 1 || !strings.HasPrefix(st.Warnings[0], "the job is submitted, but nothing waits for its end yet: start the execution of take ") {
			t.Errorf("at %v the status has the warnings %q, want one that says that nothing waits for the job", w.Now(), st.Warnings)
		}
	}
	w.Before = nil
	worldtest.DropVoice(w)
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 2)
	takes := w.Takes("ads/talk")
	if len(takes) != 2 || takes[0].State != ledger.Succeeded || takes[1].State != ledger.Succeeded {
		t.Errorf("takes: %+v, want two that have succeeded", takes)
	}
}

// A paid take whose execution could not be started gets its execution, even if a
// file is deleted before the retry.
func TestExecutionIsStartedAfterAFileIsDeleted(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 0 // the job runs at once, and cannot be cancelled
	w.Before = startNoExecution
	worldtest.DropPair(w)
	w.Run(time.Minute)
	w.Before = nil
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// dieBeforePost makes the next invocation that claims a take die before its POST.
func dieBeforePost(t *testing.T, w *world.World) {
	t.Helper()
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Op == "submit" }, func() { panic(world.Crash{}) })
}

// dropAndDieBeforePost drops a pair. The invocation dies after its claim, before the POST.
func dropAndDieBeforePost(t *testing.T, w *world.World) {
	t.Helper()
	dieBeforePost(t, w)
	dropOnce(w)
	w.Run(30 * time.Second)
}

// A redelivered message ends the take that an earlier invocation left in state submitting,
// even if the batch has another message about the same name.
func TestInterruptedTakeIsEndedInABatch(t *testing.T) {
	w := worldtest.New(t)
	dropAndDieBeforePost(t, w)
	_, voice := sample.Files()
	w.Put("inbox/ads/talk.wav", voice) // the files now form a newer take, so an assessment does not find the older one
	again := world.Message("inbox/ads/talk.wav")
	again.Attributes["ApproximateReceiveCount"] = "2"
	w.Pass(5 * time.Minute)
	submit(t, w, world.Message("inbox/ads/talk.mp4"), again)
	if takes := w.Takes("ads/talk"); len(takes) != 2 || takes[0].State != ledger.Unknown || takes[1].State != ledger.Submitted {
		t.Errorf("takes: %+v, want an older one that is unknown and a newer one that is submitted", takes)
	}
}

// The status says that the outcome of a take is unknown, even if a file of the take was
// deleted after the take's invocation had died.
func TestInterruptedTakeOfADeletedFile(t *testing.T) {
	w := worldtest.New(t)
	dropAndDieBeforePost(t, w)
	w.Bucket.Remove("inbox/ads/talk.wav") // without an event
	w.Pass(20 * time.Minute)              // the message is delivered again, before the hourly sweep
	worldtest.WantStatus(t, w, "ads/talk", ledger.Unknown, problem.SubmitInterrupted)
}

// If S3 refuses the record of a paid job for half a minute, or does not respond for 20 s, the
// write is retried. Submit has time for that even if it sends the POST late and RunComfy
// responds late.
func TestPaidJobIsRecordedWhenS3IsBusy(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		busy time.Duration
	}{
		{"S3 refuses", world.Throttled, 30 * time.Second},
		{"S3 does not respond", world.ErrSilent, 20 * time.Second},
	} {
		for late := time.Duration(0); late < 2*time.Minute; late += 3 * time.Second {
			t.Run(fmt.Sprintf("%s, %v", tt.name, late), func(t *testing.T) {
				w := worldtest.New(t)
				begun := false
				var until time.Time
				w.Before = func(c world.Call) error {
					switch {
					case c.Function == "submit" && c.Service == "s3" && !begun:
						begun = true
						w.Spend(late)
					case c.Service == "runcomfy" && c.Op == "submit":
						w.Spend(runcomfy.Timeout)
						until = w.Now().Add(tt.busy)
					case c.Service == "s3" && w.Now().Before(until):
						return tt.err
					}
					return nil
				}
				dropOnce(w)
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
			})
		}
	}
}

// The response to the write that records the request id is lost. Before the write is repeated,
// another invocation starts the execution, and poll records a later state. The log does not
// say that the id was not recorded.
func TestRecordThatHasMovedOn(t *testing.T) {
	var logs bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&logs, nil)))
	w := worldtest.New(t)
	lost := false
	w.After = func(c world.Call) error {
		if c.Function != "submit" || c.Op != "PutObject" || !strings.HasPrefix(c.Key, "jobs/") || lost || w.Takes("ads/talk")[0].RequestID == "" {
			return nil
		}
		lost = true
		for w.Takes("ads/talk")[0].State == ledger.Submitted && w.Step(30*time.Second) {
		}
		return world.ErrBroken
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if !lost || strings.Contains(logs.String(), "not recorded") || strings.Contains(logs.String(), "not finished") {
		t.Errorf("the response was lost: %v, want true; want no error in the log:\n%s", lost, logs.String())
	}
}

// If the response to a release is lost, the S3 client repeats the release. The
// repetition does not release a claim that another invocation has made meanwhile.
func TestRepeatedReleaseRemovesNoOtherClaim(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429"), 0)
	writes := 0
	w.After = func(c world.Call) error {
		if c.Op != "PutObject" || !strings.HasPrefix(c.Key, "jobs/") {
			return nil
		}
		if writes++; writes != 2 { // the first write is the claim, the second is the release
			return nil
		}
		w.Step(30 * time.Second) // the event of the other file submits the take
		return world.ErrBroken
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	if writes < 2 {
		t.Fatal("no claim was released, want one")
	}
	worldtest.WantArchived(t, w)
}

// If S3 refuses the release of a claim for a while, the write is retried, so that
// the job is held and does not look as if it may have been charged.
func TestReleaseIsTriedAgain(t *testing.T) {
	w := worldtest.New(t)
	tries := worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429"), 0)
	refused := 0
	postponed := false
	w.Before = func(c world.Call) error {
		if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") && *tries == 1 && refused < 9 {
			refused++
			return world.Throttled
		}
		postponed = postponed || c.Op == "ChangeMessageVisibility"
		return nil
	}
	dropOnce(w)
	for !postponed && w.Step(time.Minute) {
	}
	worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled)
	if refused != 9 {
		t.Errorf("%d writes were refused, want 9", refused)
	}
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// If LengthMismatch is reject, a job whose output would lack a part of the voice is not
// submitted. A shorter voice, or an option that keeps the whole voice, starts the job.
func TestLengthMismatch(t *testing.T) {
	clip, voice := sample.Files()
	at := bytes.Index(voice, []byte("data")) + len("data")           // where the length of the sound is
	long := append(slices.Clone(voice), make([]byte, len(voice))...) // the voice, then silence
	binary.LittleEndian.PutUint32(long[at:], uint32(len(long)-at-4))
	for _, tt := range []struct {
		name   string
		reject bool
		then   func(w *world.World)
	}{
		{"warn", false, nil},
		{"reject, then a preset", true, func(w *world.World) {
			w.Drop("inbox/ads/preset.json", []byte(`{"input": {"sync_mode": "loop"}}`))
			w.Drop("inbox/ads/talk.wav", long)
		}},
		{"reject, then a shorter voice", true, func(w *world.World) { w.Drop("inbox/ads/talk.wav", voice) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Settings.RejectMismatch = tt.reject
			w.Drop("inbox/ads/talk.mp4", clip)
			w.Drop("inbox/ads/talk.wav", long)
			worldtest.Rest(t, w)
			if tt.reject {
				st := worldtest.WantStatus(t, w, "ads/talk", ledger.Rejected, problem.LengthsDiffer)
				if !strings.Contains(st.Reason, "longer than talk.mp4") || !strings.Contains(st.Remedy, "Set sync_mode to loop, bounce or remap") {
					t.Errorf("reason %q, remedy %q; want the longer file and the options that keep its end", st.Reason, st.Remedy)
				}
				worldtest.WantCharges(t, w, 0)
				tt.then(w)
				worldtest.Rest(t, w)
			}
			worldtest.WantArchived(t, w)
			warned := strings.Contains(strings.Join(w.Status("ads/talk").Warnings, " "), "longer than talk.mp4")
			if warned == tt.reject {
				t.Errorf("warnings %q, want one about the length: %v", w.Status("ads/talk").Warnings, !tt.reject)
			}
		})
	}
}

// RunComfy refuses a bundle because of its video. The upload of another video starts the job, so
// the remedy must not say to upload job.json too: that would start the job a second time.
func TestRemedyOfARefusedBundle(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "422"), 0)
	clip, voice := sample.Files()
	w.Put(bundle+"talk.mp4", clip)
	w.Put(bundle+"voice.wav", voice)
	w.Drop(bundle+"job.json", react("talk.mp4", "voice.wav"))
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/cafe", ledger.Rejected, problem.RefusedByRunComfy)
	if !strings.Contains(st.Remedy, "upload only the files that you changed. If you changed no file, or if no job starts, upload its job.json again.") {
		t.Errorf("remedy %q, want one that does not start the job twice", st.Remedy)
	}
	w.Drop(bundle+"talk.mp4", clip)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Succeeded, "")
	worldtest.WantCharges(t, w, 1)
}

// Of all requests to RunComfy, only the POST has a body. The body has no member that the
// model does not know, such as a webhook.
func TestBodyOfASubmit(t *testing.T) {
	w := worldtest.New(t)
	var bodies []string
	w.RunComfy.Fault = func(r *http.Request, body []byte) *runcomfytest.Fault {
		if len(body) > 0 {
			bodies = append(bodies, string(body))
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	if len(bodies) != 1 || strings.Count(bodies[0], `":`) != 2 || !strings.Contains(bodies[0], `"audio_url":`) || !strings.Contains(bodies[0], `"video_url":`) {
		t.Errorf("bodies %q, want one with audio_url and video_url only", bodies)
	}
	worldtest.WantArchived(t, w)
}
