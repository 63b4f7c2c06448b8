package local

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A joined listener takes whoever comes by loopback, and of those who come by
// the bridge the ones of its own network.
func TestJoinedListener(t *testing.T) {
	for _, tt := range []struct {
		name, network string
		byBridge      string // what a client of the bridge reads
	}{
		{name: "a container", network: "127.0.0.0/8", byBridge: "hello"},
		{name: "a stranger", network: "172.17.0.0/16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, network, err := net.ParseCIDR(tt.network)
			if err != nil {
				t.Fatal(err)
			}
			loopback, bridge := openListener(t), openListener(t)
			joined := join(loopback, bridge, network)
			served := make(chan error)
			go func() {
				for {
					conn, err := joined.Accept()
					if err != nil {
						served <- err
						return
					}
					_, _ = io.WriteString(conn, "hello")
					_ = conn.Close()
				}
			}()
			for listener, want := range map[net.Listener]string{loopback: "hello", bridge: tt.byBridge} {
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(conn) // a stranger's connection may be reset
				if string(got) != want {
					t.Errorf("%s receives %q, want %q", listener.Addr(), got, want)
				}
				_ = conn.Close()
			}
			if err := joined.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close, Accept returned %v", err)
			}
			for _, listener := range []net.Listener{loopback, bridge} {
				if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
					_ = conn.Close()
					t.Errorf("%s still listens", listener.Addr())
				}
			}
		})
	}
}

func openListener(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// The fake fetches by URLs that hold the containers' name for this machine.
func TestContainerHostIsThisMachine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
	}))
	defer server.Close()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	dialContainerHost(transport)
	defer transport.CloseIdleConnections()
	url := strings.Replace(server.URL, "127.0.0.1", ContainerHost, 1)
	answer, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if got, _ := io.ReadAll(answer.Body); !strings.HasPrefix(string(got), ContainerHost+":") {
		t.Errorf("the server was asked as %s", got)
	}
}
