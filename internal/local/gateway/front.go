package gateway

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// linger is how long a client may continue to send its request after the response. If the
// connection were closed at once, the client would report a reset connection instead of the
// response.
const linger = 5 * time.Second

// newFront returns a handler that sends requests to versitygw, through the connections
// that dial makes. u corrects the responses. The handler logs its errors to out.
func newFront(dial func() (net.Conn, error), u *users, out io.Writer) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The signature covers the path and the query exactly as the client sent them.
			path, query, _ := strings.Cut(r.In.RequestURI, "?")
			r.Out.URL = &url.URL{Scheme: "http", Host: "versitygw", Path: r.In.URL.Path, RawPath: path, RawQuery: query}
			if !strings.HasPrefix(path, "//") { // URL.RequestURI puts the scheme before an Opaque that begins with //
				r.Out.URL.Opaque = path
			}
		},
		Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				conn, err := dial()
				return noWriteErrors{conn}, err
			},
			DisableCompression: true, DisableKeepAlives: true, ExpectContinueTimeout: time.Second,
		},
		ModifyResponse: u.correct,
		ErrorLog:       log.New(out, "", log.LstdFlags),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := *r
		in.Body = io.NopCloser(r.Body) // so that the proxy does not close the body
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex() // a response need not wait for the rest of the request
		proxy.ServeHTTP(w, &in)
		_ = control.Flush()
		_ = control.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, r.Body)
	})
}

// noWriteErrors is a connection to versitygw. versitygw may respond and close the connection
// before it has read the whole request. Then an error of Write would hide the response.
type noWriteErrors struct{ net.Conn }

func (c noWriteErrors) Write(p []byte) (int, error) {
	_, _ = c.Conn.Write(p) // Read returns the response, or the error
	return len(p), nil
}
