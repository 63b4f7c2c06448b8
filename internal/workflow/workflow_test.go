package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/problem"
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
			t.Fatalf("%q cannot be the name of an execution", got)
		}
	})
}

type starter func(*sfn.StartExecutionInput) error

func (s starter) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	return nil, s(in)
}

// Start succeeds if the execution of the take already exists. After any other error of Step
// Functions, it returns that error.
func TestStart(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tt := range []struct{ err, want error }{
		{nil, nil}, {&types.ExecutionAlreadyExists{}, nil}, {broken, broken},
	} {
		var job workflow.Job
		err := workflow.Start(t.Context(), starter(func(in *sfn.StartExecutionInput) error {
			if err := json.Unmarshal([]byte(*in.Input), &job); err != nil {
				t.Error(err)
			}
			return tt.err
		}), "machine", workflow.Job{Name: "ads/talk", Take: "T"})
		if !errors.Is(err, tt.want) || job.WaitSeconds != workflow.FirstWait {
			t.Errorf("Step Functions returns %v: error %v, want %v; a first wait of %d s, want %d", tt.err, err, tt.want, job.WaitSeconds, workflow.FirstWait)
		}
	}
}

func TestExecutionARN(t *testing.T) {
	got := workflow.ExecutionARN("arn:aws:states:eu-west-1:1:stateMachine:m", "e")
	if want := "arn:aws:states:eu-west-1:1:execution:m:e"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A Job, the state of an execution, has at most 4 KiB of JSON even if its name is as long as a key
// may be. If such a name has only control characters, the Job has at most 8 KiB.
func TestStateIsSmall(t *testing.T) {
	now := time.Now()
	job := workflow.Job{
		Take: "20261121T120000Z-0123456789ab", RequestID: strings.Repeat("r", 128),
		Model: "happyhorse/happyhorse-1.0/reference-to-video", SubmittedAt: now, WaitSeconds: 900, Ended: true, Seen: "in_progress", UsualSeconds: 1 << 30, QueuedAt: now,
		RunningSince: now, Redrives: 1 << 30, Troubles: 1 << 30, TroubleSince: now, Losses: 1 << 30, LostSince: now,
	}
	for letter, most := range map[string]int{"é": 4 << 10, "\x01": 8 << 10} {
		job.Name = strings.Repeat(letter, 1024/len(letter))
		if body, err := json.Marshal(job); err != nil || len(body) > most {
			t.Errorf("a Job whose name has only the letter %q has %d bytes (%v), want at most %d", letter, len(body), err, most)
		}
	}
}

// The retriers of each Task name the errors that the Task's function returns, each once. All
// other names in the retriers are names of AWS, which have a dot. Only the first retrier has
// MaxAttempts 0. The last retrier is for all remaining errors.
func TestRetriersNameTheErrorsOfTheFunctions(t *testing.T) {
	var machine struct {
		States map[string]struct {
			Retry []struct {
				ErrorEquals []string
				MaxAttempts int
			}
			Catch json.RawMessage
		}
	}
	if err := json.Unmarshal(lipdrop.Machine, &machine); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]struct {
		folders     []string // their Go files create the errors
		lastRetries int
	}{
		"Poll":    {[]string{"."}, 10},
		"Archive": {[]string{"../../functions/archive/handler", "../transfer", "../origins"}, 3},
	} {
		s := machine.States[state]
		if s.Catch != nil {
			t.Errorf("%s has a Catch, want none: an execution whose error is caught cannot be redriven", state)
		}
		var named []string
		for i, retry := range s.Retry {
			for _, name := range retry.ErrorEquals {
				if !strings.Contains(name, ".") {
					named = append(named, name)
				}
			}
			if (i == 0) != (retry.MaxAttempts == 0) {
				t.Errorf("%s retries %v %d times; want 0 for the first retrier only", state, retry.ErrorEquals, retry.MaxAttempts)
			}
		}
		slices.Sort(named)
		if diff := cmp.Diff(returnedErrors(t, want.folders), named); diff != "" {
			t.Errorf("%s: errors of the function (-) and of the retriers (+):\n%s", state, diff)
		}
		if last := s.Retry[len(s.Retry)-1]; !slices.Equal(last.ErrorEquals, []string{"States.ALL"}) || last.MaxAttempts != want.lastRetries {
			t.Errorf("the last retrier of %s names %v with %d attempts, want States.ALL with %d", state, last.ErrorEquals, last.MaxAttempts, want.lastRetries)
		}
	}
}

// returnedErrors returns the names of the error types that have a problem code and that Go files
// in the folders create.
func returnedErrors(t *testing.T, folders []string) []string {
	t.Helper()
	var names []string
	for _, folder := range folders {
		paths, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%d Go files in %s, error %v; want some", len(paths), folder, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range regexp.MustCompile(`&(?:workflow\.)?([A-Z]\w+)\{`).FindAllStringSubmatch(string(text), -1) {
				if workflow.CodeOf(match[1]).State() != "" {
					names = append(names, match[1])
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestBare(t *testing.T) {
	lost := &workflow.RequestLost{Failure: workflow.Failuref("lost")}
	slow := &workflow.OutputTooSlow{Failure: workflow.Failuref("slow")}
	unknown := errors.New("broken pipe")
	for _, tt := range []struct {
		name      string
		err, want error
	}{
		{"no error", nil, nil},
		{"a failure", lost, lost},
		{"a wrapped failure", fmt.Errorf("copy: %w", fmt.Errorf("again: %w", lost)), lost},
		{"the first of two failures that are joined with another error", errors.Join(unknown, slow, lost), slow},
		{"the first of two failures that are wrapped", fmt.Errorf("%w; %w", lost, slow), lost},
		{"an error that is no failure", fmt.Errorf("copy: %w", unknown), nil},
	} {
		if got := workflow.Bare(tt.err); got != tt.want { //nolint:errorlint // the very error, not one that wraps it
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for name, want := range map[string]problem.Code{
		"OutputTooLarge": problem.OutputTooLarge, "NoOutput": problem.NoOutput, "JobCancelled": problem.JobCancelled,
	} {
		if got := workflow.CodeOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	text, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	types := regexp.MustCompile(`(\w+) +struct\{ Failure \}`).FindAllStringSubmatch(string(text), -1)
	if len(types) < 10 {
		t.Fatalf("errors.go has %d types of errors, want at least 10", len(types))
	}
	for _, match := range types {
		if workflow.CodeOf(match[1]).State() == "" {
			t.Errorf("the code of %s is not in the list of problem.Code", match[1])
		}
	}
	for _, name := range []string{"States.Timeout", "Lambda.Unknown", "wrapError", ""} {
		if code := workflow.CodeOf(name); code.State() != "" {
			t.Errorf("the code of %s is %s, which is in the list of problem.Code; want a code that is not", name, code)
		}
	}
}

// A Turn is decoded from its own JSON, or from a Job's.
func TestTurnUnmarshalJSON(t *testing.T) {
	job := workflow.Job{Name: "ads/talk", Take: "T", RequestID: "r", Losses: 2}
	for _, text := range []string{
		`{"name":"ads/talk","take":"T","requestId":"r","losses":2}`,
		`{"job":{"name":"ads/talk","take":"T","requestId":"r","losses":2},"redrives":0}`,
	} {
		var turn workflow.Turn
		if err := json.Unmarshal([]byte(text), &turn); err != nil {
			t.Fatal(err)
		}
		if turn.Job != job || turn.Redrives != 0 {
			t.Errorf("%s: %+v, want the job %+v and no redrives", text, turn, job)
		}
	}
}
