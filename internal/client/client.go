// Package client works on one lipdrop, deployed or local, from a person's machine. It finds
// the stack, uploads files, reads and follows statuses, fetches outputs, cancels and
// redrives jobs, and stores reviews. On AWS, it uses the person's own credentials.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/template"
	"github.com/lipdrop/lipdrop/internal/token"
)

// Target says which lipdrop a command works on. Its fields are flags of the command.
type Target struct {
	Stack   string `placeholder:"NAME" help:"Name of a stack on AWS. The environment variable LIPDROP_STACK can give the name too. By default the running local stack, else the only lipdrop stack of the region."`
	Dir     string `placeholder:"DIR" type:"folder" predictor:"folder" help:"Folder of a running local stack. By default .lipdrop."`
	Profile string `help:"Profile of the AWS credentials."`
	Region  string `help:"AWS region of the stack."`
}

const (
	stackVariable = "LIPDROP_STACK"
	defaultDir    = ".lipdrop"
)

// Client works on one lipdrop. It is safe for concurrent use.
type Client struct {
	Bucket *bucket.Bucket
	Ledger *ledger.Store // for reading
	S3     *s3.Client
	States *sfn.Client

	// Dir is the folder of the local stack. It is empty for a stack on AWS.
	Dir string

	// Stack, Outputs and Parameters describe a stack on AWS. For the local stack, only
	// Parameters is set, and has only RunComfyBaseUrl.
	Stack               string
	Outputs, Parameters map[string]string

	// Config is for clients of other AWS services.
	Config aws.Config

	tokenSecretARN string // the secret that holds the RunComfy token
}

// New returns a client of a bucket and a state machine.
func New(cfg aws.Config, bucketName, machineARN string) *Client {
	storage := bucket.NewClient(cfg)
	b := &bucket.Bucket{S3: storage, Name: bucketName}
	return &Client{
		Bucket: b, S3: storage, Ledger: &ledger.Store{Bucket: b, MachineARN: machineARN, Now: time.Now},
		States: sfn.NewFromConfig(cfg), Config: cfg,
	}
}

// Named reports whether a field of the target or LIPDROP_STACK is set.
func (t Target) Named() bool { return t != Target{} || os.Getenv(stackVariable) != "" }

// Find returns a client of the lipdrop that the target or LIPDROP_STACK names. If neither
// names one, Find uses the running local stack in .lipdrop, else the only lipdrop stack of the
// region. If the target has a profile or a region, but no folder, the stack is on AWS. The errors
// of Find include *NoStackError, *UsageError, *CredentialsError, *DeniedError and *ServiceError.
func (t Target) Find(ctx context.Context) (*Client, error) {
	if t.Stack != "" && t.Dir != "" {
		return nil, &UsageError{"--stack names a stack on AWS and --dir a local one; leave one of them out"}
	}
	var noLocal *NoStackError
	if t.Dir != "" || t.Stack == "" && os.Getenv(stackVariable) == "" && t.Profile == "" && t.Region == "" {
		c, err := t.findLocal(ctx)
		if !errors.As(err, &noLocal) || t.Dir != "" {
			return c, err
		}
	}
	c, err := t.FindOnAWS(ctx)
	if missing, ok := errors.AsType[*CredentialsError](err); ok && noLocal != nil && missing.Missing {
		return nil, &NoStackError{Reason: fmt.Sprintf("%s, and %v", noLocal.Reason, missing.Err), Remedy: noLocal.Remedy}
	}
	if none, ok := errors.AsType[*NoStackError](err); ok && noLocal != nil {
		none.Remedy += " Or start a local stack with: lipdrop local."
	}
	return c, err
}

// FindOnAWS is Find for a command that does not work on the local stack. It ignores Dir.
func (t Target) FindOnAWS(ctx context.Context) (*Client, error) {
	name := cmp.Or(t.Stack, os.Getenv(stackVariable))
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithLogger(logging.Nop{}), awsconfig.WithSharedConfigProfile(t.Profile), awsconfig.WithRegion(t.Region))
	if err != nil {
		return nil, &CredentialsError{Err: err}
	}
	if cfg.Region == "" {
		return nil, &CredentialsError{Missing: true, Err: errors.New("no AWS region is set")}
	}
	if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(cfg.Region) {
		return nil, &UsageError{fmt.Sprintf("%q is not an AWS region. Name a region such as eu-west-1 with --region, or in the variable AWS_REGION", cfg.Region)}
	}
	in := &cloudformation.DescribeStacksInput{}
	purpose := "find the stack"
	if name != "" {
		in.StackName = &name
		purpose += " " + name
	}
	var found []*Client
	for pages := cloudformation.NewDescribeStacksPaginator(cloudformation.NewFromConfig(cfg), in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			err = Explain(purpose, "", err)
			if api, ok := errors.AsType[*ServiceError](err); ok && api.Code == "ValidationError" {
				return nil, &NoStackError{Reason: fmt.Sprintf("there is no stack %s in %s", name, cfg.Region), Remedy: "Check the stack's name, or select another region or account with --region or --profile."}
			}
			return nil, err
		}
		for _, stack := range page.Stacks {
			if c := clientOf(cfg, stack); c != nil {
				found = append(found, c)
			}
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return nil, &NoStackError{Reason: fmt.Sprintf("the stack %s lacks an output of a lipdrop stack: BucketName, StateMachineArn or TokenSecretArn", name), Remedy: "Name another stack with --stack, or wait until this stack is deployed."}
	case len(found) == 0:
		return nil, &NoStackError{Reason: "there is no lipdrop stack in " + cfg.Region, Remedy: "Name another region or account with --region or --profile."}
	case len(found) > 1:
		var names []string
		for _, c := range found {
			names = append(names, c.Stack)
		}
		return nil, &UsageError{fmt.Sprintf("there are several lipdrop stacks in %s: %s. Name one with --stack", cfg.Region, strings.Join(names, ", "))}
	}
	return found[0], nil
}

// clientOf returns a client of a stack on AWS, or nil if the stack lacks an output of a lipdrop stack.
func clientOf(cfg aws.Config, stack types.Stack) *Client {
	outputs, parameters := map[string]string{}, map[string]string{}
	for _, o := range stack.Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	for _, p := range stack.Parameters {
		parameters[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	if outputs["BucketName"] == "" || outputs["StateMachineArn"] == "" || outputs["TokenSecretArn"] == "" {
		return nil
	}
	c := New(cfg, outputs["BucketName"], outputs["StateMachineArn"])
	c.Stack, c.Outputs, c.Parameters, c.tokenSecretARN = aws.ToString(stack.StackName), outputs, parameters, outputs["TokenSecretArn"]
	return c
}

// startCommand returns the command that starts the local stack in a folder.
func startCommand(dir string) string {
	if dir == defaultDir {
		return "lipdrop local"
	}
	return "lipdrop local --dir " + problem.ShellWord(problem.PathArgument(dir))
}

// findLocal returns a client of the local stack that runs in the target's folder.
func (t Target) findLocal(ctx context.Context) (*Client, error) {
	dir := cmp.Or(t.Dir, defaultDir)
	remedy := "Start the local stack with: " + startCommand(dir) + ". To use a stack on AWS, run aws configure or aws sso login, then name the stack with --stack."
	ports, err := local.ReadPorts(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &NoStackError{Reason: "there is no local stack in " + dir, Remedy: remedy}
	}
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.Plain))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, &NoStackError{Reason: "the local stack in " + dir + " is not running", Remedy: remedy}
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	keys, err := local.ReadKeys(dir)
	if err != nil {
		return nil, err
	}
	c := New(aws.Config{
		Region: local.Region, BaseEndpoint: aws.String("http://" + address), Logger: logging.Nop{},
		Credentials: credentials.NewStaticCredentialsProvider(local.AccessKey, keys.SecretKey, ""),
	}, local.Bucket, local.MachineARN)
	c.Dir, c.tokenSecretARN = dir, local.SecretARN
	c.Parameters = map[string]string{"RunComfyBaseUrl": "http://" + address}
	return c, nil
}

// Local reports whether the client works on a local stack.
func (c *Client) Local() bool { return c.Dir != "" }

// Caller returns the ARN of the user or role whose credentials are used.
func (c *Client) Caller(ctx context.Context) (string, error) {
	if c.Local() {
		return "arn:aws:iam::" + local.Account + ":user/" + local.AccessKey, nil
	}
	out, err := sts.NewFromConfig(c.Config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", Explain("find out whose credentials these are", "", err)
	}
	return aws.ToString(out.Arn), nil
}

// Resolver returns a resolver that has the settings of the stack's submit function. It does not
// set Files.
func (c *Client) Resolver() (drop.Resolver, error) {
	models, err := catalog.Default()
	if err != nil {
		return drop.Resolver{}, err
	}
	settings, err := template.Settings(c.Parameters)
	if err != nil {
		err = fmt.Errorf("the parameters of the stack %s: %w", c.Stack, err)
	}
	return drop.Resolver{Catalog: models, Settings: settings}, err
}

// RunComfy returns a client of RunComfy's Model API that uses the stack's token.
func (c *Client) RunComfy() *runcomfy.Client {
	return &runcomfy.Client{
		Token:   &token.Source{Client: secretsmanager.NewFromConfig(c.Config), ARN: c.tokenSecretARN, Now: time.Now},
		BaseURL: c.Parameters["RunComfyBaseUrl"],
	}
}
