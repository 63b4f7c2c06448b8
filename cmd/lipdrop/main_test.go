package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/golden"
)

// lay writes files into a new folder, makes it the working directory, and returns it. The
// content @NAME stands for the sample file NAME.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	samples, err := filepath.Abs("../../internal/local/sample")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range files {
		if sample, ok := strings.CutPrefix(content, "@"); ok {
			content = contentOf(t, filepath.Join(samples, sample))
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(content), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return dir
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// command runs the command and checks its exit code. It returns what the command prints on
// stdout and on stderr.
func command(t *testing.T, code int, args ...string) (out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if got := run(t.Context(), args, &stdout, &stderr); got != code {
		t.Fatalf("lipdrop %q: exit code %d, want %d\n%s%s", args, got, code, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// contains checks that a text has the given parts.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func TestCommandLine(t *testing.T) {
	pair := map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"}
	tests := []struct {
		name  string
		files map[string]string
		args  string
		code  int
		out   []string
		errs  []string
	}{
		{name: "a pair", files: pair, args: "check talk.mp4 talk.wav",
			out: []string{"talk: one job of sync/sync/lipsync/v2/pro", "video_url = talk.mp4, 3.0 s, 320×240", "audio_url = talk.wav, 2.5 s"}},
		{name: "a folder with a preset", files: map[string]string{
			"ads/talk.mp4": "@clip.mp4", "ads/talk.wav": "@voice.wav", "ads/preset.json": `{"input":{"sync_mode":"loop"}}`,
		}, args: "check ads", out: []string{"ads/preset.json: accepted", "ads/talk: one job", "sync_mode = loop"}},
		{name: "a bundle with a mistake", files: map[string]string{
			"cafe.job/v.mp4": "@clip.mp4", "cafe.job/a.wav": "@voice.wav",
			"cafe.job/job.json": `{"model":"sync/react-1","input":{"video_url":"v.mp4","audio_url":"a.wav","emotion":"joyful"}}`,
		}, args: "check cafe.job", code: 1, out: []string{"cafe: rejected", "bad_value", "joyful", "happy"}, errs: []string{"lipdrop: no job would start\n"}},
		{name: "a lone audio", files: pair, args: "check talk.wav", code: 1, out: []string{"talk: waiting", "talk.wav", "Upload"}},
		{name: "a pair and a file that no job uses", files: map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav", "notes.txt": "hi"}, args: "check .", code: 1, errs: []string{"wrong or incomplete: 1 of 2 jobs and files"}},
		{name: "nothing that is a drop", files: map[string]string{".DS_Store": "x"}, args: "check .DS_Store", code: 1, errs: []string{".DS_Store: there is no file to drop; files and folders whose names begin with a dot are left out"}},
		{name: "a name with an escape character", files: map[string]string{"ads/a\x1b[31m\n.wav": "@voice.wav"},
			args: "check ads", code: 1, out: []string{`ads/a\x1b[31m\n.wav: rejected`}},
		{name: "no such file", args: "check gone.mp4", code: 1, errs: []string{"gone.mp4: there is no such file"}},
		{name: "a file name that is not UTF-8", args: "check a\xff.wav", code: 2, errs: []string{`the argument "a\xff.wav" is not UTF-8 text. If it is the name of a file, rename the file`}},
		{name: "try without the file", args: "try gone.mp4", code: 1, errs: []string{"gone.mp4: there is no such file; check the name and the folder"}},
		{name: "try a folder", files: map[string]string{"ads/talk.mp4": "@clip.mp4"}, args: "try ads", code: 1, errs: []string{"ads is a folder; give the files in it"}},
		{name: "try a lone audio", files: pair, args: "try talk.wav", code: 1, errs: []string{"nothing was dropped", "talk.wav", "missing", "Upload"}},
		{name: "try no media", files: map[string]string{"notes.txt": "hi"}, args: "try notes.txt", code: 1, errs: []string{"nothing was dropped", "notes.txt is not accepted: its suffix .txt", "Upload a file whose name ends in .mp4"}},
		{name: "doctor without a stack", args: "doctor", code: 3, out: []string{"WRONG  cannot find the stack: no AWS region is set"}},
		{name: "doctor of a local stack", args: "doctor --dir here", code: 2, errs: []string{"lipdrop: unknown flag --dir"}},
		{name: "no command", args: "", out: []string{"Usage: lipdrop <command>"}},
		{name: "an unknown command", args: "frobnicate", code: 2, errs: []string{"lipdrop --help"}},
		{name: "a flag between the files", files: pair, args: "check talk.mp4 --video-model sync/react-1 --json talk.wav", out: []string{`"state":"ready","model":"sync/react-1"`}},
		{name: "--timeout without --wait or --get", files: pair, args: "drop talk.mp4 talk.wav --timeout 2h", code: 2, errs: []string{"--timeout is how long to wait: add --wait or --get"}},
		{name: "prices without a token", files: pair, args: "check talk.mp4 talk.wav --price", code: 1, errs: []string{"there is no local stack", "Or put the RunComfy token into the variable RUNCOMFY_TOKEN."}},
		{name: "a model that does not exist", files: pair, args: "check talk.mp4 talk.wav --video-model sync/react", code: 2, errs: []string{`--video-model: there is no model "sync/react"; choose sync/react-1 or`}},
		{name: "two models that do not exist", files: pair, args: "check talk.mp4 talk.wav --video-model sync/a --image-model sync/b", code: 2, errs: []string{`--video-model: there is no model "sync/a"; choose`}},
		{name: "a model that accepts no pair with a video", files: pair, args: "check talk.mp4 talk.wav --video-model community/live-avatar", code: 2, errs: []string{"--video-model: community/live-avatar does not accept a pair of a video and an audio file; choose sync/react-1 or"}},
		{name: "an empty model for videos", files: pair, args: "check talk.mp4 talk.wav --video-model=", code: 2, errs: []string{`--video-model: there is no model ""; choose`}},
		{name: "an empty model for images", files: pair, args: "check talk.mp4 talk.wav --image-model=", code: 2, errs: []string{`--image-model: there is no model ""; choose`}},
		{name: "a file whose name begins with a hyphen", files: map[string]string{"-a.mp4": "@clip.mp4", "-a.wav": "@voice.wav"}, args: "check -- -a.mp4 -a.wav", out: []string{"-a: one job"}},
		{name: "a flag without its value", args: "jobs ads/ --stack", code: 2, errs: []string{"--stack: expected string value"}},
		{name: "a flag that the verb does not have", args: "jobs --csv", code: 2, errs: []string{"unknown flag --csv", "run lipdrop jobs --help for usage"}},
		{name: "a name that begins with a hyphen", args: "show -talk", code: 2, errs: []string{"unknown flag -t", "write ./ before a name that begins with a hyphen"}},
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "LIPDROP_STACK", "RUNCOMFY_TOKEN"} {
		t.Setenv(name, "") // ignore the machine's configuration
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} { // both may name a region
		t.Setenv(name, os.DevNull)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, tt.files)
			out, errs := command(t, tt.code, strings.Fields(tt.args)...)
			if strings.Contains(out+errs, "\x1b") {
				t.Errorf("an escape character reaches the terminal: %q, %q", out, errs)
			}
			contains(t, out, tt.out...)
			contains(t, errs, tt.errs...)
		})
	}
}

// If a flag does not accept its value, the error names the flag.
func TestFlagsOutOfRange(t *testing.T) {
	t.Chdir(t.TempDir())
	ended, end := context.WithCancel(t.Context()) // so that no stack starts if a flag is accepted
	end()
	const notTime, notDelay = " is not a time; give a time such as 30d, 12h or 90s", " is not a time from 0s to 7d; give a time such as 10s"
	for args, want := range map[string]string{
		"local --settle=-3s":            `--settle: "-3s"` + notDelay,
		"local --run=99999h":            `--run: "99999h"` + notDelay,
		"try --queue=5":                 `--queue: "5"` + notDelay,
		"watch talk --timeout=-3s":      `--timeout: "-3s"` + notTime,
		"doctor --wait=soon":            `--wait: "soon"` + notDelay,
		"jobs --since -1h":              `--since: "-1h"` + notTime,
		"local --settle -3s":            `--settle: "-3s"` + notDelay,
		"drop a.mp4 --max-usd -.5":      `--max-usd: "-.5" is not an amount`,
		"jobs --since --json":           `--since: expected a value but got "--json"`,
		"local --dir=":                  "--dir: the value is empty; name a folder, or leave --dir out",
		"try --out=":                    "--out: the value is empty; name a folder, or leave --out out",
		"drop a.mp4 --get=":             "--get: the value is empty; name a folder, or leave --get out",
		"jobs --dir=":                   "--dir: the value is empty; name a folder, or leave --dir out",
		"local --port=-1":               `--port: "-1" is not a whole number from 0 to 65535`,
		"local --tls-port=65536":        `--tls-port: "65536" is not a whole number from 0 to 65535`,
		"local --port=81 --tls-port=81": "--port and --tls-port are both 81: give them different ports, or leave one of them out",
		"check a --max-jobs-per-drop=0": `--max-jobs-per-drop: "0" is not a whole number from 1 to 1000`,
		"check a --shared-folders=":     "--shared-folders: is not set",
		"check a --shared-folders=,":    "--shared-folders: names no folder",
		"check a --shared-folders=a,b":  "--shared-folders: \"a\" is not a folder such as inbox/shared/\n  --shared-folders: \"b\" is not a folder",
		"drop a.mp4 --max-usd=-0.5":     `--max-usd: "-0.5" is not an amount; give a number of US dollars such as 2.50`,
		"drop a.mp4 --max-usd=NaN":      `--max-usd: "NaN" is not an amount`,
		"drop a.mp4 --max-usd=Inf":      `--max-usd: "Inf" is not an amount`,
	} {
		var errs bytes.Buffer
		if code := run(ended, strings.Fields(args), &errs, &errs); code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, want %d; %q in the errors:\n%s", args, code, exitUsage, want, &errs)
		}
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err) // only Linux has it
	}
	defer full.Close()
	for args, want := range map[string]string{
		"check talk.mp4 talk.wav": "not everything could be printed",
		"--help":                  "not everything could be printed",
		"models --json":           "no space left",
	} {
		var errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), full, &errs); code != 1 || strings.Count(errs.String(), want) != 1 {
			t.Errorf("%s: exit code %d, errors %q; want 1, and %q once", args, code, errs.String(), want)
		}
	}
}

func TestIsFromGoRun(t *testing.T) {
	const cached = "1e/1e319a0a3b93a7d7bdb2e63eaa09c26ca53ea11fb856f27c74d65415dabd855f-d/lipdrop"
	for program, want := range map[string]bool{
		"/tmp/go-build2992691939/b001/exe/lipdrop": true,
		"/home/ann/.cache/go-build/" + cached:      true,
		"/var/cache/go/" + cached:                  true, // with another GOCACHE
		"/home/ann/go/bin/lipdrop":                 false,
	} {
		if got := isFromGoRun(program); got != want {
			t.Errorf("isFromGoRun(%q) = %t, want %t", program, got, want)
		}
	}
}

// The help of each verb has at least two examples.
func TestHelp(t *testing.T) {
	verbs := []string{""}
	for field := range reflect.TypeFor[cli]().Fields() {
		verbs = append(verbs, strings.ToLower(field.Name))
	}
	for _, verb := range verbs {
		t.Run(verb, func(t *testing.T) {
			out, _ := command(t, 0, strings.Fields(verb+" --help")...)
			golden.Compare(t, filepath.Join("testdata", "help", cmp.Or(verb, "lipdrop")+".txt"), out)
			if n := strings.Count(out, "\n    lipdrop "+verb); verb != "" && n < 2 {
				t.Errorf("%d examples, want at least 2", n)
			}
		})
	}
}
