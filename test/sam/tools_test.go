package sam

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/local"
)

// root is the folder of the project.
const root = "../.."

// Lambda's base image, of which the SAM CLI makes its own.
const baseImage = "public.ecr.aws/lambda/provided:al2023-"

// tools are the SAM CLI and what it is told.
type tools struct {
	sam       string
	parameter string // of the template, for this machine's processor
	template  string // what `sam build` made
	local     []string
}

// find finds the SAM CLI and Docker. Where one of them is missing the test is
// skipped; in CI that is a failure.
func find(t *testing.T) *tools {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it takes a minute")
	}
	missing := t.Skipf
	if os.Getenv("CI") != "" {
		missing = t.Fatalf
	}
	sam, err := exec.LookPath("sam")
	if err != nil {
		missing("the test needs the SAM CLI (pip install aws-sam-cli): %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "info").CombinedOutput(); err != nil {
		missing("the test needs Docker: docker info: %v: %s", err, bytes.TrimSpace(out))
	}
	if _, err := exec.LookPath("make"); err != nil {
		missing("the test needs make, by which `sam build` builds the functions: %v", err)
	}
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	found := &tools{sam: sam, parameter: "Architecture=" + architecture}
	found.local = []string{"--docker-network", "host", "--add-host", local.ContainerHost + ":host-gateway", "--parameter-overrides", found.parameter}
	if exec.CommandContext(t.Context(), "docker", "image", "inspect", baseImage+architecture).Run() == nil {
		found.local = append(found.local, "--skip-pull-image")
	}
	return found
}

// command returns a command of the SAM CLI that is interrupted when the test
// ends, so that it removes its containers. Functions get the secret key.
func (f *tools) command(ctx context.Context, secret string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, f.sam, args...)
	cmd.Dir = root
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "SAM_CLI_TELEMETRY=0", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID="+local.AccessKey, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_DEFAULT_REGION="+local.Region,
		// It would ask AWS for the account's number, and does without it.
		"AWS_ENDPOINT_URL_STS=http://127.0.0.1:1", "AWS_MAX_ATTEMPTS=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// build builds the functions for this machine's processor, apart from what a
// user has built to deploy it.
func (f *tools) build(t *testing.T) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "build")
	out, err := f.command(t.Context(), "", "build", "--build-dir", dir, "--parameter-overrides", f.parameter).CombinedOutput()
	if err != nil {
		t.Fatalf("sam build: %v\n%s", err, out)
	}
	f.template = filepath.Join(dir, "template.yaml")
}

// invoke calls a function by its logical id with an event and returns its
// answer, which must be no error.
func (f *tools) invoke(t *testing.T, s *stack, function string, event []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(path, event, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"local", "invoke", function, "-t", f.template, "-e", path, "--env-vars", s.envVars}, f.local...)
	var answer, logs bytes.Buffer
	cmd := f.command(t.Context(), s.Keys().SecretKey, args...)
	cmd.Stdout, cmd.Stderr = &answer, &logs
	err := cmd.Run()
	if err != nil || bytes.Contains(answer.Bytes(), []byte(`"errorType"`)) {
		t.Fatalf("sam local invoke %s: %v: %s\n%s", function, err, answer.Bytes(), logs.Bytes())
	}
	t.Logf("sam local invoke %s: %s", function, bytes.TrimSpace(answer.Bytes()))
	return answer.Bytes()
}

// startLambda serves the functions at an address until the test ends.
func (f *tools) startLambda(t *testing.T, s *stack, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"local", "start-lambda", "-t", f.template, "--env-vars", s.envVars, "--host", host, "--port", port}, f.local...)
	// The test's own context ends before its cleanup does.
	ctx, interrupt := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := f.command(ctx, s.Keys().SecretKey, args...)
	logs, err := os.Create(filepath.Join(t.TempDir(), "start-lambda.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		interrupt()
		err := <-ended
		_ = logs.Close()
		if text, _ := os.ReadFile(logs.Name()); t.Failed() {
			t.Logf("sam local start-lambda ended: %v\n%s", err, text)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("sam local start-lambda ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("sam local start-lambda does not listen: %v", errors.Unwrap(err))
		}
	}
}

func sampleEvent(t *testing.T, path string) []byte {
	t.Helper()
	event, err := os.ReadFile(filepath.Join(root, "events", path))
	if err != nil {
		t.Fatal(err)
	}
	return event
}
