// Command deploy deploys the template to an AWS emulator with the real SAM CLI. Then
// it uses the stack as its first user would: it sets the token, runs doctor, drops a
// pair and a bundle, and compares their outputs with the dropped video. It updates the stack,
// drops again, and runs the test scripts of cmd/lipdrop. Finally it deletes the stack. RunComfy
// is the project's fake.
//
// The variable AWS_ENDPOINT_URL must be the URL of the emulator, with a loopback IP address.
// Otherwise deploy fails and deploys nothing. The variable SAM names the program of the
// SAM CLI. It defaults to sam.
//
//	go run ./test/deploy
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

const (
	stackName = "lipdrop-test"
	token     = "deployed-token"
	patience  = 3 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
	fmt.Println("deployed, used, updated and removed")
}

// trial is one deployment, and the fake RunComfy that its functions call.
type trial struct {
	sam    string
	url    string // the URL of the fake RunComfy
	fake   *runcomfytest.Server
	config aws.Config
}

func run(ctx context.Context) error {
	endpoint, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil || !net.ParseIP(endpoint.Hostname()).IsLoopback() {
		return errors.New("AWS_ENDPOINT_URL must be the URL of an emulator at a loopback IP address, such as http://127.0.0.1:4566: this program does not deploy to AWS itself")
	}
	models, err := catalog.Default()
	if err != nil {
		return err
	}
	t := &trial{sam: cmp.Or(os.Getenv("SAM"), "sam"), fake: &runcomfytest.Server{
		Token: token, Queue: time.Second, Run: 2 * time.Second, Models: map[string]json.RawMessage{},
	}}
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		t.fake.Models[id] = model.Schema()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: t.fake, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	t.url = "http://" + listener.Addr().String()
	if t.config, err = awsconfig.LoadDefaultConfig(ctx); err != nil {
		return err
	}

	if err := t.runSAM(ctx, "build", "--parameter-overrides", "Architecture=x86_64"); err != nil {
		return err
	}
	if err := t.deploy(ctx, "SettleSeconds=1"); err != nil {
		return err
	}
	outputs, err := t.outputs(ctx)
	if err != nil {
		return err
	}
	if err := t.setUp(ctx, outputs["TokenSecretArn"]); err != nil {
		return err
	}
	if err := t.drop(ctx, "ads"); err != nil {
		return err
	}
	if err := t.deploy(ctx, "SettleSeconds=2"); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := t.drop(ctx, "updated"); err != nil {
		return fmt.Errorf("after the update: %w", err)
	}
	if charges := t.fake.Charges(); charges != 4 {
		return fmt.Errorf("RunComfy charged %d jobs, want 4, two for each folder", charges)
	}
	if err := server.Close(); err != nil { // the scripts have a fake of their own at the same address
		return err
	}
	scripts := exec.CommandContext(ctx, "go", "test", "./cmd/lipdrop", "-run", "TestScripts", "-count=1")
	scripts.Env = append(os.Environ(), "LIPDROP_TEST_STACK="+stackName, "LIPDROP_TEST_RUNCOMFY="+listener.Addr().String())
	if _, err := runAndPrint(scripts); err != nil {
		return fmt.Errorf("the scripts of the command: %w", err)
	}
	return t.remove(ctx, outputs["BucketName"])
}

// runAndPrint runs a program in the current folder, which must be the root of a checkout. It prints
// the program's output and returns it.
func runAndPrint(cmd *exec.Cmd) (string, error) {
	fmt.Println(strings.Join(cmd.Args, " "))
	var text strings.Builder
	cmd.Stdout = io.MultiWriter(os.Stdout, &text)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	return text.String(), err
}

func (t *trial) runSAM(ctx context.Context, args ...string) error {
	if _, err := runAndPrint(exec.CommandContext(ctx, t.sam, args...)); err != nil {
		return fmt.Errorf("sam %s: %w", args[0], err)
	}
	return nil
}

// deploy deploys the stack with a further parameter override such as SettleSeconds=1.
// samconfig.toml has the other options.
func (t *trial) deploy(ctx context.Context, override string) error {
	return t.runSAM(ctx, "deploy", "--stack-name", stackName, "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides",
		"RunComfyBaseUrl="+t.url, "OutputOrigins="+t.url, "Architecture=x86_64", override)
}

// lipdrop runs a verb of lipdrop on the stack and returns its output.
func lipdrop(ctx context.Context, verb string, args ...string) (string, error) {
	args = append([]string{"run", "./cmd/lipdrop", verb, "--stack", stackName}, args...)
	return runAndPrint(exec.CommandContext(ctx, "go", args...))
}

func (t *trial) outputs(ctx context.Context) (map[string]string, error) {
	out, err := cloudformation.NewFromConfig(t.config).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(stackName)})
	if err != nil {
		return nil, err
	}
	outputs := map[string]string{}
	for _, o := range out.Stacks[0].Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	for _, name := range []string{"BucketName", "StateMachineArn", "QueueUrl", "DeadLetterQueueUrl", "TokenSecretArn"} {
		if outputs[name] == "" {
			return nil, fmt.Errorf("the stack has no output %s", name)
		}
	}
	return outputs, nil
}

// setUp sets the token of a new stack. Before and after that, it runs doctor.
func (t *trial) setUp(ctx context.Context, tokenSecret string) error {
	if said, err := lipdrop(ctx, "doctor"); err == nil || !strings.Contains(said, "token is not set") || strings.Count(said, "WRONG") != 1 {
		return errors.New("before the token is set, doctor must report only the missing token")
	}
	_, err := secretsmanager.NewFromConfig(t.config).PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &tokenSecret, SecretString: aws.String(token),
	})
	if err != nil {
		return fmt.Errorf("set the token: %w", err)
	}
	if _, err := lipdrop(ctx, "doctor", "--drop", "--wait", patience.String()); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	return nil
}

// drop drops a folder with a pair and a bundle, waits for their jobs, and compares the
// outputs with the dropped video.
func (t *trial) drop(ctx context.Context, folder string) error {
	dir, err := os.MkdirTemp("", "lipdrop-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	clip, voice := sample.Files()
	err = os.CopyFS(filepath.Join(dir, folder), fstest.MapFS{
		"Grüße + 100%.mp4": {Data: clip}, "Grüße + 100%.wav": {Data: voice},
		"cafe.job/v.mp4": {Data: clip}, "cafe.job/a.wav": {Data: voice},
		"cafe.job/job.json": {Data: []byte(`{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "emotion": "happy"}}`)},
	})
	if err != nil {
		return err
	}
	out := filepath.Join(dir, "out")
	if _, err := lipdrop(ctx, "drop", filepath.Join(dir, folder), "--yes", "--get", out, "--timeout", patience.String()); err != nil {
		return err
	}
	for _, name := range []string{"Grüße + 100%.mp4", "cafe.mp4"} {
		got, err := os.ReadFile(filepath.Join(out, folder, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, clip) {
			return fmt.Errorf("%s/%s differs from the dropped video", folder, name)
		}
	}
	return nil
}

// remove deletes the stack and checks that the bucket is retained. It does not check the bucket's
// policy: AWS retains the policy too, but not every emulator does.
func (t *trial) remove(ctx context.Context, bucket string) error {
	if err := t.runSAM(ctx, "delete", "--stack-name", stackName, "--no-prompts"); err != nil {
		return err
	}
	if err := t.checkDeleted(ctx); err != nil {
		return err
	}
	storage := s3.NewFromConfig(t.config, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := storage.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket}); err != nil {
		return fmt.Errorf("the bucket was not retained: %w", err)
	}
	return nil
}

// checkDeleted returns an error unless CloudFormation says that the stack does not exist.
func (t *trial) checkDeleted(ctx context.Context) error {
	_, err := cloudformation.NewFromConfig(t.config).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(stackName)})
	if refused, ok := errors.AsType[smithy.APIError](err); ok && refused.ErrorCode() == "ValidationError" {
		return nil
	}
	return fmt.Errorf("the stack %s may still be there: %w", stackName, cmp.Or(err, errors.New("CloudFormation describes it")))
}
