package template

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/drop"
)

const functionType = "AWS::Serverless::Function"

// LogicalIDs are the logical ids of the functions in template.yaml, by function name.
var LogicalIDs = map[string]string{
	"submit": "SubmitFunction", "poll": "PollFunction", "archive": "ArchiveFunction", "cancel": "CancelFunction",
}

// ByName returns a map of the values in byID. The keys of byID are logical ids; the keys of the
// result are function names.
func ByName[T any](byID map[string]T) map[string]T {
	named := map[string]T{}
	for name, id := range LogicalIDs {
		named[name] = byID[id]
	}
	return named
}

// readResources calls decode for every resource whose Type is kind, and returns the results by logical id.
// Each key of values is the name of a parameter, a pseudo parameter or a resource, or an attribute of a
// resource such as StateMachine.Name. A parameter that is not in values has its default.
func readResources[T any](text []byte, values map[string]string, kind string, decode func(t *Template, properties any) (T, error)) (map[string]T, error) {
	t, err := Parse(text, func(name string) (any, bool) {
		value, ok := values[name]
		return value, ok
	})
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	for id := range t.Section("Resources") {
		resource := t.member("Resources", id)
		if resource["Type"] != kind {
			continue
		}
		if all[id], err = decode(t, resource["Properties"]); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return all, nil
}

// Roles returns the roles of the functions in the text of template.yaml, by logical id of the
// function. The comment of readResources describes values.
//
// Roles knows only the forms of statements that template.yaml uses. Another form is an error,
// because the local stack might otherwise allow less, or more, than the deployed stack.
func Roles(template []byte, values map[string]string) (map[string]Role, error) {
	return readResources(template, values, functionType, func(t *Template, properties any) (Role, error) {
		var function struct {
			Role     string
			Policies any
		}
		if err := t.Fill(properties, &function); err != nil {
			return nil, err
		}
		id := strings.TrimSuffix(strings.TrimPrefix(function.Role, "${"), ".Arn}")
		role, ok := t.member("Resources", id)["Properties"]
		if !ok || function.Policies != nil {
			return nil, errors.New("the function has permissions from outside the roles of the template")
		}
		return t.role(role)
	})
}

// Function is what the template says about a function besides its role.
type Function struct {
	Variables map[string]string // its environment
	Timeout   time.Duration
	MemoryMB  int
	Attempts  int                // calls for one asynchronous event, if all fail; 1 if the template does not set MaximumRetryAttempts
	Queues    map[string]Mapping // by the ARN of the queue, or by its logical id if the ARN has no value
}

// Mapping is how a function reads a queue.
type Mapping struct {
	BatchSize   int
	Concurrency int // batches at the same time
}

// Functions returns the functions in the text of template.yaml, by logical id. The
// comment of readResources describes values. If a variable of a function refers to a name without a value,
// Functions returns an error.
func Functions(template []byte, values map[string]string) (map[string]Function, error) {
	return readResources(template, values, functionType, func(t *Template, properties any) (Function, error) {
		var read struct {
			Timeout, MemorySize int
			Environment         struct{ Variables map[string]any }
			EventInvokeConfig   struct{ MaximumRetryAttempts int }
			Events              map[string]struct {
				Properties struct {
					Queue         string
					BatchSize     int
					ScalingConfig struct{ MaximumConcurrency int }
				}
			}
		}
		if err := errors.Join(t.Fill(t.Section("Globals")["Function"], &read), t.Fill(properties, &read)); err != nil {
			return Function{}, err
		}
		f := Function{
			Variables: map[string]string{}, Timeout: seconds(read.Timeout), MemoryMB: read.MemorySize,
			Attempts: 1 + read.EventInvokeConfig.MaximumRetryAttempts, Queues: map[string]Mapping{},
		}
		for name, value := range read.Environment.Variables {
			f.Variables[name] = fmt.Sprint(value)
			if unknown := variable.FindString(f.Variables[name]); unknown != "" {
				return Function{}, fmt.Errorf("the variable %s refers to %s, which has no value in the local stack", name, unknown)
			}
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
	MaxReceives int           // deliveries before a message becomes a dead letter; 0 without a dead-letter queue
}

// Queues returns the queues in the text of template.yaml, by logical id. The comment of
// readResources describes values.
func Queues(template []byte, values map[string]string) (map[string]Queue, error) {
	return readResources(template, values, "AWS::SQS::Queue", func(t *Template, properties any) (Queue, error) {
		var read struct {
			DelaySeconds, VisibilityTimeout int
			RedrivePolicy                   struct{ MaxReceiveCount int }
		}
		err := t.Fill(properties, &read)
		return Queue{seconds(read.DelaySeconds), seconds(read.VisibilityTimeout), read.RedrivePolicy.MaxReceiveCount}, err
	})
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// Defaults returns the default of each parameter in the text of template.yaml.
func Defaults(template []byte) (map[string]string, error) {
	t, err := Parse(template, nil)
	if err != nil {
		return nil, err
	}
	defaults := map[string]string{}
	for name := range t.Section("Parameters") {
		defaults[name] = fmt.Sprint(t.member("Parameters", name)["Default"])
	}
	return defaults, nil
}

// checkedAction matches the actions that the local stack checks. Roles leaves out a statement that is
// only about other actions.
var checkedAction = regexp.MustCompile(`^(s3|states|secretsmanager|events):|^sqs:(SendMessage|ChangeMessageVisibility)$`)

// unclearAction matches the action * and patterns of SQS actions. Each may cover an action
// that the local stack checks, so a statement with one is an error, unless it denies access to buckets of other accounts.
var unclearAction = regexp.MustCompile(`^\*|^sqs:.*[*?]`)

// role returns a role's statements about actions that checkedAction matches, except one that denies
// access to buckets of other accounts.
func (t *Template) role(properties any) (Role, error) {
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
	if err := t.Fill(properties, &found); err != nil {
		return nil, err
	}
	if len(found.ManagedPolicyArns) > 0 {
		return nil, fmt.Errorf("the managed policies %v are not in the template", found.ManagedPolicyArns)
	}
	otherAccounts := map[string]map[string]OneOrMany{"StringNotEquals": {"s3:ResourceAccount": {fmt.Sprint(t.valueOf("AWS::AccountId"))}}}
	var role Role
	for _, policy := range found.Policies {
		for _, st := range policy.PolicyDocument.Statement {
			unclear := len(st.Action) == 0 || slices.ContainsFunc(st.Action, unclearAction.MatchString) // no Action means NotAction
			if !unclear && !slices.ContainsFunc(st.Action, checkedAction.MatchString) {
				continue
			}
			if st.Effect == "Deny" && reflect.DeepEqual(st.Condition, otherAccounts) {
				continue // the local stack has one account
			}
			if unclear || st.Effect != "Allow" || len(st.Resource) == 0 || slices.ContainsFunc(st.Resource, isUnclearResource) {
				return nil, fmt.Errorf("the statement %s (%s %v on %v) is of a form that the local stack does not know", st.Sid, st.Effect, st.Action, st.Resource)
			}
			role = append(role, st.Statement)
		}
	}
	return role, nil
}

// isUnclearResource reports whether a resource is not an ARN, or contains a ${Name} that was not
// replaced.
func isUnclearResource(resource string) bool {
	return !strings.HasPrefix(resource, "arn:") || strings.Contains(resource, "${")
}

// DefaultSettings returns the settings of submit in a stack whose parameters keep
// their defaults.
func DefaultSettings() drop.Settings {
	settings, err := Settings(nil)
	if err != nil {
		panic(fmt.Sprintf("template.yaml: %v", err)) // the program was built with this template
	}
	return settings
}

// Settings returns the settings of submit in a stack with the given parameters. The
// other parameters keep their defaults.
func Settings(parameters map[string]string) (drop.Settings, error) {
	p, err := Defaults(lipdrop.Template)
	if err != nil {
		return drop.Settings{}, err
	}
	maps.Copy(p, parameters)
	most, err := strconv.Atoi(p["MaxJobsPerDrop"])
	return drop.Settings{
		DefaultVideoModel: p["DefaultVideoModel"], DefaultImageModel: p["DefaultImageModel"],
		SharedFolders: strings.Split(p["SharedFolders"], ","), MaxJobsPerDrop: most,
		RejectMismatch: p["LengthMismatch"] == "reject",
	}, err
}
