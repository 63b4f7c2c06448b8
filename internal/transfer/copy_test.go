package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// quiet discards what the test servers log about broken connections.
var quiet = log.New(io.Discard, "", 0)

func TestCopy(t *testing.T) {
	const piece, part = 16 << 10, 64 << 10
	kinds := map[string]func(*origin){
		"ranges":  func(*origin) {},
		"whole":   func(o *origin) { o.whole = true },
		"chunked": func(o *origin) { o.whole, o.chunked = true, true },
		"announces ranges, but sends the whole file": func(o *origin) { o.whole, o.header = true, map[string]string{"Accept-Ranges": "bytes"} },
		"the first response is the whole file": func(o *origin) {
			o.header = map[string]string{"Accept-Ranges": "bytes"}
			o.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					r.Header.Del("Range")
				}
				return false
			}
		},
		"only a weak ETag": func(o *origin) { o.header = map[string]string{"ETag": `W/"1"`} },
		"short responses":  func(o *origin) { o.most = 3 * piece },
		"short responses without an ETag": func(o *origin) {
			o.most, o.header = 3*piece, map[string]string{"ETag": ""}
		},
		"only a Last-Modified": func(o *origin) {
			o.header = map[string]string{"ETag": "", "Last-Modified": "Mon, 02 Jan 2006 15:04:05 GMT"}
		},
	}
	for kind, set := range kinds {
		for _, size := range []int{1, headBytes, piece, piece + 1, part - 1, part, part + 1, 3 * part, 7*part + 1234} {
			t.Run(fmt.Sprintf("%s %d", kind, size), func(t *testing.T) {
				eachBucket(t, func(t *testing.T, newBucket func(testing.TB) *fakeS3) {
					data := random(size, 1)
					o, b := newOrigin(t, data), newBucket(t)
					set(o)
					got, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey)
					if err != nil {
						t.Fatal(err)
					}
					b.check(t, testKey, data)
					sum := sha256.Sum256(data)
					want := Object{
						Key: testKey, ETag: strings.Trim(b.objects[testKey].etag, `"`), Bytes: int64(size),
						SHA256: hex.EncodeToString(sum[:]), ContentType: "video/mp4",
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("object (-want +got):\n%s", diff)
					}
					if ct := b.objects[testKey].contentType; ct != "video/mp4" {
						t.Errorf("content type %q, want video/mp4", ct)
					}
				})
			})
		}
	}
}

// A small file needs one request to S3, and one to a fast source.
func TestSmallFilesTakeOneRequestEach(t *testing.T) {
	for _, size := range []int{10_000, 300_000} {
		for _, whole := range []bool{false, true} {
			o, b := newOrigin(t, random(size, 1)), newTLSBucket(t)
			o.whole = whole
			c := o.copier(t, b)
			c.pace.quick = time.Hour
			if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
				t.Fatal(err)
			}
			if n := o.count(); n != 1 {
				t.Errorf("%d bytes, whole %t: %d requests to the source, want 1", size, whole, n)
			}
			if diff := cmp.Diff(map[string]int{"PutObject": 1}, b.calls); diff != "" {
				t.Errorf("%d bytes, whole %t: calls of S3 (-want +got):\n%s", size, whole, diff)
			}
		}
	}
}

func TestFirstBytesAndRequestURI(t *testing.T) {
	o, b := newOrigin(t, random(300_000, 1)), newBucket(t)
	var head []byte
	c := o.copier(t, b)
	_, err := c.Copy(t.Context(), o.server.URL+"/out%3Dput/a b%2Fü.mp4?"+secret, func(h []byte) (string, string) {
		head = slices.Clone(h)
		return testKey, ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o.data[:headBytes], head); diff != "" {
		t.Errorf("first bytes (-want +got):\n%s", diff)
	}
	for _, r := range o.requests {
		if want := "/out%3Dput/a%20b%2F%C3%BC.mp4?" + secret; r.RequestURI != want {
			t.Errorf("requested %s, want %s", r.RequestURI, want)
		}
	}
}

// A Copier copies several files, one after the other.
func TestCopyAnother(t *testing.T) {
	o, b := newOrigin(t, random(500_000, 1)), newBucket(t)
	c := o.copier(t, b)
	for i, size := range []int{500_000, 10_000, 400_000} {
		data := random(size, byte(i))
		o.change(data)
		key := fmt.Sprint("outbox/", i)
		if _, err := c.Copy(t.Context(), o.url(), func([]byte) (string, string) { return key, "" }); err != nil {
			t.Fatal(err)
		}
		b.check(t, key, data)
	}
}

// A second copy finds the object of the first copy and writes nothing.
func TestSecondCopyFindsTheObject(t *testing.T) {
	for _, size := range []int{10_000, 300_000} {
		for _, chunked := range []bool{false, true} {
			o, b := newOrigin(t, random(size, 1)), newBucket(t)
			o.whole, o.chunked = chunked, chunked
			c := o.copier(t, b)
			want, err := c.Copy(t.Context(), o.url(), toTestKey)
			if err != nil {
				t.Fatal(err)
			}
			writes := func() int { return b.called("CreateMultipartUpload") + b.called("PutObject") }
			before := writes()
			got, err := c.Copy(t.Context(), o.url(), toTestKey)
			if err != nil {
				t.Fatal(err)
			}
			want.Existed = true
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
			if writes() != before {
				t.Errorf("%d bytes, chunked %t: the second copy wrote to the bucket, want no write", size, chunked)
			}
			b.check(t, testKey, o.data)
		}
	}
}

// If the first response is slow, or holds only the first piece, ranges are requested in parallel. The source
// of this test responds to no request for a range until it has received a full window of them.
func TestRangesAreRequestedInParallel(t *testing.T) {
	for _, tt := range []struct {
		most  int64
		quick time.Duration
		first int // how many requests come before the parallel ones
	}{{quick: 0, first: 1}, {quick: time.Hour, most: testPace.pieceSize, first: 2}} {
		data := random(400_000, 1)
		o, b := newOrigin(t, data), newBucket(t)
		o.most = tt.most
		received := make(chan struct{})
		o.fault = func(n int, _ http.ResponseWriter, r *http.Request) bool {
			if n == tt.first+testPace.window {
				close(received)
			}
			if n > tt.first {
				select {
				case <-received:
				case <-r.Context().Done():
				}
			}
			return false
		}
		c := o.copier(t, b)
		c.pace.quick, c.pace.tries = tt.quick, 2 // with more tries, the requests for one range could fill the window
		if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
			t.Fatal(err)
		}
		b.check(t, testKey, data)
	}
}

func TestAFastSourceGetsOneRequest(t *testing.T) {
	o, b := newOrigin(t, random(400_000, 1)), newBucket(t)
	c := o.copier(t, b)
	c.pace.quick = time.Hour
	if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	if n := o.count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Ranges are combined only if a strong ETag or a Last-Modified shows that they are of one file.
func TestRangesNeedAStrongETagOrLastModified(t *testing.T) {
	for _, tt := range []struct {
		header   map[string]string
		requests int // one for the whole file, or one for each range
	}{
		{map[string]string{"ETag": `"strong"`}, 7},
		{map[string]string{"ETag": `W/"weak"`, "Last-Modified": "Mon, 02 Jan 2006 15:04:05 GMT"}, 7},
		{map[string]string{"ETag": `W/"weak"`}, 1},
		{map[string]string{"ETag": ""}, 1},
	} {
		o, b := newOrigin(t, random(100_000, 1)), newBucket(t)
		o.header = tt.header
		if _, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey); err != nil {
			t.Fatal(err)
		}
		if n := o.count(); n != tt.requests {
			t.Errorf("%v: %d requests, want %d", tt.header, n, tt.requests)
		}
		want := "" // a weak ETag is not allowed in If-Range
		if etag := tt.header["ETag"]; isStrong(etag) {
			want = etag
		}
		for _, r := range o.requests[1:] {
			if got := r.Header.Get("If-Range"); got != want {
				t.Errorf("%v: If-Range %q, want %q", tt.header, got, want)
			}
		}
	}
}

// The parts are so large that 10,000 of them hold the largest file that may be copied.
func TestPartsOfALargeLimit(t *testing.T) {
	o, b := newOrigin(t, random(300_000, 1)), newBucket(t)
	c := o.copier(t, b)
	c.MaxBytes = maxParts * 100_000
	if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, o.data)
	if n := b.called("UploadPart"); n != 3 {
		t.Errorf("%d parts, want 3", n)
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "3600": maxRetryAfter, "-1": 0, "soon": 0} {
		r := &response{Response: &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {header}}}}
		var temporary *temporaryError
		err := (&source{given: &url.URL{}}).statusError(r, false)
		if !errors.As(err, &temporary) || temporary.after != want {
			t.Errorf("%q: %v, want a *temporaryError with %v", header, err, want)
		}
	}
}

// If a source announces ranges but sends the whole file, Copy requests one window of
// ranges at most, and then the whole file.
func TestRangesThatAreOnlyAnnounced(t *testing.T) {
	o, b := newOrigin(t, random(300_000, 1)), newBucket(t)
	o.whole, o.header = true, map[string]string{"Accept-Ranges": "bytes"}
	if _, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, o.data)
	if n := o.count(); n > 2+testPace.window {
		t.Errorf("%d requests, want at most %d", n, 2+testPace.window)
	}
}

// A response that arrives after the request was given up is discarded.
func TestResponseAfterGivingUp(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "example.com"}
	list, err := origins.Parse([]string{"https://example.com"})
	if err != nil {
		t.Fatal(err)
	}
	s := &source{given: u, origins: list, pace: pace{response: time.Millisecond}, transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})}
	_, err = s.request(t.Context(), u, 0, toEnd)
	checkError(t, err, &workflow.OutputUnavailable{}, "no response in time")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
