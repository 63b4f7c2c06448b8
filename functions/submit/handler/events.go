package handler

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// change is what an event says happened to an object. It is a hint: what is in
// the bucket now decides.
type change struct {
	bucket, key string
	deleted     bool
	at          time.Time // when it happened; zero if the event does not say
}

// message is one message of the queue, or a whole plain event.
type message struct {
	id       string // empty for a plain event
	receives int    // how often the queue has delivered it, this time included
	changes  []change
	err      error // why the message cannot be read
}

// The three forms that an event may have. Keys in events of EventBridge are
// plain; keys in S3 notifications are URL-encoded.
type (
	envelope struct {
		Records    []json.RawMessage `json:"Records"`
		DetailType string            `json:"detail-type"`
		Event      string            `json:"Event"`
		Time       time.Time         `json:"time"`
		Detail     struct {
			Reason string `json:"reason"`
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key string `json:"key"`
			} `json:"object"`
		} `json:"detail"`
	}
	record struct {
		EventSource string    `json:"eventSource"`
		EventName   string    `json:"eventName"`
		EventTime   time.Time `json:"eventTime"`
		MessageID   string    `json:"messageId"`
		Body        string    `json:"body"`
		Attributes  struct {
			ReceiveCount string `json:"ApproximateReceiveCount"`
		} `json:"attributes"`
		S3 struct {
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key string `json:"key"`
			} `json:"object"`
		} `json:"s3"`
	}
)

// parseEvent reads what Lambda was called with: a batch of a queue whose
// bodies are events, an S3 notification, or an EventBridge event.
func parseEvent(raw []byte) ([]message, error) {
	var env envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	var batch []message
	for _, each := range env.Records {
		var rec record
		if err := json.Unmarshal(each, &rec); err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		if rec.EventSource != "aws:sqs" {
			break
		}
		m := message{id: rec.MessageID}
		m.receives, _ = strconv.Atoi(rec.Attributes.ReceiveCount)
		m.changes, m.err = parseBody([]byte(rec.Body))
		batch = append(batch, m)
	}
	if batch != nil {
		return batch, nil
	}
	changes, err := parseBody(raw)
	return []message{{changes: changes}}, err
}

// A lifecycle rule removes old versions, and files that nobody deleted. It
// starts and withdraws nothing.
const (
	lifecycleReason = "Lifecycle Expiration" // of an event of EventBridge
	lifecycleEvent  = "LifecycleExpiration:" // begins the name of an event of an S3 notification
	removedEvent    = "ObjectRemoved:"       // the same, for a deletion
	testEvent       = "s3:TestEvent"         // S3 sends one when a notification is set up
)

// parseBody reads an EventBridge event or an S3 notification.
func parseBody(raw []byte) ([]change, error) {
	var env envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if env.Event == testEvent || env.Detail.Reason == lifecycleReason {
		return nil, nil
	}
	if strings.HasPrefix(env.DetailType, "Object ") {
		return []change{{env.Detail.Bucket.Name, env.Detail.Object.Key, env.DetailType == "Object Deleted", env.Time}}, nil
	}
	if len(env.Records) == 0 {
		return nil, fmt.Errorf("event: neither a queue's batch, nor an S3 notification, nor an EventBridge event of S3 (detail-type %q)", env.DetailType)
	}
	var changes []change
	for _, each := range env.Records {
		var rec record
		if err := json.Unmarshal(each, &rec); err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		key, err := url.QueryUnescape(rec.S3.Object.Key)
		if err != nil || key == "" {
			return nil, fmt.Errorf("event: no key of an object in an S3 notification")
		}
		name := strings.TrimPrefix(rec.EventName, "s3:")
		if strings.HasPrefix(name, lifecycleEvent) {
			continue
		}
		changes = append(changes, change{rec.S3.Bucket.Name, key, strings.HasPrefix(name, removedEvent), rec.EventTime})
	}
	return changes, nil
}
