package handler_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// Submit logs no error if a job is held or another invocation holds the claim. If S3 fails, Submit
// logs an error.
func TestHeldJobsAreNotLoggedAsErrors(t *testing.T) {
	tests := []struct {
		name  string
		fault func(*testing.T, *world.World)
		error bool
	}{
		{"a held job", func(_ *testing.T, w *world.World) { w.RunComfy.SetBalanceEmpty(true) }, false},
		{"a claim that a crashed invocation still holds", func(t *testing.T, w *world.World) {
			worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Op == "submit" }, func() { panic(world.Crash{}) })
		}, false},
		{"S3 is not available", func(_ *testing.T, w *world.World) {
			w.Before = worldtest.FailIf(world.ErrBroken, func(c world.Call) bool { return c.Service == "s3" })
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var logs bytes.Buffer
			defer slog.SetDefault(slog.Default())
			slog.SetDefault(slog.New(slog.NewTextHandler(&logs, nil)))
			w := worldtest.New(t)
			tt.fault(t, w)
			worldtest.DropPair(w)
			w.Run(time.Minute)
			heldOrBusy, failed := strings.Contains(logs.String(), "held or busy"), strings.Contains(logs.String(), "level=ERROR")
			if heldOrBusy == tt.error || failed != tt.error {
				t.Errorf("logged as held or busy: %v, as an error: %v; want %v, %v\n%s", heldOrBusy, failed, !tt.error, tt.error, logs.String())
			}
		})
	}
}

// Submit logs "submitted" once if a response says that RunComfy accepted the job, however many
// events arrive.
func TestSubmittedIsLoggedOnce(t *testing.T) {
	for fault, want := range map[string]int{"accepted under HTTP 202": 1, "silence": 0, "429": 1} {
		t.Run(fault, func(t *testing.T) {
			var logs bytes.Buffer
			defer slog.SetDefault(slog.Default())
			slog.SetDefault(slog.New(slog.NewTextHandler(&logs, nil)))
			w := worldtest.New(t)
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, fault), 0)
			worldtest.DropPair(w)
			w.Run(time.Minute)
			w.Notify("Object Created", "inbox/ads/talk.wav", 0)
			worldtest.Rest(t, w)
			w.Notify("Object Created", "inbox/ads/talk.wav", 0)
			worldtest.Rest(t, w)
			if got := strings.Count(logs.String(), "msg=submitted "); got != want {
				t.Errorf("submitted is logged %d times, want %d", got, want)
			}
		})
	}
}

// A claim lasts until a minute after the deadline of its invocation, because clocks may differ.
func TestClaimEnds(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.SetBalanceEmpty(true)
	var deadline time.Time
	w.Before = func(c world.Call) error {
		if c.Op == "submit" {
			deadline = c.Deadline
			if rec := w.Takes("ads/talk")[0]; !rec.ClaimEnds.Equal(deadline.Add(time.Minute)) || rec.ClaimEnded(deadline) || !rec.ClaimEnded(rec.ClaimEnds) {
				t.Errorf("the deadline is %v; the claim lasts until %v, want a minute after the deadline", deadline, rec.ClaimEnds)
			}
		}
		return nil
	}
	worldtest.DropPair(w)
	w.Run(time.Minute)
	if deadline.IsZero() {
		t.Error("submit sent no POST, want one")
	}
	worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.NoBalance)
}
