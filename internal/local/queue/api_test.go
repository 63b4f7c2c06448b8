package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/local/queue"
)

// serve serves a queue named drops. It returns a client and the URL of the server.
func serve(t *testing.T, q *queue.Queue) (client *sqs.Client, url string) {
	t.Helper()
	server := httptest.NewServer(q.Operations("/000000000000/drops").Handler())
	t.Cleanup(server.Close)
	return sqs.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	}), server.URL
}

// expectCode expects an error with a code of SQS, or no error if the code is empty.
func expectCode(t *testing.T, err error, code string) {
	t.Helper()
	refused, _ := errors.AsType[smithy.APIError](err)
	if (err == nil) != (code == "") || err != nil && (refused == nil || !strings.Contains(refused.ErrorCode(), code)) {
		t.Errorf("error %v, want the code %q", err, code)
	}
}

func TestSendMessage(t *testing.T) {
	c := &clock{start}
	q := open(t, c.config(t.TempDir()))
	client, url := serve(t, q)
	for _, tt := range []struct {
		name, path, body string
		delay            int32
		code             string
	}{
		{"a message", "/000000000000/drops", `{"a": "ü"}`, 1, ""},
		{"a message with the queue's own delay", "/000000000000/drops", "later", 0, ""},
		{"the largest message", "/000000000000/drops", strings.Repeat("x", 256<<10), 900, ""},
		{"a message that is too large", "/000000000000/drops", strings.Repeat("x", 256<<10+1), 1, "InvalidParameterValue"},
		{"an empty message", "/000000000000/drops", "", 1, "InvalidParameterValue"},
		{"a delay that is too long", "/000000000000/drops", "x", 901, "InvalidParameterValue"},
		{"another queue", "/000000000000/others", "x", 1, "QueueDoesNotExist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(url + tt.path), MessageBody: &tt.body, DelaySeconds: tt.delay})
			expectCode(t, err, tt.code)
		})
	}
	c.advance(time.Second)
	expect(t, "after 1 s", bodies(q.Receive(10)), `{"a": "ü"}`)
	c.advance(9 * time.Second)
	expect(t, "after 10 s, the queue's delay", bodies(q.Receive(10)), "later")
}

func TestChangeMessageVisibility(t *testing.T) {
	c := &clock{start}
	q := open(t, c.config(t.TempDir()))
	client, url := serve(t, q)
	send(t, q, "m")
	c.advance(time.Minute)
	var receipt string
	deliver := queue.DeliverBatch("arn", func(_ context.Context, payload []byte) ([]byte, error) {
		var event events.SQSEvent
		err := json.Unmarshal(payload, &event)
		receipt = event.Records[0].ReceiptHandle
		return nil, err
	})
	batch := q.Receive(1)
	if len(batch) != 1 {
		t.Fatalf("received %v, want one message", batch)
	}
	if _, err := deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, receipt string
		seconds       int32
		code          string
	}{
		{"the delivery under way", receipt, 30, ""},
		{"an earlier delivery", batch[0].ID + ":0", 30, "ReceiptHandleIsInvalid"},
		{"another message", "x:1", 30, "ReceiptHandleIsInvalid"},
		{"more than twelve hours", receipt, 12*3600 + 1, "InvalidParameterValue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
				QueueUrl: aws.String(url + "/000000000000/drops"), ReceiptHandle: &tt.receipt, VisibilityTimeout: tt.seconds,
			})
			expectCode(t, err, tt.code)
		})
	}
	q.Release(batch[0].ID) // the message stays hidden until the 30 s are over
	c.advance(29 * time.Second)
	expect(t, "after 29 s", bodies(q.Receive(10)))
	c.advance(time.Second)
	expect(t, "after 30 s", bodies(q.Receive(10)), "m")
}
