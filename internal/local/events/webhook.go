package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// maxBody bounds a webhook call: one record, whose key is at most 1,024
	// bytes.
	maxBody = 64 << 10
	// lookTimeout bounds what is asked of S3 about one event.
	lookTimeout = 30 * time.Second
	// lookups bounds how many events are looked up at once: the server calls
	// the webhook once a key, however many a request deletes.
	lookups = 16
)

// Webhook is called by versitygw with every change in its buckets. It forwards
// the events of one bucket below one prefix as EventBridge would send them.
type Webhook struct {
	origin  Origin
	bucket  string
	prefix  string
	client  *s3.Client
	forward func(Event) error
	places  chan struct{}
}

// NewWebhook returns a handler that asks client for what versitygw leaves out,
// and hands each event to forward, which keeps it or says why not.
func NewWebhook(origin Origin, bucket, prefix string, client *s3.Client, forward func(Event) error) *Webhook {
	return &Webhook{origin, bucket, prefix, client, forward, make(chan struct{}, lookups)}
}

// message is the body of a webhook call.
type message struct {
	Records []record
}

// record is one change. Of its form, which is that of an S3 notification, this
// differs: the name begins with "s3:", the ARN has a slash before the bucket
// and the key at its end, keys are not encoded, ETags are in quotes, a size is
// known for a plain PUT alone, and a version for the other ways to write alone.
type record struct {
	EventTime time.Time `json:"eventTime"`
	EventName string    `json:"eventName"`
	S3        struct {
		Bucket struct {
			ARN string `json:"arn"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			Size      int64  `json:"size"`
			ETag      string `json:"eTag"`
			VersionID string `json:"versionId"`
			Sequencer string `json:"sequencer"` // a hexadecimal count since the server's start
		} `json:"object"`
	} `json:"s3"`
}

// reasons are EventBridge's names of the ways to write an object.
var reasons = map[string]string{
	"s3:ObjectCreated:Put":                     "PutObject",
	"s3:ObjectCreated:Post":                    "POST Object",
	"s3:ObjectCreated:Copy":                    "CopyObject",
	"s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
}

// ServeHTTP answers 204 once the events are forwarded. The server that calls
// looks neither at the status nor twice.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var said message
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.places <- struct{}{}
	defer func() { <-h.places }()
	// The caller gives up after three seconds, and the event is still wanted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), lookTimeout)
	defer cancel()
	for _, rec := range said.Records {
		if err := h.take(ctx, rec); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	// Without a body, so that the caller, which reads none, can use the
	// connection again.
	w.WriteHeader(http.StatusNoContent)
}

func (h *Webhook) take(ctx context.Context, rec record) error {
	// The bucket's name is taken from the ARN: the member for it is a view of
	// memory that versitygw may have used again.
	bucket, _, _ := strings.Cut(strings.TrimPrefix(rec.S3.Bucket.ARN, "arn:aws:s3:::/"), "/")
	if bucket != h.bucket || !strings.HasPrefix(rec.S3.Object.Key, h.prefix) {
		return nil
	}
	reason, created := reasons[rec.EventName]
	switch {
	case created:
		return h.forward(h.created(rec.EventTime, reason, h.written(ctx, rec)))
	case strings.HasPrefix(rec.EventName, "s3:ObjectRemoved:"):
		object, marker := h.removed(ctx, rec)
		return h.forward(h.deleted(rec.EventTime, object, marker))
	}
	return nil // tags and the like, which no rule wants
}

// written completes what a record says of an object that was written. What S3
// cannot tell any more, since another version or nothing stands there now,
// stays as the record has it: an event is a hint to look.
func (h *Webhook) written(ctx context.Context, rec record) ObjectFields {
	said := rec.S3.Object
	object := ObjectFields{
		Key: said.Key, Size: &said.Size, ETag: bare(said.ETag), VersionID: said.VersionID,
		Sequencer: sequencer(rec.EventTime, said.Sequencer),
	}
	now, err := h.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &h.bucket, Key: &said.Key})
	if err == nil && bare(aws.ToString(now.ETag)) == object.ETag {
		object.Size, object.VersionID = now.ContentLength, aws.ToString(now.VersionId)
	}
	return object
}

// emptyETag is the ETag that S3 gives a delete marker: the MD5 of nothing.
const emptyETag = "d41d8cd98f00b204e9800998ecf8427e"

// removed tells a delete marker, which stands for the object now, from a
// version that is gone for good, which the record does not.
func (h *Webhook) removed(ctx context.Context, rec record) (ObjectFields, bool) {
	said := rec.S3.Object
	object := ObjectFields{Key: said.Key, VersionID: said.VersionID, Sequencer: sequencer(rec.EventTime, said.Sequencer)}
	now, err := h.client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &h.bucket, Prefix: &said.Key, MaxKeys: aws.Int32(1)})
	if err == nil && said.VersionID == "" {
		for _, marker := range now.DeleteMarkers {
			if aws.ToString(marker.Key) == said.Key && aws.ToBool(marker.IsLatest) {
				object.ETag, object.VersionID = emptyETag, aws.ToString(marker.VersionId)
				return object, true
			}
		}
	}
	return object, false
}

func (h *Webhook) created(at time.Time, reason string, object ObjectFields) Event {
	detail := h.detail(reason, object)
	return h.origin.event(at, ObjectCreated, "aws.s3", "arn:aws:s3:::"+h.bucket, detail)
}

func (h *Webhook) deleted(at time.Time, object ObjectFields, marker bool) Event {
	detail := h.detail("DeleteObject", object)
	detail.DeletionType = "Permanently Deleted"
	if marker {
		detail.DeletionType = "Delete Marker Created"
	}
	return h.origin.event(at, ObjectDeleted, "aws.s3", "arn:aws:s3:::"+h.bucket, detail)
}

func (h *Webhook) detail(reason string, object ObjectFields) Object {
	return Object{
		Version:   "0",
		Bucket:    Bucket{Name: h.bucket},
		Object:    object,
		RequestID: rand.Text()[:requestIDSize],
		Requester: h.origin.Account,
		SourceIP:  "127.0.0.1",
		Reason:    reason,
	}
}

// requestIDSize is how many letters and digits S3's request ids have.
const requestIDSize = 16

// CatchUp forwards an event for every object below the prefix that was written
// or deleted at or after a time: what the webhook may have missed while nothing
// listened.
func (h *Webhook) CatchUp(ctx context.Context, since time.Time) error {
	pages := s3.NewListObjectVersionsPaginator(h.client, &s3.ListObjectVersionsInput{Bucket: &h.bucket, Prefix: &h.prefix})
	since = since.Truncate(time.Second) // LastModified has no fractions
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list %s%s: %w", h.bucket, h.prefix, err)
		}
		for _, v := range page.Versions {
			at := aws.ToTime(v.LastModified)
			if !aws.ToBool(v.IsLatest) || at.Before(since) {
				continue
			}
			object := ObjectFields{
				Key: aws.ToString(v.Key), Size: v.Size, ETag: bare(aws.ToString(v.ETag)),
				VersionID: aws.ToString(v.VersionId), Sequencer: sequencer(at, ""),
			}
			if err := h.forward(h.created(at, "PutObject", object)); err != nil {
				return err
			}
		}
		for _, m := range page.DeleteMarkers {
			at := aws.ToTime(m.LastModified)
			if !aws.ToBool(m.IsLatest) || at.Before(since) {
				continue
			}
			object := ObjectFields{
				Key: aws.ToString(m.Key), ETag: emptyETag,
				VersionID: aws.ToString(m.VersionId), Sequencer: sequencer(at, ""),
			}
			if err := h.forward(h.deleted(at, object, true)); err != nil {
				return err
			}
		}
	}
	return nil
}

// bare returns an ETag without its quotes.
func bare(etag string) string { return strings.Trim(etag, `"`) }

// sequencer returns sixteen hexadecimal digits, as S3 does: the second, then
// the server's count.
func sequencer(at time.Time, count string) string {
	n, _ := strconv.ParseUint(count, 16, 32) // none: 0
	return fmt.Sprintf("%08x%08x", at.Unix(), n)
}
