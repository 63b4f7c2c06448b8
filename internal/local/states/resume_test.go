package states_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// history returns the types of an execution's events, whose ids must count
// from 1.
func (e *endpoint) history(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	pages := sfn.NewGetExecutionHistoryPaginator(e.client, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(prefix + name)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range page.Events {
			all = append(all, string(event.Type))
			if event.Id != int64(len(all)) {
				t.Fatalf("event %d has the id %d", len(all), event.Id)
			}
		}
	}
	return all
}

// turns answers polls without a wait; the job has ended at the given turn. It
// knows the turn by its payload alone, and calls before at each call.
func turns(endsAt int, before func(payload string)) states.Invoker {
	return func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		before(string(payload))
		if arn == archiveARN {
			return []byte(`"done"`), nil
		}
		turn := strings.Count(string(payload), "x") + 1
		return fmt.Appendf(nil, `{"waitSeconds":0,"turns":"%s","ended":%t}`, strings.Repeat("x", turn), turn == endsAt), nil
	}
}

// kill returns a copy of dir as a kill would leave it: as it is, with the
// beginning of a change that was never finished.
func kill(t *testing.T, dir string) string {
	t.Helper()
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Error(err)
	}
	for pattern, suffix := range map[string]string{"*.history": "", "*.json": ".tmp"} {
		paths, err := filepath.Glob(filepath.Join(killed, pattern))
		if err != nil || len(paths) != 1 {
			t.Errorf("%s: %v, %v", pattern, paths, err)
			continue
		}
		file, err := os.OpenFile(paths[0]+suffix, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := file.WriteString(`{"id":`); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	return killed
}

func TestAfterAKillTheStepUnderWayIsRunAgain(t *testing.T) {
	dir := t.TempDir()
	var killed []string
	e := serve(t, shipped(t), dir, turns(2, func(string) { killed = append(killed, kill(t, dir)) }))
	e.start(t, "talk", `{"waitSeconds":0}`)
	if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
		t.Fatalf("statuses %v", got)
	}
	whole := e.history(t, "talk")
	if len(killed) != 3 {
		t.Fatalf("%d calls", len(killed))
	}

	for i, dir := range killed {
		calls := 0
		e := serve(t, shipped(t), dir, turns(2, func(string) { calls++ }))
		if got := e.status(t); got != "SUCCEEDED" {
			t.Fatalf("killed at call %d: ended as %s", i, got)
		}
		if want := len(killed) - i; calls != want {
			t.Errorf("killed at call %d: %d calls after that, want %d", i, calls, want)
		}
		if diff := cmp.Diff(whole, e.history(t, "talk")); diff != "" {
			t.Errorf("killed at call %d: history (-whole +got):\n%s", i, diff)
		}
		e.Close()

		// What has ended is there after the next start, and is not run again.
		e = serve(t, shipped(t), dir, nil)
		if d := e.describe(t, "talk"); aws.ToString(d.Output) != `"done"` {
			t.Errorf("killed at call %d: kept as %s with %s", i, d.Status, aws.ToString(d.Output))
		}
		if diff := cmp.Diff(strings.Fields("Wait Poll Ended? Wait Poll Ended? Archive"), e.Path("talk")); diff != "" {
			t.Errorf("killed at call %d: path (-want +got):\n%s", i, diff)
		}
		e.Close()
		if len(e.events) != 0 {
			t.Errorf("killed at call %d: %d events about what has ended", i, len(e.events))
		}
	}
}

func TestAKillGivesNoRetryBack(t *testing.T) {
	m := parse(t, oneTask(t, `"Retry":[{"ErrorEquals":["A"],"MaxAttempts":1,"JitterStrategy":"FULL"}]`))
	m.Random = func() float64 { return 0 }
	dir := t.TempDir()
	var killed string
	invoke := func(context.Context, string, []byte) ([]byte, error) {
		killed = kill(t, dir)
		return nil, named("A")
	}
	e := serve(t, m, dir, invoke)
	e.start(t, "a", "{}")
	if got := []string{e.status(t), e.status(t)}; got[1] != "FAILED" {
		t.Fatalf("statuses %v", got)
	}

	g := newGate()
	e = serve(t, m, killed, g.invoke)
	<-g.begun
	g.answer("", named("A"))
	if got := e.status(t); got != "FAILED" || len(g.begun) != 0 {
		t.Errorf("ended as %s, %d more calls", got, len(g.begun))
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
		t.Error("Close did not wait for the invoker")
	}
	if got := e.status(t); got != "RUNNING" || len(e.events) != 0 {
		t.Errorf("status %s, %d more events", got, len(e.events))
	}
	_, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: aws.String(prefix + "a")})
	if code(err) != "ServiceUnavailable" {
		t.Errorf("after Close: %v", err)
	}

	e = serve(t, m, dir, g.invoke)
	if payload := <-g.begun; string(payload) != `{"n":1}` {
		t.Errorf("called again with %s", payload)
	}
	g.answer("1", nil)
	if got := e.status(t); got != "SUCCEEDED" {
		t.Errorf("ended as %s", got)
	}
}

func TestExecutionsWithNamesThatLookAlike(t *testing.T) {
	dir := t.TempDir()
	m := parse(t, oneTask(t, ""))
	// The first three are one file's name to some file systems, the next two are one slug.
	names := []string{"talk", "TALK", "Talk", "ä.b", "ä_b", "..", strings.Repeat("話", 80)}
	e := serve(t, m, dir, fails())
	for _, name := range names {
		e.start(t, name, `"`+name+`"`)
		if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
			t.Fatalf("%s: statuses %v", name, got)
		}
	}
	e.Close()
	e = serve(t, m, dir, nil)
	for _, name := range names {
		if got := aws.ToString(e.describe(t, name).Input); got != `"`+name+`"` {
			t.Errorf("%s was kept with the input %s", name, got)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	folded := map[string]bool{}
	for _, file := range files {
		folded[strings.ToLower(file.Name())] = true
	}
	if len(folded) != 2*len(names) {
		t.Errorf("%d files for %d executions", len(folded), len(names))
	}
}

// The record of an execution stays small however long its history is, and what
// is in the history is not written again, so that saving every step costs the
// same.
func TestSavingDoesNotGrowWithTheHistory(t *testing.T) {
	dir := t.TempDir()
	only := func(pattern string) string {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) != 1 {
			t.Error(pattern, paths, err)
			return ""
		}
		return paths[0]
	}
	sizes := map[int]int64{}
	call := 0
	e := serve(t, parse(t, loop), dir, func(context.Context, string, []byte) ([]byte, error) {
		call++
		if call == 2 || call == 300 {
			info, err := os.Stat(only("*.json"))
			if err != nil {
				t.Error(err)
			}
			sizes[call] = info.Size()
		}
		if call == 2 {
			text, err := os.ReadFile(only("*.history"))
			if err != nil {
				t.Error(err)
			}
			marked := strings.Replace(string(text), "ExecutionStarted", "EXECUTIONSTARTED", 1)
			if err := os.WriteFile(only("*.history"), []byte(marked), 0o600); err != nil {
				t.Error(err)
			}
		}
		return fmt.Appendf(nil, `{"waitSeconds":0,"ended":%t}`, call == 300), nil
	})
	e.start(t, "a", `{"waitSeconds":0}`)
	if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
		t.Fatalf("statuses %v", got)
	}
	if sizes[300] > sizes[2]+100 {
		t.Errorf("%d bytes after a turn, %d after 299", sizes[2], sizes[300])
	}
	if got := e.history(t, "a"); len(got) != 1+300*9+3 || got[0] != "EXECUTIONSTARTED" {
		t.Errorf("%d events, the first %s", len(got), got[0])
	}
}

func TestAnExecutionGoesOnWhileItCannotBeSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "executions")
	away := dir + "-away"
	call := 0
	e := serve(t, shipped(t), dir, turns(2, func(string) {
		call++
		from, to := dir, away
		if call == 2 {
			from, to = away, dir
		}
		if call < 3 {
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
			}
		}
	}))
	e.start(t, "a", `{"waitSeconds":0}`)
	if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
		t.Fatalf("statuses %v", got)
	}
	want := e.history(t, "a")
	e.Close()
	e = serve(t, shipped(t), dir, nil)
	if diff := cmp.Diff(want, e.history(t, "a")); diff != "" || len(want) < 20 {
		t.Errorf("%d events; after a restart (-before +after):\n%s", len(want), diff)
	}
}

func TestAStartThatCannotBeSavedIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "executions")
	e := serve(t, parse(t, oneTask(t, "")), dir, fails())
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	_, err := e.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: aws.String(machineARN), Name: aws.String("a")})
	if code(err) != "InternalServerError" || len(e.events) != 0 {
		t.Errorf("%v, %d events", err, len(e.events))
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	e.start(t, "a", "{}")
	if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
		t.Errorf("statuses %v", got)
	}
}

func TestWhatResumeRefuses(t *testing.T) {
	m := parse(t, loop)
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "a.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, server := range map[string]*states.Server{
		"a.json":               {Machine: m, ARN: machineARN, Dir: broken},
		`a state machine: "x"`: {Machine: m, ARN: "x", Dir: t.TempDir()},
	} {
		if err := server.Resume(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
		server.Close()
	}
}

func TestBeforeResumeNothingIsAnswered(t *testing.T) {
	server := &states.Server{Machine: parse(t, loop), ARN: machineARN, Dir: t.TempDir()}
	if status := call(t, server, "ListExecutions", `{"stateMachineArn":"`+machineARN+`"}`); status != http.StatusServiceUnavailable {
		t.Errorf("answered %d", status)
	}
}
