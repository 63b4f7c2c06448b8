package archive_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/certs"
)

const mib = 1 << 20

// A source is one way in which a server serves files.
type source struct {
	name   string
	rate   int64         // bytes per second of one connection; 0: no limit
	delay  time.Duration // before each response
	ranges bool
}

var sources = []source{
	{name: "limited", rate: 20 * mib, ranges: true},
	{name: "unlimited", ranges: true},
	{name: "distant", delay: 50 * time.Millisecond, ranges: true},
	{name: "streamed"},
}

// serveSources serves every source over TLS at a port of its own, and writes the addresses
// to standard output. It returns only if it fails.
func serveSources(certDir string) error {
	cert, err := certs.Ensure(certDir, time.Now())
	if err != nil {
		return err
	}
	addresses, failed := map[string]string{}, make(chan error)
	for _, s := range sources {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[s.name] = "https://" + listener.Addr().String()
		secure := tls.NewListener(paced{listener, s.rate}, &tls.Config{
			Certificates:                []tls.Certificate{cert.Pair},
			NextProtos:                  []string{"http/1.1"}, // with HTTP/2, requests would share a connection and its limit
			DynamicRecordSizingDisabled: true,                 // every TLS record is as large as possible
		})
		go func() { failed <- http.Serve(secure, s) }()
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	return <-failed
}

// ServeHTTP serves a file of n bytes at /n.
func (s source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	time.Sleep(s.delay)
	w.Header().Set("Content-Type", "video/mp4")
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, size))
	if s.ranges {
		http.ServeContent(w, r, "", time.Time{}, &content{size: size})
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = (&content{size: size}).WriteTo(w) // fails only if the client has gone
}

// No part size is a multiple of blockSize, so each part of a file differs from the next one.
const blockSize = mib + 13

var block = sync.OnceValue(func() []byte {
	data := make([]byte, blockSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
})

// A content is a file of any size: one random block, repeated. Only the block takes memory.
type content struct{ size, at int64 }

func (c *content) Read(b []byte) (int, error) {
	if c.at >= c.size {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), c.size-c.at)], block()[c.at%blockSize:])
	c.at += int64(n)
	return n, nil
}

// WriteTo is for a source without ranges; http.ServeContent calls Read. WriteTo writes large
// pieces without copying them.
func (c *content) WriteTo(w io.Writer) (written int64, err error) {
	for c.at < c.size && err == nil {
		piece := block()[c.at%blockSize:]
		var n int
		n, err = w.Write(piece[:min(int64(len(piece)), c.size-c.at, 256<<10)])
		c.at, written = c.at+int64(n), written+int64(n)
	}
	return written, err
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		c.at = offset
	case io.SeekCurrent:
		c.at += offset
	case io.SeekEnd:
		c.at = c.size + offset
	}
	return c.at, nil
}

// A paced listener limits how many bytes per second each of its connections writes.
type paced struct {
	net.Listener
	rate int64 // bytes per second; 0: no limit
}

func (l paced) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.rate == 0 {
		return conn, err
	}
	return &pacedConn{Conn: conn, rate: l.rate}, nil
}

type pacedConn struct {
	net.Conn
	rate int64
	due  time.Time // when the next byte may be sent
}

const (
	arrears = 10 * time.Millisecond // how much lost time a connection may make up for
	nap     = 4 * time.Millisecond  // the shortest sleep
)

func (c *pacedConn) Write(p []byte) (int, error) {
	now := time.Now()
	if earliest := now.Add(-arrears); c.due.Before(earliest) {
		c.due = earliest
	}
	if early := c.due.Sub(now); early > nap {
		time.Sleep(early)
	}
	c.due = c.due.Add(time.Duration(int64(len(p)) * int64(time.Second) / c.rate))
	return c.Conn.Write(p)
}
