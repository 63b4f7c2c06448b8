package states_test

import (
	stdcmp "cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

func TestRetries(t *testing.T) {
	a, b := named("A"), named("B")
	timeout := named("States.Timeout")
	for _, row := range []struct {
		name   string
		retry  string
		random float64 // what Random returns; 1 if not set
		fails  []error
		wakes  []float64 // when each retry was made, in seconds after the start
		status states.Status
	}{
		{
			name:  "each delay is twice the one before",
			retry: retrier("A", 3),
			fails: []error{a, a, a}, wakes: []float64{1, 3, 7}, status: states.Succeeded,
		},
		{
			name:  "gives up after the last attempt",
			retry: retrier("A", 3),
			fails: []error{a, a, a, a}, wakes: []float64{1, 3, 7}, status: states.Failed,
		},
		{
			name:  "MaxAttempts 0 means no retry",
			retry: `{"ErrorEquals":["A"],"MaxAttempts":0}`,
			fails: []error{a}, status: states.Failed,
		},
		{
			name:  "MaxDelaySeconds limits each delay",
			retry: `{"ErrorEquals":["A"],"IntervalSeconds":2,"BackoffRate":1.5,"MaxDelaySeconds":4,"MaxAttempts":60,"JitterStrategy":"FULL"}`,
			fails: []error{a, a, a, a}, wakes: []float64{2, 5, 9, 13}, status: states.Succeeded,
		},
		{
			name:  "full jitter takes a part of the delay",
			retry: `{"ErrorEquals":["A"],"IntervalSeconds":2,"BackoffRate":2,"MaxDelaySeconds":5,"MaxAttempts":3,"JitterStrategy":"FULL"}`,
			fails: []error{a, a, a}, random: 0.25, wakes: []float64{0.5, 1.5, 2.75}, status: states.Succeeded,
		},
		{
			name:  "each retrier counts its own retries",
			retry: retrier("A", 1) + "," + retrier("B", 1),
			fails: []error{a, b, a}, wakes: []float64{1, 2}, status: states.Failed,
		},
		{
			name:  "only the first retrier that matches is used",
			retry: retrier("A", 1) + "," + retrier("States.ALL", 3),
			fails: []error{a, a}, wakes: []float64{1}, status: states.Failed,
		},
		{
			name:  "an error without a retrier is not retried",
			retry: retrier("A", 3),
			fails: []error{b}, status: states.Failed,
		},
		{
			name:  "States.ALL retries all errors",
			retry: retrier("States.ALL", 3),
			fails: []error{a, timeout, errors.New("reset")}, wakes: []float64{1, 3, 7}, status: states.Succeeded,
		},
		{
			name:  "States.ALL does not retry the error of an earlier retrier",
			retry: `{"ErrorEquals":["A"],"MaxAttempts":0},` + retrier("States.ALL", 3),
			fails: []error{b, named("States.TaskFailed"), a}, wakes: []float64{1, 3}, status: states.Failed,
		},
		{
			name:  "States.ALL does not retry States.DataLimitExceeded",
			retry: retrier("States.ALL", 3),
			fails: []error{named("States.DataLimitExceeded")}, status: states.Failed,
		},
		{
			name:  "States.ALL does not retry States.Runtime",
			retry: retrier("States.ALL", 3),
			fails: []error{named("States.Runtime")}, status: states.Failed,
		},
		{
			name:  "a retrier of States.Timeout retries a timeout",
			retry: retrier("States.Timeout", 3),
			fails: []error{timeout}, wakes: []float64{1}, status: states.Succeeded,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := parse(t, oneTask(t, `"Retry":[`+row.retry+`]`))
			m.Random = func() float64 { return stdcmp.Or(row.random, 1) }
			x := m.Start("{}", began)
			wakes := finish(t, m, x, &clock{began}, succeedsAfter(row.fails...))
			if diff := cmp.Diff(row.wakes, wakes); diff != "" {
				t.Errorf("retries (-want +got):\n%s", diff)
			}
			if x.Status != row.status {
				t.Errorf("ended as %s, want %s", x.Status, row.status)
			}
		})
	}
}

func TestEachStateCountsItsOwnRetries(t *testing.T) {
	task := `{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","TimeoutSeconds":60,
		"Arguments":{"FunctionName":"f","Payload":"{% $states.input %}"},"Output":"{% $states.result.Payload %}","Retry":[` + retrier("A", 1) + `],`
	m := parse(t, `{"QueryLanguage":"JSONata","StartAt":"T1","TimeoutSeconds":1000,"States":{
		"T1":`+task+`"Next":"T2"},"T2":`+task+`"End":true}}}`)
	x := m.Start("{}", began)
	call := 0
	finish(t, m, x, &clock{began}, func(context.Context, string, []byte) ([]byte, error) {
		call++
		if call%2 == 1 {
			return nil, named("A")
		}
		return []byte("1"), nil
	})
	if x.Status != states.Succeeded || call != 4 {
		t.Errorf("ended as %s after %d calls, want SUCCEEDED after 4", x.Status, call)
	}
}

// After a restart with a new definition, an execution may have made more retries than the new
// MaxAttempts. It then gets no further retry.
func TestANewDefinitionAllowsFewerRetries(t *testing.T) {
	m := parse(t, oneTask(t, `"Retry":[`+retrier("A", 1)+`]`))
	x := m.Start("{}", began)
	x.Retries = map[int]int{0: 2}
	finish(t, m, x, &clock{began}, succeedsAfter(named("A")))
	if x.Status != states.Failed {
		t.Errorf("ended as %s, want %s", x.Status, states.Failed)
	}
}

func TestARedriveContinuesFromTheStateThatDidNotSucceed(t *testing.T) {
	m := shipped(t)
	m.Random = func() float64 { return 1 }
	c := &clock{began}
	x := m.Start(`{"waitSeconds":3}`, c.time)
	archives := 0 // calls of archive; the machine retries OutputUnavailable 60 times, and OutputRefused never
	poll := polls(1)
	invoke := func(ctx context.Context, arn string, payload []byte) ([]byte, error) {
		if arn == pollARN {
			return poll(ctx, arn, payload)
		}
		switch archives++; archives {
		case 63:
			return nil, named("OutputRefused")
		case 64:
			return []byte(`"kept"`), nil
		}
		return nil, named("OutputUnavailable")
	}
	finish(t, m, x, c, invoke)
	if x.Status != states.Failed || x.Error != "OutputUnavailable" || archives != 61 {
		t.Fatalf("ended as %s %s after %d archives, want FAILED OutputUnavailable after 61", x.Status, x.Error, archives)
	}
	stopped, input := x.StoppedAt, x.StateInput

	for redrive, want := range []states.Status{states.Failed, states.Succeeded} {
		// The machine's timeout of five days has passed since the start, so Redrive must start the timeout again.
		c.time = x.StoppedAt.Add(6 * 24 * time.Hour)
		if err := m.Redrive(x, c.time); err != nil {
			t.Fatal(err)
		}
		if x.Status != states.Running || x.Error != "" || x.Cause != "" || !x.StoppedAt.IsZero() {
			t.Errorf("redriven: %s, error %q, cause %q, stopped %v, want RUNNING and the rest empty", x.Status, x.Error, x.Cause, x.StoppedAt)
		}
		if x.StateInput != input || x.RedriveCount != redrive+1 {
			t.Errorf("redrive %d with the input %s, want redrive %d with %s", x.RedriveCount, x.StateInput, redrive+1, input)
		}
		finish(t, m, x, c, invoke)
		if x.Status != want {
			t.Fatalf("after redrive %d: %s %s %s, want %s", redrive+1, x.Status, x.Error, x.Cause, want)
		}
	}
	if x.Output != `"kept"` || archives != 64 || !x.StoppedAt.After(stopped) {
		t.Errorf("output %s after %d archives, stopped at %v; want \"kept\" after 64, stopped after %v", x.Output, archives, x.StoppedAt, stopped)
	}
	if diff := cmp.Diff(strings.Fields("Wait Poll Ended? Archive"), x.Path()); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
	all := strings.Join(typesOf(x.Events), " ")
	if want := "TaskFailed ExecutionFailed ExecutionRedriven TaskScheduled TaskStarted TaskFailed TaskScheduled TaskStarted TaskFailed ExecutionFailed " +
		"ExecutionRedriven TaskScheduled TaskStarted TaskSucceeded TaskStateExited ExecutionSucceeded"; !strings.HasSuffix(all, want) {
		t.Errorf("history %s, want one that ends with %s", all, want)
	}
}

func TestARedrivenWaitStartsAgain(t *testing.T) {
	m, c := parse(t, loop), &clock{began}
	x := m.Start(`{"waitSeconds":60}`, began)
	if wake, _ := m.Step(t.Context(), x, c.now, nil); !wake.Equal(began.Add(time.Minute)) {
		t.Fatalf("waits until %v, want a minute after the start", wake)
	}
	x.Abort(began.Add(time.Second), "Stop", "no more")
	if x.Status != states.Aborted || x.Error != "Stop" || x.Cause != "no more" {
		t.Errorf("aborted: %s %s %s, want ABORTED Stop no more", x.Status, x.Error, x.Cause)
	}
	c.time = began.Add(time.Hour)
	if err := m.Redrive(x, c.time); err != nil {
		t.Fatal(err)
	}
	if wake, _ := m.Step(t.Context(), x, c.now, nil); !wake.Equal(c.time.Add(time.Minute)) {
		t.Errorf("waits until %v, want a minute after the redrive", wake)
	}
}

func TestWhatCannotBeRedriven(t *testing.T) {
	m := parse(t, loop)
	for _, row := range []struct {
		name   string
		change func(*states.Execution)
		want   string // why the execution cannot be redriven, or "" if it can
	}{
		{"a failed execution", func(*states.Execution) {}, ""},
		{"one that timed out", func(x *states.Execution) { x.Status = states.TimedOut }, ""},
		{"one that was aborted", func(x *states.Execution) { x.Status = states.Aborted }, ""},
		{"a running one", func(x *states.Execution) { x.Status = states.Running }, "Execution is RUNNING and cannot be redriven"},
		{"one that succeeded", func(x *states.Execution) { x.Status = states.Succeeded }, "Execution is SUCCEEDED and cannot be redriven"},
		{"a history with room for two events", func(x *states.Execution) { x.Events = make([]states.Event, 24998) }, ""},
		{"a history with room for one event", func(x *states.Execution) { x.Events = make([]states.Event, 24999) }, "Execution history event limit exceeded"},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := &states.Execution{Status: states.Failed, StoppedAt: began}
			row.change(x)
			status := x.Status
			err := m.Redrive(x, began)
			if row.want == "" {
				if err != nil || x.Status != states.Running {
					t.Errorf("%s, error %v; want RUNNING and no error", x.Status, err)
				}
				return
			}
			refusal, ok := errors.AsType[*states.NotRedrivable](err)
			if !ok || refusal.Reason != row.want || x.Status != status || x.RedriveCount != 0 {
				t.Errorf("%s after %d redrives, error %v; want %s after 0, error %s", x.Status, x.RedriveCount, err, status, row.want)
			}
		})
	}
}

func TestAnExecutionFailsAtTheLimitOfItsHistory(t *testing.T) {
	m := parse(t, loop)
	x := m.Start(`{"waitSeconds":1}`, began)
	finish(t, m, x, &clock{began}, func(context.Context, string, []byte) ([]byte, error) {
		return []byte(`{"waitSeconds":1,"ended":false}`), nil
	})
	if x.Status != states.Failed || x.Error != "States.Runtime" ||
		x.Cause != "The execution reached the maximum number of history events (25000)." {
		t.Errorf("ended as %s: %s: %s, want FAILED: States.Runtime: the maximum of 25000 events", x.Status, x.Error, x.Cause)
	}
	if len(x.Events) != 25000 || x.Events[24999].Type != "ExecutionFailed" {
		t.Errorf("%d events, the last %s, want 25000 and ExecutionFailed", len(x.Events), x.Events[len(x.Events)-1].Type)
	}
}

func TestInvalidWaitsAndChoices(t *testing.T) {
	for _, row := range []struct{ name, input, cause string }{
		{"no seconds", `{}`, "{% $states.input.waitSeconds %} returned nothing (undefined)"},
		{"seconds as text", `{"waitSeconds":"5"}`, `{% $states.input.waitSeconds %} is "5", not a whole number`},
		{"part of a second", `{"waitSeconds":0.5}`, "is 0.5, not a whole number"},
		{"negative seconds", `{"waitSeconds":-1}`, "is -1, not a whole number"},
		{"a condition that is text", `{"waitSeconds":1,"ended":"true"}`, `{% $states.input.ended %} is "true", not true or false`},
		{"no condition", `{"waitSeconds":1}`, "{% $states.input.ended %} returned nothing (undefined)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := parse(t, loop)
			x := m.Start(row.input, began)
			finish(t, m, x, &clock{began}, func(context.Context, string, []byte) ([]byte, error) { return []byte(row.input), nil })
			if x.Status != states.Failed || x.Error != "States.QueryEvaluationError" || !strings.Contains(x.Cause, row.cause) {
				t.Errorf("ended as %s: %s: %s, want FAILED: States.QueryEvaluationError: %s", x.Status, x.Error, x.Cause, row.cause)
			}
		})
	}
}

func TestAStateThatIsNoLongerThereFailsTheExecution(t *testing.T) {
	m := parse(t, loop)
	x := m.Start(`{"waitSeconds":1}`, began)
	x.State = "Gone"
	finish(t, m, x, &clock{began}, nil)
	if x.Status != states.Failed || x.Error != "States.Runtime" || !strings.Contains(x.Cause, `"Gone"`) {
		t.Errorf("ended as %s: %s: %s, want FAILED: States.Runtime with the name Gone", x.Status, x.Error, x.Cause)
	}
}

func TestAStepThatIsInterruptedCallsAgain(t *testing.T) {
	m := parse(t, oneTask(t, ""))
	x := m.Start("{}", began)
	c := &clock{began}
	ctx, cancel := context.WithCancel(t.Context())
	_, done := m.Step(ctx, x, c.now, func(context.Context, string, []byte) ([]byte, error) {
		cancel()
		return nil, context.Canceled
	})
	if done || x.Status != states.Running {
		t.Fatalf("done %v, %s with the cause %q; want RUNNING and not done", done, x.Status, x.Cause)
	}
	// The task's timeout of 60 s counts from the second call.
	c.time = c.time.Add(10 * time.Minute)
	finish(t, m, x, c, succeedsAfter())
	if x.Status != states.Succeeded {
		t.Errorf("ended as %s: %s: %s, want SUCCEEDED", x.Status, x.Error, x.Cause)
	}
}

func TestPayloadHoldsTheRedrives(t *testing.T) {
	m := parse(t, oneTask(t, `"Arguments":{"FunctionName":"${PollFunctionArn}","Payload":{"job":"{% $states.input %}","redrives":"{% $states.context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0 %}"}}`))
	x := m.Start(`{"name":"n"}`, began)
	c := &clock{began}
	var payloads []string
	invoke := func(_ context.Context, _ string, payload []byte) ([]byte, error) {
		payloads = append(payloads, string(payload))
		return nil, named("A")
	}
	finish(t, m, x, c, invoke)
	if err := m.Redrive(x, c.time); err != nil {
		t.Fatal(err)
	}
	finish(t, m, x, c, invoke)
	if diff := cmp.Diff([]string{`{"job":{"name":"n"},"redrives":0}`, `{"job":{"name":"n"},"redrives":1}`}, payloads); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}
