package states_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"
)

func TestListingExecutions(t *testing.T) {
	g := newGate()
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), g.invoke)
	now := began
	var mu sync.Mutex
	e.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	for i := range 5 {
		e.start(t, fmt.Sprint("e", i), "{}")
		<-g.begun
		mu.Lock()
		now = now.Add(time.Duration(i%2) * time.Second) // e0 and e1, e2 and e3 start at one instant
		mu.Unlock()
	}
	if _, err := e.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: aws.String(prefix + "e3")}); err != nil {
		t.Fatal(err)
	}
	list := func(status types.ExecutionStatus, size int32) (pages []string) {
		var token *string
		for {
			out, err := e.client.ListExecutions(t.Context(), &sfn.ListExecutionsInput{
				StateMachineArn: aws.String(machineARN), StatusFilter: status, MaxResults: size, NextToken: token,
			})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, execution := range out.Executions {
				names = append(names, *execution.Name)
			}
			pages = append(pages, strings.Join(names, " "))
			if token = out.NextToken; token == nil {
				return pages
			}
		}
	}
	for _, row := range []struct {
		status types.ExecutionStatus
		size   int32
		want   []string
	}{
		{"", 0, []string{"e4 e2 e3 e0 e1"}},
		{"", 2, []string{"e4 e2", "e3 e0", "e1"}},
		{"", 5, []string{"e4 e2 e3 e0 e1"}},
		{types.ExecutionStatusRunning, 3, []string{"e4 e2 e0", "e1"}},
		{types.ExecutionStatusAborted, 0, []string{"e3"}},
		{types.ExecutionStatusFailed, 0, []string{""}},
	} {
		if diff := cmp.Diff(row.want, list(row.status, row.size)); diff != "" {
			t.Errorf("%s by %d (-want +got):\n%s", row.status, row.size, diff)
		}
	}

	for _, row := range []struct {
		name  string
		input sfn.ListExecutionsInput
		want  string
	}{
		{"another machine", sfn.ListExecutionsInput{StateMachineArn: aws.String(machineARN + "x")}, "StateMachineDoesNotExist"},
		{"more than a page may have", sfn.ListExecutionsInput{MaxResults: 1001}, "ValidationException"},
		{"a token of somebody else's", sfn.ListExecutionsInput{NextToken: aws.String("abc")}, "InvalidToken"},
		{"an unknown status", sfn.ListExecutionsInput{StatusFilter: "succeeded"}, "ValidationException"},
		{"a filter that is not known here", sfn.ListExecutionsInput{RedriveFilter: types.ExecutionRedriveFilterRedriven}, "ValidationException"},
	} {
		if row.input.StateMachineArn == nil {
			row.input.StateMachineArn = aws.String(machineARN)
		}
		if _, err := e.client.ListExecutions(t.Context(), &row.input); code(err) != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func TestPagesOfAHistory(t *testing.T) {
	e := serve(t, parse(t, oneTask(t, "")), t.TempDir(), fails())
	e.start(t, "a", "{}")
	if got := []string{e.status(t), e.status(t)}; got[1] != "SUCCEEDED" {
		t.Fatalf("statuses %v", got)
	}
	for _, row := range []struct {
		reverse bool
		size    int32
		want    string
	}{
		{false, 0, "1 2 3 4 5 6 7"},
		{true, 0, "7 6 5 4 3 2 1"},
		{false, 3, "1 2 3|4 5 6|7"},
		{true, 3, "7 6 5|4 3 2|1"},
		{false, 7, "1 2 3 4 5 6 7"},
	} {
		var pages []string
		var token *string
		for {
			out, err := e.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{
				ExecutionArn: aws.String(prefix + "a"), MaxResults: row.size, ReverseOrder: row.reverse, NextToken: token,
				IncludeExecutionData: aws.Bool(true),
			})
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, event := range out.Events {
				ids = append(ids, fmt.Sprint(event.Id))
			}
			pages = append(pages, strings.Join(ids, " "))
			if token = out.NextToken; token == nil {
				break
			}
		}
		if got := strings.Join(pages, "|"); got != row.want {
			t.Errorf("reverse %v, by %d: got %s, want %s", row.reverse, row.size, got, row.want)
		}
	}
	for name, input := range map[string]sfn.GetExecutionHistoryInput{
		"InvalidToken":        {NextToken: aws.String("!")},
		"ValidationException": {IncludeExecutionData: aws.Bool(false)},
	} {
		input.ExecutionArn = aws.String(prefix + "a")
		if _, err := e.client.GetExecutionHistory(t.Context(), &input); code(err) != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}
