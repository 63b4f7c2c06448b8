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

// The listener for containers accepts only connections from their network.
func TestContainersOnly(t *testing.T) {
	for _, tt := range []struct{ name, network, want string }{
		{"a container", "127.0.0.0/8", "hello"},
		{"a stranger", "172.17.0.0/16", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, network, err := net.ParseCIDR(tt.network)
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error)
			go func() {
				for {
					conn, err := containersOnly{listener, network}.Accept()
					if err != nil {
						served <- err
						return
					}
					_, _ = io.WriteString(conn, "hello")
					_ = conn.Close()
				}
			}()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(conn); string(got) != tt.want { // a stranger's connection may be reset
				t.Errorf("a client reads %q, want %q", got, tt.want)
			}
			if err := errors.Join(conn.Close(), listener.Close()); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close, Accept returned %v, want net.ErrClosed", err)
			}
		})
	}
}

// The fake RunComfy can fetch URLs with the host name by which containers reach this machine.
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
	response, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if got, _ := io.ReadAll(response.Body); !strings.HasPrefix(string(got), ContainerHost+":") {
		t.Errorf("the request has Host %s, want %s with a port", got, ContainerHost)
	}
}
