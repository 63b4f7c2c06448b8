package states_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

func TestTheEventsOfAnExecution(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	e.Now = func() time.Time { return began }
	e.start(t, "a", `{"n":1}`)
	<-g.begun
	g.answer("", &states.TaskError{Name: "NoOutput", Cause: `{"errorType":"NoOutput"}`})
	ms := float64(began.UnixMilli())
	want := func(change map[string]any) map[string]any {
		detail := map[string]any{
			"executionArn": prefix + "a", "stateMachineArn": machineARN, "name": "a", "status": "RUNNING",
			"startDate": ms, "stopDate": nil, "input": `{"n":1}`, "inputDetails": map[string]any{"included": true},
			"output": nil, "outputDetails": nil, "error": nil, "cause": nil,
			"stateMachineVersionArn": nil, "stateMachineAliasArn": nil,
			"redriveCount": 0.0, "redriveDate": nil, "redriveStatus": "NOT_REDRIVABLE",
			"redriveStatusReason": "Execution is RUNNING and cannot be redriven",
		}
		maps.Copy(detail, change)
		return map[string]any{
			"version": "0", "detail-type": "Step Functions Execution Status Change", "source": "aws.states",
			"account": "000000000000", "region": "eu-central-1", "time": "2026-03-01T12:00:00Z",
			"resources": []any{prefix + "a"}, "detail": detail,
		}
	}
	check := func(want map[string]any) {
		t.Helper()
		got := <-e.events
		if id, _ := got["id"].(string); len(id) != 36 {
			t.Errorf("id %v", got["id"])
		}
		delete(got, "id")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
	check(want(nil))
	check(want(map[string]any{
		"status": "FAILED", "stopDate": ms, "error": "NoOutput", "cause": `{"errorType":"NoOutput"}`,
		"redriveStatus": "REDRIVABLE", "redriveStatusReason": nil,
	}))
	if _, err := e.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: aws.String(prefix + "a")}); err != nil {
		t.Fatal(err)
	}
	check(want(map[string]any{"redriveCount": 1.0, "redriveDate": ms}))
	<-g.begun
	g.answer(`{"ok":true}`, nil)
	check(want(map[string]any{
		"status": "SUCCEEDED", "stopDate": ms, "output": `{"ok":true}`, "outputDetails": map[string]any{"included": true},
		"redriveCount": 1.0, "redriveDate": ms, "redriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
	}))
}

func TestAnEventLeavesOutWhatEventBridgeDoesNotTake(t *testing.T) {
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), func(_ context.Context, _ string, payload []byte) ([]byte, error) {
		return payload, nil
	})
	for _, row := range []struct {
		bytes               int
		running, in, output bool // whether the data is included
	}{
		{1000, true, true, true},
		{130 << 10, true, false, true},
		{250 << 10, false, false, false},
	} {
		e.start(t, fmt.Sprint(row.bytes), `"`+strings.Repeat("x", row.bytes)+`"`)
		first, second := (<-e.events)["detail"].(map[string]any), (<-e.events)["detail"].(map[string]any)
		for what, got := range map[string]struct {
			want bool
			data any
			said any
		}{
			"input while it runs": {row.running, first["input"], first["inputDetails"]},
			"input":               {row.in, second["input"], second["inputDetails"]},
			"output":              {row.output, second["output"], second["outputDetails"]},
		} {
			if (got.data != nil) != got.want || !cmp.Equal(got.said, map[string]any{"included": got.want}) {
				t.Errorf("%d bytes: %s: want %v, there %v, said %v", row.bytes, what, got.want, got.data != nil, got.said)
			}
		}
	}
}
