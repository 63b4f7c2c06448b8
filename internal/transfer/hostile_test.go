package transfer

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/origins"
)

// Whatever bytes a server sends, no error contains the query of the URL, and no error is
// long.
func TestResponsesThatQuoteTheQuery(t *testing.T) {
	const redirect = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
	tests := map[string]string{
		"no HTTP":               secret,
		"HTTP status":           "HTTP/1.1 " + secret,
		"HTTP version":          secret + " 200 OK",
		"header":                "HTTP/1.1 200 OK\r\n" + secret,
		"length":                "HTTP/1.1 200 OK\r\nContent-Length: " + secret,
		"transfer encoding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret,
		"trailer":               "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\n" + secret,
		"reason of the status":  "HTTP/1.1 404 " + secret,
		"zeros":                 "HTTP/1.1 200 OK\r\n" + strings.Repeat("\x00", 60_000),
		"redirect to a name":    redirect + "https://" + strings.Repeat("a", 60_000) + "/",
		"redirect to a port":    redirect + "https://a.example.com:" + strings.Repeat("0", 60_000) + "443/",
		"redirect to a zone":    redirect + "https://[fe80::1%25" + strings.Repeat("a", 60_000) + "]/",
		"redirect to the query": redirect + "https://" + strings.ReplaceAll(secret, "=", "-") + ".example.com/?" + secret,
		"redirect to no URL":    redirect + "://" + secret,
	}
	for name, response := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, []byte("x"))
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: o.server.TLS.Certificates})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
							_, _ = io.WriteString(conn, response+"\r\n\r\n")
						}
						_ = conn.Close()
					}()
				}
			}()
			c := o.copier(t, newBucket(t))
			address := "https://" + listener.Addr().String()
			if c.Origins, err = origins.Parse([]string{address}); err != nil {
				t.Fatal(err)
			}
			_, err = c.Copy(t.Context(), address+"/talk.mp4?"+secret, toTestKey)
			if err == nil {
				t.Fatal("the copy succeeded, want an error")
			}
			if said := err.Error(); strings.Contains(said, secret) || len(said) > 500 {
				t.Errorf("the error has %d bytes; want at most 500 bytes, and no query in them: %.300s", len(said), said)
			}
		})
	}
}
