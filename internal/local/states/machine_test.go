package states_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/local/states"
)

const (
	pollARN    = "arn:aws:lambda:eu-central-1:000000000000:function:poll"
	archiveARN = "arn:aws:lambda:eu-central-1:000000000000:function:archive"
)

var (
	substitutions = map[string]string{"Partition": "aws", "PollFunctionArn": pollARN, "ArchiveFunctionArn": archiveARN}
	began         = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// shipped returns the state machine that the project deploys.
func shipped(t *testing.T) *states.Machine {
	t.Helper()
	return parse(t, string(lipdrop.Machine))
}

func parse(t *testing.T, definition string) *states.Machine {
	t.Helper()
	m, err := states.Parse([]byte(definition), substitutions)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// oneTask returns the definition of a machine with one state, the Task T. The JSON members in
// fields are added to T, or replace members of T.
func oneTask(t *testing.T, fields string) string {
	t.Helper()
	var task map[string]any
	for _, text := range []string{
		`{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","TimeoutSeconds":60,
			"Arguments":{"FunctionName":"${PollFunctionArn}","Payload":"{% $states.input %}"},
			"Output":"{% $states.result.Payload %}","End":true}`,
		"{" + fields + "}",
	} {
		if err := json.Unmarshal([]byte(text), &task); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{
		"QueryLanguage": "JSONata", "StartAt": "T", "TimeoutSeconds": 1000, "States": map[string]any{"T": task},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// retrier returns a retrier for the named error. Its first interval is one second; then the
// interval doubles.
func retrier(name string, attempts int) string {
	return fmt.Sprintf(`{"ErrorEquals":[%q],"IntervalSeconds":1,"MaxAttempts":%d,"BackoffRate":2,"MaxDelaySeconds":99,"JitterStrategy":"FULL"}`, name, attempts)
}

// clock is a virtual clock.
type clock struct{ time time.Time }

func (c *clock) now() time.Time { return c.time }

// finish runs x to its end in virtual time. It returns the time at which each wait ended, in
// seconds since the start.
func finish(t *testing.T, m *states.Machine, x *states.Execution, c *clock, invoke states.Invoker) []float64 {
	t.Helper()
	var wakes []float64
	for {
		wake, done := m.Step(t.Context(), x, c.now, invoke)
		if done {
			return wakes
		}
		if !wake.After(c.time) {
			t.Fatalf("at %v, Step returns %v as the time of the next call; want a later time", c.time, wake)
		}
		wakes = append(wakes, wake.Sub(began).Seconds())
		c.time = wake
	}
}

// polls returns an Invoker that reports the end of the job at the given turn.
func polls(endsAt int) states.Invoker {
	turn := 0
	return func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		if arn == archiveARN {
			return []byte(`{"outputs":["talk.mp4"]}`), nil
		}
		var job map[string]any
		if err := json.Unmarshal(payload, &job); err != nil {
			return nil, err
		}
		turn++
		job["ended"] = turn == endsAt
		job["waitSeconds"] = 5 * turn
		return json.Marshal(job)
	}
}

// succeedsAfter returns an Invoker that returns the given errors, one for each call, and then
// true.
func succeedsAfter(failures ...error) states.Invoker {
	return func(context.Context, string, []byte) ([]byte, error) {
		if len(failures) == 0 {
			return []byte("true"), nil
		}
		err := failures[0]
		failures = failures[1:]
		return nil, err
	}
}

func named(name string) error {
	return &states.TaskError{Name: name, Cause: `{"errorType":"` + name + `"}`}
}

func typesOf(events []states.Event) []string {
	var all []string
	for _, event := range events {
		all = append(all, event.Type)
	}
	return all
}

func TestTheShippedMachineLoopsUntilTheJobHasEnded(t *testing.T) {
	m := shipped(t)
	x := m.Start(`{"waitSeconds":3}`, began)
	wakes := finish(t, m, x, &clock{began}, polls(2))

	want := strings.Fields("Wait Poll Ended? Wait Poll Ended? Archive")
	if diff := cmp.Diff(want, x.Path()); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{3, 8}, wakes); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if x.Status != states.Succeeded || x.Output != `{"outputs":["talk.mp4"]}` {
		t.Errorf("ended as %s with the output %s, want SUCCEEDED with the output of archive", x.Status, x.Output)
	}
}

// loop is a simpler form of the shipped machine, without Retry.
const loop = `{"QueryLanguage":"JSONata","StartAt":"Wait","TimeoutSeconds":432000,"States":{
	"Wait":{"Type":"Wait","Seconds":"{% $states.input.waitSeconds %}","Next":"Poll"},
	"Poll":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","TimeoutSeconds":90,
		"Arguments":{"FunctionName":"${PollFunctionArn}","Payload":"{% $states.input %}"},
		"Output":"{% $states.result.Payload %}","Next":"Ended?"},
	"Ended?":{"Type":"Choice","Choices":[{"Condition":"{% $states.input.ended %}","Next":"Archive"}],"Default":"Wait"},
	"Archive":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","TimeoutSeconds":90,
		"Arguments":{"FunctionName":"${ArchiveFunctionArn}","Payload":"{% $states.input %}"},
		"Output":"{% $states.result.Payload %}","End":true}}}`

// The history of an execution has the same events as in Step Functions, which limits their number.
func TestHistory(t *testing.T) {
	m := parse(t, loop)
	x := m.Start(`{"waitSeconds": 1}`, began)
	finish(t, m, x, &clock{began}, func(context.Context, string, []byte) ([]byte, error) {
		return []byte(`{"ended":true,"waitSeconds":0}`), nil
	})
	want := strings.Fields("ExecutionStarted WaitStateEntered WaitStateExited TaskStateEntered TaskScheduled TaskStarted TaskSucceeded TaskStateExited " +
		"ChoiceStateEntered ChoiceStateExited TaskStateEntered TaskScheduled TaskStarted TaskSucceeded TaskStateExited ExecutionSucceeded")
	if diff := cmp.Diff(want, typesOf(x.Events)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if first, last := x.Events[0].At, x.Events[15].At; !first.Equal(began) || !last.Equal(began.Add(time.Second)) {
		t.Errorf("the history is from %v to %v, want it to begin at %v and to last one second", first, last, began)
	}
}

func TestHowAnExecutionEnds(t *testing.T) {
	large := `"` + strings.Repeat("x", 256<<10) + `"`
	for _, row := range []struct {
		name   string
		fields string // more fields of the Task
		invoke states.Invoker
		takes  time.Duration // of each call
		status states.Status
		error  string
		cause  string
		events string        // the last events
		after  time.Duration // how long the execution lasts, if longer than one call
	}{
		{
			name:   "the payload of a function's error is the cause",
			invoke: succeedsAfter(&states.TaskError{Name: "NoOutput", Cause: `{"errorType":"NoOutput","errorMessage":"none"}`}),
			status: states.Failed, error: "NoOutput", cause: `{"errorType":"NoOutput","errorMessage":"none"}`,
			events: "TaskStarted TaskFailed ExecutionFailed",
		},
		{
			name:   "an error that is not a TaskError counts as an error of the Lambda client",
			invoke: succeedsAfter(errors.New("no route")),
			status: states.Failed, error: "Lambda.SdkClientException", cause: "no route",
			events: "TaskFailed ExecutionFailed",
		},
		{
			name:   "a function that takes the task's whole TimeoutSeconds times out",
			invoke: succeedsAfter(), takes: 60 * time.Second,
			status: states.Failed, error: "States.Timeout",
			events: "TaskStarted TaskTimedOut ExecutionFailed",
		},
		{
			name:   "a function that takes a second less than TimeoutSeconds does not time out",
			invoke: succeedsAfter(), takes: 59 * time.Second,
			status: states.Succeeded, events: "TaskSucceeded TaskStateExited ExecutionSucceeded",
		},
		{
			name:   "if the timeouts of the task and of the machine have passed, the machine's timeout counts",
			invoke: succeedsAfter(), takes: 1000 * time.Second,
			status: states.TimedOut, events: "TaskStarted ExecutionTimedOut",
		},
		{
			name:   "the machine's timeout ends the delay before a retry",
			fields: `"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":2000,"MaxAttempts":3,"BackoffRate":1,"MaxDelaySeconds":3000,"JitterStrategy":"FULL"}]`,
			invoke: succeedsAfter(named("A")),
			status: states.TimedOut, events: "TaskFailed ExecutionTimedOut", after: 1000 * time.Second,
		},
		{
			name:   "a result that is not JSON",
			invoke: func(context.Context, string, []byte) ([]byte, error) { return []byte("<html>"), nil },
			status: states.Failed, error: "Lambda.Unknown", cause: "The response of the function is not JSON.",
			events: "TaskFailed ExecutionFailed",
		},
		{
			name:   "a result above 256 KiB, which is not retried",
			fields: `"Retry":[` + retrier("States.ALL", 3) + `]`,
			invoke: func(context.Context, string, []byte) ([]byte, error) { return []byte(large), nil },
			status: states.Failed, error: "States.DataLimitExceeded",
			cause:  "The state/task 'lambda' returned a result with a size exceeding the maximum number of bytes service limit.",
			events: "TaskStateEntered TaskScheduled TaskStarted TaskFailed ExecutionFailed",
		},
		{
			name:   "a Payload without a value fails before the function is called",
			fields: `"Arguments":{"FunctionName":"f","Payload":"{% $states.input.a %}"}`,
			status: states.Failed, error: "States.QueryEvaluationError",
			cause:  "An error occurred while executing the state 'T': the JSONata expression {% $states.input.a %} returned nothing (undefined).",
			events: "TaskStateEntered EvaluationFailed ExecutionFailed",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := parse(t, oneTask(t, row.fields))
			c := &clock{began}
			m.Random = func() float64 { return 1 }
			x := m.Start("{}", c.time)
			finish(t, m, x, c, func(ctx context.Context, arn string, payload []byte) ([]byte, error) {
				c.time = c.time.Add(row.takes)
				return row.invoke(ctx, arn, payload)
			})
			got := []string{string(x.Status), x.Error, x.Cause}
			if diff := cmp.Diff([]string{string(row.status), row.error, row.cause}, got); diff != "" {
				t.Errorf("status, error, cause (-want +got):\n%s", diff)
			}
			if all := strings.Join(typesOf(x.Events), " "); !strings.HasSuffix(all, row.events) {
				t.Errorf("history %s, want one that ends with %s", all, row.events)
			}
			if after := x.StoppedAt.Sub(began); after != max(row.takes, row.after) {
				t.Errorf("stopped after %v, want %v", after, max(row.takes, row.after))
			}
		})
	}
}
