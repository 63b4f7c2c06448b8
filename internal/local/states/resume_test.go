package states_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// history returns the event types of the only execution in dir.
func history(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("files %v, %v; want one file", paths, err)
	}
	var kept struct{ Execution states.Execution }
	text, err := os.ReadFile(paths[0])
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		t.Fatal(err)
	}
	return typesOf(kept.Execution.Events)
}

// jobThatEnds returns an Invoker whose job ends at the given poll. The response to a poll asks for
// no wait, and has an x for each poll so far. The Invoker calls onCall before it responds.
func jobThatEnds(endsAt int, onCall func()) states.Invoker {
	return func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		onCall()
		if arn == archiveARN {
			return []byte(`"done"`), nil
		}
		turn := strings.Count(string(payload), "x") + 1
		return fmt.Appendf(nil, `{"waitSeconds":0,"turns":"%s","ended":%t}`, strings.Repeat("x", turn), turn == endsAt), nil
	}
}

// copyKilled returns a copy of dir with a partial file, as if the process were killed during a save.
func copyKilled(t *testing.T, dir string) string {
	t.Helper()
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Error(err)
	}
	paths, err := filepath.Glob(filepath.Join(killed, "*.json"))
	if err == nil {
		err = os.WriteFile(paths[0]+".partial", []byte(`{"id":`), 0o600)
	}
	if err != nil {
		t.Error(err)
	}
	return killed
}

func TestCallIsRepeatedAfterAKill(t *testing.T) {
	dir := t.TempDir()
	var killed []string
	e := serve(t, shipped(t), dir, jobThatEnds(2, func() { killed = append(killed, copyKilled(t, dir)) }))
	e.start(t, "talk", `{"waitSeconds":0}`)
	if got := e.end(t); got != states.Succeeded {
		t.Fatalf("ended as %s, want %s", got, states.Succeeded)
	}
	whole := history(t, dir)
	if len(killed) != 3 {
		t.Fatalf("%d calls, want 3", len(killed))
	}

	for i, dir := range killed {
		calls := 0
		e := serve(t, shipped(t), dir, jobThatEnds(2, func() { calls++ }))
		if got := e.end(t); got != states.Succeeded {
			t.Fatalf("killed at call %d: ended as %s, want %s", i, got, states.Succeeded)
		}
		if want := len(killed) - i; calls != want {
			t.Errorf("killed at call %d: %d calls after that, want %d", i, calls, want)
		}
		if diff := cmp.Diff(whole, history(t, dir)); diff != "" {
			t.Errorf("killed at call %d: history (-whole +got):\n%s", i, diff)
		}
		e.Close()

		// After a restart of the server, the ended execution is still there, and is not run again.
		e = serve(t, shipped(t), dir, nil)
		if d := e.describe(t, "talk"); d.Status != types.ExecutionStatusSucceeded {
			t.Errorf("killed at call %d: after a restart, the execution is %s, want %s", i, d.Status, types.ExecutionStatusSucceeded)
		}
		if diff := cmp.Diff(strings.Fields("Wait Poll Ended? Wait Poll Ended? Archive"), e.Path("talk")); diff != "" {
			t.Errorf("killed at call %d: path (-want +got):\n%s", i, diff)
		}
		e.Close()
		if len(e.ends) != 0 {
			t.Errorf("killed at call %d: %d executions ended again, want none", i, len(e.ends))
		}
	}
}

func TestCloseHaltsAndResumeGoesOn(t *testing.T) {
	g := newGate()
	m, dir := parse(t, oneTask(t, "")), t.TempDir()
	e := serve(t, m, dir, g.invoke)
	e.start(t, "a", `{"n":1}`)
	<-g.begun
	e.Close()
	if len(g.ended) != 1 {
		t.Error("Close returned before the call under way had returned, want Close to wait")
	}
	if len(e.ends) != 0 {
		t.Errorf("%d executions ended, want none", len(e.ends))
	}
	if err := e.stop(t, "a"); code(err) != "InternalFailure" {
		t.Errorf("after Close: %v, want InternalFailure", err)
	}

	e = serve(t, m, dir, g.invoke)
	if payload := <-g.begun; string(payload) != `{"n":1}` {
		t.Errorf("called again with the payload %s, want the input", payload)
	}
	g.respond("1", nil)
	if got := e.end(t); got != states.Succeeded {
		t.Errorf("ended as %s, want %s", got, states.Succeeded)
	}
}

func TestNoRequestSucceedsBeforeResume(t *testing.T) {
	server := &states.Server{Machine: parse(t, loop), ARN: machineARN, Dir: t.TempDir()}
	if status := call(t, server, "ListExecutions", `{"stateMachineArn":"`+machineARN+`"}`); status != http.StatusInternalServerError {
		t.Errorf("HTTP status %d, want 500", status)
	}
}
