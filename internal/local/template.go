package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/template"
)

// readTemplate reads the functions and their roles from template.yaml in a checkout.
func (s *Stack) readTemplate(root string) (err error) {
	if s.template, err = os.ReadFile(filepath.Join(root, "template.yaml")); err != nil {
		return err
	}
	values := TemplateValues("", "") // Variables sets the URLs later
	functions, err := template.Functions(s.template, values)
	if err != nil {
		return fmt.Errorf("template.yaml: %w", err)
	}
	s.functions = template.ByName(functions)
	for name, arn := range map[string]string{submit: queueARN, cancel: deletionQueueARN} {
		if mapping := s.functions[name].Queues[arn]; mapping.BatchSize == 0 || mapping.Concurrency == 0 {
			return fmt.Errorf("template.yaml: %s does not read the queue %s with a BatchSize and a MaximumConcurrency", template.LogicalIDs[name], arn)
		}
	}
	roles, err := template.Roles(s.template, values)
	if err != nil {
		return fmt.Errorf("template.yaml: %w", err)
	}
	s.roles = template.ByName(roles)
	return nil
}

// TemplateValues returns the values of parameters, pseudo parameters, resources and attributes of
// template.yaml in a local stack. Other parameters have their defaults. The map must have every
// resource and every attribute to which an environment variable or the role of a function refers.
func TemplateValues(awsURL, runComfyURL string) map[string]string {
	return map[string]string{
		"AWS::Partition": "aws", "AWS::Region": Region, "AWS::AccountId": Account, "AWS::StackName": machineName,
		"Bucket": Bucket, "StateMachine": MachineARN, "StateMachine.Name": machineName, "TokenSecret": SecretARN,
		"Queue": awsURL + queuePath, "Queue.Arn": queueARN, "DeletionQueue.Arn": deletionQueueARN,
		"RunComfyBaseUrl": runComfyURL, "OutputOrigins": runComfyURL,
	}
}

// setPolicy sets the policy of the bucket. The policy allows each function what its role
// allows in S3.
func (s *Stack) setPolicy(ctx context.Context) error {
	policy, err := template.BucketPolicy(s.roles)
	if err == nil {
		_, err = s.S3().PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String(Bucket), Policy: aws.String(string(policy))})
	}
	if err != nil {
		return fmt.Errorf("set the policy of the bucket: %w", err)
	}
	return nil
}

// deny makes the stack fail, because AWS would deny the request of the function too.
func (s *Stack) deny(denial *access.Denial) { s.fail(denial) }

func functionARN(name string) string {
	return "arn:aws:lambda:" + Region + ":" + Account + ":function:" + name
}
