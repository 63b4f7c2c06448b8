package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
)

// try runs lipdrop try on a state folder, expects the exit code, and returns what was printed.
func try(t *testing.T, code int, dir, out string, files ...string) string {
	t.Helper()
	said, errs := command(t, code, append([]string{"try", "--dir", dir, "--out", out, "--run", "500ms"}, files...)...)
	return said + errs
}

// layAndStay writes files as lay does, and returns their folder. The working directory stays
// in the checkout, so that the local stack finds its sources.
func layAndStay(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := lay(t, files)
	t.Chdir(root)
	return dir
}

// wave returns a silent WAV of a number of seconds, with 8,000 one-byte samples per second.
func wave(seconds int) string {
	const rate = 8000
	head := []any{[]byte("RIFF"), uint32(36 + seconds*rate), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(rate), uint16(1), uint16(8), []byte("data"), uint32(seconds * rate)}
	var b bytes.Buffer
	for _, field := range head {
		_ = binary.Write(&b, binary.LittleEndian, field) // a write to a buffer cannot fail
	}
	return b.String() + strings.Repeat("\x80", seconds*rate)
}

// Each try starts one job with its own files, and fetches its own output, even if earlier
// tries left files of the same names in the bucket.
func TestTryAgain(t *testing.T) {
	dir := layAndStay(t, map[string]string{
		"1/talk.mp4": "@clip.mp4", "1/talk.wav": "@voice.wav",
		"2/talk.mp4": "@clip.mp4", "2/talk.de.wav": "@voice.wav",
		"3/talk.job/job.json": `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`,
		"3/talk.job/v.mp4":    "@clip.mp4", "3/talk.job/a.wav": "@voice.wav",
		"4/talk.mov": "@clip.mp4", "4/talk.wav": "@voice.wav", "4/preset.json": `{"model": "sync/react-1", "input": {"emotion": "happy"}}`,
		"5/talk.mp4": "@clip.mp4", "5/talk.wav": wave(5),
	})
	in := func(names ...string) []string {
		for i, name := range names {
			names[i] = filepath.Join(dir, name)
		}
		return names
	}
	tests := []struct {
		name  string
		files []string
		video string
		out   string
		warns []string
	}{
		{"a pair", in("1/talk.mp4", "1/talk.wav"), "1/talk.mp4", "talk.mp4", nil},
		{"a pair with a tag", in("2/talk.mp4", "2/talk.de.wav"), "2/talk.mp4", "talk.de.mp4", nil},
		{"a bundle", in("3/talk.job"), "3/talk.job/v.mp4", "talk.mp4", nil},
		{"a pair with a .mov file and a preset", in("4/talk.mov", "4/talk.wav", "4/preset.json"), "4/talk.mov", "talk.mp4", nil},
		{"talk.mp4 and talk.wav again, with a longer voice", in("5/talk.mp4", "5/talk.wav"), "5/talk.mp4", "talk.mp4", []string{
			"warning: talk: talk.wav is 2.0 s longer than talk.mp4: with sync_mode cut_off its last 2.0 s are dropped",
			"warning: talk: the output talk.mp4 has the same frames as the input talk.mp4",
		}},
	}
	state := filepath.Join(dir, "state")
	for i, tt := range tests {
		// An MP4 box of the type free, which players ignore, makes each video different.
		video := contentOf(t, filepath.Join(dir, tt.video)) + "\x00\x00\x00\x09free" + strconv.Itoa(i)
		if err := os.WriteFile(filepath.Join(dir, tt.video), []byte(video), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "out", strconv.Itoa(i))
		said := try(t, 0, state, out, tt.files...)
		if contentOf(t, filepath.Join(out, tt.out)) != video {
			t.Errorf("%s: %s has other bytes, want those of %s:\n%s", tt.name, tt.out, tt.video, said)
		}
		contains(t, said, tt.warns...)
		jobs, err := filepath.Glob(filepath.Join(state, "runcomfy", "*.json"))
		if err != nil || len(jobs) != i+1 {
			t.Errorf("%s: RunComfy has accepted %d jobs (%v), want %d:\n%s", tt.name, len(jobs), err, i+1, said)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "out", "*", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v; want nothing", left, err)
	}
}

// try does not show the status of an earlier drop as the status of its own drop.
func TestTryAfterARejection(t *testing.T) {
	dir := layAndStay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
	state := filepath.Join(dir, "state")
	s := startStack(t, local.Options{Dir: state})
	s.dropPair("talk")
	s.put("inbox/talk.wav", "")
	s.await("talk", ledger.Rejected)
	s.Close()
	said := try(t, 0, state, filepath.Join(dir, "out"), filepath.Join(dir, "talk.mp4"), filepath.Join(dir, "talk.wav"))
	if strings.Contains(said, "rejected") {
		t.Errorf("the earlier status is shown, want no \"rejected\" in:\n%s", said)
	}
}

// If try is interrupted, it names the command that continues its jobs. A shell can run this
// command even if the name of the folder has a space.
func TestTryInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my state")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var errs bytes.Buffer
	out := writer(func(text string) {
		if strings.Contains(text, "sample: ") {
			interrupt()
		}
	})
	args := []string{"try", "--dir", dir, "--out", filepath.Join(dir, "out"), "--run", "1h"}
	want := "interrupted; to continue the jobs under way, run `lipdrop local --dir '" + dir + "'`"
	if code := run(ctx, args, out, &errs); code != exitInterrupted || !strings.Contains(errs.String(), want) {
		t.Errorf("exit code %d, want %d:\n%s\nwant %s", code, exitInterrupted, &errs, want)
	}
}

// writer calls a function with each text that is written.
type writer func(text string)

func (w writer) Write(text []byte) (int, error) {
	w(string(text))
	return len(text), nil
}

// Before try starts a stack, it refuses what cannot succeed.
func TestTryRefuses(t *testing.T) {
	long := strings.Repeat("n", 212)
	tests := []struct {
		name    string
		files   map[string]string
		args    []string
		outside bool // the command runs outside the checkout
		said    []string
	}{
		{name: "no checkout", outside: true, said: []string{"is not in a checkout of lipdrop", "LIPDROP_SOURCE"}},
		{name: "an output folder that is a file", files: map[string]string{"out": "mine"}, said: []string{"outputs cannot be stored in", "--out"}},
		{name: "a name that is too long", files: map[string]string{long + ".mp4": "@clip.mp4", long + ".wav": "@voice.wav"}, args: []string{long + ".mp4", long + ".wav"},
			said: []string{"216 bytes", "at most 215", "Shorten the name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"}
			maps.Copy(files, tt.files)
			dir := layAndStay(t, files)
			args := tt.args
			if args == nil {
				args = []string{"talk.mp4", "talk.wav"}
			}
			for i, arg := range args {
				args[i] = filepath.Join(dir, arg)
			}
			if tt.outside {
				t.Setenv("LIPDROP_SOURCE", "") // ignore the variable of the person who runs the test
				t.Chdir(dir)
			}
			said := try(t, 1, filepath.Join(dir, "state"), filepath.Join(dir, "out"), args...)
			contains(t, said, tt.said...)
			if _, err := os.Stat(filepath.Join(dir, "state")); !os.IsNotExist(err) {
				t.Errorf("Stat returned %v, want no state folder", err)
			}
			if content, ok := tt.files["out"]; ok && contentOf(t, filepath.Join(dir, "out")) != content {
				t.Error("out was overwritten, want it unchanged")
			}
		})
	}
}
