package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/test/world"
)

// scanner counts log lines and keeps those with a secret.
type scanner struct {
	mu    sync.Mutex
	lines int
	found []string
}

func (s *scanner) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	if bytes.Contains(line, []byte("canary")) || bytes.Contains(line, []byte("X-Amz-")) {
		s.found = append(s.found, string(line))
	}
	return len(line), nil
}

var logs scanner

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(&logs, nil)))
	os.Exit(m.Run())
}

// skipIfShort skips the test if -short is set. It is for tests of the simulation itself. They take
// minutes with the race detector, and TestSimulation runs the same code.
func skipIfShort(t *testing.T) {
	if testing.Short() {
		t.Skip("a test of the simulation itself")
	}
}

func report(t *testing.T, jobs int, seed uint64) (tally, string) {
	t.Helper()
	total, err := simulate(jobs, seed)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	total.print(&b, seed, 20)
	return total, b.String()
}

// Under faults, no job is lost, charged twice or left with a wrong status, and no
// log line contains a secret.
func TestSimulation(t *testing.T) {
	total, text := report(t, 190, 1)
	t.Log("\n" + text)
	if total.bad() {
		t.Error("there are findings, want none")
	}
	held := total.faults["job held by a cap"]
	if total.charges < 120 || total.outputs < 110 || len(total.faults) < 60 || held == 0 {
		t.Errorf("%d charges, %d outputs, %d kinds of faults, %d jobs held by a cap; want at least 120, 110, 60 and 1", total.charges, total.outputs, len(total.faults), held)
	}
	if len(logs.found) > 0 || logs.lines < 1000 {
		t.Errorf("%d log lines, want at least 1000; %d with a secret, want 0: %q", logs.lines, len(logs.found), logs.found)
	}
}

func TestSameSeedGivesTheSameRun(t *testing.T) {
	skipIfShort(t)
	_, first := report(t, 25, 2)
	if _, again := report(t, 25, 2); again != first {
		t.Errorf("the second run differs; the first is\n%s\nthe second is\n%s", first, again)
	}
}

// wantRedriven ends a simulation, and expects no findings and a number of redriven executions.
func wantRedriven(t *testing.T, s *simulation, want int) {
	t.Helper()
	s.end()
	for _, finding := range s.all() {
		t.Error(finding)
	}
	if n := s.faults["redriven in the end"]; n != want {
		t.Errorf("executions were redriven %d times, want %d", n, want)
	}
}

// Without a token, the message of the drop becomes a dead letter. Its redrive starts a job that runs
// longer than MaxHours. The execution is redriven while the job runs, and again after the job's end.
func TestLongJobOfADeadLetter(t *testing.T) {
	s, err := newEmptySimulation(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.w.RunComfy.Run = retryTime + time.Hour
	s.w.Secret = ""
	s.dropAll(&drop{name: "a", shape: pair}, 0)
	s.chaos()
	wantRedriven(t, s, 2)
}

// Archive dies each time after it has recorded the success, until the execution fails. Then
// the execution is redriven, and succeeds.
func TestArchiveThatDiesAtItsEnd(t *testing.T) {
	s, err := newEmptySimulation(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.w.After = func(c world.Call) error {
		if !s.calmed && c.Function == "archive" && c.Op == "GetObject" && strings.HasPrefix(c.Key, "status/") {
			panic(world.Crash{})
		}
		return nil
	}
	s.dropAll(&drop{name: "a", shape: pair}, 0)
	s.chaos()
	if st := s.w.Status("a"); st.State != ledger.Succeeded {
		t.Errorf("the status is %s before the redrive, want succeeded", st.State)
	}
	wantRedriven(t, s, 1)
}

// If a call of Step Functions is throttled, its retry fails with the same error.
func TestThrottledRetryOfStepFunctions(t *testing.T) {
	s, err := newEmptySimulation(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	start := world.Call{Service: "states", Op: "StartExecution"}
	s.failing[start] = 1 // the first call has failed, and one retry fails too
	if err := s.before(start); !errors.Is(err, world.ErrThrottledStates) {
		t.Errorf("the error is %v, want %v", err, world.ErrThrottledStates)
	}
}

// check finds what each row changes after the run.
func TestCheckFinds(t *testing.T) {
	skipIfShort(t)
	succeeded := func(s *simulation) ledger.Record {
		for _, rec := range s.records() {
			if rec.State == ledger.Succeeded {
				return rec
			}
		}
		t.Fatal("no take has succeeded")
		return ledger.Record{}
	}
	rewrite := func(s *simulation, key, old, replacement string) {
		body, _ := s.w.Bucket.Object(key)
		s.w.Bucket.Set(key, bytes.ReplaceAll(body, []byte(old), []byte(replacement)))
	}
	record := func(rec ledger.Record) string { return ledger.RecordKey(rec.Name, rec.Take) }
	tests := []struct {
		name   string
		tamper func(s *simulation)
		broken promise
		says   string
	}{
		{"nothing", func(*simulation) {}, "", ""},
		{"an output is gone", func(s *simulation) { s.w.Bucket.Remove(succeeded(s).Outputs[0].Key) }, lost, ""},
		{"an output has other bytes", func(s *simulation) { s.w.Bucket.Set(succeeded(s).Outputs[0].Key, []byte("another")) }, lost, ""},
		{"result.json is gone", func(s *simulation) {
			rec := succeeded(s)
			s.w.Bucket.Remove(ledger.ResultKey(rec.Name, rec.Take))
		}, lost, ""},
		{"a record is gone", func(s *simulation) { s.w.Bucket.Remove(record(succeeded(s))) }, lost, ""},
		{"a second charge", func(s *simulation) {
			client := &runcomfy.Client{Token: runcomfy.StaticToken(s.token()), HTTPClient: &http.Client{Transport: s.w.RunComfy.Transport()}}
			if _, err := client.Submit(t.Context(), "a/b", s.w.RunComfy.Submitted()[0].Input); err != nil {
				t.Fatal(err)
			}
		}, chargedTwice, ""},
		{"a record that says unknown", func(s *simulation) {
			rewrite(s, record(succeeded(s)), `"state": "succeeded"`, `"state": "unknown"`)
		}, wrongStatus, ""},
		{"a record that has not ended", func(s *simulation) {
			rewrite(s, record(succeeded(s)), `"state": "succeeded"`, `"state": "archiving"`)
		}, wrongStatus, ""},
		{"a record that says cancelled", func(s *simulation) {
			rewrite(s, record(succeeded(s)), `"state": "succeeded"`, `"state": "cancelled"`)
		}, lost, ""},
		{"a record that does not parse", func(s *simulation) { s.w.Bucket.Set(record(succeeded(s)), []byte("{")) }, wrongStatus, "is not a record"},
		{"a status that says in_progress", func(s *simulation) {
			rewrite(s, ledger.StatusKey(succeeded(s).Name), `"state": "succeeded"`, `"state": "in_progress"`)
		}, wrongStatus, ""},
		{"no status", func(s *simulation) { s.w.Bucket.Remove(ledger.StatusKey(succeeded(s).Name)) }, wrongStatus, ""},
		{"a dead letter", func(s *simulation) { s.w.Dead = append(s.w.Dead, "x") }, wrongStatus, ""},
		{"a dead letter of a deletion", func(s *simulation) { s.w.DeadDeletions = append(s.w.DeadDeletions, "x") }, wrongStatus, ""},
		{"a notice that was not sent", func(s *simulation) {
			rec := succeeded(s)
			s.w.Notices = slices.DeleteFunc(s.w.Notices, func(n notice.Detail) bool { return n.Take == rec.Take })
		}, wrongStatus, ""},
		{"a notice that is due forever", func(s *simulation) {
			rewrite(s, record(succeeded(s)), `"state": "succeeded"`, `"state": "succeeded", "noticeDue": true`)
		}, wrongStatus, ""},
		{"a wrong notice", func(s *simulation) { s.w.WrongNotices = []string{"wrong"} }, wrongStatus, ""},
		{"the token in a notice", func(s *simulation) { s.w.Notices[0].Reason = world.Token }, leaked, ""},
		{"the cap is lower than the number of jobs of a day", func(s *simulation) {
			s.w.Caps, s.caps = budget.Caps{Jobs: 1}, capCheck{first: budget.Caps{Jobs: 1}, paid: s.caps.paid}
		}, overCap, "are accepted; the caps are {Jobs:1"},
		{"a book is gone", func(s *simulation) {
			s.w.Bucket.Remove(budget.Key(budget.Day(world.Begin)))
			s.w.Caps = budget.Caps{Jobs: 99}
		}, overCap, "is charged, but is not in the book"},
		{"a book has a take that is not charged", func(s *simulation) {
			rewrite(s, budget.Key(budget.Day(world.Begin)), `"takes":[{"name":"`, `"takes":[{"name":"no such `)
		}, overCap, "and not charged, but is in the book"},
		{"a book has other seconds than the record of a take", func(s *simulation) {
			rewrite(s, budget.Key(budget.Day(world.Begin)), `"seconds":`, `"seconds":1`)
		}, overCap, "the record of the take says"},
		{"a wrong sum in a book", func(s *simulation) {
			rewrite(s, budget.Key(budget.Day(world.Begin)), `"used":{"jobs":`, `"used":{"jobs":1`)
		}, overCap, "the sum of its takes is"},
		{"the token in a status", func(s *simulation) {
			rewrite(s, ledger.StatusKey(succeeded(s).Name), `"requestId": "`, `"requestId": "`+world.Token)
		}, leaked, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newSimulation(6, 3, 0)
			if err != nil {
				t.Fatal(err)
			}
			s.chaos()
			s.calm(longestJob, retryTime)
			tt.tamper(s)
			s.check()
			is := func(text string) bool { return strings.Contains(text, tt.says) }
			if tt.broken == "" && len(s.all()) > 0 || tt.broken != "" && !slices.ContainsFunc(s.findings[tt.broken], is) {
				t.Errorf("findings %v, want one of the kind %q with the text %q; if the kind is \"\", want none", s.findings, tt.broken, tt.says)
			}
		})
	}
}

// Each story ends as the oracle (oracle.go) expects.
func TestStories(t *testing.T) {
	total, err := tellStories(200, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range total.all() {
		t.Error(finding)
	}
	if total.charges < 200 {
		t.Errorf("%d charges, want at least 200", total.charges)
	}
}

func TestSameSeedTellsTheSameStories(t *testing.T) {
	for number := range uint64(6) {
		var texts []string
		for range 2 {
			s, err := tellStory(4, number)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, fmt.Sprint(s.text(), s.all(), s.calls))
		}
		if texts[0] != texts[1] {
			t.Errorf("story %d differs the second time:\n%s\nand then\n%s", number, texts[0], texts[1])
		}
	}
}

// Each hostile person acts among victims, and every victim soon has a status other than
// waiting.
func TestHostilePeople(t *testing.T) {
	for i, person := range hostiles {
		t.Run(person.name, func(t *testing.T) {
			found, err := attackWorld(1, uint64(i), 3*time.Hour) // longer than patience, but too short for dead letters
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range found.all() {
				t.Error(finding)
			}
		})
	}
}
