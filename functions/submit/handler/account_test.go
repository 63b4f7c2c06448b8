package handler_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// Trouble with the token or the account holds every job, and each status says what to do. After
// the repair each job is submitted once: at the queue's next delivery or, if the trouble lasted
// longer than a day, after a redrive of the dead letters.
func TestAccountTrouble(t *testing.T) {
	tests := []struct {
		name       string
		code       problem.Code
		remedy     string
		begin, end func(w *world.World) // of the trouble
	}{
		{
			"no token is set", problem.TokenMissing, "put-secret-value",
			func(w *world.World) { w.Secret = "" }, func(w *world.World) { w.Secret = world.Token },
		},
		{
			"the secret has no token in it", problem.TokenMissing, "put-secret-value",
			func(w *world.World) { w.Secret = `{"key": "canary"}` }, func(w *world.World) { w.Secret = `{"token": "` + world.Token + `"}` },
		},
		{
			"the secret cannot be read", problem.TokenUnreadable, "may read the secret",
			func(w *world.World) {
				w.Before = worldtest.FailIf(world.ErrBroken, func(c world.Call) bool { return c.Service == "secretsmanager" })
			},
			func(w *world.World) { w.Before = nil },
		},
		{
			"the token has a line break in it", problem.TokenUnreadable, "holds the token",
			func(w *world.World) {
				w.Secret = `{"token": "canary\nof another line"}`
				w.Before = func(c world.Call) error {
					if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") {
						t.Errorf("%s is claimed without a token, want no claim", c.Key)
					}
					return nil
				}
			},
			func(w *world.World) { w.Secret, w.Before = world.Token, nil },
		},
		{
			"the token is wrong", problem.TokenRefused, "put-secret-value",
			func(w *world.World) { w.Secret = "canary-of-another" }, func(w *world.World) { w.Secret = world.Token },
		},
		{
			"the balance is empty", problem.NoBalance, "Top up",
			func(w *world.World) { w.RunComfy.SetBalanceEmpty(true) }, func(w *world.World) { w.RunComfy.SetBalanceEmpty(false) },
		},
		{
			"the balance is empty, until the token of another account is set", problem.NoBalance, "Top up",
			func(w *world.World) {
				w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
					if call, _ := runcomfytest.CallOf(r); call != runcomfytest.CallSubmit || !strings.HasSuffix(r.Header.Get("Authorization"), " "+world.Token) {
						return nil
					}
					fault := runcomfytest.FaultNamed(runcomfytest.CallSubmit, "402")
					return &fault
				}
			},
			func(w *world.World) {
				w.Secret = "canary-of-another"
				w.RunComfy.SetToken(w.Secret)
			},
		},
	}
	const jobs = 2
	for _, tt := range tests {
		for _, lasts := range []time.Duration{5 * time.Hour, 30 * time.Hour} {
			t.Run(fmt.Sprintf("%s for %v", tt.name, lasts), func(t *testing.T) {
				w := worldtest.New(t)
				w.Batch = 10
				tt.begin(w)
				worldtest.DropMany(w, "%d", jobs)
				w.Pass(lasts)
				worldtest.WantCharges(t, w, 0)
				for i := range jobs {
					st := worldtest.WantStatus(t, w, fmt.Sprint(i), ledger.Held, tt.code)
					if over := strings.Contains(st.Reason, "no longer retries"); over != (lasts > 24*time.Hour) {
						t.Errorf("after %v: reason %q, want it to say \"no longer retries\" only after a day", lasts, st.Reason)
					}
					if !strings.Contains(st.Remedy, tt.remedy) && lasts < 24*time.Hour {
						t.Errorf("remedy %q, want %q in it", st.Remedy, tt.remedy)
					}
				}
				tt.end(w)
				if lasts > 24*time.Hour {
					if len(w.Dead) != 2*jobs { // a message for each file
						t.Errorf("%d dead letters, want %d", len(w.Dead), 2*jobs)
					}
					w.RedriveDeadLetters()
				}
				w.Pass(2 * time.Hour)
				for i := range jobs {
					worldtest.WantStatus(t, w, fmt.Sprint(i), ledger.Succeeded, "")
				}
				worldtest.WantCharges(t, w, jobs)
			})
		}
	}
}

// A held match is withdrawn when job.json is deleted, and stays held if a changed job.json
// still names it. b is the name of a match and of a pair. Once job.json no longer names the match,
// the status of b is about the pair.
func TestHeldMatchesAreWithdrawn(t *testing.T) {
	clip, _ := sample.Files()
	for _, tt := range []struct {
		change  func(w *world.World)
		state   ledger.State // of the match a, after the change
		code    problem.Code
		charges int
	}{
		{func(w *world.World) { w.Delete(bundle + "job.json") }, ledger.Withdrawn, problem.NoLongerNamed, 0},
		{func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "a*.wav")) }, ledger.Held, problem.NoBalance, 1},
	} {
		w := worldtest.New(t)
		w.RunComfy.SetBalanceEmpty(true)
		dropBundle(w, "*.wav", "a.wav", "b.wav")
		w.Drop("inbox/ads/cafe/b.mp4", clip) // the video of the pair b
		w.Pass(time.Hour)
		worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Held, problem.NoBalance)
		worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Rejected, problem.Ambiguous)
		tt.change(w)
		w.Pass(time.Hour)
		worldtest.WantStatus(t, w, "ads/cafe/a", tt.state, tt.code)
		worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Waiting, problem.WaitingForAudio)
		w.RunComfy.SetBalanceEmpty(false)
		worldtest.Rest(t, w)
		worldtest.WantCharges(t, w, tt.charges)
	}
}

// A file is uploaded beside the files of a submitted job, and S3 refuses each HEAD of the
// file. The job's status warns about the file, and the message about the upload does not
// become a dead letter.
func TestRefusedFileBesideASubmittedJob(t *testing.T) {
	w := worldtest.New(t)
	_, voice := sample.Files()
	dropBundle(w, "talk.wav", "talk.wav")
	w.Run(10 * time.Minute)
	w.Before = worldtest.FailIf(s3test.Error(http.StatusBadRequest, "BadRequest"), func(c world.Call) bool { return c.Key == bundle+"more.wav" && c.Op == "HeadObject" })
	w.Drop(bundle+"more.wav", voice)
	w.Pass(32 * time.Hour)
	if len(w.Dead) > 0 {
		t.Errorf("%d dead letters, want none", len(w.Dead))
	}
	st := worldtest.WantStatus(t, w, "ads/cafe", ledger.Succeeded, "")
	if !slices.ContainsFunc(st.Warnings, func(text string) bool { return strings.HasPrefix(text, "more.wav was uploaded, but job.json") }) {
		t.Errorf("warnings %q, want one about more.wav", st.Warnings)
	}
}

// atFirstMessage calls the function do right before submit sends its first message.
func atFirstMessage(t *testing.T, w *world.World, do func()) {
	t.Helper()
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Service == "sqs" }, do)
}

// job.json is deleted. Before submit sends messages about the matches, a job.json that does not name
// the match b is stored, without an event. A second upload of this job.json withdraws b.
func TestManifestIsBackWhileMessagesWait(t *testing.T) {
	w := worldtest.New(t)
	_, voice := sample.Files()
	w.Drop(bundle+"a.wav", voice)
	w.Drop(bundle+"b.wav", voice)
	w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
	w.Run(10 * time.Minute)
	worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Waiting, problem.WaitingForFiles)
	atFirstMessage(t, w, func() { w.Put(bundle+"job.json", react("talk.mp4", "a*.wav")) })
	w.Delete(bundle + "job.json")
	w.Run(10 * time.Minute)
	w.Drop(bundle+"job.json", react("talk.mp4", "a*.wav"))
	w.Run(10 * time.Minute)
	worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Withdrawn, problem.NoLongerNamed)
	worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Waiting, problem.WaitingForFiles)
}

// job.json is deleted. Before submit sends messages about the matches, job.json is put back. These
// messages start no job. Only the event of job.json may start jobs, and at most MaxJobsPerDrop jobs.
func TestMessagesOfMatchesStartNothing(t *testing.T) {
	manifest := react("talk.mp4", "*.wav")
	w := worldtest.New(t)
	setMaxJobs(w, 1)
	clip, voice := sample.Files()
	w.Put(bundle+"talk.mp4", clip)
	for _, name := range []string{"a", "b", "c"} {
		w.Put(bundle+name+".wav", voice)
	}
	w.Drop(bundle+"job.json", manifest)
	w.Run(10 * time.Minute)
	worldtest.WantStatus(t, w, "ads/cafe/c", ledger.Held, problem.TooManyJobs)
	atFirstMessage(t, w, func() { w.Put(bundle+"job.json", manifest) })
	w.Delete(bundle + "job.json")
	w.Run(10 * time.Minute)
	worldtest.WantCharges(t, w, 1)
}

// If job.json becomes wrong, each match that did not run becomes withdrawn. When job.json is right
// again, submit starts these matches.
func TestMatchesOfAWrongManifest(t *testing.T) {
	right := react("talk.mp4", "*.wav")
	wrong := []struct {
		name     string
		manifest []byte
	}{
		{"not JSON", []byte("{")},
		{"a wrong option", []byte(`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "*.wav", "emotion": "joyful"}}`)},
		{"an unknown model", []byte(`{"model": "sync/react-9", "input": {"video_url": "talk.mp4", "audio_url": "*.wav"}}`)},
		{"a file that is not there", react("/inbox/shared/talk.mp4", "*.wav")},
		{"a second wildcard", react("*.mp4", "*.wav")},
	}
	clip, voice := sample.Files()
	states := []struct {
		state ledger.State
		begin func(w *world.World)
		end   func(w *world.World) // repairs what kept the match from running
	}{
		{ledger.Held, func(w *world.World) {
			w.RunComfy.SetBalanceEmpty(true)
			w.Drop(bundle+"talk.mp4", clip)
			w.Drop(bundle+"a.wav", voice)
		}, func(w *world.World) { w.RunComfy.SetBalanceEmpty(false) }},
		{ledger.Waiting, func(w *world.World) { w.Drop(bundle+"a.wav", voice) }, func(w *world.World) { w.Drop(bundle+"talk.mp4", clip) }},
		{ledger.Rejected, func(w *world.World) {
			w.Drop(bundle+"talk.mp4", clip)
			w.Drop(bundle+"a.wav", []byte("no audio"))
		}, func(w *world.World) { w.Drop(bundle+"a.wav", voice) }},
	}
	for _, tt := range wrong {
		for _, s := range states {
			t.Run(fmt.Sprintf("%s, %s before", tt.name, s.state), func(t *testing.T) {
				w := worldtest.New(t)
				s.begin(w)
				w.Drop(bundle+"job.json", right)
				w.Pass(time.Hour)
				if st := w.Status("ads/cafe/a"); st.State != s.state {
					t.Fatalf("with a right job.json the match is %s %s, want %s", st.State, st.Code, s.state)
				}
				w.Drop(bundle+"job.json", tt.manifest)
				w.Pass(time.Hour)
				const reason = "the job.json of ads/cafe is wrong, was deleted, or no longer names a"
				if st := worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Withdrawn, problem.NoLongerNamed); st.Reason != reason || !strings.HasSuffix(st.Remedy, problem.AllMatches) {
					t.Errorf("reason %q, remedy %q; want %q, and a remedy that ends with AllMatches", st.Reason, st.Remedy, reason)
				}
				s.end(w)
				w.Pass(time.Hour)
				worldtest.WantCharges(t, w, 0)
				w.Drop(bundle+"job.json", right)
				worldtest.Rest(t, w)
				worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Succeeded, "")
				worldtest.WantCharges(t, w, 1)
			})
		}
	}
}

// A match's file is deleted. Then job.json is deleted, changed or kept, and the file is uploaded again.
// The status of the match no longer says that the file was deleted.
func TestMatchUploadedAgain(t *testing.T) {
	_, voice := sample.Files()
	for _, tt := range []struct {
		name   string
		change func(w *world.World)
		want   problem.Code
	}{
		{"job.json is deleted", func(w *world.World) { w.Delete(bundle + "job.json") }, problem.NoLongerNamed},
		{"job.json names other files", func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "b*.wav")) }, problem.NoLongerNamed},
		{"job.json is broken", func(w *world.World) { w.Drop(bundle+"job.json", []byte("{")) }, problem.NoLongerNamed},
		{"job.json stays", func(*world.World) {}, problem.WaitingForFiles},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
			w.Drop(bundle+"a.wav", voice)
			w.Pass(time.Hour)
			w.Delete(bundle + "a.wav")
			w.Pass(time.Hour)
			worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Withdrawn, problem.FilesGone)
			tt.change(w)
			w.Pass(time.Hour)
			worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Withdrawn, problem.FilesGone)
			w.Drop(bundle+"a.wav", voice)
			w.Pass(time.Hour)
			if st := w.Status("ads/cafe/a"); st.Code != tt.want {
				t.Errorf("status %s %s (%s), want %s", st.State, st.Code, st.Reason, tt.want)
			}
		})
	}
}

// If S3 refuses to return a file of a bundle, the statuses of the bundle's matches stay as
// they are. A held match is submitted when S3 returns the file again, or withdrawn when
// job.json is deleted.
func TestMatchesOfARefusedFile(t *testing.T) {
	for _, refused := range []string{"job.json", "talk.mp4"} {
		for _, deleted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s is refused, job.json deleted: %t", refused, deleted), func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.SetBalanceEmpty(true)
				dropBundle(w, "*.wav", "a.wav")
				w.Pass(time.Hour)
				worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Held, problem.NoBalance)
				w.Before = worldtest.FailIf(s3test.Error(400, "BadRequest"), func(c world.Call) bool {
					return c.Key == bundle+refused && (c.Op == "GetObject" || c.Op == "HeadObject")
				})
				w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
				w.Pass(time.Hour)
				worldtest.WantStatus(t, w, "ads/cafe", ledger.Held, problem.MediaForbidden)
				worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Held, problem.NoBalance)
				if deleted {
					w.Delete(bundle + "job.json")
					w.Pass(time.Hour)
					worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Withdrawn, problem.NoLongerNamed)
					return
				}
				w.Before = nil
				w.RunComfy.SetBalanceEmpty(false)
				worldtest.Rest(t, w)
				worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Succeeded, "")
				worldtest.WantCharges(t, w, 1)
			})
		}
	}
}

// A bundle's status may list only the bundle's first matches. If job.json no longer names the
// matches beyond this list, they are withdrawn too. If job.json still names them, they are held,
// because submit starts at most MaxJobsPerDrop jobs.
func TestMatchesBeyondTheListOfAChangedManifest(t *testing.T) {
	const listed, matches = 5, 8
	_, voice := sample.Files()
	tests := []struct {
		name    string
		change  func(w *world.World)
		state   ledger.State // of the matches beyond the list
		charges int
	}{
		{"narrowed", func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "m000.*")) }, ledger.Withdrawn, 0},
		{"narrowed, after the last match was uploaded again", func(w *world.World) {
			st := w.Status("ads/cafe")
			st.Jobs = append(st.Jobs, "ads/cafe/m007")
			w.Bucket.Set(ledger.StatusKey("ads/cafe"), bucket.JSON(st, ""))
			w.Drop(bundle+"job.json", react("talk.mp4", "m000.*"))
		}, ledger.Withdrawn, 0},
		{"broken", func(w *world.World) { w.Drop(bundle+"job.json", []byte("{")) }, ledger.Withdrawn, 0},
		{"deleted", func(w *world.World) { w.Delete(bundle + "job.json") }, ledger.Withdrawn, 0},
		{"refused by S3, then deleted", func(w *world.World) {
			w.Before = worldtest.FailIf(s3test.Error(400, "BadRequest"), func(c world.Call) bool { return c.Key == bundle+"job.json" && c.Op == "GetObject" })
			w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
			w.Pass(time.Minute)
			worldtest.WantStatus(t, w, "ads/cafe", ledger.Held, problem.MediaForbidden)
			w.Delete(bundle + "job.json")
		}, ledger.Withdrawn, 0},
		{"uploaded again, with its video", func(w *world.World) {
			clip, _ := sample.Files()
			w.Put(bundle+"talk.mp4", clip)
			w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
		}, ledger.Held, listed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			setMaxJobs(w, listed)
			for i := range matches {
				w.Put(fmt.Sprintf("%sm%03d.wav", bundle, i), voice)
			}
			w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
			w.Pass(time.Minute)
			for i := range matches {
				worldtest.WantStatus(t, w, fmt.Sprintf("ads/cafe/m%03d", i), ledger.Waiting, problem.WaitingForFiles)
			}
			st := w.Status("ads/cafe")
			st.Jobs, st.Warnings = st.Jobs[:listed], []string{"only the first 5 of 8 jobs are named here"}
			w.Bucket.Set(ledger.StatusKey("ads/cafe"), bucket.JSON(st, ""))
			tt.change(w)
			w.Pass(time.Minute)
			for i := listed; i < matches; i++ {
				if st := w.Status(fmt.Sprintf("ads/cafe/m%03d", i)); st.State != tt.state {
					t.Errorf("match %d is %s %s, want %s", i, st.State, st.Code, tt.state)
				}
			}
			worldtest.WantCharges(t, w, tt.charges)
		})
	}
}

// A bundle's status lists only the bundle's first matches, and the matches are held. job.json changes.
// Before its event, submit assesses another file of the bundle. The matches that job.json no longer
// names are withdrawn, even those beyond the list, and start no job.
func TestAnotherFileBeforeTheEventOfAChangedManifest(t *testing.T) {
	const listed, matches = 5, 8
	clip, voice := sample.Files()
	put := func(audio string) func(w *world.World) {
		return func(w *world.World) {
			w.Put(bundle+"job.json", react("talk.mp4", audio))
			w.Notify("Object Created", bundle+"job.json", 3*time.Hour)
		}
	}
	changes := []struct {
		name   string
		change func(w *world.World)
		named  int // how many matches job.json still names
		jobs   int // that job.json asks for
	}{
		{"narrowed", put("m000.*"), 1, 1},
		{"without a wildcard", put("m007.wav"), 0, 1},
		{"names a missing file", put("other.wav"), 0, 0},
		{"deleted", func(w *world.World) {
			w.Bucket.Remove(bundle + "job.json")
			w.Notify("Object Deleted", bundle+"job.json", 3*time.Hour)
		}, 0, 0},
	}
	before := []struct {
		name  string
		event func(w *world.World)
	}{
		{"a listed match", func(w *world.World) { w.Drop(bundle+"m001.wav", voice) }},
		{"a match beyond the list", func(w *world.World) { w.Drop(bundle+"m006.wav", voice) }},
		{"the video", func(w *world.World) { w.Drop(bundle+"talk.mp4", clip) }},
		{"the next tries of the matches", func(*world.World) {}},
	}
	for _, c := range changes {
		for _, b := range before {
			t.Run(c.name+", "+b.name, func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.SetBalanceEmpty(true)
				w.Put(bundle+"talk.mp4", clip)
				for i := range matches {
					w.Put(fmt.Sprintf("%sm%03d.wav", bundle, i), voice)
				}
				w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
				w.Pass(time.Hour)
				worldtest.WantStatus(t, w, "ads/cafe/m007", ledger.Held, problem.NoBalance)
				st := w.Status("ads/cafe")
				st.Jobs, st.Warnings = st.Jobs[:listed], []string{"only the first 5 of 8 jobs are named here"}
				w.Bucket.Set(ledger.StatusKey("ads/cafe"), bucket.JSON(st, ""))
				c.change(w)
				b.event(w)
				w.Pass(6 * time.Hour)
				for i := c.named; i < matches; i++ {
					worldtest.WantStatus(t, w, fmt.Sprintf("ads/cafe/m%03d", i), ledger.Withdrawn, problem.NoLongerNamed)
				}
				w.RunComfy.SetBalanceEmpty(false)
				worldtest.Rest(t, w)
				worldtest.WantCharges(t, w, c.jobs)
			})
		}
	}
}

// A bundle's status warns about an unused file. A new job.json does not start a held pair whose name
// begins with the bundle's name.
func TestJobsBesideABundleWithAWarning(t *testing.T) {
	clip, voice := sample.Files()
	w := worldtest.New(t)
	setMaxJobs(w, 1)
	w.Put("inbox/ads/cafe/z.a.wav", voice)
	w.Put("inbox/ads/cafe/z.b.wav", voice)
	w.Drop("inbox/ads/cafe/z.mp4", clip)
	w.Put(bundle+"talk.mp4", clip)
	w.Put(bundle+"a.wav", voice)
	w.Put(bundle+"unused.mp3", voice)
	w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
	w.Pass(time.Hour)
	if st := w.Status("ads/cafe"); len(st.Warnings) != 1 {
		t.Fatalf("warnings %q, want one about unused.mp3", st.Warnings)
	}
	worldtest.WantStatus(t, w, "ads/cafe/z.b", ledger.Held, problem.TooManyJobs)
	w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/cafe/z.b", ledger.Held, problem.TooManyJobs)
	worldtest.WantCharges(t, w, 3) // z.a, and a twice
}

// A preset or a job.json is changed or deleted while a job is held. The next try uses the files
// that exist at that time.
func TestChangesWhileHeld(t *testing.T) {
	_, voice := sample.Files()
	pair := func(w *world.World) {
		w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react-1", "input": {"emotion": "happy"}}`))
		worldtest.DropPair(w)
	}
	matches := func(w *world.World) { dropBundle(w, "*.wav", "a.wav") }
	tests := []struct {
		name   string
		drop   func(w *world.World)
		change func(w *world.World)
		job    string               // the name that the change concerns
		state  ledger.State         // of job, after the change
		end    func(w *world.World) // called when the balance is no longer empty
		model  string
	}{
		{"the preset is deleted", pair, func(w *world.World) { w.Delete("inbox/ads/preset.json") },
			"ads/talk", ledger.Held, nil, "sync/sync/lipsync/v2/pro"},
		{"the preset becomes wrong", pair, func(w *world.World) { w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react-9"}`)) },
			"ads/talk", ledger.Rejected, func(w *world.World) {
				w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react-1"}`))
				w.Drop("inbox/ads/talk.wav", voice) // as the remedy says
			}, "sync/react-1"},
		{"the wildcard is narrowed and widened", matches, func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "b*.wav")) },
			"ads/cafe/a", ledger.Withdrawn, func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "*.wav")) }, "sync/react-1"},
		{"a match becomes the only audio", matches, func(w *world.World) { w.Drop(bundle+"job.json", react("talk.mp4", "a.wav")) },
			"ads/cafe", ledger.Held, nil, "sync/react-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.SetBalanceEmpty(true)
			tt.drop(w)
			w.Pass(time.Hour)
			tt.change(w)
			w.Pass(time.Hour)
			st := w.Status(tt.job)
			if st.State != tt.state {
				t.Errorf("%s is %s %s, want %s", tt.job, st.State, st.Code, tt.state)
			}
			if st.State == ledger.Rejected && !strings.Contains(st.Remedy, "upload preset.json and the audio of the pair again") {
				t.Errorf("remedy %q, want one that says to upload preset.json and the audio of the pair again", st.Remedy)
			}
			w.RunComfy.SetBalanceEmpty(false)
			if tt.end != nil {
				w.Pass(time.Hour)
				worldtest.WantCharges(t, w, 0)
				tt.end(w)
			}
			w.Pass(2 * time.Hour)
			worldtest.WantCharges(t, w, 1)
			if st := worldtest.WantStatus(t, w, tt.job, ledger.Succeeded, ""); st.Model != tt.model {
				t.Errorf("model %s, want %s", st.Model, tt.model)
			}
		})
	}
}
