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

	"github.com/lipdrop/lipdrop/internal/local/access"
)

const (
	// linger is how long a client may continue to send after the response. If the
	// connection were closed at once, the client would report a reset connection
	// instead of the response.
	linger = 2 * time.Second
	// headTime is how long a client may take to send the head of its request. maxHead is
	// how many bytes the head may have. versitygw accepts fewer.
	headTime = time.Minute
	maxHead  = 64 << 10
)

// newFront returns a server that sends requests to versitygw, through the connections
// that dial makes. It accepts only requests to one of the hosts.
func newFront(dial func() (net.Conn, error), u *users, hosts access.Hosts, out io.Writer) *http.Server {
	failures := log.New(out, "", log.LstdFlags)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The signature covers the path and the query exactly as the client sent them.
			path, query, _ := strings.Cut(r.In.RequestURI, "?")
			r.Out.URL = &url.URL{Scheme: "http", Host: "versitygw", Path: r.In.URL.Path, RawPath: path, RawQuery: query}
			if !strings.HasPrefix(path, "//") { // package url would put the scheme before it
				r.Out.URL.Opaque = path
			}
		},
		Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				conn, err := dial()
				return patient{conn}, err
			},
			DisableCompression: true, DisableKeepAlives: true, ExpectContinueTimeout: time.Second,
		},
		ModifyResponse: u.correct,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // cuts the connection
		ErrorLog:       failures,
	}
	pass := func(w http.ResponseWriter, r *http.Request) {
		in := *r
		in.Body = io.NopCloser(r.Body) // so that the proxy does not close it
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex() // a response need not wait for the rest of the request
		proxy.ServeHTTP(w, &in)
		_ = control.Flush()
		_ = control.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, r.Body)
	}
	return &http.Server{
		Handler: hosts.Handler(http.HandlerFunc(pass)), ReadHeaderTimeout: headTime, MaxHeaderBytes: maxHead, ErrorLog: failures,
	}
}

// patient is a connection to versitygw, which may respond and close the connection
// before it has read the whole request. An error of Write would hide the response.
type patient struct{ net.Conn }

func (c patient) Write(p []byte) (int, error) {
	_, _ = c.Conn.Write(p) // Read says what happened
	return len(p), nil
}
