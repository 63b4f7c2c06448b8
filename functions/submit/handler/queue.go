package handler

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// Queue is the queue whose messages the function handles.
type Queue interface {
	// Send sends a message, to be delivered soon.
	Send(ctx context.Context, body string) error
	// Postpone sets when a message is delivered again: after a pause from now. The
	// receipt identifies its last delivery.
	Postpone(ctx context.Context, receipt string, pause time.Duration) error
}

// SQS is a Queue of SQS.
type SQS struct {
	Client *sqs.Client
	URL    string
}

// Send implements Queue. The message is delivered after a second, whatever the delay of
// the queue is.
func (q SQS) Send(ctx context.Context, body string) error {
	const delay = 1 // second; the SDK does not send 0
	_, err := q.Client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &q.URL, MessageBody: &body, DelaySeconds: delay})
	if err != nil {
		return fmt.Errorf("send to the queue: %w", err)
	}
	return nil
}

// Postpone implements Queue. It rounds the pause up to whole seconds.
func (q SQS) Postpone(ctx context.Context, receipt string, pause time.Duration) error {
	_, err := q.Client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.URL, ReceiptHandle: &receipt, VisibilityTimeout: int32(math.Ceil(pause.Seconds())),
	})
	if err != nil {
		return fmt.Errorf("postpone a message: %w", err)
	}
	return nil
}
