package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/template"
)

// functions are the logical ids of the functions, by their folder's name.
var functions = template.LogicalIDs

// readBy returns the variables that a function reads, except AWS_SESSION_TOKEN, which Lambda sets.
func readBy(t *testing.T, function string) []string {
	t.Helper()
	var names []string
	for _, folder := range []string{"functions/" + function, "internal/config"} {
		for _, c := range calls(parseGo(t, folder)) {
			if c.receiver == "os" && (c.name == "Getenv" || c.name == "LookupEnv") {
				t.Errorf("%s reads a variable without config.Env", folder)
			}
			if (c.receiver == "env" || c.receiver == "e") && (len(c.args) == 1 || c.name == "Choice") {
				if name, ok := stringLiteral(c.args[0]); ok && name != "AWS_SESSION_TOKEN" {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

type environment struct {
	Environment struct{ Variables map[string]any }
}

// variables returns the environment of a function. Before the transform, the Globals hold
// a part of it.
func variables(t *testing.T, s stack, id string) map[string]any {
	t.Helper()
	all := map[string]any{}
	maps.Copy(all, s.Globals.Function.Environment.Variables)
	maps.Copy(all, properties[environment](t, s, id).Environment.Variables)
	return all
}

// DefaultVideoModel allows only models that accept a video with an audio, and DefaultImageModel
// only models that accept an image with an audio: with any other model, submit ends at its start.
func TestDefaultModelsAcceptPairs(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]media.Kind{"DefaultVideoModel": media.Video, "DefaultImageModel": media.Image} {
		p := written(t, nil).Parameters[name]
		if !slices.Contains(p.AllowedValues, p.Default) {
			t.Errorf("%s: the default is %v, want one of the allowed values %v", name, p.Default, p.AllowedValues)
		}
		for _, id := range p.AllowedValues {
			if err := models.CheckPair(fmt.Sprint(id), kind); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestFunctionsHaveTheVariablesTheyRead(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		for folder, id := range functions {
			want := readBy(t, folder)
			var got []string
			for name, value := range variables(t, s, id) {
				if strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
					if value != "" {
						t.Errorf("%s has the endpoint %s=%v, want it empty", id, name, value)
					}
					continue
				}
				got = append(got, name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("variables of %s (-template.yaml +what functions/%s reads):\n%s", id, folder, diff)
			}
		}
	})
}

// drop.Settings is made in two places: by submit, and by template.Settings (for the command and
// the page). If template.Settings leaves out a field, the command may accept what submit rejects.
func TestSettingsAreComplete(t *testing.T) {
	fields := reflect.VisibleFields(reflect.TypeFor[drop.Settings]())
	for _, path := range []string{"functions/submit/main.go", "internal/template/resources.go"} {
		found := 0
		for _, members := range literals(parseGo(t, path), "drop.Settings") {
			if len(members) == 0 {
				continue // an empty result that is returned with an error
			}
			found++
			for _, f := range fields {
				if !slices.Contains(members, f.Name) {
					t.Errorf("%s does not set drop.Settings.%s", path, f.Name)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s makes no drop.Settings", path)
		}
	}
}

// Each function declares the endpoints of the five AWS services that the functions call,
// because sam local can set only variables that are declared.
func TestEndpointsAreDeclared(t *testing.T) {
	want := []string{"AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_SFN", "AWS_ENDPOINT_URL_SQS"}
	forBothForms(t, func(t *testing.T, s stack) {
		for _, id := range functions {
			got := slices.DeleteFunc(slices.Sorted(maps.Keys(variables(t, s, id))), func(name string) bool { return !strings.HasPrefix(name, "AWS_") })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +template):\n%s", id, diff)
			}
		}
	})
}

// Each parameter has a description and a default, each output a description. Programs may
// read the outputs that are named here.
func TestParametersAndOutputs(t *testing.T) {
	s := written(t, nil)
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
	for name, o := range written(t, withNotices).Outputs {
		if o.Description == "" {
			t.Errorf("the output %s has no description", name)
		}
	}
}

// By default, the stack calls RunComfy at runcomfy.DefaultBaseURL, and accepts outputs from the hosts at
// which RunComfy stores them. The presigned URLs are valid for at least as long as a job may be queued.
func TestDefaultsFitRunComfy(t *testing.T) {
	s := written(t, nil)
	if got := s.Parameters["RunComfyBaseUrl"].Default; got != runcomfy.DefaultBaseURL {
		t.Errorf("the default of RunComfyBaseUrl is %v, want %s", got, runcomfy.DefaultBaseURL)
	}
	hours := func(name string) float64 {
		n, err := s.Parameters[name].Default.(json.Number).Float64()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if presign, queue := hours("PresignHours"), hours("QueueHours"); presign < queue {
		t.Errorf("by default a URL is valid for %v hours, want at least the %v hours that a job may be queued", presign, queue)
	}
	allowed, err := origins.Parse(strings.Split(fmt.Sprint(s.Parameters["OutputOrigins"].Default), ","))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://playgrounds-storage-public.runcomfy.net/tools/a%3D%3D/output/talk.mp4": true,
		"https://serverless-api-storage.runcomfy.net/talk.mp4":                          true,
		"https://files.runcomfy.net/talk.mp4":                                           true,
		"https://files.runcomfy.com/talk.mp4":                                           true,
		"https://files.runcomfy.org/talk.mp4":                                           false,
	} {
		u, err := origins.ParseURL(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := allowed.Check(u); (err == nil) != want {
			t.Errorf("%s: %v, want it allowed: %v", address, err, want)
		}
	}
}

func TestSubmitKnowsMaxReceiveCount(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		want := properties[queue](t, s, "Queue").RedrivePolicy.MaxReceiveCount
		if got := properties[environment](t, s, "SubmitFunction").Environment.Variables["MAX_RECEIVES"]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("MAX_RECEIVES is %v, want the %v times that the queue delivers a message", got, want)
		}
	})
}
