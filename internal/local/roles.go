package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// readTemplate reads the template in the root of the checkout, and the functions'
// roles in it.
func (s *Stack) readTemplate(root string) (err error) {
	if s.template, err = os.ReadFile(filepath.Join(root, "template.yaml")); err != nil {
		return err
	}
	if s.roles, err = readRoles(s.template); err != nil {
		return fmt.Errorf("template.yaml: %w", err)
	}
	if s.functions, err = permissions.Functions(s.template, Values(Endpoints{})); err != nil {
		return fmt.Errorf("template.yaml: %w", err)
	}
	return nil
}

// Values returns what the names in template.yaml stand for in a local stack with
// the given addresses. A parameter that is not among them has its default. A
// resource whose Ref or attribute a function is given belongs here.
func Values(at Endpoints) map[string]string {
	return map[string]string{
		"AWS::Partition": "aws", "AWS::Region": Region, "AWS::AccountId": Account, "AWS::StackName": machineName,
		"Bucket": Bucket, "StateMachine": MachineARN, "StateMachine.Name": machineName, "TokenSecret": secretARN,
		"RunComfyBaseUrl": at.RunComfy, "OutputOrigins": at.RunComfy,
	}
}

func readRoles(template []byte) (map[string]permissions.Role, error) {
	byID, err := permissions.Read(template, Values(Endpoints{}))
	if err != nil {
		return nil, err
	}
	roles := map[string]permissions.Role{}
	for name, id := range logicalIDs {
		roles[name] = byID[id]
	}
	return roles, nil
}

// setPolicy makes the bucket's policy of what the functions may do.
func (s *Stack) setPolicy(ctx context.Context) error {
	policy, err := permissions.BucketPolicy(s.roles)
	if err == nil {
		_, err = s.S3().PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String(Bucket), Policy: aws.String(string(policy))})
	}
	if err != nil {
		return fmt.Errorf("policy of the bucket: %w", err)
	}
	return nil
}

// deny fails the stack because a function was refused something, which AWS would
// refuse it too: that the function may go on in spite of it is no comfort.
func (s *Stack) deny(denial *permissions.Denial) { s.fail(denial) }
