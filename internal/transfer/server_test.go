package transfer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/origins"
)

// secret is in the query of each URL that origin.url returns. No error may contain it.
const secret = "X-Amz-Signature=secret"

const testKey = "outbox/talk/take/talk.mp4"

// testPace splits little data into many parts, and retries almost at once. Its timeouts are
// too long to expire by chance.
var testPace = pace{
	partSize: 64 << 10, uploads: 3, pieceSize: 16 << 10, window: 4,
	response: 10 * time.Second, stall: 10 * time.Second,
	backOff: time.Microsecond, tries: 4,
}

// random returns n bytes, the same for the same seed.
func random(n int, seed byte) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// An origin is a server that a file is copied from.
type origin struct {
	// fault is called before each request is served, with the number of the
	// request. fault returns true if it has responded.
	fault func(n int, w http.ResponseWriter, r *http.Request) bool

	// header is added to each response. It may replace the ETag that each response has.
	header map[string]string

	// If whole is true, the origin serves no ranges. If chunked is true too, it announces no length.
	whole, chunked bool

	// A request for bytes=0- gets at most this many bytes. 0 means no limit.
	most int64

	server *httptest.Server

	mu       sync.Mutex
	data     []byte
	version  int
	requests []*http.Request
}

func newOrigin(t testing.TB, data []byte) *origin {
	o := &origin{data: data}
	o.server = httptest.NewUnstartedServer(o)
	o.server.Config.ErrorLog = quiet
	o.server.StartTLS()
	t.Cleanup(o.server.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r)
	n := len(o.requests)
	o.mu.Unlock()
	if o.fault == nil || !o.fault(n, w, r) {
		o.serve(w, r)
	}
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	data, version, header := o.data, o.version, o.header
	o.mu.Unlock()
	w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, version))
	for name, value := range header {
		w.Header().Set(name, value)
	}
	if o.whole {
		if o.chunked {
			w.(http.Flusher).Flush() // before net/http adds a length
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		}
		_, _ = w.Write(data) // the client may have gone
		return
	}
	if r.Header.Get("Range") == "bytes=0-" && o.most > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=0-%d", o.most-1))
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// change replaces the file.
func (o *origin) change(data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data, o.version = data, o.version+1
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

func (o *origin) url() string { return o.server.URL + "/talk.mp4?" + secret }

// copier returns a Copier that copies what the origin serves into the bucket.
func (o *origin) copier(t testing.TB, b *fakeS3) *Copier {
	t.Helper()
	list, err := origins.Parse([]string{o.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	p := testPace
	if b.server.TLS != nil {
		p.putMax = 1 << 20 // see newTLSBucket
	}
	roots := x509.NewCertPool()
	roots.AddCert(o.server.Certificate())
	return &Copier{S3: b.client(), Bucket: "bucket", Origins: list, MaxBytes: 1 << 30, dialer: origins.Dialer{Roots: roots}, pace: p}
}

func toTestKey([]byte) (string, string) { return testKey, "video/mp4" }

// hang waits until the client closes the connection. net/http notices that only after the whole
// request has been read. Without the panic, net/http would send an empty response.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// cut sends the header of the right response and half of its body. Then cut closes or
// resets the connection.
func (o *origin) cut(w http.ResponseWriter, r *http.Request, reset bool) {
	rec := httptest.NewRecorder()
	o.serve(rec, r)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	half := rec.Body.Bytes()[:rec.Body.Len()/2]
	rest := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", rec.Body.Len(), half)
	if o.chunked {
		rest = "Transfer-Encoding: chunked\r\n\r\n"
		if len(half) > 0 { // a chunk of no bytes is the end
			rest += fmt.Sprintf("%x\r\n%s\r\n", len(half), half)
		}
	}
	rec.Header().Del("Content-Length")
	var header strings.Builder
	_ = rec.Header().Write(&header) // a Builder takes everything
	fmt.Fprintf(conn, "HTTP/1.1 %d X\r\n%s%s", rec.Code, header.String(), rest)
	if tcp, ok := conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // a reset instead of an orderly end
		_ = tcp.Close()
	}
}

// resolver returns a resolver for which every name has the given address.
func resolver(address [4]byte) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerDNS(server, address)
		return client, nil
	}}
}

// answerDNS responds to queries over a stream (RFC 1035, 4.2.2) until the stream ends.
func answerDNS(conn net.Conn, address [4]byte) {
	defer conn.Close()
	for {
		var length uint16
		if binary.Read(conn, binary.BigEndian, &length) != nil {
			return
		}
		query := make([]byte, length)
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		end := 12 + bytes.IndexByte(query[12:], 0) + 5 // the header, the name, type and class
		isA := query[end-3] == 1
		reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
		if isA {
			reply[7] = 1
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
			reply = append(reply, address[:]...)
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
