// Package template compares template.yaml with the code that it deploys, with the local stack and
// with the documents.
package template

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/template"
)

const root = "../.."

// stack is a template with its parameters filled in. A reference to another
// resource is that resource's logical id, and an attribute is the id, a dot and
// the attribute's name.
type stack struct {
	Globals    struct{ Function environment } // empty after SAM's transform
	Parameters map[string]parameter
	Resources  map[string]resource
	Outputs    map[string]output
}

type parameter struct {
	Type, Description, ConstraintDescription string

	Default            any
	AllowedValues      []any
	MinValue, MaxValue float64
}

type resource struct {
	Type                                string
	Properties                          json.RawMessage
	DeletionPolicy, UpdateReplacePolicy string
}

type output struct{ Description, Value string }

// written returns the stack of template.yaml before SAM's transform. The values in given replace
// defaults of parameters, values of pseudo parameters and logical ids of resources.
func written(t *testing.T, given map[string]string) stack {
	t.Helper()
	return filled(t, lipdrop.Template, given)
}

// read returns a file of the project.
func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var pseudo = map[string]string{"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000", "AWS::StackName": "STACK"}

// filled returns the stack of a template with the given values (see written). It leaves out the
// resources and outputs whose conditions are false.
func filled(t *testing.T, text []byte, given map[string]string) stack {
	t.Helper()
	var doc *template.Template // for the function below, which is not called before Parse has returned
	doc, err := template.Parse(text, func(name string) (any, bool) {
		if value := cmp.Or(given[name], pseudo[name]); value != "" {
			return value, true
		}
		if _, ok := doc.Section("Parameters")[name]; ok {
			return nil, false // the parameter has its default
		}
		id, attribute, dot := strings.Cut(name, ".")
		if _, ok := doc.Section("Resources")[id]; !ok {
			t.Errorf("the template refers to %s, which is not there", name)
		}
		id = cmp.Or(given[id], id)
		if dot {
			id += "." + attribute
		}
		return id, true
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range given {
		if doc.Section("Parameters")[name] == nil && doc.Section("Resources")[name] == nil && pseudo[name] == "" {
			t.Fatalf("the template has no %s", name)
		}
	}
	kept := map[string]any{"Parameters": doc.Section("Parameters"), "Globals": doc.Section("Globals")}
	for _, section := range []string{"Resources", "Outputs"} {
		members := map[string]any{}
		for id, member := range doc.Section(section) {
			holds := true
			if condition, ok := member.(map[string]any)["Condition"].(string); ok {
				if holds, err = doc.ConditionHolds(condition); err != nil {
					t.Fatal(err)
				}
			}
			if holds {
				members[id] = member
			}
		}
		kept[section] = members
	}
	var s stack
	if err := doc.Fill(kept, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

type queue struct {
	VisibilityTimeout, MessageRetentionPeriod int // in seconds

	RedrivePolicy struct {
		DeadLetterTargetArn string
		MaxReceiveCount     int
	}
}

// properties returns the properties of the resource with a logical id.
func properties[T any](t *testing.T, s stack, id string) T {
	t.Helper()
	r, ok := s.Resources[id]
	if !ok {
		t.Fatalf("the stack has no %s", id)
	}
	var props T
	if err := json.Unmarshal(r.Properties, &props); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return props
}

// ofType returns the logical ids of the resources of a type.
func ofType(s stack, name string) map[string]bool {
	ids := map[string]bool{}
	for id, r := range s.Resources {
		if r.Type == name {
			ids[id] = true
		}
	}
	return ids
}
