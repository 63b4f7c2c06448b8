package handler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// A file that triggers a bug of the function does not delay the other files of its batch.
func TestFileThatTriggersABug(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 10
	w.Before = func(c world.Call) error {
		if c.Op == "GetObject" && c.Key == "inbox/0.wav" {
			var none *world.Call
			return errors.New(none.Key) // panics
		}
		return nil
	}
	worldtest.DropMany(w, "%d", 3)
	w.Pass(5 * time.Minute)
	worldtest.WantStatus(t, w, "1", ledger.Succeeded, "")
	worldtest.WantStatus(t, w, "2", ledger.Succeeded, "")
	w.Pass(30 * time.Hour)
	if len(w.Dead) != 2 {
		t.Errorf("%d dead letters, want 2, of 0.mp4 and 0.wav", len(w.Dead))
	}
	worldtest.WantCharges(t, w, 2)
}

// If S3 refuses to return an object, each job that needs the object is held. The reason names
// the object. The job is submitted when S3 returns the object.
func TestObjectsThatS3DoesNotGive(t *testing.T) {
	clip, voice := sample.Files()
	pair := map[string][]byte{"inbox/carol/talk.mp4": clip, "inbox/carol/talk.wav": voice}
	bundle := map[string][]byte{"inbox/carol/talk.job/job.json": react("talk.mp4", "talk.wav"), "inbox/carol/talk.job/talk.mp4": clip, "inbox/carol/talk.job/talk.wav": voice}
	withPreset := map[string][]byte{"inbox/preset.json": []byte("{}"), "inbox/carol/talk.mp4": clip, "inbox/carol/talk.wav": voice}
	refusals := []struct {
		ops    string
		status int
		s3     string
		code   problem.Code
	}{
		{"GetObject", 403, "InvalidObjectState", problem.MediaArchived},
		{"GetObject", 403, "AccessDenied", problem.MediaForbidden},
		{"GetObject", 400, "KMS.DisabledException", problem.MediaForbidden},
		{"GetObject HeadObject", 400, "BadRequest", problem.MediaForbidden},
	}
	tests := []struct {
		name    string
		drops   map[string][]byte
		refused string
		reason  string // how the reason of carol/talk begins
	}{
		{"the preset of a folder above", withPreset, "inbox/preset.json", "the preset inbox/preset.json cannot be read: S3 returned HTTP "},
		{"a video", pair, "inbox/carol/talk.mp4", "talk.mp4 cannot be read: S3 returned HTTP "},
		{"an audio file", pair, "inbox/carol/talk.wav", "talk.wav cannot be read: S3 returned HTTP "},
		{"a job.json", bundle, "inbox/carol/talk.job/job.json", "job.json cannot be read: S3 returned HTTP "},
		{"a file of a bundle", bundle, "inbox/carol/talk.job/talk.wav", "talk.wav cannot be read: S3 returned HTTP "},
	}
	for _, tt := range tests {
		for _, r := range refusals {
			t.Run(fmt.Sprintf("%s, %s", tt.name, r.s3), func(t *testing.T) {
				w := worldtest.New(t)
				refusing := true
				w.Before = worldtest.FailIf(s3test.Error(r.status, r.s3), func(c world.Call) bool { return refusing && c.Key == tt.refused && strings.Contains(r.ops, c.Op) })
				for key, body := range tt.drops {
					w.Drop(key, body)
				}
				w.Run(time.Hour)
				st := w.Status("carol/talk")
				if st.State != ledger.Held || st.Code != r.code || !strings.HasPrefix(st.Reason, tt.reason) {
					t.Errorf("the status is %s, %s: %s; want held, %s: %s…", st.State, st.Code, st.Reason, r.code, tt.reason)
				}
				if strings.Contains(tt.refused, "preset") {
					body, _ := w.Bucket.Object("answers/preset.json.json")
					var answer ledger.Status
					if err := json.Unmarshal(body, &answer); err != nil {
						t.Fatal(err)
					}
					if strings.Contains(answer.Remedy, "job") {
						t.Errorf("the preset's remedy is %q, want one without the word job", answer.Remedy)
					}
					if answer.State != ledger.Held || answer.Code != r.code || !strings.HasPrefix(answer.Reason, "preset.json cannot be read: S3 returned HTTP ") {
						t.Errorf("the preset's answer file is %s, %s: %s; want held, %s: preset.json cannot be read…", answer.State, answer.Code, answer.Reason, r.code)
					}
				}
				worldtest.WantCharges(t, w, 0)
				refusing = false
				w.Run(24 * time.Hour)
				if st := w.Status("carol/talk"); st.State != ledger.Succeeded || w.RunComfy.Charges() != 1 || len(w.Dead) > 0 {
					t.Errorf("after S3 has returned the object, the status is %s, %s, with %d charges and %d dead letters; want succeeded, 1 charge, no dead letter", st.State, st.Reason, w.RunComfy.Charges(), len(w.Dead))
				}
			})
		}
	}
}

// When a drop is no longer retried, because S3 has refused an object for a day, the remedy names
// the file that must be uploaded again.
func TestRemedyAfterADayOfRefusals(t *testing.T) {
	clip, voice := sample.Files()
	const folder = "inbox/cafe.job/"
	for _, tt := range []struct {
		name    string
		drops   map[string][]byte
		refused string
		remedy  map[string]string // the file to upload, by the key of the status or answer file
	}{
		{"a preset", map[string][]byte{"inbox/preset.json": []byte("{}"), "inbox/talk.mp4": clip, "inbox/talk.wav": voice}, "inbox/preset.json",
			map[string]string{"answers/preset.json.json": "preset.json", "status/talk.json": "the audio of the job"}},
		{"a job.json", map[string][]byte{folder + "job.json": react("talk.mp4", "talk.wav"), folder + "talk.mp4": clip, folder + "talk.wav": voice}, folder + "job.json",
			map[string]string{"status/cafe.json": "its job.json"}},
		{"the video of a bundle", map[string][]byte{folder + "job.json": react("talk.mp4", "a.wav"), folder + "talk.mp4": clip, folder + "a.wav": voice}, folder + "talk.mp4",
			map[string]string{"status/cafe.json": "its job.json"}},
		{"the video of a bundle with a wildcard", map[string][]byte{folder + "job.json": react("talk.mp4", "*.wav"), folder + "talk.mp4": clip, folder + "a.wav": voice}, folder + "talk.mp4",
			map[string]string{"status/cafe.json": "the audio of the job"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Before = worldtest.FailIf(s3test.Error(400, "BadRequest"), func(c world.Call) bool {
				return c.Key == tt.refused && (c.Op == "GetObject" || c.Op == "HeadObject")
			})
			for key, body := range tt.drops {
				w.Drop(key, body)
			}
			w.Pass(30 * time.Hour)
			for key, file := range tt.remedy {
				var st ledger.Status
				body, _ := w.Bucket.Object(key)
				if err := json.Unmarshal(body, &st); err != nil {
					t.Fatal(err)
				}
				if st.State != ledger.Held || st.Code != problem.MediaForbidden || !strings.HasSuffix(st.Remedy, "or upload "+file+" again.") {
					t.Errorf("%s is %s %s with the remedy %q, want held media_forbidden, and to upload %s", key, st.State, st.Code, st.Remedy, file)
				}
				if file == "preset.json" && strings.Contains(st.Remedy, "job") {
					t.Errorf("the preset's remedy is %q, want one without the word job", st.Remedy)
				}
			}
		})
	}
}
