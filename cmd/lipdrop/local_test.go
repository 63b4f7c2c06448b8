package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// asCommand is the environment variable that makes the test binary the lipdrop command.
// It holds the arguments as JSON.
const asCommand = "LIPDROP_TEST_ARGS"

func TestMain(m *testing.M) {
	if text := os.Getenv(asCommand); text != "" {
		var args []string
		if err := json.Unmarshal([]byte(text), &args); err != nil {
			panic(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // until the input ends, see startCommand
			stop()
		}()
		os.Exit(run(ctx, args, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"lipdrop": main}) // for the scripts of TestScripts
}

// startCommand starts the lipdrop command as a process. If the test process ends first, the pipe
// to the command's input closes, and the command ends too.
func startCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asCommand+"="+string(text))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// localCommand runs lipdrop local on a folder until the end of the test, or until kill kills it.
// The context ends when the command ends.
func localCommand(t *testing.T, dir string) (running context.Context, kill func()) {
	t.Helper()
	cmd := startCommand(t, "local", "--dir", dir, "--settle", "0s", "--queue", "500ms", "--run", "500ms")
	running, end := context.WithCancel(context.Background())
	go func() {
		_ = cmd.Wait() // the test's output says why the command ended
		end()
	}()
	kill = func() {
		_ = cmd.Process.Kill() // fails if the command has ended already
		<-running.Done()
	}
	t.Cleanup(kill)
	return running, kill
}

// If the name of the state folder begins with a hyphen, the printed commands do not take the
// name for a flag.
func TestCommandsWithAFolderLikeAFlag(t *testing.T) {
	t.Chdir(t.TempDir())
	text := (&localCmd{Dir: "-s 1"}).welcome(&local.Stack{}, "drop", "")
	_, err := client.Target{Dir: "-s 1"}.Find(t.Context())
	ui := uiCmd{Target: client.Target{Dir: "-s 1"}}
	text += fmt.Sprintln(err) + strings.Join(ui.flags(&client.Client{Dir: "-s 1"}), " ")
	if strings.Count(text, "--dir './-s 1'") != 3 || !strings.HasSuffix(text, "--dir ./-s 1") {
		t.Errorf("the text is:\n%s\nwant --dir './-s 1' three times in it, and --dir ./-s 1 at the end", text)
	}
}

func TestWelcomeSaysWhatIsReturned(t *testing.T) {
	want := "RunComfy is a fake: each output is the job's own input video or image, so the output has the picture and the length of the input. Nothing is charged."
	if text := (&localCmd{}).welcome(&local.Stack{}, "drop", ""); !strings.Contains(text, want) {
		t.Errorf("the welcome is:\n%s\nwant in it:\n%s", text, want)
	}
}

// soon waits until a condition holds, for no longer than patience.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	within(t, patience, what, holds)
}

// within waits until a condition holds, for no longer than limit.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("%s: still missing after %s", what, limit)
}

// lipdrop local is killed three times: when the files of its folder are in the bucket,
// while their job is under way, and when the job has ended. The files are still one take,
// charged once and archived. If the bucket holds a file, no restart drops it again. The test
// does not kill the command during an upload: versitygw 1.8.0 may then store only the
// beginning of the file, and the next start would drop the file again, as another take.
func TestLocalCommandKilled(t *testing.T) {
	dir := layAndStay(t, map[string]string{"drop/ads/talk.mp4": "@clip.mp4", "drop/ads/talk.wav": "@voice.wav"})
	files := func(pattern string) []string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}

	running, kill := localCommand(t, dir)
	within(t, 10*patience, "the event of talk.wav in the queue, or an execution", func() bool { // the first start may build for minutes
		if running.Err() != nil {
			t.Fatal("lipdrop local has ended")
		}
		return len(files("executions/*.json")) > 0 || slices.ContainsFunc(files("queue/*.json"), func(path string) bool {
			body, _ := os.ReadFile(path) // an error if the message has been deleted
			return bytes.Contains(body, []byte("talk.wav"))
		})
	})
	kill()
	_, kill = localCommand(t, dir)
	var d *client.Client
	soon(t, "an execution, and the restarted stack", func() bool { // the killed command may have started the execution
		var err error
		d, err = client.Target{Dir: dir}.Find(t.Context())
		return err == nil && len(files("executions/*.json")) > 0
	})
	versions := func() *s3.ListObjectVersionsOutput {
		found, err := d.S3.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{
			Bucket: aws.String(local.Bucket), Prefix: aws.String("inbox/ads/talk."),
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	dropped := len(versions().Versions)
	kill()

	_, kill = localCommand(t, dir)
	soon(t, "the output", func() bool {
		var err error
		if d, err = (client.Target{Dir: dir}).Find(t.Context()); err != nil {
			return false // still starting
		}
		st, err := d.Ledger.Posted(t.Context(), ledger.StatusKey("ads/talk"))
		return err == nil && st.State == ledger.Succeeded
	})
	kill()

	localCommand(t, dir)
	// The command scans the folder again and again. If it drops talk.* again, then at the latest in the
	// scan in which it drops first.txt. The answer file of last.txt shows that this scan has ended.
	for _, name := range []string{"first.txt", "last.txt"} {
		if err := os.WriteFile(filepath.Join(dir, "drop", "ads", name), []byte("no media"), 0o600); err != nil {
			t.Fatal(err)
		}
		soon(t, "the answer file of "+name, func() bool {
			_, err := d.Bucket.Head(t.Context(), "answers/ads/"+name+".json")
			return err == nil
		})
	}
	if now := versions(); len(now.Versions) != dropped || len(now.DeleteMarkers) != 0 {
		t.Errorf("the two files have %d versions and %d delete markers, want %d versions and none", len(now.Versions), len(now.DeleteMarkers), dropped)
	}
	if jobs := files("runcomfy/*.json"); len(jobs) != 1 {
		t.Errorf("RunComfy has the jobs %v, want one", jobs)
	}
	takes, err := d.Ledger.Takes(t.Context(), "ads/talk")
	if err != nil || len(takes) != 1 {
		t.Fatalf("%d takes, %v; want one", len(takes), err)
	}
	if len(takes[0].Outputs) != 1 {
		t.Fatalf("outputs %v, want one", takes[0].Outputs)
	}
	key, clip := takes[0].Outputs[0].Key, contentOf(t, samples+"clip.mp4")
	if body, _, err := d.Bucket.Get(t.Context(), key, math.MaxInt64); err != nil || string(body) != clip {
		t.Errorf("%s has %d bytes, %v; want the %d of the video", key, len(body), err, len(clip))
	}
}

// A webhook on another machine is refused before anything is started.
func TestWebhookOfAnotherMachine(t *testing.T) {
	out, errs := command(t, exitUsage, "local", "--dir", t.TempDir(), "--webhook", "https://example.com/hook")
	if !strings.Contains(errs, "example.com is not a loopback address") || out != "" {
		t.Errorf("want only an error about the address; printed:\n%s%s", out, errs)
	}
}

func TestLineOfANotice(t *testing.T) {
	n := events.Notice{DetailType: "Job failed", Detail: []byte(`{"name": "ads/ta\nlk", "state": "failed"}`)}
	if got, want := describeNotice(n), `notice: Job failed, about ads/ta\nlk`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The line of a rejected bundle ends with the remedy. It does not name the bundle's jobs.
func TestLineOfARejectedBundle(t *testing.T) {
	st := client.Status{Status: ledger.Status{Name: "cafe", State: ledger.Rejected, Code: "ambiguous", Reason: "two drops", Remedy: "Delete one.", Jobs: []string{"cafe/a"}}}
	if line := lineOf(st); !strings.HasSuffix(line, "  cafe: rejected (ambiguous): two drops. Delete one.") {
		t.Errorf("lineOf returned %q, want the remedy at its end", line)
	}
}

// lines collects the lines that a function passes to say. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	said []string
}

func (l *lines) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, text)
}

// String returns the lines.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.said, "\n")
}

func (l *lines) count(part string) int { return strings.Count(l.String(), part) }

// printStatuses prints a line for a status that cannot be read. It skips a status whose key has
// an escape character, because the S3 server lists such a key wrongly. It prints the other
// statuses that change after its start.
func TestPrintStatuses(t *testing.T) {
	s := startStack(t, local.Options{Dir: t.TempDir()})
	status := func(name, reason string) string {
		return string(bucket.JSON(ledger.Status{Name: name, State: ledger.Rejected, Code: "x", Reason: reason}, ""))
	}
	var said lines
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s.put("status/old.json", status("old", "there before"))
	go printStatuses(ctx, &client.Client{Bucket: s.bucket, Ledger: &ledger.Store{Bucket: s.bucket}}, said.say)
	for i := 0; said.count("first") == 0; i++ { // until printStatuses has begun and prints a changed status
		s.put("status/first.json", status("first", fmt.Sprint(i)))
		time.Sleep(printEvery)
	}

	s.put("status/a broken.json", "{")
	s.put("status/b\x1b[31m.json", status("b\x1b[31m", "red"))
	s.put("status/c.json", status("c", "an escape \x1b]0;title\x07 and a\nnewline"))
	soon(t, "the whole status", func() bool { return said.count(`an escape \x1b]0;title\a and a\nnewline`) == 1 })
	soon(t, "a line about the broken one", func() bool { return said.count("a broken: "+unreadable) == 1 })
	for i := range 3 { // each is found by a listing of its own
		s.put(fmt.Sprintf("status/d%d.json", i), status(fmt.Sprint("d", i), "later"))
		soon(t, "a later status", func() bool { return said.count("later") == i+1 })
	}
	if n := said.count("a broken"); n != 1 {
		t.Errorf("%d lines about the broken status, want 1", n)
	}
	if said.count("\x1b") != 0 || said.count("red") != 0 || said.count("old") != 0 {
		t.Errorf("printed %q, want no escape character, no status whose key has one, and no status that was there before", &said)
	}
}

// If the first listing fails, printStatuses still prints no status that was there before.
func TestPrintStatusesAfterAFailedListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := true
		storage := &s3test.Bucket{Before: func(op, _ string) error {
			if op == "ListObjectsV2" && fails {
				fails = false
				return s3test.Error(http.StatusServiceUnavailable, "SlowDown")
			}
			return nil
		}}
		storage.Set("status/old.json", bucket.JSON(ledger.Status{Name: "old", State: ledger.Waiting}, ""))
		b := &bucket.Bucket{S3: storage, Name: "lipdrop"}
		var said lines
		ctx, stop := context.WithCancel(t.Context())
		go printStatuses(ctx, &client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b}}, said.say)
		time.Sleep(3 * printEvery)
		storage.Set("status/new.json", bucket.JSON(ledger.Status{Name: "new", State: ledger.Waiting}, ""))
		time.Sleep(3 * printEvery)
		stop()
		synctest.Wait()
		if said.count("cannot list") != 1 || said.count("old") != 0 || said.count("new") != 1 {
			t.Errorf("printed %q, want the error and the new status, each once", &said)
		}
	})
}
