package template

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// functions are the functions by their folder's name.
var functions = map[string]string{
	"submit": "SubmitFunction", "poll": "PollFunction", "archive": "ArchiveFunction", "cancel": "CancelFunction",
}

// A setting is a variable that a function reads, with the default and the
// limits that its code has.
type setting struct {
	byDefault string
	max       float64
}

// settings returns what a function's main.go reads by config.Env.
func settings(t *testing.T, function string) map[string]setting {
	t.Helper()
	read := map[string]setting{}
	for _, c := range calls(parsed(t, "functions/"+function)) {
		if c.on == "os" && (c.name == "Getenv" || c.name == "LookupEnv") {
			t.Errorf("%s reads a variable other than by config.Env", function)
		}
		if c.on != "env" || len(c.args) == 0 {
			continue
		}
		name, ok := text(c.args[0])
		if !ok {
			t.Fatalf("%s reads a variable whose name is no literal", function)
		}
		var s setting
		switch c.name {
		case "Required":
		case "BaseURL":
			s.byDefault = runcomfy.DefaultBaseURL
		case "Optional", "List", "Folders":
			s.byDefault, _ = text(c.args[1])
		case "Hours", "GiB", "Count":
			s.byDefault, s.max = fmt.Sprint(number(t, c.args[1])), number(t, c.args[2])
		default:
			t.Fatalf("%s reads %s by env.%s, which this test does not know", function, name, c.name)
		}
		read[name] = s
	}
	return read
}

type environment struct {
	Environment struct{ Variables map[string]any }
}

func TestFunctionsAreToldWhatTheyRead(t *testing.T) {
	s := transformed(t)
	for folder, id := range functions {
		want := slices.Collect(maps.Keys(settings(t, folder)))
		var got []string
		for name, value := range properties[environment](t, s, id).Environment.Variables {
			if strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
				if value != "" {
					t.Errorf("%s has the endpoint %s=%v", id, name, value)
				}
				continue
			}
			got = append(got, name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-reads +is told):\n%s", id, diff)
		}
	}
}

// The endpoints that sam local sets are those of the three services that the
// functions call.
func TestEndpointsAreDeclared(t *testing.T) {
	want := []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_SFN"}
	s := transformed(t)
	for _, id := range functions {
		got := slices.DeleteFunc(slices.Sorted(maps.Keys(properties[environment](t, s, id).Environment.Variables)),
			func(name string) bool { return !strings.HasPrefix(name, "AWS_") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +template):\n%s", id, diff)
		}
	}
}

// A parameter and the variable that it becomes have one default and one upper
// limit, so that a stack cannot be deployed which then refuses to run.
func TestParametersAreWhatTheCodeTakes(t *testing.T) {
	s := written(t, nil)
	doc := tree(t, source(t))
	checked := 0
	for folder, id := range functions {
		vars := doc["Resources"].(map[string]any)[id].(map[string]any)["Properties"].(map[string]any)["Environment"]
		read := settings(t, folder)
		for _, of := range []any{vars, doc["Globals"].(map[string]any)["Function"].(map[string]any)["Environment"]} {
			if of == nil {
				continue
			}
			for name, value := range of.(map[string]any)["Variables"].(map[string]any) {
				call, _ := value.(map[string]any)
				ref, _ := call["Ref"].(string)
				p, ok := s.Parameters[ref]
				if !ok {
					continue
				}
				checked++
				if set := read[name]; fmt.Sprint(p.Default) != set.byDefault || p.MaxValue != set.max {
					t.Errorf("%s is %v by default and at most %v; %s takes %s as %s by default and at most %v",
						ref, p.Default, p.MaxValue, folder, name, set.byDefault, set.max)
				}
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d variables were looked at", checked)
	}
}

// check, try and the tests judge a drop as a stack does whose parameters stay as
// they are.
func TestDefaultSettings(t *testing.T) {
	parameters := written(t, nil).Parameters
	want := drop.DefaultSettings()
	got := drop.Settings{
		DefaultVideoModel: fmt.Sprint(parameters["DefaultVideoModel"].Default),
		DefaultImageModel: fmt.Sprint(parameters["DefaultImageModel"].Default),
		SharedFolders:     strings.Split(fmt.Sprint(parameters["SharedFolders"].Default), ","),
	}
	got.MaxJobsPerDrop, _ = strconv.Atoi(fmt.Sprint(parameters["MaxJobsPerDrop"].Default))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-drop.DefaultSettings +template):\n%s", diff)
	}
}

// What the README and the design promise to take and to tell.
func TestParametersAndOutputs(t *testing.T) {
	s := written(t, nil)
	want := []string{
		"AlarmEmail", "Architecture", "DefaultImageModel", "DefaultVideoModel", "ExistingBucket", "ExistingTokenSecretArn",
		"LogDays", "MaxHours", "MaxJobsPerDrop", "MaxOutputGiB", "MaxOutputs", "OutputOrigins", "PresignHours", "QueueHours", "RunComfyBaseUrl",
		"SettleSeconds", "SharedFolders", "SubmitConcurrency",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(s.Parameters))); diff != "" {
		t.Errorf("parameters (-want +template):\n%s", diff)
	}
	for name, p := range s.Parameters {
		if p.Description == "" || p.Default == nil {
			t.Errorf("the parameter %s has no description or no default", name)
		}
	}
	for _, name := range []string{"BucketName", "StateMachineArn", "QueueUrl", "DeadLetterQueueUrl", "TokenSecretArn"} {
		if s.Outputs[name].Value == "" {
			t.Errorf("there is no output %s", name)
		}
	}
	for name, o := range s.Outputs {
		if o.Description == "" {
			t.Errorf("the output %s has no description", name)
		}
	}
}

// The numbers that the template and the code of submit both have.
func TestSubmitKnowsItsQueue(t *testing.T) {
	code := parsed(t, "functions/submit")
	each(t, func(t *testing.T, s stack) {
		queue := properties[struct {
			VisibilityTimeout int
			RedrivePolicy     struct{ MaxReceiveCount int }
		}](t, s, "Queue")
		if got, want := float64(queue.RedrivePolicy.MaxReceiveCount), constant(t, code, "lastDelivery"); got != want {
			t.Errorf("the queue delivers a message %v times; submit takes delivery %v for the last", got, want)
		}
		timeout := properties[struct{ Timeout int }](t, s, "SubmitFunction").Timeout
		if got, want := strconv.Itoa(timeout), strconv.FormatFloat(constant(t, code, "lifetime")/1e9, 'f', -1, 64); got != want {
			t.Errorf("SubmitFunction may run for %s s; submit takes %s s for its lifetime", got, want)
		}
	})
}
