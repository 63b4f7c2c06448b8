package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/access"
)

// put is the head of a request.
const put = "PUT /bucket/key HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nContent-Length: 67108864\r\n\r\n"

// The server receives no request that a page of another host has sent, and none that
// cannot be read.
func TestForeignRequestsEndInFront(t *testing.T) {
	for _, tt := range []struct{ name, head, want string }{
		{"this machine", put, "HTTP/1.1 418 "},
		{"a name made to point here", strings.Replace(put, "127.0.0.1", "evil.example", 1), "HTTP/1.1 403 "},
		{"a foreign page", strings.Replace(put, "\r\n", "\r\nOrigin: https://evil.example\r\n", 1), "HTTP/1.1 403 "},
		{"a foreign address", strings.Replace(put, "/bucket", "http://evil.example/bucket", 1), "HTTP/1.1 403 "},
		{"two names", strings.Replace(put, "\r\n", "\r\nHost: evil.example\r\n", 1), "HTTP/1.1 400 "},
		{"no name", strings.Replace(put, "Host: 127.0.0.1:4566\r\n", "", 1), "HTTP/1.1 400 "},
		{"what is not HTTP", "hello\r\n\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f := newFront(func() (net.Conn, error) {
				front, server := net.Pipe()
				go func() {
					_, _ = server.Read(make([]byte, len(put)))
					_, _ = io.WriteString(server, "HTTP/1.1 418 the server\r\n\r\n")
					_ = server.Close()
				}()
				return front, nil
			}, &users{}, access.Loopback(), t.Output())
			go func() { _ = f.Serve(listener) }()
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(client, tt.head); err != nil {
				t.Fatal(err)
			}
			if response, err := io.ReadAll(client); err != nil || !strings.HasPrefix(string(response), tt.want) {
				t.Errorf("response %q, %v; want %q", response, err, tt.want)
			}
			_ = client.Close()
			_ = f.Close()
		})
	}
}

// A signature covers the path as the client sent it.
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
		f := newFront(func() (net.Conn, error) { return net.Dial("tcp", server.Addr().String()) }, &users{}, access.Loopback(), t.Output())
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1"
		f.Handler.ServeHTTP(httptest.NewRecorder(), r)
		if got, want := <-line, "GET "+path+" HTTP/1.1\r\n"; got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
		_ = server.Close()
	}
}

// The front can end although a connection sends no request.
func TestSilentConnectionEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(func() (net.Conn, error) { return nil, errors.New("none") }, &users{}, access.Loopback(), t.Output())
	accepted := make(chan bool, 1)
	f.ConnState = func(net.Conn, http.ConnState) { accepted <- true }
	go func() { _ = f.Serve(listener) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v, want the end", n, err)
	}
	_ = client.Close()
}

// A server responds and closes the connection while the client still sends, as a server
// does that refuses an upload. The client must receive the response, not a reset
// connection.
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(func() (net.Conn, error) { return net.Dial("unix", socket) }, &users{}, access.Loopback(), t.Output())
	go func() { _ = f.Serve(listener) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(append([]byte(put), make([]byte, 64<<20)...)); err != nil {
		t.Errorf("sending: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "refused" {
		t.Errorf("response %q, %v, want \"refused\"", body, err)
	}
	_ = client.Close()
	_ = f.Close()
}

// If the server cannot be reached, the client's connection is closed.
func TestServerOutOfReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(func() (net.Conn, error) { return net.Dial("unix", filepath.Join(t.TempDir(), "none")) }, &users{}, access.Loopback(), t.Output())
	go func() { _ = f.Serve(listener) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, put); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v, want the end", n, err)
	}
	_ = client.Close()
	_ = f.Close()
}
