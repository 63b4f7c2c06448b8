package handler_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/workflow"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

const bundle = "inbox/ads/cafe.job/"

func react(video, audio string) []byte {
	return fmt.Appendf(nil, `{"model": "sync/react-1", "input": {"video_url": %q, "audio_url": %q}}`, video, audio)
}

// dropBundle drops the bundle ads/cafe: talk.mp4, the audios, and then a job.json whose audio_url
// is pattern.
func dropBundle(w *world.World, pattern string, audios ...string) {
	clip, voice := sample.Files()
	w.Drop(bundle+"talk.mp4", clip)
	for _, audio := range audios {
		w.Drop(bundle+audio, voice)
	}
	w.Drop(bundle+"job.json", react("talk.mp4", pattern))
}

// submit calls the function with a batch of messages. The test fails if any of them must be
// delivered again.
func submit(t *testing.T, w *world.World, batch ...events.SQSMessage) {
	t.Helper()
	if failed, err := w.Submit(batch...); len(failed) > 0 || err != nil {
		t.Errorf("failed messages %v, error %v; want neither", failed, err)
	}
}

func wantWarning(t *testing.T, w *world.World, name, text string) {
	t.Helper()
	if st := w.Status(name); !slices.ContainsFunc(st.Warnings, func(s string) bool { return strings.Contains(s, text) }) {
		t.Errorf("warnings of %s: %q, want one that says %q", name, st.Warnings, text)
	}
}

// Both files of a finished pair are uploaded again. The upload of the large file ends last,
// but its LastModified is earlier, because S3 reports when the upload began.
func TestLargeFileDroppedAgain(t *testing.T) {
	clip, voice := sample.Files()
	for n := range 40 { // the two new takes have the same stamp, so the order of their keys depends on the name
		w := worldtest.New(t)
		name := fmt.Sprintf("ads/talk%d", n)
		worldtest.DropPairs(w, name)
		w.Pass(time.Hour)
		began := w.Now()
		w.Pass(time.Second)
		w.Drop("inbox/"+name+".wav", voice)
		w.Pass(time.Minute)
		w.DropLarge("inbox/"+name+".mp4", clip, began)
		worldtest.Rest(t, w)
		takes := w.Takes(name)
		if len(takes) != 3 {
			t.Fatalf("%s: %d takes, want 3: one of the pair, and one of each later upload", name, len(takes))
		}
		if st := w.Status(name); st.Take != takes[2].Take || st.State != ledger.Succeeded {
			t.Errorf("%s: the status is about %s, %s; want %s, which was claimed last, succeeded", name, st.Take, st.State, takes[2].Take)
		}
	}
}

// If an upload starts no job, because it began before the newest file of the take was
// uploaded, a warning says so.
func TestOlderUploadIsNotIgnoredSilently(t *testing.T) {
	clip, voice := sample.Files()
	tests := []struct{ name, key string }{
		{"the newest file is replaced by an older upload", "inbox/ads/talk.wav"},
		{"a second audio with an older time", "inbox/ads/talk.mp3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Drop("inbox/ads/talk.mp4", clip)
			w.Pass(time.Minute)
			began := w.Now()
			w.Pass(time.Minute)
			w.Drop("inbox/ads/talk.wav", voice)
			w.Pass(time.Hour)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
			w.DropLarge(tt.key, voice, began)
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
			worldtest.WantCharges(t, w, 1)
			wantWarning(t, w, "ads/talk", "began before the upload of this job's newest file. To use talk.")
			before := w.Status("ads/talk").Warnings
			w.Notify("Object Created", "inbox/ads/talk.mp4", 0) // the event of the video is delivered once more
			worldtest.Rest(t, w)
			if after := w.Status("ads/talk").Warnings; len(after) != len(before) {
				t.Errorf("warnings after another delivery: %q, want %q", after, before)
			}
		})
	}
}

// After the match é.wav is submitted, é.mp3 arrives. Its upload began before the upload of é.wav,
// and its é is spelled with two code points. The job is not rejected as ambiguous: its status is
// still about the take, and a warning names é.mp3.
func TestOlderFileOfAMatchIsNotIgnoredSilently(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	began := w.Now()
	w.Pass(time.Minute)
	w.Drop(bundle+"talk.mp4", clip)
	w.Drop(bundle+"\u00e9.wav", voice)
	w.Drop(bundle+"job.json", react("talk.mp4", "*"))
	worldtest.Rest(t, w)
	w.DropLarge(bundle+"e\u0301.mp3", voice, began)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe/\u00e9", ledger.Succeeded, "")
	wantWarning(t, w, "ads/cafe/\u00e9", "e\u0301.mp3 was uploaded, but job.json of this job does not use it")
}

// An expiration by a lifecycle rule starts nothing, even if the files that are left form a job.
func TestLifecycleExpiryStartsNothing(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip) // before the stack was deployed
	w.Put("inbox/ads/talk.wav", voice)
	w.Pass(time.Hour)
	expiry := world.Message("inbox/ads/talk.mov")
	expiry.Body = strings.NewReplacer("Object Created", "Object Deleted", `"reason":""`, `"reason":"Lifecycle Expiration"`).Replace(expiry.Body)
	submit(t, w, expiry)
	worldtest.Rest(t, w)
	if takes := w.Takes("ads/talk"); len(takes) > 0 {
		t.Errorf("%d takes, want 0", len(takes))
	}
}

// The deletion of an old version of a file starts nothing, and writes no status and no answer file.
func TestDeletionOfAnOldVersionStartsNothing(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip) // before the stack was deployed
	w.Put("inbox/ads/talk.wav", voice)
	w.Put("inbox/preset.json", []byte("{}"))
	w.Pass(time.Hour)
	for _, key := range []string{"inbox/ads/talk.mp4", "inbox/preset.json"} {
		w.Notify("Object Deleted", key, 0)
		w.NotifyCancel(key, "DeleteObject", 0)
	}
	worldtest.Rest(t, w)
	if st := w.Status("ads/talk"); len(w.Takes("ads/talk")) > 0 || st.State != "" {
		t.Errorf("%d takes, status %s; want neither", len(w.Takes("ads/talk")), st.State)
	}
	if body, ok := w.Bucket.Object("answers/preset.json.json"); ok {
		t.Errorf("the answer file of preset.json is %s, want none", body)
	}
	w.Drop("inbox/ads/talk.wav", voice)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
}

// If the job.json of a submitted bundle is deleted, the status is still about the
// take, although other files are newer than job.json.
func TestManifestDeletedAfterItsTake(t *testing.T) {
	tests := []struct {
		name  string
		queue time.Duration
		state ledger.State
	}{
		{"while the job is queued", time.Hour, ledger.Cancelled},
		{"after the job has succeeded", 0, ledger.Succeeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Queue = tt.queue
			clip, voice := sample.Files()
			w.Drop(bundle+"job.json", react("talk.mp4", "voice.wav"))
			w.Pass(time.Minute)
			w.Drop(bundle+"talk.mp4", clip)
			w.Drop(bundle+"voice.wav", voice)
			w.Pass(30 * time.Minute)
			take := w.Status("ads/cafe").Take
			w.Delete(bundle + "job.json")
			worldtest.Rest(t, w)
			if st := w.Status("ads/cafe"); st.State != tt.state || st.Take != take || take == "" {
				t.Errorf("status %s %s of take %q, want %s of %q", st.State, st.Code, st.Take, tt.state, take)
			}
		})
	}
}

// A paid take gets its execution, even if all messages about it have become dead
// letters.
func TestPaidTakeIsRecovered(t *testing.T) {
	tests := []struct {
		name  string
		start func(w *world.World)
	}{
		{"by the next assessment of its name", func(w *world.World) {
			worldtest.DropVoice(w)
			w.Run(30 * time.Second) // long before the sweep
		}},
		{"by a later delivery, if Step Functions fails at the first delivery", func(w *world.World) {
			_, voice := sample.Files()
			old, first := workflow.ExecutionName("ads/talk", w.Takes("ads/talk")[0].Take), 0
			w.Before = func(c world.Call) error {
				if c.Op == "StartExecution" && strings.HasSuffix(c.Key, old) && (first == 0 || first == c.Invocation) {
					first = c.Invocation
					return world.Throttled
				}
				return nil
			}
			w.Drop("inbox/ads/talk.wav", voice)
			w.Run(40 * time.Second) // before the sweep
		}},
		{"by the hourly sweep", func(w *world.World) { w.Pass(time.Hour) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Before = startNoExecution
			worldtest.DropPair(w)
			w.Pass(30 * time.Hour)
			if len(w.Dead) != 2 {
				t.Fatalf("%d dead letters, want 2", len(w.Dead))
			}
			w.Before = nil
			tt.start(w)
			if _, ok := w.Execution("ads/talk", w.Takes("ads/talk")[0].Take); !ok {
				t.Error("the paid take has no execution, want one")
			}
			worldtest.Rest(t, w)
			for _, rec := range w.Takes("ads/talk") {
				if rec.State != ledger.Succeeded {
					t.Errorf("take %s is %s, want succeeded", rec.Take, rec.State)
				}
			}
		})
	}
}

// The hourly sweep settles a claim whose invocation died, even if submit is never
// called again.
func TestInterruptedClaimIsSettledByTheSweep(t *testing.T) {
	w := worldtest.New(t)
	dropAndDieBeforePost(t, w)
	w.Before = worldtest.FailIf(world.ErrLambda, func(c world.Call) bool { return c.Function == "submit" })
	w.Pass(2 * time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Unknown, problem.SubmitInterrupted)
}

// Submit dies after its claim, and again after it has recorded that the outcome is unknown. Then
// job.json is deleted, so no assessment finds the take. The sweep writes the take's status.
func TestSweepWritesTheStatusOfAnUnknownTake(t *testing.T) {
	w := worldtest.New(t)
	w.After = func(c world.Call) error {
		takes := w.Takes("ads/cafe")
		if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") {
			if takes[0].State == ledger.Unknown {
				w.After = nil
				w.Delete(bundle + "job.json")
			}
			panic(world.Crash{})
		}
		return nil
	}
	clip, voice := sample.Files()
	w.Drop(bundle+"job.json", react("talk.mp4", "voice.wav"))
	w.Put(bundle+"talk.mp4", clip)
	w.Put(bundle+"voice.wav", voice)
	worldtest.Rest(t, w)
	w.Pass(2 * time.Hour)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Unknown, problem.SubmitInterrupted)
}

// After the deletion of talk.de.mp4, which the newest take used, talk.mp4 and talk.de.wav would make
// a job. The deletion does not start it.
func TestDeletionStartsNoJob(t *testing.T) {
	clip, voice := sample.Files()
	for state, code := range map[ledger.State]problem.Code{ledger.Cancelled: problem.CancelledByDeletion, ledger.Succeeded: ""} {
		t.Run(string(state), func(t *testing.T) {
			w := worldtest.New(t)
			if state == ledger.Cancelled {
				w.RunComfy.Queue = 2 * time.Hour
			}
			worldtest.DropPairs(w, "ads/talk.de")
			w.Pass(30 * time.Minute)
			w.Drop("inbox/ads/talk.mp4", clip)
			w.Notify("Object Created", "inbox/ads/talk.mp4", time.Hour) // the events of both files are delivered again, an hour late
			w.Notify("Object Created", "inbox/ads/talk.de.wav", time.Hour)
			w.Pass(30 * time.Minute)
			w.Delete("inbox/ads/talk.de.mp4")
			worldtest.Rest(t, w)
			if takes := w.Takes("ads/talk.de"); len(takes) != 1 || takes[0].State != state {
				t.Errorf("takes: %+v, want one that is %s", takes, state)
			}
			worldtest.WantStatus(t, w, "ads/talk.de", state, code)
			wantWarning(t, w, "ads/talk.de", "upload its audio again")

			w.RunComfy.Queue = 0
			w.Drop("inbox/ads/talk.de.wav", voice) // as the warning says
			worldtest.Rest(t, w)
			worldtest.WantStatus(t, w, "ads/talk.de", ledger.Succeeded, "")
			if n := len(w.Takes("ads/talk.de")); n != 2 {
				t.Errorf("%d takes after the upload, want 2", n)
			}
		})
	}
}

// An upload right after a deletion starts its job, in whichever order the events
// arrive.
func TestUploadAfterADeletionStartsItsJob(t *testing.T) {
	clip, _ := sample.Files()
	for _, batch := range []int{1, 10} {
		for _, late := range []time.Duration{0, 30 * time.Second} {
			w := worldtest.New(t)
			w.Batch = batch
			worldtest.DropPairs(w, "ads/talk.de")
			w.Pass(time.Hour)
			w.Bucket.Remove("inbox/ads/talk.de.mp4")
			w.Notify("Object Deleted", "inbox/ads/talk.de.mp4", late)
			w.Pass(2 * time.Second)
			w.Drop("inbox/ads/talk.mp4", clip)
			worldtest.Rest(t, w)
			if n := len(w.Takes("ads/talk.de")); n != 2 {
				t.Errorf("batches of %d, deletion late by %v: %d takes, want 2", batch, late, n)
			}
		}
	}
}

// A deletion resolves an ambiguity, even if the newest take used the deleted file.
func TestDeletionResolvesAnAmbiguity(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPair(w)
	w.Pass(time.Hour)
	_, voice := sample.Files()
	w.Drop("inbox/ads/talk.m4a", voice) // its bytes are a WAV, so it is a file_mismatch
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Rejected, problem.Ambiguous)
	w.Delete("inbox/ads/talk.wav")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Rejected, problem.FileMismatch)
}

// A whole number in job.json that a float cannot hold is recorded and sent as it is.
func TestLargeSeed(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	const seed = "9007199254740993" // 2^53 + 1
	w.RunComfy.Fault = func(r *http.Request, body []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallSubmit && !strings.Contains(string(body), seed) {
			t.Errorf("RunComfy received %s, want the seed %s", body, seed)
		}
		return nil
	}
	w.Web["https://example.com/i.png"] = clip
	w.Drop(bundle+"voice.wav", voice)
	w.Drop(bundle+"job.json", []byte(`{"model": "community/live-avatar", "input": {"image_url": "https://example.com/i.png", "audio_url": "voice.wav", "prompt": "x", "seed": `+seed+`}}`))
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/cafe", ledger.Succeeded, "")
	for _, key := range []string{ledger.RecordKey("ads/cafe", st.Take), ledger.ResultKey("ads/cafe", st.Take)} {
		if text, _ := w.Bucket.Object(key); !strings.Contains(string(text), seed) {
			t.Errorf("%s is %s, want the seed %s in it", key, text, seed)
		}
	}
}

// A bundle whose job.json has no wildcard is submitted. Later uploads of media files into its folder
// start no new take, and the status warns about each file.
func TestMemberUploadedAgain(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "500"), 0)
	clip, _ := sample.Files()
	dropBundle(w, "voice.wav", "voice.wav")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Unknown, problem.OutcomeUnknown)
	if warnings := w.Status("ads/cafe").Warnings; len(warnings) > 0 {
		t.Errorf("warnings before the uploads: %q, want none", warnings)
	}
	w.Pass(time.Hour)
	w.Drop(bundle+"talk.mp4", clip)
	w.Drop(bundle+"other.mp4", clip)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Unknown, problem.OutcomeUnknown)
	wantWarning(t, w, "ads/cafe", "talk.mp4 was uploaded again after this job was submitted. To start a job with the new talk.mp4, upload job.json again.")
	wantWarning(t, w, "ads/cafe", "job.json of this job does not use it")
}

// One match of a wildcard fails. Its remedy and its warning say to upload b.wav again. That upload
// starts only this match again.
func TestOnlyTheFailedMatchStartsAgain(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.RunComfy.Script = func(_ string, input map[string]any) runcomfytest.Script {
		if strings.Contains(fmt.Sprint(input["audio_url"]), "b.wav") {
			return runcomfytest.Script{Fail: "no face found"}
		}
		return runcomfytest.Script{}
	}
	dropBundle(w, "*.wav", "a.wav", "b.wav")
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Failed, problem.JobFailed)
	if !strings.Contains(st.Remedy, "upload b.wav again") {
		t.Errorf("remedy %q, want one that names b.wav", st.Remedy)
	}
	w.RunComfy.Script = nil
	w.Pass(time.Hour)
	w.Drop(bundle+"talk.mp4", clip)
	worldtest.Rest(t, w)
	wantWarning(t, w, "ads/cafe/b", "talk.mp4 was uploaded again after this job was submitted. To start a job with the new talk.mp4, upload b.wav again.")
	w.Drop(bundle+"b.wav", voice)
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe/b", ledger.Succeeded, "")
	worldtest.WantCharges(t, w, 3)
}

// After the last try of a held match, the remedy names the match's file.
func TestHeldMatchNamesItsFile(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "402"), 48*time.Hour)
	dropBundle(w, "*.wav", "a.wav")
	w.Pass(30 * time.Hour)
	if st := w.Status("ads/cafe/a"); st.State != ledger.Held || !strings.HasSuffix(st.Remedy, "or upload a.wav again.") {
		t.Errorf("%s, remedy %q; want held, and a remedy that ends with the upload of a.wav", st.State, st.Remedy)
	}
}

// While a video with the bundle's name makes the name ambiguous, a file of the bundle is uploaded
// again. After the video is deleted, the status warns about that upload.
func TestMemberUploadedAgainWhileAmbiguous(t *testing.T) {
	w := worldtest.New(t)
	clip, _ := sample.Files()
	dropBundle(w, "voice.wav", "voice.wav")
	worldtest.Rest(t, w)
	w.Drop("inbox/ads/cafe.mp4", clip)
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Rejected, problem.Ambiguous)
	w.Drop(bundle+"talk.mp4", clip)
	w.Pass(time.Hour)
	w.Delete("inbox/ads/cafe.mp4")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Succeeded, "")
	wantWarning(t, w, "ads/cafe", "talk.mp4 was uploaded again after this job was submitted. To start a job with the new talk.mp4, upload job.json again.")
}

// If the claim is slow, submit releases it instead of sending the POST with too little
// time left.
func TestSlowClaimIsReleased(t *testing.T) {
	w := worldtest.New(t)
	setCaps(w, budget.Caps{Jobs: 1})
	slow, assessed, postponed := false, false, false
	w.Before = func(c world.Call) error {
		if c.Function != "submit" {
			return nil
		}
		if c.Op == "ChangeMessageVisibility" && slow && !postponed {
			postponed = true
			if n := used(t, w, budget.Day(world.Begin)).Jobs; n != 0 {
				t.Errorf("%d jobs are in the book after the release, want 0", n)
			}
		}
		if c.Op == "HeadObject" && !assessed {
			assessed = true
			w.Pass(c.Deadline.Sub(w.Now()) - 90*time.Second) // as if earlier messages of the batch had used the time
		}
		if c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/") && !slow {
			slow = true
			w.Pass(70 * time.Second)
		}
		return nil
	}
	w.After = func(c world.Call) error {
		if c.Service == "runcomfy" && c.Op == "submit" {
			w.Pass(27 * time.Second) // within the client's 30 s
		}
		return nil
	}
	dropOnce(w)
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	worldtest.WantCharges(t, w, 1)
	if !postponed {
		t.Error("submit did not postpone the job after the slow claim, want it postponed")
	}
}

// If S3 refuses to say whether a deleted file exists, the deletion is handled later.
func TestDeletionWhileS3IsBusy(t *testing.T) {
	w := worldtest.New(t)
	clip, _ := sample.Files()
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Pass(time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Waiting, problem.WaitingForAudio)
	until := w.Now().Add(time.Minute)
	w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool { return c.Function == "submit" && c.Service == "s3" && w.Now().Before(until) })
	w.Delete("inbox/ads/talk.mp4")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Withdrawn, problem.FilesGone)
}

// An invocation without enough time for the POST makes no claim: if the invocation died before
// it released the claim, the claim would look like a job that may have been charged.
func TestLateJobIsNotClaimed(t *testing.T) {
	w := worldtest.New(t)
	claims, late := 0, true
	w.Before = func(c world.Call) error {
		switch {
		case c.Function != "submit" || !late:
		case c.Op == "HeadObject":
			w.Pass(c.Deadline.Sub(w.Now()) - 76*time.Second) // too little: the claim needs 75 s, and submit needs 3 s more to return
		case c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/"):
			claims++
		case c.Op == "ChangeMessageVisibility":
			late = false
		}
		return nil
	}
	dropOnce(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if late || claims > 0 {
		t.Errorf("%d claims with too little time, want 0; the job was postponed: %v, want true", claims, !late)
	}
}

// The token is read before the claim, so that a slow secret takes no time from the
// POST, and no claim is made while the secret cannot be read.
func TestTokenIsReadBeforeTheClaim(t *testing.T) {
	w := worldtest.New(t)
	claimed := false
	w.Before = func(c world.Call) error {
		claimed = claimed || c.Op == "PutObject" && strings.HasPrefix(c.Key, "jobs/")
		if c.Function != "submit" || c.Service != "secretsmanager" {
			return nil
		}
		if claimed {
			t.Error("the token was read after the claim, want only reads before the claim")
		}
		if w.Now().Before(world.Begin.Add(time.Minute)) {
			return world.ErrBroken
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// If a file is deleted while RunComfy rejects its job, the rejection does not replace the
// status that the deletion led to.
func TestRejectionKeepsTheStatusOfALaterDeletion(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Pass(time.Minute)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Waiting, problem.WaitingForAudio)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "400"), 0)
	w.Drop("inbox/ads/talk.wav", voice)
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Service == "runcomfy" && c.Op == "submit" }, func() {
		w.Bucket.Remove("inbox/ads/talk.wav")
		submit(t, w, world.Message("inbox/ads/talk.wav"))
	})
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Waiting, problem.WaitingForAudio)
}

// An assessment of a wildcard does not overwrite the status that a later assessment wrote.
func TestOlderAssessmentOfAMatch(t *testing.T) {
	w := worldtest.New(t)
	_, voice := sample.Files()
	w.Put(bundle+"a.wav", voice)
	w.Drop(bundle+"job.json", react("talk.mp4", "*.wav"))
	worldtest.Rest(t, w)
	w.Notify("Object Created", bundle+"job.json", 0) // job.json is assessed again
	worldtest.BeforeFirst(t, w, func(c world.Call) bool {
		return c.Function == "submit" && c.Op == "GetObject" && c.Key == "status/ads/cafe/a.json"
	}, func() {
		w.Put(bundle+"talk.mp4", []byte("this is no video"))
		submit(t, w, world.Message(bundle+"talk.mp4"))
	})
	worldtest.Rest(t, w)
	if st := w.Status("ads/cafe/a"); st.State != ledger.Rejected {
		t.Errorf("the status is %s %s, want rejected, because talk.mp4 is not a video", st.State, st.Code)
	}
}

// A process whose credentials end too soon submits nothing and exits. Its batch is soon
// delivered again, to a process with new credentials.
func TestProcessWithOldCredentialsSubmitsNothing(t *testing.T) {
	tests := []struct {
		name  string
		spend func(t *testing.T, w *world.World) // makes the process too old
	}{
		{"too old when it is called", func(_ *testing.T, w *world.World) { w.Pass(2 * time.Hour) }},
		{"too old only at the claim", func(t *testing.T, w *world.World) {
			w.Pass(58*time.Minute + 55*time.Second) // when the event is delivered, the process is 59 min 55 s old
			worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Function == "submit" && c.Op == "HeadObject" }, func() { w.Spend(10 * time.Second) })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.SignFor = time.Hour
			w.Drop("inbox/ads/notes.txt", []byte("starts the process"))
			w.Pass(time.Minute)
			tt.spend(t, w)
			dropOnce(w)
			w.Run(11 * time.Second)
			worldtest.WantCharges(t, w, 0)
			w.Run(2 * time.Minute)
			worldtest.WantCharges(t, w, 1)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if n := w.Started(); n != 2 {
				t.Errorf("%d processes of submit, want 2", n)
			}
		})
	}
}

// Submit divides a message about many names into several messages, and finishes the other
// messages of its batch too. Each call ends within the function's time.
func TestBatchWithASlowMessage(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = w.SubmitBatch()
	w.S3Latency = 300 * time.Millisecond
	w.TimedOut = func(c world.Call) { t.Errorf("Lambda ended the function before %s, want every call to end in time", c) }
	for i := range 90 {
		w.Put(fmt.Sprintf("inbox/one/t.%03d.wav", i), nil) // no bytes: rejected, never paid for
	}
	w.Drop("inbox/one/t.mp4", []byte("x"))
	worldtest.DropPairs(w, "carol/talk")
	w.Run(30 * time.Hour)
	worldtest.WantStatus(t, w, "carol/talk", ledger.Succeeded, "")
	if len(w.Dead) > 0 {
		t.Errorf("%d dead letters, want 0", len(w.Dead))
	}
	for i := range 90 {
		if st := w.Status(fmt.Sprintf("one/t.%03d", i)); st.State == "" {
			t.Fatalf("one/t.%03d has no status, want one", i)
		}
	}
}

// A slow message that is delivered again is handled after the other message of its batch. So the
// slow message does not use up the time that the other message needs.
func TestRepeatedMessageIsHandledLast(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	for _, name := range []string{"slow", "talk"} {
		w.Put("inbox/ads/"+name+".mp4", clip)
		w.Put("inbox/ads/"+name+".wav", voice)
	}
	w.Before = func(c world.Call) error {
		if c.Op == "GetObject" && c.Key == "inbox/ads/slow.mp4" {
			w.Spend(time.Minute)
		}
		return nil
	}
	slow := world.Message("inbox/ads/slow.wav")
	slow.Attributes["ApproximateReceiveCount"] = "2"
	failed, err := w.Submit(slow, world.Message("inbox/ads/talk.wav"))
	if want := []string{slow.MessageId}; err != nil || !slices.Equal(failed, want) {
		t.Errorf("failed messages %q, error %v; want %q", failed, err, want)
	}
	worldtest.WantStatus(t, w, "ads/talk", ledger.Submitted, "")
}

// RunComfy responds to each POST just before the client's timeout. The function's time is
// still enough for a whole batch, so no message is delivered twice.
func TestBatchWhileRunComfyIsSlow(t *testing.T) {
	const jobs = 12
	w := worldtest.New(t)
	w.Batch = w.SubmitBatch()
	clip, voice := sample.Files()
	calls := 0
	w.Before = func(c world.Call) error {
		switch {
		case c.Function == "submit" && c.Service == "lambda":
			calls++
		case c.Function == "submit" && c.Service == "runcomfy" && c.Op == "submit":
			w.Spend(runcomfy.Timeout - time.Second)
		}
		return nil
	}
	for i := range jobs {
		w.Put(fmt.Sprintf("inbox/%d.mp4", i), clip)
		w.Drop(fmt.Sprintf("inbox/%d.wav", i), voice)
	}
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, jobs)
	if want := jobs / w.Batch; calls != want {
		t.Errorf("%d calls of submit, want %d", calls, want)
	}
}

// An unreadable status or record does not block its name for good.
func TestUnreadableLedger(t *testing.T) {
	t.Run("a status is replaced", func(t *testing.T) {
		w := worldtest.New(t)
		w.Bucket.Set("status/ads/talk.json", []byte("{"))
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
	})
	t.Run("a record of another take is no obstacle", func(t *testing.T) {
		w := worldtest.New(t)
		w.Bucket.Set("jobs/ads/talk/20500102T120000Z-0123456789ab.json", []byte("{"))
		worldtest.DropPair(w)
		w.Notify("Object Created", "inbox/ads/talk.wav", time.Hour)
		worldtest.Rest(t, w)
		worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
		if len(w.Dead) > 0 {
			t.Errorf("%d dead letters, want 0", len(w.Dead))
		}
	})
	t.Run("the record of the last take is no obstacle to a new drop", func(t *testing.T) {
		w := worldtest.New(t)
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		old := w.Status("ads/talk").Take
		w.Bucket.Set(ledger.RecordKey("ads/talk", old), []byte("{"))
		worldtest.DropVoice(w)
		worldtest.Rest(t, w)
		if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, ""); st.Take == old {
			t.Error("the status is about the old take, want the new one")
		}
		worldtest.WantCharges(t, w, 2)
	})
	t.Run("after a deletion, a warning names the record of the last take", func(t *testing.T) {
		w := worldtest.New(t)
		worldtest.DropPairs(w, "ads/talk.de")
		w.Pass(time.Hour)
		clip, _ := sample.Files()
		w.Drop("inbox/ads/talk.mp4", clip)
		w.Pass(time.Hour)
		key := ledger.RecordKey("ads/talk.de", w.Status("ads/talk.de").Take)
		good, _ := w.Bucket.Object(key)
		w.Bucket.Set(key, []byte("{"))
		w.Delete("inbox/ads/talk.de.mp4")
		w.Run(time.Hour)
		worldtest.WantStatus(t, w, "ads/talk.de", ledger.Succeeded, "")
		wantWarning(t, w, "ads/talk.de", key+" cannot be read: unexpected EOF, so the present files of this name start no job.")
		w.Bucket.Set(key, good)
		worldtest.Rest(t, w)
		worldtest.WantCharges(t, w, 1)
		wantWarning(t, w, "ads/talk.de", "upload its audio again")
	})
	t.Run("the status names the record of its take", func(t *testing.T) {
		w := worldtest.New(t)
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		key := ledger.RecordKey("ads/talk", w.Status("ads/talk").Take)
		good, _ := w.Bucket.Object(key)
		w.Bucket.Set(key, []byte("{"))
		w.Notify("Object Created", "inbox/ads/talk.wav", 0)
		w.Run(time.Hour)
		if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.RecordUnreadable); !strings.Contains(st.Reason, key) {
			t.Errorf("reason %q, want one that names %s", st.Reason, key)
		}
		w.Pass(26 * time.Hour)
		st := w.Status("ads/talk")
		if !strings.Contains(st.Reason, "no longer retries") || !strings.Contains(st.Remedy, "may be charged again. After a restore, redrive") {
			t.Errorf("after a day: reason %q, remedy %q; want the end of the retries, a warning of a second charge, and a redrive", st.Reason, st.Remedy)
		}
		w.Bucket.Set(key, good)
		w.RedriveDeadLetters()
		worldtest.Rest(t, w)
		worldtest.WantArchived(t, w)
	})
}

// If an image has the same name as a bundle with a wildcard, no match runs, and the
// status of each match says why. Each match is withdrawn when job.json is deleted.
func TestMatchesOfAnAmbiguousBundle(t *testing.T) {
	w := worldtest.New(t)
	w.Drop("inbox/ads/cafe.png", []byte("x"))
	dropBundle(w, "*.wav", "a.wav")
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Rejected, problem.Ambiguous)
	worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Rejected, problem.Ambiguous)
	worldtest.WantCharges(t, w, 0)
	w.Delete(bundle + "job.json")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe/a", ledger.Withdrawn, problem.NoLongerNamed)
}

// A file is dropped, and deleted while it is assessed. Neither the assessment of the deletion nor
// the older assessment changes the status, except its updatedAt.
func TestOlderAssessmentOfADeletedFile(t *testing.T) {
	clip, voice := sample.Files()
	jobJSON := react("talk.mp4", "*.wav")
	tests := []struct {
		name  string
		begin func(w *world.World)
		key   string // of the file that is dropped and deleted
		body  []byte
		about string
		want  ledger.State
	}{
		{"of a bundle that is withdrawn", func(w *world.World) {
			w.Drop(bundle+"job.json", jobJSON)
			w.Pass(time.Minute)
			w.Delete(bundle + "job.json")
			w.Pass(time.Minute)
		}, bundle + "job.json", jobJSON, "ads/cafe", ledger.Withdrawn},
		{"of a name whose job has succeeded", func(w *world.World) {
			worldtest.DropPair(w)
			w.Pass(time.Hour)
		}, "inbox/ads/talk.m4a", voice, "ads/talk", ledger.Succeeded},
		{"of a name whose files are older than its take", func(w *world.World) {
			began := w.Now()
			w.Pass(time.Minute)
			worldtest.DropPair(w)
			w.Pass(time.Hour)
			w.DropLarge("inbox/ads/talk.mp4", clip, began)
			w.DropLarge("inbox/ads/talk.wav", voice, began)
			w.Pass(time.Hour)
		}, "inbox/ads/talk.m4a", voice, "ads/talk", ledger.Succeeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			tt.begin(w)
			before := w.Status(tt.about)
			worldtest.WantStatus(t, w, tt.about, tt.want, before.Code)
			w.Drop(tt.key, tt.body)
			worldtest.BeforeFirst(t, w, func(c world.Call) bool {
				return c.Function == "submit" && c.Op == "PutObject" && c.Key == ledger.StatusKey(tt.about)
			}, func() {
				w.Delete(tt.key)
				w.Run(15 * time.Second) // the deletion is assessed between two requests of the older assessment
			})
			worldtest.Rest(t, w)
			after := w.Status(tt.about)
			after.UpdatedAt = before.UpdatedAt
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the status changed, want no change except of updatedAt (-before +after):\n%s", diff)
			}
		})
	}
}

// The deletion of a file of the newest take starts no job, even if another event is
// assessed before the event of the deletion.
func TestDeletionThatIsNotKnownYetStartsNoJob(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPairs(w, "ads/talk.de")
	w.Pass(time.Second)
	clip, _ := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip)
	w.Notify("Object Created", "inbox/ads/talk.mp4", time.Minute)
	w.Pass(10 * time.Second)
	worldtest.WantCharges(t, w, 1)
	w.Bucket.Remove("inbox/ads/talk.de.mp4")
	w.Notify("Object Deleted", "inbox/ads/talk.de.mp4", 2*time.Minute)
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 1)
	wantWarning(t, w, "ads/talk.de", "upload its audio again")
}

// A file is deleted soon after its upload. The files that are left start no job, whichever of
// the two events arrives first. An upload of one of the files that are left starts a job.
func TestUploadDeletedAtOnceStartsNoJob(t *testing.T) {
	clip, _ := sample.Files()
	tests := []struct {
		name string
		act  func(w *world.World)
		runs int
	}{
		{"the video of the take is replaced and deleted", func(w *world.World) {
			w.Drop("inbox/ads/talk.de.mp4", clip)
			w.Pass(3 * time.Second)
			w.Delete("inbox/ads/talk.de.mp4")
		}, 1},
		{"another video is uploaded, and deleted after the video of the take", func(w *world.World) {
			w.Drop("inbox/ads/talk.de.mov", clip)
			w.Delete("inbox/ads/talk.de.mp4")
			w.Pass(3 * time.Second)
			w.Delete("inbox/ads/talk.de.mov")
		}, 1},
		{"the event of another video arrives after that video is gone", func(w *world.World) {
			w.Notify("Object Created", "inbox/ads/talk.de.mov", 5*time.Second)
			w.Delete("inbox/ads/talk.de.mp4")
		}, 1},
		{"talk.mp4 is uploaded too", func(w *world.World) {
			w.Drop("inbox/ads/talk.de.mp4", clip)
			w.Pass(3 * time.Second)
			w.Delete("inbox/ads/talk.de.mp4")
			w.Pass(3 * time.Second)
			w.Drop("inbox/ads/talk.mp4", clip)
		}, 2},
		{"a large talk.mp4 is uploaded too", func(w *world.World) {
			began := w.Now()
			w.Pass(time.Second)
			w.Drop("inbox/ads/talk.de.mp4", clip)
			w.Pass(3 * time.Second)
			w.Delete("inbox/ads/talk.de.mp4")
			w.Pass(3 * time.Second)
			w.DropLarge("inbox/ads/talk.mp4", clip, began)
		}, 2},
	}
	for _, tt := range tests {
		for _, batch := range []int{1, 10} {
			t.Run(fmt.Sprintf("%s, batches of %d", tt.name, batch), func(t *testing.T) {
				w := worldtest.New(t)
				w.Batch = batch
				worldtest.DropPairs(w, "ads/talk.de")
				w.Pass(time.Hour)
				w.Drop("inbox/ads/talk.mp4", clip)
				w.Pass(time.Hour)
				tt.act(w)
				worldtest.Rest(t, w)
				worldtest.WantCharges(t, w, tt.runs)
				if n := len(w.Takes("ads/talk.de")); n != tt.runs {
					t.Errorf("%d takes, want %d", n, tt.runs)
				}
				if tt.runs == 1 {
					wantWarning(t, w, "ads/talk.de", "upload its audio again")
				}
			})
		}
	}
}

// After the deletion of a take's file, the status is still about the take. Some of the files that
// are left are newer, but these belong to another name.
func TestDeletionKeepsTheStatusOfItsTake(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPairs(w, "ads/talk.de")
	w.Pass(time.Hour)
	clip, _ := sample.Files()
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Drop("inbox/ads/talk.png", []byte("x"))
	w.Pass(time.Hour)
	for _, key := range []string{"inbox/ads/talk.de.mp4", "inbox/ads/talk.png", "inbox/ads/talk.de.wav"} {
		w.Delete(key)
		w.Pass(time.Hour)
		worldtest.WantStatus(t, w, "ads/talk.de", ledger.Succeeded, "")
	}
	worldtest.WantCharges(t, w, 1)
}

// A second video is uploaded, and the video of the take is deleted before the late
// event of the upload arrives. The job of the second video runs, as it does if the
// event is on time.
func TestLateUploadBesideADeletion(t *testing.T) {
	for _, late := range []time.Duration{0, 5 * time.Second, time.Hour} {
		w := worldtest.New(t)
		worldtest.DropPair(w)
		w.Pass(time.Hour)
		clip, _ := sample.Files()
		w.Put("inbox/ads/talk.mov", clip)
		w.Notify("Object Created", "inbox/ads/talk.mov", late)
		w.Pass(7 * time.Second)
		w.Delete("inbox/ads/talk.mp4")
		worldtest.Rest(t, w)
		worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
		if n := len(w.Takes("ads/talk")); n != 2 {
			t.Errorf("event late by %v: %d takes, want 2", late, n)
		}
	}
}

// A bundle is submitted after a video with the bundle's name was deleted. The execution cannot
// be started, and job.json is deleted. The status is about the take, although the deleted
// video was newer than the bundle.
func TestTakeOlderThanADeletedVideo(t *testing.T) {
	w := worldtest.New(t)
	clip, _ := sample.Files()
	dropBundle(w, "voice.wav", "voice.wav")
	w.Drop("inbox/ads/cafe.mp4", clip) // so the bundle is not submitted yet
	w.Pass(time.Hour)
	w.Drop("inbox/ads/cafe.mp4", clip) // now it is newer than the bundle
	w.Pass(time.Hour)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Rejected, problem.Ambiguous)
	w.Before = startNoExecution
	w.RunComfy.Queue = time.Hour
	w.Delete("inbox/ads/cafe.mp4")
	w.Pass(20 * time.Second)
	worldtest.WantCharges(t, w, 1)
	w.Delete(bundle + "job.json")
	w.Pass(time.Minute)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Cancelled, problem.CancelledByDeletion)
	w.Before = nil
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/cafe", ledger.Cancelled, problem.CancelledByDeletion)
}

// One batch has the events of the pair cafe/a and of a job.json that no longer names the match
// cafe/a. Submit sends a message to assess this match, and assesses the pair too.
func TestPairBesideAMatchThatIsNoLongerNamed(t *testing.T) {
	const folder = "inbox/cafe.job/"
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Drop(folder+"talk.mp4", clip)
	w.Drop(folder+"a.wav", voice)
	w.Drop(folder+"job.json", react("talk.mp4", "*.wav"))
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "cafe/a", ledger.Succeeded, "")
	w.Put(folder+"job.json", react("talk.mp4", "a.wav"))
	w.Put("inbox/cafe/a.mp4", clip)
	w.Put("inbox/cafe/a.wav", voice)
	submit(t, w, world.Message(folder+"job.json"), world.Message("inbox/cafe/a.mp4"), world.Message("inbox/cafe/a.wav"))
	worldtest.Rest(t, w)
	if takes := w.Takes("cafe/a"); len(takes) != 2 {
		t.Errorf("%d takes of cafe/a, want 2, of the match and of the pair; the status: %+v", len(takes), w.Status("cafe/a"))
	}
}

// A drop of talk.de after the deletion of talk.wav adds no warning to talk, whose take uses no file
// of talk.de.
func TestDropOfALongerNameAddsNoWarning(t *testing.T) {
	w := worldtest.New(t)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	before := w.Status("ads/talk").Warnings
	w.Delete("inbox/ads/talk.wav")
	w.Pass(time.Minute)
	worldtest.DropPairs(w, "ads/talk.de")
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk.de", ledger.Succeeded, "")
	if diff := cmp.Diff(before, w.Status("ads/talk").Warnings); diff != "" {
		t.Errorf("warnings of ads/talk, want no change (-before +after):\n%s", diff)
	}
}

// An event that is delivered again does not remove the warning of a failed try to archive the output.
func TestRepeatedEventKeepsTheWarning(t *testing.T) {
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallResult, runcomfytest.FaultNamed(runcomfytest.CallResult, "500"), 12*time.Hour)
	worldtest.DropPair(w)
	w.Run(3 * time.Hour)
	w.Notify("Object Created", "inbox/ads/talk.mp4", 0)
	w.Run(15 * time.Second)
	worldtest.WantStatus(t, w, "ads/talk", ledger.Archiving, "")
	wantWarning(t, w, "ads/talk", "the outputs are not archived")
}

// Submit tries to start the execution of a running job a second time. If Step Functions throttles
// that start, the status gets no warning.
func TestRefusedRepeatedStartAddsNoWarning(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Run = 3 * time.Hour
	worldtest.DropPair(w)
	w.Run(time.Hour)
	end, refused := w.Now().Add(time.Minute), false
	w.Before = worldtest.FailIf(world.ErrThrottledStates, func(c world.Call) bool {
		refuse := c.Op == "StartExecution" && w.Now().Before(end)
		refused = refused || refuse
		return refuse
	})
	w.Notify("Object Created", "inbox/ads/talk.mp4", 0)
	w.Run(10 * time.Minute)
	if st := w.Status("ads/talk"); !refused || st.State != ledger.InProgress || len(st.Warnings) > 0 {
		t.Errorf("refused: %t, the status is %s with the warnings %q, want %s without warnings", refused, st.State, st.Warnings, ledger.InProgress)
	}
}
