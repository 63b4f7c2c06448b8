package runcomfytest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

func TestARestartGoesOnWithTheJobs(t *testing.T) {
	dir, c, files := filepath.Join(t.TempDir(), "a [b"), &clock{noon}, pairFiles() // Load must not read the folder as a pattern
	start := func() (*runcomfytest.Server, *runcomfy.Client) {
		fake := &runcomfytest.Server{
			Dir: dir, Now: c.Now, Fetch: files.fetch, FetchAtStart: true,
			Script: func(_ string, input map[string]any) runcomfytest.Script {
				return runcomfytest.Script{Queue: time.Minute, Run: time.Minute, Fail: input["fail"]}
			},
		}
		if err := fake.Load(); err != nil {
			t.Fatal(err)
		}
		return fake, clientOf(fake, "t")
	}
	_, client := start()
	good := submit(t, client, pair())
	bad := submit(t, client, map[string]any{"video_url": videoURL, "fail": "no face"})
	gone := submit(t, client, pair())
	if _, err := client.Cancel(t.Context(), gone); err != nil {
		t.Fatal(err)
	}

	fake, client := start()
	if fake.Charges() != 3 || !cmp.Equal(fake.Cancelled(), []string{gone}) {
		t.Errorf("%d charges, cancelled %v; want 3, and only %s", fake.Charges(), fake.Cancelled(), gone)
	}
	if status, err := client.Status(t.Context(), good); err != nil || status.State != runcomfy.InQueue {
		t.Errorf("status %q, error %v; want in_queue", status.State, err)
	}
	c.advance(time.Minute)
	for _, id := range []string{good, bad} {
		if status, err := client.Status(t.Context(), id); err != nil || status.State != runcomfy.InProgress {
			t.Errorf("status %q, error %v; want in_progress", status.State, err)
		}
	}

	files.content = nil // the Server must use what it has stored
	fake, client = start()
	c.advance(time.Minute)
	if fourth := submit(t, client, map[string]any{}); fourth == good || fourth == bad || fourth == gone {
		t.Errorf("the new job has the id %s of an earlier job, want a new id", fourth)
	}
	states := []string{}
	for _, job := range fake.Submitted()[:3] {
		states = append(states, job.State)
	}
	if diff := cmp.Diff([]string{"succeeded", "failed", "cancelled"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if result, err := client.Result(t.Context(), bad); err != nil || result.Failure != "no face" {
		t.Errorf("failure %q, error %v; want no face", result.Failure, err)
	}
	result, err := client.Result(t.Context(), good)
	if err != nil || len(result.Outputs) != 1 {
		t.Fatalf("result %+v, error %v; want one output", result, err)
	}
	if status, _, body := get(t, fake, "GET", result.Outputs[0], nil); status != 200 || body != "the video" {
		t.Errorf("HTTP %d %q, want 200 and the video", status, body)
	}
}

// A person may delete a damaged record. The id of a new job must not depend on how many records
// are left.
func TestANewJobHasANewIDAfterARecordWasDeleted(t *testing.T) {
	dir := t.TempDir()
	start := func() *runcomfy.Client {
		fake := &runcomfytest.Server{Dir: dir}
		if err := fake.Load(); err != nil {
			t.Fatal(err)
		}
		return clientOf(fake, "t")
	}
	client := start()
	first, second := submit(t, client, map[string]any{}), submit(t, client, map[string]any{})
	if err := os.Remove(filepath.Join(dir, first+".json")); err != nil {
		t.Fatal(err)
	}
	if third := submit(t, start(), map[string]any{}); third == second {
		t.Errorf("the new job has the id %s of an earlier job, want a new id", third)
	}
}
