package transfer

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Whatever S3 does, the object is right or is not written, and no upload is left
// open.
func TestStorageFaults(t *testing.T) {
	const small, large = 10_000, 300_000
	other := random(5000, 9)
	type fault = func(b *fakeS3, call string, n int, w http.ResponseWriter, r *http.Request) bool
	// failFirst returns a fault that fails the first upTo calls with the given name.
	failFirst := func(name string, upTo, status int, code string) fault {
		return func(_ *fakeS3, call string, n int, w http.ResponseWriter, _ *http.Request) bool {
			if call != name || n > upTo {
				return false
			}
			fail(w, status, code)
			return true
		}
	}
	// loseResponses returns a fault that serves the first upTo calls with the given name, but cuts off the responses.
	loseResponses := func(name string, upTo int) fault {
		return func(b *fakeS3, call string, n int, w http.ResponseWriter, r *http.Request) bool {
			if call != name || n > upTo {
				return false
			}
			b.serve(call, &lostResponse{w}, r)
			panic(http.ErrAbortHandler)
		}
	}
	// putBefore returns a fault that puts an object under the key when the first call with the given name comes in.
	putBefore := func(name string, data []byte) fault {
		return func(b *fakeS3, call string, n int, _ http.ResponseWriter, _ *http.Request) bool {
			if call == name && n == 1 {
				b.put(testKey, data)
			}
			return false
		}
	}
	const always = 1 << 30
	for name, tt := range map[string]struct {
		size     int
		there    []byte // the object under the key before the copy
		fault    fault
		patience time.Duration
		want     any    // an error of the expected type, or nil if the copy succeeds
		text     string // in the error
		left     []byte // the object under the key, if the copy fails
		existed  bool
	}{
		"503 for the first two calls of each name": {size: large, fault: func(_ *fakeS3, _ string, n int, w http.ResponseWriter, _ *http.Request) bool {
			if n <= 2 {
				fail(w, 503, "SlowDown")
			}
			return n <= 2
		}},
		"503 for two puts":                             {size: small, fault: failFirst("PutObject", 2, 503, "SlowDown")},
		"only 503 for heads":                           {size: large, fault: failFirst("HeadObject", always, 503, "SlowDown"), want: &workflow.StorageUnavailable{}, text: "HeadObject"},
		"403 for heads, as without permission to list": {size: large, fault: failFirst("HeadObject", always, 403, ""), want: &workflow.StorageUnavailable{}, text: "403"},
		"only 503 for opening an upload":               {size: large, fault: failFirst("CreateMultipartUpload", always, 503, "SlowDown"), want: &workflow.StorageUnavailable{}, text: "CreateMultipartUpload"},
		"only 503 for parts":                           {size: large, fault: failFirst("UploadPart", always, 503, "SlowDown"), want: &workflow.StorageUnavailable{}, text: "UploadPart"},
		"only 503 for puts":                            {size: small, fault: failFirst("PutObject", always, 503, "SlowDown"), want: &workflow.StorageUnavailable{}, text: "PutObject"},
		"only 503 for completing": {size: large, fault: failFirst("CompleteMultipartUpload", always, 503, "SlowDown"),
			want: &workflow.StorageUnavailable{}, text: "CompleteMultipartUpload"},
		"an error in the body of a 200": {size: large, fault: failFirst("CompleteMultipartUpload", always, 200, "InternalError"),
			want: &workflow.StorageUnavailable{}, text: "CompleteMultipartUpload"},
		"a part arrives damaged": {size: large, fault: func(b *fakeS3, call string, n int, w http.ResponseWriter, r *http.Request) bool {
			if call != "UploadPart" || n != 2 {
				return false
			}
			r.Header.Set("X-Amz-Checksum-Crc32", "AAAAAA==")
			b.serve(call, w, r)
			return true
		}, want: &workflow.StorageUnavailable{}, text: "BadDigest"},
		"every part is cut off": {size: large, fault: func(_ *fakeS3, call string, _ int, _ http.ResponseWriter, _ *http.Request) bool {
			if call == "UploadPart" {
				panic(http.ErrAbortHandler)
			}
			return false
		}, want: &workflow.StorageUnavailable{}, text: "UploadPart"},
		"a part hangs": {size: large, fault: func(_ *fakeS3, call string, n int, _ http.ResponseWriter, r *http.Request) bool {
			if call == "UploadPart" && n == 2 {
				hang(r)
			}
			return false
		}, patience: time.Second},
		"the response to the completion is lost":  {size: large, fault: loseResponses("CompleteMultipartUpload", 1), existed: true},
		"every response to a completion is lost":  {size: large, fault: loseResponses("CompleteMultipartUpload", always), existed: true},
		"the response to the put is lost":         {size: small, fault: loseResponses("PutObject", 1), existed: true},
		"somebody else completed the same object": {size: large, fault: putBefore("CompleteMultipartUpload", random(large, 1)), existed: true},
		"somebody else put the same object":       {size: small, fault: putBefore("PutObject", random(small, 1)), existed: true},
		"somebody else completed another object": {size: large, fault: putBefore("CompleteMultipartUpload", other),
			want: &workflow.OutputOccupied{}, text: "5000 bytes", left: other},
		"somebody else put another object": {size: small, fault: putBefore("PutObject", other),
			want: &workflow.OutputOccupied{}, text: "5000 bytes", left: other},
		"somebody else put another object of the same length": {size: small, fault: putBefore("PutObject", random(small, 2)),
			want: &workflow.OutputOccupied{}, text: "first bytes", left: random(small, 2)},
		"somebody else put another object of the same length and beginning": {size: small,
			fault: putBefore("PutObject", append(random(small-1, 1), 0)),
			want:  &workflow.OutputOccupied{}, text: "SHA-256", left: append(random(small-1, 1), 0)},
		"another object exists": {size: large, there: other, want: &workflow.OutputOccupied{}, text: "5000 bytes", left: other},
		"another object of the same length exists": {size: small, there: random(small, 2),
			want: &workflow.OutputOccupied{}, text: "first bytes", left: random(small, 2)},
		"the object exists, and its first read is cut off": {size: large, there: random(large, 1),
			fault: func(b *fakeS3, call string, n int, w http.ResponseWriter, r *http.Request) bool {
				if call != "GetObject" || n > 1 {
					return false
				}
				w.Header().Set("Content-Length", "300000")
				_, _ = w.Write(b.objects[testKey].data[:100_000])
				panic(http.ErrAbortHandler)
			}, existed: true},
		"the object exists and cannot be read": {size: large, there: random(large, 1),
			fault: failFirst("GetObject", always, 503, "SlowDown"), want: &workflow.StorageUnavailable{}, text: "GetObject", left: random(large, 1)},
		"a conflict of the completion":                   {size: large, fault: failFirst("CompleteMultipartUpload", 1, 409, "ConditionalRequestConflict")},
		"a conflict of the put":                          {size: small, fault: failFirst("PutObject", 1, 409, "ConditionalRequestConflict")},
		"only conflicts of completions":                  {size: large, fault: failFirst("CompleteMultipartUpload", always, 409, "ConditionalRequestConflict"), want: &workflow.StorageUnavailable{}, text: "Conflict"},
		"412 for the completion, but there is no object": {size: large, fault: failFirst("CompleteMultipartUpload", 1, 412, "PreconditionFailed")},
		"the upload is gone":                             {size: large, fault: failFirst("CompleteMultipartUpload", 1, 404, "NoSuchUpload")},
		"only 503 for parts, and for the first two aborts": {size: large, fault: func(_ *fakeS3, call string, n int, w http.ResponseWriter, _ *http.Request) bool {
			if call == "UploadPart" || call == "AbortMultipartUpload" && n <= 2 {
				fail(w, 503, "SlowDown")
				return true
			}
			return false
		}, want: &workflow.StorageUnavailable{}, text: "UploadPart"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := random(tt.size, 1)
			o, b := newOrigin(t, data), newBucket(t)
			b.server.Config.ErrorLog = quiet
			if tt.fault != nil {
				b.fault = func(call string, n int, w http.ResponseWriter, r *http.Request) bool {
					return tt.fault(b, call, n, w, r)
				}
			}
			if tt.there != nil {
				b.put(testKey, tt.there)
			}
			b.patience = tt.patience
			got, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey)
			if tt.want != nil {
				data = tt.left
			}
			b.check(t, testKey, data)
			checkError(t, err, tt.want, tt.text)
			if got.Existed != tt.existed {
				t.Errorf("existed: %t, want %t", got.Existed, tt.existed)
			}
			if tt.there != nil && b.called("CreateMultipartUpload") > 0 {
				t.Error("an upload was opened, want none: the key already has an object")
			}
		})
	}
}

// lostResponse is a ResponseWriter that discards the response.
type lostResponse struct{ http.ResponseWriter }

func (*lostResponse) Header() http.Header         { return http.Header{} }
func (*lostResponse) Write(p []byte) (int, error) { return len(p), nil }
func (*lostResponse) WriteHeader(int)             {}

// If an upload fails and its abort fails as well, the error says both.
func TestAbortFails(t *testing.T) {
	o, b := newOrigin(t, random(300_000, 1)), newBucket(t)
	b.fault = func(call string, _ int, w http.ResponseWriter, _ *http.Request) bool {
		if call == "UploadPart" || call == "AbortMultipartUpload" {
			fail(w, 403, "AccessDenied")
			return true
		}
		return false
	}
	_, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey)
	for _, want := range []string{"UploadPart", "AbortMultipartUpload"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s in it", err, want)
		}
	}
}

// If the copy is cancelled, its upload is aborted, even if S3 has not returned the
// upload's id yet.
func TestCancelledCopyLeavesNoUpload(t *testing.T) {
	for _, call := range []string{"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		o, b := newOrigin(t, random(300_000, 1)), newBucket(t)
		ctx, cancel := context.WithCancel(t.Context())
		b.fault = func(c string, _ int, _ http.ResponseWriter, r *http.Request) bool {
			if c == call {
				cancel()
				if call == "CompleteMultipartUpload" {
					hang(r)
				}
			}
			return false
		}
		_, err := o.copier(t, b).Copy(ctx, o.url(), toTestKey)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want %v", call, err, context.Canceled)
		}
		b.check(t, testKey, nil)
		cancel()
	}
}
