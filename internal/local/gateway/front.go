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

// linger is how long a client may go on sending once the server has answered
// and closed. Closing at once would reset the connection, and the client would
// report that instead of the answer.
const linger = 2 * time.Second

// front passes the connections of a listener on to the server.
type front struct {
	listener net.Listener
	hosts    access.Hosts // that requests may be addressed to
	running  sync.WaitGroup
	life     context.Context // done after stop
	end      context.CancelFunc
}

// serve passes bytes between each connection of a listener and one that dial
// makes, if the request is addressed to one of the hosts. If both are sockets, the
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
			if err != nil { // too many open files, say: it passes
				time.Sleep(startPoll)
				continue
			}
			f.running.Go(func() { f.join(client, dial, u) })
		}
	})
	return f
}

// stop takes no further request.
func (f *front) stop() {
	f.end()
	_ = f.listener.Close()
}

// wait waits until the last connection has ended; the server's end ends them.
func (f *front) wait() { f.running.Wait() }

// headTime is how long a client may take to send the head of its request.
const headTime = time.Minute

func (f *front) join(client net.Conn, dial func() (net.Conn, error), u *users) {
	defer func() { _ = client.Close() }()
	head, asked, err := f.head(client)
	if err != nil {
		if len(head) > 0 {
			refuse(client, http.StatusBadRequest, "InvalidRequest", "the request cannot be read")
		}
		return
	}
	if err := f.hosts.Check(asked); err != nil {
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
		_, _ = io.Copy(server, client) // either side's end shows below
		closeWrite(server)
		_, _ = io.Copy(io.Discard, client)
	})
	answer := bufio.NewReader(server)
	if r := u.request(asked); r != nil {
		u.mend(client, answer, r)
	}
	_, _ = io.Copy(client, answer)
	closeWrite(client)
	_ = client.SetReadDeadline(time.Now().Add(linger))
	up.Wait()
}

// head reads the head of a request. A connection without one ends after a while,
// and when the front stops.
func (f *front) head(client net.Conn) ([]byte, *http.Request, error) {
	_ = client.SetReadDeadline(time.Now().Add(headTime))
	release := context.AfterFunc(f.life, func() { _ = client.SetReadDeadline(time.Unix(1, 0)) })
	head, asked, err := readHead(client)
	if !release() {
		return nil, nil, net.ErrClosed
	}
	_ = client.SetReadDeadline(time.Time{})
	return head, asked, err
}

// refuse answers a request that the server does not get, as S3 does.
func refuse(client net.Conn, status int, code, message string) {
	body, _ := xml.Marshal(failure{Code: code, Message: message}) // texts always encode
	answer := http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {"application/xml"}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
	_ = answer.Write(client) // a client that is gone needs no answer
	closeWrite(client)
	_ = client.SetReadDeadline(time.Now().Add(linger))
	_, _ = io.Copy(io.Discard, client)
}

// closeWrite tells the other side that nothing more will be sent to it.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
