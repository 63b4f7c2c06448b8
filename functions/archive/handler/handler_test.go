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

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowCopier makes as many copies as quick says without a delay. The next copy blocks until
// its context ends. Find returns a copy for every key, as if an earlier call had made it.
type slowCopier struct{ quick int }

func (c *slowCopier) Copy(ctx context.Context, _ string, name func([]byte) (string, string)) (transfer.Object, error) {
	if c.quick == 0 {
		<-ctx.Done()
		return transfer.Object{}, context.Cause(ctx)
	}
	c.quick--
	key, contentType := name([]byte("unknown content"))
	return transfer.Object{Key: key, ContentType: contentType, Bytes: 1}, nil
}

func (c *slowCopier) Find(_ context.Context, _, key string) (transfer.Object, bool, error) {
	return transfer.Object{Key: key, Bytes: 1, Existed: true}, true, nil
}

// Archive writes no record for a job that RunComfy does not know, such as the job in
// events/archive/job.json.
func TestUnknownJobGetsNoRecord(t *testing.T) {
	storage := &s3test.Bucket{}
	store := &ledger.Store{Bucket: &bucket.Bucket{S3: storage, Name: "b"}, Now: time.Now}
	h := &Handler{
		Ledger: store, Now: time.Now, Sleep: func(context.Context, time.Duration) error { return nil },
		API: &runcomfy.Client{
			Token: runcomfy.StaticToken("token"),
			HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody}, nil
			})},
		},
	}
	_, err := h.Handle(t.Context(), workflow.Job{Name: "ads/talk", Take: "T", RequestID: "r"})
	if _, getErr := store.Get(t.Context(), "ads/talk", "T"); err == nil || !errors.Is(getErr, bucket.ErrNotFound) {
		t.Errorf("archive returned %v, and reading the record returned %v; want an error and %v", err, getErr, bucket.ErrNotFound)
	}
}

// If a call of archive has no time to finish the first output that it copies, archive returns
// OutputTooSlow. If the call has already copied another output, archive returns
// OutputUnavailable, because the next call does not copy that output again.
func TestOutputTooSlow(t *testing.T) {
	for _, tt := range []struct {
		name    string
		quick   int
		earlier []string // keys that an earlier call has copied
		want    error
	}{
		{"the first output", 0, nil, &workflow.OutputTooSlow{}},
		{"the second output", 1, nil, &workflow.OutputUnavailable{}},
		{"the second output, and an earlier call copied the first", 0, []string{"outbox/ads/talk/T/talk.bin"}, &workflow.OutputTooSlow{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				storage := &s3test.Bucket{}
				for _, key := range tt.earlier {
					storage.Set(key, []byte("1"))
				}
				store := &ledger.Store{Bucket: &bucket.Bucket{S3: storage, Name: "b"}, Now: time.Now}
				rec := ledger.Record{Name: "ads/talk", Take: "T", State: ledger.Archiving, RequestID: "r"}
				if _, _, err := store.Claim(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				h := &Handler{
					Ledger: store, Copier: &slowCopier{tt.quick},
					MaxOutputs: 100, Now: time.Now, Sleep: func(context.Context, time.Duration) error { return nil },
					API: &runcomfy.Client{
						Token: runcomfy.StaticToken("token"),
						HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
							return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(
								`{"status":"succeeded","output":["https://a.example/1","https://a.example/2"]}`))}, nil
						})},
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), cleanupTime+50*time.Millisecond)
				defer cancel()
				_, err := h.Handle(ctx, workflow.Job{Name: "ads/talk", Take: "T", RequestID: "r"})
				if got, want := fmt.Sprintf("%T", err), fmt.Sprintf("%T", tt.want); got != want {
					t.Fatalf("%s (%v), want %s", got, err, want)
				}
				if want := "the outputs could not be copied within 0s, the time that"; !strings.Contains(err.Error(), want) {
					t.Errorf("message %q, want %q in it", err, want)
				}
			})
		})
	}
}

func TestOutputType(t *testing.T) {
	type named struct{ contentType, suffix string }
	for head, want := range map[string]named{
		"<!doctype html><script>":             {"application/octet-stream", ".bin"},
		"<svg xmlns=":                         {"application/octet-stream", ".bin"},
		"MZ\x90":                              {"application/octet-stream", ".bin"},
		"":                                    {"application/octet-stream", ".bin"},
		"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR": {"image/png", ".png"},
	} {
		contentType, suffix := outputType([]byte(head))
		if diff := cmp.Diff(want, named{contentType, suffix}, cmp.AllowUnexported(named{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", head, diff)
		}
	}
}
