// Package template compares template.yaml with the code that it deploys: the
// permissions, variables, timeouts, metrics and alarms.
package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// root is the folder of the project.
const root = "../.."

// stack is a template with its parameters filled in. A reference to another
// resource is that resource's logical id, and an attribute is the id, a dot and
// the attribute's name.
type stack struct {
	Globals    struct{ Function environment } // empty after the transform
	Parameters map[string]parameter
	Resources  map[string]resource
	Outputs    map[string]output
}

type parameter struct {
	Type, Description  string
	Default            any
	MinValue, MaxValue float64
}

type resource struct {
	Type       string
	Properties json.RawMessage
}

type output struct{ Description, Value string }

// written returns the stack of template.yaml as it is written. The given values replace
// defaults of parameters and names of resources.
func written(t *testing.T, given map[string]string) stack {
	t.Helper()
	return filled(t, tree(t, source(t)), given)
}

func source(t *testing.T) []byte {
	t.Helper()
	return read(t, "template.yaml")
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

// tree returns a template as decoded JSON, with intrinsic functions in their long form.
func tree(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return plain(t, doc.Content[0]).(map[string]any)
}

func plain(t *testing.T, n *yaml.Node) any {
	t.Helper()
	if name, ok := strings.CutPrefix(n.Tag, "!"); ok && !strings.HasPrefix(name, "!") {
		untagged := *n
		untagged.Tag = ""
		value := plain(t, &untagged)
		switch name {
		case "Ref":
			return map[string]any{"Ref": value}
		case "GetAtt":
			id, attribute, _ := strings.Cut(value.(string), ".")
			return map[string]any{"Fn::GetAtt": []any{id, attribute}}
		}
		return map[string]any{"Fn::" + name: value}
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(t, n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, each := range n.Content {
			list = append(list, plain(t, each))
		}
		return list
	}
	var value any
	if err := n.Decode(&value); err != nil {
		t.Fatalf("line %d: %v", n.Line, err)
	}
	return value
}

// filled returns the stack of a template with the given parameters. It leaves out the
// resources and outputs whose conditions are false.
func filled(t *testing.T, doc map[string]any, given map[string]string) stack {
	t.Helper()
	f := filler{doc: doc, refs: map[string]any{
		"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000", "AWS::StackName": "STACK",
	}}
	for name, p := range doc["Parameters"].(map[string]any) {
		f.refs[name] = p.(map[string]any)["Default"]
	}
	for name := range doc["Resources"].(map[string]any) {
		f.refs[name] = name
	}
	for name, value := range given {
		if _, ok := f.refs[name]; !ok {
			t.Fatalf("the template has no %s", name)
		}
		f.refs[name] = value
	}
	kept := map[string]any{"Parameters": doc["Parameters"], "Globals": f.value(doc["Globals"])}
	for _, section := range []string{"Resources", "Outputs"} {
		members := map[string]any{}
		for id, member := range doc[section].(map[string]any) {
			if condition, ok := member.(map[string]any)["Condition"]; !ok || f.holds(condition.(string)) {
				members[id] = f.value(member)
			}
		}
		kept[section] = members
	}
	if f.err != nil {
		t.Fatal(f.err)
	}
	var s stack
	convert(t, kept, &s)
	return s
}

// convert reads a value as JSON into another type.
func convert(t *testing.T, from, to any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type filler struct {
	doc  map[string]any
	refs map[string]any
	err  error
}

func (f *filler) value(v any) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, each := range v {
			list = append(list, f.value(each))
		}
		return list
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return f.call(name, argument)
				}
			}
		}
		m := map[string]any{}
		for name, each := range v {
			m[name] = f.value(each)
		}
		return m
	}
	return v
}

func (f *filler) call(name string, argument any) any {
	list, _ := argument.([]any)
	switch {
	case name == "Ref":
		return f.ref(argument.(string), nil)
	case name == "Fn::GetAtt" && len(list) == 2:
		return f.ref(list[0].(string)+"."+list[1].(string), nil)
	case name == "Fn::If" && len(list) == 3:
		if f.holds(list[0].(string)) {
			return f.value(list[1])
		}
		return f.value(list[2])
	case name == "Fn::Sub":
		text, local := argument, map[string]any(nil)
		if len(list) == 2 {
			text, local = list[0], f.value(list[1]).(map[string]any)
		}
		return variable.ReplaceAllStringFunc(text.(string), func(match string) string {
			return fmt.Sprint(f.ref(match[2:len(match)-1], local))
		})
	}
	f.err = fmt.Errorf("the template calls %s, which this test does not know", name)
	return nil
}

// variable matches ${Name} of a Fn::Sub.
var variable = regexp.MustCompile(`\$\{[A-Za-z0-9:.]+\}`)

func (f *filler) ref(name string, local map[string]any) any {
	if value, ok := local[name]; ok {
		return value
	}
	if value, ok := f.refs[name]; ok {
		return value
	}
	id, attribute, _ := strings.Cut(name, ".")
	if value, ok := f.refs[id]; ok && attribute != "" {
		return fmt.Sprint(value, ".", attribute)
	}
	f.err = fmt.Errorf("the template refers to %s, which is not there", name)
	return nil
}

func (f *filler) holds(condition string) bool {
	return f.truth(f.doc["Conditions"].(map[string]any)[condition])
}

func (f *filler) truth(v any) bool {
	call, _ := v.(map[string]any)
	if list, ok := call["Fn::Equals"].([]any); ok && len(list) == 2 {
		return fmt.Sprint(f.value(list[0])) == fmt.Sprint(f.value(list[1]))
	}
	if list, ok := call["Fn::Not"].([]any); ok && len(list) == 1 {
		return !f.truth(list[0])
	}
	f.err = fmt.Errorf("the template has the condition %v, which this test does not know", v)
	return false
}

// properties returns the properties of the resource with a logical id.
func properties[T any](t *testing.T, s stack, id string) T {
	t.Helper()
	r, ok := s.Resources[id]
	if !ok {
		t.Fatalf("the stack has no %s", id)
	}
	var props T
	if len(r.Properties) == 0 {
		return props
	}
	if err := json.NewDecoder(bytes.NewReader(r.Properties)).Decode(&props); err != nil {
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
