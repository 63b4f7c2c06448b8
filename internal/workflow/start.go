package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	job.WaitSeconds = FirstWait
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
