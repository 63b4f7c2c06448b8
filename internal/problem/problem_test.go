package problem_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// If the reasons differ, Reason numbers them. Remedy gives each remedy once, and then says
// what to upload again. The file that starts the job is last.
func TestSeveralProblems(t *testing.T) {
	tests := []struct {
		name           string
		problems       []problem.Problem
		reason, remedy string
	}{
		{"one", []problem.Problem{{Reason: "a is 1; b accepts 2", Remedy: "Set a to 2.", Again: []string{"job.json"}}},
			"a is 1; b accepts 2", "Set a to 2. Then upload job.json again."},
		{"nothing to upload again", []problem.Problem{{Reason: "a is missing", Remedy: "Upload a."}}, "a is missing", "Upload a."},
		{"the code's own remedy", []problem.Problem{{Code: problem.NameTooLong, Reason: "too long"}}, "too long", "Shorten the name of the file or of its folders."},
		{"several", []problem.Problem{
			{Reason: "a is 1; b accepts 2", Remedy: "Set a to 2.", Again: []string{"job.json"}},
			{Reason: "v.mp4 is 17.3 s long; b accepts at most 15 s", Remedy: "Shorten v.mp4 to at most 15 s.", Again: []string{"v.mp4"}},
			{Reason: "c is not an input of b", Remedy: "Remove c.", Again: []string{"job.json"}},
		}, "(1) a is 1; b accepts 2; (2) v.mp4 is 17.3 s long; b accepts at most 15 s; (3) c is not an input of b",
			"Set a to 2. Shorten v.mp4 to at most 15 s. Remove c. Then upload v.mp4 and job.json again."},
		{"a file elsewhere", []problem.Problem{
			{Reason: "v.mp4 is empty", Remedy: "Record v.mp4.", Again: []string{"inbox/cast/v.mp4"}, Start: "job.json"},
		}, "v.mp4 is empty", "Record v.mp4. Then upload inbox/cast/v.mp4 and job.json again."},
		{"a file elsewhere, and one that starts the job", []problem.Problem{
			{Reason: "a.wav is empty", Remedy: "Record a.wav.", Again: []string{"a.wav"}},
			{Reason: "v.mp4 is empty", Remedy: "Record v.mp4.", Again: []string{"inbox/cast/v.mp4"}, Start: "job.json"},
		}, "(1) a.wav is empty; (2) v.mp4 is empty", "Record a.wav. Record v.mp4. Then upload inbox/cast/v.mp4 and a.wav again."},
		{"the same twice", []problem.Problem{{Reason: "a", Remedy: "Do b."}, {Reason: "a", Remedy: "Do b."}, {Reason: "c", Remedy: "Do b."}}, "(1) a; (2) c", "Do b."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := problem.Reason(tt.problems); got != tt.reason {
				t.Errorf("the reason is %q, want %q", got, tt.reason)
			}
			if got := problem.Remedy("talk", tt.problems); got != tt.remedy {
				t.Errorf("the remedy is %q, want %q", got, tt.remedy)
			}
		})
	}
}

// Quote shortens a text to 120 characters, removes the query of a URL, and escapes the text once.
func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"sync/react":                 `"sync/react"`,
		"a\tb":                       `"a\tb"`,
		`a"b\c`:                      `"a\"b\\c"`,
		"https://host/v.mp4?sig=key": `"https://host/v.mp4?…"`,
		strings.Repeat("é", 121):     `"` + strings.Repeat("é", 120) + `…"`,
	} {
		if got := problem.Quote(text); got != want {
			t.Errorf("Quote(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestLength(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 40 * time.Millisecond: "0.0 s", 17349 * time.Millisecond: "17.3 s", 599900 * time.Millisecond: "599.9 s",
		599950 * time.Millisecond: "10 min 0.0 s", 35996500 * time.Millisecond: "9 h 59 min 56.5 s", 24*time.Hour - time.Millisecond: "24 h 0 min 0.0 s",
	} {
		if got := problem.Length(d); got != want {
			t.Errorf("Length(%v) = %q, want %q", d, got, want)
		}
	}
}
