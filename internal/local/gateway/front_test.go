package gateway

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestAnswerBeforeTheEndOfARequest has a server answer and close while the
// client still sends, as a server does that refuses an upload after its head.
// The client must get the answer, not a reset connection.
func TestAnswerBeforeTheEndOfARequest(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	server, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1))
		_, _ = conn.Write([]byte("refused"))
		_ = conn.Close()
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serve(listener, func() (net.Conn, error) { return net.Dial("unix", socket) }, &users{})
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(make([]byte, 64<<20)); err != nil {
		t.Errorf("sending: %v", err)
	}
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "refused" {
		t.Errorf("answer %q, %v", answer, err)
	}
	_ = client.Close()
	f.stop()
	f.wait()
}

// TestServerOutOfReach closes a connection that cannot be passed on.
func TestServerOutOfReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serve(listener, func() (net.Conn, error) { return net.Dial("unix", filepath.Join(t.TempDir(), "none")) }, &users{})
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v, want the end", n, err)
	}
	_ = client.Close()
	f.stop()
	f.wait()
}
