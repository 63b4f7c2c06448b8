package handler_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// A take is charged once and has one execution and one output, however often, late
// and out of order its events arrive.
func TestEventsOfOneTake(t *testing.T) {
	const video, audio = "inbox/ads/talk.mp4", "inbox/ads/talk.wav"
	created := func(key string, late ...time.Duration) func(*world.World) {
		return func(w *world.World) {
			for _, d := range late {
				w.Notify("Object Created", key, d)
			}
		}
	}
	tests := []struct {
		name   string
		events []func(*world.World)
	}{
		{"the video first", []func(*world.World){created(video, 0), created(audio, time.Second)}},
		{"the audio first", []func(*world.World){created(audio, 0), created(video, time.Second)}},
		{"both at once", []func(*world.World){created(audio, 0), created(video, 0)}},
		{"the event of the audio is lost", []func(*world.World){created(video, 0)}},
		{"each delivered ten times", []func(*world.World){
			created(video, 0, 0, 0, time.Second, time.Second, time.Minute, time.Minute, time.Hour, 24*time.Hour, 100*24*time.Hour),
			created(audio, 0, 0, 0, time.Second, time.Second, time.Minute, time.Minute, time.Hour, 24*time.Hour, 100*24*time.Hour),
		}},
		{"one is a day late", []func(*world.World){created(video, 24*time.Hour), created(audio, 0)}},
		{"a deletion that was undone before its event arrived", []func(*world.World){created(audio, 0), created(video, 0), func(w *world.World) {
			w.Notify("Object Deleted", video, time.Minute)
			w.NotifyCancel(video, "DeleteObject", 20*time.Second)
		}}},
	}
	for _, tt := range tests {
		for _, batch := range []int{1, 10} {
			t.Run(fmt.Sprintf("%s, in batches of %d", tt.name, batch), func(t *testing.T) {
				w := worldtest.New(t)
				w.Batch = batch
				clip, voice := sample.Files()
				w.Put(video, clip)
				w.Put(audio, voice)
				for _, send := range tt.events {
					send(w)
				}
				if !w.Run(200 * 24 * time.Hour) {
					t.Error("after 200 days a queue still has messages or an execution runs, want neither")
				}
				worldtest.WantArchived(t, w)
				if n := len(w.Executions()); n != 1 {
					t.Errorf("%d executions, want 1", n)
				}
				outputs := 0
				for _, key := range w.Bucket.Keys() {
					if strings.HasPrefix(key, "outbox/") {
						outputs++
					}
				}
				if outputs != 2 {
					t.Errorf("%d objects in the outbox, want 2, the output and result.json", outputs)
				}
			})
		}
	}
}

// Two takes of one name are under way at once: both are paid for, each that succeeds is
// archived, and the status never goes back to the older take.
func TestTwoTakesUnderWay(t *testing.T) {
	tests := []struct {
		name         string
		older, newer runcomfytest.Script
		late         time.Duration // how late the newer take's event is
	}{
		{"the older ends last", runcomfytest.Script{Run: time.Hour}, runcomfytest.Script{Run: time.Minute}, 0},
		{"the older ends first", runcomfytest.Script{Run: 3 * time.Minute}, runcomfytest.Script{Run: time.Hour}, 0},
		{"the older fails after the newer has succeeded", runcomfytest.Script{Run: time.Hour, Fail: "no face"}, runcomfytest.Script{Run: time.Minute}, 0},
		{"the event of the newer is late", runcomfytest.Script{Run: time.Hour}, runcomfytest.Script{Run: time.Minute}, 30 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
				if w.RunComfy.Charges() > 0 {
					return tt.newer
				}
				return tt.older
			}
			newest := ""
			w.After = func(c world.Call) error {
				var st ledger.Status
				body, _ := w.Bucket.Object(ledger.StatusKey("ads/talk"))
				if c.Op == "PutObject" && c.Key == ledger.StatusKey("ads/talk") && json.Unmarshal(body, &st) == nil {
					if st.Take < newest {
						t.Errorf("the status went back from take %s to %s, want the same or a newer take", newest, st.Take)
					}
					newest = st.Take
				}
				return nil
			}
			worldtest.DropPair(w)
			w.Run(2 * time.Minute)
			_, voice := sample.Files()
			w.Put("inbox/ads/talk.wav", voice)
			w.Notify("Object Created", "inbox/ads/talk.wav", tt.late)
			worldtest.Rest(t, w)
			worldtest.WantCharges(t, w, 2)
			st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, "")
			takes := w.Takes("ads/talk")
			if len(takes) != 2 || st.Take != takes[1].Take || newest != takes[1].Take {
				t.Fatalf("the status is of take %s, want the newer of two takes: %+v", st.Take, takes)
			}
			for i, rec := range takes {
				state, outputs := ledger.Succeeded, 1
				if tt.older.Fail != nil && i == 0 {
					state, outputs = ledger.Failed, 0
				}
				if rec.State != state || len(rec.Outputs) != outputs {
					t.Errorf("take %d is %+v, want %s with %d outputs", i, rec, state, outputs)
				}
			}
		})
	}
}

// An event of another bucket does nothing, even if lipdrop's bucket has a file with the same key.
func TestEventOfAnotherBucket(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	w.Put("inbox/ads/talk.mp4", clip)
	w.Put("inbox/ads/talk.wav", voice)
	failed, err := w.Submit(events.SQSMessage{
		MessageId: "1", EventSource: "aws:sqs", Body: `{"detail-type": "Object Created", "detail": {"bucket": {"name": "other"}, "object": {"key": "inbox/ads/talk.wav"}}}`,
	})
	if err != nil || len(failed) > 0 {
		t.Errorf("failed messages %v, %v; want none", failed, err)
	}
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 0)
}

// Submit reads each form in which AWS reports a change. Only the keys of S3 notifications are
// URL-encoded.
func TestFormsOfAnEvent(t *testing.T) {
	const video, audio = "inbox/Größe 1+1 50%25.mp4", "inbox/Größe 1+1 50%25.wav"
	const encodedVideo, encodedAudio = "inbox/Gr%C3%B6%C3%9Fe+1%2B1+50%2525.mp4", "inbox/Gr%C3%B6%C3%9Fe+1%2B1+50%2525.wav"
	record := func(event, key string) string {
		return fmt.Sprintf(`{"eventVersion": "2.3", "eventSource": "aws:s3", "eventTime": "2026-05-01T00:00:00.123Z", "eventName": %q, "s3": {"s3SchemaVersion": "1.0",
			"bucket": {"name": "lipdrop"}, "object": {"key": %q, "size": 1, "eTag": "e", "versionId": "v", "sequencer": "0055AED6DCD90281E5"}}}`, event, key)
	}
	notification := func(records ...string) string { return `{"Records": [` + strings.Join(records, ",") + `]}` }
	bridge := func(kind, key, reason string) string {
		return fmt.Sprintf(`{"version": "0", "id": "17793124", "detail-type": %q, "source": "aws.s3", "account": "111122223333", "time": "2026-05-01T00:00:00Z", "region": "us-east-1", "resources": [],
			"detail": {"version": "0", "bucket": {"name": "lipdrop"}, "object": {"key": %q, "version-id": "v", "sequencer": "00"}, "reason": %q, "deletion-type": "Delete Marker Created"}}`, kind, key, reason)
	}
	tests := []struct {
		name, body string
		gone       bool         // the audio is not in the bucket
		want       ledger.State // "": no status
		failed     []string     // the ids of messages
	}{
		{name: "an S3 notification", body: notification(record("ObjectCreated:Put", encodedAudio)), want: ledger.Submitted},
		{name: "an S3 notification whose event name begins with s3:", body: notification(record("s3:ObjectCreated:CompleteMultipartUpload", encodedAudio)), want: ledger.Submitted},
		{name: "an S3 notification with two records", body: notification(record("ObjectCreated:Put", encodedVideo), record("ObjectCreated:Copy", encodedAudio)), want: ledger.Submitted},
		{name: "a record of another bucket beside a record of this one", body: notification(
			strings.Replace(record("ObjectCreated:Put", encodedAudio), `"lipdrop"`, `"other"`, 1), record("ObjectCreated:Put", encodedVideo)), want: ledger.Submitted},
		{name: "a delete marker of a file that was uploaded again", body: notification(record("ObjectRemoved:DeleteMarkerCreated", encodedAudio))},
		{name: "a delete marker", body: notification(record("ObjectRemoved:DeleteMarkerCreated", encodedAudio)), gone: true, want: ledger.Waiting},
		{name: "a deleted version", body: notification(record("ObjectRemoved:Delete", encodedAudio)), gone: true, want: ledger.Waiting},
		{name: "a deletion by a lifecycle rule", body: notification(record("s3:LifecycleExpiration:DeleteMarkerCreated", encodedAudio)), gone: true},
		{name: "a test event", body: `{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-05-01T00:00:00.000Z", "Bucket": "lipdrop", "RequestId": "1", "HostId": "2"}`},
		{name: "an EventBridge event", body: bridge("Object Created", audio, "PutObject"), want: ledger.Submitted},
		{name: "a delete marker, in an EventBridge event", body: bridge("Object Deleted", audio, "DeleteObject"), gone: true, want: ledger.Waiting},
		{name: "a deletion by a lifecycle rule, in an EventBridge event", body: bridge("Object Deleted", audio, "Lifecycle Expiration"), gone: true},
		{name: "an empty object", body: `{}`, failed: []string{"1"}},
		{name: "no records", body: notification(), failed: []string{"1"}},
		{name: "a record without a key", body: notification(record("ObjectCreated:Put", "")), failed: []string{"1"}},
		{name: "not JSON", body: `inbox/talk.wav`, failed: []string{"1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			clip, voice := sample.Files()
			w.Put(video, clip)
			if !tt.gone {
				w.Put(audio, voice)
			}
			failed, err := w.Submit(
				events.SQSMessage{MessageId: "1", EventSource: "aws:sqs", Body: tt.body},
				events.SQSMessage{MessageId: "2", EventSource: "aws:sqs", Body: bridge("Object Created", "inbox/other.wav", "PutObject")},
			)
			if err != nil || !slices.Equal(failed, tt.failed) {
				t.Errorf("failed messages %v, error %v; want %v", failed, err, tt.failed)
			}
			if st := w.Status("Größe 1+1 50%25"); st.State != tt.want {
				t.Errorf("the status is %q, want %q", st.State, tt.want)
			}
			if w.Status("other").State == "" {
				t.Error("the name of the other message has no status, want one")
			}
		})
	}
}
