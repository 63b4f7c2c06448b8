package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

// call returns the body of a webhook call as versitygw 1.8.0 sends it after a request to a path. The
// member with the bucket's name is wrong, as it may be in a real call: see ServeHTTP.
func call(event, path, key string) string {
	return fmt.Sprintf(`{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"us-east-1",
		"eventTime":"2026-03-01T13:06:14+01:00","eventName":%q,"userIdentity":{"PrincipalId":"a"},
		"requestParameters":{"sourceIPAddress":"0.0.0.0"},"responseElements":{"x-amz-request-id":"","x-amz-id-2":""},
		"s3":{"s3SchemaVersion":"1.0","configurationId":"webhook-global",
		"bucket":{"name":"garbled","ownerIdentity":{"PrincipalId":"a"},"arn":"arn:aws:s3:::/%s"},
		"object":{"key":%q,"size":6,"eTag":"\"e1\"","versionId":null,"sequencer":"1F"}},
		"glacierEventData":{"restoreEventData":{"lifecycleRestorationExpiryTime":"","lifecycleRestoreStorageClass":""}}}]}`,
		event, path, key)
}

// object returns the JSON text of an event about an object.
func object(detailType, key, reason string) string {
	return fmt.Sprintf(`{"detail-type":%q,"source":"aws.s3","time":"2026-03-01T12:06:14Z",
		"detail":{"bucket":{"name":"drops"},"object":{"key":%q},"reason":%q}}`, detailType, key, reason)
}

// collect returns a webhook and the events that it forwards.
func collect() (*events.Webhook, *[]events.Event) {
	got := new([]events.Event)
	return &events.Webhook{Bucket: "drops", Prefix: "inbox/", Forward: func(e events.Event) error {
		*got = append(*got, e)
		return nil
	}}, got
}

func TestWebhook(t *testing.T) {
	for name, row := range map[string]struct{ body, want string }{
		"a plain put": {
			body: call("s3:ObjectCreated:Put", "drops/inbox/a b/ü+100%.mp4", "inbox/a b/ü+100%.mp4"),
			want: object("Object Created", "inbox/a b/ü+100%.mp4", "PutObject"),
		},
		"a multipart upload, whose reason is PutObject too": {
			body: call("s3:ObjectCreated:CompleteMultipartUpload", "drops/inbox/big.mp4", "inbox/big.mp4"),
			want: object("Object Created", "inbox/big.mp4", "PutObject"),
		},
		"a deletion": {
			body: call("s3:ObjectRemoved:Delete", "drops/inbox/talk.mp4", "inbox/talk.mp4"),
			want: object("Object Deleted", "inbox/talk.mp4", "DeleteObject"),
		},
		"one object of a request that deletes several": {
			body: call("s3:ObjectRemoved:DeleteObjects", "drops", "inbox/talk.mp4"),
			want: object("Object Deleted", "inbox/talk.mp4", "DeleteObject"),
		},
		"outside the inbox":                   {body: call("s3:ObjectCreated:Put", "drops/outbox/talk.mp4", "outbox/talk.mp4")},
		"in another bucket":                   {body: call("s3:ObjectCreated:Put", "other/inbox/talk.mp4", "inbox/talk.mp4")},
		"tags":                                {body: call("s3:ObjectTagging:Put", "drops/inbox/talk.mp4", "inbox/talk.mp4")},
		"the test call when versitygw starts": {body: `{"Bucket":"Test-Bucket","Event":"s3:TestEvent","Service":"S3","Time":"2026-03-01T13:06:14+01:00"}`},
	} {
		t.Run(name, func(t *testing.T) {
			hook, got := collect()
			response := httptest.NewRecorder()
			hook.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body)))
			if response.Code != http.StatusNoContent || response.Body.Len() > 0 {
				t.Errorf("response %d %q, want 204 without a body", response.Code, response.Body)
			}
			expectEvents(t, *got, row.want)
		})
	}
}

// expectEvents compares events with JSON texts.
func expectEvents(t *testing.T, got []events.Event, want ...string) {
	t.Helper()
	decode := func(text string) (value any) {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return value
	}
	var texts, wants []any
	for _, event := range got {
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, decode(string(text)))
	}
	for _, text := range want {
		if text != "" {
			wants = append(wants, decode(text))
		}
	}
	if diff := cmp.Diff(wants, texts); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWebhookErrors(t *testing.T) {
	hook := &events.Webhook{Bucket: "drops", Prefix: "inbox/", Forward: func(events.Event) error { return errors.New("disk full") }}
	for name, row := range map[string]struct {
		body string
		want int
	}{
		"an event that cannot be forwarded": {call("s3:ObjectCreated:Put", "drops/inbox/a.mp4", "inbox/a.mp4"), http.StatusInternalServerError},
		"not JSON":                          {"<xml>", http.StatusBadRequest},
		"a body that is too long":           {`{"Records":[` + strings.Repeat(" ", 100<<10) + `]}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			response := httptest.NewRecorder()
			hook.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body)))
			if response.Code != row.want {
				t.Errorf("HTTP status %d, want %d", response.Code, row.want)
			}
		})
	}
}

func TestCatchUp(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<ListVersionsResult>
			<Version><Key>inbox/old.mp4</Key><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:13Z</LastModified></Version>
			<Version><Key>inbox/a b/ü+100%.mp4</Key><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified></Version>
			<Version><Key>inbox/a b/ü+100%.mp4</Key><IsLatest>false</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified></Version>
			<DeleteMarker><Key>inbox/talk.mp4</Key><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:14.9Z</LastModified></DeleteMarker>
			<DeleteMarker><Key>inbox/old.wav</Key><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:13.9Z</LastModified></DeleteMarker>
			<DeleteMarker><Key>inbox/back.wav</Key><IsLatest>false</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified></DeleteMarker>
			</ListVersionsResult>`))
	}))
	defer server.Close()
	client := s3.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	hook, got := collect()
	// CatchUp truncates this time to whole seconds, so it also forwards the version of 12:06:14.
	if err := hook.CatchUp(t.Context(), client, time.Date(2026, 3, 1, 12, 6, 14, 500e6, time.UTC)); err != nil {
		t.Fatal(err)
	}
	expectEvents(t, *got, object("Object Created", "inbox/a b/ü+100%.mp4", "PutObject"), object("Object Deleted", "inbox/talk.mp4", "DeleteObject"))
}

func TestEventsThatAreNotAboutObjects(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 0, 0, 123, time.FixedZone("", 3600))
	expectEvents(t, []events.Event{events.Schedule(at), events.StatusChange(at, "machine", "execution", "FAILED", 1)},
		`{"detail-type":"Scheduled Event","source":"aws.events","time":"2026-03-01T12:00:00Z","detail":{}}`,
		`{"detail-type":"Step Functions Execution Status Change","source":"aws.states","time":"2026-03-01T12:00:00Z",
			"detail":{"stateMachineArn":"machine","executionArn":"execution","status":"FAILED","redriveCount":1}}`)
}

func TestBusRefuses(t *testing.T) {
	const entry = `{"Source": "lipdrop", "DetailType": "Job failed", "Detail": "{}"}`
	for name, row := range map[string]struct{ entries, want string }{
		"no entry":                   {"", "ValidationException"},
		"two entries":                {entry + "," + entry, "ValidationException"},
		"more than 256 KiB":          {strings.Replace(entry, "{}", `{\"a\":\"`+strings.Repeat("a", 256<<10)+`\"}`, 1), "ValidationException"},
		"another bus":                {strings.Replace(entry, "{", `{"EventBusName": "other", `, 1), "SerializationException"},
		"a source that AWS reserves": {strings.Replace(entry, "lipdrop", "aws.s3", 1), "InvalidArgument"},
		"an empty detail type":       {strings.Replace(entry, "Job failed", "", 1), "InvalidArgument"},
		"a list as detail":           {strings.Replace(entry, "{}", "[]", 1), "MalformedDetail"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"Entries": [`+row.entries+`]}`))
			r.Header.Set("X-Amz-Target", "AWSEvents.PutEvents")
			w := httptest.NewRecorder()
			(&events.Bus{Now: time.Now, Receive: func(events.Notice) { t.Error("the bus delivered the event, want a refusal") }}).Operations().Handler().ServeHTTP(w, r)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("HTTP status %d: %s, want 400: %s", w.Code, w.Body, row.want)
			}
		})
	}
}
