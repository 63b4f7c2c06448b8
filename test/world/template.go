package world

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/template"
)

// stackTemplate is what a World takes from template.yaml.
type stackTemplate struct {
	queues                           map[string]template.Queue    // by logical id
	functions                        map[string]template.Function // by name
	queueHours, maxHours, maxOutputs int
	settings                         drop.Settings
}

// readTemplate reads the template once, with the defaults of its parameters.
var readTemplate = sync.OnceValues(func() (*stackTemplate, error) {
	values := map[string]string{"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000", "AWS::StackName": "lipdrop"}
	for _, resource := range []string{"Bucket", "TokenSecret", "Queue"} {
		values[resource] = resource // any value will do: only a function's main reads it, and a World does not run main
	}
	functions, err := template.Functions(lipdrop.Template, values)
	if err != nil {
		return nil, err
	}
	queues, err := template.Queues(lipdrop.Template, values)
	if err != nil {
		return nil, err
	}
	parameters, err := template.Defaults(lipdrop.Template)
	if err != nil {
		return nil, err
	}
	t := &stackTemplate{queues: queues, functions: template.ByName(functions), settings: template.DefaultSettings()}
	for name, to := range map[string]*int{"QueueHours": &t.queueHours, "MaxHours": &t.maxHours, "MaxOutputs": &t.maxOutputs} {
		if *to, err = strconv.Atoi(parameters[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return t, nil
})
