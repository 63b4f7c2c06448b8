package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
)

const wrongDrops = "testdata/drops"

// grown has the sizes of dropped files that are too large for the repository. The test
// appends zeros to the stored files.
var grown = map[string]int{"photo-too-large/inbox/ads/cafe.job/woman.png": 10<<20 + 1}

// Each folder of testdata/drops is a bucket after a mistake that people make. Below inbox/
// is what was dropped, and below status/ and answers/ what the functions write. RunComfy
// is not called.
func TestWrongDrops(t *testing.T) {
	drops, err := os.ReadDir(wrongDrops)
	if err != nil {
		t.Fatal(err)
	}
	if len(drops) < 30 {
		t.Errorf("%d wrong drops, want at least 30", len(drops))
	}
	for _, drop := range drops {
		t.Run(drop.Name(), func(t *testing.T) {
			dir := filepath.Join(wrongDrops, drop.Name())
			dropped, expected := readBucket(t, dir)
			w := newWorld(t)
			for _, key := range slices.Sorted(maps.Keys(dropped)) {
				w.Drop(key, []byte(dropped[key]))
			}
			runUntilIdle(t, w)
			got := written(w)
			if calls := w.RunComfy.Calls(); calls != 0 {
				t.Errorf("RunComfy was called %d times", calls)
			}
			if !slices.ContainsFunc(slices.Collect(maps.Values(got)), saysWhatToDo) {
				t.Error("no status or answer file says what is wrong and what to do")
			}
			for key, body := range got {
				golden.Compare(t, filepath.Join(dir, filepath.FromSlash(key)), body)
			}
			for key := range expected {
				if _, ok := got[key]; ok {
					continue
				}
				t.Errorf("%s was not written", key)
				if golden.Update() {
					_ = os.Remove(filepath.Join(dir, filepath.FromSlash(key)))
				}
			}
		})
	}
}

// A rejected job succeeds after a person follows its remedy and, if the video is missing, drops the video.
func TestRemediesHelp(t *testing.T) {
	const react = `{"model": "sync/react-1", "input": {"video_url": "%s", "audio_url": "%s"%s}}`
	job := func(video, audio, more string) []byte { return fmt.Appendf(nil, react, video, audio, more) }
	tests := []struct {
		name   string
		drop   func(w *world.World)
		job    string
		remedy string // how the remedy ends
		repair func(w *world.World)
	}{
		{
			"an empty voice that came first",
			func(w *world.World) { w.Drop("inbox/talk.wav", nil) },
			"talk", "Then upload talk.wav again.",
			func(w *world.World) {
				w.Drop("inbox/talk.wav", mediaFile(t, "voice.wav"))
				w.Drop("inbox/talk.mp4", mediaFile(t, "talk.mp4"))
			},
		},
		{
			"an empty voice",
			func(w *world.World) {
				w.Drop("inbox/talk.wav", nil)
				w.Drop("inbox/talk.mp4", mediaFile(t, "talk.mp4"))
			},
			"talk", "Then upload talk.wav again.",
			func(w *world.World) { w.Drop("inbox/talk.wav", mediaFile(t, "voice.wav")) },
		},
		{
			"a voice under a wrong suffix",
			func(w *world.World) {
				w.Drop("inbox/talk.wav", mediaFile(t, "voice.mp3"))
				w.Drop("inbox/talk.mp4", mediaFile(t, "talk.mp4"))
			},
			"talk", "Rename talk.wav to talk.mp3. Upload the new file in place of talk.wav.",
			func(w *world.World) {
				w.Drop("inbox/talk.mp3", mediaFile(t, "voice.mp3"))
				w.Delete("inbox/talk.wav")
			},
		},
		{
			"two voices",
			func(w *world.World) {
				dropPair(t, w)
				w.Drop("inbox/ads/talk.mp3", mediaFile(t, "voice.mp3"))
			},
			"ads/talk", "Delete all but one of talk.mp3 and talk.wav: the remaining file is then assessed automatically.",
			func(w *world.World) { w.Delete("inbox/ads/talk.mp3") },
		},
		{
			"a clip of a bundle that is too long",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.wav", ""))
				w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "long.mp4"))
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.wav"))
			},
			"cafe", "Then upload talk.mp4 again.",
			func(w *world.World) { w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "talk.mp4")) },
		},
		{
			"a clip of a bundle that is a web page",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.wav", ""))
				w.Drop("inbox/cafe.job/talk.mp4", []byte("<html>Not found</html>"))
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.wav"))
			},
			"cafe", "Upload the new file in place of talk.mp4. If the new file has another name, name it in job.json, and upload job.json last.",
			func(w *world.World) { w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "talk.mp4")) },
		},
		{
			"a voice of a bundle under a wrong suffix",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.wav", ""))
				w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "talk.mp4"))
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.mp3"))
			},
			"cafe", "If the new file has another name, name it in job.json, and upload job.json last.",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/voice.mp3", mediaFile(t, "voice.mp3"))
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.mp3", ""))
			},
		},
		{
			"a clip of another folder that is too long, and a voice under a wrong suffix",
			func(w *world.World) {
				w.Drop("inbox/cast/talk.mp4", mediaFile(t, "long.mp4"))
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.mp3"))
				w.Drop("inbox/cafe.job/job.json", job("/inbox/cast/talk.mp4", "voice.wav", ""))
			},
			"cafe", "name it in job.json, and upload job.json last. Then upload inbox/cast/talk.mp4 and job.json again.",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/voice.mp3", mediaFile(t, "voice.mp3"))
				w.Drop("inbox/cast/talk.mp4", mediaFile(t, "talk.mp4"))
				w.Drop("inbox/cafe.job/job.json", job("/inbox/cast/talk.mp4", "voice.mp3", ""))
			},
		},
		{
			"a clip of another folder that is too long, and an empty voice",
			func(w *world.World) {
				w.Drop("inbox/cast/talk.mp4", mediaFile(t, "long.mp4"))
				w.Drop("inbox/cafe.job/voice.wav", nil)
				w.Drop("inbox/cafe.job/job.json", job("/inbox/cast/talk.mp4", "voice.wav", ""))
			},
			"cafe", "Then upload inbox/cast/talk.mp4 and voice.wav again.",
			func(w *world.World) {
				w.Drop("inbox/cast/talk.mp4", mediaFile(t, "talk.mp4"))
				w.Pass(time.Minute) // the second upload may come later
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.wav"))
			},
		},
		{
			"a wrong option, and a clip that is cut off",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.wav", `, "emotion": "joyful"`))
				w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "cut.mp4"))
				w.Drop("inbox/cafe.job/voice.wav", mediaFile(t, "voice.wav"))
			},
			"cafe", "Then upload talk.mp4 and job.json again.",
			func(w *world.World) {
				w.Drop("inbox/cafe.job/talk.mp4", mediaFile(t, "talk.mp4"))
				w.Drop("inbox/cafe.job/job.json", job("talk.mp4", "voice.wav", ""))
			},
		},
		{
			"a preset with a model that does not exist",
			func(w *world.World) {
				w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react1"}`))
				dropPair(t, w)
			},
			"ads/talk", "Then upload preset.json and the audio of the pair again.",
			func(w *world.World) {
				w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react-1"}`))
				w.Drop("inbox/ads/talk.wav", mediaFile(t, "voice.wav"))
			},
		},
		{
			"a preset of another model, and a voice under a wrong suffix",
			func(w *world.World) {
				w.Drop("inbox/preset.json", []byte(`{"model": "community/live-avatar"}`))
				w.Drop("inbox/talk.mp4", mediaFile(t, "talk.mp4"))
				w.Drop("inbox/talk.wav", mediaFile(t, "voice.mp3"))
			},
			"talk", "or remove the preset. Rename talk.wav to talk.mp3. Upload the new file in place of talk.wav.",
			func(w *world.World) {
				w.Delete("inbox/preset.json")
				w.Drop("inbox/talk.mp3", mediaFile(t, "voice.mp3"))
				w.Delete("inbox/talk.wav")
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.drop(w)
			runUntilIdle(t, w)
			if st := w.Status(tt.job); st.State != ledger.Rejected || !strings.HasSuffix(st.Remedy, tt.remedy) {
				t.Errorf("the status is %s (%s) with the remedy %q, want rejected with a remedy that ends with %q", st.State, st.Reason, st.Remedy, tt.remedy)
			}
			if calls := w.RunComfy.Calls(); calls != 0 {
				t.Errorf("RunComfy was called %d times", calls)
			}
			tt.repair(w)
			runUntilIdle(t, w)
			if st := w.Status(tt.job); st.State != ledger.Succeeded || w.RunComfy.Charges() != 1 {
				t.Errorf("after the repair the job is %s (%s) with %d charges, want succeeded with 1", st.State, st.Reason, w.RunComfy.Charges())
			}
		})
	}
}

// A file below inbox/a/../ gets an answer file below answers/a/__/.
func TestPathsThatLeadElsewhere(t *testing.T) {
	w := newWorld(t)
	w.Drop("inbox/a/../talk.mp4", mediaFile(t, "talk.mp4"))
	w.Drop("inbox/a/../talk.wav", mediaFile(t, "voice.wav"))
	runUntilIdle(t, w)
	got := written(w)
	for key, body := range got {
		if !strings.HasPrefix(key, "answers/a/__/talk.") || !strings.Contains(body, `"relative_path"`) || !saysWhatToDo(body) {
			t.Errorf("%s: %s; want an answer file that says what to do", key, body)
		}
	}
	if calls := w.RunComfy.Calls(); len(got) != 2 || calls != 0 {
		t.Errorf("%d answer files, want 2; %d calls, want none", len(got), calls)
	}
	w.Delete("inbox/a/../talk.wav")
	runUntilIdle(t, w)
	for key, body := range written(w) {
		if strings.Contains(key, ".wav") != strings.Contains(body, `"withdrawn"`) {
			t.Errorf("after the deletion of the voice, %s is %s; want withdrawn for the voice only", key, body)
		}
	}
}

// saysWhatToDo reports whether a status says what a person must do.
func saysWhatToDo(body string) bool {
	var st ledger.Status
	err := json.Unmarshal([]byte(body), &st)
	return err == nil && (st.State == ledger.Waiting || st.State == ledger.Rejected) && st.Code != "" && st.Reason != "" && st.Remedy != ""
}

// readBucket returns the files of a folder as the objects of a bucket: those that were
// dropped, and those that the functions are expected to write.
func readBucket(t *testing.T, dir string) (dropped, expected map[string]string) {
	t.Helper()
	dropped, expected = map[string]string{}, map[string]string{}
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(key string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, key)
		if strings.HasPrefix(key, ledger.InboxPrefix) {
			missing := max(grown[path.Join(filepath.Base(dir), key)]-len(body), 0)
			dropped[key] = string(append(body, make([]byte, missing)...))
		} else {
			expected[key] = string(body)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dropped, expected
}
