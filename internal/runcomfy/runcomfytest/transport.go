package runcomfytest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"syscall"
	"testing/iotest"
)

// Transport returns a transport that passes requests for any host to the Server. It uses
// no socket and never waits, even under faults, so that thousands of jobs can run on a
// virtual clock. It calls the hooks of net/http/httptrace by which a client learns
// whether a connection was made.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ server *Server }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	trace := httptrace.ContextClientTrace(req.Context())
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	received := asReceived(req)
	fault := t.server.faultOf(received, body)
	if fault != nil && fault.Break == NotSent {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	t.server.count(received)
	rec := httptest.NewRecorder()
	bodyEnd := io.EOF // the error of a read after the last byte
	if fault == nil {
		t.server.handle(rec, received, body)
	} else {
		rec = t.server.faultyResponse(received, body, fault)
		reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		switch fault.Break {
		case Reset:
			return nil, reset
		case Silence:
			return nil, context.DeadlineExceeded
		case Truncate:
			rec.Body.Truncate(rec.Body.Len() / 2)
			bodyEnd = reset
		}
	}
	res := rec.Result()
	res.Request = req
	res.Body = io.NopCloser(io.MultiReader(res.Body, iotest.ErrReader(bodyEnd)))
	return res, nil
}

func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return body, errors.Join(err, req.Body.Close())
}

// asReceived returns a client's request as a server receives it.
func asReceived(req *http.Request) *http.Request {
	received := req.Clone(req.Context())
	received.Host = cmp.Or(req.Host, req.URL.Host)
	if req.URL.Scheme == "https" {
		received.TLS = &tls.ConnectionState{}
	}
	return received
}
