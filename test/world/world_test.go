package world_test

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// media returns the project's own clip and voice.
func media(t *testing.T) (clip, voice []byte) {
	t.Helper()
	clip, voice, err := world.Sample()
	if err != nil {
		t.Fatal(err)
	}
	return clip, voice
}

func newWorld(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(rand.New(rand.NewPCG(1, 2)).Float64)
	if err != nil {
		t.Fatal(err)
	}
	w.RunComfy.Queue, w.RunComfy.Run = 20*time.Second, 80*time.Second
	return w
}

// dropPair drops a pair named ads/talk.
func dropPair(t *testing.T, w *world.World) {
	t.Helper()
	clip, voice := media(t)
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Drop("inbox/ads/talk.wav", voice)
}

// dropOnce drops the pair ads/talk with a single event.
func dropOnce(t *testing.T, w *world.World) {
	t.Helper()
	clip, voice := media(t)
	w.Put("inbox/ads/talk.mp4", clip)
	w.Drop("inbox/ads/talk.wav", voice)
}

// faulty makes a call of RunComfy go wrong until a time has passed, or, where
// that is 0, once. It counts the calls that went wrong.
func faulty(w *world.World, call runcomfytest.Call, fault runcomfytest.Fault, lasts time.Duration) *int {
	count, end := 0, w.Now().Add(lasts)
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		made, _ := runcomfytest.CallOf(r)
		if made != call || lasts == 0 && count > 0 || lasts > 0 && w.Now().After(end) {
			return nil
		}
		count++
		return &fault
	}
	return &count
}

// named returns a fault of a call by its name.
func named(t *testing.T, call runcomfytest.Call, name string) runcomfytest.Fault {
	t.Helper()
	for _, fault := range runcomfytest.Faults(call) {
		if fault.Name == name {
			return fault
		}
	}
	t.Fatalf("%s has no fault %q", call, name)
	return runcomfytest.Fault{}
}

// rest lets a month pass at most.
func rest(t *testing.T, w *world.World) {
	t.Helper()
	if !w.Run(30 * 24 * time.Hour) {
		t.Error("not at rest after a month")
	}
}

// wantArchived expects the job ads/talk to be archived, and paid for once.
func wantArchived(t *testing.T, w *world.World) {
	t.Helper()
	st := wantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	wantCharges(t, w, 1)
	clip, _ := media(t)
	if len(st.Outputs) != 1 {
		t.Errorf("outputs %v, want one", st.Outputs)
		return
	}
	if got, _ := w.Bucket.Object(st.Outputs[0]); string(got) != string(clip) {
		t.Error("the output is not what RunComfy served")
	}
	if rec, _ := w.Record("ads/talk", st.Take); rec.State != ledger.Succeeded {
		t.Errorf("the record is %s, want %s", rec.State, ledger.Succeeded)
	}
}

func wantStatus(t *testing.T, w *world.World, name string, state ledger.State, code problem.Code) ledger.Status {
	t.Helper()
	st := w.Status(name)
	if st.State != state || st.Code != code {
		t.Errorf("status of %s is %s %s (%s), want %s %s", name, st.State, st.Code, st.Reason, state, code)
	}
	return st
}

func wantCharges(t *testing.T, w *world.World, want int) {
	t.Helper()
	if got := w.RunComfy.Charges(); got != want {
		t.Errorf("%d charges, want %d", got, want)
	}
}

func TestPairIsArchived(t *testing.T) {
	w := newWorld(t)
	dropPair(t, w)
	if !w.Run(time.Hour) {
		t.Fatal("not at rest after an hour")
	}
	st := wantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	wantCharges(t, w, 1)
	if len(st.Outputs) != 1 || !strings.HasPrefix(st.Outputs[0], "outbox/ads/talk/"+st.Take+"/talk.mp4") {
		t.Errorf("outputs: %v", st.Outputs)
	}
	clip, _ := media(t)
	got, _ := w.Bucket.Object(st.Outputs[0])
	if string(got) != string(clip) {
		t.Error("the output is not what RunComfy served")
	}
	path := w.Path("ads/talk", st.Take)
	if diff := cmp.Diff([]string{"Wait", "Poll", "Ended?"}, path[:3]); diff != "" || path[len(path)-1] != "Archive" {
		t.Errorf("path: %v", path)
	}
}
