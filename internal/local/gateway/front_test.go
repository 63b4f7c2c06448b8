package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// A signature covers the path and the query as the client sent them, so the front passes both on unchanged.
func TestPathsArriveUnchanged(t *testing.T) {
	for _, path := range []string{"/bucket/key", "/bucket//k%2Fe+y%20?a=%2F", "//bucket/k%2Fe+y%20", `/bucket/"key"`} {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		line := make(chan string, 1)
		go func() {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			got, _ := bufio.NewReader(conn).ReadString('\n')
			line <- got
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			_ = conn.Close()
		}()
		f := newFront(func() (net.Conn, error) { return net.Dial("tcp", server.Addr().String()) }, &users{}, t.Output())
		f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		if got, want := <-line, "GET "+path+" HTTP/1.1\r\n"; got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
		_ = server.Close()
	}
}

// A server that refuses an upload responds and closes the connection while the client is
// still sending. The client must receive the response, not a reset connection.
func TestResponseBeforeTheEndOfARequest(t *testing.T) {
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
		_, _ = conn.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nrefused"))
		_ = conn.Close()
	}()
	f := httptest.NewServer(newFront(func() (net.Conn, error) { return net.Dial("unix", socket) }, &users{}, t.Output()))
	defer f.Close()
	client, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const head = "PUT /bucket/key HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nContent-Length: 67108864\r\n\r\n"
	if _, err := client.Write(append([]byte(head), make([]byte, 16<<20)...)); err != nil {
		t.Errorf("sending the request: %v, want no error", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "refused" {
		t.Errorf("response %q, %v, want \"refused\"", body, err)
	}
	_ = client.Close()
}
