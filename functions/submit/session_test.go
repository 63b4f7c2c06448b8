package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestSignUntil(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	type process struct {
		token    string
		at, want time.Time
	}
	first := process{"a", noon, noon.Add(5*time.Hour + 50*time.Minute)} // 12 hours, less the URL's 6 hours and a margin of 10 minutes
	tests := []struct {
		name      string
		processes []process // one after the other, with the same /tmp
	}{
		{"credentials without a session", []process{{"", noon, time.Time{}}}},
		{"a second process with the same credentials", []process{first, {"a", noon.Add(6 * time.Hour), first.want}}},
		{"a second process with new credentials", []process{first, {"b", noon.Add(6 * time.Hour), first.want.Add(6 * time.Hour)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, p := range tt.processes {
				if got := signUntil(p.token, dir, p.at, 6*time.Hour); !got.Equal(p.want) {
					t.Errorf("process %d signs until %v, want %v", i+1, got, p.want)
				}
			}
		})
	}
}

// Neither the file that signUntil writes nor its name contains the session token.
func TestSessionNoteHoldsNoSecret(t *testing.T) {
	dir := t.TempDir()
	signUntil("canary-session-token", dir, time.Now(), time.Hour)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, error %v; want 1 file", len(files), err)
	}
	text, err := os.ReadFile(dir + "/" + files[0].Name())
	if err != nil || strings.Contains(files[0].Name()+string(text), "canary") {
		t.Errorf("%s holds %q (error %v), want no part of the token", files[0].Name(), text, err)
	}
}
