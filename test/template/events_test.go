package template

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// localNames are the names of the bucket and the machine in the sample events, which are
// events of the local stack.
var localNames = map[string]string{
	"Bucket":       "lipdrop",
	"StateMachine": "arn:aws:states:us-east-1:000000000000:stateMachine:lipdrop",
}

// matchingRules returns which of these rules match an event: DropRule, DeletionRule and the rules of
// CancelFunction.
func matchingRules(t *testing.T, event map[string]any) []string {
	t.Helper()
	s := written(t, localNames)
	patterns := map[string]map[string]any{
		"DropRule":     properties[struct{ EventPattern map[string]any }](t, s, "DropRule").EventPattern,
		"DeletionRule": properties[struct{ EventPattern map[string]any }](t, s, "DeletionRule").EventPattern,
	}
	own := properties[struct {
		Events map[string]struct {
			Type       string
			Properties struct{ Pattern map[string]any }
		}
	}](t, s, "CancelFunction").Events
	for name, e := range own {
		if e.Type == "EventBridgeRule" {
			patterns["CancelFunction "+name] = e.Properties.Pattern
		}
	}
	var matching []string
	for name, pattern := range patterns {
		if matches(t, pattern, event) {
			matching = append(matching, name)
		}
	}
	slices.Sort(matching)
	return matching
}

// matches reports whether an event matches a pattern of EventBridge. It knows only equal
// words, prefixes and anything-but. None of them matches a missing member.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
func matches(t *testing.T, pattern, event any) bool {
	t.Helper()
	switch pattern := pattern.(type) {
	case map[string]any:
		members, _ := event.(map[string]any)
		for name, wanted := range pattern {
			if !matches(t, wanted, members[name]) {
				return false
			}
		}
		return true
	case []any:
		return slices.ContainsFunc(pattern, func(one any) bool {
			if word, ok := one.(string); ok {
				return word == event
			}
			filter := one.(map[string]any)
			text, ok := event.(string)
			if !ok {
				return false
			}
			if but, ok := filter["anything-but"].([]any); ok {
				return !slices.Contains(but, event)
			}
			prefix, ok := filter["prefix"].(string)
			if !ok {
				t.Fatalf("this test does not know the pattern %v", one)
			}
			return strings.HasPrefix(text, prefix)
		})
	}
	t.Fatalf("%v is not a pattern", pattern)
	return false
}

func sample(t *testing.T, path string) map[string]any {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(read(t, filepath.Join("events", path)), &event); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return event
}

func TestRulesMatchTheSampleEvents(t *testing.T) {
	change := func(path, value string) func(map[string]any) {
		return func(event map[string]any) {
			names := strings.Split(path, ".")
			for _, name := range names[:len(names)-1] {
				event = event[name].(map[string]any)
			}
			event[names[len(names)-1]] = value
		}
	}
	for _, row := range []struct {
		name, event string
		change      func(map[string]any)
		want        []string
	}{
		{name: "a drop", event: "submit/object-created.json", want: []string{"DropRule"}},
		{name: "a deletion", event: "submit/object-deleted.json", want: []string{"DeletionRule", "DropRule"}},
		{name: "the sample deletion of cancel", event: "cancel/object-deleted.json", want: []string{"DeletionRule", "DropRule"}},
		{name: "a stopped execution", event: "cancel/execution-status-change.json", want: []string{"CancelFunction Ends"}},
		{name: "a failed execution", event: "cancel/execution-status-change.json", change: change("detail.status", "FAILED"), want: []string{"CancelFunction Ends"}},
		{name: "an execution that timed out", event: "cancel/execution-status-change.json", change: change("detail.status", "TIMED_OUT"), want: []string{"CancelFunction Ends"}},
		{name: "an execution that succeeded", event: "cancel/execution-status-change.json", change: change("detail.status", "SUCCEEDED")},
		{name: "an execution that runs", event: "cancel/execution-status-change.json", change: change("detail.status", "RUNNING")},
		{name: "another machine's execution", event: "cancel/execution-status-change.json", change: change("detail.stateMachineArn", localNames["StateMachine"]+"2")},
		{name: "an output", event: "submit/object-created.json", change: change("detail.object.key", "outbox/talk/t/talk.mp4")},
		{name: "a record that is deleted", event: "submit/object-deleted.json", change: change("detail.object.key", "jobs/talk/t.json")},
		{name: "another bucket", event: "submit/object-created.json", change: change("detail.bucket.name", "lipdrop2")},
		{name: "a copy", event: "submit/object-created.json", change: change("detail.reason", "CopyObject"), want: []string{"DropRule"}},
		{name: "a large file", event: "submit/object-created.json", change: change("detail.reason", "CompleteMultipartUpload"), want: []string{"DropRule"}},
		{name: "a version that a lifecycle rule has removed", event: "submit/object-deleted.json", change: change("detail.reason", "Lifecycle Expiration")},
		{name: "a tag that is added", event: "submit/object-created.json", change: change("detail-type", "Object Tags Added")},
		{name: "another service", event: "submit/object-created.json", change: change("source", "my.app")},
	} {
		t.Run(row.name, func(t *testing.T) {
			event := sample(t, row.event)
			if row.change != nil {
				row.change(event)
			}
			if diff := cmp.Diff(row.want, matchingRules(t, event)); diff != "" {
				t.Errorf("matching rules (-want +got):\n%s", diff)
			}
		})
	}
}

// The messages of the sample batch are events that the rule for drops sends.
func TestSampleBatchHoldsDrops(t *testing.T) {
	records := sample(t, "submit/sqs-batch.json")["Records"].([]any)
	for _, record := range records {
		var event map[string]any
		if err := json.Unmarshal([]byte(record.(map[string]any)["body"].(string)), &event); err != nil {
			t.Fatal(err)
		}
		if got := matchingRules(t, event); !slices.Equal(got, []string{"DropRule"}) {
			t.Errorf("a message of the batch matches the rules %v, want DropRule", got)
		}
	}
	if len(records) != 2 {
		t.Errorf("the batch has %d messages, want 2", len(records))
	}
}

// Each sample input of poll and archive decodes into a workflow.Job, without unknown members.
func TestSampleInputsAreJobs(t *testing.T) {
	for path, ended := range map[string]bool{"events/poll/job.json": false, "events/archive/job.json": true} {
		var job workflow.Job
		dec := json.NewDecoder(bytes.NewReader(read(t, path)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&job); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if job.Ended != ended || job.Name == "" || job.Take == "" || job.RequestID == "" || job.Model == "" || job.SubmittedAt.IsZero() {
			t.Errorf("%s is %+v, want ended %v and each member that a job has", path, job, ended)
		}
	}
}
