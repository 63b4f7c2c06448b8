package handler_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// takesOf returns the takes in the book of a day.
func takesOf(t *testing.T, w *world.World, day string) []budget.Take {
	t.Helper()
	var book struct{ Takes []budget.Take }
	text, _ := w.Bucket.Object(budget.Key(day))
	if err := json.Unmarshal(text, &book); err != nil {
		t.Fatal(err)
	}
	return book.Takes
}

// The sweep frees the reservations of jobs that RunComfy refused or cancelled, and keeps the other
// reservations.
func TestSweepFreesReservations(t *testing.T) {
	day := budget.Day(world.Begin)
	tests := []struct {
		name string
		end  func(w *world.World)
		left int
	}{
		{"the job succeeds", func(*world.World) {}, 1},
		{"the job fails", func(w *world.World) {
			w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return runcomfytest.Script{Fail: "no face"} }
		}, 1},
		{"the outcome is unknown", func(w *world.World) {
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "500"), 0)
		}, 1},
		{"RunComfy refuses the job, and submit cannot give the reservation back", func(w *world.World) {
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "422"), 0)
			puts := 0
			w.Before = func(c world.Call) error {
				if c.Function == "submit" && c.Op == "PutObject" && c.Key == budget.Key(day) {
					if puts++; puts > 1 {
						return world.Throttled
					}
				}
				return nil
			}
		}, 0},
		{"the job is cancelled at RunComfy, and the sweep cannot list executions", func(w *world.World) {
			cancelElsewhere(t, w)
			w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool { return c.Op == "ListExecutions" })
		}, 0},
		{"the job is cancelled at RunComfy, and the newest record is unreadable", func(w *world.World) {
			cancelElsewhere(t, w)
			w.Run(10 * time.Minute)
			w.Spend(time.Second)
			w.Bucket.Set(ledger.RecordKey("other", "20500103T121000Z-000000000000"), []byte("{"))
		}, 0},
		{"a file is deleted, and cancel cannot give the reservation back", func(w *world.World) {
			w.RunComfy.Queue = time.Hour
			w.Run(time.Minute)
			down := w.Now().Add(10 * time.Minute)
			w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool {
				return c.Function == "cancel" && c.Key == budget.Key(day) && w.Now().Before(down)
			})
			w.Delete("inbox/ads/talk.wav")
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			w.Caps = budget.Caps{Jobs: 5}
			worldtest.DropPair(w)
			tt.end(w)
			w.Run(15 * time.Minute)
			if n := len(takesOf(t, w, day)); n != 1 {
				t.Errorf("%d takes are in the book before the sweep, want 1", n)
			}
			w.Pass(2 * time.Hour)
			if n := len(takesOf(t, w, day)); n != tt.left {
				t.Errorf("%d takes are in the book after the sweep, want %d", n, tt.left)
			}
		})
	}
}

// A take was claimed on one day. Submit released the claim, but could not give back the
// reservation. The take was claimed again on the next day. The sweep frees only the older
// reservation.
func TestSweepFreesAReservationOfAnEarlierClaim(t *testing.T) {
	w := worldtest.New(t)
	w.Caps = budget.Caps{Jobs: 5}
	worldtest.DropPair(w)
	w.Run(15 * time.Minute)
	today, yesterday := budget.Day(world.Begin), budget.Day(world.Begin.AddDate(0, 0, -1))
	book, _ := w.Bucket.Object(budget.Key(today))
	w.Bucket.Set(budget.Key(yesterday), bytes.ReplaceAll(book, []byte(today), []byte(yesterday)))
	w.Pass(2 * time.Hour)
	if n, left := len(takesOf(t, w, today)), len(takesOf(t, w, yesterday)); n != 1 || left != 0 {
		t.Errorf("%d takes are left in the book of the claim and %d in the earlier book, want 1 and 0", n, left)
	}
}

// The sweep decides to remove a take's reservation. Before the sweep writes the book, submit
// claims the take again and writes the book. The reservation stays.
func TestSweepBesideAClaim(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 10
	w.Caps = budget.Caps{Jobs: 5}
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "422"), 0)
	day, puts, claimed := budget.Day(world.Begin), 0, false
	w.Before = func(c world.Call) error {
		if c.Op != "PutObject" || c.Key != budget.Key(day) {
			return nil
		}
		if c.Function == "submit" {
			if puts++; puts > 1 { // submit cannot give the reservation back
				return world.Throttled
			}
		} else if !claimed {
			claimed = true
			keys := w.Bucket.Keys()
			key := keys[slices.IndexFunc(keys, func(key string) bool { return strings.HasPrefix(key, "jobs/") })]
			record, _ := w.Bucket.Object(key)
			w.Bucket.Set(key, bytes.Replace(record, []byte(`"released"`), []byte(`"submitting"`), 1))
			book, _ := w.Bucket.Object(c.Key)
			w.Bucket.Set(c.Key, append(book, '\n'))
		}
		return nil
	}
	worldtest.DropPair(w)
	w.Pass(2 * time.Hour)
	if n := len(takesOf(t, w, day)); n != 1 || !claimed {
		t.Errorf("%d takes are left, want 1; claimed again: %t, want true", n, claimed)
	}
}

// The second take of a name is cancelled. The first one is charged, so it keeps its
// reservation.
func TestReservationOfAnEarlierTake(t *testing.T) {
	w := worldtest.New(t)
	w.Caps = budget.Caps{Jobs: 5}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	first := w.Status("ads/talk").Take
	w.RunComfy.Queue = time.Hour
	worldtest.DropVoice(w)
	w.Run(time.Minute)
	worldtest.WantCharges(t, w, 2)
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Cancelled, problem.CancelledByDeletion)
	if takes := takesOf(t, w, budget.Day(world.Begin)); len(takes) != 1 || takes[0].Take != first {
		t.Errorf("the book has %+v, want only take %s", takes, first)
	}
}

// The sweep logs the balance only if MinBalanceUsd is not 0.
func TestBalanceIsLogged(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	for limit, want := range map[float64]int{0: 0, 20: 3} {
		var log bytes.Buffer
		slog.SetDefault(slog.New(slog.NewJSONHandler(&log, nil)))
		w := worldtest.New(t)
		w.MinBalance = limit
		w.Pass(3*time.Hour + time.Minute)
		if n := bytes.Count(log.Bytes(), []byte(`"msg":"balance","balance_usd":12.5}`)); n != want {
			t.Errorf("with MinBalanceUsd %v the balance is logged %d times in three hours, want %d", limit, n, want)
		}
	}
}

// cancelElsewhere cancels the job of ads/talk at RunComfy, as another program may do.
func cancelElsewhere(t *testing.T, w *world.World) {
	t.Helper()
	w.RunComfy.Queue = time.Hour
	w.Run(time.Minute)
	if err := w.CancelElsewhere(w.Status("ads/talk").RequestID); err != nil {
		t.Fatal(err)
	}
}
