package lambda

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/process"
)

const (
	// initTime is how long a new environment may take until it asks for work, in addition
	// to the timeout of the function.
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
	api      *http.Server
	waits    chan struct{}    // next sends an element when the process asks for work
	work     chan *invocation // next receives the work for the process

	mu      sync.Mutex
	current string   // id of the current or last invocation
	last    *outcome // outcome of that invocation, nil before it has one
}

// start starts an environment and waits until it asks for work.
func (f *function) start(requestID string) (*environment, outcome) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, outcome{err: err}
	}
	env := &environment{function: f, waits: make(chan struct{}), work: make(chan *invocation)}
	secret := rand.Text() // in the API's path, because whoever can ask for work receives events
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiVersion+"/invocation/next", env.next)
	mux.HandleFunc("POST "+apiVersion+"/invocation/{id}/response", env.response)
	mux.HandleFunc("POST "+apiVersion+"/invocation/{id}/error", env.failed)
	// A request for work stays open until the process has ended. If the request ended first, the
	// process would get an empty response and treat it as an invocation.
	life, end := context.WithCancel(context.Background())
	env.api = &http.Server{Handler: access.Loopback().Handler(access.Below(secret, mux)), BaseContext: func(net.Listener) context.Context { return life }}

	output := &lines{log: f.log}
	cmd := exec.Command(f.Program)
	cmd.Dir = filepath.Dir(f.Program)
	cmd.Env = f.variables(listener.Addr().String() + "/" + secret)
	cmd.Stdout, cmd.Stderr = output, output
	if env.child, err = process.Start(cmd); err != nil {
		end()
		_ = listener.Close()
		return nil, outcome{err: fmt.Errorf("start function %s: %w", f.Name, err)}
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = env.api.Serve(listener) // until its Close
	}()
	f.host.running.Go(func() {
		select {
		case <-env.child.Done():
		case <-f.host.life.Done():
			env.child.Kill()
		}
		output.flush()
		end()
		_ = env.api.Close()
		<-served
	})

	late := time.NewTimer(initTime + f.Timeout)
	defer late.Stop()
	select {
	case <-env.waits:
		return env, outcome{}
	case <-env.child.Done():
		return nil, env.ended(requestID)
	case <-late.C:
		env.child.Kill()
		return nil, env.report(timedOut(requestID, initTime+f.Timeout))
	}
}

// invoke runs an invocation. It returns the outcome, and whether the environment
// can be used again. As on Lambda, an invocation ends when the process asks for
// more work or ends, not when it responds.
func (e *environment) invoke(inv *invocation) (out outcome, again bool) {
	e.mu.Lock()
	e.current, e.last = inv.id, nil
	e.mu.Unlock()
	late := time.NewTimer(e.function.Timeout)
	defer late.Stop()
	for work := e.work; ; {
		select {
		case work <- inv:
			work = nil // once
		case <-e.waits:
			if work != nil { // it asked again after its first connection broke
				continue
			}
			if out := e.lastOutcome(); out != nil {
				return *out, true
			}
			e.child.Kill()
			return e.report(exited(inv.id, errors.New("it asked for more work before it responded"))), false
		case <-e.child.Done():
			if out := e.lastOutcome(); out != nil {
				return *out, false
			}
			return e.ended(inv.id), false
		case <-late.C:
			e.child.Kill()
			if out := e.lastOutcome(); out != nil {
				return *out, false
			}
			return e.report(timedOut(inv.id, e.function.Timeout)), false
		}
	}
}

// lastOutcome returns the outcome of the current invocation, or nil.
func (e *environment) lastOutcome() *outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// alive reports whether the process runs.
func (e *environment) alive() bool {
	select {
	case <-e.child.Done():
		return false
	default:
		return true
	}
}

// ended returns the outcome of an invocation during which the process ended.
func (e *environment) ended(requestID string) outcome {
	if e.function.host.life.Err() != nil {
		return outcome{err: ErrClosed}
	}
	return e.report(exited(requestID, e.child.Err()))
}

// report logs a failure that the function itself has not logged, and returns it as an
// outcome.
func (e *environment) report(failure *Error) outcome {
	e.function.log.line(failure.Payload())
	return outcome{failure: failure}
}

// next serves the next invocation. The first request means that the environment is
// ready. Each further request means that the last invocation has ended.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	select {
	case e.waits <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	var inv *invocation
	select {
	case inv = <-e.work:
	case <-r.Context().Done():
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	head.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(e.function.Timeout).UnixMilli(), 10))
	head.Set("Lambda-Runtime-Invoked-Function-Arn", e.function.host.ARN(e.function.Name))
	_, _ = w.Write(inv.payload) // if it fails, the process has ended, and invoke notices that
}

func (e *environment) response(w http.ResponseWriter, r *http.Request) {
	e.accept(w, r, func(body []byte) outcome { return outcome{result: body} })
}

func (e *environment) failed(w http.ResponseWriter, r *http.Request) {
	e.accept(w, r, func(body []byte) outcome { return outcome{failure: reported(body)} })
}

// accept keeps the outcome of the current invocation. The runtime ends if its
// response is refused, for example because it is too large.
func (e *environment) accept(w http.ResponseWriter, r *http.Request, read func(body []byte) outcome) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	out := read(body)
	e.mu.Lock()
	expected := e.last == nil && r.PathValue("id") == e.current
	if expected {
		e.last = &out
	}
	e.mu.Unlock()
	if !expected {
		http.Error(w, `{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}`, http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// variables returns the environment of a process: the variables of Lambda that
// the runtime and the SDK read, and those of the function.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
func (f *function) variables(api string) []string {
	variables := []string{
		"AWS_REGION=" + f.host.cfg.Region,
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
