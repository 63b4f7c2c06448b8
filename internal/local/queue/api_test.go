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
	"github.com/google/go-cmp/cmp"

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

func TestSendMessage(t *testing.T) {
	c := &clock{start}
	q := open(t, c.config(t.TempDir()))
	client, url := serve(t, q)
	sendTo := func(path, body string, delay int32) error {
		_, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(url + path), MessageBody: &body, DelaySeconds: delay})
		return err
	}
	for _, tt := range []struct {
		name, path, body string
		delay            int32
		code             string
	}{
		{"a message", "/000000000000/drops", `{"a": "ü"}`, 1, ""},
		{"one with the queue's own delay", "/000000000000/drops", "later", 0, ""},
		{"the largest", "/000000000000/drops", strings.Repeat("x", 256<<10), 900, ""},
		{"a larger one", "/000000000000/drops", strings.Repeat("x", 256<<10+1), 1, "InvalidParameterValue"},
		{"an empty one", "/000000000000/drops", "", 1, "InvalidParameterValue"},
		{"a longer delay", "/000000000000/drops", "x", 901, "InvalidParameterValue"},
		{"another queue", "/000000000000/others", "x", 1, "QueueDoesNotExist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := sendTo(tt.path, tt.body, tt.delay)
			refused, _ := errors.AsType[smithy.APIError](err)
			if (err == nil) != (tt.code == "") || err != nil && (refused == nil || !strings.Contains(refused.ErrorCode(), tt.code)) {
				t.Errorf("SendMessage() = %v, want the code %q", err, tt.code)
			}
		})
	}
	c.advance(time.Second)
	if got, _ := receive(t, q, 10); !cmp.Equal(got, []string{`{"a": "ü"}`}) {
		t.Errorf("after 1 s: %.100q, want the message with a delay of 1 s", got)
	}
	c.advance(9 * time.Second)
	if got, _ := receive(t, q, 10); !cmp.Equal(got, []string{"later"}) {
		t.Errorf("after 10 s: %.100q, want the message with the queue's delay", got)
	}
}

func TestChangeMessageVisibility(t *testing.T) {
	c := &clock{start}
	q := open(t, c.config(t.TempDir()))
	client, url := serve(t, q)
	if err := q.Send("m"); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Minute)
	var receipt string
	deliver := queue.SQS("arn", func(_ context.Context, payload []byte) ([]byte, error) {
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
			refused, _ := errors.AsType[smithy.APIError](err)
			if (err == nil) != (tt.code == "") || err != nil && (refused == nil || refused.ErrorCode() != tt.code) {
				t.Errorf("ChangeMessageVisibility() = %v, want the code %q", err, tt.code)
			}
		})
	}
	q.Release(batch[0].ID)
	c.advance(29 * time.Second)
	if got, _ := receive(t, q, 10); len(got) > 0 {
		t.Errorf("after 29 s: %q, want no message", got)
	}
	c.advance(time.Second)
	if got, _ := receive(t, q, 10); !cmp.Equal(got, []string{"m"}) {
		t.Errorf("after 30 s: %q, want the message", got)
	}
}
