package drop_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/drop"
)

// However many mistakes a drop has, its problems have at most 64 KiB.
func TestBounds(t *testing.T) {
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"m%d": 0, `, i)
		}
		return b.String()
	}
	tests := []struct {
		name     string
		do       []string
		problems int
		last     string // the end of the last reason
	}{
		{"many members of job.json", []string{`x.job/job.json = {` + members(4000) + `"model": "sync/react-1"}`}, 51, "and 3950 more"},
		{"many members of the input, and a missing file", []string{`x.job/job.json = {"model": "sync/react-1", "input": {` + members(4000) + `"video_url": "v.mp4", "audio_url": "a.wav"}}`}, 51, "and 3950 more"},
		{"many members of the input", []string{reactJob("x.job/job.json", "v.mp4", "a.wav"), "x.job/v.mp4", "x.job/a.wav", `x.job/job.json = {"model": "sync/react-1", "input": {` + members(4000) + `"video_url": "v.mp4", "audio_url": "a.wav"}}`}, 51, "and 3950 more"},
		{"many members of a preset", []string{`preset.json = {` + members(4000) + `"model": "sync/react-1"}`}, 51, "and 3950 more"},
		{"many members of a pair's preset", []string{"a.mp4", "a.wav", `preset.json = {"input": {` + members(3999) + `"m": 0}}`, "a.wav"}, 51, "and 3950 more"},
		{"a long member", []string{`x.job/job.json = {"model": "sync/react-1", "` + strings.Repeat("\U0001d160", 15000) + `": 0}`}, 1, "…\""},
		{"a long model", []string{`x.job/job.json = {"model": "` + strings.Repeat("m", 60000) + `"}`}, 1, "…\""},
		{"a long media value", []string{reactJob("x.job/job.json", strings.Repeat("v", 60000)+".mp4", "https://example.com/a.wav")}, 1, "S3 allows at most 1024"},
		{"a long wildcard", []string{reactJob("x.job/job.json", "v.mp4", strings.Repeat("*", 60000)+".wav")}, 1, "S3 allows at most 1024"},
		{"a large job.json", []string{"x.job/job.json = {}" + strings.Repeat(" ", 65536)}, 1, "lipdrop reads at most 65536"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			_, problems := b.prepared(t, b.step(t, tt.do...))
			if len(problems) != tt.problems {
				t.Fatalf("%d problems, want %d: %.500v", len(problems), tt.problems, problems)
			}
			if last := problems[len(problems)-1].Reason; !strings.HasSuffix(last, tt.last) {
				t.Errorf("the last reason is %q, want it to end with %q", last, tt.last)
			}
			if size := len(compact(t, problems)); size > 64<<10 {
				t.Errorf("the problems have %d bytes, want at most %d", size, 64<<10)
			}
		})
	}
}

func TestManyCandidates(t *testing.T) {
	b := newInbox(t)
	for i := range 3000 {
		b.Set(fmt.Sprintf("inbox/x.job/%04d/a.wav", i), []byte("a"))
		b.Set(fmt.Sprintf("inbox/x.job/%04d/n.txt", i), nil)
	}
	b.step(t, "x.job/v.mp4")
	found := b.findings(t, b.step(t, reactJob("x.job/job.json", "v.mp4", "*/*")))
	got := map[string]int{}
	for _, f := range found {
		got[f.Name] = len(f.Problems)
		if size := len(compact(t, f.Problems)); size > 64<<10 {
			t.Errorf("the problems of %s have %d bytes, want at most %d", f.Name, size, 64<<10)
		}
	}
	if diff := cmp.Diff(map[string]int{"x": 0, "x/a": 1, "x/n": 51}, got); diff != "" {
		t.Errorf("problems by name (-want +got):\n%s", diff)
	}
	// Half of the 2000 files that are compared match x/a, and the reason names 10 of these.
	reason, want := found[1].Problems[0].Reason, `and 990 more could each be the audio of x/a`
	if !strings.HasSuffix(reason, want) {
		t.Errorf("the reason is %q, want it to end with %q", reason, want)
	}
}

// The 1,500 audio files with the tag x use talk.x.MP4, so only talk.y uses talk.mp4. To find
// talk.x.MP4, a listing needs two pages.
func TestTagsAcrossPages(t *testing.T) {
	b := newInbox(t)
	for i := range 1500 {
		b.Set(fmt.Sprintf("inbox/talk.x.%04d.wav", i), nil)
	}
	b.step(t, "talk.x.MP4", "talk.y.wav", "talk.mp4")
	var used drop.Finding
	for _, f := range b.findings(t, "inbox/talk.y.wav") {
		if f.Name == "talk" {
			used = f
		}
	}
	if diff := cmp.Diff([]string{"talk.y"}, used.Jobs); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}
