package world_test

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
)

// media returns the project's own clip and voice.
func media(t *testing.T) (clip, voice []byte) {
	t.Helper()
	clip, err := os.ReadFile("../../internal/local/sample/clip.mp4")
	if err != nil {
		t.Fatal(err)
	}
	if voice, err = os.ReadFile("../../internal/local/sample/voice.wav"); err != nil {
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

func wantStatus(t *testing.T, w *world.World, name string, state ledger.State, code ledger.Code) ledger.Status {
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
