package drop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWords holds what a person reads of each mistake but those inside media
// files, whose words are package media's: a golden file, to be read when it
// changes.
func TestWords(t *testing.T) {
	react := func(input string) string {
		return `x.job/job.json = {"model": "sync/react-1", "input": {` + input + `}}`
	}
	preset := func(text string) []string {
		return []string{"ads/talk.mp4", "ads/talk.wav", "ads/preset.json = " + text}
	}
	stories := [][]string{
		{"talk.mp4"}, {"talk.wav"}, {"talk.de.wav"},
		{"ads/talk.mp4", "ads/talk.wav", "ads/talk.mp3"}, {"cafe\u0301.wav", "caf\u00e9.wav"}, {"talk.png", "talk.mp4", "talk.de.wav"},
		{"notes.txt"}, {"README"}, {"talk.mp4", "- talk.mp4"}, {"notes.txt", "- notes.txt"},
		{strings.Repeat("n", 600) + ".mp4"},
		{"job.json = {}"}, {"cafe.job/woman.png"}, {"cafe.job/jOB.json = {}"}, {"cafe.job/job.json = {}", "cafe.job/JOB.json = {}"},
		{"x.job/job.json = "}, {"x.job/job.json = {\n  \"model\": \"sync/react-1\",\n}"}, {"x.job/job.json = [1]"}, {"x.job/job.json = null"},
		{"x.job/job.json = \xff"}, {"x.job/job.json = " + strings.Repeat(" ", 64<<10) + "{}"},
		{`x.job/job.json = {"model": 1, "input": ["https://example.com/a.mp4?sig=s3cret"], "inputs": {}, "webhook": "", "a": 1, "a": 2}`},
		{`x.job/job.json = {"input": {}}`}, {`x.job/job.json = {"model": "sync/react"}`}, {`x.job/job.json = {"model": "me/mine"}`},
		{react(`"video_url": "v.mp4", "audio_url": "a.wav"`), "x.job/a.wav"}, {react(`"video_url": "v.mp4", "audio_url": "a.wav"`)},
		{react(`"video_url": "v.mp4", "audio_url": "*.wav"`)}, {react(`"video_url": "*.mp4", "audio_url": "voice*.png"`)},
		{react(`"video_url": "v.mp4", "audio_url": "*"`), "x.job/v.mp4", "x.job/de.wav", "x.job/notes.txt", "x.job/fr.wav", "x.job/fr.mp3"},
		{react(`"video_url": "/inbox/cast/v.mp4", "audio_url": "/etc/a.wav"`)}, {react(`"video_url": "v.mp4?X-Amz-Signature=s3cret", "audio_url": "../a.wav"`)},
		{react(`"video_url": "http://example.com/v.mp4?sig=s3cret", "audio_url": "v.mp4"`)},
		{react(`"video_url": "v.mp4", "audio_ur": "/inbox/a.wav", "emotion": "joyful", "temperature": "0.5"`), "x.job/v.mp4"},
		{`preset.json = {"input": {"emotion": "happy"}}`}, {`preset.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "emotion": 1}}`},
		{`preset.json = {"model": "happyhorse/happyhorse-1.0/reference-to-video"}`}, {"preSET.json = {}"},
		preset(`{"model": "sync/react-1", "input": {"emotion": 1, "temperature": 2}}`), preset(`{"model": "sync/react"}`), preset(`{"models": "", "input": 1}`),
		preset(`{"model": "community/live-avatar"}`), append(preset(`{}`), "ads/Preset.json = {}"),
	}
	var got strings.Builder
	for _, story := range stories {
		b := newInbox(t)
		var keys []string
		for _, s := range story {
			keys = append(keys, b.step(t, s))
			if len(s) > 160 {
				s = s[:160] + "…"
			}
			fmt.Fprintf(&got, "%s\n", strings.ToValidUTF8(strings.ReplaceAll(s, "\n", " "), "?"))
		}
		seen := map[string]bool{}
		for _, f := range b.findings(t, keys...) {
			problems := f.Problems
			if f.Job != nil {
				_, found, err := b.Look().Prepare(t.Context(), f.Job)
				if err != nil {
					t.Fatal(err)
				}
				problems = found
			}
			for _, p := range problems {
				remedy := p.Remedy
				if remedy == "" {
					remedy = "(the code's own)" // in package ledger's words
				}
				line := fmt.Sprintf("    %s: %s: %s\n        %s\n", f.Name, p.Code, p.Reason, remedy)
				if !seen[line] {
					got.WriteString(line)
				}
				seen[line] = true
				if strings.Contains(line, "s3cret") {
					t.Errorf("the query of a URL is told: %s", line)
				}
			}
		}
	}
	const file = "testdata/words.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
