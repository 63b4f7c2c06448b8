package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/golden"
)

// check --json prints one object per line, in the form that docs/check.md describes. The
// example in docs/check.md is the job of the first row.
func TestCheckAsJSON(t *testing.T) {
	document, err := filepath.Abs("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	schema := schemasOf(t, document)["check"]
	tests := []struct {
		name  string
		files map[string]string
		args  []string
		code  int
		want  []string // a part of each line
	}{
		{name: "a ready pair", files: map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav", "preset.json": `{"input": {"sync_mode": "loop"}}`},
			args: []string{"talk.mp4", "talk.wav", "preset.json"}, want: []string{`"state":"accepted"`, `"expectedSeconds":2.531`}},
		{name: "a rejected bundle, and its media", files: map[string]string{"cafe.job/v.mp4": "@clip.mp4", "cafe.job/a.wav": "@voice.wav",
			"cafe.job/job.json": `{"model":"sync/react-1","input":{"video_url":"v.mp4","audio_url":"a.wav","emotion":"joyful"}}`},
			args: []string{"cafe.job"}, code: 1, want: []string{`"file":"cafe.job/v.mp4","property":"video_url","seconds":3,"exact":true,"width":320,"height":240`}},
		{name: "a voice by itself", files: map[string]string{"talk.wav": "@voice.wav"}, args: []string{"talk.wav"}, code: 1, want: []string{`"code":"waiting_for_video_or_image"`}},
		{name: "a URL, whose query is not printed", files: map[string]string{"x.job/v.mp4": "@clip.mp4",
			"x.job/job.json": `{"model":"sync/react-1","input":{"video_url":"v.mp4","audio_url":"https://example.com/a.wav?key=s3cret"}}`},
			args: []string{"x.job"}, want: []string{`{"file":"https://example.com/a.wav","property":"audio_url","exact":false}`}},
		{name: "one video with two voices", files: map[string]string{"talk.mp4": "@clip.mp4", "talk.de.wav": "@voice.wav", "talk.fr.wav": "@voice.wav"},
			args: []string{"talk.mp4", "talk.de.wav", "talk.fr.wav"}, want: []string{`"name":"talk.de","state":"ready"`, `"state":"used","jobs":["talk.de","talk.fr"]`, `"name":"talk.fr"`}},
		{name: "a name with control and format characters", files: map[string]string{"a\x1b\x7f\u202e\U000e0001\n.wav": "@voice.wav"},
			args: []string{"."}, code: 1, want: []string{`a\u001b\u007f\u202e\udb40\udc01\n.wav`}},
		{name: "--length-mismatch reject, and an output that is shorter than the voice", files: map[string]string{"x.job/a.wav": "@voice.wav",
			"x.job/job.json": `{"model":"community/live-avatar","input":{"image_url":"https://example.com/i.png","audio_url":"a.wav","prompt":"Hi","num_clips":1,"frames_per_clip":16}}`},
			args: []string{"--length-mismatch", "reject", "x.job"}, code: 1, want: []string{`"code":"lengths_differ"`}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, tt.files)
			out, _ := command(t, tt.code, append([]string{"check", "--json"}, tt.args...)...)
			lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(lines), len(tt.want), out)
			}
			for n, line := range lines {
				if err := fits(schema, line); err != nil {
					t.Errorf("line %d does not fit the schema: %v", n, err)
				}
				if !strings.Contains(line, tt.want[n]) || strings.Contains(line, "s3cret") {
					t.Errorf("line %d is %s\nwant %s in it, and no s3cret", n, line, tt.want[n])
				}
			}
			if i == 0 {
				before, rest, _ := strings.Cut(contentOf(t, document), "```json line\n")
				_, after, _ := strings.Cut(rest, "\n")
				golden.Compare(t, document, before+"```json line\n"+lines[1]+"\n"+after)
			}
		})
	}
}

// check prints one line on stderr about a file that it cannot read, and checks the others.
func TestCheckAsJSONWithAnUnreadableFile(t *testing.T) {
	lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
	if err := os.Symlink("nowhere", "broken.wav"); err != nil {
		t.Fatal(err)
	}
	out, errs := command(t, 1, "check", "--json", ".")
	if strings.Count(out, "\n") != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(out, `"state":"ready"`) || !strings.Contains(errs, "broken.wav") {
		t.Errorf("want a ready job, not:\n%s\nwant a line about broken.wav, not:\n%s", out, errs)
	}
}

// check uses the settings of the stack that --stack or LIPDROP_STACK names, except those that flags
// replace. Without a stack it uses the defaults of the template.
func TestCheckUsesTheSettingsOfTheStack(t *testing.T) {
	cloud := httptest.NewServer(&stack{parameters: `
		<member><ParameterKey>DefaultVideoModel</ParameterKey><ParameterValue>sync/react-1</ParameterValue></member>
		<member><ParameterKey>LengthMismatch</ParameterKey><ParameterValue>reject</ParameterValue></member>`})
	defer cloud.Close()
	lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": wave(5)})
	onAWS(t, cloud.URL)
	for _, tt := range []struct {
		variable string // LIPDROP_STACK
		args     []string
		code     int
		want     string
	}{
		{want: "talk: one job of sync/sync/lipsync/v2/pro"},
		{args: []string{"--stack", "lipdrop"}, want: "talk: one job of sync/react-1"},
		{variable: "lipdrop", want: "talk: one job of sync/react-1"},
		{args: []string{"--stack", "lipdrop", "--video-model", "sync/sync/lipsync/v2/pro"}, code: 1, want: "lengths_differ"},
		{args: []string{"--stack", "lipdrop", "--video-model", "sync/sync/lipsync/v2/pro", "--length-mismatch", "warn"}, want: "talk: one job of sync/sync/lipsync/v2/pro"},
	} {
		t.Setenv("LIPDROP_STACK", tt.variable)
		out, _ := command(t, tt.code, append([]string{"check", "talk.mp4", "talk.wav"}, tt.args...)...)
		contains(t, out, tt.want)
	}
}

// If the stack's default model does not accept a pair, the error names the parameter that sets it.
func TestCheckNamesTheWrongParameter(t *testing.T) {
	cloud := httptest.NewServer(&stack{parameters: `
		<member><ParameterKey>DefaultVideoModel</ParameterKey><ParameterValue>community/live-avatar</ParameterValue></member>`})
	defer cloud.Close()
	lay(t, map[string]string{"talk.mp4": "@clip.mp4"})
	onAWS(t, cloud.URL)
	_, errs := command(t, 2, "check", "talk.mp4", "--stack", "lipdrop")
	contains(t, errs, "the stack's parameter DefaultVideoModel: community/live-avatar does not accept a pair of a video and an audio file; choose sync/react-1 or")
}
