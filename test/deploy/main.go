// Command deploy deploys the template to an AWS emulator with the real SAM CLI. Then
// it uses the stack as its first user would: it sets the token, runs doctor, drops a
// pair, a bundle and a wrong file, checks the results, and uses the command. Finally it
// updates the stack and deletes it. RunComfy is the project's fake.
//
// AWS_ENDPOINT_URL names the emulator, which must have a loopback address. Otherwise
// the command fails and deploys nothing. SAM names the SAM CLI's program. It defaults
// to sam.
//
//	go run ./test/deploy
package main

import (
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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
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
	fmt.Println("deployed, used, updated and removed: 1 passed, 0 failed")
}

// trial is one deployment and its clients.
type trial struct {
	sam    string
	url    string // the URL of the fake RunComfy
	fake   *runcomfytest.Server
	s3     *s3.Client
	config aws.Config
	bucket string

	clip, voice string
}

func run(ctx context.Context) error {
	endpoint, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil || net.ParseIP(endpoint.Hostname()) == nil || !net.ParseIP(endpoint.Hostname()).IsLoopback() {
		return errors.New("AWS_ENDPOINT_URL must name an emulator on a loopback address: this program does not deploy to AWS itself")
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
	mp4, wav := sample.Files()
	t.clip, t.voice = string(mp4), string(wav)
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
	t.s3 = s3.NewFromConfig(t.config, func(o *s3.Options) { o.UsePathStyle = true })

	if err := t.command(ctx, "build", "--parameter-overrides", "Architecture=x86_64"); err != nil {
		return err
	}
	if err := t.deploy(ctx, "SettleSeconds=1"); err != nil {
		return err
	}
	outputs, err := t.outputs(ctx)
	if err != nil {
		return err
	}
	t.bucket = outputs["BucketName"]
	if err := t.use(ctx, outputs); err != nil {
		return err
	}
	if err := t.deploy(ctx, "SettleSeconds=2"); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := t.succeeds(ctx, "after/update", "inbox/after/update.mp4", t.clip, "inbox/after/update.wav", t.voice); err != nil {
		return fmt.Errorf("after the update: %w", err)
	}
	return t.remove(ctx)
}

// command runs the SAM CLI in the project's folder.
func (t *trial) command(ctx context.Context, args ...string) error {
	fmt.Println("sam", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, t.sam, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sam %s: %w", args[0], err)
	}
	return nil
}

// deploy deploys the stack. samconfig.toml has the other options.
func (t *trial) deploy(ctx context.Context, changed string) error {
	return t.command(ctx, "deploy", "--stack-name", stackName, "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides",
		"RunComfyBaseUrl="+t.url, "OutputOrigins="+t.url, "Architecture=x86_64", changed)
}

// doctor runs lipdrop doctor on the stack and returns its output.
func (t *trial) doctor(ctx context.Context, further ...string) (string, error) {
	args := append([]string{"run", "./cmd/lipdrop", "doctor", "--stack", stackName}, further...)
	fmt.Println("go", strings.Join(args, " "))
	output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	fmt.Print(string(output))
	return string(output), err
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

// use uses a new stack as its first user would.
func (t *trial) use(ctx context.Context, outputs map[string]string) error {
	if output, err := t.doctor(ctx); err == nil || !strings.Contains(output, "token is not set") || strings.Count(output, "WRONG") != 1 {
		return errors.New("before the token is set, doctor must report only the missing token")
	}
	_, err := secretsmanager.NewFromConfig(t.config).PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(outputs["TokenSecretArn"]), SecretString: aws.String(token),
	})
	if err != nil {
		return fmt.Errorf("set the token: %w", err)
	}
	if _, err := t.doctor(ctx, "--drop", "--wait", patience.String()); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	if err := t.succeeds(ctx, "ads/Grüße + 100%", "inbox/ads/Grüße + 100%.mp4", t.clip, "inbox/ads/Grüße + 100%.wav", t.voice); err != nil {
		return fmt.Errorf("a pair: %w", err)
	}
	manifest := `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "emotion": "happy"}}`
	if err := t.succeeds(ctx, "ads/cafe", "inbox/ads/cafe.job/job.json", manifest, "inbox/ads/cafe.job/v.mp4", t.clip, "inbox/ads/cafe.job/a.wav", t.voice); err != nil {
		return fmt.Errorf("a bundle: %w", err)
	}
	if err := t.drop(ctx, "inbox/ads/notes.txt", "no media"); err != nil {
		return err
	}
	st, err := t.waitFor(ctx, "answers/ads/notes.txt.json", func(st ledger.Status) bool { return st.State == ledger.Rejected })
	if err != nil {
		return fmt.Errorf("a wrong file: %w", err)
	}
	fmt.Printf("notes.txt: %s (%s): %s\n", st.State, st.Code, st.Reason)
	if charges := t.fake.Charges(); charges != 2 {
		return fmt.Errorf("RunComfy charged %d jobs, want 2", charges)
	}
	return t.useCommand(ctx)
}

// useCommand uses lipdrop as a person does, from the drop to the review. The command finds
// the stack by itself.
func (t *trial) useCommand(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "lipdrop-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "lipdrop")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/lipdrop").CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w: %s", err, output)
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "talk.mp4"), []byte(t.clip), 0o600), os.WriteFile(filepath.Join(dir, "talk.wav"), []byte(t.voice), 0o600))
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"drop talk.mp4 talk.wav --to command --yes --wait --get .", 0, "command/talk: succeeded"},
		{"drop talk.mp4 talk.wav --to command --yes", 0, "nothing starts"},
		{"jobs command/ --since 1h", 0, "command/talk"},
		{"jobs --state rejected,failed --json", 0, ""},
		{"show command/talk", 0, "inbox/command/talk.wav, audio_url"},
		{"watch command/ --exit-status", 0, "command/talk: succeeded"},
		{"get command/talk .", 0, "is here already"},
		{"review command/talk --approve", 0, "approved by arn:aws:"},
		{"models --live", 0, "sync/react-1"},
		{"cancel command/talk", 1, "has already ended"},
		{"redrive command/talk", 1, "has not failed"},
		{"show command/none", 1, "there is no job named command/none"},
		{"jobs --stack gone", 1, "there is no stack gone"},
	} {
		fmt.Println("lipdrop", tt.args)
		cmd := exec.CommandContext(ctx, program, strings.Fields(tt.args)...)
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		fmt.Print(string(output))
		if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
			return err
		}
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(output), tt.want) {
			return fmt.Errorf("lipdrop %s: exit code %d, want %d and %q", tt.args, code, tt.code, tt.want)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "command", "talk.mp4"))
	if err == nil && string(got) != t.clip {
		err = errors.New("the file that the command fetched is not the output")
	}
	return err
}

// succeeds drops files, which are given as alternating keys and contents. Then it waits
// until the job of a name has succeeded with the clip as its output.
func (t *trial) succeeds(ctx context.Context, name string, files ...string) error {
	for i := 0; i < len(files); i += 2 {
		if err := t.drop(ctx, files[i], files[i+1]); err != nil {
			return err
		}
	}
	st, err := t.waitFor(ctx, ledger.StatusKey(name), func(st ledger.Status) bool { return st.State.Ended() || st.State == ledger.Rejected })
	if err != nil {
		return err
	}
	if st.State != ledger.Succeeded || len(st.Outputs) != 1 {
		return fmt.Errorf("%s is %s (%s): %s", name, st.State, st.Code, st.Reason)
	}
	body, err := t.read(ctx, st.Outputs[0])
	if err != nil {
		return err
	}
	if string(body) != t.clip {
		return fmt.Errorf("%s is not what RunComfy served", st.Outputs[0])
	}
	if _, err := t.read(ctx, ledger.OutputPrefix(name, st.Take)+"result.json"); err != nil {
		return err
	}
	fmt.Printf("%s: %s, %s\n", name, st.State, st.Outputs[0])
	return nil
}

func (t *trial) drop(ctx context.Context, key, body string) error {
	_, err := t.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &t.bucket, Key: &key, Body: strings.NewReader(body)})
	return err
}

// waitFor waits until wanted returns true for the status at a key, and returns the status.
func (t *trial) waitFor(ctx context.Context, key string, wanted func(ledger.Status) bool) (ledger.Status, error) {
	var st ledger.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		body, err := t.read(ctx, key)
		if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
			continue
		}
		if err != nil {
			return st, err
		}
		st = ledger.Status{}
		if err := json.Unmarshal(body, &st); err != nil {
			return st, err
		}
		if wanted(st) {
			return st, nil
		}
	}
	return st, fmt.Errorf("%s is still %s (%s): %s", key, st.State, st.Code, st.Reason)
}

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
