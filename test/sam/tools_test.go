package sam

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// root is the folder of the project.
const root = "../.."

// samCLI runs the README's commands for the SAM CLI.
type samCLI struct {
	dir         string // a copy of the project, in which the commands run
	local       string // starts the local stack
	build       string
	invoke      map[string]string // by the function's logical id
	startLambda string
	env         []string
}

// findSAM copies the project and reads the commands from the README. If the SAM CLI, make or
// Docker is missing, it fails the test in CI, and skips the test elsewhere.
func findSAM(t *testing.T) *samCLI {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the test takes minutes")
	}
	missing := t.Skipf
	if os.Getenv("CI") != "" {
		missing = t.Fatalf
	}
	for _, program := range []string{"sam", "make"} {
		if _, err := exec.LookPath(program); err != nil {
			missing("the test needs the SAM CLI (pip install aws-sam-cli) and make: %v", err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "info").CombinedOutput(); err != nil {
		missing("the test needs Docker: docker info: %v: %s", err, bytes.TrimSpace(out))
	}
	c := &samCLI{dir: copyProject(t), invoke: map[string]string{}}
	for _, line := range readmeCommands(t) {
		switch call := regexp.MustCompile(`sam local invoke (\w+)`).FindStringSubmatch(line); {
		case call != nil:
			c.invoke[call[1]] = line
		case strings.Contains(line, "sam local start-lambda"):
			c.startLambda = line
		case strings.Contains(line, "sam build"):
			c.build = line
		case strings.Contains(line, "lipdrop local"):
			c.local = line
		}
	}
	c.env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "AWS_") })
	c.env = append(c.env, "SAM_CLI_TELEMETRY=0",
		// SAM asks AWS for the account number. These settings make the request fail at once; SAM works without the number.
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_STS=http://127.0.0.1:1", "AWS_MAX_ATTEMPTS=1")
	architecture := strings.ReplaceAll(runtime.GOARCH, "amd64", "x86_64")
	if exec.CommandContext(t.Context(), "docker", "image", "inspect", "public.ecr.aws/lambda/provided:al2023-"+architecture).Run() == nil {
		c.env = append(c.env, "SAM_SKIP_PULL_IMAGE=true")
	}
	return c
}

// readmeCommands returns the commands of the README's section about `sam local`.
func readmeCommands(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Run one function\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			if runtime.GOARCH == "arm64" {
				command = strings.ReplaceAll(command, "$(uname -m)", "arm64")
			}
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) != 7 {
		t.Fatalf("the README has %d commands to run one function, want 7: %q", len(commands), commands)
	}
	return commands
}

// copyProject copies the project, without the files that git ignores, to a new folder, so
// that the commands change neither what a user has built nor a user's local stack.
func copyProject(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // deleted from the disk, but not from git's index
		}
		text, readErr := os.ReadFile(from)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command returns a command that runs a shell command line in a process group of its own.
// When ctx ends, the group is interrupted, so that SAM can remove its containers.
func (c *samCLI) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// call invokes a function with an event and returns its response, which may be an error.
// If event is nil, call uses the event of the README's command.
func (c *samCLI) call(t *testing.T, function string, event []byte) []byte {
	t.Helper()
	line := c.invoke[function]
	if event != nil {
		path := filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(path, event, 0o600); err != nil {
			t.Fatal(err)
		}
		line = regexp.MustCompile(` -e \S+`).ReplaceAllLiteralString(line, " -e '"+path+"'")
	}
	var response, logs bytes.Buffer
	cmd := c.command(t.Context(), withCredentials(line))
	cmd.Stdout, cmd.Stderr = &response, &logs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s\n%s", line, err, response.Bytes(), logs.Bytes())
	}
	t.Logf("%s: %s", line, bytes.TrimSpace(response.Bytes()))
	return response.Bytes()
}

// succeed is like call, but the function must not return an error.
func (c *samCLI) succeed(t *testing.T, function string, event []byte) []byte {
	t.Helper()
	response := c.call(t, function, event)
	if bytes.Contains(response, []byte(`"errorType"`)) {
		t.Fatalf("%s returned %s", function, response)
	}
	return response
}

// withCredentials returns a command that reads the credentials first. Some of the README's
// commands do not, because they run in a shell that has read them.
func withCredentials(line string) string {
	const read = ". .lipdrop/credentials.sh && "
	return read + strings.TrimPrefix(line, read)
}

// background runs a command until the test ends. It returns the path of the file that
// receives the command's output.
func (c *samCLI) background(t *testing.T, line string) (output string) {
	t.Helper()
	cmd := c.command(t.Context(), line)
	logs, err := os.Create(filepath.Join(t.TempDir(), "output.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := cmd.Wait() // the end of t.Context() has interrupted the command
		_ = logs.Close()
		if t.Failed() {
			text, _ := os.ReadFile(logs.Name())
			t.Logf("%s ended: %v\n%s", line, err, text)
		}
	})
	return logs.Name()
}

// awaitText waits until a file contains a text.
func awaitText(t *testing.T, path, want string) {
	t.Helper()
	await(t, path+" to contain "+want, func() bool {
		text, _ := os.ReadFile(path)
		return strings.Contains(string(text), want)
	})
}

// serve runs `sam local start-lambda` on a port until the test ends.
func (c *samCLI) serve(t *testing.T, port string) {
	t.Helper()
	c.background(t, withCredentials(c.startLambda)+" --port "+port)
	await(t, "sam local start-lambda to listen", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// patience is how long a test waits for something that takes seconds on an idle machine.
const patience = 5 * time.Minute

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
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
