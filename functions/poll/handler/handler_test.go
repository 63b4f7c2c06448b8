package handler_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/functions/poll/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/workflow"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

// Whatever /status or /result returns, once or for an hour, the job is archived in
// the end. If RunComfy says for an hour that it does not know the request, the job
// fails as lost, and a later redrive archives the output.
func TestStatusAndResultResponses(t *testing.T) {
	for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult} {
		for _, fault := range runcomfytest.Faults(call) {
			for _, lasts := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprintf("%s, %s, for %v", call, fault.Name, lasts), func(t *testing.T) {
					w := worldtest.New(t)
					worldtest.DropPair(w)
					w.Run(11 * time.Second)
					count := worldtest.Faulty(w, call, fault, lasts)
					worldtest.Rest(t, w)
					if *count == 0 {
						t.Fatal("RunComfy served no fault, want one or more")
					}
					if fault.Name == "unknown request" && lasts > 0 {
						worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
						w.Pass(lasts)
						worldtest.Redrive(t, w)
						worldtest.Rest(t, w)
					}
					worldtest.WantArchived(t, w)
					if limit := world.Begin.Add(lasts + 40*time.Minute); fault.Name != "unknown request" && w.Now().After(limit) {
						t.Errorf("archived at %v, want before %v", w.Now(), limit)
					}
				})
			}
		}
	}
}

// The status reports an outage of an hour, and the job is archived after the outage.
func TestOutage(t *testing.T) {
	for _, name := range []string{"not sent", "reset", "silence", "429", "503", "502 page", "500", "401", "403", "foreign request"} {
		t.Run(name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Make = outputtest.Right.Make
			worldtest.DropPair(w)
			w.Run(11 * time.Second)
			worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, name), time.Hour)
			w.Run(50 * time.Minute)
			st := w.Status("ads/talk")
			if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "has not reported the state of the job since") {
				t.Errorf("in the outage the status has the warnings %q, want one about the outage", st.Warnings)
			}
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
				t.Errorf("after the outage the status has the warnings %q, want none", st.Warnings)
			}
		})
	}
}

// The token changes at RunComfy, and half an hour later in the secret. Then the job is
// archived.
func TestRotatedToken(t *testing.T) {
	for _, queue := range []time.Duration{20 * time.Second, time.Hour} {
		w := worldtest.New(t)
		w.RunComfy.Queue = queue
		worldtest.DropPair(w)
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
			t.Errorf("while the token is refused: %s, warnings %q; want a state before the end, and one warning", st.State, st.Warnings)
		}
		w.Secret = `{"token": "new-canary"}`
		if reads < 3 || reads > 30 {
			t.Errorf("the secret was read %d times in half an hour, want 3 to 30", reads)
		}
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
	}
}

// A request is lost if RunComfy responds three times in a row, over at least a minute, that it
// does not know the request. Any other response in between resets the count.
func TestRequestLost(t *testing.T) {
	lost := runcomfytest.FaultNamed(runcomfytest.CallStatus, "unknown request")
	tests := []struct {
		name    string
		call    runcomfytest.Call
		unknown func(n int, since time.Duration) bool // whether the n-th response says that RunComfy does not know the request
		lost    bool
	}{
		{"twice", runcomfytest.CallStatus, func(n int, _ time.Duration) bool { return n <= 2 }, false},
		{"for less than a minute", runcomfytest.CallStatus, func(_ int, since time.Duration) bool { return since < 50*time.Second }, false},
		{"every other time", runcomfytest.CallStatus, func(n int, _ time.Duration) bool { return n%2 == 0 && n < 60 }, false},
		{"each time", runcomfytest.CallStatus, func(int, time.Duration) bool { return true }, true},
		{"/result, twice", runcomfytest.CallResult, func(n int, _ time.Duration) bool { return n <= 2 }, false},
		{"/result, each time", runcomfytest.CallResult, func(int, time.Duration) bool { return true }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Run = 10 * time.Minute
			worldtest.DropPair(w)
			w.Run(11 * time.Second)
			n, first := 0, time.Time{}
			w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				if call, _ := runcomfytest.CallOf(r); call != tt.call {
					return nil
				}
				if n++; n == 1 {
					first = w.Now()
				}
				if tt.unknown(n, w.Now().Sub(first)) {
					return &lost
				}
				return nil
			}
			worldtest.Rest(t, w)
			if !tt.lost {
				worldtest.WantArchived(t, w)
				return
			}
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RequestLost)
			if n < 3 || w.Now().Sub(first) < time.Minute {
				t.Errorf("lost after %d responses over %v, want at least 3 over a minute", n, w.Now().Sub(first))
			}
			w.RunComfy.Fault = nil
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
		})
	}
}

// A job that queues longer than QueueHours is cancelled at RunComfy, and its
// status says so.
func TestQueuedTooLong(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 7 * time.Hour
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.QueuedTooLong)
	if !strings.Contains(st.Reason, "queued at RunComfy for 6 h") || !strings.Contains(st.Reason, "RunComfy cancelled the job before it started") || strings.Contains(st.Remedy, "redrive") {
		t.Errorf("reason %q, want the 6 h and the cancelled job; remedy %q, want no redrive", st.Reason, st.Remedy)
	}
	worldtest.WantCancelled(t, w, 1)
}

// A job that runs longer than MaxHours fails. A redrive archives the paid result
// as the remedy says: after the job has ended at RunComfy, or with a larger MaxHours.
func TestRanTooLong(t *testing.T) {
	tests := []struct {
		name       string
		after      time.Duration // from the failure to the redrive
		limit      time.Duration // MaxHours at the redrive
		failsAgain bool
	}{
		{"redriven while the job runs", time.Hour, 24 * time.Hour, true},
		{"redriven after the end of the job", 6 * time.Hour, 24 * time.Hour, false},
		{"redriven while the job runs, with a larger MaxHours", time.Hour, 48 * time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Run = 30 * time.Hour
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RanTooLong)
			if !strings.Contains(st.Reason, "running at RunComfy for 24 h") || !strings.Contains(st.Remedy, "lipdrop redrive ads/talk") || !strings.Contains(st.Remedy, "has ended, or raise") {
				t.Errorf("reason %q, want the 24 h; remedy %q, want a redrive after the end or with a larger limit", st.Reason, st.Remedy)
			}
			w.Pass(tt.after)
			w.RunLimit = tt.limit
			w.Restart()
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			if tt.failsAgain {
				worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RanTooLong)
				w.Pass(6 * time.Hour)
				worldtest.Redrive(t, w)
				worldtest.Rest(t, w)
			}
			worldtest.WantArchived(t, w)
		})
	}
}

// Poll checks the deadline after it has read the response, so a job that has ended
// is archived even if poll finds the end late.
func TestEndedAfterTheDeadline(t *testing.T) {
	tests := []struct {
		name                      string
		queue, run                time.Duration
		outageBegins, outageLasts time.Duration // in the outage, every call to Lambda fails
	}{
		{"queued before the outage, which ends after QueueHours", 5 * time.Hour, 30 * time.Minute, 150 * time.Minute, 8 * time.Hour},
		{"running before the outage, which ends after MaxHours", time.Minute, 23*time.Hour + 55*time.Minute, 12 * time.Hour, 14 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Queue, w.RunComfy.Run = tt.queue, tt.run
			worldtest.DropPair(w)
			w.Run(tt.outageBegins)
			outageEnds := w.Now().Add(tt.outageLasts)
			w.Before = worldtest.FailIf(world.ErrLambda, func(c world.Call) bool { return c.Service == "lambda" && w.Now().Before(outageEnds) })
			w.Pass(24 * time.Hour)
			// The outage lasted longer than the retries of poll.
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.ExecutionFailed)
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
		})
	}
}

// The history of an execution holds at most 25,000 events, including those of its redrives. The
// longest job that the parameters allow fits into the history, both with the slowest model
// and if the usual duration of the model is not known. The last of the 1,000 redrives that
// Step Functions allows still archives the output.
func TestLongestJobFitsIntoTheHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("so many turns take a minute with the race detector")
	}
	const (
		maxEvents   = 25_000
		maxRedrives = 1_000
		queueHours  = 24 // the largest values that template.yaml allows
		maxHours    = 48
	)
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	slowest := slices.MaxFunc(models.IDs(), func(a, b string) int {
		return cmp.Compare(usualForAnHour(models, a), usualForAnHour(models, b))
	})
	status503 := runcomfytest.FaultNamed(runcomfytest.CallStatus, "503")
	tests := []struct {
		name    string
		prepare func(w *world.World)
	}{
		{"everything responds", func(*world.World) {}},
		{"every other response is a 503", func(w *world.World) {
			n := 0
			w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				if call, _ := runcomfytest.CallOf(r); call != runcomfytest.CallStatus {
					return nil
				}
				if n++; n%2 == 0 {
					return &status503
				}
				return nil
			}
		}},
		{"two of three calls of Lambda fail", func(w *world.World) {
			n := 0
			w.Before = func(c world.Call) error {
				if c.Function == "poll" && c.Service == "lambda" {
					if n++; n%3 != 0 {
						return world.ErrLambda
					}
				}
				return nil
			}
		}},
	}
	for _, tt := range tests {
		for _, usual := range []time.Duration{usualForAnHour(models, slowest), 0} {
			t.Run(fmt.Sprintf("%s, the model usually takes %s", tt.name, usual), func(t *testing.T) {
				why := fmt.Sprintf("a job of QueueHours %d + MaxHours %d, whose model usually takes %s (the slowest model, %s, takes %s for an hour of video), "+
					"does not fit into the %d events of a history. Each turn of the loop makes 9 events. Lengthen the waits in internal/workflow/pace.go "+
					"(maxWait, lateShare), or lower the largest hours in template.yaml", queueHours, maxHours, usual, slowest, usualForAnHour(models, slowest), maxEvents)
				w, err := world.NewWith(withUsual(t, usual), rand.New(rand.NewPCG(1, 2)).Float64)
				if err != nil {
					t.Fatal(err)
				}
				w.QueueLimit, w.RunLimit = queueHours*time.Hour, maxHours*time.Hour
				w.RunComfy.Queue, w.RunComfy.Run = 23*time.Hour+30*time.Minute, 80*time.Hour
				tt.prepare(w)
				worldtest.DropPair(w)
				w.Run(96 * time.Hour)
				st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.RanTooLong)
				events := func() int {
					x, _ := w.Execution("ads/talk", st.Take)
					return len(x.Events)
				}
				first := events()
				for n := range maxRedrives - 1 {
					if err := w.Redrive("ads/talk", st.Take); err != nil {
						t.Fatalf("redrive %d: %v: %s", n+1, err, why)
					}
					w.Pass(10 * time.Second)
				}
				t.Logf("%d events, and %d with %d redrives", first, events(), maxRedrives-1)
				w.Pass(80 * time.Hour)
				if err := w.Redrive("ads/talk", st.Take); err != nil {
					t.Fatalf("the last redrive: %v: %s", err, why)
				}
				w.Run(24 * time.Hour)
				worldtest.WantArchived(t, w)
				if n := events(); n >= maxEvents {
					t.Errorf("the history has %d events, want under %d: %s", n, maxEvents, why)
				}
			})
		}
	}
}

// usualForAnHour returns how long a model usually takes for an hour of video.
func usualForAnHour(models *catalog.Catalog, id string) time.Duration {
	model, _ := models.Model(id)
	return model.Usual.Of(time.Hour)
}

// withUsual returns the catalog, changed so that the jobs of each model usually take the
// given time.
func withUsual(t *testing.T, usual time.Duration) *catalog.Catalog {
	t.Helper()
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		model.Usual = catalog.Usual{Base: usual}
	}
	return models
}

// If poll cannot write the record and the status, or only the status, a later turn writes
// them.
func TestStateIsWrittenLater(t *testing.T) {
	for _, prefix := range []string{"", "status/"} {
		w := worldtest.New(t)
		w.RunComfy.Run = time.Hour
		w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool {
			return c.Function == "poll" && c.Service == "s3" && strings.HasPrefix(c.Key, prefix) && w.Now().Before(world.Begin.Add(5*time.Minute))
		})
		worldtest.DropPair(w)
		w.Run(4 * time.Minute)
		worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
		w.Run(3 * time.Minute)
		worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "")
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
	}
}

// Before archive copies the output, the status already says that the job has ended. The
// record keeps the time at which poll found the end.
func TestEndedJobIsArchiving(t *testing.T) {
	w := worldtest.New(t)
	w.Before = worldtest.FailIf(world.ErrLambda, func(c world.Call) bool {
		return c.Function == "archive" && c.Service == "lambda" && w.Now().Before(world.Begin.Add(4*time.Minute))
	})
	worldtest.DropPair(w)
	w.Run(3 * time.Minute)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Archiving, "")
	before, _ := w.Record("ads/talk", st.Take)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if after, _ := w.Record("ads/talk", st.Take); before.Times.Archiving.IsZero() || after.Times.Archiving != before.Times.Archiving {
		t.Errorf("archiving since %v, later since %v, want the same time, and not zero", before.Times.Archiving, after.Times.Archiving)
	}
}

// RunComfy returns errors while S3 accepts no writes. When S3 works again, the status warns
// about RunComfy.
func TestWarningIsWrittenLater(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 10 * time.Hour
	worldtest.DropPair(w)
	w.Run(time.Hour)
	worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), 5*time.Hour)
	brokenUntil := w.Now().Add(30 * time.Minute)
	w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool {
		return c.Function == "poll" && c.Op == "PutObject" && w.Now().Before(brokenUntil)
	})
	w.Run(time.Hour)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "")
	if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "has not reported the state of the job since") {
		t.Errorf("warnings %q, want one about RunComfy", st.Warnings)
	}
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// S3 writes the warning about RunComfy, but poll gets no response from S3. When
// RunComfy reports the same state as before, poll removes the warning.
func TestWarningIsRemoved(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 10 * time.Hour
	worldtest.DropPair(w)
	w.Run(time.Hour)
	worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), 20*time.Minute)
	brokenUntil := w.Now().Add(20 * time.Minute)
	w.After = worldtest.FailIf(world.ErrBroken, func(c world.Call) bool {
		return c.Function == "poll" && c.Service == "s3" && w.Now().Before(brokenUntil) && len(w.Status("ads/talk").Warnings) > 0
	})
	w.Run(19 * time.Minute)
	if st := w.Status("ads/talk"); len(st.Warnings) != 1 {
		t.Fatalf("warnings %q, want one", st.Warnings)
	}
	w.Run(time.Hour)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, ""); len(st.Warnings) > 0 {
		t.Errorf("warnings %q, want none", st.Warnings)
	}
}

// A job is archived even if only /result reports its end. Poll asks /result if /status returns
// an unknown word or none, and before it gives up the job. Before archive copies the output, the status
// already says that the job has ended.
func TestOnlyTheResultSaysThatTheJobHasEnded(t *testing.T) {
	for _, tt := range []struct {
		fault string
		most  time.Duration
	}{
		{"unknown word", 5 * time.Minute}, {"no word", 5 * time.Minute}, {"200 page", 5 * time.Minute},
		{"500", 7 * time.Hour}, {"unknown request", 5 * time.Minute},
	} {
		w := worldtest.New(t)
		w.RunComfy.Make = outputtest.Right.Make
		worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, tt.fault), 24*time.Hour)
		var before ledger.Status
		w.Before = func(c world.Call) error {
			if c.Function == "archive" && c.Service == "lambda" {
				before = w.Status("ads/talk")
			}
			return nil
		}
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
		if took := w.Now().Sub(world.Begin); took > tt.most {
			t.Errorf("%s: archived after %v, want at most %v", tt.fault, took, tt.most)
		}
		if before.State != ledger.Archiving || len(before.Warnings) > 0 {
			t.Errorf("%s: before archive the status is %s with the warnings %q, want %s and none", tt.fault, before.State, before.Warnings, ledger.Archiving)
		}
	}
}

// A redriven execution whose deadline has passed does not fail again at its first
// trouble, such as a 503 or a process that still has an old token.
func TestRedrivePastTheDeadline(t *testing.T) {
	tests := []struct {
		name    string
		trouble func(w *world.World)
	}{
		{"a 503", func(w *world.World) {
			worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), 0)
		}},
		{"the token was changed meanwhile", func(w *world.World) {
			w.RunComfy.SetToken("new-canary")
			w.Secret = "new-canary"
		}},
	}
	for _, tt := range tests {
		for _, code := range []problem.Code{problem.RanTooLong, problem.QueuedTooLong} {
			t.Run(fmt.Sprintf("%s, after %s", tt.name, code), func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.Run = 30 * time.Hour
				worldtest.DropPair(w)
				w.Run(11 * time.Second)
				if code == problem.QueuedTooLong { // poll does not see that the job started
					worldtest.Faulty(w, worldtest.EveryCall, runcomfytest.FaultNamed(runcomfytest.CallStatus, "401"), 7*time.Hour)
				}
				worldtest.Rest(t, w)
				w.Pass(2 * time.Hour)
				worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, code)
				w.Pass(10 * time.Hour)
				tt.trouble(w)
				worldtest.Redrive(t, w)
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
			})
		}
	}
}

// A redriven execution counts failures from zero, so the first failed response does
// not end it again.
func TestRedriveCountsAnew(t *testing.T) {
	tests := []struct {
		name    string
		run     time.Duration
		fault   string        // of every call, before the redrive
		lasts   time.Duration // of the fault
		code    problem.Code
		another string // the fault of the first /status after the redrive
	}{
		{"queued too long, then a 503", time.Minute, "401", 7 * time.Hour, problem.QueuedTooLong, "503"},
		{"lost, then unknown once more", 10 * time.Minute, "unknown request", 2 * time.Minute, problem.RequestLost, "unknown request"},
		{"lost, then a 503", 10 * time.Minute, "unknown request", 2 * time.Minute, problem.RequestLost, "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Run = tt.run
			worldtest.DropPair(w)
			w.Run(11 * time.Second)
			worldtest.Faulty(w, worldtest.EveryCall, runcomfytest.FaultNamed(runcomfytest.CallStatus, tt.fault), tt.lasts)
			worldtest.Rest(t, w)
			w.Pass(2 * time.Hour)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, tt.code)
			count := worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, tt.another), 0)
			worldtest.Redrive(t, w)
			worldtest.Rest(t, w)
			if *count != 1 {
				t.Errorf("RunComfy served %d faults after the redrive, want 1", *count)
			}
			worldtest.WantArchived(t, w)
		})
	}
}

// While poll cannot learn the state of a job, the status says why. The hourly sweep does not
// remove that warning.
func TestStatusWarnsForHours(t *testing.T) {
	for name, want := range map[string]string{"503": "has not reported the state of the job since", "unknown word": `reports the state "warming_up", which lipdrop does not know`} {
		w := worldtest.New(t)
		w.RunComfy.Make, w.RunComfy.Queue = outputtest.Right.Make, 4*time.Hour
		worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, name), 3*time.Hour)
		worldtest.DropPair(w)
		for _, wait := range []time.Duration{10 * time.Minute, 40 * time.Minute, time.Hour, time.Hour} {
			w.Run(wait)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
			if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], want) {
				t.Errorf("%s: at %v the status has the warnings %q, want one: %q", name, w.Now(), st.Warnings, want)
			}
		}
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
		if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
			t.Errorf("%s: after the end the status has the warnings %q, want none", name, st.Warnings)
		}
	}
}

// Poll does not add a warning to the status of a cancelled job whose execution still runs.
func TestNoWarningAfterTheEnd(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue = 2 * time.Hour
	worldtest.DropPair(w)
	w.Run(time.Minute)
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Op == "StopExecution" })
	w.Delete("inbox/ads/talk.wav")
	worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.FaultNamed(runcomfytest.CallStatus, "503"), time.Hour)
	w.Pass(30 * time.Minute)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion); len(st.Warnings) > 0 {
		t.Errorf("the status has the warnings %q, want none", st.Warnings)
	}
}

// The status of a queued job has the position in the queue that RunComfy reported last. A turn that
// finds the same position writes nothing. The record of a running job has no position, even if
// RunComfy reports one.
func TestQueuePosition(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = 3*time.Hour, time.Hour
	ahead := 3
	worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m["queue_position"] = ahead }}, 24*time.Hour)
	writes := 0
	w.Before = func(c world.Call) error {
		if c.Function == "poll" && c.Op == "PutObject" {
			writes++
		}
		return nil
	}
	worldtest.DropPair(w)
	for _, ahead = range []int{3, 2, 0} {
		w.Run(40 * time.Minute)
		st := worldtest.WantStatus(t, w, "ads/talk", ledger.InQueue, "")
		if got := position(st); got != ahead {
			t.Errorf("the position in the queue is %d, want %d", got, ahead)
		}
	}
	if writes != 6 {
		t.Errorf("poll wrote %d objects, want 6: the record and the status for each position", writes)
	}
	w.Run(90 * time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "")
	if rec := w.Takes("ads/talk")[0]; rec.QueuePosition != nil {
		t.Errorf("while the job runs, the record has the position %d in the queue, want none", *rec.QueuePosition)
	}
}

// position returns the position in the queue of a status, or -1.
func position(st ledger.Status) int {
	if st.QueuePosition == nil {
		return -1
	}
	return *st.QueuePosition
}

// If RunComfy puts a running job back into its queue, the record and the status say
// so.
func TestJobGoesBackToTheQueue(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = 0, 3*time.Hour
	worldtest.DropPair(w)
	w.Run(5 * time.Minute)
	first, _ := w.Record("ads/talk", worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "").Take)
	back := runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m["status"], m["queue_position"] = "in_queue", 7 }}
	worldtest.Faulty(w, runcomfytest.CallStatus, back, time.Hour)
	w.Run(30 * time.Minute)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.InQueue, "")
	if rec, _ := w.Record("ads/talk", st.Take); rec.State != ledger.InQueue {
		t.Errorf("the record is %s, want %s", rec.State, ledger.InQueue)
	}
	if got := position(st); got != 7 {
		t.Errorf("the position in the queue is %d, want 7", got)
	}
	w.Run(time.Hour)
	st = worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "")
	rec, _ := w.Record("ads/talk", st.Take)
	if rec.QueuePosition != nil || st.QueuePosition != nil {
		t.Errorf("while the job runs, a position in the queue is in the record: %t, in the status: %t; want neither", rec.QueuePosition != nil, st.QueuePosition != nil)
	}
	if rec.Times.Running != first.Times.Running {
		t.Errorf("running since %v, want since %v, when it first ran", rec.Times.Running, first.Times.Running)
	}
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// A running job goes back into the queue and runs again. Meanwhile S3 accepts writes of the
// record, but not of the status. The record does not stay queued.
func TestRecordAfterALostStatus(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = 0, 3*time.Hour
	worldtest.DropPair(w)
	w.Run(5 * time.Minute)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.InProgress, "")
	worldtest.Faulty(w, runcomfytest.CallStatus, runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m["status"] = "in_queue" }}, time.Hour)
	brokenUntil := w.Now().Add(time.Hour)
	w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool {
		return c.Op == "PutObject" && strings.HasPrefix(c.Key, "status/") && w.Now().Before(brokenUntil)
	})
	for _, want := range []ledger.State{ledger.InQueue, ledger.InProgress} {
		w.Run(59 * time.Minute)
		if rec, _ := w.Record("ads/talk", st.Take); rec.State != want {
			t.Errorf("the record is %s, want %s", rec.State, want)
		}
	}
}

// Near the end of a job, one call of poll asks several times. While the job is queued, a call
// asks only once.
func TestSeveralQuestionsInOneCall(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 150 * time.Second
	asked := map[int][]time.Duration{} // by the number of the call
	w.Before = func(c world.Call) error {
		if c.Service == "runcomfy" && c.Op == "status" {
			asked[c.Invocation] = append(asked[c.Invocation], w.Now().Sub(world.Begin))
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	most, begins := 0, w.Takes("ads/talk")[0].Times.Submitted.Add(w.RunComfy.Queue).Sub(world.Begin)
	for _, times := range asked {
		most = max(most, len(times))
		for i, at := range times[1:] {
			if at < begins {
				t.Errorf("a call asked again %v after the drop, while the job was queued; want one question", at)
			}
			if pause := at - times[i]; pause < 2*time.Second || pause > 4*time.Second {
				t.Errorf("asked again after a pause of %v, want 2 s to 4 s", pause)
			}
		}
		if took := times[len(times)-1] - times[0]; took > workflow.AskFor {
			t.Errorf("one call asked for %v, want at most %v", took, workflow.AskFor)
		}
	}
	if most < 3 {
		t.Errorf("at most %d questions in one call, want 3 or more in some call", most)
	}
}

// A call of poll stops asking before its time ends, and at once if the call is cancelled.
func TestAskingEnds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		deadline time.Duration // of the call
		cancel   int           // the question after which the call is cancelled
		want     int           // questions
	}{
		{"with enough time, poll asks until AskFor has passed", time.Minute, 0, 7},
		{"with little time, poll asks while enough time is left", 45 * time.Second, 0, 4},
		{"with too little time, poll asks once", 30 * time.Second, 0, 1},
		{"a cancelled call asks no more", time.Minute, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, questions := world.Begin, 0
			ctx, cancel := context.WithCancel(deadlineContext{t.Context(), world.Begin.Add(tt.deadline)})
			defer cancel()
			h := newHandler(func(*http.Request) (*http.Response, error) {
				if questions++; questions == tt.cancel {
					cancel()
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"request_id": "r", "status": "in_progress"}`))}, nil
			})
			h.Now = func() time.Time { return now }
			h.Sleep = func(ctx context.Context, d time.Duration) error { now = now.Add(d); return ctx.Err() }
			job := workflow.Job{RequestID: "r", Seen: "in_progress", SubmittedAt: world.Begin.Add(-2 * time.Minute), UsualSeconds: 100}
			if _, err := h.Handle(ctx, workflow.Turn{Job: job}); err != nil {
				t.Fatal(err)
			}
			if questions != tt.want {
				t.Errorf("%d questions, want %d", questions, tt.want)
			}
		})
	}
}

// If /status returns an unknown word, poll asks /result, but only if enough time is left.
func TestResultNeedsTime(t *testing.T) {
	for left, want := range map[time.Duration]int{35 * time.Second: 2, 34 * time.Second: 1} {
		requests := 0
		h := newHandler(func(*http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"request_id": "r", "status": "paused"}`))}, nil
		})
		ctx := deadlineContext{t.Context(), world.Begin.Add(left)}
		_, err := h.Handle(ctx, workflow.Turn{Job: workflow.Job{RequestID: "r", SubmittedAt: world.Begin}})
		if err != nil || requests != want {
			t.Errorf("with %s left: %d requests, error %v; want %d requests", left, requests, err, want)
		}
	}
}

// If RunComfy does not respond to many jobs, the jitter spreads their next turns.
func TestJitter(t *testing.T) {
	for jitter, want := range map[float64]int{0: 40, 0.999: 80} {
		h := newHandler(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
		h.Jitter = func() float64 { return jitter }
		job, err := h.Handle(t.Context(), workflow.Turn{Job: workflow.Job{RequestID: "r", SubmittedAt: world.Begin, Troubles: 4}})
		if err != nil || job.WaitSeconds != want {
			t.Errorf("jitter %g: a wait of %d s, error %v; want %d s", jitter, job.WaitSeconds, err, want)
		}
	}
}

// newHandler returns a handler at world.Begin, with an empty bucket.
func newHandler(runComfy roundTripper) *handler.Handler {
	return &handler.Handler{
		API:        &runcomfy.Client{Token: runcomfy.StaticToken("t"), HTTPClient: &http.Client{Transport: runComfy}},
		Ledger:     &ledger.Store{Bucket: &bucket.Bucket{S3: &s3test.Bucket{}, Name: "b"}},
		QueueLimit: time.Hour, RunLimit: time.Hour,
		Now: func() time.Time { return world.Begin }, Jitter: func() float64 { return 0 },
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// deadlineContext reports a deadline of a virtual clock. It does not end at that deadline.
type deadlineContext struct {
	context.Context
	at time.Time
}

func (c deadlineContext) Deadline() (time.Time, bool) { return c.at, true }
