package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	local "github.com/lipdrop/lipdrop/internal/local/events"
)

// Run lets time pass until only the hourly sweep is left to do, but at most the given time. It
// reports whether only the sweep is left.
func (w *World) Run(limit time.Duration) bool {
	end := w.now.Add(limit)
	for w.Step(end.Sub(w.now)) {
	}
	if w.Rests() {
		return true
	}
	w.reach(end)
	return false
}

// Pass lets the time d pass, or more if the last step ends later. It does everything that is
// due in that time, including the hourly sweeps.
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

// Rests reports whether only the hourly sweep is left to do.
func (w *World) Rests() bool {
	return len(w.dropQueue.messages) == 0 && len(w.deletionQueue.messages) == 0 && len(w.cancelCalls) == 0 && len(w.running) == 0 && len(w.asleep) == 0
}

// Spend moves the clock forward and does nothing else. A hook uses it to make a
// call slow.
func (w *World) Spend(d time.Duration) { w.now = w.now.Add(d) }

// reach moves the clock forward to a time. It never moves the clock back.
func (w *World) reach(at time.Time) {
	if at.After(w.now) {
		w.now = at
	}
}

// Step does the next thing that is due within the given time from now. It returns false if
// nothing is due, or only the hourly sweep. A hook may call Step. The step then runs in the
// middle of the interrupted function, as if two functions ran at the same time.
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

// next returns the next step and its time. The step is nil if only the hourly sweep is left to do.
func (w *World) next() (time.Time, func()) {
	var at time.Time
	var step func()
	consider := func(due time.Time, do func()) {
		if step == nil || due.Before(at) {
			at, step = due, do
		}
	}
	for _, m := range w.dropQueue.messages {
		consider(m.visibleAt, func() { w.deliver(&w.dropQueue, w.Submit) })
	}
	for _, m := range w.deletionQueue.messages {
		consider(m.visibleAt, func() { w.deliver(&w.deletionQueue, w.cancelDeleted) })
	}
	for _, v := range w.cancelCalls {
		consider(v.at, func() { w.dispatch(v) })
	}
	for _, e := range w.running {
		if !e.busy {
			consider(e.wake, func() { w.advance(e) })
		}
	}
	for _, s := range w.asleep {
		consider(s.wake, func() { w.resume(s) })
	}
	return at, step
}

// longestChain is how many messages a chain may have (see submit.Queue).
const longestChain = 16

var errLoop = errors.New("RecursiveInvocationException")

// deliver calls a function with one batch of the visible messages of a queue. It removes the
// messages that the function finished, and moves to q.dead those that were delivered too often.
// Like Lambda, it does not call the function with a message of a chain that is too long.
func (w *World) deliver(q *queue, consume func(...events.SQSMessage) (failed []string, err error)) {
	var batch []*message
	var records []events.SQSMessage
	defer func(outer int) { w.chain = outer }(w.chain) // a hook may call deliver during another delivery
	w.chain = 0
	for i, m := range q.messages {
		if m.visibleAt.After(w.now) || len(batch) == w.Batch {
			continue
		}
		m.receives++
		w.receipts++
		m.receipt = strconv.Itoa(w.receipts)
		m.visibleAt = w.now.Add(q.Visibility)
		batch, w.chain = append(batch, m), max(w.chain, m.chain)
		records = append(records, events.SQSMessage{
			MessageId: strconv.Itoa(i), ReceiptHandle: m.receipt, EventSource: "aws:sqs", Body: m.body,
			Attributes: map[string]string{
				"ApproximateReceiveCount": strconv.Itoa(m.receives), "SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10),
			},
		})
	}
	var failed []string
	err := errLoop
	if w.chain <= longestChain {
		failed, err = consume(records...)
	}
	for i, m := range batch {
		again := err != nil || slices.Contains(failed, records[i].MessageId)
		if again && m.receives < q.MaxReceives {
			continue
		}
		if again {
			*q.dead = append(*q.dead, m.body)
		}
		q.messages = slices.DeleteFunc(q.messages, func(other *message) bool { return other == m })
	}
}

// Submit calls the submit function with a batch of messages. It returns the ids of the
// messages that the function could not finish. It is safe for concurrent use.
func (w *World) Submit(batch ...events.SQSMessage) (failed []string, err error) {
	return invokeBatch(w, &w.submit, "submit", (*submit.Handler).Handle, batch)
}

// cancelDeleted is like Submit, but calls the cancel function, with deletions.
func (w *World) cancelDeleted(batch ...events.SQSMessage) (failed []string, err error) {
	return invokeBatch(w, &w.cancel, "cancel", (*cancel.Handler).Handle, batch)
}

func invokeBatch[H, In, Out any](w *World, p *pool[H], function string, handle func(H, context.Context, In) (Out, error), batch []events.SQSMessage) (failed []string, err error) {
	result, err := invoke(context.Background(), w, p, function, handle, bucket.JSON(events.SQSEvent{Records: batch}, ""))
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

// Message returns a message about a new object at the key, as SQS first delivers it.
func Message(key string) events.SQSMessage {
	return events.SQSMessage{
		MessageId: key, EventSource: "aws:sqs", Body: objectEvent("Object Created", key, "", Begin),
		Attributes: map[string]string{"ApproximateReceiveCount": "1"},
	}
}

// dispatch calls the cancel function with an event. As on Lambda, a call that fails is
// repeated after one minute, then after two.
func (w *World) dispatch(v *cancelCall) {
	v.tries++
	v.at = w.now.Add(time.Duration(v.tries) * time.Minute)
	_, err := invoke(context.Background(), w, &w.cancel, "cancel", (*cancel.Handler).Handle, v.payload)
	if err == nil || v.tries == w.template.functions["cancel"].Attempts {
		w.cancelCalls = slices.DeleteFunc(w.cancelCalls, func(other *cancelCall) bool { return other == v })
	}
}

// Sweep sends the event of the hourly schedule to the cancel function.
func (w *World) Sweep() {
	w.nextSweep = w.now.Add(time.Hour)
	w.cancelCalls = append(w.cancelCalls, &cancelCall{payload: []byte(encode(local.Schedule(w.now))), at: w.now})
}

// advance runs an execution until it waits, ends, or one of its functions sleeps.
func (w *World) advance(e *execution) {
	e.busy = true
	next, _ := iter.Pull(func(park func(time.Time) bool) {
		wake, done := w.machine.Step(context.WithValue(context.Background(), parkKey{}, park), e.Execution.Execution, w.Now, func(ctx context.Context, arn string, payload []byte) ([]byte, error) {
			switch arn {
			case pollARN:
				return invoke(ctx, w, &w.poll, "poll", (*poll.Handler).Handle, payload)
			case archiveARN:
				return invoke(ctx, w, &w.archive, "archive", (*archive.Handler).Handle, payload)
			default:
				return nil, fmt.Errorf("no function %s", arn)
			}
		})
		e.busy, e.wake = false, wake
		if done {
			w.ended(e)
		}
	})
	w.resume(&sleeper{next: next})
}

// sleeper is an execution that waits because one of its functions sleeps.
type sleeper struct {
	wake time.Time
	next func() (time.Time, bool) // continues until a function sleeps, and returns when to wake it; false if Machine.Step returned instead
}

// parkKey is the context key of the function that parks an execution until a time.
type parkKey struct{}

func (w *World) resume(s *sleeper) {
	w.asleep = slices.DeleteFunc(w.asleep, func(other *sleeper) bool { return other == s })
	if wake, sleeps := s.next(); sleeps {
		s.wake = wake
		w.asleep = append(w.asleep, s)
	}
}

// sleep is the Sleep of poll and archive. It parks the execution that called the function.
func (w *World) sleep(ctx context.Context, d time.Duration) error {
	park := ctx.Value(parkKey{}).(func(time.Time) bool)
	park(w.now.Add(d))
	return nil
}
