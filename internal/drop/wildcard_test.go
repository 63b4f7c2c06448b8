package drop_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWildcards(t *testing.T) {
	const (
		video = "x.job/v.mp4"
		job   = "job of react, video_url=x.job/v.mp4, audio_url=x.job/"
	)
	voices := func(pattern string) string { return reactJob("x.job/job.json", "v.mp4", pattern) }
	testRows(t, []row{
		{
			says: "An audio value with a * starts a job for each match, named <bundle>/<stem of the match>; the bundle becomes used, and lists these names",
			do:   []string{"x.job/de.wav", "x.job/fr.wav", video, voices("*.wav")},
			want: []string{"x/de: " + job + "de.wav", "x/fr: " + job + "fr.wav", "x: used, by x/de x/fr"},
		},
		{
			says: "a match that is dropped after job.json starts a job too",
			do:   []string{voices("*.wav"), video, "x.job/de.wav"},
			want: []string{"x/de: " + job + "de.wav", "x: used, by x/de"},
		},
		{
			says: "without a match, the bundle waits",
			do:   []string{voices("*.wav"), video},
			want: []string{"x: waiting, waiting_for_match"},
		},
		{
			says: "a * does not cross a /",
			do:   []string{voices("*.wav"), video, "x.job/sub/de.wav"},
			want: []string{"x: waiting, waiting_for_match"},
		},
		{
			says: "a * in the name of a folder",
			do:   []string{voices("voices/*/take.*.wav"), video, "x.job/voices/anna/take.1.wav", "x.job/voices/ben/take.2.wav", "x.job/voices/take.3.wav"},
			want: []string{"x/take.1: " + job + "voices/anna/take.1.wav", "x/take.2: " + job + "voices/ben/take.2.wav", "x: used, by x/take.1 x/take.2"},
		},
		{
			says: "two matches with the same stem are ambiguous",
			do:   []string{voices("voices/*/take.wav"), video, "x.job/voices/anna/take.wav", "x.job/voices/ben/take.wav"},
			want: []string{"x/take: rejected, ambiguous", "x: used, by x/take"},
		},
		{
			says: "every other character of a pattern stands for itself",
			do:   []string{voices(`[a]?\\(.)+*.wav`), video, `x.job/[a]?\(.)+1.wav`, `x.job/aa\(.)+2.wav`},
			want: []string{`x/[a]?\(.)+1: ` + job + `[a]?\(.)+1.wav`, `x: used, by x/[a]?\(.)+1`},
		},
		{
			says: "a * in the bundle's own name is not a wildcard",
			do:   []string{reactJob("x*[y]?.job/job.json", "v.mp4", "*.wav"), "x*[y]?.job/v.mp4", "x*[y]?.job/de.wav", "xx[y]z.job/fr.wav"},
			want: []string{
				"x*[y]?/de: job of react, video_url=x*[y]?.job/v.mp4, audio_url=x*[y]?.job/de.wav", "x*[y]?: used, by x*[y]?/de",
				"xx[y]z: waiting, waiting_for_job_json",
			},
		},
		{
			says: "a pattern and a key in different Unicode forms match",
			do:   []string{voices("caf\u00e9-*.wav"), video, "x.job/cafe\u0301-1.wav"},
			want: []string{"x/caf\u00e9-1: " + job + "cafe\u0301-1.wav", "x: used, by x/caf\u00e9-1"},
		},
		{
			says: "the job of a match waits for the files that every job needs",
			do:   []string{voices("*.wav"), "x.job/de.wav"},
			want: []string{"x/de: waiting, waiting_for_files", "x: used, by x/de"},
		},
		{
			says: "a deleted match is withdrawn",
			do:   []string{voices("*.wav"), video, "x.job/de.wav", "x.job/fr.wav", "- x.job/de.wav"},
			want: []string{"x/de: withdrawn, files_gone", "x/fr: " + job + "fr.wav", "x: used, by x/fr"},
		},
		{
			says: "a * matches neither hidden files nor files that Windows creates",
			do:   []string{voices("*"), video, "x.job/.de.wav", "x.job/._fr.wav", "x.job/Thumbs.db", "x.job/desktop.ini"},
			want: []string{"x: waiting, waiting_for_match"},
		},
		{
			says: "a * matches neither job.json nor the other files that job.json names",
			do:   []string{voices("*"), video, "x.job/de.wav"},
			want: []string{"x/de: " + job + "de.wav", "x: used, by x/de"},
		},
		{
			says: "a * does not match a file that job.json names in another Unicode form",
			do:   []string{reactJob("x.job/job.json", "\u00e9.mp4", "*"), "x.job/e\u0301.mp4"},
			want: []string{"x: waiting, waiting_for_match"},
		},
		{
			says: "a match that is not an audio is rejected",
			do:   []string{voices("*"), video, "x.job/de.wav", "x.job/notes.txt", "x.job/other.mp4", "x.job/README"},
			want: []string{
				"x/README: rejected, wrong_kind", "x/de: " + job + "de.wav", "x/notes: rejected, wrong_kind",
				"x/other: rejected, wrong_kind", "x: used, by x/de",
			},
		},
		{
			says: "a name is rejected if one of its matches is not an audio, even if another one is",
			do:   []string{voices("de.*"), video, "x.job/de.wav", "x.job/de.txt"},
			want: []string{"x/de: rejected, wrong_kind", "x: used, by x/de"},
		},
		{
			says: "an empty match is rejected",
			do:   []string{voices("*.wav"), video, "x.job/de.wav = "},
			want: []string{"x/de: rejected, empty_file", "x: used, by x/de"},
		},
		{
			says: "an empty match is rejected even if a file that every job needs is still missing",
			do:   []string{voices("*.wav"), "x.job/de.wav = ", "x.job/fr.wav"},
			want: []string{"x/de: rejected, empty_file", "x/fr: waiting, waiting_for_files", "x: used, by x/de x/fr"},
		},
		{
			says: "if a file that every job needs is empty, the job of a match is rejected",
			do:   []string{voices("*.wav"), "x.job/v.mp4 = ", "x.job/de.wav"},
			want: []string{"x/de: rejected, empty_file", "x: used, by x/de"},
		},
		{
			says: "if a file that every job needs is empty and there is no match yet, the bundle is rejected",
			do:   []string{voices("*.wav"), "x.job/v.mp4 = "},
			want: []string{"x: rejected, empty_file"},
		},
		{
			says: "if two matches have the same stem and one of them is empty, both problems are reported",
			do:   []string{voices("*"), video, "x.job/de.wav = ", "x.job/de.mp3"},
			want: []string{"x/de: rejected, ambiguous, empty_file", "x: used, by x/de"},
		},
		{
			says: "a wildcard for images in an audio value",
			do:   []string{voices("*.png"), video},
			want: []string{"x: rejected, wrong_kind"},
		},
		{
			says: "a wildcard whose suffix is not a suffix of media",
			do:   []string{voices("*.txt"), video},
			want: []string{"x: rejected, unknown_suffix"},
		},
		{
			says: "a wildcard of files without a suffix",
			do:   []string{voices("*/voice"), video},
			want: []string{"x: rejected, unknown_suffix"},
		},
		{
			says: "a wildcard is accepted neither in a video value nor in a path that begins with /inbox/",
			do:   []string{reactJob("x.job/job.json", "*.mp4", "/inbox/x.job/*.wav")},
			want: []string{"x: rejected, bad_value, bad_value"},
		},
		{
			says: "if a job.json with a wildcard has a wrong option, the bundle is rejected once, and not each match",
			do: []string{
				`x.job/job.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav", "emotion": "joyful"}}`,
				video, "x.job/de.wav",
			},
			want: []string{"x: rejected, bad_value"},
		},
	})
}

// The status of a bundle with a wildcard has a warning about the files that job.json does not use,
// whichever file of the bundle was changed last. The warning names a file by its path in the bundle,
// because job.json may use a file of the same name in another folder.
func TestFileThatAWildcardDoesNotUse(t *testing.T) {
	b := newInbox(t)
	b.step(t, reactJob("x.job/job.json", "v.mp4", "voices/*.wav"), "x.job/v.mp4", "x.job/voices/de.wav", "x.job/fr.wav", "x.job/raw/de.wav", "x.job/.es.wav")
	for _, key := range []string{"inbox/x.job/fr.wav", "inbox/x.job/voices/de.wav", "inbox/x.job/job.json"} {
		want := []string{`job.json does not use fr.wav and raw/de.wav: only audio files that match "voices/*.wav" get a job`}
		if f := b.findings(t, key)[0]; f.Name != "x" || !cmp.Equal(f.Warnings, want) {
			t.Errorf("%s was changed: %s has the warnings %q, want x with %q", key, f.Name, f.Warnings, want)
		}
	}
}

func TestNamesThatAChangedFileConcerns(t *testing.T) {
	b := newInbox(t)
	b.step(t, reactJob("x.job/job.json", "v.mp4", "*.wav"), "x.job/v.mp4", "x.job/de.wav", "x.job/fr.wav", "x.job/notes.txt")
	want := map[string]string{
		"inbox/x.job/job.json":  "x x/de x/fr",
		"inbox/x.job/v.mp4":     "x x/de x/fr",
		"inbox/x.job/de.wav":    "x x/de",
		"inbox/x.job/notes.txt": "x",
	}
	got := map[string]string{}
	for key := range want {
		var names []string
		for _, f := range b.findings(t, key) {
			names = append(names, f.Name)
		}
		got[key] = strings.Join(names, " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names that each changed file concerns (-want +got):\n%s", diff)
	}
}
