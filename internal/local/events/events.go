// Package events turns what happens in the local stack into the events that
// EventBridge sends on AWS, with the members that the rules of template.yaml and
// the functions read.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

// The detail types of events about objects.
const (
	ObjectCreated = "Object Created"
	ObjectDeleted = "Object Deleted"
)

// Event is an event of an AWS service, as EventBridge delivers it to a target.
type Event struct {
	DetailType string    `json:"detail-type"`
	Source     string    `json:"source"`
	Time       time.Time `json:"time"` // UTC, whole seconds
	Detail     any       `json:"detail"`
}

func newEvent(at time.Time, detailType, source string, detail any) Event {
	return Event{detailType, source, at.UTC().Truncate(time.Second), detail}
}

// Object returns the event of an object that an API operation created or deleted. The reason is
// the API operation. The key is not URL-encoded.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
func Object(at time.Time, detailType, bucket, key, reason string) Event {
	return newEvent(at, detailType, "aws.s3", map[string]any{
		"bucket": map[string]string{"name": bucket}, "object": map[string]string{"key": key}, "reason": reason,
	})
}

// Schedule returns the event of a scheduled rule that is due.
func Schedule(at time.Time) Event {
	return newEvent(at, "Scheduled Event", "aws.events", struct{}{})
}

// StatusChange returns the event of an execution whose status has changed.
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
func StatusChange(at time.Time, machineARN, executionARN, status string, redrives int) Event {
	return newEvent(at, "Step Functions Execution Status Change", "aws.states", map[string]any{
		"stateMachineArn": machineARN, "executionArn": executionARN, "status": status, "redriveCount": redrives,
	})
}

// maxBody bounds the body of a webhook call. A body has one record, whose key has at most
// 1,024 bytes.
const maxBody = 64 << 10

// Webhook handles the calls that versitygw makes after every change in its buckets. It
// forwards the events of one bucket below one prefix.
type Webhook struct {
	Bucket, Prefix string

	// Forward stores an event.
	Forward func(Event) error
}

// The reasons in the events. The reason of a creation is always PutObject, even if the object
// was copied or uploaded in parts.
const (
	creationReason = "PutObject"
	deletionReason = "DeleteObject"
)

// ServeHTTP responds with 204 after it has forwarded the events. versitygw ignores
// the HTTP status and does not repeat a call.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The body is like an S3 notification, but the key is not encoded. The member with the
	// bucket's name may be wrong, because versitygw reuses the memory of the name. So
	// ServeHTTP reads the name from the ARN, which is arn:aws:s3:::/NAME/KEY.
	var call struct {
		Records []struct {
			EventTime time.Time
			EventName string
			S3        struct {
				Bucket struct{ ARN string }
				Object struct{ Key string }
			}
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &call)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, record := range call.Records {
		bucket, _, _ := strings.Cut(strings.TrimPrefix(record.S3.Bucket.ARN, "arn:aws:s3:::/"), "/")
		key := record.S3.Object.Key
		if bucket != h.Bucket || !strings.HasPrefix(key, h.Prefix) {
			continue
		}
		switch {
		case strings.HasPrefix(record.EventName, "s3:ObjectCreated:"):
			err = h.Forward(Object(record.EventTime, ObjectCreated, bucket, key, creationReason))
		case strings.HasPrefix(record.EventName, "s3:ObjectRemoved:"):
			err = h.Forward(Object(record.EventTime, ObjectDeleted, bucket, key, deletionReason))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	// versitygw does not read the body of a response, and can reuse a connection only if
	// the response has no body.
	w.WriteHeader(http.StatusNoContent)
}

// CatchUp forwards the events that ServeHTTP may have missed. For each key below the prefix,
// it forwards the last creation or deletion, if that happened at or after the given time.
func (h *Webhook) CatchUp(ctx context.Context, client *s3.Client, since time.Time) error {
	pages := s3.NewListObjectVersionsPaginator(client, &s3.ListObjectVersionsInput{Bucket: &h.Bucket, Prefix: &h.Prefix})
	since = since.Truncate(time.Second) // LastModified has no fractions
	forward := func(latest *bool, at *time.Time, detailType string, key *string, reason string) error {
		if !aws.ToBool(latest) || aws.ToTime(at).Before(since) {
			return nil
		}
		return h.Forward(Object(aws.ToTime(at), detailType, h.Bucket, aws.ToString(key), reason))
	}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list %s/%s: %w", h.Bucket, h.Prefix, err)
		}
		for _, v := range page.Versions {
			if err := forward(v.IsLatest, v.LastModified, ObjectCreated, v.Key, creationReason); err != nil {
				return err
			}
		}
		for _, m := range page.DeleteMarkers {
			if err := forward(m.IsLatest, m.LastModified, ObjectDeleted, m.Key, deletionReason); err != nil {
				return err
			}
		}
	}
	return nil
}

// An event must have fewer bytes than maxEvent, which was the limit of EventBridge until January
// 2026. EventBridge now accepts up to 1 MB, but docs/notices.md promises at most 256 KiB.
const maxEvent = 256 << 10

// Notice is an event of a function, as EventBridge delivers it to a target.
type Notice = events.EventBridgeEvent

// Bus is the default event bus.
type Bus struct {
	Account, Region string
	Now             func() time.Time

	// Receive is called with each event.
	Receive func(Notice)
}

// Operations returns PutEvents, the only operation of EventBridge that the functions
// call. A request must have one event, because the functions send one at a time.
// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
func (b *Bus) Operations() awsjson.Operations {
	return awsjson.Operations{"AWSEvents.PutEvents": awsjson.Operation(b.putEvents)}
}

func (b *Bus) putEvents(request struct {
	Entries []struct{ Source, DetailType, Detail string }
}) (any, error) {
	if n := len(request.Entries); n != 1 {
		return nil, awsjson.Errorf("ValidationException", "%d events; the local stack accepts one in a request", n)
	}
	e := request.Entries[0]
	var object map[string]any
	switch size := len(e.Source) + len(e.DetailType) + len(e.Detail); {
	case size >= maxEvent:
		return nil, awsjson.Errorf("ValidationException", "an event of %d bytes; the local stack accepts fewer than %d", size, maxEvent)
	case e.Source == "" || e.DetailType == "" || strings.HasPrefix(e.Source, "aws."):
		return nil, awsjson.Errorf("InvalidArgument", "the source or the detail type is missing, or the source begins with aws., which is reserved")
	case json.Unmarshal([]byte(e.Detail), &object) != nil:
		return nil, awsjson.Errorf("MalformedDetail", "Detail is malformed.")
	}
	n := Notice{
		Version: "0", ID: uuid.NewString(), DetailType: e.DetailType, Source: e.Source, AccountID: b.Account, Region: b.Region,
		Time: b.Now().UTC().Truncate(time.Second), Resources: []string{}, Detail: json.RawMessage(e.Detail),
	}
	b.Receive(n)
	return map[string]any{"FailedEntryCount": 0, "Entries": []any{map[string]string{"EventId": n.ID}}}, nil
}
