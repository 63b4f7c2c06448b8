package states_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// call makes a request without a network and returns the HTTP status. Virtual time does not
// pass while a goroutine waits for a network.
func call(t *testing.T, server *states.Server, operation, body string) int {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	request.Header.Set("X-Amz-Target", "AWSStepFunctions."+operation)
	response := httptest.NewRecorder()
	server.Operations().Handler().ServeHTTP(response, request)
	return response.Code
}

func TestAWaitOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var called []time.Duration
		start := func() *states.Server {
			s := &states.Server{Machine: parse(t, loop), ARN: machineARN, Dir: dir,
				Invoke: func(context.Context, string, []byte) ([]byte, error) {
					called = append(called, time.Since(began))
					return []byte(`{"ended":true}`), nil
				},
			}
			if err := s.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		}
		first := start()
		if status := call(t, first, "StartExecution", `{"stateMachineArn":"`+machineARN+`","name":"a","input":"{\"waitSeconds\":60}"}`); status != http.StatusOK {
			t.Fatalf("HTTP status %d, want 200", status)
		}
		time.Sleep(20 * time.Second)
		first.Close()
		time.Sleep(10 * time.Second)
		second := start()
		time.Sleep(time.Hour)
		second.Close()
		if diff := cmp.Diff([]time.Duration{time.Minute, time.Minute}, called); diff != "" {
			t.Errorf("calls of Poll and Archive (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(strings.Fields("Wait Poll Ended? Archive"), second.Path("a")); diff != "" {
			t.Errorf("path (-want +got):\n%s", diff)
		}
	})
}

func TestTheServersTimeouts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var ends []string
		var cancelled []time.Duration
		s := &states.Server{
			Machine: parse(t, oneTask(t, `"Retry":[{"ErrorEquals":["States.Timeout"],"IntervalSeconds":430,"MaxAttempts":3,"BackoffRate":1,"MaxDelaySeconds":431,"JitterStrategy":"FULL"}]`)),
			ARN:     machineARN,
			Dir:     dir,
			Invoke: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				<-ctx.Done()
				cancelled = append(cancelled, time.Since(began))
				return nil, ctx.Err()
			},
			OnEnd: func(end states.End) { ends = append(ends, fmt.Sprint(end.Status, " ", time.Since(began))) },
		}
		s.Machine.Random = func() float64 { return 1 }
		if err := s.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status := call(t, s, "StartExecution", `{"stateMachineArn":"`+machineARN+`","name":"a","input":"{}"}`); status != http.StatusOK {
			t.Fatalf("HTTP status %d, want 200", status)
		}
		time.Sleep(time.Hour)
		s.Close()
		// A call may take 60 s, a retry waits 430 s, the machine may take 1,000 s: the third call has 20 s left.
		if diff := cmp.Diff([]time.Duration{60 * time.Second, 550 * time.Second, 1000 * time.Second}, cancelled); diff != "" {
			t.Errorf("calls cancelled (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"TIMED_OUT 16m40s"}, ends); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
	})
}
