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

// TestCost counts the requests that find, assess and prepare what a changed file belongs to. The
// number of requests does not depend on how many other files there are, even if their names begin
// like the name of the drop. Only the tagged audios of a video cost a listing for each page.
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
		// A sum has the requests of Touched, Find and Prepare, in this order.
		{"a pair, by its audio", "ads/pair.wav", 1 + 2 + 2, 2, 3},
		{"a lone audio", "ads/lone.wav", 1 + 2 + 0, 0, 0},
		{"a lone video", "ads/solo.mp4", 1 + 3 + 0, 0, 0},
		{"a tagged audio and its video", "ads/tag.de.wav", 2 + 6 + 2, 2, 3},
		{"a bundle, by its job.json", "ads/x.job/job.json", 4, 0 + 2 + 2, 0 + 1 + 2},
		{"a bundle, by a file of it", "ads/x.job/v.mp4", 4, 0 + 2 + 2, 0 + 1 + 2},
		{"a bundle without a job.json", "ads/y.job/a.wav", 5, 0, 0},
		{"a preset", "ads/preset.json", 2 + 2 + 0, 1, 1},
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
				b.lines(t, []string{"inbox/" + tt.key})
				got := map[string]int{"ListObjectsV2": 0, "HeadObject": 0, "GetObject": 0}
				for op, n := range b.Calls() {
					got[op] = n - before[op]
				}
				if each > 1 && tt.key == "ads/tag.de.wav" {
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

// Files whose keys sort between two endings of a search cost one more listing, however many they are.
func TestGapsBetweenEndings(t *testing.T) {
	b := newInbox(t)
	for i := range 2500 {
		for _, gap := range []string{"talk.N%05d", "talk.b%05d.txt", "talk.mp%05d.txt", "talk.n%05d/a.wav", "preset.j%05d"} {
			b.Set("inbox/"+fmt.Sprintf(gap, i), nil)
		}
	}
	b.step(t, `preset.json = {"model": "sync/react-1"}`, "talk.wav", "talk.MOV")
	findings := []string{"talk: job of react, video_url=talk.MOV, audio_url=talk.wav"}
	if diff := cmp.Diff(findings, b.lines(t, []string{"inbox/talk.wav"})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	// Two searches for talk, each with four gaps, and one search for a preset, with one gap. The
	// search for a preset makes one more listing, for names in capitals.
	const want = 2*(1+4) + (1 + 1) + 1
	if lists := b.Calls()["ListObjectsV2"]; lists != want {
		t.Errorf("%d listings, want %d", lists, want)
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
	if diff := cmp.Diff([]string{"preset.json: accepted"}, b.lines(t, []string{b.step(t, "preset.json = {}")})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// The job of a match starts even if the search for unused files, which only leads to a warning,
// would exceed maxListings. The other searches need many listings because of the Unicode forms
// of \u00e9 and the files between the suffixes.
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
	if diff := cmp.Diff(want, b.lines(t, []string{b.step(t, job+"\u00e9.wav")})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// A match that sorts after the maxMatches files that are compared with a wildcard is found by its job name.
func TestMatchBeyondTheComparedFiles(t *testing.T) {
	b := newInbox(t)
	for i := range 2 * bucket.PageSize {
		b.Set(fmt.Sprintf("inbox/x.job/%04d.wav", i), nil)
	}
	b.step(t, reactJob("x.job/job.json", "v.mp4", "*.wav"), "x.job/v.mp4", "x.job/last.wav")
	found, err := b.Find(t.Context(), drop.SubjectOf("x/last"))
	if err != nil || found.Own.Job == nil {
		t.Errorf("the name x/last is %s, error %v; want a job", found.Own.State, err)
	}
}

func TestUsedByManyJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("so many files take minutes with the race detector")
	}
	tests := []struct {
		name    string
		audio   string // formats of the audio files' names; each takes a number
		key     string
		first   string
		jobs    int
		warning string
	}{
		{"tagged audios", "talk.%04d.wav", "inbox/talk.mp4", "talk.0000", 1100, ""},
		{"tagged audios, with one tag and with two", "talk.%04d.wav talk.%04d.de.wav", "inbox/talk.mp4", "talk.0000", 2000 - 2, `only the first 2000 files whose names begin with "talk." were checked`}, // without the two audios of the last tag, whose video may be on the next page
		{"a wildcard", "x.job/%04d.wav", "inbox/x.job/job.json", "x/0000", 1100, ""},
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
			found := b.findings(t, tt.key)
			f := found[0]
			if f.State != ledger.Used || len(f.Jobs) != tt.jobs || f.Jobs[0] != tt.first || len(found) != 1+tt.jobs || strings.Join(f.Warnings, "") != tt.warning {
				t.Errorf("%s by %d jobs from %q on, %d findings, warnings %q; want used by %d jobs from %q on, and the warning %q", f.State, len(f.Jobs), f.Jobs[0], len(found), f.Warnings, tt.jobs, tt.first, tt.warning)
			}
			if tt.key == "inbox/talk.mp4" {
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
