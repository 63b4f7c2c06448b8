package main

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func (t *trial) read(ctx context.Context, key string) ([]byte, error) {
	out, err := t.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &t.bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

// remove deletes the stack and checks that the bucket is retained. AWS also retains
// the bucket's policy, but not every emulator does.
func (t *trial) remove(ctx context.Context) error {
	if err := t.command(ctx, "delete", "--stack-name", stackName, "--no-prompts"); err != nil {
		return err
	}
	_, err := cloudformation.NewFromConfig(t.config).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(stackName)})
	if err == nil {
		return fmt.Errorf("the stack %s is still there", stackName)
	}
	if _, err := t.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &t.bucket}); err != nil {
		return fmt.Errorf("the bucket was not retained: %w", err)
	}
	return nil
}
