package drop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func TestPrepareReturnsEveryProblem(t *testing.T) {
	b := newInbox(t)
	b.Set("inbox/x.job/two.png", picture(t, 300, 200))
	b.Set("inbox/x.job/three.png", []byte("not a picture at all"))
	b.step(t, "x.job/four.png = ")
	key := b.step(t, `x.job/job.json = {"model": "`+horse+`", "input": {"image_url_1": "", "image_url_2": "two.png",
		"image_url_3": "three.png", "image_url_4": "four.png", "seed": 2147483648, "duration": 2.5, "resolution": "4K", "size": 1}}`)
	_, problems := b.prepared(t, key)
	want := []string{
		"too_small", "wrong_content", "empty_file", // in the order of the media
		"bad_value", "bad_value", "missing_member", "bad_value", "bad_value", "unknown_member", // by member: duration, image_url_1, prompt, resolution, seed, size
	}
	if diff := cmp.Diff(want, codes(problems)); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
}

func TestPrepareReturnsEveryProblemOfAPair(t *testing.T) {
	b := newInbox(t)
	b.Set("inbox/talk.wav", voice(17300*time.Millisecond))
	b.step(t, "talk.mp4 = ")
	b.step(t, `preset.json = {"model": "sync/react-1", "input": {"emotion": "joyful", "temprature": 1}}`)
	_, got := b.prepared(t, "inbox/talk.mp4")
	for i := range got {
		if got[i].Code == problem.FileEmpty {
			got[i].Reason, got[i].Remedy = "", ""
		}
	}
	want := []problem.Problem{
		{
			Code:   problem.InvalidPreset,
			Reason: `the preset in inbox/ is wrong: emotion is "joyful"; sync/react-1 accepts happy, angry, sad, neutral, disgusted or surprised`,
			Remedy: "Set emotion to happy, angry, sad, neutral, disgusted or surprised, or leave it out.",
			Member: "emotion", Again: []string{"preset.json"}, Start: "the audio of the pair",
		},
		{
			Code:   problem.InvalidPreset,
			Reason: `the preset in inbox/ is wrong: temprature is not an option of sync/react-1, which accepts emotion, lipsync_mode, model_mode and temperature (the nearest is temperature)`,
			Remedy: "Rename temprature to temperature.",
			Member: "temprature", Again: []string{"preset.json"}, Start: "the audio of the pair",
		},
		{Code: problem.FileEmpty, Member: "video_url", Again: []string{"talk.mp4"}}, // its Reason and Remedy are from package media, and are cleared above
		{Code: problem.TooLong, Reason: "talk.wav is 17.3 s long; sync/react-1 accepts at most 15 s", Remedy: "Shorten talk.wav to at most 15 s.", Member: "audio_url", Again: []string{"talk.wav"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestOptionsOfAPresetStayAsTheyAre(t *testing.T) {
	tests := []struct {
		name string
		do   []string
		want string
	}{
		{"a number", []string{`preset.json = {"model": "sync/react-1", "input": {"temperature": 0.50}}`, "a.mp4", "a.wav"}, `{"temperature":0.50}`},
		{
			"the options that lipdrop would set", []string{`preset.json = {"input": {"prompt": "Hi", "num_clips": 7}}`, "a.png", "a.wav"},
			`{"num_clips":7,"prompt":"Hi"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			ready, problems := b.prepared(t, b.step(t, tt.do...))
			if got := compact(t, ready.Input); got != tt.want || problems != nil {
				t.Errorf("options %s, problems %v; want %s and no problems", got, problems, tt.want)
			}
		})
	}
}

// Each match of a wildcard gets its own copy of the options: a change of one copy changes
// neither the other copies nor what a second Prepare of the same job returns.
func TestMatchesShareNoOptions(t *testing.T) {
	b := newInbox(t)
	b.step(t, "x.job/v.mp4", "x.job/de.wav", "x.job/fr.wav")
	key := b.step(t, `x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav", "emotion": "happy"}}`)
	jobs := b.findings(t, key)[1:]
	for _, i := range []int{0, 1, 0} {
		ready, problems, err := b.Prepare(t.Context(), jobs[i].Job)
		if err != nil || problems != nil {
			t.Fatal(problems, err)
		}
		if got := compact(t, ready.Input); got != `{"emotion":"happy"}` {
			t.Errorf("the options of %s are %s, want only emotion happy", jobs[i].Name, got)
		}
		ready.Input["emotion"], ready.Input["temperature"] = "sad", 1
	}
}

func TestAvatarPairsAskForTheClipsThatTheirAudioNeeds(t *testing.T) {
	tests := []struct {
		name   string
		audio  time.Duration
		preset string
		want   any // num_clips
		warn   string
	}{
		{"a minute", time.Minute, `{}`, 20, ""},
		{"clips of fewer frames are shorter", time.Minute, `{"input": {"frames_per_clip": 24}}`, 40, ""},
		{"an audio longer than 100 clips", 301 * time.Second, `{}`, 100, "a.wav is 1.0 s longer than the 300.0 s of num_clips 100: its last 1.0 s are dropped; community/live-avatar accepts at most num_clips 100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			b.Set("inbox/a.wav", voice(tt.audio))
			b.step(t, "preset.json = "+tt.preset)
			ready, problems := b.prepared(t, b.step(t, "a.png"))
			if problems != nil || ready.Input["num_clips"] != tt.want {
				t.Errorf("num_clips is %v, problems %v; want %v and no problems", ready.Input["num_clips"], problems, tt.want)
			}
			if got := strings.Join(ready.Warnings, "; "); got != tt.warn {
				t.Errorf("warnings %q, want %q", got, tt.warn)
			}
		})
	}
}

// The video is 3.0 s long, and the voice 7.0 s. If a part of the voice would be dropped, the
// job has a warning or, if RejectMismatch is set, is rejected.
func TestLengthsThatDiffer(t *testing.T) {
	const (
		reason  = "talk.wav is 4.0 s longer than talk.mp4: with sync_mode cut_off its last 4.0 s are dropped"
		dropped = reason + "; loop, bounce or remap keep them"
		remedy  = "Set sync_mode to loop, bounce or remap, or shorten talk.wav by 4.0 s. "
	)
	job := func(audio string) string {
		return `x.job/job.json = {"model": "` + pro + `", "input": {"video_url": "talk.mp4", "audio_url": "` + audio + `"}}`
	}
	voiceOf7s := voice(7 * time.Second)
	for name, tt := range map[string]struct {
		do       []string
		key      string
		expected time.Duration
		warning  string
		remedy   string // if rejected
	}{
		"a pair": {[]string{"talk.mp4", "talk.wav"}, "inbox/talk.mp4", 3 * time.Second, dropped,
			remedy + "The options of a pair are in a preset.json. Then upload the file that you changed. If you changed preset.json, upload the audio of the pair too."},
		"a bundle": {[]string{"x.job/talk.mp4", "x.job/talk.wav", job("talk.wav")},
			"inbox/x.job/job.json", 3 * time.Second, dropped,
			remedy + "The options are in job.json. Then upload only the file that you changed."},
		"a bundle with a shared voice": {[]string{"x.job/talk.mp4", "talk.wav", job("/inbox/talk.wav")},
			"inbox/x.job/job.json", 3 * time.Second, dropped,
			remedy + "The options are in job.json. Then upload the file that you changed. If you changed inbox/talk.wav, upload job.json too."},
		"a match": {[]string{"x.job/talk.mp4", "x.job/talk.wav", job("*.wav")},
			"inbox/x.job/talk.wav", 3 * time.Second, dropped,
			remedy + "The options are in job.json. Then upload only the file that you changed. " + problem.AllMatches},
		"a mode that loses nothing": {[]string{`preset.json = {"input": {"sync_mode": "loop"}}`, "talk.mp4", "talk.wav"}, "inbox/talk.mp4", 7 * time.Second, "", ""},
		"a mode that changes the speed": {[]string{`preset.json = {"input": {"sync_mode": "remap"}}`, "talk.mp4", "talk.wav"}, "inbox/talk.mp4", 7 * time.Second,
			"talk.wav is 4.0 s longer than talk.mp4: with sync_mode remap, talk.mp4 plays at 43 % of its speed; loop or bounce keep its speed", ""},
		"a voice of unknown length": {[]string{job("https://example.com/a.wav"), "x.job/talk.mp4"},
			"inbox/x.job/job.json", 0, "audio_url is a URL, https://example.com/a.wav, that was not checked", ""},
	} {
		for _, reject := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reject %v", name, reject), func(t *testing.T) {
				b := newInbox(t)
				b.RejectMismatch = reject
				b.step(t, tt.do...)
				for _, key := range []string{"inbox/talk.wav", "inbox/x.job/talk.wav"} {
					b.Set(key, voiceOf7s)
				}
				ready, problems := b.prepared(t, tt.key)
				warnings := strings.Join(ready.Warnings, "; ")
				if reject && tt.remedy != "" {
					if len(problems) != 1 || problems[0].Code != problem.LengthsDiffer || problems[0].Reason != reason || problem.Remedy("talk", problems) != tt.remedy || warnings != "" {
						t.Errorf("problems %+v, warnings %q; want reason %q, remedy %q, no warnings", problems, warnings, reason, tt.remedy)
					}
					return
				}
				if problems != nil || ready.Expected.Length.Round(100*time.Millisecond) != tt.expected || warnings != tt.warning {
					t.Errorf("problems %v, expected %s, warnings %q; want no problems, %s, %q", problems, ready.Expected.Length, warnings, tt.expected, tt.warning)
				}
			})
		}
	}
}

func TestNoWarningOfAFileThatIsRejected(t *testing.T) {
	b := newInbox(t)
	b.step(t, "a.wav = ")
	ready, problems := b.prepared(t, b.step(t, "a.png"))
	if got := codes(problems); len(got) != 1 || got[0] != "empty_file" || ready.Warnings != nil {
		t.Errorf("codes %v, warnings %v; want empty_file and no warnings", got, ready.Warnings)
	}
}

func TestFormatsThatAModelDoesNotAccept(t *testing.T) {
	for audio, want := range map[string]string{
		"a.m4a":  "a.m4a is M4A; community/live-avatar accepts WAV or MP3",
		"a.ogg":  "a.ogg is OGG; community/live-avatar accepts WAV or MP3",
		"a.FLAC": "a.FLAC is FLAC; community/live-avatar accepts WAV or MP3",
		"a.mp3":  "",
	} {
		b := newInbox(t)
		b.step(t, "a.png")
		_, problems := b.prepared(t, b.step(t, audio))
		var got string
		for _, p := range problems {
			got += p.Reason
		}
		if got != want {
			t.Errorf("%s: reasons %q, want %q", audio, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	b := newInbox(t)
	b.step(t, "x.job/v.mkv")
	key := b.step(t, `x.job/job.json = {"model": "`+pro+`", "input": {"video_url": "v.mkv", "audio_url": "https://example.com/a%20b.wav?X-Amz-Signature=s3cret#x"}}`)
	ready, problems := b.prepared(t, key)
	if diff := cmp.Diff([]string{"audio_url is a URL, https://example.com/a%20b.wav, that was not checked"}, ready.Warnings); diff != "" || problems != nil {
		t.Errorf("problems %v; warnings (-want +got):\n%s", problems, diff)
	}
	b = newInbox(t)
	b.step(t, "h.job/a.png")
	ready, _ = b.prepared(t, b.step(t, `h.job/job.json = {"model": "`+horse+`", "input": {"image_url_1": "a.png", "prompt": "character1 meets character2"}}`))
	if diff := cmp.Diff([]string{"prompt names character2, but image_url_2 is not given"}, ready.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestWhatTheLedgerKeeps(t *testing.T) {
	b := newInbox(t)
	b.step(t, "x.job/a.wav")
	key := b.step(t, `x.job/job.json = {"model": "`+pro+`", "input": {"video_url": "https://example.com/v.mp4?X-Amz-Signature=s3cret", "audio_url": "a.wav"}}`)
	f := b.only(t, key)
	manifest, ok := f.Job.Manifest()
	if !ok || manifest.Key != key {
		t.Errorf("the manifest is %q, %v; want %q", manifest.Key, ok, key)
	}
	ready, _ := b.prepared(t, key)
	var got []ledger.Input
	for _, used := range ready.Media {
		got = append(got, used.Input())
	}
	want := []ledger.Input{
		{Property: "video_url", URL: "https://example.com/v.mp4"},
		{Property: "audio_url", Key: "inbox/x.job/a.wav", Bytes: 81034, LastModified: noon.Add(time.Minute), DurationSeconds: 2.53, Codecs: []string{"pcm"}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 0.01), cmpopts.IgnoreFields(ledger.Input{}, "ETag")); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	if len(got[1].ETag) != 32 {
		t.Errorf("the ETag is %q, want one without quotes", got[1].ETag)
	}
	b.step(t, "a.mp4")
	b.step(t, "a.wav")
	if m, ok := b.only(t, "inbox/a.wav").Job.Manifest(); ok {
		t.Errorf("a pair has the manifest %q, want none", m.Key)
	}
}

func TestFilesThatChangeUnderway(t *testing.T) {
	tests := []struct {
		name   string
		before string // the change happens before this operation on this key
		change string
	}{
		{"a file is overwritten between listing and inspection", "HeadObject inbox/talk.mp4", "talk.mp4 = other"},
		{"a file is dropped again between listing and inspection", "HeadObject inbox/talk.wav", "talk.wav"},
		{"a file is deleted between listing and inspection", "HeadObject inbox/talk.wav", "- talk.wav"},
		{"a file is overwritten while it is inspected", "GetObject inbox/talk.mp4", "talk.mp4 = other"},
		{"a file is deleted while it is inspected", "GetObject inbox/talk.wav", "- talk.wav"},
		{"a preset is overwritten while it is read", "GetObject inbox/preset.json", "preset.json = {}"},
		{"a preset is deleted while it is read", "GetObject inbox/preset.json", "- preset.json"},
		{"job.json is overwritten while it is read", "GetObject inbox/x.job/job.json", "x.job/job.json = {}"},
		{"a file of a bundle is deleted while it is inspected", "GetObject inbox/x.job/v.mp4", "- x.job/v.mp4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			b.step(t, "talk.mp4", "talk.wav", `preset.json = {"model": "sync/react-1"}`, reactJob("x.job/job.json", "v.mp4", "a.wav"), "x.job/v.mp4", "x.job/a.wav")
			changed := false
			b.Before = func(op, key string) error {
				if op+" "+key == tt.before && !changed {
					changed = true
					b.step(t, tt.change)
				}
				return nil
			}
			prepare := func(key string) error {
				subjects, err := b.Touched(t.Context(), drop.ParseKey(key))
				if err != nil {
					return err
				}
				found, err := b.Find(t.Context(), subjects[0])
				if err != nil {
					return err
				}
				_, _, err = b.Prepare(t.Context(), found.Own.Job)
				return err
			}
			err := errors.Join(prepare("inbox/talk.mp4"), prepare("inbox/x.job/job.json"))
			if !errors.Is(err, bucket.ErrChanged) || !changed {
				t.Errorf("the file was changed: %v, and the error is %v; want true and ErrChanged", changed, err)
			}
		})
	}
}

// roundsUp is a bucket whose HEAD rounds LastModified up to the next second. Its listings do not.
type roundsUp struct{ strict }

func (b roundsUp) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	out, err := b.strict.HeadObject(ctx, in, opts...)
	if err == nil {
		out.LastModified = aws.Time(out.LastModified.Truncate(time.Second).Add(time.Second))
	}
	return out, err
}

func TestTimesThatDifferByASecond(t *testing.T) {
	b := newInbox(t)
	b.Files = &bucket.Bucket{S3: roundsUp{strict{b.Bucket}}, Name: "b"}
	b.step(t, "talk.mp4")
	key := b.step(t, "talk.wav")
	if _, problems := b.prepared(t, key); problems != nil {
		t.Errorf("problems %v, want none", problems)
	}
	f := b.only(t, key)
	b.step(t, "talk.wav") // the same bytes, a minute later
	if _, _, err := b.Prepare(t.Context(), f.Job); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("after another upload the error is %v, want ErrChanged", err)
	}
}

func TestFileOverwrittenInTheSameSecond(t *testing.T) {
	b := newInbox(t)
	b.step(t, "talk.mp4")
	b.step(t, "talk.wav")
	f := b.only(t, "inbox/talk.wav")
	b.Set("inbox/talk.wav", voice(time.Second))
	if _, _, err := b.Prepare(t.Context(), f.Job); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("the error is %v, want ErrChanged", err)
	}
}

func TestTroubleWithTheBucketIsAnError(t *testing.T) {
	for _, op := range []string{"ListObjectsV2", "HeadObject", "GetObject"} {
		b := newInbox(t)
		b.step(t, "talk.mp4", "talk.wav", reactJob("x.job/job.json", "v.mp4", "a.wav"), "x.job/v.mp4", "x.job/a.wav")
		f := b.only(t, "inbox/talk.wav")
		trouble := os.ErrDeadlineExceeded
		b.Before = func(o, _ string) error {
			if o == op {
				return trouble
			}
			return nil
		}
		if _, problems, err := b.Prepare(t.Context(), f.Job); !errors.Is(err, trouble) || problems != nil {
			t.Errorf("%s fails: problems %v, error %v; want no problems and %v", op, problems, err, trouble)
		}
		if found, err := b.Find(t.Context(), drop.SubjectOf("x")); !errors.Is(err, trouble) {
			t.Errorf("%s fails: the bundle is %+v, error %v; want %v", op, found, err, trouble)
		}
	}
}

// S3 refuses to return a file that every match of a wildcard uses. The bundle and its match are held.
func TestRefusedFileOfAWildcard(t *testing.T) {
	b := newInbox(t)
	b.step(t, reactJob("x.job/job.json", "v.mp4", "*.wav"), "x.job/v.mp4", "x.job/a.wav")
	b.Before = func(op, key string) error {
		if op == "HeadObject" && key == "inbox/x.job/v.mp4" {
			return s3test.Error(400, "BadRequest")
		}
		return nil
	}
	for _, name := range []string{"x", "x/a"} {
		found, err := b.Find(t.Context(), drop.SubjectOf(name))
		if err != nil || found.Own.State != ledger.Held || found.Own.Order == "" {
			t.Errorf("%s is assessed as %+v, error %v; want state held and an Order", name, found, err)
		}
	}
}

// A video has the same name as a bundle with a wildcard. Then a match starts no job, even if
// the match is assessed by itself.
func TestMatchOfAContestedBundle(t *testing.T) {
	b := newInbox(t)
	b.step(t, reactJob("x.job/job.json", "v.mp4", "*.wav"), "x.job/v.mp4", "x.job/a.wav", "x.mp4")
	found, err := b.Find(t.Context(), drop.SubjectOf("x/a"))
	if err != nil || found.Match != nil || found.Own.State != ledger.Rejected || found.Own.Job != nil {
		t.Errorf("the match is assessed as %+v, error %v; want one rejected finding without a job", found, err)
	}
}

// A name is held only if time or an operator can resolve all of its problems.
func TestStateOf(t *testing.T) {
	held, rejected := problem.Problem{Code: problem.MediaForbidden}, problem.Problem{Code: problem.TooLong}
	for _, tt := range []struct {
		problems []problem.Problem
		want     ledger.State
	}{
		{[]problem.Problem{held, held}, ledger.Held},
		{[]problem.Problem{held, rejected}, ledger.Rejected},
		{[]problem.Problem{rejected, held}, ledger.Rejected},
	} {
		if got := drop.StateOf(tt.problems); got != tt.want {
			t.Errorf("the state with the problems %v is %s, want %s", tt.problems, got, tt.want)
		}
	}
}

// MaxJobsPerDrop is 2. Jobs beyond this limit are held until the limit is raised, unless files of
// these jobs are missing.
func TestJobsBeyondTheLimit(t *testing.T) {
	tests := []struct {
		name         string
		do           []string
		held, beyond int // jobs with the state held; subjects for which TooMany returns true
	}{
		{"as many tagged audios as the limit", []string{"talk.a.wav", "talk.b.wav", "talk.mp4"}, 0, 0},
		{"an audio with the name of the video, and as many tagged audios as the limit", []string{"talk.wav", "talk.a.wav", "talk.b.wav", "talk.mp4"}, 1, 1},
		{"one tagged audio more than the limit", []string{"talk.a.wav", "talk.b.wav", "talk.c.wav", "talk.mp4"}, 1, 1},
		{"tagged audios whose video is deleted", []string{"talk.a.wav", "talk.b.wav", "talk.c.wav", "talk.mp4", "- talk.mp4"}, 0, 0},
		{"tagged audios whose video is deleted, so that they use a video with a shorter stem", []string{"talk.mp4", "talk.v2.a.wav", "talk.v2.b.wav", "talk.v2.c.wav", "talk.v2.mp4", "- talk.v2.mp4"}, 1, 1},
		{"as many matches of a wildcard as the limit", []string{"x.job/v.mp4", "x.job/a.wav", "x.job/b.wav", reactJob("x.job/job.json", "v.mp4", "*.wav")}, 0, 0},
		{"one match more than the limit", []string{"x.job/v.mp4", "x.job/a.wav", "x.job/b.wav", "x.job/c.wav", reactJob("x.job/job.json", "v.mp4", "*.wav")}, 1, 1},
		{"matches that wait for the video", []string{"x.job/a.wav", "x.job/b.wav", "x.job/c.wav", reactJob("x.job/job.json", "v.mp4", "*.wav")}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			b.MaxJobsPerDrop = 2
			subjects, err := b.Touched(t.Context(), drop.ParseKey(b.step(t, tt.do...)))
			if err != nil {
				t.Fatal(err)
			}
			held, beyond := 0, 0
			for i := 0; i < len(subjects); i++ {
				if subjects[i].TooMany() {
					beyond++
				}
				found, err := b.Find(t.Context(), subjects[i])
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found.Findings() {
					if f.State == ledger.Held {
						held++
					}
				}
				subjects = append(subjects, found.Matches...)
			}
			if held != tt.held || beyond != tt.beyond {
				t.Errorf("%d jobs are held, TooMany is true for %d subjects; want %d and %d", held, beyond, tt.held, tt.beyond)
			}
		})
	}
}

// versioned is a bucket with versions.
type versioned struct{ *s3test.Bucket }

func (b versioned) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	out, err := b.Bucket.HeadObject(ctx, in, opts...)
	if err == nil {
		out.VersionId = aws.String("v of " + *in.Key)
	}
	return out, err
}

func TestVersions(t *testing.T) {
	b := newInbox(t)
	b.Files = &bucket.Bucket{S3: versioned{b.Bucket}, Name: "b"}
	b.step(t, "a.mp4")
	ready, problems := b.prepared(t, b.step(t, "a.wav"))
	if problems != nil || ready.Media[0].File.VersionID != "v of inbox/a.mp4" || ready.Media[1].Input().VersionID != "v of inbox/a.wav" {
		t.Errorf("media %+v, problems %v; want the version of each file, and no problems", ready.Media, problems)
	}
}
