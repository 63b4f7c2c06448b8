package queue

import (
	"context"
	"crypto/md5" // SQS tells the MD5 of a body
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Consumer works on the messages of a queue, as Lambda's event source mapping
// does.
type Consumer struct {
	BatchSize   int // messages a call, at most
	Concurrency int // calls at once, at most

	// Deliver works on a batch and returns the ids of the messages that failed.
	// With an error, all of them failed.
	Deliver func(ctx context.Context, batch []Message) (failed []string, err error)
}

// retryDelay is how long a queue whose files cannot be written waits.
const retryDelay = time.Second

// Consume hands the messages that are due to a consumer until ctx is done, and
// returns when its calls under way have returned: they are not cancelled.
func (q *Queue) Consume(ctx context.Context, c Consumer) {
	var calls sync.WaitGroup
	defer calls.Wait()
	places := make(chan struct{}, c.Concurrency)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		batch := q.await(ctx, c.BatchSize)
		if len(batch) == 0 {
			return
		}
		calls.Go(func() {
			defer func() { <-places }()
			failed, err := c.Deliver(context.WithoutCancel(ctx), batch)
			q.settle(batch, failed, err)
		})
	}
}

// await waits for messages; it returns none when ctx is done.
func (q *Queue) await(ctx context.Context, limit int) []Message {
	for ctx.Err() == nil {
		batch, err := q.Receive(limit)
		if err != nil {
			slog.Error("queue not saved", "err", err)
		}
		if len(batch) > 0 {
			return batch
		}
		var due <-chan time.Time
		at, some := q.nextDue()
		switch {
		case err != nil:
			due = time.After(retryDelay)
		case some:
			due = time.After(at.Sub(q.cfg.Now()))
		}
		select {
		case <-due:
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// settle deletes what was done and releases the rest.
func (q *Queue) settle(batch []Message, failed []string, err error) {
	for _, m := range batch {
		if err == nil && !slices.Contains(failed, m.ID) {
			if err := q.Delete(m.ID); err != nil {
				slog.Error("message not deleted", "message_id", m.ID, "err", err)
			}
			continue
		}
		q.Release(m.ID)
	}
}

// Invoke calls a function of Lambda and returns its answer. A failure of the
// function is an error too.
type Invoke func(ctx context.Context, payload []byte) ([]byte, error)

// SQS returns the Deliver of a function that takes batches of the queue with
// the given ARN and answers with the items that failed.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func SQS(arn, region string, invoke Invoke) func(context.Context, []Message) ([]string, error) {
	return func(ctx context.Context, batch []Message) ([]string, error) {
		var event events.SQSEvent
		for _, m := range batch {
			event.Records = append(event.Records, sqsMessage(arn, region, m))
		}
		payload, err := json.Marshal(event)
		if err != nil {
			return nil, err
		}
		answer, err := invoke(ctx, payload)
		if err != nil {
			return nil, err
		}
		return failures(answer, batch)
	}
}

// Each returns the Deliver of a function that takes the body of one message,
// as Lambda calls a function asynchronously. Its consumer's batch size is 1.
func Each(invoke Invoke) func(context.Context, []Message) ([]string, error) {
	return func(ctx context.Context, batch []Message) ([]string, error) {
		_, err := invoke(ctx, []byte(batch[0].Body))
		return nil, err
	}
}

func sqsMessage(arn, region string, m Message) events.SQSMessage {
	sum := md5.Sum([]byte(m.Body))
	return events.SQSMessage{
		MessageId:     m.ID,
		ReceiptHandle: m.ID + "/" + strconv.Itoa(m.Receives), // another one each time
		Body:          m.Body,
		Md5OfBody:     hex.EncodeToString(sum[:]),
		Attributes: map[string]string{
			"ApproximateReceiveCount":          strconv.Itoa(m.Receives),
			"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.FirstReceivedAt.UnixMilli(), 10),
			"SentTimestamp":                    strconv.FormatInt(m.SentAt.UnixMilli(), 10),
			"SenderId":                         "events.amazonaws.com",
		},
		MessageAttributes: map[string]events.SQSMessageAttribute{},
		EventSourceARN:    arn,
		EventSource:       "aws:sqs",
		AWSRegion:         region,
	}
}

// failures reads which messages of a batch failed. No list, or an empty one,
// means none; an answer that cannot be read, or that names what is not in the
// batch, means all.
func failures(answer []byte, batch []Message) ([]string, error) {
	var said struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(answer) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, fmt.Errorf("the function's answer: %w", err)
	}
	var failed []string
	for _, item := range said.BatchItemFailures {
		if !slices.ContainsFunc(batch, func(m Message) bool { return m.ID == item.ItemIdentifier }) {
			return nil, errors.New("the function's answer names a message that is not in its batch")
		}
		failed = append(failed, item.ItemIdentifier)
	}
	return failed, nil
}
