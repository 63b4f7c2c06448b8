package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowCopier makes the first n copies without a delay. The next copy blocks until its
// context ends. Find always returns a copy: archive asks only for keys that the bucket has.
type slowCopier struct {
	n     int
	first error // of the first copy, if not nil
}

func (c *slowCopier) Copy(ctx context.Context, _ string, name func([]byte) (string, string)) (transfer.Object, error) {
	if err := c.first; err != nil {
		c.first = nil
		return transfer.Object{}, err
	}
	if c.n == 0 {
		<-ctx.Done()
		return transfer.Object{}, context.Cause(ctx)
	}
	c.n--
	key, contentType := name([]byte("unknown content"))
	return transfer.Object{Key: key, ContentType: contentType, Bytes: 1}, nil
}

func (c *slowCopier) Find(_ context.Context, _, key string) (transfer.Object, bool, error) {
	return transfer.Object{Key: key, Bytes: 1, Existed: true}, true, nil
}

// newHandler returns a Handler to which RunComfy always sends the same response.
func newHandler(storage *s3test.Bucket, status int, body string) *Handler {
	return &Handler{
		Ledger:     &ledger.Store{Bucket: &bucket.Bucket{S3: storage, Name: "b"}, Now: time.Now},
		MaxOutputs: 100, Now: time.Now, Sleep: func(context.Context, time.Duration) error { return nil },
		API: &runcomfy.Client{
			Token: runcomfy.StaticToken("token"),
			HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
			})},
		},
	}
}

// Archive writes no record for a job that RunComfy does not know.
func TestUnknownJobGetsNoRecord(t *testing.T) {
	h := newHandler(&s3test.Bucket{}, http.StatusNotFound, "")
	_, err := h.Handle(t.Context(), workflow.Job{Name: "ads/talk", Take: "T", RequestID: "r"})
	if _, getErr := h.Ledger.Get(t.Context(), "ads/talk", "T"); err == nil || !errors.Is(getErr, bucket.ErrNotFound) {
		t.Errorf("archive returned %v, and reading the record returned %v; want an error and %v", err, getErr, bucket.ErrNotFound)
	}
}

// An invocation that runs out of time returns OutputTooSlow if it has copied no output, even if
// another output was unavailable before. If it has copied one, it returns OutputUnavailable, because
// the next invocation can copy the rest. In both cases it returns an earlier error that is never retried.
func TestOutputTooSlow(t *testing.T) {
	for _, tt := range []struct {
		name    string
		copier  slowCopier
		earlier []string // keys that an earlier call has copied
		want    error
	}{
		{"the first output", slowCopier{}, nil, &workflow.OutputTooSlow{}},
		{"the second output", slowCopier{n: 1}, nil, &workflow.OutputUnavailable{}},
		{"the second output, and an earlier call copied the first", slowCopier{}, []string{"outbox/ads/talk/T/talk.bin"}, &workflow.OutputTooSlow{}},
		{"the second output, and the first is not served", slowCopier{first: errors.New("HTTP 404")}, nil, &workflow.OutputTooSlow{}},
		{"the second output, and the first cannot be stored", slowCopier{first: &workflow.StorageUnavailable{Failure: workflow.Failuref("no")}}, nil, &workflow.OutputTooSlow{}},
		{"the second output, and the first is refused", slowCopier{first: &workflow.OutputRefused{Failure: workflow.Failuref("refused")}}, nil, &workflow.OutputRefused{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				storage := &s3test.Bucket{}
				for _, key := range tt.earlier {
					storage.Set(key, []byte("1"))
				}
				h := newHandler(storage, http.StatusOK, `{"status":"succeeded","output":["https://a.example/1","https://a.example/2"]}`)
				h.Copier = &tt.copier
				rec := ledger.Record{Name: "ads/talk", Take: "T", State: ledger.Archiving, RequestID: "r"}
				if _, _, err := h.Ledger.Claim(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), cleanupTime+2*time.Second)
				defer cancel()
				_, err := h.Handle(ctx, workflow.Job{Name: "ads/talk", Take: "T", RequestID: "r"})
				if got, want := fmt.Sprintf("%T", err), fmt.Sprintf("%T", tt.want); got != want {
					t.Fatalf("%s (%v), want %s", got, err, want)
				}
				_, isRefused := errors.AsType[*workflow.OutputRefused](err)
				if want := "the outputs could not be copied within 2s, the time that"; !isRefused && !strings.Contains(err.Error(), want) {
					t.Errorf("message %q, want %q in it", err, want)
				}
			})
		})
	}
}

func TestOutputType(t *testing.T) {
	for head, want := range map[string][2]string{
		"<!doctype html><script>":             {"application/octet-stream", ".bin"},
		"<svg xmlns=":                         {"application/octet-stream", ".bin"},
		"MZ\x90":                              {"application/octet-stream", ".bin"},
		"":                                    {"application/octet-stream", ".bin"},
		"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR": {"image/png", ".png"},
	} {
		contentType, suffix := outputType([]byte(head))
		if got := [2]string{contentType, suffix}; got != want {
			t.Errorf("%q: type and suffix %q, want %q", head, got, want)
		}
	}
}
