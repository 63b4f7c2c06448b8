package drop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// The golden file has the texts that a person reads about each mistake. Review each change of the
// golden file. The tests of the texts about the content of media are in package media.
func TestWords(t *testing.T) {
	react := func(input string) string {
		return `x.job/job.json = {"model": "sync/react-1", "input": {` + input + `}}`
	}
	preset := func(text string) []string {
		return []string{"ads/talk.mp4", "ads/talk.wav", "ads/preset.json = " + text}
	}
	stories := [][]string{
		{"talk.mp4"}, {"talk.wav"}, {"talk.de.wav"}, {"ads_de/talk.wav"}, {"talk.mp4", "talk_de.wav", "talk_.wav"},
		{"ads/talk.mp4", "ads/talk.wav", "ads/talk.mp3"}, {"cafe\u0301.wav", "caf\u00e9.wav"}, {"talk.png", "talk.mp4", "talk.de.wav"},
		{"notes.txt"}, {"README"}, {"talk.mp4 "}, {"talk.mp4", "- talk.mp4"}, {"notes.txt", "- notes.txt"},
		{strings.Repeat("n", 600) + ".mp4"},
		{"job.json = {}"}, {"cafe.job/woman.png"}, {"cafe.job/jOB.json = {}"}, {"cafe.job/job.json = {}", "cafe.job/JOB.json = {}"},
		{"x.job/job.json = "}, {"x.job/job.json = {\n  \"model\": \"sync/react-1\",\n}"}, {"x.job/job.json = [1]"}, {"x.job/job.json = null"},
		{"x.job/job.json = \xff"}, {"x.job/job.json = " + strings.Repeat(" ", 64<<10) + "{}"},
		{`x.job/job.json = {"model": 1, "input": ["https://example.com/a.mp4?sig=s3cret"], "inputs": {}, "webhook": "", "a": 1, "a": 2}`},
		{`x.job/job.json = {"model": "https://example.com/?s3cret", "https://example.com/a?sig=s3cret": 1, "https://example.com/a?sig=s3cret": 1}`},
		{react(`"https://example.com/a?sig=s3cret": 1, "https://example.com/b?s3cret": 1, "emotion": "https://example.com/?s3cret"`)},
		{`x.job/job.json = {"input": {}}`}, {`x.job/job.json = {"model": "sync/react"}`}, {`x.job/job.json = {"model": "me/mine"}`},
		{react(`"video_url": "v.mp4", "audio_url": "a.wav"`), "x.job/a.wav"}, {react(`"video_url": "v.mp4", "audio_url": "a.wav"`)},
		{react(`"video_url": "v.mp4", "audio_url": "*.wav"`)}, {react(`"video_url": "v.mp4", "audio_url": "*.wav"`), "x.job/de.wav"},
		{react(`"video_url": "/inbox/cast/v.mp4", "audio_url": "*.wav"`)}, {react(`"video_url": "*.mp4", "audio_url": "voice*.png"`)},
		{react(`"video_url": "v.mp4", "audio_url": "*"`), "x.job/v.mp4", "x.job/de.wav", "x.job/notes.txt", "x.job/fr.wav", "x.job/fr.mp3"},
		{react(`"video_url": "/inbox/cast/v.mp4", "audio_url": "/etc/a.wav"`)}, {react(`"video_url": "v.mp4?X-Amz-Signature=s3cret", "audio_url": "../a.wav"`)},
		{react(`"video_url": "http://example.com/v.mp4?sig=s3cret", "audio_url": "v.mp4"`)},
		{react(`"video_url": "v.mp4", "audio_ur": "/inbox/a.wav", "emotion": "joyful", "temperature": "0.5"`), "x.job/v.mp4"},
		{`preset.json = {"input": {"emotion": "happy"}}`}, {`preset.json = {"model": "sync/react-1", "input": {"video_url": "v.mp4", "emotion": 1}}`},
		{`preset.json = {"model": "happyhorse/happyhorse-1.0/reference-to-video"}`}, {"preSET.json = {}"},
		preset(`{"model": "sync/react-1", "input": {"emotion": 1, "temperature": 2}}`), preset(`{"model": "sync/react"}`), preset(`{"models": "", "input": 1}`),
		preset(`{"model": "community/live-avatar"}`), append(preset(`{}`), "ads/Preset.json = {}"),

		{"talk .mp4", "talk.wav"}, {"woman.HEIC"}, {"memo.amr"}, {"clip.wmv"}, {"talk.zip"}, {"talk.mp4.part"}, {"talk.mp4.lnk"}, {"face.jfif"}, {"rec.weba"}, {"memo.qta"}, {"campaign.csv"}, {"campaign.json"}, {"campaign.xlsx"}, {"my\u00a0talk.mp4"}, {"preset.json.txt"}, {"ads/job.json.txt"}, {"a/../b.mp4"}, {"ads/cafe/job.json = {}"},
		{"talk.wav = "}, {"cafe.job/woman.png = "}, {"cafe.job/job.json.txt = {}", "cafe.job/a.wav"}, {"cafe.job/cafe/job.json = {}"}, {"cafe.job/jobs.json = {}"},
		{react(`"video_url": "C:\\clips\\v.mp4", "audio_url": "~/Desktop/"`)}, {react(`"video_url": "C:\new\v.mp4", "audio_url": "file:///home/ann/a.wav"`)},
		{react(`"video_url": "s3://b/inbox/v.mp4?sig=s3cret", "audio_url": "https://ann:s3cret@example.com/a.wav"`)},
		{react(`"video_url": "data:video/mp4;base64,AAAA", "audio_url": "https://"`)}, {react(`"video_url": "face.HEIC", "audio_url": "a"`)},
		{react(`"video_url": "clips\\v.mp4", "audio_url": "inbox/cast/a.wav"`)}, {react(`"video_url": "www.example.com/v.mp4", "audio_url": "https://example.com/a.wav"`)},
		{react(`"video_url": " v.mp4", "audio_url": "https://example.com/my voice.wav?sig=s3cret"`)}, {react(`"video_url": " v.mp4", "audio_url": "a.wav"`), "x.job/a.wav"},
		{react(`"video_url": "my\u00a0clips\\v.mp4", "audio_url": "inbox/my\u00a0cast/a.wav"`)},
		{"cast/a.wav = RIFF", react(`"video_url": "v.mp4", "audio_url": "/inbox/cast/a.wav"`), "x.job/v.mp4 = text"},
		{react(`"video_url": "v.mp4", "audio_url": "*.wav"`), "x.job/v.mp4", "x.job/a.wav = text"},
		{react(`"video_url": "v.mp4", "audio_url": "*.wav"`), "x.job/v.mp4 = text", "x.job/a.wav"},
		{"cast/a.wav = ", react(`"video_url": "v.mp4", "audio_url": "/inbox/cast/a.wav"`), "x.job/v.mp4"},
		{"talk.mp4", "talk.wav = text"}, {"talk.png", "talk.ogg"}, preset(`{"model": "sync/react-1", "input": {"emotion": "joyful"}}`),
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
				_, found, err := b.Prepare(t.Context(), f.Job)
				if err != nil {
					t.Fatal(err)
				}
				problems = found
			}
			for _, p := range problems {
				remedy := p.Remedy
				if remedy == "" {
					remedy = "(the code's own)" // see problem.Code.Remedy
				}
				line := fmt.Sprintf("    %s: %s: %s\n        %s\n", f.Name, p.Code, p.Reason, remedy)
				if again := strings.TrimSuffix(strings.Join(append(slices.Clone(p.Again), p.Start), ", "), ", "); again != "" {
					line += fmt.Sprintf("        again: %s\n", again)
				}
				if p.After != "" {
					line += fmt.Sprintf("        after: %s\n", p.After)
				}
				if !seen[line] {
					got.WriteString(line)
				}
				seen[line] = true
				if strings.Contains(line, "s3cret") {
					t.Errorf("a secret of a URL is shown, want it left out: %s", line)
				}
			}
		}
	}
	golden.Compare(t, "testdata/words.txt", got.String())
}

// The reason for invalid JSON says where the mistake is, and what it is.
func TestMistakesInJSON(t *testing.T) {
	tests := []struct{ text, says string }{
		{`{"model": "sync/react-1",}`, "line 1, column 26: remove the comma before this place"},
		{`{"model": "sync/react-1", "input": {"a": [1, ]}}`, "line 1, column 46: remove the comma before this place"},
		{"{\n  // mine\n}", "line 2, column 3: JSON has no comments"},
		{"{\n  # mine\n}", "line 2, column 3: JSON has no comments"},
		{"{\n  /* mine */\n}", "line 2, column 3: JSON has no comments"},
		{`{"video_url": /inbox/shared/v.mp4}`, "line 1, column 15: write names and texts in double quotes"},
		{`{'model': 'sync/react-1'}`, "line 1, column 2: \"'\" has no meaning there; JSON takes plain double quotes"},
		{`{“model”: “sync/react-1”}`, "line 1, column 2: \"“\" has no meaning there; JSON takes plain double quotes"},
		{"{\u00a0\"model\": \"sync/react-1\"}", `line 1, column 2: "\u00a0" has no meaning there`},
		{`{model: "sync/react-1"}`, "line 1, column 2: write names and texts in double quotes"},
		{`{"model": sync/react-1}`, "line 1, column 11: write names and texts in double quotes"},
		{`{"input": {"watermark": True}}`, "line 1, column 25: write true, false and null in small letters"},
		{`{"input": {"seed": None}}`, "line 1, column 20: write true, false and null in small letters"},
		{"{\"model\": \"sync/react-1\"\n\"input\": {}}", "line 2, column 1: a comma or a colon is missing before this place"},
		{`{"model" "sync/react-1"}`, "line 1, column 10: a comma or a colon is missing before this place"},
		{`{"model": "sync/react-1", "input": {"a": "b"}`, "line 1, column 45: it ends too early: a closing bracket or quote is missing"},
		{`{"model": "sync/react-1`, "line 1, column 23: it ends too early: a closing bracket or quote is missing"},
		{"{\"prompt\": \"She\nsmiles\"}", "line 1, column 16: a text must end on the line where it starts"},
		{`{"video_url": "C:\clips\v.mp4"}`, `line 1, column 19: write a \ in a text as \\`},
		{`{"video_url": "C:\users\v.mp4"}`, `line 1, column 20: write a \ in a text as \\`},
		{`{"video_url": "C:\u12"}`, `line 1, column 22: write a \ in a text as \\`},
		{"{\"watermark\": tru\n}", `line 1, column 18: invalid character '\n' in literal true (expecting 'e')`},
		{"{}\n{}", "line 2, column 1: there is text after the end of the object"},
		{`"model": "sync/react-1"`, "line 1, column 8: it must begin with {"},
		{`{} thanks`, "line 1, column 4: there is text after the end of the object"},
		{`{"seed": 01}`, "line 1, column 11: invalid character '1' after object key:value pair"},
		{`hello`, "line 1, column 1: it must begin with {"},
		{"curl --data '{}'", "line 1, column 1: it must begin with {"},
	}
	for _, tt := range tests {
		b := newInbox(t)
		f := b.only(t, b.step(t, "x.job/job.json = "+tt.text))
		want := []problem.Problem{{Code: problem.InvalidJSON, Reason: "job.json is not JSON at " + tt.says, Remedy: "Fix job.json.", Again: []string{"job.json"}}}
		if diff := cmp.Diff(want, f.Problems); diff != "" {
			t.Errorf("problems of %s (-want +got):\n%s", tt.text, diff)
		}
	}
}
