// Package worldtest has helpers for tests with a World. The helpers create a World, drop
// pairs, make RunComfy fail and check the result.
package worldtest

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// Main runs the tests of a package without log lines.
func Main(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// New returns a world in which a job is queued for 20 s and runs for 80 s.
func New(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(rand.New(rand.NewPCG(1, 2)).Float64)
	if err != nil {
		t.Fatal(err)
	}
	w.RunComfy.Queue, w.RunComfy.Run = 20*time.Second, 80*time.Second
	return w
}

// DropPair drops the pair ads/talk, with an event for each file.
func DropPair(w *world.World) {
	DropPairs(w, "ads/talk")
}

// DropPairs drops pairs with the given names.
func DropPairs(w *world.World, names ...string) {
	clip, voice := sample.Files()
	for _, name := range names {
		w.Drop("inbox/"+name+".mp4", clip)
		w.Drop("inbox/"+name+".wav", voice)
	}
}

// DropMany drops n pairs. Their names are fmt.Sprintf(form, i) for each i from 0 to n-1.
func DropMany(w *world.World, form string, n int) {
	for i := range n {
		DropPairs(w, fmt.Sprintf(form, i))
	}
}

// DropVoice drops the audio file of ads/talk. The result is a new take if the video is there.
func DropVoice(w *world.World) {
	_, voice := sample.Files()
	w.Drop("inbox/ads/talk.wav", voice)
}

// Redrive redrives the execution of ads/talk.
func Redrive(t *testing.T, w *world.World) {
	t.Helper()
	if err := w.Redrive("ads/talk", w.Status("ads/talk").Take); err != nil {
		t.Fatal(err)
	}
}

// FailIf returns a hook that makes the selected calls fail with err.
func FailIf(err error, selects func(world.Call) bool) func(world.Call) error {
	return func(c world.Call) error {
		if selects(c) {
			return err
		}
		return nil
	}
}

// BeforeFirst runs do() immediately before the first call c of w for which selects(c) is true. The
// test fails if there is no such call.
func BeforeFirst(t *testing.T, w *world.World, selects func(world.Call) bool, do func()) {
	t.Helper()
	done := false
	w.Before = func(c world.Call) error {
		if !done && selects(c) {
			done = true
			do()
		}
		return nil
	}
	t.Cleanup(func() {
		if !done {
			t.Error("no call was selected, want one")
		}
	})
}

// EveryCall makes Faulty apply the fault to every call.
const EveryCall runcomfytest.Call = ""

// Faulty makes the given call of RunComfy, or EveryCall, fail for the given time from now on. If the
// time is 0, it fails only once. The result points to the number of requests that have failed so far.
func Faulty(w *world.World, call runcomfytest.Call, fault runcomfytest.Fault, lasts time.Duration) *int {
	count, end := 0, w.Now().Add(lasts)
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		made, _ := runcomfytest.CallOf(r)
		if made != call && call != EveryCall || lasts == 0 && count > 0 || lasts > 0 && w.Now().After(end) {
			return nil
		}
		count++
		return &fault
	}
	return &count
}

// Rest runs the world until only the hourly sweep is left to do, but at most for a month.
func Rest(t *testing.T, w *world.World) {
	t.Helper()
	if !w.Run(30 * 24 * time.Hour) {
		t.Error("after a month, more than the hourly sweep is left to do; want only the sweep")
	}
}

// WantArchived expects the job ads/talk to be archived and charged once.
func WantArchived(t *testing.T, w *world.World) {
	t.Helper()
	st := WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	WantCharges(t, w, 1)
	if len(st.Outputs) != 1 {
		t.Errorf("outputs %v, want one", st.Outputs)
		return
	}
	job, _ := w.RunComfy.Job(st.RequestID)
	if got, _ := w.Bucket.Object(st.Outputs[0]); fmt.Sprintf("%x", sha256.Sum256(got)) != job.OutputSHA256 {
		t.Errorf("the %d bytes of the output are not what RunComfy served, want the same bytes", len(got))
	}
	if rec, _ := w.Record("ads/talk", st.Take); rec.State != ledger.Succeeded {
		t.Errorf("the record is %s, want %s", rec.State, ledger.Succeeded)
	}
}

// WantStatus expects a state and a code in the status of a name. It returns the
// status.
func WantStatus(t *testing.T, w *world.World, name string, state ledger.State, code problem.Code) ledger.Status {
	t.Helper()
	st := w.Status(name)
	if st.State != state || st.Code != code {
		t.Errorf("the status of %s is %s %s (%s), want %s %s", name, st.State, st.Code, st.Reason, state, code)
	}
	return st
}

// WantCancelled expects RunComfy to have cancelled a number of jobs.
func WantCancelled(t *testing.T, w *world.World, want int) {
	t.Helper()
	if got := len(w.RunComfy.Cancelled()); got != want {
		t.Errorf("%d jobs are cancelled at RunComfy, want %d", got, want)
	}
}

// WantCharges expects RunComfy to have charged a number of jobs.
func WantCharges(t *testing.T, w *world.World, want int) {
	t.Helper()
	if got := w.RunComfy.Charges(); got != want {
		t.Errorf("%d charges, want %d", got, want)
	}
}
