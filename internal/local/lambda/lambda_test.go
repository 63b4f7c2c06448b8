package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	runtime "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
)

// TestMain runs the test binary as a function if the environment has the address of a Runtime
// API.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("INIT") == "exit" {
		fmt.Println("cannot start")
		os.Exit(3)
	}
	runtime.Start(perform)
}

// act tells the function what to do: create the file Touch, wait for the file Await, create the
// file TouchLast, and then end as Do says. An empty path means no file.
type act struct{ Do, Touch, Await, TouchLast string }

// mishap is an error with its own type.
type mishap struct{ what string }

func (m *mishap) Error() string { return m.what }

func perform(ctx context.Context, a act) (any, error) {
	if err := create(a.Touch); err != nil {
		return nil, err
	}
	for a.Await != "" {
		if _, err := os.Stat(a.Await); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := create(a.TouchLast); err != nil {
		return nil, err
	}
	switch a.Do {
	case "environment":
		return os.Environ(), nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{"arn": lc.InvokedFunctionArn, "id": lc.AwsRequestID, "left": time.Until(deadline) > 0, "pid": os.Getpid()}, nil
	case "fail":
		return nil, &mishap{"it went wrong"}
	case "panic":
		panic("out of order")
	case "exit":
		fmt.Print("last words")
		os.Exit(7)
	case "hang":
		select {}
	case "large":
		return strings.Repeat("x", 7<<20), nil
	}
	return a.Do, nil
}

// host runs the test binary as one function until the test ends. If modify is not nil, it can
// change the function first.
func host(t *testing.T, modify func(*lambda.Function)) *lambda.Host {
	t.Helper()
	f := lambda.Function{Name: "act", Program: os.Args[0], Timeout: time.Minute, ARN: "arn:aws:lambda:us-east-1:000000000000:function:act", MemoryMB: 128, Concurrency: 2, Log: io.Discard}
	if modify != nil {
		modify(&f)
	}
	h := lambda.New("us-east-1", f)
	t.Cleanup(h.Close)
	return h
}

func invoke(t *testing.T, h *lambda.Host, a act) ([]byte, *lambda.Error, error) {
	t.Helper()
	payload, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	result, err := h.Invoke(t.Context(), "arn:aws:lambda:us-east-1:000000000000:function:act", payload)
	if failure, ok := errors.AsType[*lambda.Error](err); ok {
		return nil, failure, nil
	}
	return result, nil, err
}

var requestID = regexp.MustCompile(`RequestId: [0-9a-f-]{36} `)

func TestOutcomes(t *testing.T) {
	patient, hasty := host(t, nil), host(t, func(f *lambda.Function) { f.Timeout = 2 * time.Second })
	rows := []struct {
		do      string
		result  string
		failure *lambda.Error
	}{
		{do: "hello", result: `"hello"`},
		{do: "fail", failure: &lambda.Error{Type: "mishap", Message: "it went wrong"}},
		{do: "panic", failure: &lambda.Error{Type: "string", Message: "out of order"}},
		{do: "exit", failure: &lambda.Error{Type: "Runtime.ExitError", Message: "RequestId: ID Error: Runtime exited with error: exit status 7"}},
		{do: "hang", failure: &lambda.Error{Type: "Sandbox.Timedout", Message: "RequestId: ID Error: Task timed out after 2.00 seconds"}},
		{do: "large", failure: &lambda.Error{Type: "Runtime.ExitError", Message: "RequestId: ID Error: Runtime exited with error: exit status 1"}}, // the runtime ends if its response is refused
		{do: "hello again", result: `"hello again"`},
	}
	for _, row := range rows {
		t.Run(row.do, func(t *testing.T) {
			h := patient
			if row.do == "hang" {
				h = hasty
			}
			result, failure, err := invoke(t, h, act{Do: row.do})
			if err != nil {
				t.Fatal(err)
			}
			if string(result) != row.result {
				t.Errorf("result %s, want %s", result, row.result)
			}
			if failure != nil {
				failure.Message = requestID.ReplaceAllString(failure.Message, "RequestId: ID ")
				if panicked := failure.Type == "string"; panicked != (len(failure.StackTrace) > 0) {
					t.Errorf("%s has the stack trace %q, want one only for a panic", failure.Type, failure.StackTrace)
				}
				failure.StackTrace = nil
			}
			if diff := cmp.Diff(row.failure, failure); diff != "" {
				t.Errorf("failure (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentOfAFunction(t *testing.T) {
	t.Setenv("CANARY", "of this process")
	h := host(t, func(f *lambda.Function) {
		f.Env = map[string]string{"BUCKET": "drops", "AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret"}
	})
	result, failure, err := invoke(t, h, act{Do: "environment"})
	if err != nil || failure != nil {
		t.Fatal(failure, err)
	}
	var got []string
	if err := json.Unmarshal(result, &got); err != nil {
		t.Fatal(err)
	}
	random := regexp.MustCompile(`^(AWS_LAMBDA_RUNTIME_API=127\.0\.0\.1:)\d+/[A-Z2-7]{26}$`)
	for i, variable := range got {
		got[i] = random.ReplaceAllString(variable, "$1")
	}
	slices.Sort(got)
	want := []string{
		"AWS_ACCESS_KEY_ID=access",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_LAMBDA_FUNCTION_NAME=act",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:",
		"AWS_REGION=us-east-1",
		"AWS_SECRET_ACCESS_KEY=secret",
		"BUCKET=drops",
		"TZ=:UTC",
		"_X_AMZN_TRACE_ID=", // set by the runtime
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestContextAndReuse(t *testing.T) {
	h := host(t, nil)
	type said struct {
		ARN  string
		ID   string
		Left bool
		PID  int
	}
	var first, second said
	for _, into := range []*said{&first, &second} {
		result, failure, err := invoke(t, h, act{Do: "context"})
		if err != nil || failure != nil {
			t.Fatal(failure, err)
		}
		if err := json.Unmarshal(result, into); err != nil {
			t.Fatal(err)
		}
	}
	if first.ARN != "arn:aws:lambda:us-east-1:000000000000:function:act" || !first.Left {
		t.Errorf("context %+v, want the ARN of the function and time left", first)
	}
	if first.ID == second.ID {
		t.Errorf("two invocations have the same request id %s, want different ids", first.ID)
	}
	if first.PID != second.PID {
		t.Errorf("the invocations ran in the processes %d and %d, want one process", first.PID, second.PID)
	}
}

func TestFunctionThatCannotStart(t *testing.T) {
	h := host(t, func(f *lambda.Function) { f.Env = map[string]string{"INIT": "exit"} })
	for range 2 { // each invocation starts the function again
		_, failure, err := invoke(t, h, act{Do: "hello"})
		if err != nil || failure == nil {
			t.Fatalf("failure %v, error %v; want a failure and no error", failure, err)
		}
		failure.Message = requestID.ReplaceAllString(failure.Message, "RequestId: ID ")
		want := &lambda.Error{Type: "Runtime.ExitError", Message: "RequestId: ID Error: Runtime exited with error: exit status 3"}
		if diff := cmp.Diff(want, failure); diff != "" {
			t.Errorf("failure (-want +got):\n%s", diff)
		}
	}
}

func TestMissingProgramOrFunction(t *testing.T) {
	h := host(t, func(f *lambda.Function) { f.Program = "/no/such/bootstrap" })
	if _, failure, err := invoke(t, h, act{}); !errors.Is(err, os.ErrNotExist) || failure != nil {
		t.Errorf("failure %v, error %v; want no failure and os.ErrNotExist", failure, err)
	}
	if _, err := h.Invoke(t.Context(), "other", nil); err == nil {
		t.Error("a function that does not exist was invoked, want an error")
	}
}

// Two invocations wait for each other, so they need both environments that the concurrency allows. A
// third invocation runs in one of the two, before or after the other invocation there.
func TestConcurrency(t *testing.T) {
	h, dir := host(t, nil), t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	var all sync.WaitGroup
	for _, each := range []act{{Do: "a", Touch: a, Await: b}, {Do: "b", Touch: b, Await: a}, {Do: "c", Touch: c}} {
		all.Go(func() {
			if result, failure, err := invoke(t, h, each); err != nil || failure != nil || string(result) != `"`+each.Do+`"` {
				t.Errorf("%s: result %s, failure %v, error %v; want only the result \"%[1]s\"", each.Do, result, failure, err)
			}
		})
	}
	all.Wait()
}

func TestInvocationWaitsForAFreeEnvironment(t *testing.T) {
	h, dir := host(t, func(f *lambda.Function) { f.Concurrency = 1 }), t.TempDir()
	began, goOn := filepath.Join(dir, "began"), filepath.Join(dir, "go on")
	first := make(chan error, 1)
	go func() {
		_, _, err := invoke(t, h, act{Touch: began, Await: goOn})
		first <- err
	}()
	await(t, began)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := h.Invoke(ctx, "act", []byte(`{"Do":"second"}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second invocation ended with %v during the first, want context.DeadlineExceeded", err)
	}
	if err := create(goOn); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, failure, err := invoke(t, h, act{Do: "third"}); err != nil || failure != nil {
		t.Errorf("third invocation: failure %v, error %v; want neither", failure, err)
	}
}

func TestFunctionGoesOnWithoutItsCaller(t *testing.T) {
	h, dir := host(t, nil), t.TempDir()
	began, goOn, ended := filepath.Join(dir, "began"), filepath.Join(dir, "go on"), filepath.Join(dir, "ended")
	ctx, cancel := context.WithCancel(t.Context())
	caller := make(chan error, 1)
	go func() {
		_, err := h.Invoke(ctx, "act", fmt.Appendf(nil, `{"Touch":%q,"Await":%q,"TouchLast":%q}`, began, goOn, ended))
		caller <- err
	}()
	await(t, began)
	cancel()
	if err := <-caller; !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke() = %v, want %v", err, context.Canceled)
	}
	if err := create(goOn); err != nil {
		t.Fatal(err)
	}
	await(t, ended)
}

func TestCloseEndsWhatRuns(t *testing.T) {
	h, dir := host(t, nil), t.TempDir()
	began := filepath.Join(dir, "began")
	running := make(chan error, 1)
	go func() {
		_, _, err := invoke(t, h, act{Do: "hang", Touch: began})
		running <- err
	}()
	await(t, began)
	h.Close()
	if err := <-running; !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("the invocation ended with %v, want ErrClosed", err)
	}
	if _, _, err := invoke(t, h, act{}); !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("an invocation after Close ended with %v, want ErrClosed", err)
	}
}

// create creates an empty file, unless the path is empty.
func create(path string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, nil, 0o600)
}

// await waits until a function has created a file.
func await(t *testing.T, path string) {
	t.Helper()
	for range 60_000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("the function did not create the file %s", filepath.Base(path))
}

func TestLogs(t *testing.T) {
	var out bytes.Buffer
	h := host(t, func(f *lambda.Function) { f.Log = &out })
	for _, do := range []string{"hello", "exit"} {
		if _, _, err := invoke(t, h, act{Do: do}); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	log := requestID.ReplaceAllString(out.String(), "RequestId: ID ")
	lines := strings.Split(strings.TrimSpace(log), "\n")
	slices.Sort(lines) // one goroutine writes the output of the process, and another writes the failure
	want := []string{"last words", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
