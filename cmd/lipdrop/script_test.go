package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// In the scripts, the sync_mode of a job decides what happens to the job. A preset.json in the
// folder of the job sets the sync_mode.
const (
	modeQueues  = "silence" // the job is queued for an hour
	modeFails   = "remap"   // RunComfy's job fails
	modeHeld    = "bounce"  // RunComfy does not accept the job
	modeUnknown = "loop"    // RunComfy breaks the connection, so whether it accepted the job is unknown
)

// TestScripts runs the scripts in testdata/script over one local stack, or over a stack in
// an emulator of AWS (see scriptStack). No two scripts drop into the same folder.
//
// The scripts have these commands besides those of testscript:
//
//	exits CODE lipdrop ARG…        runs the command and compares its exit code
//	interrupts TEXT lipdrop ARG…   runs the command, interrupts it after it has printed TEXT, and
//	                               checks that the error says that one job continues
//	put FILE PATH                  uploads clip.mp4, voice.wav, or a file of the script, to inbox/PATH
//	await NAME STATE…              waits until the status of NAME has one of the states
//	matches SCHEMA                 compares each line of the last stdout with a schema of docs/
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a local stack")
	}
	fake, storage, setup := scriptStack(t)
	fake.Script = func(_ string, input map[string]any) runcomfytest.Script {
		switch input["sync_mode"] {
		case modeQueues:
			return runcomfytest.Script{Queue: time.Hour}
		case modeFails:
			return runcomfytest.Script{Fail: "no face was found"}
		}
		return runcomfytest.Script{}
	}
	fake.Fault = func(r *http.Request, body []byte) *runcomfytest.Fault {
		call, _ := runcomfytest.CallOf(r)
		switch {
		case call == runcomfytest.CallSubmit && bytes.Contains(body, []byte(modeHeld)):
			return &runcomfytest.Fault{Status: http.StatusTooManyRequests}
		case call == runcomfytest.CallSubmit && bytes.Contains(body, []byte(modeUnknown)):
			return &runcomfytest.Fault{Break: runcomfytest.Reset}
		}
		return nil
	}
	samples, err := filepath.Abs(samples)
	if err != nil {
		t.Fatal(err)
	}
	schemas := schemasOf(t, "../../docs/command.md", "../../docs/status.md")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Condition: func(condition string) (bool, error) {
			if condition != "local" { // local: the stack is not in an emulator of AWS
				return false, fmt.Errorf("there is no condition %s", condition)
			}
			return os.Getenv("LIPDROP_TEST_STACK") == "", nil
		},
		Setup: func(env *testscript.Env) error {
			for _, sample := range []string{"clip.mp4", "voice.wav"} {
				if err := os.Symlink(filepath.Join(samples, sample), filepath.Join(env.WorkDir, sample)); err != nil {
					return err
				}
			}
			err := setup(env)
			env.Values[environment] = env.Vars
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				code, err := 0, ts.Exec(args[1], args[2:]...)
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if strconv.Itoa(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			"interrupts": interrupt,
			"put": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(upload(t.Context(), storage, "inbox/"+args[1], strings.NewReader(ts.ReadFile(args[0])), nil))
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				_, err := awaitState(storage, args[0], args[1:]...)
				ts.Check(err)
			},
			"matches": func(ts *testscript.TestScript, _ bool, args []string) {
				out := strings.TrimSuffix(ts.ReadFile("stdout"), "\n")
				if schemas[args[0]] == nil || out == "" {
					ts.Fatalf("there is no schema %s, or the command printed nothing", args[0])
				}
				for line := range strings.SplitSeq(out, "\n") {
					ts.Check(fits(schemas[args[0]], line))
				}
			},
		},
	})
}

// scriptStack returns the fake RunComfy and the bucket of the stack that the scripts use, and
// a function that sets up a script so that the command finds this stack. The stack is a local
// one, or the one that LIPDROP_TEST_STACK names and AWS_ENDPOINT_URL serves. The stack in
// the emulator calls RunComfy at the loopback address LIPDROP_TEST_RUNCOMFY, where the fake
// listens.
func scriptStack(t *testing.T) (*runcomfytest.Server, *bucket.Bucket, func(*testscript.Env) error) {
	name := os.Getenv("LIPDROP_TEST_STACK")
	if name == "" {
		dir := t.TempDir()
		stack := startStack(t, local.Options{Dir: dir})
		return stack.Fake(), stack.bucket, func(env *testscript.Env) error {
			for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
				env.Setenv(name, filepath.Join(env.WorkDir, "none"))
			}
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return os.Symlink(dir, filepath.Join(env.WorkDir, ".lipdrop"))
		}
	}
	c, err := client.Target{Stack: name}.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Getenv("LIPDROP_TEST_RUNCOMFY"))
	if err != nil {
		t.Fatal(err)
	}
	fake := &runcomfytest.Server{}
	server := &http.Server{Handler: fake, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return fake, c.Bucket, func(env *testscript.Env) error {
		env.Setenv("LIPDROP_STACK", name)
		for _, variable := range os.Environ() {
			if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
				env.Setenv(name, value)
			}
		}
		return nil
	}
}

// environment is the key under which Setup stores a script's environment variables for interrupt.
const environment = "environment"

// interrupt is the command "interrupts" of the scripts.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = ts.Value(environment).([]string)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), args[0]) {
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	exit, _ := errors.AsType[*exec.ExitError](cmd.Wait())
	if exit == nil || exit.ExitCode() != exitInterrupted || !strings.Contains(errs.String(), "1 job continues") {
		ts.Fatalf("%v, stderr %q; want exit code %d and %q", exit, errs.String(), exitInterrupted, "1 job continues")
	}
}

// awaitState waits until a status has one of the states. The name is the name of a job, or
// the path of a file that has an answer file.
func awaitState[S ~string](b *bucket.Bucket, name string, states ...S) (ledger.Status, error) {
	c := &client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b}}
	var last client.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		last, err = c.Status(context.Background(), name)
		if _, none := errors.AsType[*client.NoJobError](err); err != nil && !none {
			return last.Status, err
		}
		if slices.Contains(states, S(last.State)) {
			return last.Status, nil
		}
	}
	return last.Status, fmt.Errorf("%s is still %s, want %v", name, client.Describe(last.Status), states)
}

// schemasOf returns the JSON schemas in Markdown documents, by name. Each schema is a code block
// that begins with "json schema NAME". Without NAME, the schema has the name of the document.
func schemasOf(t *testing.T, documents ...string) map[string]*jsonschema.Schema {
	t.Helper()
	block := regexp.MustCompile("(?s)```json schema ?([a-z]*)\n(.*?)```")
	compiler := jsonschema.NewCompiler()
	var names []string
	for _, document := range documents {
		for _, found := range block.FindAllStringSubmatch(contentOf(t, document), -1) {
			name := found[1]
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(document), ".md")
			}
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(found[2]))
			if err == nil {
				err = compiler.AddResource("urn:"+name, doc)
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", document, name, err)
			}
			names = append(names, name)
		}
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range names {
		schema, err := compiler.Compile("urn:" + name)
		if err != nil {
			t.Fatal(err)
		}
		schemas[name] = schema
	}
	return schemas
}

// fits returns an error unless a line is JSON that fits a schema.
func fits(schema *jsonschema.Schema, line string) error {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err == nil {
		err = schema.Validate(doc)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}
