package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// Starter is the part of the Step Functions client that Start uses.
type Starter interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
}

// Start starts the execution of a job that RunComfy has accepted. The job's take
// determines the execution's name, so a second Start of the same take starts
// nothing and returns no error.
func Start(ctx context.Context, states Starter, machineARN string, job Job) error {
	job.WaitSeconds = firstWait
	input, err := json.Marshal(job)
	if err != nil {
		return err
	}
	_, err = states.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &machineARN,
		Name:            aws.String(ExecutionName(job.Name, job.Take)),
		Input:           aws.String(string(input)),
	})
	if _, exists := errors.AsType[*types.ExecutionAlreadyExists](err); err != nil && !exists {
		return fmt.Errorf("start the execution of take %s: %w", job.Take, err)
	}
	return nil
}

// maxExecutionName is the length of the longest name that Step Functions accepts.
const maxExecutionName = 80

// ExecutionName returns the name of the execution of a take: a slug of the
// job's name, a hyphen and the take, at most 80 ASCII letters, digits, hyphens
// and underscores. The hash in the take covers the name, so two names with the
// same slug have different executions.
func ExecutionName(name, take string) string {
	var slug strings.Builder
	for _, r := range name {
		if slug.Len() == maxExecutionName-len(take)-1 {
			break
		}
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			slug.WriteRune(r)
		default:
			slug.WriteByte('-')
		}
	}
	return slug.String() + "-" + take
}

// ExecutionARN returns the ARN of the machine's execution with the given name.
func ExecutionARN(machineARN, executionName string) string {
	return strings.Replace(machineARN, ":stateMachine:", ":execution:", 1) + ":" + executionName
}
