package handler_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// setCaps sets the caps, as a deployment does.
func setCaps(w *world.World, caps budget.Caps) {
	w.Caps = caps
	w.Restart()
}

// used returns the field Used of the book of a day.
func used(t *testing.T, w *world.World, day string) budget.Amount {
	t.Helper()
	var book struct{ Used budget.Amount }
	if text, ok := w.Bucket.Object(budget.Key(day)); ok {
		if err := json.Unmarshal(text, &book); err != nil {
			t.Fatal(err)
		}
	}
	return book.Used
}

// The estimate of the sample pair is 2.531 s at $0.08 a second: $0.20248.
func TestEstimateIsInStatusAndRecord(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	st := w.Status("ads/talk")
	if st.EstimateUSD == nil || *st.EstimateUSD != 0.20248 || st.CostUSD == nil || *st.CostUSD != 0.25 {
		t.Errorf("status %+v, want the estimate 0.20248 and the cost 0.25", st)
	}
	if rec := w.Takes("ads/talk")[0]; *rec.EstimateUSD != 0.20248 || *rec.CostUSD != 0.25 {
		t.Errorf("record %+v, want the estimate 0.20248 and the cost 0.25", rec)
	}
	text, _ := w.Bucket.Object(ledger.ResultKey("ads/talk", st.Take))
	var result struct{ EstimateUSD, CostUSD float64 }
	if err := json.Unmarshal(text, &result); err != nil || result.EstimateUSD != 0.20248 || result.CostUSD != 0.25 {
		t.Errorf("result.json has %+v (%v), want the estimate 0.20248 and the cost 0.25", result, err)
	}
}

// A job without a price runs, and does not wait for a price. Its status says why there is no estimate, and which cap
// does not count the job.
func TestJobWithoutAnEstimate(t *testing.T) {
	noPrice := runcomfytest.Fault{Name: "no price", Accept: true} // a response like any other, but Prices is empty
	for _, fault := range append(runcomfytest.Faults(runcomfytest.CallModel), noPrice) {
		t.Run(fault.Name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			setCaps(w, budget.Caps{USD: 0.01})
			worldtest.Faulty(w, runcomfytest.CallModel, fault, time.Hour)
			if fault.Name == noPrice.Name {
				w.RunComfy.Prices = map[string]runcomfytest.Price{}
			}
			w.RunComfy.CostUSD = 0
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			st := w.Status("ads/talk")
			warnings := strings.Join(st.Warnings, "\n")
			if st.EstimateUSD != nil || st.CostUSD != nil || !strings.Contains(warnings, "there is no estimate of the cost: ") ||
				!strings.Contains(warnings, "MaxUsdPerDay does not count this job, because its cost is not known") {
				t.Errorf("status %+v, want no estimate, no cost, and two warnings that say why", st)
			}
			if waited := w.Takes("ads/talk")[0].Times.Submitted.Sub(world.Begin); waited > 12*time.Second {
				t.Errorf("submitted after %v, want at most 12s", waited)
			}
		})
	}
}

// Jobs over a cap are held. Each day, as many of these jobs start as fit into the cap. No
// message becomes a dead letter.
func TestJobsOverACapContinueAfterMidnight(t *testing.T) {
	for _, caps := range []budget.Caps{{Jobs: 2}, {Seconds: 7}, {USD: 0.41}, {Jobs: 2, Seconds: 100, USD: 100}} {
		t.Run(fmt.Sprintf("%+v", caps), func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			setCaps(w, caps)
			const jobs = 7
			worldtest.DropMany(w, "%d", jobs)
			day := world.Begin
			for accepted := 0; accepted < jobs; day = day.AddDate(0, 0, 1) {
				accepted = min(accepted+2, jobs)
				midnight := day.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
				w.Pass(midnight.Sub(w.Now()) - time.Second)
				worldtest.WantCharges(t, w, accepted)
				held := 0
				for i := range jobs {
					st := w.Status(fmt.Sprint(i))
					if st.State == ledger.Succeeded {
						continue
					}
					held++
					worldtest.WantStatus(t, w, fmt.Sprint(i), ledger.Held, problem.OverBudget)
					if !strings.Contains(st.Reason, " of "+budget.Day(day)+" (UTC) are used") || !strings.Contains(st.Reason, "continues after midnight UTC, or when Max") || st.EstimateUSD == nil {
						t.Errorf("status %+v, want a reason that names the day and says when the job continues, and an estimate", st)
					}
				}
				if held != jobs-accepted {
					t.Errorf("%d jobs are held on %s, want %d", held, budget.Day(day), jobs-accepted)
				}
				if n := used(t, w, budget.Day(day)).Jobs; n > 2 || n < 1 {
					t.Errorf("%d jobs are in the book of %s, want 1 or 2", n, budget.Day(day))
				}
			}
			if len(w.Dead) > 0 {
				t.Errorf("%d dead letters, want none", len(w.Dead))
			}
		})
	}
}

// A held job is tried again after each visibility timeout of the queue, and continues when the cap is raised.
func TestRaisedCap(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 10
	setCaps(w, budget.Caps{Jobs: 1})
	worldtest.DropMany(w, "%d", 2)
	tries := 0
	w.After = func(c world.Call) error {
		if c.Op == "GetObject" && c.Key == budget.Key(budget.Day(world.Begin)) && c.Function == "submit" {
			tries++
		}
		return nil
	}
	w.Pass(20 * time.Minute) // at first, the pauses are shorter
	tries = 0
	w.Pass(2 * time.Hour)
	// Both messages of the held pair come back every 12 minutes. One batch may hold both, for one try.
	if tries < 9 || tries > 22 {
		t.Errorf("tried %d times in two hours, want 9 to 22", tries)
	}
	worldtest.WantCharges(t, w, 1)
	setCaps(w, budget.Caps{Jobs: 2})
	w.Pass(12 * time.Minute)
	worldtest.WantCharges(t, w, 2)
}

// A cap has held a job for hours or weeks. Once the job fits, RunComfy throttles it for
// hours. Submit retries it until RunComfy accepts it.
func TestThrottledAfterACap(t *testing.T) {
	for _, held := range []time.Duration{11 * time.Hour, 23*time.Hour + 50*time.Minute, 26 * time.Hour, 14 * 24 * time.Hour} {
		t.Run(held.String(), func(t *testing.T) {
			w := worldtest.New(t)
			setCaps(w, budget.Caps{USD: 0.01})
			worldtest.DropMany(w, "%d", 1)
			w.Pass(held)
			worldtest.WantStatus(t, w, "0", ledger.Held, problem.OverBudget)
			setCaps(w, budget.Caps{})
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429"), 8*time.Hour)
			w.Pass(7 * time.Hour)
			worldtest.WantStatus(t, w, "0", ledger.Held, problem.Throttled)
			w.Pass(3 * time.Hour)
			worldtest.WantCharges(t, w, 1)
			if len(w.Dead) > 0 {
				t.Errorf("%d dead letters, want none", len(w.Dead))
			}
		})
	}
}

// Submit gives a reservation back only if RunComfy certainly did not accept the job.
func TestReservationFollowsTheResponse(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallSubmit) {
		t.Run(fault.Name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			setCaps(w, budget.Caps{Jobs: 1})
			worldtest.Faulty(w, runcomfytest.CallSubmit, fault, 0)
			worldtest.DropPair(w)
			w.Run(12 * time.Second)
			state, _ := world.AfterSubmit(fault)
			want := 1
			if state == ledger.Held || state == ledger.Rejected {
				want = 0
			}
			if got := used(t, w, budget.Day(world.Begin)).Jobs; got != want {
				t.Errorf("%d jobs are in the book after a POST that leaves the take %s, want %d", got, state, want)
			}
		})
	}
}

// If a job is cancelled while it is queued, its reservation is given back. Another job then
// fits into the cap.
func TestCancelledJobLeavesItsPlace(t *testing.T) {
	ends := map[string]func(t *testing.T, w *world.World){
		"a file is deleted":          func(_ *testing.T, w *world.World) { w.Delete("inbox/0.wav") },
		"the execution is stopped":   func(_ *testing.T, w *world.World) { w.Stop("0", w.Status("0").Take) },
		"the job is queued too long": func(_ *testing.T, w *world.World) { w.Pass(7 * time.Hour) },
		"cancelled on RunComfy's page": func(t *testing.T, w *world.World) {
			if err := w.CancelElsewhere(w.Status("0").RequestID); err != nil {
				t.Fatal(err)
			}
			w.Pass(time.Hour) // archive does not give the reservation back; the sweep does
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			w.RunComfy.Queue = 8 * time.Hour
			setCaps(w, budget.Caps{Jobs: 1})
			worldtest.DropMany(w, "%d", 1)
			w.Pass(time.Minute)
			worldtest.WantCharges(t, w, 1)
			end(t, w)
			w.Pass(time.Minute)
			if got := used(t, w, budget.Day(world.Begin)); got.Jobs != 0 {
				t.Errorf("the book has %+v, want no job", got)
			}
			worldtest.DropPairs(w, "1")
			w.Pass(time.Minute)
			worldtest.WantCharges(t, w, 2)
		})
	}
}

// If the book cannot be read or written, the job is held, and the reason names the book's key.
// If the book cannot be read, no claim is made. The job is submitted when the book can be used.
func TestBookThatCannotBeUsed(t *testing.T) {
	key := budget.Key(budget.Day(world.Begin))
	denied := s3test.Error(http.StatusForbidden, "AccessDenied")
	for _, tt := range []struct {
		name, op string
		err      error
		claim    bool
	}{
		{"the book is not JSON", "", nil, false},
		{"S3 refuses reads of the book", "GetObject", denied, false},
		{"S3 refuses writes of the book", "PutObject", denied, true},
		{"S3 throttles reads of the book", "GetObject", world.Throttled, false},
		{"S3 throttles writes of the book", "PutObject", world.Throttled, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			setCaps(w, budget.Caps{Jobs: 1})
			if tt.op == "" {
				w.Bucket.Set(key, []byte("{"))
			}
			claimed := false
			w.Before = func(c world.Call) error {
				claimed = claimed || c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/")
				if c.Key == key && c.Op == tt.op {
					return tt.err
				}
				return nil
			}
			worldtest.DropPair(w)
			w.Pass(time.Minute)
			if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.BudgetUnreadable); !strings.Contains(st.Reason, key) {
				t.Errorf("reason %q, want one that names %s", st.Reason, key)
			}
			worldtest.WantCharges(t, w, 0)
			if claimed != tt.claim {
				t.Errorf("claimed: %t, want %t", claimed, tt.claim)
			}
			w.Before = nil
			if tt.op == "" {
				w.Bucket.Remove(key)
			}
			w.Pass(time.Hour)
			worldtest.WantCharges(t, w, 1)
		})
	}
}

// If a claim cannot be released, submit does not write the status held. It does not submit the
// job again, and the status becomes unknown.
func TestClaimThatCannotBeReleased(t *testing.T) {
	book := budget.Key(budget.Day(world.Begin))
	for _, tt := range []struct {
		name        string
		mustRelease func(w *world.World, c world.Call) bool // reports whether submit must release the claim after c; one row also breaks the book
	}{
		{"throttled POST", func(_ *world.World, c world.Call) bool { return c.Service == "runcomfy" && c.Op == "submit" }},
		{"unreadable book", func(w *world.World, c world.Call) bool {
			if c.Op != "PutObject" || !strings.HasPrefix(c.Key, "jobs/") {
				return false
			}
			w.Bucket.Set(book, []byte("{"))
			return true
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			setCaps(w, budget.Caps{Jobs: 1})
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429"), 0)
			releasing := false
			w.Before = func(c world.Call) error {
				if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") && releasing && w.Now().Before(world.Begin.Add(2*time.Minute)) {
					return world.Throttled
				}
				releasing = releasing || c.Function == "submit" && tt.mustRelease(w, c)
				return nil
			}
			dropOnce(w)
			w.Run(3 * time.Minute)
			if _, there := w.Bucket.Object(ledger.StatusKey("ads/talk")); there || !releasing {
				t.Errorf("a status exists: %v, want false; submit had to release the claim: %v, want true", there, releasing)
			}
			w.Pass(time.Hour)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Unknown, problem.SubmitInterrupted)
			worldtest.WantCharges(t, w, 0)
		})
	}
}

// A cap holds a job, and the queue delivers the job's message for the last time. Submit sends a
// new message, so the job is retried. This job needs more than the whole cap, so the reason says
// that the parameter must be raised.
func TestLastDeliveryOverACap(t *testing.T) {
	w := worldtest.New(t)
	setCaps(w, budget.Caps{USD: 0.01})
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip)
	w.Put("inbox/ads/talk.wav", voice)
	last := world.Message("inbox/ads/talk.wav")
	last.Attributes["ApproximateReceiveCount"] = "1000000"
	submit(t, w, last)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.OverBudget); !strings.HasSuffix(st.Reason, "; the job continues when MaxUsdPerDay is raised") {
		t.Errorf("reason %q, want one that ends with how the job continues", st.Reason)
	}
	setCaps(w, budget.Caps{})
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// Without a cap, there is no book. With a cap of one job, the job has one reservation before its POST.
func TestReservationIsBeforeThePOST(t *testing.T) {
	for _, caps := range []budget.Caps{{}, {Jobs: 1}} {
		w := worldtest.New(t)
		w.Batch = 10
		setCaps(w, caps)
		atPost := -1
		w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
			if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallSubmit {
				atPost = used(t, w, budget.Day(world.Begin)).Jobs
			}
			return nil
		}
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
		if atPost != caps.Jobs {
			t.Errorf("%d reservations at the POST, want %d", atPost, caps.Jobs)
		}
		if _, there := w.Bucket.Object(budget.Key(budget.Day(world.Begin))); there != (caps.Jobs > 0) {
			t.Errorf("with the caps %+v, a book exists: %t, want %t", caps, there, !there)
		}
	}
}
