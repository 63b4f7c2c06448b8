package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/access"
)

const (
	// linger is how long a client may continue to send after the response. If the
	// connection were closed at once, the client would report a reset connection
	// instead of the response.
	linger = 2 * time.Second
	// headTime is how long a client may take to send the head of its request, and
	// maxHead is how long the head may be. versitygw accepts less.
	headTime = time.Minute
	maxHead  = 64 << 10
)

// front passes the connections of a listener on to versitygw.
type front struct {
	listener net.Listener
	hosts    access.Hosts // that requests may be addressed to
	running  sync.WaitGroup
	life     context.Context // done after stop
	end      context.CancelFunc
}

// serve passes bytes between each connection of a listener and a connection that
// dial makes, if the request is addressed to one of the hosts. Between sockets the
// kernel moves the bytes after the head of the request.
func serve(listener net.Listener, dial func() (net.Conn, error), u *users, hosts access.Hosts) *front {
	f := &front{listener: listener, hosts: hosts}
	f.life, f.end = context.WithCancel(context.Background())
	f.running.Go(func() {
		for {
			client, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // such as too many open files, which is temporary
				time.Sleep(startPoll)
				continue
			}
			f.running.Go(func() { f.join(client, dial, u) })
		}
	})
	return f
}

// stop makes the front accept no further request.
func (f *front) stop() {
	f.end()
	_ = f.listener.Close()
}

// wait waits for the end of the last connection. The connections end with
// versitygw.
func (f *front) wait() { f.running.Wait() }

func (f *front) join(client net.Conn, dial func() (net.Conn, error), u *users) {
	defer func() { _ = client.Close() }()
	head, request, err := f.readHead(client)
	if err != nil {
		if len(head) > 0 {
			refuse(client, http.StatusBadRequest, "InvalidRequest", "the request cannot be read")
		}
		return
	}
	if err := f.hosts.Check(request); err != nil {
		refuse(client, http.StatusForbidden, "AccessDenied", err.Error())
		return
	}
	server, err := dial()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = server.Write(head)
		_, _ = io.Copy(server, client) // the copy below ends if either side does
		closeWrite(server)
		_, _ = io.Copy(io.Discard, client)
	})
	response := bufio.NewReader(server)
	if r := u.request(request); r != nil {
		u.correct(client, response, r)
	}
	_, _ = io.Copy(client, response)
	closeWrite(client)
	_ = client.SetReadDeadline(time.Now().Add(linger))
	up.Wait()
}

// readHead reads the head of the only request of a connection. It returns the
// bytes that it read, and the request. It ends after a while, and when the front
// stops.
func (f *front) readHead(client net.Conn) ([]byte, *http.Request, error) {
	_ = client.SetReadDeadline(time.Now().Add(headTime))
	release := context.AfterFunc(f.life, func() { _ = client.SetReadDeadline(time.Unix(1, 0)) })
	var head bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(io.LimitReader(client, maxHead), &head)))
	if !release() {
		return nil, nil, net.ErrClosed
	}
	_ = client.SetReadDeadline(time.Time{})
	return head.Bytes(), request, err
}

// refuse responds to a request as S3 does, without versitygw.
func refuse(client net.Conn, status int, code, message string) {
	body, _ := xml.Marshal(failure{Code: code, Message: message}) // strings always encode
	response := http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {"application/xml"}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
	_ = response.Write(client) // the client may be gone
	closeWrite(client)
	_ = client.SetReadDeadline(time.Now().Add(linger))
	_, _ = io.Copy(io.Discard, client)
}

// closeWrite tells the other side that no more bytes follow.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
