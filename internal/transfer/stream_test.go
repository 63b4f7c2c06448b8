package transfer

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Whatever S3 does to a put of a file that is still being downloaded, the object is
// right or is not written. If the put fails and no object has the key, the file is
// downloaded again and uploaded in parts.
func TestStreamedPutFaults(t *testing.T) {
	data, other := random(300_000, 1), random(5000, 9)
	type put func(*fakeS3, http.ResponseWriter, *http.Request)
	respond := func(status int, code string) put {
		return func(_ *fakeS3, w http.ResponseWriter, _ *http.Request) { fail(w, status, code) }
	}
	for name, tt := range map[string]struct {
		plain    bool
		there    []byte
		put      put
		patience time.Duration
		want     any // an error of the expected type; nil if Copy returns no error
		text     string
		existed  bool
		parts    bool // the file was uploaded in parts
	}{
		"a put":                           {},
		"503":                             {put: respond(503, "SlowDown"), parts: true},
		"a conflict":                      {put: respond(409, "ConditionalRequestConflict"), parts: true},
		"refused, but there is no object": {put: respond(412, "PreconditionFailed"), parts: true},
		"the put is cut off": {put: func(_ *fakeS3, _ http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 100_000)
			panic(http.ErrAbortHandler)
		}, parts: true},
		"the put hangs": {put: func(_ *fakeS3, _ http.ResponseWriter, r *http.Request) {
			hang(r)
		}, patience: 2 * time.Second, parts: true},
		"the put arrives damaged": {put: func(b *fakeS3, w http.ResponseWriter, r *http.Request) {
			r.Body = &damaged{ReadCloser: r.Body}
			b.serve("PutObject", w, r)
		}, parts: true},
		"the response is lost": {put: func(b *fakeS3, w http.ResponseWriter, r *http.Request) {
			b.serve("PutObject", &lostResponse{w}, r)
			panic(http.ErrAbortHandler)
		}, existed: true},
		"the same object exists": {there: data, existed: true},
		"another object exists":  {there: other, want: &workflow.OutputOccupied{}, text: "5000 bytes"},
		"S3 without TLS":         {plain: true, parts: true}, // the SDK cannot stream
		"another object with the same length and beginning exists": {there: append(random(299_999, 1), 0),
			want: &workflow.OutputOccupied{}, text: "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, b := newOrigin(t, data), newTLSBucket(t)
			if tt.plain {
				b = newBucket(t)
			}
			if tt.put != nil {
				b.fault = func(call string, _ int, w http.ResponseWriter, r *http.Request) bool {
					if call == "PutObject" {
						tt.put(b, w, r)
					}
					return call == "PutObject"
				}
			}
			want := data
			if tt.there != nil {
				b.put(testKey, tt.there)
				want = tt.there
			}
			b.patience = tt.patience
			c := o.copier(t, b)
			c.pace.putMax = 1 << 20
			got, err := c.Copy(t.Context(), o.url(), toTestKey)
			b.check(t, testKey, want)
			checkError(t, err, tt.want, tt.text)
			if got.Existed != tt.existed {
				t.Errorf("existed: %t, want %t", got.Existed, tt.existed)
			}
			if parts := b.called("UploadPart") > 0; parts != tt.parts {
				t.Errorf("uploaded in parts: %t, want %t", parts, tt.parts)
			}
			if n := b.retries.Load(); n > 0 && tt.parts {
				t.Errorf("the SDK retried %d calls, want 0: the body of the put is the download, which cannot be read twice", n)
			}
		})
	}
}

// The source announces no length, and the bucket already has an empty object with the key. Copy
// does not take this object for an earlier copy.
func TestEmptyObjectExists(t *testing.T) {
	o, b := newOrigin(t, random(3<<20, 1)), newBucket(t)
	o.whole, o.chunked = true, true
	b.put(testKey, []byte{})
	_, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey)
	checkError(t, err, &workflow.OutputOccupied{}, "first bytes")
}

// A response that S3 sends before it has the whole body is not a success, whatever its
// status is.
func TestStreamedPutWithAnEarlyResponse(t *testing.T) {
	data := random(300_000, 1)
	o, b := newOrigin(t, data), newTLSBucket(t)
	responded := make(chan struct{})
	b.fault = func(call string, _ int, w http.ResponseWriter, r *http.Request) bool {
		if call == "PutObject" {
			_, _ = io.CopyN(io.Discard, r.Body, 10_000)
			w.Header().Set("Content-Length", "0")
			w.(http.Flusher).Flush()
			defer close(responded)
			hang(r)
		}
		return call == "PutObject"
	}
	o.fault = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "bytes=0-" {
			<-responded // every request after the first waits until the put has ended
		}
		return false
	}
	if _, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
	if b.called("UploadPart") == 0 {
		t.Error("the file was not uploaded in parts, want parts: Copy took the early response for a success")
	}
}

// Copy does not give up the put while the source sends nothing.
func TestStreamedPutWaitsForTheSource(t *testing.T) {
	t.Parallel()
	data := random(300_000, 1)
	o, b := newOrigin(t, data), newTLSBucket(t)
	b.patience = 3 * time.Second
	c := o.copier(t, b)
	c.pace.quick = time.Hour
	o.fault = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", `"v0"`)
		w.Header().Set("Content-Length", "300000")
		_, _ = w.Write(data[:100_000])
		w.(http.Flusher).Flush()
		time.Sleep(b.patience + time.Second) // the pause is what is tested
		_, _ = w.Write(data[100_000:])
		return true
	}
	if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
	if b.called("UploadPart") > 0 {
		t.Error("the file was uploaded in parts, want one put: Copy gave up the put")
	}
}

// damaged flips one bit of a body, in the first read of more than 100 bytes.
type damaged struct {
	io.ReadCloser
	done bool
}

func (d *damaged) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if !d.done && n > 100 {
		d.done = true
		p[n-1] ^= 1
	}
	return n, err
}
