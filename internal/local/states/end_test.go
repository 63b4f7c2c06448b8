package states_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

func TestStoppingCancelsTheTaskUnderWay(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.start(t, "a", "{}")
	<-g.begun
	stop := func() {
		_, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{
			ExecutionArn: aws.String(prefix + "a"), Error: aws.String("Deleted"), Cause: aws.String("the drop is gone"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-g.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v, want context.Canceled", err)
	}
	if got := e.end(t); got != states.Aborted {
		t.Errorf("ended as %s, want %s", got, states.Aborted)
	}
	d := e.describe(t, "a")
	if d.Status != types.ExecutionStatusAborted || aws.ToString(d.Error) != "Deleted" || aws.ToString(d.Cause) != "the drop is gone" {
		t.Errorf("stopped: %s %s %s, want ABORTED Deleted the drop is gone", d.Status, aws.ToString(d.Error), aws.ToString(d.Cause))
	}
	stop()
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
		t.Errorf("while it runs: %v, want ExecutionNotRedrivable", err)
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
		t.Errorf("redriven: %+v, want RUNNING after 1 redrive, without a stop date and an error", d)
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
