package lambda

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/process"
)

const (
	// A process must ask for work within initTime plus the timeout of its function.
	initTime = 10 * time.Second
	// maxResponse is the largest response of a function:
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxResponse = 6 << 20
	// apiVersion begins the paths of the Runtime API:
	// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
	apiVersion = "/2018-06-01/runtime"
)

// environment is a process that runs one function, and the Runtime API for that
// process.
type environment struct {
	function *function
	child    *process.Child
	work     chan *invocation // invoke sends an invocation; the method next passes it to the process
	used     bool             // the process has received an invocation

	current atomic.Pointer[invocation] // the last invocation that the process received
}

func (f *function) start() (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	env := &environment{function: f, work: make(chan *invocation)}
	secret := rand.Text() // in the API's path, so that other programs cannot ask for work
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiVersion+"/invocation/next", env.next)
	mux.HandleFunc("POST "+apiVersion+"/invocation/{id}/response", env.acceptOutcome(func(body []byte) outcome { return outcome{result: body} }))
	mux.HandleFunc("POST "+apiVersion+"/invocation/{id}/error", env.acceptOutcome(func(body []byte) outcome { return outcome{err: reportedError(body)} }))
	api := &http.Server{Handler: access.Loopback().Handler(access.Below(secret, mux))}

	output, lines := io.Pipe()
	cmd := exec.Command(f.Program)
	cmd.Dir = filepath.Dir(f.Program)
	cmd.Env = f.variables(listener.Addr().String() + "/" + secret)
	cmd.Stdout, cmd.Stderr = lines, lines
	if env.child, err = process.Start(cmd); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("start function %s: %w", f.Name, err)
	}
	f.host.running.Go(func() { f.copyLines(output) })
	f.host.running.Go(func() { _ = api.Serve(listener) }) // until api.Close
	f.host.running.Go(func() {
		select {
		case <-env.child.Done():
		case <-f.host.life.Done():
			env.child.Kill()
		}
		_ = lines.Close()
		// If the API were closed before the process ended, the process would log that its request
		// for work failed.
		_ = api.Close()
	})
	return env, nil
}

// copyLines logs the output of a process line by line, so that the lines of two environments
// do not mix.
func (f *function) copyLines(output io.Reader) {
	lines := bufio.NewReaderSize(output, 256<<10) // a longer line is divided
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		f.log.Printf("%s", line)
	}
}

// invoke runs an invocation and returns its outcome. It returns false if a used process ended
// before it received inv. Then another environment must run inv.
func (e *environment) invoke(inv *invocation) (out outcome, ran bool) {
	f := e.function
	select {
	case e.work <- inv:
	case <-e.child.Done():
		if e.used {
			return outcome{}, false
		}
		return e.exited(inv), true
	case <-time.After(initTime + f.Timeout):
		return e.timedOut(inv, initTime+f.Timeout), true
	}
	e.used = true
	select {
	case out = <-inv.response:
		f.mu.Lock()
		f.idle = append(f.idle, e)
		f.mu.Unlock()
	case <-e.child.Done():
		select {
		case out = <-inv.response:
		default:
			out = e.exited(inv)
		}
	case <-time.After(f.Timeout):
		out = e.timedOut(inv, f.Timeout)
	}
	return out, true
}

// exited returns the outcome of an invocation during which the process ended.
func (e *environment) exited(inv *invocation) outcome {
	if e.function.host.life.Err() != nil {
		return outcome{err: ErrClosed}
	}
	how := "Runtime exited without providing a reason"
	if err := e.child.Err(); err != nil {
		how = "Runtime exited with error: " + err.Error()
	}
	return e.report(inv, "Runtime.ExitError", how)
}

// timedOut kills the process and returns the outcome of the invocation.
func (e *environment) timedOut(inv *invocation, after time.Duration) outcome {
	e.child.Kill()
	return e.report(inv, "Sandbox.Timedout", fmt.Sprintf("Task timed out after %.2f seconds", after.Seconds()))
}

// report logs a failure that the function itself has not logged, and returns it as an
// outcome.
func (e *environment) report(inv *invocation, kind, how string) outcome {
	failure := &Error{Type: kind, Message: fmt.Sprintf("RequestId: %s Error: %s", inv.id, how)}
	e.function.log.Printf("%s", failure.Payload())
	return outcome{err: failure}
}

// next handles a request for work. It responds with an invocation as soon as there is one.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	select {
	case inv := <-e.work:
		e.current.Store(inv)
		head := w.Header()
		head.Set("Content-Type", "application/json")
		head.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		head.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(e.function.Timeout).UnixMilli(), 10))
		head.Set("Lambda-Runtime-Invoked-Function-Arn", e.function.ARN)
		_, _ = w.Write(inv.payload) // if Write fails, the process has ended, and invoke notices the end
	case <-r.Context().Done():
	}
}

// acceptOutcome returns a handler that passes the outcome of the current invocation to invoke. If the
// handler refuses a response, for example because the response is too large, the runtime ends the
// process.
func (e *environment) acceptOutcome(read func(body []byte) outcome) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if inv := e.current.Load(); inv != nil && r.PathValue("id") == inv.id {
			select {
			case inv.response <- read(body):
				w.WriteHeader(http.StatusAccepted)
				return
			default: // the process has already responded
			}
		}
		http.Error(w, `{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}`, http.StatusBadRequest)
	}
}

// variables returns the environment variables of a process: those of Lambda that
// the runtime and the SDK read, and those of the function.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
func (f *function) variables(api string) []string {
	variables := []string{
		"AWS_REGION=" + f.host.region,
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"TZ=:UTC",
	}
	for name, value := range f.Env {
		variables = append(variables, name+"="+value)
	}
	return variables
}
