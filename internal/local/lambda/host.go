// Package lambda runs the programs of the functions as Lambda does. It serves the
// Runtime API on loopback. Each execution environment is a process, which handles
// one invocation at a time and has no environment variable of this process.
//
// Unlike Lambda, it does not freeze an environment between invocations, does not
// limit its memory, and gives it no session token, which the local S3 server would
// refuse.
package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Function is a function to run.
type Function struct {
	Name     string
	Program  string // path of its bootstrap
	Timeout  time.Duration
	MemoryMB int

	// Env are the variables and credentials of the function. They must not change
	// after the first invocation.
	Env map[string]string

	// Concurrency is the maximum number of environments at the same time. Further
	// invocations wait.
	Concurrency int

	// Log receives the output: one line with each Write.
	Log io.Writer
}

// Config is common to all functions.
type Config struct {
	Account string // 12 digits
	Region  string
}

// Host runs functions. Its methods are safe for concurrent use.
type Host struct {
	cfg       Config
	functions map[string]*function
	life      context.Context // done after Close
	end       context.CancelFunc

	mu      sync.Mutex     // locked by begin and Close
	running sync.WaitGroup // invocations and environments
}

// ErrClosed means that the host was closed before a function responded.
var ErrClosed = errors.New("the Lambda host is closed")

// New returns a host of functions, which start at their first invocation.
func New(cfg Config, functions ...Function) *Host {
	h := &Host{cfg: cfg, functions: map[string]*function{}}
	h.life, h.end = context.WithCancel(context.Background())
	for _, f := range functions {
		h.functions[f.Name] = &function{Function: f, host: h, log: &log{to: f.Log}, places: make(chan struct{}, f.Concurrency)}
	}
	return h
}

// ARN returns the ARN of a function.
func (h *Host) ARN(name string) string {
	return "arn:aws:lambda:" + h.cfg.Region + ":" + h.cfg.Account + ":function:" + name
}

// Invoke calls a function, by name or ARN, and returns its response, or how the
// function or its environment failed. If ctx ends first, Invoke returns the error of ctx and
// the function continues, as on AWS. If the host is closed first, err is ErrClosed. Any other
// err is why the function could not be started.
func (h *Host) Invoke(ctx context.Context, name string, payload []byte) (result []byte, failure *Error, err error) {
	f := h.functions[name[strings.LastIndexByte(name, ':')+1:]]
	if f == nil {
		return nil, nil, fmt.Errorf("no function %s", name)
	}
	select {
	case f.places <- struct{}{}:
	case <-h.life.Done():
		return nil, nil, ErrClosed
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	inv := &invocation{id: uuid.NewString(), payload: payload, done: make(chan outcome, 1)}
	if !h.begin(func() {
		defer func() { <-f.places }()
		f.run(inv)
	}) {
		return nil, nil, ErrClosed
	}
	select {
	case out := <-inv.done:
		return out.result, out.failure, out.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// begin starts a goroutine that Close waits for. It returns false if the host is closed.
func (h *Host) begin(run func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.Err() != nil {
		return false
	}
	h.running.Go(run)
	return true
}

// Close kills all environments. Invocations under way return ErrClosed.
func (h *Host) Close() {
	h.mu.Lock()
	h.end()
	h.mu.Unlock()
	h.running.Wait()
}

// invocation is one call of a function.
type invocation struct {
	id      string
	payload []byte
	done    chan outcome // has room for one
}

// outcome is how an invocation ended: one of the three fields is set.
type outcome struct {
	result  []byte
	failure *Error
	err     error
}

// function is a function and its environments.
type function struct {
	Function
	host   *Host
	log    *log
	places chan struct{} // has an element for each invocation under way

	mu   sync.Mutex
	idle []*environment
}

// run runs an invocation in an idle environment, or in a new one.
func (f *function) run(inv *invocation) {
	env, out := f.environment(inv.id)
	if env == nil {
		inv.done <- out
		return
	}
	out, again := env.invoke(inv)
	if again {
		f.mu.Lock()
		f.idle = append(f.idle, env)
		f.mu.Unlock()
	}
	inv.done <- out
}

// environment returns an environment that is ready, or how its start failed.
func (f *function) environment(requestID string) (*environment, outcome) {
	for {
		f.mu.Lock()
		last := len(f.idle) - 1
		if last < 0 {
			f.mu.Unlock()
			return f.start(requestID)
		}
		env := f.idle[last]
		f.idle = f.idle[:last]
		f.mu.Unlock()
		if env.alive() {
			return env, outcome{}
		}
	}
}

// Error is how an invocation failed: the body of a response of Invoke with the
// header X-Amz-Function-Error.
type Error struct {
	Type       string          `json:"errorType"`
	Message    string          `json:"errorMessage"`
	StackTrace json.RawMessage `json:"stackTrace,omitempty"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Payload returns the error as JSON.
func (e *Error) Payload() []byte {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // the stack trace was read from JSON
	}
	return text
}

// reported returns the error in a report of a runtime.
func reported(body []byte) *Error {
	var e Error
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" {
		return &Error{Type: "Runtime.Unknown", Message: string(body)}
	}
	return &e
}

func timedOut(requestID string, after time.Duration) *Error {
	return &Error{Type: "Sandbox.Timedout", Message: fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", requestID, after.Seconds())}
}

// exited returns the error of an environment whose process has ended.
func exited(requestID string, end error) *Error {
	how := "Runtime exited without providing a reason"
	if end != nil {
		how = "Runtime exited with error: " + end.Error()
	}
	return &Error{Type: "Runtime.ExitError", Message: fmt.Sprintf("RequestId: %s Error: %s", requestID, how)}
}
