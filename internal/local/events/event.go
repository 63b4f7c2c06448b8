// Package events turns what happens in the local stack into the very events
// that EventBridge sends in AWS.
package events

import (
	"time"

	"github.com/lipdrop/lipdrop/internal/local/uuid"
)

// The detail types of events that the stack sends.
const (
	ObjectCreated = "Object Created"
	ObjectDeleted = "Object Deleted"
	Scheduled     = "Scheduled Event"
)

// Event is an event as EventBridge delivers it to a target.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
type Event struct {
	Version    string    `json:"version"`
	ID         string    `json:"id"`
	DetailType string    `json:"detail-type"`
	Source     string    `json:"source"`
	Account    string    `json:"account"`
	Time       time.Time `json:"time"` // UTC, whole seconds
	Region     string    `json:"region"`
	Resources  []string  `json:"resources"`
	Detail     any       `json:"detail"` // for S3, an Object
}

// Object is the detail of an event about an object in S3.
type Object struct {
	Version      string       `json:"version"`
	Bucket       Bucket       `json:"bucket"`
	Object       ObjectFields `json:"object"`
	RequestID    string       `json:"request-id"`
	Requester    string       `json:"requester"`
	SourceIP     string       `json:"source-ip-address"`
	Reason       string       `json:"reason"`                  // the API call
	DeletionType string       `json:"deletion-type,omitempty"` // of a deletion alone
}

// Bucket names the bucket of an event.
type Bucket struct {
	Name string `json:"name"`
}

// ObjectFields describes the object of an event.
type ObjectFields struct {
	Key       string `json:"key"`            // as it is, not URL-encoded
	Size      *int64 `json:"size,omitempty"` // nil for a deletion
	ETag      string `json:"etag,omitempty"` // without quotes
	VersionID string `json:"version-id,omitempty"`
	Sequencer string `json:"sequencer"` // greater is later, for one key
}

// Origin is where events come from.
type Origin struct {
	Account string // 12 digits
	Region  string
}

func (o Origin) event(at time.Time, detailType, source, resource string, detail any) Event {
	return Event{
		Version:    "0",
		ID:         uuid.New(),
		DetailType: detailType,
		Source:     source,
		Account:    o.Account,
		Time:       at.UTC().Truncate(time.Second),
		Region:     o.Region,
		Resources:  []string{resource},
		Detail:     detail,
	}
}

// Schedule returns the event of a scheduled rule that is due.
func (o Origin) Schedule(at time.Time, rule string) Event {
	arn := "arn:aws:events:" + o.Region + ":" + o.Account + ":rule/" + rule
	return o.event(at, Scheduled, "aws.events", arn, struct{}{})
}

// StatusChange returns the event of an execution whose status has changed, with
// the members of its detail that the rule and cancel read.
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
func (o Origin) StatusChange(at time.Time, executionARN, status string, redrives int) Event {
	return o.event(at, "Step Functions Execution Status Change", "aws.states", executionARN,
		map[string]any{"executionArn": executionARN, "status": status, "redriveCount": redrives})
}
