package states_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

func TestStoppingCancelsTheTaskUnderWay(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.start(t, "a", "{}")
	<-g.begun
	stop := func() *sfn.StopExecutionOutput {
		out, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{
			ExecutionArn: aws.String(prefix + "a"), Error: aws.String("Deleted"), Cause: aws.String("the drop is gone"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := stop()
	if err := <-g.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	if got := []string{e.status(t), e.status(t)}; got[1] != "ABORTED" {
		t.Errorf("statuses %v", got)
	}
	d := e.describe(t, "a")
	if d.Status != types.ExecutionStatusAborted || aws.ToString(d.Error) != "Deleted" || aws.ToString(d.Cause) != "the drop is gone" {
		t.Errorf("%s %s %s", d.Status, aws.ToString(d.Error), aws.ToString(d.Cause))
	}
	if again := stop(); !again.StopDate.Equal(*first.StopDate) || len(e.events) != 0 {
		t.Errorf("stopped again at %v, first at %v", again.StopDate, first.StopDate)
	}
	_, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: aws.String(prefix + "a"), Error: aws.String(strings.Repeat("e", 257))})
	if code(err) != "ValidationException" {
		t.Errorf("a long error: %v", err)
	}
}

func TestARedriveThroughTheAPI(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.start(t, "a", `{"n":1}`)
	redrive := func(token string) (*sfn.RedriveExecutionOutput, error) {
		return e.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{
			ExecutionArn: aws.String(prefix + "a"), ClientToken: aws.String(token),
		})
	}
	<-g.begun
	if _, err := redrive("t0"); code(err) != "ExecutionNotRedrivable" || !strings.Contains(err.Error(), "Execution is RUNNING and cannot be redriven") {
		t.Errorf("while it runs: %v", err)
	}
	g.answer("", &states.TaskError{Name: "NoOutput", Cause: "none"})
	if got := []string{e.status(t), e.status(t)}; got[1] != "FAILED" {
		t.Fatalf("statuses %v", got)
	}
	d := e.describe(t, "a")
	if d.RedriveStatus != types.ExecutionRedriveStatusRedrivable || d.RedriveStatusReason != nil || aws.ToString(d.Error) != "NoOutput" {
		t.Errorf("failed: %+v", d)
	}

	first, err := redrive("t1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := redrive("t1")
	if err != nil || !again.RedriveDate.Equal(*first.RedriveDate) {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	if payload := <-g.begun; string(payload) != `{"n":1}` {
		t.Errorf("called with %s", payload)
	}
	d = e.describe(t, "a")
	if d.Status != types.ExecutionStatusRunning || *d.RedriveCount != 1 || !d.RedriveDate.Equal(*first.RedriveDate) || d.StopDate != nil || d.Error != nil {
		t.Errorf("redriven: %+v", d)
	}
	g.answer("7", nil)
	if got := []string{e.status(t), e.status(t)}; got[0] != "RUNNING" || got[1] != "SUCCEEDED" {
		t.Errorf("statuses %v", got)
	}
	if len(g.begun) != 0 {
		t.Errorf("%d more calls", len(g.begun))
	}
	if _, err := redrive("t2"); code(err) != "ExecutionNotRedrivable" {
		t.Errorf("after its success: %v", err)
	}
}
