package e2e

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// One file is enough to add a model. A bundle and a pair run with the new model.
func TestNewModelIsOneFile(t *testing.T) {
	const id = "acme/talker-2.1/portrait"
	folder := t.TempDir()
	for _, source := range []string{"models", "testdata/talker"} {
		if err := os.CopyFS(folder, os.DirFS("../../internal/catalog/"+source)); err != nil {
			t.Fatal(err)
		}
	}
	models, err := catalog.Load(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(shipped.IDs(), id))), models.IDs()); diff != "" {
		t.Fatalf("models (-want +got):\n%s", diff)
	}
	w, err := world.NewWith(models, rand.New(rand.NewPCG(1, 2)).Float64)
	if err != nil {
		t.Fatal(err)
	}
	portrait, speech := mediaFile(t, "portrait.png"), mediaFile(t, "voice.wav")
	w.Drop("inbox/cafe.job/ann.png", portrait)
	w.Drop("inbox/cafe.job/hello.wav", speech)
	w.Drop("inbox/cafe.job/job.json", []byte(`{"model": "`+id+`", "input": {"portrait": "ann.png", "speech": "hello.wav", "mood": "lively", "strength": 1.5}}`))
	w.Drop("inbox/ads/preset.json", []byte(`{"model": "`+id+`", "input": {"seed": 7}}`))
	w.Drop("inbox/ads/ann.png", portrait)
	w.Drop("inbox/ads/ann.wav", speech)
	runUntilIdle(t, w)

	for name, want := range map[string]map[string]any{
		"cafe":    {"mood": "lively", "strength": 1.5},
		"ads/ann": {"mood": "calm", "pieces": 2.0, "seed": 7.0},
	} {
		st := w.Status(name)
		if st.State != ledger.Succeeded || st.Model != id || len(st.Outputs) != 1 {
			t.Fatalf("the status of %s is %+v, want succeeded by %s, with one output", name, st, id)
		}
		if got, _ := w.Bucket.Object(st.Outputs[0]); string(got) != string(portrait) {
			t.Errorf("the output of %s is not the portrait that was dropped", name)
		}
		job, _ := w.RunComfy.Job(st.RequestID)
		if diff := cmp.Diff(want, withoutURLs(t, job, "portrait", "speech")); diff != "" {
			t.Errorf("input sent for %s (-want +got):\n%s", name, diff)
		}
	}
	if charges := w.RunComfy.Charges(); charges != 2 {
		t.Errorf("%d charges, want 2", charges)
	}
}

// withoutURLs returns the input that was sent, without the media. It reports media that
// were not sent.
func withoutURLs(t *testing.T, job runcomfytest.Job, media ...string) map[string]any {
	t.Helper()
	for _, property := range media {
		if url, _ := job.Input[property].(string); url == "" {
			t.Errorf("%s was not sent", property)
		}
		delete(job.Input, property)
	}
	return job.Input
}
