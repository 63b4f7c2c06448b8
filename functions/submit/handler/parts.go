package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const (
	// fewRequests is the number of requests to S3 after which submit starts no further
	// assessment for a message. It sends new messages for the subjects that are left.
	fewRequests = 25

	// The subjects of one message are divided into at most maxParts messages, or more
	// if their keys are long: a message with more than maxPart bytes of subjects gets no
	// further subject. SQS accepts at least 256 KiB.
	maxParts = 10
	maxPart  = 200 << 10
)

// part is what a message of submit to its own queue adds to the change that caused
// it. The zero value adds nothing: the change is as EventBridge reported it.
type part struct {
	// Subjects are what is left to assess. If it is nil, everything that the change
	// concerns is assessed.
	Subjects []drop.Subject `json:"subjects,omitempty"`
	// Bundle is the name of the bundle whose job.json no longer names the subjects.
	Bundle string `json:"bundle,omitempty"`

	// MostJobs was MaxJobsPerDrop when the change asked for more jobs. The message
	// waits until the limit is higher.
	MostJobs int `json:"mostJobs,omitempty"`
	// Last says that the change comes from a message that waited for a higher limit until
	// its last delivery.
	Last bool `json:"last,omitempty"`

	// Again says that an earlier delivery of a message of the change's batch, or an
	// assessment of the change, was not finished.
	// Newest and Uploads are the fields newest and events of the change's batch (see batch).
	Again   bool                 `json:"again,omitempty"`
	Newest  time.Time            `json:"newest,omitzero"`
	Uploads map[string]time.Time `json:"uploads,omitempty"`
}

// ownMessage is the body of a message of submit to its own queue.
type ownMessage struct {
	Lipdrop *change `json:"lipdrop"`
}

// parsePart reads the body of a message that submit has sent. Only submit and
// EventBridge may send messages to the queue, so anything else is an error.
func parsePart(raw []byte, bucket string) ([]change, error) {
	var message ownMessage
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(&message)
	if err == nil && (dec.More() || message.Lipdrop == nil || !strings.HasPrefix(message.Lipdrop.Key, ledger.InboxPrefix) ||
		(message.Lipdrop.Subjects == nil) == (message.Lipdrop.MostJobs == 0)) {
		err = fmt.Errorf("it needs a key below %s, and either subjects or a limit", ledger.InboxPrefix)
	}
	if err != nil {
		return nil, fmt.Errorf("event: not a message of submit: %w", err)
	}
	message.Lipdrop.bucket = bucket
	return []change{*message.Lipdrop}, nil
}

// send divides the subjects of a change into messages (see maxParts), and sends them. It
// leaves out each subject for which the batch has already sent a message.
func (h *Handler) send(ctx context.Context, b *batch, c change, subjects []drop.Subject) error {
	subjects = slices.DeleteFunc(slices.Clone(subjects), func(s drop.Subject) bool { return b.sent[c.assessmentKey(s)] })
	if len(subjects) == 0 {
		return nil
	}
	if c.Subjects == nil {
		c.Again, c.Newest, c.Uploads = c.Again || b.again, b.newest, b.events
	}
	most := (len(subjects) + maxParts - 1) / maxParts
	for len(subjects) > 0 {
		n, size := 0, 0
		for n < min(most, len(subjects)) && size <= maxPart {
			size += len(bucket.JSON(subjects[n], ""))
			n++
		}
		c.Subjects, subjects = subjects[:n], subjects[n:]
		if err := h.sendChange(ctx, c); err != nil {
			return err
		}
		for _, s := range c.Subjects {
			b.sent[c.assessmentKey(s)] = true
		}
	}
	return nil
}

func (h *Handler) sendChange(ctx context.Context, c change) error {
	return h.Queue.Send(ctx, string(bucket.JSON(ownMessage{&c}, "")))
}

// stillTooMany returns *heldError while MaxJobsPerDrop is not higher than when the
// change asked for more jobs.
func (h *Handler) stillTooMany(ctx context.Context, c change) error {
	if most := h.Resolver.MaxJobsPerDrop; most == 0 || most > c.MostJobs {
		return nil
	}
	slog.WarnContext(ctx, "not submitted", "key", c.Key, "state", ledger.Held, "code", problem.TooManyJobs)
	return &heldError{code: problem.TooManyJobs}
}
