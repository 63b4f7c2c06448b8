package world_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// move moves a file, as a person does: it drops the file under the new key, and deletes the old key.
func move(w *world.World, from, to string) {
	body, _ := w.Bucket.Object(from)
	w.Drop(to, body)
	w.Delete(from)
	w.Pass(2 * time.Second)
}

// restore makes an older version of a file current again by deleting the newest one. The older
// version has the given body, and was dropped at the given time.
func restore(w *world.World, key string, body []byte, dropped time.Time) {
	w.PutLarge(key, body, dropped)
	w.Notify("Object Deleted", key, 0)
	w.NotifyCancel(key, "DeleteObject", 0)
	w.Pass(time.Hour)
}

// statuses returns the name, the state and the code of each status.
func statuses(w *world.World) (all []string) {
	for _, key := range w.Bucket.Keys() {
		if name, ok := strings.CutPrefix(key, "status/"); ok {
			st := w.Status(strings.TrimSuffix(name, ".json"))
			all = append(all, strings.TrimSpace(fmt.Sprint(st.Name, " ", st.State, " ", st.Code)))
		}
	}
	return all
}

// People rename, restore, delete and edit files, and delete and spoil records. Even so, each take is
// charged at most once, and each status says what happened.
func TestSequences(t *testing.T) {
	const bundle = "inbox/ads/talk.job/"
	clip, voice := sample.Files()
	react := func(audio string) []byte {
		return fmt.Appendf(nil, `{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": %q}}`, audio)
	}
	dropBundle := func(w *world.World, audio string) {
		w.Drop(bundle+"talk.mp4", clip)
		w.Drop(bundle+"talk.wav", voice)
		w.Drop(bundle+"job.json", react(audio))
		w.Pass(2 * time.Minute)
	}
	record := func(w *world.World) string { return ledger.RecordKey("ads/talk", w.Status("ads/talk").Take) }
	spoil := func(w *world.World) (good []byte) { // makes the record unreadable, waits 20 hours, and returns the old record
		good, _ = w.Bucket.Object(record(w))
		w.Bucket.Set(record(w), []byte("{}"))
		w.Pass(20 * time.Hour)
		return good
	}
	for _, tt := range []struct {
		name    string
		do      func(w *world.World)
		charges int // cancelled jobs count too
		want    []string
		warning string // in the status of ads/talk
	}{
		{"a queued pair is moved into a bundle of the same name", func(w *world.World) {
			queuePair(w)
			move(w, "inbox/ads/talk.mp4", bundle+"talk.mp4")
			move(w, "inbox/ads/talk.wav", bundle+"talk.wav")
			w.Drop(bundle+"job.json", react("talk.wav"))
		}, 2, []string{"ads/talk succeeded"}, ""},
		{"a queued bundle becomes a pair of the same name", func(w *world.World) {
			w.RunComfy.Queue = time.Hour
			dropBundle(w, "talk.wav")
			move(w, bundle+"talk.mp4", "inbox/ads/talk.mp4")
			move(w, bundle+"talk.wav", "inbox/ads/talk.wav")
			w.Pass(2 * time.Minute)
			w.Delete(bundle + "job.json")
		}, 2, []string{"ads/talk succeeded"}, ""},
		{"a job.json without a wildcard replaces one with a wildcard, and is deleted while all jobs are queued", func(w *world.World) {
			w.RunComfy.Queue = time.Hour
			dropBundle(w, "*.wav")
			w.Drop(bundle+"job.json", react("talk.wav"))
			w.Pass(2 * time.Minute)
			w.Delete(bundle + "job.json")
		}, 2, []string{"ads/talk cancelled cancelled_by_deletion", "ads/talk/talk cancelled cancelled_by_deletion"}, ""},
		{"job.json is edited while a file is missing", func(w *world.World) {
			dropBundle(w, "a.wav")
			w.Drop(bundle+"job.json", react("b.wav"))
			w.Pass(time.Minute)
			w.Drop(bundle+"a.wav", voice)
			w.Pass(time.Minute)
			w.Drop(bundle+"b.wav", voice)
			w.Pass(time.Minute)
			w.Notify("Object Created", bundle+"a.wav", 0)
		}, 1, []string{"ads/talk succeeded"}, "a.wav was uploaded, but job.json of this job does not use it."},
		{"talk.mp4 is renamed to talk.de.mp4 while talk.de is queued", func(w *world.World) {
			w.RunComfy.Queue = time.Hour
			w.Drop("inbox/ads/talk.mp4", clip)
			w.Drop("inbox/ads/talk.de.wav", voice)
			w.Pass(2 * time.Minute)
			move(w, "inbox/ads/talk.mp4", "inbox/ads/talk.de.mp4")
		}, 2, []string{"ads/talk.de succeeded", "ads/talk withdrawn files_gone"}, ""},
		{"the voice of a queued job is renamed to its other Unicode form", func(w *world.World) {
			w.RunComfy.Queue = time.Hour
			w.Drop("inbox/é.mp4", clip)
			w.Drop("inbox/é.wav", voice)
			w.Pass(2 * time.Minute)
			move(w, "inbox/é.wav", "inbox/e\u0301.wav")
		}, 2, []string{"é succeeded"}, ""},
		{"the voice is replaced twice while the job is held", func(w *world.World) {
			holdPair(w, 2*time.Hour)
			for range 2 {
				w.Pass(20 * time.Minute)
				w.Drop("inbox/ads/talk.wav", voice)
			}
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"the voice is deleted while the job is held, and uploaded again", func(w *world.World) {
			holdPair(w, 2*time.Hour)
			w.Pass(20 * time.Minute)
			w.Delete("inbox/ads/talk.wav")
			w.Pass(20 * time.Minute)
			w.Drop("inbox/ads/talk.wav", voice)
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"dead letters are redriven after another take has succeeded", func(w *world.World) {
			holdPair(w, 30*time.Hour)
			w.Pass(60 * time.Hour)
			w.Drop("inbox/ads/talk.wav", voice)
			w.Pass(time.Hour)
			w.RedriveDeadLetters()
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"every event comes twice and three days late, the deletion first", func(w *world.World) {
			w.Put("inbox/ads/talk.mp4", clip)
			w.Put("inbox/ads/talk.wav", voice)
			for range 2 {
				w.Notify("Object Deleted", "inbox/ads/talk.wav", 70*time.Hour)
				w.Notify("Object Created", "inbox/ads/talk.wav", 71*time.Hour)
				w.NotifyCancel("inbox/ads/talk.wav", "DeleteObject", 72*time.Hour)
				w.Notify("Object Created", "inbox/ads/talk.mp4", 73*time.Hour)
			}
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"a thumbnail arrives while the job runs, and is deleted after the job has ended", func(w *world.World) {
			dropPair(w)
			w.Pass(time.Minute)
			w.Drop("inbox/ads/talk.png", []byte("thumbnail"))
			w.Pass(time.Hour)
			w.Delete("inbox/ads/talk.png")
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"a file is deleted and the execution is stopped at the same time, and the execution is redriven later", func(w *world.World) {
			queuePair(w)
			w.Delete("inbox/ads/talk.wav")
			take := w.Takes("ads/talk")[0].Take
			w.Stop("ads/talk", take)
			w.Pass(10 * time.Minute)
			if err := w.Redrive("ads/talk", take); err != nil {
				t.Error(err)
			}
		}, 1, []string{"ads/talk cancelled cancelled_by_deletion"}, ""},
		{"a second stack with the same bucket", func(w *world.World) {
			second := newWorld(t)
			second.Bucket, second.RunComfy = w.Bucket, w.RunComfy
			dropPair(w)
			second.Notify("Object Created", "inbox/ads/talk.wav", 0)
			for range 600 {
				w.Pass(time.Second)
				second.Pass(time.Second)
			}
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"the newest version of the voice is deleted, and another language is dropped", func(w *world.World) {
			dropPair(w)
			first := w.Now()
			w.Pass(time.Hour)
			w.Drop("inbox/ads/talk.wav", slices.Concat(voice, []byte{0, 0}))
			w.Pass(time.Hour)
			w.Drop("inbox/ads/talk.mp4", clip)
			w.Pass(time.Hour)
			restore(w, "inbox/ads/talk.wav", voice, first)
			w.Drop("inbox/ads/talk.de.wav", voice)
		}, 4, []string{"ads/talk.de succeeded", "ads/talk succeeded"}, "A deletion starts no job"},
		{"the record is deleted right before RunComfy accepts the job", func(w *world.World) {
			w.Before = func(c world.Call) error {
				if c.Op == string(runcomfytest.CallSubmit) {
					w.Bucket.Remove(ledger.RecordKey("ads/talk", w.Takes("ads/talk")[0].Take))
				}
				return nil
			}
			dropPair(w)
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"the record is deleted before the output is archived", func(w *world.World) {
			w.Before = func(c world.Call) error {
				if c.Function == "archive" {
					w.Before = nil
					w.Bucket.Remove(record(w))
				}
				return nil
			}
			dropPair(w)
			w.Pass(5 * time.Minute)
		}, 1, []string{"ads/talk succeeded"}, "the record of this job was deleted"},
		{"the record becomes unreadable while the job runs", func(w *world.World) {
			w.RunComfy.Run = time.Hour
			dropPair(w)
			w.Pass(5 * time.Minute)
			spoil(w)
		}, 1, []string{"ads/talk in_progress"}, "so the state of this job is not recorded"},
		{"the record becomes unreadable while the job runs, and a person does what the warning says", func(w *world.World) {
			w.RunComfy.Run = time.Hour
			dropPair(w)
			w.Pass(5 * time.Minute)
			w.Bucket.Set(record(w), spoil(w)) // 20 hours later, the person restores the record
			if err := w.Redrive("ads/talk", w.Takes("ads/talk")[0].Take); err != nil {
				t.Error(err)
			}
		}, 1, []string{"ads/talk succeeded"}, ""},
		{"an unreadable record is deleted", func(w *world.World) {
			dropPair(w)
			w.Pass(time.Hour)
			w.Notify("Object Created", "inbox/ads/talk.mp4", 0)
			spoil(w)
			w.Bucket.Remove(record(w))
		}, 1, []string{"ads/talk held record_unreadable"}, ""},
		{"an unreadable record is deleted, and a person does what the remedy says", func(w *world.World) {
			dropPair(w)
			w.Pass(time.Hour)
			w.Notify("Object Created", "inbox/ads/talk.mp4", 0)
			spoil(w)
			w.Bucket.Remove(record(w))
			w.Drop("inbox/ads/talk.mp4", clip)
		}, 2, []string{"ads/talk succeeded"}, ""},
		{"the record of a held job becomes unreadable, and is restored", func(w *world.World) {
			holdPair(w, time.Hour)
			w.Pass(10 * time.Minute)
			w.Bucket.Set(record(w), spoil(w))
		}, 1, []string{"ads/talk succeeded"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.do(w)
			rest(t, w)
			w.Pass(2 * time.Hour)
			wantCharges(t, w, tt.charges)
			if diff := cmp.Diff(tt.want, statuses(w)); diff != "" || len(w.Dead)+len(w.DeadDeletions) > 0 {
				t.Errorf("%d dead letters, want none; statuses (-want +got):\n%s", len(w.Dead)+len(w.DeadDeletions), diff)
			}
			if warnings := w.Status("ads/talk").Warnings; !strings.Contains(strings.Join(warnings, "\n"), tt.warning) {
				t.Errorf("warnings %q, want one that says %q", warnings, tt.warning)
			}
			wantNotices(t, w)
		})
	}
}
