package world

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/states"
)

// Call is one call that a function makes to a service.
type Call struct {
	// Invocation is the number of the invocation that makes the call, from 1.
	Invocation int
	// Function is submit, poll, archive or cancel.
	Function string

	// Service is s3, states, sqs, events, secretsmanager, runcomfy or output. It is
	// lambda for the invocation itself.
	Service string
	// Op is an operation of the service, such as PutObject. For runcomfy it is a
	// runcomfytest.Call.
	Op string
	// Key is what the call is about, such as the key of an object, a prefix, the ARN of an
	// execution or a path of a URL. It may be empty.
	Key string

	// Deadline is when Lambda ends the function.
	Deadline time.Time
}

func (c Call) String() string { return c.Function + ": " + c.Service + " " + c.Op + " " + c.Key }

// Crash is the panic of a function that dies between two calls.
type Crash struct {
	// Name is the error that Lambda reports: Runtime.ExitError or
	// Sandbox.Timedout. Defaults to Runtime.ExitError.
	Name string
}

// pool holds the idle processes of a function. As in Lambda, invocations at the same time
// have different processes. A later invocation reuses a process and the API token that the process
// has read. It does not reuse a process that died in its function, or that Restart ended.
type pool[H any] struct {
	start func() H

	mu      sync.Mutex
	idle    []H
	started int
}

func (p *pool[H]) take() H {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		h := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return h
	}
	p.started++
	return p.start()
}

func (p *pool[H]) leave(h H) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, h)
}

// invocation is the context of one invocation. Its deadline is a time of the world's clock.
type invocation struct {
	context.Context
	number   int
	function string
	deadline time.Time
}

func (in invocation) Deadline() (time.Time, bool) { return in.deadline, true }

type invocationKey struct{}

func (in invocation) Value(key any) any {
	if key == (invocationKey{}) {
		return in
	}
	return in.Context.Value(key)
}

// callOf returns the Call that the hooks receive.
func callOf(ctx context.Context, service, op, key string) Call {
	in, _ := ctx.Value(invocationKey{}).(invocation)
	return Call{in.number, in.function, service, op, key, in.deadline}
}

// InvocationOf returns the number of the invocation that sent a request to
// RunComfy.
func InvocationOf(r *http.Request) int {
	in, _ := r.Context().Value(invocationKey{}).(invocation)
	return in.number
}

func (w *World) callBefore(c Call) error {
	if w.S3Latency > 0 && c.Service == "s3" {
		w.now = w.now.Add(w.S3Latency)
	}
	if w.now.After(c.Deadline) {
		if w.TimedOut != nil {
			w.TimedOut(c)
		}
		panic(Crash{"Sandbox.Timedout"})
	}
	if w.Before == nil {
		return nil
	}
	return w.Before(c)
}

func (w *World) callAfter(c Call) error {
	if w.After == nil {
		return nil
	}
	return w.After(c)
}

// once makes one call to a service. It calls Before, do and After, and stops at the first error.
func once[Out any](ctx context.Context, w *World, service, op, key string, do func() (Out, error)) (Out, error) {
	var none Out
	c := callOf(ctx, service, op, key)
	if err := w.callBefore(c); err != nil {
		return none, err
	}
	out, err := do()
	if err == nil {
		err = w.callAfter(c)
	}
	if err != nil {
		return none, err
	}
	return out, nil
}

// invoke runs a function as Lambda does. The input and the output are JSON. A panic with
// Crash, and an error of the function, become a *states.TaskError.
func invoke[H, In, Out any](parent context.Context, w *World, p *pool[H], function string, handle func(H, context.Context, In) (Out, error), payload []byte) (result []byte, err error) {
	w.mu.Lock()
	w.invocations++
	ctx := invocation{parent, w.invocations, function, w.now.Add(w.template.functions[function].Timeout)}
	w.mu.Unlock()
	defer func() {
		if died := recover(); died != nil {
			crash, ok := died.(Crash)
			if !ok {
				panic(died)
			}
			name := cmp.Or(crash.Name, "Runtime.ExitError")
			result, err = nil, &states.TaskError{Name: name, Cause: fmt.Sprintf(`{"errorMessage":"RequestId: 1 Error: %s","errorType":%q}`, name, name)}
		}
	}()
	call := callOf(ctx, "lambda", "Invoke", "")
	if err := w.callBefore(call); err != nil {
		return nil, err
	}
	var in In
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	process := p.take()
	out, err := handle(process, ctx, in)
	p.leave(process)
	if err != nil {
		w.mu.Lock()
		w.Errors = append(w.Errors, err.Error())
		w.mu.Unlock()
		return nil, taskError(err)
	}
	if err := w.callAfter(call); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// taskError returns the error that Lambda reports for a function's error.
func taskError(err error) *states.TaskError {
	name := fmt.Sprintf("%T", err)
	name = name[strings.LastIndexByte(name, '.')+1:]
	return &states.TaskError{Name: name, Cause: string(bucket.JSON(map[string]string{"errorMessage": err.Error(), "errorType": name}, ""))}
}

// ErrLambda is an error of Lambda itself, for Before and After. The state machine
// retries the function.
var ErrLambda error = &states.TaskError{Name: "Lambda.TooManyRequestsException", Cause: "Rate Exceeded."}

// ErrThrottledStates is the throttling error of Step Functions, for Before.
var ErrThrottledStates = errors.New("ThrottlingException: Rate exceeded")

// ErrBroken is the error of a broken connection, for Before and After.
var ErrBroken = errors.New("the connection broke")

// Restart ends all idle processes, as a change of the functions' configuration
// does.
func (w *World) Restart() {
	w.submit.idle, w.poll.idle, w.archive.idle, w.cancel.idle = nil, nil, nil, nil
}
