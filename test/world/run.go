package world

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
)

// Run lets time pass until nothing is left to do but the hourly sweep, or for
// a time at the most. It reports whether nothing is left.
func (w *World) Run(most time.Duration) bool {
	end := w.now.Add(most)
	for w.Step(end.Sub(w.now)) {
	}
	if w.Rests() {
		return true
	}
	w.reach(end)
	return false
}

// Pass lets a time pass, whatever there is to do in it, with its sweeps.
func (w *World) Pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		if w.Step(end.Sub(w.now)) {
			continue
		}
		if w.nextSweep.After(end) {
			w.reach(end)
			return
		}
		w.reach(w.nextSweep)
		w.Sweep()
	}
}

// Rests reports whether nothing is left to do but the hourly sweep.
func (w *World) Rests() bool {
	return len(w.messages) == 0 && len(w.events) == 0 && len(w.running) == 0
}

// Spend lets time pass in the middle of a call, which is slow then.
func (w *World) Spend(d time.Duration) { w.now = w.now.Add(d) }

// reach sets the clock, which never goes back.
func (w *World) reach(at time.Time) {
	if at.After(w.now) {
		w.now = at
	}
}

// Step does what is next to be done if its time comes within some time from
// now, and reports whether there was such a thing. Called from a hook, it does
// it between two calls of the function that the hook was asked about, as when
// two functions run side by side.
func (w *World) Step(within time.Duration) bool {
	end := w.now.Add(within)
	at, step := w.next()
	if step == nil || at.After(end) {
		return false
	}
	if w.nextSweep.Before(at) {
		w.reach(w.nextSweep)
		w.Sweep()
		return true
	}
	w.reach(at)
	step()
	return true
}

// next returns what is to be done next, and when.
func (w *World) next() (time.Time, func()) {
	var at time.Time
	var m *message
	var v *event
	var e *execution
	some := false
	for _, each := range w.messages {
		if !some || each.visibleAt.Before(at) {
			at, m, some = each.visibleAt, each, true
		}
	}
	for _, each := range w.events {
		if !some || each.at.Before(at) {
			at, m, v, some = each.at, nil, each, true
		}
	}
	for _, each := range w.running {
		if !each.busy && (!some || each.wake.Before(at)) {
			at, m, v, e, some = each.wake, nil, nil, each, true
		}
	}
	switch {
	case e != nil:
		return at, func() { w.advance(e) }
	case v != nil:
		return at, func() { w.dispatch(v) }
	case m != nil:
		return at, w.receive
	}
	return at, nil
}

// receive hands the messages of the queue that are visible to submit, as many
// as a batch takes.
func (w *World) receive() {
	var batch []*message
	var records []events.SQSMessage
	for i, m := range w.messages {
		if m.visibleAt.After(w.now) || len(batch) == w.Batch {
			continue
		}
		m.receives++
		m.visibleAt = w.now.Add(visibility)
		batch = append(batch, m)
		records = append(records, events.SQSMessage{
			MessageId: strconv.Itoa(i), EventSource: "aws:sqs", Body: m.body,
			Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.receives)},
		})
	}
	failed, err := w.Submit(records...)
	for i, m := range batch {
		again := err != nil || slices.Contains(failed, records[i].MessageId)
		if again && m.receives < receives {
			continue
		}
		if again {
			w.Dead = append(w.Dead, m.body)
		}
		w.messages = slices.DeleteFunc(w.messages, func(other *message) bool { return other == m })
	}
}

// Submit calls submit with a batch of the queue and returns the ids of the
// messages that it could not finish. It may be called by many at once.
func (w *World) Submit(batch ...events.SQSMessage) (failed []string, err error) {
	payload, err := json.Marshal(events.SQSEvent{Records: batch})
	if err != nil {
		return nil, err
	}
	result, err := invoke(w, &w.submit, "submit", (*submit.Handler).Handle, payload)
	if err != nil {
		return nil, err
	}
	var response events.SQSEventResponse
	if err := json.Unmarshal(result, &response); err != nil {
		return nil, err
	}
	for _, failure := range response.BatchItemFailures {
		failed = append(failed, failure.ItemIdentifier)
	}
	return failed, nil
}

// Message returns a first delivery of the event that a key was created.
func Message(key string) events.SQSMessage {
	return events.SQSMessage{
		MessageId: key, EventSource: "aws:sqs", Body: string(objectEvent("Object Created", key, "", Begin)),
		Attributes: map[string]string{"ApproximateReceiveCount": "1"},
	}
}

// lambdaTries is how often Lambda makes an asynchronous call that fails.
const lambdaTries = 3

// The queue of deletions as template.yaml has it.
const (
	deletionVisibility = 3 * time.Minute
	deletionReceives   = 240
)

// dispatch calls cancel: with deletions of their queue, or with one event, again
// after a minute when that failed, and after two.
func (w *World) dispatch(v *event) {
	if v.deletion {
		w.dispatchDeletions()
		return
	}
	v.tries++
	v.at = w.now.Add(time.Duration(v.tries) * time.Minute)
	_, err := invoke(w, &w.cancel, "cancel", (*cancel.Handler).Handle, v.payload)
	if err == nil || v.tries == lambdaTries {
		w.forget(v)
	}
}

// dispatchDeletions calls cancel with the deletions that are due, as many as a
// batch takes.
func (w *World) dispatchDeletions() {
	var batch []*event
	var records []events.SQSMessage
	for i, v := range w.events {
		if !v.deletion || v.at.After(w.now) || len(batch) == w.Batch {
			continue
		}
		v.tries++
		v.at = w.now.Add(deletionVisibility)
		batch = append(batch, v)
		records = append(records, events.SQSMessage{MessageId: strconv.Itoa(i), EventSource: "aws:sqs", Body: string(v.payload)})
	}
	var response events.SQSEventResponse
	payload, err := json.Marshal(events.SQSEvent{Records: records})
	if err == nil {
		payload, err = invoke(w, &w.cancel, "cancel", (*cancel.Handler).Handle, payload)
	}
	if err == nil {
		err = json.Unmarshal(payload, &response)
	}
	for i, v := range batch {
		failed := err != nil || slices.ContainsFunc(response.BatchItemFailures, func(f events.SQSBatchItemFailure) bool {
			return f.ItemIdentifier == records[i].MessageId
		})
		if failed && v.tries == deletionReceives {
			w.DeadDeletions = append(w.DeadDeletions, string(v.payload))
		}
		if !failed || v.tries == deletionReceives {
			w.forget(v)
		}
	}
}

func (w *World) forget(v *event) {
	w.events = slices.DeleteFunc(w.events, func(other *event) bool { return other == v })
}

// Sweep calls cancel as the hourly schedule does.
func (w *World) Sweep() {
	w.nextSweep = w.now.Add(time.Hour)
	w.events = append(w.events, &event{payload: []byte(`{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}`), at: w.now})
}

// advance takes an execution to where it must wait.
func (w *World) advance(e *execution) {
	e.busy = true
	wake, done := w.machine.Step(context.Background(), e.x, w.Now, func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		switch arn {
		case pollARN:
			return invoke(w, &w.poll, "poll", (*poll.Handler).Handle, payload)
		case archiveARN:
			return invoke(w, &w.archive, "archive", (*archive.Handler).Handle, payload)
		default:
			return nil, fmt.Errorf("no function %s", arn)
		}
	})
	e.busy, e.wake = false, wake
	if done {
		w.ended(e)
	}
}
