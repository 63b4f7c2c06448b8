package handler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// change is what an event says about an object. A message that submit sends to its own queue
// holds a change as JSON (see ownMessage).
type change struct {
	bucket   string
	newChain bool      // see Queue.Send
	Key      string    `json:"key"`
	Deleted  bool      `json:"deleted,omitempty"`
	Time     time.Time `json:"time,omitzero"` // zero if the event does not say
	requeued
}

// deletedKey returns the key of a file that was deleted, or "" for an upload.
func (c change) deletedKey() string {
	if c.Deleted {
		return c.Key
	}
	return ""
}

// requeued is what submit adds to a change that it sends to its own queue. Such a message is
// about some of the names that the change concerns (see isPart), or it waits (see isWaiting).
//
// A change may concern thousands of names: a video with tagged audios, or a job.json with a
// wildcard. Submit then sends messages to its own queue, each with a part of the names, and
// the original message is finished. A message with several names is divided again, into about
// ten messages, until each name has a message of its own. So a held job is retried separately,
// unless MaxJobsPerDrop holds it (see MostJobs). After a crash, submit sends only about ten
// messages again. A message that comes twice or late only assesses its name again. A chain (see
// Queue.Send) has at most six messages.
type requeued struct {
	// Subjects are the names that are left to assess. If Subjects is nil, every name that
	// the change concerns is assessed.
	Subjects []drop.Subject `json:"subjects,omitempty"`
	// UnnamedBy is the bundle whose job.json no longer names the subjects.
	UnnamedBy string `json:"bundle,omitempty"`
	// Again says that the names may have been assessed before: a message of the change's batch
	// was delivered before, or submit has handled the change but did not finish.
	// Newest is the time of the newest change of the original message's batch. Uploads has the
	// batch's uploads of files that can belong to a job: the time of the newest upload of each key.
	Again   bool                 `json:"again,omitempty"`
	Newest  time.Time            `json:"newest,omitzero"`
	Uploads map[string]time.Time `json:"uploads,omitempty"`
	// Last says that the change comes from a message that waited for a higher MaxJobsPerDrop
	// until its last delivery.
	Last bool `json:"last,omitempty"`

	// MostJobs is the MaxJobsPerDrop that the change has exceeded. One message for all the jobs
	// beyond it waits until MaxJobsPerDrop is higher.
	MostJobs int `json:"mostJobs,omitempty"`
}

// isPart reports whether the message is about some of the names that its change concerns.
func (r requeued) isPart() bool { return r.Subjects != nil }

// isWaiting reports whether the message waits for a higher MaxJobsPerDrop.
func (r requeued) isWaiting() bool { return r.MostJobs > 0 }

// message is a message of the queue, or a whole event if there is no queue.
type message struct {
	id       string    // empty if there is no queue
	receipt  string    // of this delivery
	receives int       // how often the queue has delivered it, including this time
	sent     time.Time // zero if not known
	changes  []change
	err      error // why the message cannot be read
}

// parseEvent parses the payload of an invocation: a batch of queue messages or, without a
// queue, the body of one message (see parseBody).
func parseEvent(raw []byte, bucket string) ([]message, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(raw, &batch); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(batch.Records) == 0 || batch.Records[0].EventSource != "aws:sqs" {
		changes, err := parseBody(raw, bucket)
		return []message{{changes: changes}}, err
	}
	var messages []message
	for _, record := range batch.Records {
		m := message{id: record.MessageId, receipt: record.ReceiptHandle}
		m.receives, _ = strconv.Atoi(record.Attributes["ApproximateReceiveCount"])
		if sent, err := strconv.ParseInt(record.Attributes["SentTimestamp"], 10, 64); err == nil {
			m.sent = time.UnixMilli(sent)
		}
		m.changes, m.err = parseBody([]byte(record.Body), bucket)
		messages = append(messages, m)
	}
	return messages, nil
}

// parseBody reads an EventBridge event, an S3 notification, or a message that submit has
// sent. A message of submit names no bucket, so its change gets the given one. parseBody
// ignores S3's test event and expirations by a lifecycle rule, because no person made them.
func parseBody(raw []byte, bucket string) ([]change, error) {
	var body struct {
		events.EventBridgeEvent
		events.S3Event
		Event   string          // of an events.S3TestEvent, which S3 sends when a notification is set up
		Lipdrop json.RawMessage // of an ownMessage
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if body.Event == "s3:TestEvent" {
		return nil, nil
	}
	if body.Lipdrop != nil {
		return parseOwnMessage(raw, bucket)
	}
	if strings.HasPrefix(body.DetailType, "Object ") {
		return parseDetail(body.EventBridgeEvent)
	}
	if len(body.Records) == 0 {
		return nil, fmt.Errorf("event: not a batch of queue messages, an S3 notification or an EventBridge event of S3 (detail-type %q)", body.DetailType)
	}
	var changes []change
	for _, record := range body.Records {
		name := strings.TrimPrefix(record.EventName, "s3:")
		if strings.HasPrefix(name, "LifecycleExpiration:") {
			continue
		}
		key := record.S3.Object.URLDecodedKey
		if key == "" {
			return nil, fmt.Errorf("event: an S3 notification names no object")
		}
		changes = append(changes, change{
			bucket: record.S3.Bucket.Name, Key: key, Deleted: strings.HasPrefix(name, "ObjectRemoved:"), Time: record.EventTime,
		})
	}
	return changes, nil
}

func parseDetail(event events.EventBridgeEvent) ([]change, error) {
	var detail drop.EventDetail
	if err := json.Unmarshal(event.Detail, &detail); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if detail.Expired() {
		return nil, nil
	}
	return []change{{bucket: detail.Bucket.Name, Key: detail.Object.Key, Deleted: event.DetailType == "Object Deleted", Time: event.Time}}, nil
}

// ownMessage is the body of a message that submit sends to its own queue.
type ownMessage struct {
	Lipdrop *change `json:"lipdrop"`
}

// parseOwnMessage reads a body with the member lipdrop. Only submit may send such a body, so a
// member that submit does not write is an error. So is a body without a key below inbox/, or without
// exactly one of subjects and mostJobs.
func parseOwnMessage(raw []byte, bucket string) ([]change, error) {
	var message ownMessage
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(&message)
	if err == nil && (message.Lipdrop == nil || !strings.HasPrefix(message.Lipdrop.Key, ledger.InboxPrefix) ||
		message.Lipdrop.isPart() == message.Lipdrop.isWaiting()) {
		err = fmt.Errorf("it needs a key below %s, and either subjects or mostJobs", ledger.InboxPrefix)
	}
	if err != nil {
		return nil, fmt.Errorf("event: not a message of submit: %w", err)
	}
	message.Lipdrop.bucket = bucket
	return []change{*message.Lipdrop}, nil
}
