package workflow_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

var executionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func TestExecutionName(t *testing.T) {
	const take = "20261121T120000Z-0123456789ab"
	tests := []struct{ name, want string }{
		{"ads/talk", "ads-talk-" + take},
		{"ads/Grüße an alle", "ads-Gr--e-an-alle-" + take},
		{"映画/一", "-----" + take},
		{strings.Repeat("long", 100), strings.Repeat("long", 100)[:50] + "-" + take},
	}
	for _, tt := range tests {
		if got := workflow.ExecutionName(tt.name, take); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.name, got, tt.want)
		}
	}
	rapidtest.Check(t, func(t *rapid.T) {
		if got := workflow.ExecutionName(rapid.String().Draw(t, "name"), take); !executionName.MatchString(got) {
			t.Fatalf("%q is no execution's name", got)
		}
	})
}

func TestExecutionARN(t *testing.T) {
	got := workflow.ExecutionARN("arn:aws:states:eu-west-1:1:stateMachine:m", "e")
	if want := "arn:aws:states:eu-west-1:1:execution:m:e"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The state stays below 4 KB even with a name as long as a key may be.
func TestStateIsSmall(t *testing.T) {
	now := time.Now()
	job := workflow.Job{
		Name: strings.Repeat("\x01", 1024), Take: "20261121T120000Z-0123456789ab", RequestID: strings.Repeat("r", 128),
		Model: "happyhorse/happyhorse-1.0/reference-to-video", SubmittedAt: now, WaitSeconds: 900, Ended: true, Seen: "in_progress",
		RunningSince: now, AskedAt: now, Troubles: 1 << 30, TroubleSince: now, Losses: 1 << 30, LostSince: now,
	}
	plain := job
	plain.Name = strings.Repeat("é", 512)
	body, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 4<<10 {
		t.Errorf("the state has %d bytes", len(body))
	}
	if body, _ = json.Marshal(job); len(body) > 8<<10 {
		t.Errorf("the state of a name of control characters has %d bytes", len(body))
	}
}

// Every error that the state machine names is one that Go returns, or one of
// Lambda's or of Step Functions' own.
func TestMachineNamesErrorsOfGo(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"Sandbox.Timedout", "Runtime.ExitError"}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			known = append(known, spec.Name.Name)
		}
		return true
	})
	text, err := os.ReadFile("../../statemachine.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	var machine struct {
		States map[string]struct {
			Retry []struct{ ErrorEquals []string }
			Catch json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &machine); err != nil {
		t.Fatal(err)
	}
	named := 0
	for state, s := range machine.States {
		if s.Catch != nil {
			t.Errorf("%s has a Catch: its error could not be redriven", state)
		}
		for _, retry := range s.Retry {
			for _, name := range retry.ErrorEquals {
				named++
				if !slices.Contains(known, name) && !strings.HasPrefix(name, "Lambda.") && !strings.HasPrefix(name, "States.") {
					t.Errorf("%s retries %s, which nothing returns", state, name)
				}
			}
		}
	}
	if named == 0 {
		t.Error("no Retry was looked at")
	}
}

func TestWait(t *testing.T) {
	const usual = 90 * time.Second
	tests := []struct {
		name string
		p    workflow.Progress
		want int // seconds
	}{
		{"a run that has just begun", workflow.Progress{Usual: usual, Elapsed: 1100 * time.Millisecond}, 2},
		{"twice the time", workflow.Progress{Usual: usual, Elapsed: 16 * time.Second}, 16},
		{"not past where an end is likely", workflow.Progress{Usual: usual, Elapsed: 40 * time.Second}, 5},
		{"a part of the time that has passed", workflow.Progress{Usual: usual, Elapsed: 200 * time.Second}, 16},
		{"at most a quarter of an hour", workflow.Progress{Usual: usual, Elapsed: 20 * time.Hour}, 900},
		{"behind four others", workflow.Progress{Usual: usual, Elapsed: time.Minute, Queued: true, Position: 4}, 36},
		{"a long queue", workflow.Progress{Usual: usual, Elapsed: time.Minute, Queued: true, Position: 400}, 45},
		{"the first trouble", workflow.Progress{Usual: usual, Elapsed: time.Hour, Troubles: 1, Jitter: 0.999}, 5},
		{"the fifth trouble, half spread", workflow.Progress{Usual: usual, Elapsed: time.Hour, Troubles: 5}, 40},
		{"long trouble", workflow.Progress{Usual: usual, Elapsed: time.Hour, Troubles: 500, Jitter: 0.999}, 900},
		{"RunComfy says when to come back", workflow.Progress{Usual: usual, Troubles: 1, RetryAfter: 2 * time.Minute}, 120},
		{"RunComfy says tomorrow", workflow.Progress{Usual: usual, Troubles: 1, RetryAfter: 24 * time.Hour}, 900},
		{"a model without a usual time", workflow.Progress{Elapsed: time.Minute, Queued: true, Position: 9}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Wait(); got != tt.want {
				t.Errorf("%d s, want %d s", got, tt.want)
			}
		})
	}
}
