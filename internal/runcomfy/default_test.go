package runcomfy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Over HTTP/2, net/http repeats a request whose stream the server refused, even a paid POST. So
// the default client offers only HTTP/1.1.
func TestProtocolAndTimeoutOfTheDefaultClient(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"status":"`+r.Proto+`"}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	ours := newDefaultHTTPClient()
	transport := ours.Transport.(*http.Transport)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	transport.ForceAttemptHTTP2 = true // without this, a TLSClientConfig turns HTTP/2 off
	client := &Client{Token: StaticToken("token"), BaseURL: server.URL, HTTPClient: ours}
	status, err := client.Status(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	if status.State != "http/1.1" { // Status writes a state in lower case
		t.Errorf("protocol %s, want http/1.1", status.State)
	}
	if ours.Timeout != Timeout {
		t.Errorf("timeout %v, want %v", ours.Timeout, Timeout)
	}
}
