package permissions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// source is a decoded template.yaml with the values that its names stand for.
type source struct {
	values     map[string]string
	conditions map[string]yaml.Node
	globals    yaml.Node // properties of every function
	resources  map[string]resource
}

type resource struct {
	Type       string    `yaml:"Type"`
	Properties yaml.Node `yaml:"Properties"`
}

const functionType = "AWS::Serverless::Function"

// LogicalIDs are the logical ids of the functions in template.yaml, by their names.
var LogicalIDs = map[string]string{
	"submit": "SubmitFunction", "poll": "PollFunction", "archive": "ArchiveFunction", "cancel": "CancelFunction",
}

// parse decodes the text of a template. The values are those of resources, attributes of
// resources (such as StateMachine.Name), pseudo parameters and parameters. A parameter
// without a value has its default.
func parse(template []byte, values map[string]string) (*source, error) {
	var doc struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
		Conditions map[string]yaml.Node `yaml:"Conditions"`
		Globals    struct {
			Function yaml.Node `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]resource `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(template, &doc); err != nil {
		return nil, err
	}
	s := &source{map[string]string{}, doc.Conditions, doc.Globals.Function, doc.Resources}
	for name, parameter := range doc.Parameters {
		s.values[name] = parameter.Default
	}
	maps.Copy(s.values, values)
	return s, nil
}

// each reads every resource of a type, by its logical id.
func each[T any](template []byte, values map[string]string, kind string, read func(s *source, properties *yaml.Node) (T, error)) (map[string]T, error) {
	s, err := parse(template, values)
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	for id, resource := range s.resources {
		if resource.Type != kind {
			continue
		}
		if all[id], err = read(s, &resource.Properties); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return all, nil
}

// Read returns the roles of the functions in the text of template.yaml, by the
// functions' logical ids, with the values that parse describes. The SAM transform
// does not change roles, so Read reads them without it.
//
// It knows only the forms that the template has. Another form is an error, because the
// local stack might otherwise allow less, or more, than the deployed stack.
func Read(template []byte, values map[string]string) (map[string]Role, error) {
	return each(template, values, functionType, func(s *source, properties *yaml.Node) (Role, error) {
		var function struct {
			Role     string    `yaml:"Role"`
			Policies yaml.Node `yaml:"Policies"`
		}
		if err := properties.Decode(&function); err != nil {
			return nil, err
		}
		role, ok := s.resources[strings.TrimSuffix(function.Role, ".Arn")]
		if !ok || !function.Policies.IsZero() {
			return nil, errors.New("it has permissions outside of a role of the template")
		}
		return s.role(&role.Properties)
	})
}

// Function is what the template says about a function besides its role.
type Function struct {
	Variables map[string]string // its environment
	Timeout   time.Duration
	MemoryMB  int
	Attempts  int                // how often Lambda calls it for one event, if it fails
	Queues    map[string]Mapping // by the ARN of the queue, or its logical id if the ARN has no value
}

// Mapping is how a function reads a queue.
type Mapping struct {
	BatchSize   int
	Concurrency int // batches at the same time
}

// properties are the members of a function's properties that Functions reads. fill turns
// numbers into strings.
type properties struct {
	Timeout, MemorySize int `json:",string"`
	Environment         struct{ Variables map[string]string }
	EventInvokeConfig   struct {
		MaximumRetryAttempts int `json:",string"`
	}
	Events map[string]struct {
		Properties struct {
			Queue         string
			BatchSize     int `json:",string"`
			ScalingConfig struct {
				MaximumConcurrency int `json:",string"`
			}
		}
	}
}

// Functions returns the functions in the text of template.yaml by their logical
// ids, with the values that parse describes. A function has each variable that the
// template gives it. A variable that refers to a name without a value is an error.
func Functions(template []byte, values map[string]string) (map[string]Function, error) {
	return each(template, values, functionType, func(s *source, own *yaml.Node) (Function, error) {
		var read properties
		if err := errors.Join(s.fill(&s.globals, &read), s.fill(own, &read)); err != nil {
			return Function{}, err
		}
		for name, value := range read.Environment.Variables {
			if unknown := variable.FindString(value); unknown != "" {
				return Function{}, fmt.Errorf("the variable %s refers to %s, which has no value in the local stack", name, unknown)
			}
		}
		f := Function{
			Variables: read.Environment.Variables, Timeout: seconds(read.Timeout), MemoryMB: read.MemorySize,
			Attempts: 1 + read.EventInvokeConfig.MaximumRetryAttempts, Queues: map[string]Mapping{},
		}
		for _, event := range read.Events {
			if queue := strings.TrimSuffix(strings.TrimPrefix(event.Properties.Queue, "${"), ".Arn}"); queue != "" {
				f.Queues[queue] = Mapping{event.Properties.BatchSize, event.Properties.ScalingConfig.MaximumConcurrency}
			}
		}
		return f, nil
	})
}

// Queue is what the template says about a queue.
type Queue struct {
	Delay       time.Duration // before the first delivery of a message
	Visibility  time.Duration // from one delivery of a message to the next one
	MaxReceives int           // how often it delivers a message; 0 without a dead-letter queue
}

// Queues returns the queues in the text of template.yaml by their logical ids, with
// the values that parse describes.
func Queues(template []byte, values map[string]string) (map[string]Queue, error) {
	return each(template, values, "AWS::SQS::Queue", func(s *source, properties *yaml.Node) (Queue, error) {
		var read struct {
			DelaySeconds, VisibilityTimeout int `json:",string"`
			RedrivePolicy                   struct {
				MaxReceiveCount int `json:",string"`
			}
		}
		err := s.fill(properties, &read)
		return Queue{seconds(read.DelaySeconds), seconds(read.VisibilityTimeout), read.RedrivePolicy.MaxReceiveCount}, err
	})
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// Defaults returns the default of each parameter in the text of template.yaml.
func Defaults(template []byte) (map[string]string, error) {
	s, err := parse(template, nil)
	if err != nil {
		return nil, err
	}
	return s.values, nil
}

// fill decodes a part of a template, with its values, into the variable to. If the part
// is missing, fill does not change to.
func (s *source) fill(n *yaml.Node, to any) error {
	if n.IsZero() {
		return nil
	}
	filled, err := s.value(n)
	if err != nil {
		return err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// kept matches the actions of the statements that Read returns.
var kept = regexp.MustCompile(`^(s3|states|secretsmanager|events):|^sqs:(SendMessage|ChangeMessageVisibility)$`)

// role returns the statements of a role whose actions are kept.
func (s *source) role(properties *yaml.Node) (Role, error) {
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
	if err := s.fill(properties, &found); err != nil {
		return nil, err
	}
	if len(found.ManagedPolicyArns) > 0 {
		return nil, fmt.Errorf("%v are not in the template", found.ManagedPolicyArns)
	}
	otherAccounts := map[string]map[string]OneOrMany{"StringNotEquals": {"s3:ResourceAccount": {s.values["AWS::AccountId"]}}}
	var role Role
	for _, policy := range found.Policies {
		for _, st := range policy.PolicyDocument.Statement {
			if !slices.ContainsFunc(st.Action, kept.MatchString) {
				continue
			}
			if st.Effect == "Deny" && reflect.DeepEqual(st.Condition, otherAccounts) {
				continue // the local stack has one account
			}
			if st.Effect != "Allow" || len(st.Resource) == 0 || slices.ContainsFunc(st.Resource, isOpen) {
				return nil, fmt.Errorf("the statement %s (%s on %v) is of a form that the local stack does not know", st.Sid, st.Effect, st.Resource)
			}
			role = append(role, st.Statement)
		}
	}
	return role, nil
}

// isOpen reports whether a resource is not an ARN, or contains a ${Name} that was not
// replaced.
func isOpen(resource string) bool {
	return !strings.HasPrefix(resource, "arn:") || strings.Contains(resource, "${")
}

// value returns a part of a template in the form of decoded JSON.
func (s *source) value(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!Ref", "!GetAtt":
		return s.lookup(n.Value, nil), nil
	case "!Sub":
		return s.sub(n)
	case "!If":
		chosen := 2
		if holds, err := s.holds(n.Content[0].Value); err != nil {
			return nil, err
		} else if holds {
			chosen = 1
		}
		return s.value(n.Content[chosen])
	}
	switch {
	case strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		return nil, fmt.Errorf("line %d: the local stack does not know %s", n.Line, n.Tag)
	case n.Kind == yaml.MappingNode:
		members := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			member, err := s.value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			members[n.Content[i].Value] = member
		}
		return members, nil
	case n.Kind == yaml.SequenceNode:
		list := []any{}
		for _, each := range n.Content {
			element, err := s.value(each)
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

// sub returns the value of a Sub, which may have names of its own.
func (s *source) sub(n *yaml.Node) (any, error) {
	text, own := n.Value, any(nil)
	if n.Kind == yaml.SequenceNode {
		text = n.Content[0].Value
		var err error
		if own, err = s.value(n.Content[1]); err != nil {
			return nil, err
		}
	}
	names, _ := own.(map[string]any)
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		return s.lookup(match[2:len(match)-1], names)
	}), nil
}

// lookup returns the value of a name. For a name without a value it returns ${NAME}.
func (s *source) lookup(name string, own map[string]any) string {
	if value, ok := own[name].(string); ok {
		return value
	}
	if value, ok := s.values[name]; ok {
		return value
	}
	return "${" + name + "}"
}

// holds reports whether a condition is true. It must be an !Equals, or the !Not of
// an !Equals.
func (s *source) holds(name string) (bool, error) {
	n, negated := s.conditions[name], false
	if n.Tag == "!Not" && len(n.Content) == 1 {
		n, negated = *n.Content[0], true
	}
	if n.Tag != "!Equals" || len(n.Content) != 2 {
		return false, fmt.Errorf("the condition %s is of a form that the local stack does not know", name)
	}
	one, err := s.value(n.Content[0])
	if err != nil {
		return false, err
	}
	other, err := s.value(n.Content[1])
	return (one == other) != negated, err
}
