package local_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local"
)

// stackDir names an environment variable. If the variable is set to a folder, the test binary
// runs a stack in this folder, drops a pair and waits until it is killed.
const stackDir = "STACK_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(stackDir); dir != "" {
		s, err := local.Start(context.Background(), options(dir))
		if err == nil {
			err = errors.Join(put(s, "inbox/talk.mp4", clip), put(s, "inbox/talk.wav", voice))
		}
		fmt.Println("dropped:", err)
		select {}
	}
	os.Exit(m.Run())
}

func options(dir string) local.Options {
	return local.Options{
		Dir: dir, Settle: 200 * time.Millisecond, Visibility: time.Second,
		QueueTime: 500 * time.Millisecond, RunTime: 500 * time.Millisecond,
	}
}

func start(t *testing.T, o local.Options) *local.Stack {
	t.Helper()
	s, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(o.Dir, "logs", "*.log"))
			for _, path := range logs {
				t.Logf("%s:\n%s", path, read(t, path))
			}
		}
	})
	return s
}

func put(s *local.Stack, key, file string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = s.S3().PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String(local.Bucket), Key: &key, Body: bytes.NewReader(body),
	})
	return err
}

func drop(t *testing.T, s *local.Stack, key, file string) {
	t.Helper()
	if err := put(s, key, file); err != nil {
		t.Fatal(err)
	}
}

func dropPair(t *testing.T, s *local.Stack, name string) {
	t.Helper()
	drop(t, s, "inbox/"+name+".mp4", clip)
	drop(t, s, "inbox/"+name+".wav", voice)
}

func remove(t *testing.T, s *local.Stack, key string) {
	t.Helper()
	if _, err := s.S3().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: &key}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// await waits for an object whose key begins with prefix and ends in suffix, and returns the
// body of the object.
func await(t *testing.T, s *local.Stack, prefix, suffix string) []byte {
	t.Helper()
	var body []byte
	until(t, "an object "+prefix+"…"+suffix, func() bool {
		list, err := s.S3().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket), Prefix: &prefix})
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range list.Contents {
			if strings.HasSuffix(*object.Key, suffix) {
				body = get(t, s, *object.Key)
				return true
			}
		}
		return false
	})
	return body
}

func get(t *testing.T, s *local.Stack, key string) []byte {
	t.Helper()
	out, err := s.S3().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Body.Close() }()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

const (
	clip  = "sample/clip.mp4"
	voice = "sample/voice.wav"
)

func TestDropBecomesOutput(t *testing.T) {
	o := options(t.TempDir())
	o.Variables = map[string]string{"DEFAULT_VIDEO_MODEL": "sync/react-1"}
	s := start(t, o)
	dropPair(t, s, "ü 1/talk+1")
	if output := await(t, s, "outbox/ü 1/talk+1/", "talk+1.mp4"); !bytes.Equal(output, read(t, clip)) {
		t.Errorf("the output of %d bytes is not the dropped video, want the same bytes", len(output))
	}
	jobs := s.Fake().Submitted()
	if len(jobs) != 1 || jobs[0].Model != "sync/react-1" {
		t.Errorf("jobs %v, want one job of sync/react-1", jobs)
	}
	if leaks := s.Fake().LeakedTokens(); leaks != 0 {
		t.Errorf("%d tokens leaked, want 0", leaks)
	}
	if dead := s.DeadLetters(); len(dead) > 0 {
		t.Errorf("dead letters: %v, want none", dead)
	}
}

// A stack is killed while a job is under way, and is started again.
func TestKilled(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("the test finds processes in /proc, which this system does not have")
	}
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), stackDir+"="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	parent.Stderr = t.Output()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "dropped: <nil>\n" {
		t.Fatalf("the stack printed %q (%v), want dropped: <nil>", line, err)
	}
	if _, err := local.Start(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), "another local stack uses the folder") {
		t.Errorf("a second stack on the folder: %v, want an error about the first stack", err)
	}
	until(t, "an execution", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "executions", "*.json"))
		return err == nil && len(found) > 0
	})
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	awaitNoProcess(t, dir)

	ports := read(t, filepath.Join(dir, "ports.json"))
	s := start(t, options(dir))
	if diff := cmp.Diff(string(ports), string(read(t, filepath.Join(dir, "ports.json")))); diff != "" {
		t.Errorf("the ports changed (-before +after):\n%s", diff)
	}
	await(t, s, "outbox/talk/", "talk.mp4")
	if charges := s.Fake().Charges(); charges != 1 {
		t.Errorf("%d charges, want 1", charges)
	}
	s.Close()
	awaitNoProcess(t, dir)
}

// A job in RunComfy's queue is cancelled if its execution is stopped or its file is deleted.
func TestCancel(t *testing.T) {
	o := options(t.TempDir())
	o.QueueTime = time.Hour
	s := start(t, o)
	for name, end := range map[string]func(t *testing.T, name string){
		"stopped": func(t *testing.T, _ string) {
			for _, execution := range executions(t, s) {
				if _, err := s.StepFunctions().StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: execution.ExecutionArn}); err != nil {
					t.Fatal(err)
				}
			}
		},
		"deleted": func(t *testing.T, name string) { remove(t, s, "inbox/"+name+".mp4") },
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.Fake().Cancelled())
			dropPair(t, s, name)
			until(t, "the execution", func() bool { return len(executions(t, s)) == 1 })
			end(t, name)
			until(t, "the cancelled job", func() bool {
				return len(s.Fake().Cancelled()) == before+1 && len(executions(t, s)) == 0
			})
		})
	}
}

// executions returns the executions that are running.
func executions(t *testing.T, s *local.Stack) []types.ExecutionListItem {
	t.Helper()
	out, err := s.StepFunctions().ListExecutions(t.Context(), &sfn.ListExecutionsInput{
		StateMachineArn: aws.String(local.MachineARN), StatusFilter: types.ExecutionStatusRunning,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Executions
}

// A stack missed events of drops. The next stack on the folder finds these events, unless they
// are more than a minute older than the time in the file last-event.
func TestEventsMissed(t *testing.T) {
	dir := t.TempDir()
	patient := options(dir)
	patient.Settle = time.Hour
	first := start(t, patient)
	dropped := time.Now()
	dropPair(t, first, "talk")
	drop(t, first, "inbox/gone.wav", voice)
	remove(t, first, "inbox/gone.wav")
	until(t, "four events", func() bool { return first.Pending() == 4 })
	first.Close()
	if err := os.RemoveAll(filepath.Join(dir, "queue")); err != nil {
		t.Fatal(err)
	}
	t.Run("long before the last event", func(t *testing.T) {
		setLastEvent(t, dir, dropped.Add(time.Hour))
		s := start(t, patient)
		if n := s.Pending(); n != 0 {
			t.Errorf("%d events, want 0", n)
		}
	})
	t.Run("shortly before the last event", func(t *testing.T) {
		setLastEvent(t, dir, dropped.Add(30*time.Second)) // an event may take a minute to reach the queue
		s := start(t, patient)
		if n := s.Pending(); n != 3 { // two files and a deletion
			t.Errorf("%d events, want 3", n)
		}
	})
}

// If the stack cannot save an event, for example on a full disk, the stack fails. The next
// stack on the folder finds the event.
func TestEventThatCannotBeKept(t *testing.T) {
	o := options(t.TempDir())
	o.Settle = time.Hour
	s := start(t, o)
	longAgo := time.Now().Add(-time.Hour)
	setLastEvent(t, o.Dir, longAgo)
	drop(t, s, "inbox/talk.mp4", clip)
	until(t, "the first event", func() bool {
		kept := string(read(t, filepath.Join(o.Dir, "last-event")))
		return s.Pending() == 1 && kept != longAgo.UTC().Format(time.RFC3339)
	})
	setLastEvent(t, o.Dir, longAgo)
	folder := filepath.Join(o.Dir, "queue")
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	drop(t, s, "inbox/talk.wav", voice)
	<-s.Failed()
	if err := s.Err(); !strings.Contains(err.Error(), "not kept") {
		t.Errorf("the stack failed with %v, want an event that was not kept", err)
	}
	s.Close()
	if got := string(read(t, filepath.Join(o.Dir, "last-event"))); got != longAgo.UTC().Format(time.RFC3339) {
		t.Errorf("last-event is %s, want %s", got, longAgo.UTC().Format(time.RFC3339))
	}
	if err := os.Rename(folder+"-away", folder); err != nil {
		t.Fatal(err)
	}
	s = start(t, o)
	// The queue has the first event of talk.mp4, and the stack finds an event of each file.
	until(t, "three events", func() bool { return s.Pending() >= 3 })
}

func setLastEvent(t *testing.T, dir string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "last-event"), []byte(at.UTC().Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := options(t.TempDir())
	o.Ports.TLS = l.Addr().(*net.TCPAddr).Port
	_, err = local.Start(t.Context(), o)
	if inUse, ok := errors.AsType[*local.PortError](err); !ok || inUse.Port != o.Ports.TLS {
		t.Errorf("Start() = %v, want a PortError of %d", err, o.Ports.TLS)
	}
}

// awaitNoProcess waits until no process has dir in its command line.
func awaitNoProcess(t *testing.T, dir string) {
	t.Helper()
	until(t, "the end of every process of "+dir, func() bool {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil || len(lines) == 0 {
			t.Fatal("no processes found: ", err)
		}
		for _, path := range lines {
			if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte(dir)) {
				return false
			}
		}
		return true
	})
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	const patience = 2 * time.Minute // for what takes seconds on an idle machine
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited %v for %s, which did not come", patience, what)
}
