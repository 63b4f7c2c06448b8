package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/queue"
)

// consume runs a consumer in virtual time, calls act meanwhile, and stops the consumer after
// forTime.
func consume(t *testing.T, cfg queue.Config, forTime time.Duration, c queue.Consumer, act func(q *queue.Queue)) {
	t.Helper()
	cfg.Dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg.Now = time.Now
		q := open(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), forTime)
		defer cancel()
		go act(q)
		q.Consume(ctx, c)
	})
}

func TestConsumeRedelivers(t *testing.T) {
	var log []string
	var began time.Time
	c := queue.Consumer{BatchSize: 10, Concurrency: 1, Deliver: func(_ context.Context, batch []queue.Message) ([]string, error) {
		log = append(log, fmt.Sprintf("%s %v", time.Since(began), bodies(batch)))
		if len(log) == 1 {
			return nil, errors.New("the function failed")
		}
		var failed []string
		for _, m := range batch {
			if m.Body == "bad" {
				failed = append(failed, m.ID)
			}
		}
		return failed, nil
	}}
	cfg := queue.Config{Delay: 10 * time.Second, Visibility: 30 * time.Second, MaxReceives: 4}
	consume(t, cfg, time.Hour, c, func(q *queue.Queue) {
		began = time.Now()
		send(t, q, "bad")
		time.Sleep(time.Second)
		send(t, q, "good") // in the next batch, because this message is due later
	})
	want := []string{"10s [bad]", "11s [good]", "40s [bad]", "1m10s [bad]", "1m40s [bad]"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func TestConsumeBatchesMessagesDueTogether(t *testing.T) {
	var sizes []int
	var mu sync.Mutex
	c := queue.Consumer{BatchSize: 2, Concurrency: 5, Deliver: func(_ context.Context, batch []queue.Message) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(batch))
		return nil, nil
	}}
	consume(t, queue.Config{Delay: time.Second, Visibility: time.Minute, MaxReceives: 3}, time.Hour, c, func(q *queue.Queue) {
		send(t, q, "a", "b", "c")
	})
	slices.Sort(sizes)
	if diff := cmp.Diff([]int{1, 2}, sizes); diff != "" {
		t.Errorf("sizes of the batches (-want +got):\n%s", diff)
	}
}

// A call lasts longer than Visibility, but no message is delivered twice.
func TestConsumeLimitsCallsAtOnce(t *testing.T) {
	var mu sync.Mutex
	var running, most, total int
	c := queue.Consumer{BatchSize: 1, Concurrency: 3, Deliver: func(context.Context, []queue.Message) ([]string, error) {
		mu.Lock()
		running++
		total++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		running--
		mu.Unlock()
		return nil, nil
	}}
	consume(t, queue.Config{Visibility: time.Second, MaxReceives: 3}, time.Hour, c, func(q *queue.Queue) {
		for i := range 10 {
			send(t, q, fmt.Sprint(i))
		}
	})
	if most != 3 || total != 10 {
		t.Errorf("%d calls at once and %d in all, want 3 and 10", most, total)
	}
}

// If Consume did not wait for the call under way, synctest.Test would panic with a deadlock.
func TestConsumeLetsCallsEnd(t *testing.T) {
	ended := errors.New("no call was made")
	c := queue.Consumer{BatchSize: 1, Concurrency: 1, Deliver: func(ctx context.Context, _ []queue.Message) ([]string, error) {
		time.Sleep(time.Hour)
		ended = ctx.Err()
		return nil, nil
	}}
	consume(t, queue.Config{Visibility: time.Second, MaxReceives: 3}, time.Minute, c, func(q *queue.Queue) { send(t, q, "a") })
	if ended != nil {
		t.Errorf("got %q, want a call whose context is not done", ended)
	}
}

func message(id string) queue.Message {
	return queue.Message{ID: id, Body: "body of " + id, SentAt: start, Receives: 2}
}

func TestSQSEvent(t *testing.T) {
	var payload []byte
	deliver := queue.DeliverBatch("arn:aws:sqs:us-east-1:000000000000:drops", func(_ context.Context, p []byte) ([]byte, error) {
		payload = p
		return []byte("null"), nil
	})
	if failed, err := deliver(t.Context(), []queue.Message{message("a")}); err != nil || failed != nil {
		t.Errorf("deliver() = %v, %v; want no failure and no error", failed, err)
	}
	want := `{"Records":[{"messageId":"a","receiptHandle":"a:2","body":"body of a","md5OfBody":"","md5OfMessageAttributes":"",
		"attributes":{"ApproximateReceiveCount":"2","SentTimestamp":"1772366400000"},"messageAttributes":null,
		"eventSourceARN":"arn:aws:sqs:us-east-1:000000000000:drops","eventSource":"aws:sqs","awsRegion":""}]}`
	if diff := cmp.Diff(decode(t, want), decode(t, string(payload))); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSQSResponses(t *testing.T) {
	rows := map[string]struct {
		response string
		err      error
		failed   []string
		wrong    string // part of the error if the whole batch failed, else ""
	}{
		"nothing":                  {response: ""},
		"null":                     {response: "null"},
		"no list":                  {response: "{}"},
		"an empty list":            {response: `{"batchItemFailures":[]}`},
		"one failed":               {response: `{"batchItemFailures":[{"itemIdentifier":"b"}]}`, failed: []string{"b"}},
		"an empty identifier":      {response: `{"batchItemFailures":[{"itemIdentifier":""}]}`, wrong: "not in the batch"},
		"another batch's message":  {response: `{"batchItemFailures":[{"itemIdentifier":"z"}]}`, wrong: "not in the batch"},
		"a misspelt member":        {response: `{"batchItemFailures":[{"itemIdentifer":"b"}]}`, wrong: "not in the batch"},
		"not JSON":                 {response: `oops`, wrong: "response of the function"},
		"an error of the function": {err: errors.New("it crashed"), wrong: "it crashed"},
		"a list of texts":          {response: `{"batchItemFailures":["b"]}`, wrong: "response of the function"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			var logs bytes.Buffer
			defer slog.SetDefault(slog.Default())
			slog.SetDefault(slog.New(slog.NewTextHandler(&logs, nil)))
			deliver := queue.DeliverBatch("arn", func(context.Context, []byte) ([]byte, error) { return []byte(row.response), row.err })
			failed, err := deliver(t.Context(), []queue.Message{message("a"), message("b")})
			if diff := cmp.Diff(row.failed, failed); diff != "" {
				t.Errorf("failed (-want +got):\n%s", diff)
			}
			wantLogged := row.err == nil && row.wrong != "" // the function's invoker logs row.err
			if strings.Contains(logs.String(), "ERROR") != wantLogged {
				t.Errorf("the log is %q; want an error in the log: %t", logs.String(), wantLogged)
			}
			if (err != nil) != (row.wrong != "") || err != nil && !strings.Contains(err.Error(), row.wrong) {
				t.Errorf("error %v, want %q", err, row.wrong)
			}
		})
	}
}
