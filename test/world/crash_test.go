package world_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// dieIf returns a hook that ends a function before or after a selected call.
func dieIf(selects func(world.Call) bool) func(world.Call) error {
	return func(call world.Call) error {
		if selects(call) {
			panic(world.Crash{})
		}
		return nil
	}
}

func loseResponse(w *world.World, hit func(world.Call) bool) {
	w.After = worldtest.FailIf(world.ErrBroken, hit)
}

// everyPoint runs a scenario four times for each call that the functions make in it. In the first run, the
// function dies before the call; in the second, after the call. In the third, the response is lost and the
// client repeats the call; in the fourth, the client does not repeat it.
func everyPoint(t *testing.T, scenario func(*testing.T, *world.World), check func(t *testing.T, w *world.World)) {
	t.Helper()
	before, after := 0, 0
	undisturbed := newWorld(t)
	undisturbed.Before = func(world.Call) error { before++; return nil }
	undisturbed.After = func(world.Call) error { after++; return nil }
	scenario(t, undisturbed)
	if before < 20 || after < 20 {
		t.Fatalf("%d calls began and %d finished, want at least 20", before, after)
	}
	ways := []struct {
		name     string
		calls    int
		attempts int
		set      func(w *world.World, hit func(world.Call) bool)
	}{
		{"dies before", before, 3, func(w *world.World, hit func(world.Call) bool) { w.Before = dieIf(hit) }},
		{"dies after", after, 3, func(w *world.World, hit func(world.Call) bool) { w.After = dieIf(hit) }},
		{"loses the response to", after, 3, loseResponse},
		{"does not repeat after the lost response to", after, 1, loseResponse},
	}
	for _, way := range ways {
		for at := range way.calls {
			w := newWorld(t)
			w.Attempts = way.attempts
			calls, name := 0, ""
			way.set(w, func(call world.Call) bool {
				calls++
				if calls == at+1 {
					name = call.String()
					return true
				}
				return false
			})
			t.Run(fmt.Sprintf("%s call %d", way.name, at+1), func(t *testing.T) {
				scenario(t, w)
				check(t, w)
				w.Pass(2 * time.Hour) // the hourly sweep sends the notices that are still due
				wantNotices(t, w)
				if t.Failed() {
					t.Logf("the call was %s", name)
				}
			})
		}
	}
}

// Submit, poll and archive may die between any two calls. The job is charged at
// most once. It is archived, or its status says that its outcome is unknown.
func TestCrashAtEveryPointOfAJob(t *testing.T) {
	scenario := func(t *testing.T, w *world.World) {
		dropPair(w)
		rest(t, w)
	}
	everyPoint(t, scenario, func(t *testing.T, w *world.World) {
		st := w.Status("ads/talk")
		switch charges := w.RunComfy.Charges(); {
		case charges > 1:
			t.Errorf("charged %d times, want at most once", charges)
		case st.State == ledger.Succeeded && charges == 1 && len(st.Outputs) == 1:
		case st.State == ledger.Unknown && st.Remedy != "" && st.RequestID == "":
		default:
			t.Errorf("status %s %s (%s), %d charges, %d outputs; want succeeded with one charge and one output, or unknown with a remedy and no request id", st.State, st.Code, st.Reason, charges, len(st.Outputs))
		}
		if len(w.Dead) > 0 {
			t.Errorf("%d dead letters, want none", len(w.Dead))
		}
	})
}

// A file of a queued job is deleted, and one call has a fault. The job is cancelled; if the fault
// hits submit, the outcome may be unknown instead.
func TestCrashAtEveryPointOfACancel(t *testing.T) {
	scenario := func(t *testing.T, w *world.World) {
		queuePair(w)
		w.Delete("inbox/ads/talk.wav")
		rest(t, w)
	}
	everyPoint(t, scenario, wantCancelledOrUnknown)
}

// A person stops the execution of a queued job, and one call has a fault. The job is cancelled; if the fault
// hits submit, the outcome may be unknown instead.
func TestCrashAtEveryPointOfAStop(t *testing.T) {
	scenario := func(t *testing.T, w *world.World) {
		queuePair(w)
		w.Stop("ads/talk", w.Status("ads/talk").Take)
		w.Run(3 * time.Hour)
		w.Sweep()
		rest(t, w)
	}
	everyPoint(t, scenario, wantCancelledOrUnknown)
}

// wantCancelledOrUnknown fails the test unless the job was charged at most once, and the status says
// cancelled if RunComfy cancelled the job, or else unknown.
func wantCancelledOrUnknown(t *testing.T, w *world.World) {
	t.Helper()
	if charges := w.RunComfy.Charges(); charges > 1 {
		t.Errorf("charged %d times, want at most once", charges)
	}
	st := w.Status("ads/talk")
	cancelled := len(w.RunComfy.Cancelled()) == 1
	if cancelled && st.State != ledger.Cancelled || !cancelled && st.State != ledger.Unknown {
		t.Errorf("status %s %s (%s), and RunComfy cancelled the job: %v; want cancelled if it did, or else unknown", st.State, st.Code, st.Reason, cancelled)
	}
}

// With caps, submit also reserves the take in the book of the day (budget/<day>.json), and cancel
// frees the reservation. At the end, the book has the take if the job is charged. Otherwise, the book
// may have the take only if the take's state is unknown.
func TestCrashAtEveryPointWithCaps(t *testing.T) {
	if testing.Short() {
		t.Skip("so many runs take long with the race detector; TestCrashAtEveryPointOfAJob runs with it")
	}
	for name, cancelled := range map[string]bool{"a job": false, "a cancelled job": true} {
		scenario := func(t *testing.T, w *world.World) {
			w.Batch = w.SubmitBatch()
			w.Caps = budget.Caps{Jobs: 1}
			if cancelled {
				w.RunComfy.Queue = time.Hour
			}
			dropPair(w)
			w.Run(2 * time.Minute)
			if cancelled {
				w.Delete("inbox/ads/talk.wav")
			}
			w.Pass(5 * time.Hour) // the hourly sweep frees the reservations that a crash left
		}
		t.Run(name, func(t *testing.T) {
			everyPoint(t, scenario, func(t *testing.T, w *world.World) {
				var book struct{ Takes []budget.Take }
				if text, ok := w.Bucket.Object(budget.Key(budget.Day(world.Begin))); ok {
					if err := json.Unmarshal(text, &book); err != nil {
						t.Fatal(err)
					}
				}
				st := w.Status("ads/talk")
				charged := w.RunComfy.Charges() - len(w.RunComfy.Cancelled())
				if n := len(book.Takes); charged > n || n > charged && st.State != ledger.Unknown || n > 1 {
					t.Errorf("%d takes are in the book, %d jobs are charged; want the same number, or one more take if the status is unknown; the status is %s %s", n, charged, st.State, st.Code)
				}
			})
		})
	}
}
