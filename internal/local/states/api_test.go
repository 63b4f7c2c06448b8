package states_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

const (
	machineARN = "arn:aws:states:eu-central-1:000000000000:stateMachine:lipdrop"
	prefix     = "arn:aws:states:eu-central-1:000000000000:execution:lipdrop:"
)

// endpoint is a Server behind HTTP, with a client and the ends of the executions.
type endpoint struct {
	*states.Server
	client *sfn.Client
	ends   chan states.End
}

// serve starts a server whose executions are in dir.
func serve(t *testing.T, m *states.Machine, dir string, invoke states.Invoker) *endpoint {
	t.Helper()
	e := &endpoint{
		Server: &states.Server{Machine: m, ARN: machineARN, Invoke: invoke, Dir: dir},
		ends:   make(chan states.End, 1000),
	}
	e.OnEnd = func(end states.End) { e.ends <- end }
	if err := e.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	server := httptest.NewServer(e.Operations().Handler())
	t.Cleanup(server.Close)
	e.client = sfn.New(sfn.Options{
		BaseEndpoint: aws.String(server.URL),
		Region:       "eu-central-1",
		Credentials:  credentials.NewStaticCredentialsProvider("id", "secret", ""),
		// The client closes the body of a request as soon as the response begins. Over
		// loopback, this can be so early that the connection breaks:
		// https://github.com/aws/aws-sdk-go-v2/issues/1825
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Retryables = []retry.IsErrorRetryable{retry.RetryableConnectionError{}}
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			o.MaxAttempts = 10
		}),
	})
	return e
}

// end waits until an execution ends and returns its status.
func (e *endpoint) end(t *testing.T) states.Status {
	t.Helper()
	return (<-e.ends).Status
}

func (e *endpoint) start(t *testing.T, name, input string) {
	t.Helper()
	if _, err := e.tryStart(t, machineARN, name, input); err != nil {
		t.Fatal(err)
	}
}

func (e *endpoint) tryStart(t *testing.T, machine, name, input string) (*sfn.StartExecutionOutput, error) {
	t.Helper()
	return e.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &machine, Name: &name, Input: &input})
}

func (e *endpoint) stop(t *testing.T, name string) error {
	t.Helper()
	_, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{
		ExecutionArn: aws.String(prefix + name), Error: aws.String("Deleted"), Cause: aws.String("the drop is gone"),
	})
	return err
}

func (e *endpoint) describe(t *testing.T, name string) *sfn.DescribeExecutionOutput {
	t.Helper()
	out, err := e.client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: aws.String(prefix + name)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// code returns the error code in a response of the API, the text of another error, or "<nil>".
func code(err error) string {
	if failure, ok := errors.AsType[smithy.APIError](err); ok {
		return failure.ErrorCode()
	}
	return fmt.Sprint(err)
}

type reply struct {
	text string
	err  error
}

// gate is an Invoker. Each invocation waits until the test passes its result to respond, or
// until its context ends.
type gate struct {
	begun chan []byte // the payload of each call
	reply chan reply
	ended chan error // why a call was cancelled
}

func newGate() *gate {
	return &gate{make(chan []byte, 100), make(chan reply), make(chan error, 100)}
}

func (g *gate) invoke(ctx context.Context, _ string, payload []byte) ([]byte, error) {
	g.begun <- payload
	select {
	case r := <-g.reply:
		return []byte(r.text), r.err
	case <-ctx.Done():
		g.ended <- ctx.Err()
		return nil, ctx.Err()
	}
}

func (g *gate) respond(text string, err error) { g.reply <- reply{text, err} }

func TestAnExecutionThroughTheAPI(t *testing.T) {
	poll := polls(2)
	e := serve(t, shipped(t), t.TempDir(), func(ctx context.Context, arn string, payload []byte) ([]byte, error) {
		result, err := poll(ctx, arn, payload)
		return []byte(strings.Replace(string(result), `"waitSeconds":5`, `"waitSeconds":0`, 1)), err
	})
	const input = `{"waitSeconds": 0, "name":"<talk>"}`
	e.start(t, "talk", input)
	if diff := cmp.Diff(states.End{ExecutionARN: prefix + "talk", Status: states.Succeeded}, <-e.ends); diff != "" {
		t.Fatalf("end (-want +got):\n%s", diff)
	}
	d := e.describe(t, "talk")
	want := &sfn.DescribeExecutionOutput{
		ExecutionArn: aws.String(prefix + "talk"),
		Name:         aws.String("talk"),
		Status:       types.ExecutionStatusSucceeded,
		Input:        aws.String(input),
		RedriveCount: aws.Int32(0),
	}
	if diff := cmp.Diff(want, d, cmpopts.IgnoreUnexported(sfn.DescribeExecutionOutput{}),
		cmpopts.IgnoreFields(sfn.DescribeExecutionOutput{}, "StartDate", "StopDate", "ResultMetadata")); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	if d.StopDate.Before(*d.StartDate) || time.Since(*d.StartDate) > time.Hour {
		t.Errorf("execution from %v to %v, want a start in the last hour, and an end not before the start", d.StartDate, d.StopDate)
	}
	if diff := cmp.Diff(strings.Fields("Wait Poll Ended? Wait Poll Ended? Archive"), e.Path("talk")); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
}

func TestListingExecutions(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	for _, name := range []string{"a", "b", "c"} {
		e.start(t, name, "{}")
		<-g.begun
		time.Sleep(2 * time.Millisecond) // the list is ordered by the start, in milliseconds
	}
	if err := e.stop(t, "b"); err != nil {
		t.Fatal(err)
	}
	for status, want := range map[types.ExecutionStatus]string{
		types.ExecutionStatusRunning: "c a", types.ExecutionStatusAborted: "b", types.ExecutionStatusFailed: "",
	} {
		out, err := e.client.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: aws.String(machineARN), StatusFilter: status})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, execution := range out.Executions {
			names = append(names, aws.ToString(execution.Name))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s executions: %s, want %s", status, got, want)
		}
	}
	for _, row := range []struct {
		name  string
		input sfn.ListExecutionsInput
		want  string
	}{
		{"another machine", sfn.ListExecutionsInput{StateMachineArn: aws.String(machineARN + "x")}, "StateMachineDoesNotExist"},
		{"MaxResults, which is ignored", sfn.ListExecutionsInput{StateMachineArn: aws.String(machineARN), MaxResults: 2}, "<nil>"},
		{"a filter that is not supported", sfn.ListExecutionsInput{StateMachineArn: aws.String(machineARN), RedriveFilter: types.ExecutionRedriveFilterRedriven}, "SerializationException"},
	} {
		if _, err := e.client.ListExecutions(t.Context(), &row.input); code(err) != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func TestStartingTwice(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	start := func(input string) (*sfn.StartExecutionOutput, error) { return e.tryStart(t, machineARN, "a", input) }
	e.start(t, "a", `{"a":1}`)
	<-g.begun
	again, err := start(`{"a":1}`)
	if err != nil || *again.ExecutionArn != prefix+"a" {
		t.Errorf("a second start with the same input: %+v, %v; want the first execution", again, err)
	}
	if _, err := start(`{"a":2}`); code(err) != "ExecutionAlreadyExists" {
		t.Errorf("a start with another input: %v, want ExecutionAlreadyExists", err)
	}
	g.respond("1", nil)
	if got := e.end(t); got != states.Succeeded {
		t.Fatalf("ended as %s, want %s", got, states.Succeeded)
	}
	if _, err := start(`{"a":1}`); code(err) != "ExecutionAlreadyExists" {
		t.Errorf("a start after the end: %v, want ExecutionAlreadyExists", err)
	}
	if len(g.begun) != 0 {
		t.Errorf("%d more calls, want none", len(g.begun))
	}
}

func TestWhatStartExecutionRefuses(t *testing.T) {
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), succeedsAfter())
	long := strings.Repeat("a", 80)
	full := `"` + strings.Repeat("x", 256<<10-2) + `"`
	for _, row := range []struct{ name, machine, execution, input, want string }{
		{"accepted: a name of 80 characters, and an input of 256 KiB", machineARN, long, full, "<nil>"},
		{"a name of 81 characters", machineARN, long + "a", "{}", "InvalidName"},
		{"a name with a space", machineARN, "a b", "{}", "InvalidName"},
		{"a name with a letter that is not ASCII", machineARN, "\u00fc", "{}", "InvalidName"},
		{"an input that is not JSON", machineARN, "a", "{", "InvalidExecutionInput"},
		{"an empty input", machineARN, "a", "", "InvalidExecutionInput"},
		{"an input of one byte more than 256 KiB", machineARN, "a", full + " ", "InvalidExecutionInput"},
		{"another machine", machineARN + "2", "a", "{}", "StateMachineDoesNotExist"},
		{"no name", machineARN, "", "{}", "InvalidName"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := e.tryStart(t, row.machine, row.execution, row.input); code(err) != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestExecutionsThatAreNotThere(t *testing.T) {
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), succeedsAfter())
	for _, arn := range []string{prefix + "missing", strings.Replace(prefix, "lipdrop", "other", 1) + "a", machineARN, prefix} {
		arn := aws.String(arn)
		_, describe := e.client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: arn})
		_, stop := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: arn})
		_, redrive := e.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: arn})
		for operation, err := range map[string]error{"describe": describe, "stop": stop, "redrive": redrive} {
			if code(err) != "ExecutionDoesNotExist" {
				t.Errorf("%s %s: %v, want ExecutionDoesNotExist", operation, *arn, err)
			}
		}
	}
	if path := e.Path("missing"); path != nil {
		t.Errorf("path %v, want none", path)
	}
}

func TestStoppingCancelsTheTaskUnderWay(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.start(t, "a", "{}")
	<-g.begun
	if err := e.stop(t, "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-g.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v, want context.Canceled", err)
	}
	if got := e.end(t); got != states.Aborted {
		t.Errorf("ended as %s, want %s", got, states.Aborted)
	}
	d := e.describe(t, "a")
	if d.Status != types.ExecutionStatusAborted || aws.ToString(d.Error) != "Deleted" || aws.ToString(d.Cause) != "the drop is gone" {
		t.Errorf("stopped: %s %q %q, want ABORTED \"Deleted\" \"the drop is gone\"", d.Status, aws.ToString(d.Error), aws.ToString(d.Cause))
	}
	if err := e.stop(t, "a"); err != nil {
		t.Fatal(err)
	}
	if again := e.describe(t, "a"); !again.StopDate.Equal(*d.StopDate) || len(e.ends) != 0 {
		t.Errorf("stopped again at %v, first at %v, %d more ends; want the same time and no more ends", again.StopDate, d.StopDate, len(e.ends))
	}
}

func TestARedriveThroughTheAPI(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.start(t, "a", `{"n":1}`)
	redrive := func() error {
		_, err := e.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: aws.String(prefix + "a")})
		return err
	}
	<-g.begun
	if err := redrive(); code(err) != "ExecutionNotRedrivable" || !strings.Contains(err.Error(), "Execution is RUNNING and cannot be redriven") {
		t.Errorf("while it runs: %v, want ExecutionNotRedrivable, because it is RUNNING", err)
	}
	g.respond("", &states.TaskError{Name: "NoOutput", Cause: "nothing"})
	if got := e.end(t); got != states.Failed {
		t.Fatalf("ended as %s, want %s", got, states.Failed)
	}
	if d := e.describe(t, "a"); aws.ToString(d.Error) != "NoOutput" || aws.ToString(d.Cause) != "nothing" {
		t.Errorf("failed: %+v, want the error NoOutput with the cause nothing", d)
	}
	if err := redrive(); err != nil {
		t.Fatal(err)
	}
	if payload := <-g.begun; string(payload) != `{"n":1}` {
		t.Errorf("called with the payload %s, want the first input", payload)
	}
	if d := e.describe(t, "a"); d.Status != types.ExecutionStatusRunning || *d.RedriveCount != 1 || d.StopDate != nil || d.Error != nil {
		t.Errorf("redriven: %+v, want RUNNING after 1 redrive, without a stop date or an error", d)
	}
	g.respond("7", nil)
	if diff := cmp.Diff(states.End{ExecutionARN: prefix + "a", Status: states.Succeeded, RedriveCount: 1}, <-e.ends); diff != "" {
		t.Errorf("end (-want +got):\n%s", diff)
	}
	if len(g.begun) != 0 {
		t.Errorf("%d more calls, want none", len(g.begun))
	}
	if err := redrive(); code(err) != "ExecutionNotRedrivable" {
		t.Errorf("after its success: %v, want ExecutionNotRedrivable", err)
	}
}
