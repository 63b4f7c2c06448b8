package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
)

// target selects the deployment that a command works on: the local stack in a
// folder, or a stack on AWS.
type target struct {
	Dir     string `default:".lipdrop" help:"Folder of the running local stack."`
	Stack   string `help:"Name of a stack on AWS. Without it, the command works on the local stack."`
	Profile string `help:"Profile of the AWS credentials."`
	Region  string `help:"AWS region of the stack."`
}

// deployment is a running lipdrop.
type deployment struct {
	bucket     *bucket.Bucket
	s3         *s3.Client
	ledger     *ledger.Store // for reading
	states     *sfn.Client
	machineARN string
	outputs    map[string]string // of a stack on AWS
	config     aws.Config
}

func newDeployment(storage *s3.Client, states *sfn.Client, bucketName, machineARN string) *deployment {
	b := &bucket.Bucket{S3: storage, Name: bucketName}
	return &deployment{
		bucket: b, s3: storage, ledger: &ledger.Store{Bucket: b, MachineARN: machineARN}, states: states, machineARN: machineARN,
	}
}

func (t target) open(ctx context.Context) (*deployment, error) {
	if t.Stack == "" {
		return t.openLocal(ctx)
	}
	var options []func(*awsconfig.LoadOptions) error
	if t.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(t.Profile))
	}
	if t.Region != "" {
		options = append(options, awsconfig.WithRegion(t.Region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	out, err := cloudformation.NewFromConfig(cfg).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &t.Stack})
	if err != nil {
		return nil, fmt.Errorf("describe the stack %s: %w", t.Stack, err)
	}
	outputs := map[string]string{}
	for _, o := range out.Stacks[0].Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	if outputs["BucketName"] == "" || outputs["StateMachineArn"] == "" {
		return nil, fmt.Errorf("the stack %s has no outputs BucketName and StateMachineArn, so it is not a lipdrop stack", t.Stack)
	}
	d := newDeployment(s3.NewFromConfig(cfg), sfn.NewFromConfig(cfg), outputs["BucketName"], outputs["StateMachineArn"])
	d.outputs, d.config = outputs, cfg
	return d, nil
}

func (t target) openLocal(ctx context.Context) (*deployment, error) {
	text, err := os.ReadFile(filepath.Join(t.Dir, "ports.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no local stack in %s; start one with `lipdrop local`, or name a stack on AWS with --stack", t.Dir)
	}
	if err != nil {
		return nil, err
	}
	var ports local.Ports
	if err := json.Unmarshal(text, &ports); err != nil {
		return nil, fmt.Errorf("%s: %w", t.Dir, err)
	}
	address := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address(ports.AWSPlain))
	if err != nil {
		return nil, fmt.Errorf("the local stack in %s is not running; start it with `lipdrop local`, or name a stack on AWS with --stack", t.Dir)
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	keys, err := local.ReadKeys(t.Dir)
	if err != nil {
		return nil, err
	}
	config := func(port int) aws.Config {
		return aws.Config{
			Region: local.Region, BaseEndpoint: aws.String("http://" + address(port)),
			Credentials: credentials.NewStaticCredentialsProvider(local.AccessKey, keys.SecretKey, ""),
		}
	}
	return newDeployment(s3.NewFromConfig(config(ports.S3Plain)), sfn.NewFromConfig(config(ports.AWSPlain)), local.Bucket, local.MachineARN), nil
}
