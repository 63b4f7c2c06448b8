package process_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/process"
)

// role is an environment variable. If its value is parent or stubborn, the test binary plays
// that process in a test.
const role = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "parent":
		playParent()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour) // select {} would be a deadlock, which ends a program
	}
	os.Exit(m.Run())
}

// playParent starts a child and a grandchild, prints their process ids, waits for a line on
// standard input, and crashes.
func playParent() {
	child := exec.Command("/bin/sh", "-c", "sleep 1000 & echo $$ $!; wait")
	child.Stdout = os.Stdout
	if _, err := process.Start(child); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	panic("crash")
}

func TestChildrenEndWithTheirParent(t *testing.T) {
	ends := map[string]func(parent *os.Process, stdin io.Writer) error{
		"by SIGKILL": func(parent *os.Process, _ io.Writer) error { return parent.Kill() },
		"by SIGTERM": func(parent *os.Process, _ io.Writer) error { return parent.Signal(syscall.SIGTERM) },
		"by a crash": func(_ *os.Process, stdin io.Writer) error { _, err := stdin.Write([]byte("\n")); return err },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			parent := exec.Command(os.Args[0])
			parent.Env = append(os.Environ(), role+"=parent")
			stdin, err := parent.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			pids, err := lines.ReadString('\n')
			if err != nil || len(strings.Fields(pids)) != 2 {
				t.Fatalf("the parent printed %q (%v), want two process ids", pids, err)
			}
			if err := end(parent.Process, stdin); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, lines, pids)
			_ = parent.Wait()
		})
	}
}

// expectEnd waits for the end of the children's output. Each child holds the pipe of this output
// open, so the children have ended when the output ends.
func expectEnd(t *testing.T, out io.Reader, pids string) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, out)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Errorf("after a minute, at least one of the processes %s still runs; want both ended", strings.TrimSpace(pids))
		for pid := range strings.FieldsSeq(pids) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
}

func TestErrSaysHowTheChildEnded(t *testing.T) {
	rows := map[string]struct {
		script string
		want   string
	}{
		"well":        {script: "exit 0", want: "<nil>"},
		"badly":       {script: "exit 3", want: "exit status 3"},
		"by a signal": {script: "kill -SEGV $$", want: "signal: segmentation fault"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			child, err := process.Start(exec.Command("/bin/sh", "-c", row.script))
			if err != nil {
				t.Fatal(err)
			}
			<-child.Done()
			if got := strings.TrimSuffix(fmt.Sprint(child.Err()), " (core dumped)"); got != row.want {
				t.Errorf("Err() = %s, want %s", got, row.want)
			}
			child.Kill() // must do nothing, because the child has ended
		})
	}
}

func TestKillTakesTheWholeGroup(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo $$ $!; wait")
	cmd.Stdout = w
	child, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	lines := bufio.NewReader(r)
	pids, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child.Kill()
	expectEnd(t, lines, pids)
	var exit *exec.ExitError
	if !errors.As(child.Err(), &exit) || exit.String() != "signal: killed" {
		t.Errorf("Err() = %v, want signal: killed", child.Err())
	}
}

func TestStop(t *testing.T) {
	t.Run("a child that ends after SIGTERM", func(t *testing.T) {
		child, err := process.Start(exec.Command("/bin/sleep", "1000"))
		if err != nil {
			t.Fatal(err)
		}
		child.Stop(time.Minute)
		if err := child.Err(); err == nil || err.Error() != "signal: terminated" {
			t.Errorf("the child ended with %v, want signal: terminated", err)
		}
	})
	t.Run("a child that ignores SIGTERM", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"=stubborn")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		child, err := process.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("the child printed %q (%v), want ready", line, err)
		}
		child.Stop(time.Millisecond)
		if err := child.Err(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("the child ended with %v, want signal: killed", err)
		}
	})
}
