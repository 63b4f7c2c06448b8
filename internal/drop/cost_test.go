package drop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// TestCost counts the requests that submit needs to assess what a file belongs to. The number
// of requests does not depend on how many other files there are, even if their names begin like
// the name of the drop. Only the tagged audios of a video cost a listing for each page.
func TestCost(t *testing.T) {
	drops := []string{
		"ads/pair.mp4", "ads/pair.wav", "ads/lone.wav", "ads/solo.mp4", "ads/tag.mp4", "ads/tag.de.wav",
		reactJob("ads/x.job/job.json", "v.mp4", "a.wav"), "ads/x.job/v.mp4", "ads/x.job/a.wav", "ads/y.job/a.wav",
		"ads/preset.json = {}", "ads/notes.txt", "ads/job.json = {}",
	}
	others := []string{
		"ads/%05d.mp4", "ads/pair.%05d.wav", "ads/pair-%05d.mp4", "ads/pairs.job/%05d.wav",
		"ads/lone.%05d.wav", "ads/solos.job/%05d.wav", "ads/tag.%05d.wav", "ads/x.job/%05d.wav", "ads/x.job/job.%05d.json",
		"ads/y.job/%05d.wav", "ads/preset.%05d.json", "ads/preset.%05d.wav", "ads/notes.%05d.txt", "ads/zz%05d/x.wav",
	}
	tests := []struct {
		name, key          string
		lists, heads, gets int
	}{
		// The search for a preset costs two listings for each folder. Each search for a
		// stem, or for other sources of the stem's name, costs one listing.
		{"a pair, by its audio", "ads/pair.wav", 3 + 2, 2, 3},
		{"a lone audio", "ads/lone.wav", 3, 0, 0},
		{"a lone video", "ads/solo.mp4", 1 + 3, 0, 0},
		{"a tagged audio, and the video that is used", "ads/tag.de.wav", 2 + 3 + 2 + 3, 2, 3},
		{"a bundle, by its job.json", "ads/x.job/job.json", 2 + 2, 2 + 2, 1 + 2},
		{"a bundle, by a file of it", "ads/x.job/v.mp4", 2 + 2, 2 + 2, 1 + 2},
		{"a bundle without a job.json", "ads/y.job/a.wav", 2 + 2 + 1, 0, 0},
		{"a preset", "ads/preset.json", 2 + 2, 1, 1},
		{"a file of an unknown suffix", "ads/notes.txt", 0, 1, 0},
		{"a job.json outside a .job folder", "ads/job.json", 0, 1, 0},
		{"a folder marker", "ads/", 0, 0, 0},
	}
	for _, each := range []int{1, 1000} {
		b := newInbox(t)
		for _, pattern := range others {
			for i := range each {
				b.Set("inbox/"+fmt.Sprintf(pattern, i), nil)
			}
		}
		b.step(t, drops...)
		t.Run(fmt.Sprintf("%d other files", each*len(others)), func(t *testing.T) {
			for _, tt := range tests {
				before := b.Calls()
				b.look(t, []string{"inbox/" + tt.key})
				got := map[string]int{"ListObjectsV2": 0, "HeadObject": 0, "GetObject": 0}
				for op, n := range b.Calls() {
					got[op] = n - before[op]
				}
				if each > 1 && tt.name == "a tagged audio, and the video that is used" {
					tt.lists++ // the audios of the video are on two pages
				}
				want := map[string]int{"ListObjectsV2": tt.lists, "HeadObject": tt.heads, "GetObject": tt.gets}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("requests for %s (-want +got):\n%s", tt.name, diff)
				}
			}
		})
	}
}

// TestGapsBetweenEndings checks that a search also skips files whose keys sort between the
// endings that it searches for.
func TestGapsBetweenEndings(t *testing.T) {
	b := newInbox(t)
	for i := range 2500 {
		for _, gap := range []string{"talk.N%05d", "talk.b%05d.txt", "talk.mp%05d.txt", "talk.n%05d/a.wav", "preset.j%05d"} {
			b.Set("inbox/"+fmt.Sprintf(gap, i), nil)
		}
	}
	b.step(t, `preset.json = {"model": "sync/react-1"}`, "talk.wav", "talk.MOV")
	want := []string{"talk: job of react, video_url=talk.MOV, audio_url=talk.wav"}
	if diff := cmp.Diff(want, b.look(t, []string{"inbox/talk.wav"})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	// Two searches for talk, each with three gaps and three pages of folders, and one search
	// for a preset.
	const most = 2*(1+3+3) + 3
	if lists := b.Calls()["ListObjectsV2"]; lists > most {
		t.Errorf("%d listings, want at most %d", lists, most)
	}
}

// A preset gets its answer file even if the search for the other presets of its folder takes too
// many listings.
func TestPresetBesideThousandsOfFiles(t *testing.T) {
	b := newInbox(t)
	for n := range 1 << len("json") { // every spelling of the suffix
		spelling := []byte("json")
		for i := range spelling {
			spelling[i] -= byte(n>>i&1) * ('a' - 'A')
		}
		for i := range bucket.PageSize {
			b.Set(fmt.Sprintf("inbox/preset.%s%04d", spelling, i), nil)
		}
	}
	if diff := cmp.Diff([]string{"preset.json: accepted"}, b.look(t, []string{b.step(t, "preset.json = {}")})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// The job of a match starts even if no listing is left for the warning about unused files.
func TestMatchBesideThousandsOfFiles(t *testing.T) {
	b := newInbox(t)
	const job = "\u00e9.job/"
	b.step(t, reactJob(job+"job.json", "v.mp4", "*.wav"), job+"v.mp4")
	for _, gap := range []string{".AB", ".B", ".G", ".K", ".N", ".PA", ".Q", ".WB", ".ab", ".b", ".g", ".k", ".n"} { // between two suffixes of media
		for i := range bucket.PageSize + 1 {
			b.Set(fmt.Sprintf("inbox/\u00e9/\u00e9%s%04d", gap, i), nil)
		}
	}
	want := []string{"\u00e9/\u00e9: job of react, video_url=" + job + "v.mp4, audio_url=" + job + "\u00e9.wav", "\u00e9: used, by \u00e9/\u00e9"}
	if diff := cmp.Diff(want, b.look(t, []string{b.step(t, job+"\u00e9.wav")})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestUsedByManyJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("so many files take minutes with the race detector")
	}
	tests := []struct {
		name    string
		audio   string // formats of the audio files' names; each takes a number
		first   string
		jobs    int
		warning string
	}{
		{"tagged audios", "talk.%04d.wav", "talk.0000", 1100, ""},
		{"tagged audios, with one tag and with two", "talk.%04d.wav talk.%04d.de.wav", "talk.0000", 1998, `only the first 2000 files whose names begin with "talk." were checked`},
		{"a wildcard", "x.job/%04d.wav", "x/0000", 1100, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			for i := range 1100 {
				for pattern := range strings.FieldsSeq(tt.audio) {
					b.Set("inbox/"+fmt.Sprintf(pattern, i), nil)
				}
			}
			b.step(t, reactJob("x.job/job.json", "v.mp4", "*.wav"), "x.job/v.mp4", "talk.mp4")
			key := "inbox/talk.mp4"
			if strings.HasPrefix(tt.audio, "x.job") {
				key = "inbox/x.job/job.json"
			}
			found := b.findings(t, key)
			f := found[0]
			if f.State != ledger.Used || len(f.Jobs) != tt.jobs || f.Jobs[0] != tt.first || len(found) != 1+tt.jobs || strings.Join(f.Warnings, "") != tt.warning {
				t.Errorf("%s by %d jobs from %q on, %d findings, warnings %q; want used by %d jobs from %q on, and the warning %q", f.State, len(f.Jobs), f.Jobs[0], len(found), f.Warnings, tt.jobs, tt.first, tt.warning)
			}
			if key == "inbox/talk.mp4" {
				return
			}
			b.step(t, "x.png") // now the name of the bundle has two sources
			a, err := b.Find(t.Context(), drop.SubjectOf("x"))
			if err != nil || a.Own.State != ledger.Rejected || !slices.Equal(a.Own.Jobs, f.Jobs) || !slices.Equal(a.Own.Warnings, f.Warnings) {
				t.Errorf("%s with %d jobs and the warnings %q, %v; want rejected with the same jobs and the warnings %q", a.Own.State, len(a.Own.Jobs), a.Own.Warnings, err, f.Warnings)
			}
		})
	}
}
