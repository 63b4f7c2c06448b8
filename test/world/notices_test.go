package world_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// An ending is what happens to drops, and the notices that follow if EventBridge accepts every
// notice.
type ending struct {
	name string
	play func(t *testing.T, w *world.World)
	want []string
}

var endings = []ending{
	{"a job", func(_ *testing.T, w *world.World) { dropPair(w) }, []string{"ads/talk succeeded"}},
	{"a job that fails at RunComfy", func(t *testing.T, w *world.World) {
		w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
			return runcomfytest.Script{Run: 80 * time.Second, Fail: "no face"}
		}
		dropPair(w)
	}, []string{"ads/talk failed"}},
	{"a job that is queued too long", func(t *testing.T, w *world.World) {
		w.RunComfy.Queue = 30 * time.Hour
		dropPair(w)
	}, []string{"ads/talk failed"}},
	{"a job that fails and is redriven", func(t *testing.T, w *world.World) {
		w.RunComfy.Queue, w.RunComfy.Run = 0, 26*time.Hour
		dropPair(w)
		w.Pass(27 * time.Hour)
		worldtest.Redrive(t, w)
	}, []string{"ads/talk failed", "ads/talk succeeded"}},
	{"a job whose file is deleted", func(t *testing.T, w *world.World) {
		queuePair(w)
		w.Delete("inbox/ads/talk.wav")
	}, []string{"ads/talk cancelled"}},
	{"a job whose execution is stopped", func(t *testing.T, w *world.World) {
		queuePair(w)
		w.Stop("ads/talk", w.Status("ads/talk").Take)
	}, []string{"ads/talk cancelled"}},
	{"a job that is cancelled on RunComfy's page", func(t *testing.T, w *world.World) {
		queuePair(w)
		if err := w.CancelElsewhere(w.Status("ads/talk").RequestID); err != nil {
			t.Error(err)
		}
	}, []string{"ads/talk cancelled"}},
	{"a POST without a response", func(t *testing.T, w *world.World) {
		faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "silence"), 0)
		dropPair(w)
	}, []string{"ads/talk unknown"}},
	{"a job that is held for hours", func(t *testing.T, w *world.World) {
		holdPair(w, 3*time.Hour)
	}, []string{"ads/talk held", "ads/talk succeeded"}},
	{"a job that is held until it is a dead letter", func(t *testing.T, w *world.World) {
		holdPair(w, 60*time.Hour)
	}, []string{"ads/talk held"}},
	{"a job that RunComfy refuses", func(t *testing.T, w *world.World) {
		faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "422"), 99*time.Hour)
		dropPair(w)
	}, []string{"ads/talk rejected"}},
	{"a file of no known kind", func(_ *testing.T, w *world.World) { w.Drop("inbox/ads/notes.txt", []byte("text")) }, []string{"ads/notes.txt rejected"}},
	{"a wrong pair, then a right one", func(t *testing.T, w *world.World) {
		worldtest.DropVoice(w)
		w.Drop("inbox/ads/talk.mp4", []byte("no video"))
		w.Pass(time.Hour)
		dropPair(w)
	}, []string{"ads/talk rejected", "ads/talk succeeded"}},
	{"a lone file", func(t *testing.T, w *world.World) {
		clip, _ := sample.Files()
		w.Drop("inbox/ads/talk.mp4", clip)
	}, nil},
	{"a pair that is dropped again while its job runs", func(t *testing.T, w *world.World) {
		dropPair(w)
		w.Pass(time.Minute)
		dropPair(w)
	}, []string{"ads/talk succeeded", "ads/talk succeeded"}},
}

func sentNotices(w *world.World) []string {
	var sent []string
	for _, n := range w.Notices {
		sent = append(sent, n.Name+" "+string(n.State))
	}
	return sent
}

// If EventBridge accepts every notice, every notice is sent once, however often the sweep runs
// and events are delivered again.
func TestNoticesWithoutFaults(t *testing.T) {
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.play(t, w)
			w.Pass(70 * time.Hour)
			for _, e := range w.Executions() {
				w.NotifyStatus(e.ARN, time.Minute)
			}
			st := w.Status("ads/talk")
			refused := st.State == ledger.Held || st.State == ledger.Rejected // another event would submit the job again
			for _, key := range w.Bucket.Keys() {
				if strings.HasPrefix(key, ledger.InboxPrefix) && !refused {
					w.Notify("Object Created", key, 0)
				}
			}
			w.Pass(3 * time.Hour)
			if diff := cmp.Diff(tt.want, sentNotices(w)); diff != "" {
				t.Errorf("notices (-want +sent):\n%s", diff)
			}
			wantNotices(t, w)
			ids := map[string]bool{}
			for _, n := range w.Notices {
				if ids[n.ID] || n.ID == "" || n.Bucket == "" || n.Stack != "lipdrop" || n.Link == "" || !strings.HasPrefix(n.Summary, n.Name+" ") {
					t.Errorf("a notice is incomplete, or its ID is not new: %+v; want every member, and a new ID", n)
				}
				ids[n.ID] = true
			}
		})
	}
}

// wantNotices expects a notice about each status, answer file and record whose state needs one,
// and no wrong notice.
func wantNotices(t *testing.T, w *world.World) {
	t.Helper()
	for _, wrong := range w.WrongNotices {
		t.Errorf("%s is wrong: its type does not fit its state, or its content was never in a status, answer file or record", wrong)
	}
	for _, key := range w.Bucket.Keys() {
		prefix, _, _ := strings.Cut(key, "/")
		if !slices.Contains([]string{"status", "answers", "jobs"}, prefix) {
			continue
		}
		var st struct {
			Name, Take string
			State      ledger.State
		}
		body, _ := w.Bucket.Object(key)
		if err := json.Unmarshal(body, &st); err != nil {
			t.Fatal(err)
		}
		sent := slices.ContainsFunc(w.Notices, func(n notice.Detail) bool { return n.Name == st.Name && n.State == st.State && n.Take == st.Take })
		if !sent && slices.Contains(notice.States(), st.State) {
			t.Errorf("%s is %s and has no notice, want one", key, st.State)
		}
	}
}

// Submit may die between any two calls while it rejects drops. Even so, each drop is rejected, and the
// notice about each rejection is sent.
func TestCrashAtEveryPointOfARejection(t *testing.T) {
	scenario := func(t *testing.T, w *world.World) {
		w.Drop("inbox/ads/notes.txt", []byte("text"))
		_, voice := sample.Files()
		w.Drop("inbox/ads/wrong.wav", voice)
		w.Drop("inbox/ads/wrong.mp4", []byte("no video"))
		rest(t, w)
		w.Pass(2 * time.Hour)
	}
	everyPoint(t, scenario, func(t *testing.T, w *world.World) {
		if st := w.Status("ads/wrong"); st.State != ledger.Rejected {
			t.Errorf("the status is %s, want rejected", st.State)
		}
		if _, ok := w.Bucket.Object("answers/ads/notes.txt.json"); !ok {
			t.Error("ads/notes.txt has no answer file, want one")
		}
	})
}

// contents returns what the functions wrote, how the executions ended, and what failed.
// It leaves out the members of a record that change if the notice about the take is sent later.
func contents(t *testing.T, w *world.World) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range w.Bucket.Keys() {
		body, _ := w.Bucket.Object(key)
		text := string(body)
		if strings.HasPrefix(key, "jobs/") {
			var rec map[string]any
			if err := json.Unmarshal(body, &rec); err != nil {
				t.Fatal(err)
			}
			delete(rec, "revision")
			delete(rec, "noticeDue")
			text = fmt.Sprint(rec)
		}
		all[key] = text
	}
	for _, e := range w.Executions() {
		all[e.ARN] = fmt.Sprint(e.Status, " ", e.Error, " ", e.Path())
	}
	all["failures"] = fmt.Sprint(len(w.Dead), " dead letters, ", w.DeadDeletions, w.Errors)
	return all
}

// If EventBridge accepts nothing for a day, the jobs end as without the outage. Afterwards the
// notices about takes are sent.
func TestEventBridgeIsDownForADay(t *testing.T) {
	for _, failure := range []struct {
		name    string
		err     error
		endings []ending
	}{{"no response", world.ErrBroken, endings[:2]}, {"an entry that fails", world.ErrEntry, endings}, {"throttled", world.Throttled, endings[:2]}} {
		for _, tt := range failure.endings {
			t.Run(failure.name+", "+tt.name, func(t *testing.T) {
				w, undisturbed := newWorld(t), newWorld(t)
				end := w.Now().Add(24 * time.Hour)
				w.Before = worldtest.FailIf(failure.err, func(c world.Call) bool { return c.Service == "events" && w.Now().Before(end) })
				for _, each := range []*world.World{w, undisturbed} {
					tt.play(t, each)
					each.Pass(30 * time.Hour)
				}
				if diff := cmp.Diff(contents(t, undisturbed), contents(t, w)); diff != "" {
					t.Errorf("the outage changed more than notices (-without outage +with outage):\n%s", diff)
				}
				if a, b := undisturbed.RunComfy.Charges(), w.RunComfy.Charges(); a != b {
					t.Errorf("charged %d times, want %d as without the outage", b, a)
				}
				for _, rec := range w.Takes("ads/talk") {
					sent := slices.ContainsFunc(w.Notices, func(n notice.Detail) bool { return n.Take == rec.Take && n.State == rec.State })
					if rec.NoticeDue || rec.State.Ended() && !sent {
						t.Errorf("after the outage, the take is %s: notice sent %t, noticeDue %t; want noticeDue false, and a sent notice if the take has ended", rec.State, sent, rec.NoticeDue)
					}
				}
			})
		}
	}
}

// If EventBridge accepts a request but not its event, the SDK sees no error and does not retry.
// lipdrop itself sends the event up to three times.
func TestEntryThatFailsIsSentThreeTimes(t *testing.T) {
	w := newWorld(t)
	calls := 0
	w.Before = func(c world.Call) error {
		if c.Service != "events" {
			return nil
		}
		calls++
		return world.ErrEntry
	}
	w.Drop("inbox/notes.txt", []byte("x"))
	rest(t, w)
	if calls != 3 {
		t.Errorf("%d calls of EventBridge for one notice, want 3", calls)
	}
}
