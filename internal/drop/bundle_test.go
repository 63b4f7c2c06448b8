package drop_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	cafe     = `ads/cafe.job/job.json = {"model": "community/live-avatar", "input": {"image_url": "woman.png", "audio_url": "voice.wav", "prompt": "Hi"}}`
	cafeJob  = "ads/cafe: job of avatar, image_url=ads/cafe.job/woman.png, audio_url=ads/cafe.job/voice.wav, prompt=Hi"
	cafeWait = "ads/cafe: waiting, waiting_for_files"
)

// reactJob returns the step that drops a job.json at a key.
func reactJob(key, video, audio string) string {
	return key + ` = {"model": "sync/react-1", "input": {"video_url": "` + video + `", "audio_url": "` + audio + `"}}`
}

func TestBundles(t *testing.T) {
	testRows(t, []row{
		{
			says: "A folder whose name ends in .job is one job, started by its job.json once every file that it names is there",
			do:   []string{"ads/cafe.job/woman.png", "ads/cafe.job/voice.wav", cafe},
			want: []string{cafeJob},
		},
		{
			says: "The files of a bundle may arrive in any order",
			do:   []string{cafe, "ads/cafe.job/voice.wav", "ads/cafe.job/woman.png"},
			want: []string{cafeJob},
		},
		{
			says: "A bundle waits until every file that job.json names is there",
			do:   []string{cafe, "ads/cafe.job/voice.wav"},
			want: []string{cafeWait},
		},
		{
			says: "A bundle without a job.json waits",
			do:   []string{"ads/cafe.job/woman.png", "ads/cafe.job/voice.wav"},
			want: []string{"ads/cafe: waiting, waiting_for_job_json"},
		},
		{
			says: "Nothing inside a bundle pairs by itself",
			do:   []string{"x.job/talk.mp4", "x.job/talk.wav", "x.job/sub/talk.mp4", "x.job/sub/talk.wav"},
			want: []string{"x: waiting, waiting_for_job_json"},
		},
		{
			says: "A file in a bundle does not pair with a file outside it",
			do:   []string{"talk.mp4", "de.job/talk.wav"},
			want: []string{"de: waiting, waiting_for_job_json", "talk: waiting, waiting_for_audio"},
		},
		{
			says: "a .job folder inside another is a plain folder",
			do:   []string{reactJob("a.job/job.json", "b.job/talk.mp4", "b.job/voice.wav"), reactJob("a.job/b.job/job.json", "x.mp4", "x.wav"), "a.job/b.job/talk.mp4", "a.job/b.job/voice.wav"},
			want: []string{"a: job of react, video_url=a.job/b.job/talk.mp4, audio_url=a.job/b.job/voice.wav"},
		},
		{
			says: "a folder may end in .JOB or .Job, and job.json may be written JOB.JSON or Job.Json",
			do: []string{
				reactJob("a.JOB/JOB.JSON", "v.mp4", "a.wav"), "a.JOB/v.mp4", "a.JOB/a.wav",
				reactJob("b.Job/Job.Json", "v.mp4", "a.wav"), "b.Job/v.mp4", "b.Job/a.wav",
			},
			want: []string{
				"a: job of react, video_url=a.JOB/v.mp4, audio_url=a.JOB/a.wav",
				"b: job of react, video_url=b.Job/v.mp4, audio_url=b.Job/a.wav",
			},
		},
		{
			says: "joB.json is rejected, unlike job.json, JOB.json and Job.json; in a subfolder it is an ordinary file",
			do:   []string{reactJob("a.job/joB.json", "v.mp4", "a.wav"), "b.job/sub/joB.json = {}"},
			want: []string{"a: rejected, invalid_json", "b: waiting, waiting_for_job_json"},
		},
		{
			says: "the long s, \u017f, is not an s: job.j\u017fon is not job.json",
			do:   []string{"x.job/job.j\u017fon = {}"},
			want: []string{"x: waiting, waiting_for_job_json"},
		},
		{
			says: "two job.json files that differ only in case are ambiguous",
			do:   []string{cafe, reactJob("ads/cafe.job/Job.json", "v.mp4", "a.wav")},
			want: []string{"ads/cafe: rejected, ambiguous"},
		},
		{
			says: "a job.json outside a .job folder starts nothing and is rejected",
			do:   []string{`ads/job.json = {"model": "sync/react-1"}`, "job.json = {}", "cafe.jobs/job.json = {}"},
			want: []string{
				"ads/job.json: rejected, job_json_outside_job_folder", "cafe.jobs/job.json: rejected, job_json_outside_job_folder",
				"job.json: rejected, job_json_outside_job_folder",
			},
		},
		{
			says: "An empty media file is rejected while other files are missing",
			do:   []string{cafe, "ads/cafe.job/woman.png = "},
			want: []string{"ads/cafe: rejected, empty_file"},
		},
		{
			says: "An empty media file in another folder is rejected, and so is the bundle that names it",
			do:   []string{"cast/v.mp4 = ", reactJob("x.job/job.json", "/inbox/cast/v.mp4", "a.wav")},
			want: []string{"cast/v: rejected, empty_file", "x: rejected, empty_file"},
		},
		{
			says: "An empty media file is rejected before job.json is there",
			do:   []string{"ads/cafe.job/woman.png = ", "ads/cafe.job/notes.txt = ", "ads/cafe.job/voice.wav"},
			want: []string{"ads/cafe: rejected, empty_file"},
		},
		{
			says: "An empty media file that job.json does not name changes nothing",
			do:   []string{cafe, "ads/cafe.job/woman.png", "ads/cafe.job/voice.wav", "ads/cafe.job/other.mp4 = "},
			want: []string{cafeJob},
		},
		{
			says: "An empty media file and a wrong option are reported together while another file is missing",
			do:   []string{`x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "emotion": "joyful"}}`, "x.job/v.mp4 = "},
			want: []string{"x: rejected, empty_file, bad_value"},
		},
		{
			says: "A file that job.json does not name changes nothing",
			do:   []string{cafe, "ads/cafe.job/woman.png", "ads/cafe.job/voice.wav", "ads/cafe.job/notes.txt", "ads/cafe.job/other.mp4"},
			want: []string{cafeJob},
		},
	})
}

func TestJobJSON(t *testing.T) {
	const audio = "x.job/a.wav"
	reject := func(says, doc string, want ...string) row {
		line := "x: rejected"
		for _, code := range want {
			line += ", " + code
		}
		return row{says: says, do: []string{"x.job/v.mp4", audio, "x.job/job.json = " + doc}, want: []string{line}}
	}
	inputs := func(options string) string { return `{"model": "sync/react-1", "input": {` + options + `}}` }
	testRows(t, []row{
		{
			says: "job.json is the body of RunComfy's own API call with file names in place of URLs",
			do: []string{
				`x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "voice.wav", "emotion": "happy"}}`,
				"x.job/talk.mp4", "x.job/voice.wav",
			},
			want: []string{"x: job of react, video_url=x.job/talk.mp4, audio_url=x.job/voice.wav, emotion=happy"},
		},
		{
			says: "A media value is a file beside job.json (or below it)",
			do:   []string{reactJob("x.job/job.json", "./v.mp4", "voices/de/a.wav"), "x.job/v.mp4", "x.job/voices/de/a.wav"},
			want: []string{"x: job of react, video_url=x.job/v.mp4, audio_url=x.job/voices/de/a.wav"},
		},
		{
			says: "A file beside job.json may arrive after job.json",
			do:   []string{reactJob("x.job/job.json", "v.mp4", "a.wav")},
			want: []string{"x: waiting, waiting_for_files"},
		},
		{
			says: "A media value may be a key of the same bucket below inbox/",
			do:   []string{"cast/v.mp4", reactJob("x.job/job.json", "/inbox/cast/v.mp4", "a.wav"), audio},
			want: []string{"cast/v: waiting, waiting_for_audio", "x: job of react, video_url=cast/v.mp4, audio_url=x.job/a.wav"},
		},
		{
			says: "A file in another folder must exist when job.json is assessed; otherwise the job is rejected",
			do:   []string{audio, reactJob("x.job/job.json", "/inbox/cast/v.mp4", "a.wav")},
			want: []string{"x: rejected, file_missing"},
		},
		{
			says: "A media value may be an https URL, which is passed on as it is",
			do:   []string{reactJob("x.job/job.json", "https://example.com/v.mp4?sig=s3cret", "HTTPS://example.com/a")},
			want: []string{"x: job of react, video_url=https://example.com/v.mp4?sig=s3cret, audio_url=HTTPS://example.com/a"},
		},
		reject("a path on a person's computer", inputs(`"video_url": "C:\\clips\\v.mp4", "audio_url": "~/a.wav"`), "bad_value", "bad_value"),
		reject("a path of Windows, with slashes, or with backslashes that JSON reads as escapes", inputs(`"video_url": "c:/clips/v.mp4", "audio_url": "C:\new\take.wav"`), "bad_value", "bad_value"),
		reject("a path of a Mac or of a share", inputs(`"video_url": "/Users/ann/v.mp4", "audio_url": "\\\\nas\\a.wav"`), "bad_value", "bad_value"),
		reject("a path on a person's computer, as a URL", inputs(`"video_url": "file:///home/ann/v.mp4", "audio_url": "FILE:/a.wav"`), "bad_value", "bad_value"),
		{
			says: "a key that only looks like a path on a person's computer is accepted",
			do: []string{
				reactJob("x.job/job.json", "Users/c:v.mp4", "~a.wav"), "x.job/Users/c:v.mp4", "x.job/~a.wav",
				reactJob("y.job/job.json", "/inbox/home/v.mp4", "tmp/a.wav"), "home/v.mp4", "y.job/tmp/a.wav",
			},
			want: []string{
				"home/v: waiting, waiting_for_audio", "x: job of react, video_url=x.job/Users/c:v.mp4, audio_url=x.job/~a.wav",
				"y: job of react, video_url=home/v.mp4, audio_url=y.job/tmp/a.wav",
			},
		},
		{
			says: "a file in a folder whose name begins with a dot is not a drop, and job.json may name it by its whole path",
			do:   []string{"ads/.media/1f/v.mp4", "shared/.media/a.wav", reactJob("ads/x.job/job.json", "/inbox/ads/.media/1f/v.mp4", "/inbox/shared/.media/a.wav")},
			want: []string{"ads/x: job of react, video_url=ads/.media/1f/v.mp4, audio_url=shared/.media/a.wav"},
		},
		reject("a path that begins with /inbox/, but names a hidden file or contains ..", inputs(`"video_url": "/inbox/.media/._v.mp4", "audio_url": "/inbox/.media/../a.wav"`), "bad_value", "bad_value"),
		reject("an http or s3 URL", inputs(`"video_url": "http://example.com/v.mp4", "audio_url": "s3://b/a.wav"`), "bad_value", "bad_value"),
		reject("an https URL with a user, or without a host", inputs(`"video_url": "https://u:p@example.com/v.mp4", "audio_url": "https:///a.wav"`), "bad_value", "bad_value"),
		reject("an https URL with a space inside, or at its end", inputs(`"video_url": "https://example.com/my talk.mp4", "audio_url": "https://example.com/a.wav "`), "bad_value", "bad_value"),
		reject("a file outside inbox/, or outside the bundle by a relative path", inputs(`"video_url": "/outbox/v.mp4", "audio_url": "../a.wav"`), "bad_value", "bad_value"),
		reject("a file whose name or folder begins with a dot", inputs(`"video_url": ".hidden/v.mp4", "audio_url": "._a.wav"`), "bad_value", "bad_value"),
		reject("a file without the suffix of a medium", inputs(`"video_url": "v.txt", "audio_url": "a"`), "unknown_suffix", "unknown_suffix"),
		reject("a file of another kind", inputs(`"video_url": "a.wav", "audio_url": "v.mp4"`), "wrong_kind", "wrong_kind"),
		reject("an unknown member", `{"model": "sync/react-1", "inputs": {}}`, "unknown_member"),
		reject("an unknown member of the input", inputs(`"video_url": "v.mp4", "audio_url": "/inbox/no.wav", "audio_ur": "a.wav"`), "file_missing", "unknown_member"),
		reject("a model that is not known", `{"model": "sync/react", "input": {}}`, "unknown_model"),
		reject("a job.json without a model", `{"input": {}}`, "missing_member"),
		reject("members with wrong names, which are not also reported as missing", `{"Model": "sync/react-1", "Input": {}}`, "unknown_member", "unknown_member"),
		reject("a model of the wrong form", `{"model": 1, "input": []}`, "invalid_json", "invalid_json"),
		reject("JSON that is not an object", `[1]`, "invalid_json"),
		reject("null", `null`, "invalid_json"),
		reject("text that is not JSON", "{\n  \"model\": \"sync/react-1\",\n}", "invalid_json"),
		reject("a member twice", `{"model": "sync/react-1", "model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`, "invalid_json"),
		reject("not UTF-8", "\xff\xfe{}", "invalid_json"),
		reject("UTF-16", "{\x00}\x00", "invalid_json"),
		reject("only white space", " \n", "empty_file"),
		{
			says: "the byte order mark with which some Windows editors begin a text is ignored",
			do:   []string{`x.job/job.json = ` + "\ufeff" + `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`, "x.job/v.mp4", audio},
			want: []string{"x: job of react, video_url=x.job/v.mp4, audio_url=x.job/a.wav"},
		},
		{
			says: "every problem, not only the first",
			do:   []string{`x.job/job.json = {"webhook": "x", "model": "sync/react-1", "input": {"video_url": "v.txt", "audio_url": "/inbox/a.wav", "emotion": "joyful", "mode": 1}}`},
			want: []string{"x: rejected, unknown_member, unknown_suffix, file_missing, bad_value, unknown_member"},
		},
		{
			says: "a wrong option is reported at once, while files are missing",
			do:   []string{`x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "emotion": "joyful"}}`},
			want: []string{"x: rejected, bad_value"},
		},
		{
			says: "an empty media file and a wrong option are reported together when every file is there",
			do: []string{
				`x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "emotion": "joyful"}}`,
				"x.job/v.mp4 = ", audio,
			},
			want: []string{"x: rejected, empty_file, bad_value"},
		},
		{
			says: "File names in job.json compare exactly",
			do:   []string{reactJob("x.job/job.json", "v.mp4", "A.wav"), "x.job/v.mp4", "x.job/a.wav"},
			want: []string{"x: waiting, waiting_for_files"},
		},
		{
			says: "If no file has exactly the name in job.json, the names compare in NFC",
			do:   []string{reactJob("x.job/job.json", "caf\u00e9.mp4", "fete\u0301/a.wav"), "x.job/cafe\u0301.mp4", "x.job/fet\u00e9/a.wav"},
			want: []string{"x: job of react, video_url=x.job/cafe\u0301.mp4, audio_url=x.job/fet\u00e9/a.wav"},
		},
		{
			says: "If a file has exactly the name in job.json, it is used, and not a file with another form of the name",
			do:   []string{reactJob("x.job/job.json", "e\u0301.mp4", "a.wav"), "x.job/\u00e9.mp4", "x.job/e\u0301.mp4", audio},
			want: []string{"x: job of react, video_url=x.job/e\u0301.mp4, audio_url=x.job/a.wav"},
		},
	})
}

// A person who may drop into one folder must not get the files of another folder.
func TestSharedFolders(t *testing.T) {
	tests := []struct {
		name, video string
		shared      []string // set by the operator; nil for the default
		used        bool     // the bundle one/x may use the video
	}{
		{"a file of another person", "/inbox/other/v.mp4", nil, false},
		{"a file of the folder that the bundle is in", "/inbox/one/v.mp4", nil, true},
		{"a file below the folder that the bundle is in", "/inbox/one/cast/v.mp4", nil, true},
		{"a folder whose name begins like the bundle's folder", "/inbox/one2/v.mp4", nil, false},
		{"a file of the shared folder", "/inbox/shared/v.mp4", nil, true},
		{"a folder whose name begins like the shared folder", "/inbox/shared2/v.mp4", nil, false},
		{"a folder that the operator shares", "/inbox/cast/v.mp4", []string{"inbox/cast/"}, true},
		{"the default folder, if the operator shares another", "/inbox/shared/v.mp4", []string{"inbox/cast/"}, false},
		{"a file of another person, if the operator shares all folders", "/inbox/other/v.mp4", []string{"inbox/"}, true},
		{"a shared folder in another form of Unicode", "/inbox/e\u0301/v.mp4", []string{"inbox/\u00e9/"}, true},
		{"a file of another person that does not exist", "/inbox/other/none.mp4", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			if tt.shared != nil {
				b.SharedFolders = tt.shared
			}
			for _, other := range []string{"other", "one", "one/cast", "one2", "shared", "shared2", "cast", "e\u0301"} {
				b.step(t, other+"/v.mp4")
			}
			b.step(t, "one/x.job/a.wav")
			got := b.lines(t, []string{b.step(t, reactJob("one/x.job/job.json", tt.video, "a.wav"))})
			want := "one/x: rejected, file_not_shared"
			if tt.used {
				want = "one/x: job of react, video_url=" + strings.TrimPrefix(tt.video, "/inbox/") + ", audio_url=one/x.job/a.wav"
			}
			if diff := cmp.Diff([]string{want}, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
