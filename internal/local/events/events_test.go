package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

var origin = events.Origin{Account: "000000000000", Region: "us-east-1"}

// storage answers the two requests that a webhook makes.
type storage struct {
	head     func(w http.ResponseWriter, key string)
	versions string // the members of a ListVersionsResult
}

func (s storage) client(t *testing.T) *s3.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead && s.head != nil:
			s.head(w, strings.TrimPrefix(r.URL.Path, "/drops/"))
		case r.Method == http.MethodGet && r.URL.Query().Has("versions"):
			_, _ = fmt.Fprintf(w, "<ListVersionsResult>%s</ListVersionsResult>", s.versions)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return s3.NewFromConfig(aws.Config{
		Region:           "us-east-1",
		BaseEndpoint:     &server.URL,
		Credentials:      credentials.NewStaticCredentialsProvider("a", "b", ""),
		RetryMaxAttempts: 1,
	})
}

// object is a HEAD's answer.
func object(etag, version, size string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		w.Header().Set("ETag", `"`+etag+`"`)
		w.Header().Set("X-Amz-Version-Id", version)
		w.Header().Set("Content-Length", size)
	}
}

// says is a webhook call as versitygw 1.8.0 makes it.
func says(event, path, key, size, etag, version string) string {
	return fmt.Sprintf(`{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"us-east-1",
		"eventTime":"2026-03-01T13:06:14+01:00","eventName":%q,"userIdentity":{"PrincipalId":"a"},
		"requestParameters":{"sourceIPAddress":"0.0.0.0"},"responseElements":{"x-amz-request-id":"","x-amz-id-2":""},
		"s3":{"s3SchemaVersion":"1.0","configurationId":"webhook-global",
		"bucket":{"name":"garbled","ownerIdentity":{"PrincipalId":"a"},"arn":"arn:aws:s3:::/%s"},
		"object":{"key":%q,"size":%s,"eTag":%s,"versionId":%s,"sequencer":"1F"}},
		"glacierEventData":{"restoreEventData":{"lifecycleRestorationExpiryTime":"","lifecycleRestoreStorageClass":""}}}]}`,
		event, path, key, size, etag, version)
}

const (
	putEvent = `{"version":"0","id":"ID","detail-type":"Object Created","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/a b/ü+100%.mp4","size":6,"etag":"e1","version-id":"v1","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"PutObject"}}`
	multipartEvent = `{"version":"0","id":"ID","detail-type":"Object Created","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/big.mp4","size":20000000,"etag":"e2-3","version-id":"v2","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"CompleteMultipartUpload"}}`
	overwrittenEvent = `{"version":"0","id":"ID","detail-type":"Object Created","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/copy.mp4","size":0,"etag":"old","version-id":"v3","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"CopyObject"}}`
	markerEvent = `{"version":"0","id":"ID","detail-type":"Object Deleted","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/talk.mp4","etag":"d41d8cd98f00b204e9800998ecf8427e","version-id":"m1","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"DeleteObject","deletion-type":"Delete Marker Created"}}`
	goneEvent = `{"version":"0","id":"ID","detail-type":"Object Deleted","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/talk.mp4","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"DeleteObject","deletion-type":"Permanently Deleted"}}`
	goneVersionEvent = `{"version":"0","id":"ID","detail-type":"Object Deleted","source":"aws.s3","account":"000000000000",
		"time":"2026-03-01T12:06:14Z","region":"us-east-1","resources":["arn:aws:s3:::drops"],
		"detail":{"version":"0","bucket":{"name":"drops"},
		"object":{"key":"inbox/talk.mp4","version-id":"v9","sequencer":"69a42bb60000001f"},
		"request-id":"REQUEST","requester":"000000000000","source-ip-address":"127.0.0.1","reason":"DeleteObject","deletion-type":"Permanently Deleted"}}`
)

const marker = `<DeleteMarker><Key>inbox/talk.mp4</Key><VersionId>m1</VersionId><IsLatest>true</IsLatest></DeleteMarker>`

func TestWebhook(t *testing.T) {
	rows := map[string]struct {
		body    string
		storage storage
		want    string // empty: nothing is forwarded
	}{
		"a plain put": {
			body:    says("s3:ObjectCreated:Put", "drops/inbox/a b/ü+100%.mp4", "inbox/a b/ü+100%.mp4", "6", `"\"e1\""`, "null"),
			storage: storage{head: object("e1", "v1", "6")},
			want:    putEvent,
		},
		"a multipart upload, of unknown size": {
			body:    says("s3:ObjectCreated:CompleteMultipartUpload", "drops/inbox/big.mp4", "inbox/big.mp4", "0", `"\"e2-3\""`, `"v2"`),
			storage: storage{head: object("e2-3", "v2", "20000000")},
			want:    multipartEvent,
		},
		"overwritten since": {
			body:    says("s3:ObjectCreated:Copy", "drops/inbox/copy.mp4", "inbox/copy.mp4", "0", `"\"old\""`, `"v3"`),
			storage: storage{head: object("new", "v4", "7")},
			want:    overwrittenEvent,
		},
		"deleted since": {
			body: says("s3:ObjectCreated:Copy", "drops/inbox/copy.mp4", "inbox/copy.mp4", "0", `"\"old\""`, `"v3"`),
			want: overwrittenEvent,
		},
		"a deletion that leaves a marker": {
			body:    says("s3:ObjectRemoved:Delete", "drops/inbox/talk.mp4", "inbox/talk.mp4", "0", "null", "null"),
			storage: storage{versions: marker},
			want:    markerEvent,
		},
		"one of many deletions of a request": {
			body:    says("s3:ObjectRemoved:DeleteObjects", "drops", "inbox/talk.mp4", "0", "null", "null"),
			storage: storage{versions: marker},
			want:    markerEvent,
		},
		"an old version deleted": {
			body:    says("s3:ObjectRemoved:Delete", "drops/inbox/talk.mp4", "inbox/talk.mp4", "0", "null", "null"),
			storage: storage{versions: `<Version><Key>inbox/talk.mp4</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest></Version>`},
			want:    goneEvent,
		},
		"a marker of a longer key": {
			body:    says("s3:ObjectRemoved:Delete", "drops/inbox/talk.mp4", "inbox/talk.mp4", "0", "null", "null"),
			storage: storage{versions: strings.Replace(marker, "talk.mp4", "talk.mp4.bak", 1)},
			want:    goneEvent,
		},
		"a version deleted by name, among many": {
			body:    says("s3:ObjectRemoved:DeleteObjects", "drops", "inbox/talk.mp4", "0", "null", `"v9"`),
			storage: storage{versions: marker},
			want:    goneVersionEvent,
		},
		"outside the inbox":   {body: says("s3:ObjectCreated:Put", "drops/outbox/talk.mp4", "outbox/talk.mp4", "6", `"\"e\""`, "null")},
		"in another bucket":   {body: says("s3:ObjectCreated:Put", "other/inbox/talk.mp4", "inbox/talk.mp4", "6", `"\"e\""`, "null")},
		"tags":                {body: says("s3:ObjectTagging:Put", "drops/inbox/talk.mp4", "inbox/talk.mp4", "6", `"\"e\""`, "null")},
		"the call at a start": {body: `{"Bucket":"Test-Bucket","Event":"s3:TestEvent","Service":"S3","Time":"2026-03-01T13:06:14+01:00"}`},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			var got []events.Event
			hook := events.NewWebhook(origin, "drops", "inbox/", row.storage.client(t), func(e events.Event) error {
				got = append(got, e)
				return nil
			})
			answer := httptest.NewRecorder()
			hook.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body)))
			if answer.Code != http.StatusNoContent || answer.Body.Len() > 0 {
				t.Errorf("answer %d %q, want 204 and nothing", answer.Code, answer.Body)
			}
			expectEvents(t, got, row.want)
		})
	}
}

var (
	ids      = regexp.MustCompile(`"id":"[0-9a-f-]{36}"`)
	requests = regexp.MustCompile(`"request-id":"[A-Z0-9]{16}"`)
)

// expectEvents compares events as they are sent, but for what is random.
func expectEvents(t *testing.T, got []events.Event, want ...string) {
	t.Helper()
	var texts []any
	for _, event := range got {
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		text = ids.ReplaceAll(text, []byte(`"id":"ID"`))
		texts = append(texts, decode(t, string(requests.ReplaceAll(text, []byte(`"request-id":"REQUEST"`)))))
	}
	var wants []any
	for _, text := range want {
		if text != "" {
			wants = append(wants, decode(t, text))
		}
	}
	if diff := cmp.Diff(wants, texts); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func TestWebhookThatCannotForward(t *testing.T) {
	hook := events.NewWebhook(origin, "drops", "inbox/", storage{}.client(t), func(events.Event) error { return errors.New("disk full") })
	for name, row := range map[string]struct {
		body string
		want int
	}{
		"nowhere to keep it": {says("s3:ObjectCreated:Put", "drops/inbox/a.mp4", "inbox/a.mp4", "6", `"\"e\""`, "null"), http.StatusInternalServerError},
		"not JSON":           {"<xml>", http.StatusBadRequest},
		"endless":            {`{"Records":[` + strings.Repeat(" ", 100<<10) + `]}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			hook.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body)))
			if answer.Code != row.want {
				t.Errorf("answer %d, want %d", answer.Code, row.want)
			}
		})
	}
}

func TestCatchUp(t *testing.T) {
	client := storage{versions: `
		<Version><Key>inbox/old.mp4</Key><VersionId>v0</VersionId><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:13Z</LastModified><ETag>"e0"</ETag><Size>1</Size></Version>
		<Version><Key>inbox/a b/ü+100%.mp4</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified><ETag>"e1"</ETag><Size>6</Size></Version>
		<Version><Key>inbox/a b/ü+100%.mp4</Key><VersionId>v0</VersionId><IsLatest>false</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified><ETag>"e0"</ETag><Size>6</Size></Version>
		<DeleteMarker><Key>inbox/talk.mp4</Key><VersionId>m1</VersionId><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:14.9Z</LastModified></DeleteMarker>
		<DeleteMarker><Key>inbox/old.wav</Key><VersionId>m0</VersionId><IsLatest>true</IsLatest><LastModified>2026-03-01T12:06:13.9Z</LastModified></DeleteMarker>
		<DeleteMarker><Key>inbox/back.wav</Key><VersionId>m0</VersionId><IsLatest>false</IsLatest><LastModified>2026-03-01T12:06:14Z</LastModified></DeleteMarker>`,
	}.client(t)
	var got []events.Event
	hook := events.NewWebhook(origin, "drops", "inbox/", client, func(e events.Event) error {
		got = append(got, e)
		return nil
	})
	if err := hook.CatchUp(t.Context(), time.Date(2026, 3, 1, 12, 6, 14, 500e6, time.UTC)); err != nil {
		t.Fatal(err)
	}
	expectEvents(t, got, strings.ReplaceAll(putEvent, "1f\"", "00\""), strings.ReplaceAll(markerEvent, "1f\"", "00\""))
}

func TestSchedule(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 0, 0, 123, time.FixedZone("", 3600))
	expectEvents(t, []events.Event{origin.Schedule(at, "sweep")}, `{"version":"0","id":"ID","detail-type":"Scheduled Event",
		"source":"aws.events","account":"000000000000","time":"2026-03-01T12:00:00Z","region":"us-east-1",
		"resources":["arn:aws:events:us-east-1:000000000000:rule/sweep"],"detail":{}}`)
}
