package drop_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// If two places in the inbox give the same name, the name is rejected, whichever place
// changed. If one place is deleted, the other place is assessed.
func TestNamesWithTwoSources(t *testing.T) {
	const (
		contested = ": rejected, ambiguous"
		pairJob   = ": job of pro, video_url=ads/talk.mp4, audio_url=ads/talk.wav"
		bundleJob = ": job of react, video_url=ads/talk.job/v.mp4, audio_url=ads/talk.job/a.wav"
		matchJob  = ": job of react, video_url=ads/cafe.job/v.mp4, audio_url=ads/cafe.job/"
	)
	bundle := []string{"ads/talk.job/v.mp4", "ads/talk.job/a.wav", reactJob("ads/talk.job/job.json", "v.mp4", "a.wav")}
	wildcard := []string{"ads/cafe.job/v.mp4", "ads/cafe.job/de.wav", "ads/cafe.job/fr.wav", reactJob("ads/cafe.job/job.json", "v.mp4", "*.wav")}
	testRows(t, []row{
		{
			says: "a pair and a bundle",
			do:   slices.Concat([]string{"ads/talk.mp4", "ads/talk.wav"}, bundle),
			want: []string{"ads/talk" + contested},
		},
		{
			says: "a bundle, and a lone file that would wait",
			do:   slices.Concat(bundle, []string{"ads/talk.wav"}),
			want: []string{"ads/talk" + contested},
		},
		{
			says: "a pair and a bundle without a job.json",
			do:   []string{"ads/talk.mp4", "ads/talk.wav", "ads/talk.job/v.mp4"},
			want: []string{"ads/talk" + contested},
		},
		{
			says: "a folder with only a .DS_Store is not a source",
			do:   []string{"ads/talk.mp4", "ads/talk.job/.DS_Store = x", "ads/talk.wav"},
			want: []string{"ads/talk" + pairJob},
		},
		{
			says: "two bundles whose folders differ in case",
			do:   slices.Concat(bundle, []string{"ads/talk.JOB/v.mp4"}),
			want: []string{"ads/talk" + contested},
		},
		{
			says: "two bundles with wildcards, whose folders differ in case",
			do:   slices.Concat(wildcard, []string{"ads/cafe.JOB/v.mp4", "ads/cafe.JOB/de.wav", reactJob("ads/cafe.JOB/job.json", "v.mp4", "*.wav")}),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + contested, "ads/cafe" + contested + ", by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "a pair beside a bundle is deleted",
			do:   slices.Concat(bundle, []string{"ads/talk.mp4", "ads/talk.wav", "- ads/talk.mp4", "- ads/talk.wav"}),
			want: []string{"ads/talk" + bundleJob},
		},
		{
			says: "a bundle beside a pair is deleted",
			do:   slices.Concat(bundle, []string{"ads/talk.mp4", "ads/talk.wav", "- ads/talk.job/job.json", "- ads/talk.job/v.mp4", "- ads/talk.job/a.wav"}),
			want: []string{"ads/talk" + pairJob},
		},
		{
			says: "a match of a wildcard and a pair with the name of the match",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.wav", "ads/cafe/de.mp4"}),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "a match of a wildcard and a bundle with the name of the match",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.job/notes.txt"}),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "half a pair in ads/cafe/ whose name is not the name of a match",
			do:   slices.Concat(wildcard, []string{"ads/cafe/it.wav"}),
			want: []string{
				"ads/cafe/de" + matchJob + "de.wav", "ads/cafe/fr" + matchJob + "fr.wav",
				"ads/cafe/it: waiting, waiting_for_video_or_image", "ads/cafe: used, by ads/cafe/de ads/cafe/fr",
			},
		},
		{
			says: "a wildcard for videos, which starts no job, and a pair with the name that a match would have",
			do:   []string{"ads/cafe/de.mp4", "ads/cafe/de.wav", "ads/cafe.job/de.mp4", reactJob("ads/cafe.job/job.json", "*.mp4", "a.wav")},
			want: []string{"ads/cafe/de: job of pro, video_url=ads/cafe/de.mp4, audio_url=ads/cafe/de.wav", "ads/cafe: rejected, bad_value"},
		},
		{
			says: "half a pair beside a bundle with a wildcard: the matches are rejected too",
			do:   slices.Concat(wildcard, []string{"ads/cafe.png"}),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + contested, "ads/cafe" + contested + ", by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "two audio files beside a bundle with a wildcard",
			do:   slices.Concat([]string{"ads/cafe.wav", "ads/cafe.WAV"}, wildcard),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + contested, "ads/cafe" + contested + ", by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "half a pair beside a bundle with a wildcard is deleted",
			do:   slices.Concat(wildcard, []string{"ads/cafe.png", "- ads/cafe.png"}),
			want: []string{"ads/cafe/de" + matchJob + "de.wav", "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "half a pair beside a bundle with a wildcard, and a second bundle with the name of a match",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.job/notes.txt", "ads/cafe.png"}),
			want: []string{"ads/cafe/de" + contested, "ads/cafe/fr" + contested, "ads/cafe" + contested + ", by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "a match is deleted, and half a pair with its name is left",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.wav", "- ads/cafe.job/de.wav"}),
			want: []string{"ads/cafe/de: waiting, waiting_for_video_or_image", "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/fr"},
		},
		{
			says: "a match is deleted, and a bundle with its name is left",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.job/notes.txt", "- ads/cafe.job/de.wav"}),
			want: []string{"ads/cafe/de: waiting, waiting_for_job_json", "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/fr"},
		},
		{
			says: "a folder with only a .DS_Store has the name of a match",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.job/.DS_Store = x"}),
			want: []string{"ads/cafe/de" + matchJob + "de.wav", "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/de ads/cafe/fr"},
		},
		{
			says: "half a pair is deleted, and a match with its name is left",
			do:   slices.Concat(wildcard, []string{"ads/cafe/de.wav", "- ads/cafe/de.wav"}),
			want: []string{"ads/cafe/de" + matchJob + "de.wav", "ads/cafe/fr" + matchJob + "fr.wav", "ads/cafe: used, by ads/cafe/de ads/cafe/fr"},
		},
	})
}

// The match de of ads/cafe.job and the bundle ads/cafe/de.job have the same name, so the matches of
// ads/cafe/de.job are rejected too. After de.wav is deleted, they are assessed again.
func TestMatchBesideABundleWithAWildcardIsDeleted(t *testing.T) {
	b := newInbox(t)
	b.step(t,
		"ads/cafe.job/v.mp4", reactJob("ads/cafe.job/job.json", "v.mp4", "*.wav"), "ads/cafe.job/de.wav",
		"ads/cafe/de.job/v.mp4", "ads/cafe/de.job/a.wav", reactJob("ads/cafe/de.job/job.json", "v.mp4", "*.wav"),
	)
	want := []string{"ads/cafe/de/a: rejected, ambiguous", "ads/cafe/de: rejected, ambiguous, by ads/cafe/de/a"}
	if diff := cmp.Diff(want, b.lines(t, []string{"inbox/ads/cafe/de.job/job.json"})); diff != "" {
		t.Errorf("before the deletion (-want +got):\n%s", diff)
	}
	deleted := b.step(t, "- ads/cafe.job/de.wav")
	want = []string{
		"ads/cafe/de/a: job of react, video_url=ads/cafe/de.job/v.mp4, audio_url=ads/cafe/de.job/a.wav",
		"ads/cafe/de: used, by ads/cafe/de/a", "ads/cafe: waiting, waiting_for_match",
	}
	if diff := cmp.Diff(want, b.lines(t, []string{deleted})); diff != "" {
		t.Errorf("after the deletion (-want +got):\n%s", diff)
	}
}

func TestBothSourcesAreNamed(t *testing.T) {
	b := newInbox(t)
	b.step(t, "ads/talk.mp4", "ads/talk.wav", reactJob("ads/talk.job/job.json", "v.mp4", "a.wav"))
	f := b.only(t, "inbox/ads/talk.wav")
	want := "the job ads/talk would be started by talk.mp4 and talk.wav, and also by the folder talk.job"
	if got := f.Problems[0].Reason; got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	b.step(t, "ads/cafe/de.mp4", "ads/cafe.job/de.wav", reactJob("ads/cafe.job/job.json", "https://example.com/v.mp4", "*.wav"))
	f = b.only(t, "inbox/ads/cafe/de.mp4")
	want = "the job ads/cafe/de would be started by de.mp4, and also by de.wav in cafe.job"
	if got := f.Problems[0].Reason; got != want || !strings.HasPrefix(f.Key, "status/") {
		t.Errorf("the reason is %q, want %q; the key is %s, want one below status/", got, want, f.Key)
	}
}
