// Package lambda runs the functions' real programs as Lambda does: the custom
// runtime's API on loopback, an execution environment a process, one invocation
// at a time in each, the environment variables of Lambda and none of this
// process, and the errors that Lambda reports.
//
// What Lambda does and this does not: freeze an environment between
// invocations, limit its memory, and give it a session token, which the local
// S3 server refuses.
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

	// Env are the variables of the function itself, credentials among them;
	// they may not change once it is invoked.
	Env map[string]string

	// Concurrency is how many environments it may have at once. Further
	// invocations wait, which on AWS would be throttled at a thousand.
	Concurrency int
}

// Config is what all functions share. Every field but Log is required.
type Config struct {
	Account string // 12 digits
	Region  string
	LogDir  string    // gets a file <function>.log of each function's output
	Log     io.Writer // when set, gets every line of them too, after the function's name
}

// Host runs functions. Its methods are safe for concurrent use.
type Host struct {
	cfg       Config
	functions map[string]*function
	life      context.Context // done after Close
	end       context.CancelFunc

	mu      sync.Mutex     // held to begin and to end
	running sync.WaitGroup // invocations and environments
}

// ErrClosed says that the host was closed before a function answered.
var ErrClosed = errors.New("the Lambda host is closed")

// New returns a host of functions; they start when they are invoked.
func New(cfg Config, functions ...Function) (*Host, error) {
	h := &Host{cfg: cfg, functions: map[string]*function{}}
	h.life, h.end = context.WithCancel(context.Background())
	for _, f := range functions {
		log, err := openLog(cfg, f.Name)
		if err != nil {
			h.Close()
			return nil, err
		}
		h.functions[f.Name] = &function{Function: f, host: h, log: log, places: make(chan struct{}, f.Concurrency)}
	}
	return h, nil
}

// ARN returns the ARN of a function.
func (h *Host) ARN(name string) string {
	return "arn:aws:lambda:" + h.cfg.Region + ":" + h.cfg.Account + ":function:" + name
}

// Invoke calls a function, by name or ARN, and returns its answer, or the
// error that the function or its environment ended with. When ctx is done it
// returns, and the function goes on, as on AWS. Otherwise err says why the
// function could not be started.
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

// begin runs what Close waits for, unless it was called already.
func (h *Host) begin(run func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.Err() != nil {
		return false
	}
	h.running.Go(run)
	return true
}

// Close kills every environment. Invocations under way return ErrClosed.
func (h *Host) Close() {
	h.mu.Lock()
	h.end()
	h.mu.Unlock()
	h.running.Wait()
	for _, f := range h.functions {
		f.log.close()
	}
}

// invocation is one call of a function.
type invocation struct {
	id      string
	payload []byte
	done    chan outcome // takes one
}

// outcome is how an invocation ended: one of three.
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
	places chan struct{} // one element for each invocation under way

	mu   sync.Mutex
	idle []*environment
}

// run runs an invocation in an environment that waits for one, or in a new one.
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

// environment returns an environment that is ready, or how starting one failed.
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

// Error is how an invocation failed: what Lambda's Invoke answers with
// X-Amz-Function-Error: Unhandled.
type Error struct {
	Type       string          `json:"errorType"`
	Message    string          `json:"errorMessage"`
	StackTrace json.RawMessage `json:"stackTrace,omitempty"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Payload returns the error as Invoke's body has it.
func (e *Error) Payload() []byte {
	text, err := json.Marshal(e)
	if err != nil { // a stack trace is JSON as it was read
		panic(err)
	}
	return text
}

// reported returns the error in a runtime's report.
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

// exited is the error of an environment whose process ended, with the error of
// its end.
func exited(requestID string, end error) *Error {
	how := "Runtime exited without providing a reason"
	if end != nil {
		how = "Runtime exited with error: " + end.Error()
	}
	return &Error{Type: "Runtime.ExitError", Message: fmt.Sprintf("RequestId: %s Error: %s", requestID, how)}
}
