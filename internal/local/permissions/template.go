package permissions

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Read returns the roles of the functions in the text of template.yaml, by the
// functions' logical ids. Values is what resources, attributes of resources (such
// as StateMachine.Name) and pseudo parameters stand for; a parameter stands for
// its default. The SAM transform leaves roles as they are written: they are read
// as they are without it.
//
// It knows the forms that the template has, and fails on any other, which it
// might read as less, or more, than what is deployed.
func Read(template []byte, values map[string]string) (map[string]Role, error) {
	var doc struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
		Conditions map[string]yaml.Node `yaml:"Conditions"`
		Resources  map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(template, &doc); err != nil {
		return nil, err
	}
	f := filler{values: map[string]string{}, conditions: doc.Conditions}
	for name, parameter := range doc.Parameters {
		f.values[name] = parameter.Default
	}
	maps.Copy(f.values, values)
	roles := map[string]Role{}
	for id, resource := range doc.Resources {
		if resource.Type != "AWS::Serverless::Function" {
			continue
		}
		var function struct {
			Role     string    `yaml:"Role"`
			Policies yaml.Node `yaml:"Policies"`
		}
		if err := resource.Properties.Decode(&function); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		role, ok := doc.Resources[strings.TrimSuffix(function.Role, ".Arn")]
		if !ok || !function.Policies.IsZero() {
			return nil, fmt.Errorf("%s: not all of its permissions are in a role of the template", id)
		}
		var err error
		if roles[id], err = f.role(&role.Properties); err != nil {
			return nil, fmt.Errorf("role of %s: %w", id, err)
		}
	}
	return roles, nil
}

// kept matches the actions whose statements are kept.
var kept = regexp.MustCompile(`^(s3|states|secretsmanager):`)

// role returns the statements of a role that are kept.
func (f *filler) role(properties *yaml.Node) (Role, error) {
	filled, err := f.value(properties)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return nil, err
	}
	var found struct {
		ManagedPolicyArns []string
		Policies          []struct {
			PolicyDocument struct {
				Statement []struct {
					Effect string
					Statement
				}
			}
		}
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, err
	}
	if len(found.ManagedPolicyArns) > 0 {
		return nil, fmt.Errorf("%v are not in the template", found.ManagedPolicyArns)
	}
	var role Role
	for _, policy := range found.Policies {
		for _, st := range policy.PolicyDocument.Statement {
			if !slices.ContainsFunc(st.Action, kept.MatchString) {
				continue
			}
			if st.Effect != "Allow" || len(st.Resource) == 0 || slices.ContainsFunc(st.Resource, isOpen) {
				return nil, fmt.Errorf("the statement %s (%s on %v) is of a form that the local stack does not know", st.Sid, st.Effect, st.Resource)
			}
			role = append(role, st.Statement)
		}
	}
	return role, nil
}

// isOpen reports whether a resource is no ARN, or has something in it that has
// no value here.
func isOpen(resource string) bool {
	return !strings.HasPrefix(resource, "arn:") || strings.Contains(resource, "${")
}

// filler fills values into the intrinsic functions of a template.
type filler struct {
	values     map[string]string
	conditions map[string]yaml.Node
}

// value returns a part of a template as JSON has it.
func (f *filler) value(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!Ref", "!GetAtt":
		return f.of(n.Value, nil), nil
	case "!Sub":
		return f.sub(n)
	case "!If":
		chosen := 2
		if holds, err := f.holds(n.Content[0].Value); err != nil {
			return nil, err
		} else if holds {
			chosen = 1
		}
		return f.value(n.Content[chosen])
	}
	switch {
	case strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		return nil, fmt.Errorf("line %d: the local stack does not know %s", n.Line, n.Tag)
	case n.Kind == yaml.MappingNode:
		members := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			member, err := f.value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			members[n.Content[i].Value] = member
		}
		return members, nil
	case n.Kind == yaml.SequenceNode:
		list := []any{}
		for _, each := range n.Content {
			element, err := f.value(each)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		return list, nil
	}
	return n.Value, nil
}

// variable matches ${Name} of a Sub.
var variable = regexp.MustCompile(`\$\{[A-Za-z0-9:.]+\}`)

// sub fills in a Sub, with names of its own or without.
func (f *filler) sub(n *yaml.Node) (any, error) {
	text, own := n.Value, any(nil)
	if n.Kind == yaml.SequenceNode {
		text = n.Content[0].Value
		var err error
		if own, err = f.value(n.Content[1]); err != nil {
			return nil, err
		}
	}
	names, _ := own.(map[string]any)
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		return f.of(match[2:len(match)-1], names)
	}), nil
}

// of returns what a name stands for: where that is not known, itself as a Sub
// has it.
func (f *filler) of(name string, own map[string]any) string {
	if value, ok := own[name].(string); ok {
		return value
	}
	if value, ok := f.values[name]; ok {
		return value
	}
	return "${" + name + "}"
}

// holds reports whether a condition does, which is an !Equals.
func (f *filler) holds(name string) (bool, error) {
	n, ok := f.conditions[name]
	if !ok || n.Tag != "!Equals" || len(n.Content) != 2 {
		return false, fmt.Errorf("the condition %s is of a form that the local stack does not know", name)
	}
	one, err := f.value(n.Content[0])
	if err != nil {
		return false, err
	}
	other, err := f.value(n.Content[1])
	return one == other, err
}
