package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// Consumer delivers the messages of a queue, as an event source mapping of Lambda
// does.
type Consumer struct {
	BatchSize   int // the largest number of messages in one call
	Concurrency int // the largest number of calls at the same time

	// Deliver delivers a batch and returns the ids of the messages that failed. An
	// error means that the whole batch failed.
	Deliver func(ctx context.Context, batch []Message) (failed []string, err error)
}

// Consume delivers each message when the message is due. When ctx is done, Consume waits for the
// calls under way and returns. Consume does not cancel these calls.
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
		batch := q.awaitBatch(ctx, c.BatchSize)
		if len(batch) == 0 {
			return
		}
		calls.Go(func() {
			defer func() { <-places }()
			failed, err := c.Deliver(context.WithoutCancel(ctx), batch)
			for _, m := range batch {
				if err == nil && !slices.Contains(failed, m.ID) {
					q.Delete(m.ID)
				} else {
					q.Release(m.ID)
				}
			}
		})
	}
}

// awaitBatch waits until messages are due and returns up to limit of them. If ctx is done first,
// awaitBatch returns no messages.
func (q *Queue) awaitBatch(ctx context.Context, limit int) []Message {
	for ctx.Err() == nil {
		if batch := q.Receive(limit); len(batch) > 0 {
			return batch
		}
		var due <-chan time.Time
		if at, some := q.nextDue(); some {
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

// Invoke calls a Lambda function and returns its response. A failure of the
// function is an error too.
type Invoke func(ctx context.Context, payload []byte) ([]byte, error)

// DeliverBatch returns a Consumer.Deliver for a Lambda function that reads the queue with the given
// ARN. Deliver invokes the function with the batch as an SQS event. Most members of the event are
// empty, because lipdrop's functions do not read them. The response of the function names the
// messages that failed. Deliver logs an error if it cannot use the response; invoke logs its own errors.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func DeliverBatch(arn string, invoke Invoke) func(context.Context, []Message) ([]string, error) {
	return func(ctx context.Context, batch []Message) ([]string, error) {
		var event events.SQSEvent
		for _, m := range batch {
			event.Records = append(event.Records, events.SQSMessage{
				MessageId: m.ID, ReceiptHandle: m.receipt(), Body: m.Body, EventSource: "aws:sqs", EventSourceARN: arn,
				Attributes: map[string]string{
					"ApproximateReceiveCount": strconv.Itoa(m.Receives), "SentTimestamp": strconv.FormatInt(m.SentAt.UnixMilli(), 10),
				},
			})
		}
		response, err := invoke(ctx, bucket.JSON(event, ""))
		if err != nil {
			return nil, err
		}
		failed, err := failedIDs(response, batch)
		if err != nil {
			slog.Error("whole batch failed", "queue", arn, "err", err)
		}
		return failed, err
	}
}

// DeliverEach returns a Consumer.Deliver for a Lambda function that receives the body of one
// message, as in an asynchronous call of Lambda. The batch size must be 1.
func DeliverEach(invoke Invoke) func(context.Context, []Message) ([]string, error) {
	return func(ctx context.Context, batch []Message) ([]string, error) {
		_, err := invoke(ctx, []byte(batch[0].Body))
		return nil, err
	}
}

// failedIDs returns the ids of the messages that failed, as the response of a function names
// them. An error means that the whole batch failed.
func failedIDs(response []byte, batch []Message) (failed []string, err error) {
	if len(response) == 0 {
		return nil, nil
	}
	var read events.SQSEventResponse
	if err := json.Unmarshal(response, &read); err != nil {
		return nil, fmt.Errorf("response of the function: %w", err)
	}
	for _, item := range read.BatchItemFailures {
		if !slices.ContainsFunc(batch, func(m Message) bool { return m.ID == item.ItemIdentifier }) {
			return nil, errors.New("the response of the function names a message that is not in the batch")
		}
		failed = append(failed, item.ItemIdentifier)
	}
	return failed, nil
}
