// Package lambda runs the programs of the functions as Lambda does. It serves the
// Runtime API on loopback. Each execution environment is a process that handles
// one invocation at a time and inherits no environment variable.
//
// Unlike Lambda, the package ends an invocation as soon as the process responds. The package
// does not freeze an environment between invocations, and does not limit the memory of an
// environment. An environment has no session token, because the local S3 server would refuse
// the token.
package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// Function is a function to run.
type Function struct {
	Name     string
	ARN      string
	Program  string // path of its bootstrap
	Timeout  time.Duration
	MemoryMB int

	// Env are the variables and credentials of the function. They must not change
	// after the first invocation.
	Env map[string]string

	// Concurrency is the maximum number of environments at the same time. Further
	// invocations wait.
	Concurrency int

	// Log receives the output of the function, and the failures of its environments, one line
	// with each Write.
	Log io.Writer
}

// Host runs functions. Its methods are safe for concurrent use.
type Host struct {
	region    string
	functions map[string]*function
	life      context.Context // done after Close
	end       context.CancelFunc

	mu      sync.Mutex     // orders begin and Close: no invocation begins after Close
	running sync.WaitGroup // invocations and environments
}

// ErrClosed means that the host was closed before a function responded.
var ErrClosed = errors.New("the Lambda host is closed")

// New returns a host of functions. Each function starts at its first invocation.
func New(region string, functions ...Function) *Host {
	h := &Host{region: region, functions: map[string]*function{}}
	h.life, h.end = context.WithCancel(context.Background())
	for _, f := range functions {
		h.functions[f.Name] = &function{Function: f, host: h, log: log.New(f.Log, "", 0), slots: make(chan struct{}, f.Concurrency)}
	}
	return h
}

// Invoke calls a function, by name or ARN, and returns its response. A failure of the
// function or its environment is an *Error. If ctx is done first, Invoke returns the error of
// ctx. As on AWS, a running function is not stopped. If the host is closed first, the error
// is ErrClosed. Any other error is the reason why the function was not started.
func (h *Host) Invoke(ctx context.Context, name string, payload []byte) ([]byte, error) {
	f := h.functions[name[strings.LastIndexByte(name, ':')+1:]]
	if f == nil {
		return nil, fmt.Errorf("no function %s", name)
	}
	select {
	case f.slots <- struct{}{}:
	case <-h.life.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ended := make(chan outcome, 1)
	if !h.begin(func() {
		defer func() { <-f.slots }()
		ended <- f.run(&invocation{id: uuid.NewString(), payload: payload, response: make(chan outcome, 1)})
	}) {
		return nil, ErrClosed
	}
	select {
	case out := <-ended:
		return out.result, out.err
	case <-ctx.Done():
		return nil, ctx.Err()
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

type invocation struct {
	id       string
	payload  []byte
	response chan outcome // receives what the process responds; has room for one
}

type outcome struct {
	result []byte
	err    error
}

type function struct {
	Function
	host  *Host
	log   *log.Logger
	slots chan struct{} // has an element for each invocation under way

	mu   sync.Mutex
	idle []*environment
}

// run runs an invocation in an idle environment that has not ended, or in a new one.
func (f *function) run(inv *invocation) outcome {
	for {
		env, err := f.takeEnvironment()
		if err != nil {
			return outcome{err: err}
		}
		if out, ran := env.invoke(inv); ran {
			return out
		}
	}
}

func (f *function) takeEnvironment() (*environment, error) {
	f.mu.Lock()
	if last := len(f.idle) - 1; last >= 0 {
		env := f.idle[last]
		f.idle = f.idle[:last]
		f.mu.Unlock()
		return env, nil
	}
	f.mu.Unlock()
	return f.start()
}

// Error is how an invocation failed. Its JSON is the body that Lambda's Invoke API returns with
// the header X-Amz-Function-Error.
type Error struct {
	Type       string          `json:"errorType"`
	Message    string          `json:"errorMessage"`
	StackTrace json.RawMessage `json:"stackTrace,omitempty"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Payload returns the error as JSON.
func (e *Error) Payload() []byte { return bytes.TrimSpace(bucket.JSON(e, "")) }

// reportedError returns the error that a runtime has reported in body.
func reportedError(body []byte) *Error {
	var e Error
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" {
		return &Error{Type: "Runtime.Unknown", Message: string(body)}
	}
	return &e
}
