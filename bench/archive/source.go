package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A source is one way in which a server gives its files.
type source struct {
	name   string
	about  string
	rate   int64         // bytes per second of one connection, 0 without limit
	delay  time.Duration // before each answer
	ranges bool
	many   int // connections to fill the line with
}

// sources are the ways that are compared. The count of connections is for the
// limit alone, which is told what the other tools have to find out.
var sources = []source{
	{name: "limited", about: "20 MB/s a connection", rate: 20 << 20, ranges: true, many: 32},
	{name: "unlimited", about: "no limit", ranges: true, many: 4},
	{name: "distant", about: "50 ms before each answer", delay: 50 * time.Millisecond, ranges: true, many: 32},
	{name: "streamed", about: "no ranges", many: 1},
}

// writeSize is how much is written at once: large enough to cost little, small
// enough for an even pace.
const writeSize = 256 << 10

// firstRequests is where the server of the sources tells when each copy first
// asked for its file: an object of Unix nanoseconds by the copy's number.
const firstRequests = "first"

// serveSources is the role of a child process, whose CPU is nobody's: it serves
// every source at a port of its own, over TLS, and firstRequests over plain http.
// It writes their addresses to standard output and ends when it is killed.
func serveSources(_ context.Context, args []string) error {
	cert, err := tls.LoadX509KeyPair(args[0], args[1])
	if err != nil {
		return err
	}
	addresses := map[string]string{}
	failed := make(chan error)
	first := &arrivals{at: map[string]int64{}}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addresses[firstRequests] = "http://" + control.Addr().String()
	go func() { failed <- http.Serve(control, first) }()
	for _, s := range sources {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[s.name] = "https://" + listener.Addr().String()
		server := &http.Server{Handler: first.note(s)}
		secure := tls.NewListener(paced{listener, s.rate}, &tls.Config{
			Certificates:                []tls.Certificate{cert},
			NextProtos:                  []string{"http/1.1"}, // a limit for each connection means requests of one at a time
			DynamicRecordSizingDisabled: true,
		})
		go func() { failed <- server.Serve(secure) }()
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	return <-failed
}

// arrivals are when the first request of each copy came.
type arrivals struct {
	mu sync.Mutex
	at map[string]int64
}

// note notes requests for /<copy>/….
func (a *arrivals) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().UnixNano()
		number := strings.Split(r.URL.Path, "/")[1]
		a.mu.Lock()
		if a.at[number] == 0 {
			a.at[number] = now
		}
		a.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(a.at) // a client that has gone needs no answer
}

// ServeHTTP serves /<copy>/<bytes>/<name>.
func (s source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var size int64
	var err error
	if parts := strings.Split(r.URL.Path, "/"); len(parts) == 4 {
		size, err = strconv.ParseInt(parts[2], 10, 64)
	}
	if size == 0 || err != nil {
		http.NotFound(w, r)
		return
	}
	time.Sleep(s.delay)
	head := w.Header()
	head.Set("Content-Type", "video/mp4")
	head.Set("ETag", fmt.Sprintf(`"%d"`, size))
	head.Set("Last-Modified", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat))
	from, end, status := int64(0), size, http.StatusOK
	if s.ranges {
		head.Set("Accept-Ranges", "bytes")
		if first, last, ok := byteRange(r.Header.Get("Range"), size); ok {
			from, end, status = first, last+1, http.StatusPartialContent
			head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		}
	}
	head.Set("Content-Length", strconv.FormatInt(end-from, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	file := newContent(size)
	for from < end {
		n, err := w.Write(file.from(from, min(from+writeSize, end)))
		if err != nil {
			return // the client has gone
		}
		from += int64(n)
	}
}

// byteRange reads a header such as "bytes=0-99" or "bytes=100-".
func byteRange(header string, size int64) (first, last int64, ok bool) {
	span, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return 0, 0, false
	}
	a, b, _ := strings.Cut(span, "-")
	first, err := strconv.ParseInt(a, 10, 64)
	if err != nil || first >= size {
		return 0, 0, false
	}
	if last, err = strconv.ParseInt(b, 10, 64); err != nil || last >= size {
		last = size - 1
	}
	return first, last, true
}

// paced limits what each connection writes.
type paced struct {
	net.Listener
	rate int64
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
	due  time.Time // when the next byte may leave
}

const (
	// arrears is how far a connection that woke up late may catch up: as much as
	// the clock of a busy machine is late, and little beside any file.
	arrears = 10 * time.Millisecond

	// nap is the shortest sleep that is worth one.
	nap = 4 * time.Millisecond
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
