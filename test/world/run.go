package world

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Run lets time pass until nothing is left to do but the hourly sweep, or for
// a time at the most. It reports whether nothing is left.
func (w *World) Run(most time.Duration) bool {
	end := w.now.Add(most)
	for {
		at, step := w.next()
		if step == nil {
			return true
		}
		if at.After(end) {
			w.now = end
			return false
		}
		if at.After(w.now) {
			w.now = at
		}
		if w.now.After(w.nextSweep) {
			w.nextSweep = w.now.Add(time.Hour)
			w.Sweep()
		}
		step()
	}
}

// next returns what happens next, and when.
func (w *World) next() (time.Time, func()) {
	var at time.Time
	var step func()
	earlier := func(t time.Time, f func()) {
		if step == nil || t.Before(at) {
			at, step = t, f
		}
	}
	for _, m := range w.messages {
		earlier(m.visibleAt, func() { w.deliver(m) })
	}
	for _, e := range w.events {
		earlier(e.at, func() { w.dispatch(e) })
	}
	for _, e := range w.running {
		earlier(e.wake, func() { w.advance(e) })
	}
	return at, step
}

// invoke runs a function as Lambda does: with JSON, and until it dies.
func invoke[In, Out any](handle func(context.Context, In) (Out, error), payload []byte) (result []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(Crash); !ok {
				panic(p)
			}
			err = &states.TaskError{Name: "Runtime.ExitError", Cause: `{"errorMessage":"RequestId: 1 Error: Runtime exited","errorType":"Runtime.ExitError"}`}
		}
	}()
	var in In
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	out, err := handle(context.Background(), in)
	if err != nil {
		return nil, taskError(err)
	}
	return json.Marshal(out)
}

// deliver hands a message of the queue to submit.
func (w *World) deliver(m *message) {
	m.receives++
	m.visibleAt = w.now.Add(visibility)
	id := "m1"
	batch := events.SQSEvent{Records: []events.SQSMessage{{
		MessageId: id, EventSource: "aws:sqs", Body: m.body,
		Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.receives)},
	}}}
	payload, err := json.Marshal(batch)
	if err != nil {
		panic(err) // texts always encode
	}
	result, err := invoke(w.submit.Handle, payload)
	var response events.SQSEventResponse
	if err == nil {
		err = json.Unmarshal(result, &response)
	}
	if err == nil && len(response.BatchItemFailures) == 0 || m.receives == receives {
		if err != nil || len(response.BatchItemFailures) > 0 {
			w.Dead = append(w.Dead, m.body)
		}
		w.messages = slices.DeleteFunc(w.messages, func(other *message) bool { return other == m })
	}
}

// dispatch calls cancel, three times at the most.
func (w *World) dispatch(e *event) {
	e.tries++
	_, err := invoke(func(ctx context.Context, raw json.RawMessage) (any, error) {
		return nil, w.cancel.Handle(ctx, raw)
	}, e.payload)
	e.at = w.now.Add(time.Duration(e.tries) * time.Minute)
	if err == nil || e.tries == 3 {
		w.events = slices.DeleteFunc(w.events, func(other *event) bool { return other == e })
	}
}

// Sweep calls cancel as the hourly schedule does.
func (w *World) Sweep() {
	w.events = append(w.events, &event{payload: []byte(`{"detail-type":"Scheduled Event","detail":{}}`), at: w.now})
}

// advance takes an execution to where it must wait.
func (w *World) advance(e *execution) {
	wake, done := w.machine.Step(context.Background(), e.x, w.Now, func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		switch arn {
		case pollARN:
			return invoke(w.poll.Handle, payload)
		case archiveARN:
			return invoke(w.archive.Handle, payload)
		default:
			return nil, fmt.Errorf("no function %s", arn)
		}
	})
	e.wake = wake
	if done {
		w.ended(e)
	}
}

// ended takes an execution off the running ones and sends its event.
func (w *World) ended(e *execution) {
	w.running = slices.DeleteFunc(w.running, func(other *execution) bool { return other == e })
	if w.LoseStatusEvents || e.x.Status == states.Succeeded {
		return
	}
	payload, err := json.Marshal(map[string]any{
		"detail-type": "Step Functions Execution Status Change", "detail": map[string]any{"executionArn": e.arn},
	})
	if err != nil {
		panic(err) // texts always encode
	}
	w.events = append(w.events, &event{payload: payload, at: w.now.Add(time.Second)})
}

// Stop stops an execution, as a person does. It reports whether there is one.
func (w *World) Stop(arn string) bool {
	e, ok := w.executions[arn]
	if ok && e.x.Status == states.Running {
		e.x.Abort(w.now, "", "")
		w.ended(e)
	}
	return ok
}

// StopTake stops the execution of a take.
func (w *World) StopTake(name, take string) bool {
	return w.Stop(workflow.ExecutionARN(machineARN, workflow.ExecutionName(name, take)))
}

// Redrive redrives the execution of a take, as a person does.
func (w *World) Redrive(name, take string) error {
	arn := workflow.ExecutionARN(machineARN, workflow.ExecutionName(name, take))
	e, ok := w.executions[arn]
	if !ok {
		return fmt.Errorf("no execution of take %s", take)
	}
	if err := w.machine.Redrive(e.x, w.now); err != nil {
		return err
	}
	e.wake = w.now
	w.running = append(w.running, e)
	return nil
}

// Path returns the states that the execution of a take has entered.
func (w *World) Path(name, take string) []string {
	e, ok := w.executions[workflow.ExecutionARN(machineARN, workflow.ExecutionName(name, take))]
	if !ok {
		return nil
	}
	return states.Path(e.x.Events)
}

// Executions returns how many executions were ever started.
func (w *World) Executions() int { return len(w.executions) }
