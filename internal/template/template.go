// Package template reads template.yaml: what each function may do, the other settings of the
// functions and the queues, and the settings by which a stack checks drops.
//
// The package knows only the forms of statements and intrinsic functions that template.yaml uses.
package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Template is a template.yaml, or what the SAM transform makes of it.
type Template struct {
	sections map[string]any // as decoded JSON, with intrinsic functions in their long form
	lookup   func(name string) (value any, ok bool)
}

// Parse decodes the text of a template. lookup returns the value of a parameter, a
// pseudo parameter, a resource, or an attribute such as StateMachine.Name. A parameter without
// a value has its default. If another name has no value, a reference to it becomes ${NAME}.
func Parse(text []byte, lookup func(name string) (value any, ok bool)) (*Template, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	expandShortForms(&doc)
	t := &Template{lookup: lookup}
	return t, doc.Decode(&t.sections)
}

// expandShortForms turns the short forms of intrinsic functions, such as !Ref, into their long forms.
func expandShortForms(n *yaml.Node) {
	for _, child := range n.Content {
		expandShortForms(child)
	}
	name, ok := strings.CutPrefix(n.Tag, "!")
	if !ok || strings.HasPrefix(name, "!") {
		return
	}
	if name != "Ref" {
		name = "Fn::" + name
	}
	argument := *n
	argument.Tag = ""
	*n = yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: name}, &argument}}
}

// Section returns a section of the template, such as Resources.
func (t *Template) Section(name string) map[string]any {
	section, _ := t.sections[name].(map[string]any)
	return section
}

func (t *Template) member(section, name string) map[string]any {
	member, _ := t.Section(section)[name].(map[string]any)
	return member
}

// Fill replaces the intrinsic functions in a part of the template by their values, and decodes
// the result into a variable. A nil part does not change a variable that is a struct.
func (t *Template) Fill(part, to any) error {
	filled, err := t.value(part)
	if err != nil {
		return err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(to)
}

// value returns a part of the template with each intrinsic function replaced by its value.
func (t *Template) value(part any) (_ any, err error) {
	switch part := part.(type) {
	case []any:
		list := make([]any, len(part))
		for i := range part {
			if list[i], err = t.value(part[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		members := map[string]any{}
		for name, member := range part {
			if len(part) == 1 && (name == "Ref" || strings.HasPrefix(name, "Fn::")) {
				return t.call(name, member)
			}
			if members[name], err = t.value(member); err != nil {
				return nil, err
			}
		}
		return members, nil
	}
	return part, nil
}

// call returns the value of an intrinsic function.
func (t *Template) call(name string, argument any) (any, error) {
	list, _ := argument.([]any)
	text, _ := argument.(string)
	switch {
	case name == "Ref", name == "Fn::GetAtt" && text != "":
		return t.valueOf(text), nil
	case name == "Fn::GetAtt" && len(list) == 2:
		return t.valueOf(fmt.Sprint(list[0], ".", list[1])), nil
	case name == "Fn::If" && len(list) == 3:
		holds, err := t.ConditionHolds(fmt.Sprint(list[0]))
		switch {
		case err != nil:
			return nil, err
		case holds:
			return t.value(list[1])
		}
		return t.value(list[2])
	case name == "Fn::Sub" && text != "":
		return t.sub(text, nil), nil
	case name == "Fn::Sub" && len(list) == 2:
		own, err := t.value(list[1])
		ownValues, _ := own.(map[string]any)
		return t.sub(fmt.Sprint(list[0]), ownValues), err
	}
	return nil, fmt.Errorf("the template calls %s in a way that the local stack does not know", name)
}

// variable matches ${Name} of a Sub.
var variable = regexp.MustCompile(`\$\{[A-Za-z0-9:.]+\}`)

// sub returns the value of a Sub. ownValues has the values of the names that only this Sub knows.
func (t *Template) sub(text string, ownValues map[string]any) string {
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		if value, ok := ownValues[name]; ok {
			return fmt.Sprint(value)
		}
		return fmt.Sprint(t.valueOf(name))
	})
}

func (t *Template) valueOf(name string) any {
	if t.lookup != nil {
		if value, ok := t.lookup(name); ok {
			return value
		}
	}
	if parameter := t.member("Parameters", name); parameter != nil {
		return parameter["Default"]
	}
	return "${" + name + "}"
}

// ConditionHolds reports whether a condition of the template is true.
func (t *Template) ConditionHolds(name string) (bool, error) {
	condition, negated := t.member("Conditions", name), false
	if not, ok := condition["Fn::Not"].([]any); ok && len(not) == 1 {
		condition, _ = not[0].(map[string]any)
		negated = true
	}
	pair, _ := condition["Fn::Equals"].([]any)
	if len(pair) != 2 {
		return false, fmt.Errorf("the condition %s is of a form that the local stack does not know", name)
	}
	value, err := t.value(pair)
	pair, _ = value.([]any)
	return err == nil && (fmt.Sprint(pair[0]) == fmt.Sprint(pair[1])) != negated, err
}
