package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// linger is how long a client may go on sending once the server has answered
// and closed. Closing at once would reset the connection, and the client would
// report that instead of the answer.
const linger = 2 * time.Second

// front passes the connections of a listener on to the server.
type front struct {
	listener net.Listener
	running  sync.WaitGroup
}

// serve passes bytes between each connection of a listener and one that dial
// makes. Where both are sockets, the kernel moves them, after the head of the
// request.
func serve(listener net.Listener, dial func() (net.Conn, error), u *users) *front {
	f := &front{listener: listener}
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
			f.running.Go(func() { join(client, dial, u) })
		}
	})
	return f
}

// stop takes no further connection.
func (f *front) stop() { _ = f.listener.Close() }

// wait waits until the last connection has ended; the server's end ends them.
func (f *front) wait() { f.running.Wait() }

func join(client net.Conn, dial func() (net.Conn, error), u *users) {
	defer func() { _ = client.Close() }()
	server, err := dial()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	asked := make(chan *request, 1)
	var up sync.WaitGroup
	up.Go(func() {
		head, r := u.read(client)
		if r != nil {
			asked <- r
		}
		_, _ = server.Write(head)
		_, _ = io.Copy(server, client) // either side's end shows below
		closeWrite(server)
		_, _ = io.Copy(io.Discard, client)
	})
	answer := bufio.NewReader(server)
	u.mend(client, answer, asked)
	_, _ = io.Copy(client, answer)
	closeWrite(client)
	_ = client.SetReadDeadline(time.Now().Add(linger))
	up.Wait()
}

// closeWrite tells the other side that nothing more will be sent to it.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
