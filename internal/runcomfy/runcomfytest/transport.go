package runcomfytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"syscall"
)

// Transport returns a transport that passes requests for any host to the Server. It uses
// no socket and never waits, even under faults, so that thousands of jobs can run on a
// virtual clock. It calls the hooks of net/http/httptrace by which a client knows whether
// it was connected.
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
	received, err := asReceived(req)
	if err != nil {
		return nil, err
	}
	fault := t.server.faultOf(received, body)
	if fault != nil && fault.Break == NotSent {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	t.server.count(received)
	if fault == nil {
		rec := newRecorder()
		t.server.handle(rec, received, body)
		return rec.response(req, nil), nil
	}
	rec := t.server.faulty(received, body, fault)
	reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	switch fault.Break {
	case Reset:
		return nil, reset
	case Silence:
		return nil, context.DeadlineExceeded
	case Truncate:
		rec.body.Truncate(rec.body.Len() / 2)
		return rec.response(req, reset), nil
	}
	return rec.response(req, nil), nil
}

func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return body, errors.Join(err, req.Body.Close())
}

// asReceived returns a client's request as a server sees it.
func asReceived(req *http.Request) (*http.Request, error) {
	received := req.Clone(req.Context())
	u, err := url.ParseRequestURI(req.URL.RequestURI())
	if err != nil {
		return nil, err
	}
	received.RequestURI = req.URL.RequestURI()
	received.URL = u
	if received.Host == "" {
		received.Host = req.URL.Host
	}
	if req.URL.Scheme == "https" {
		received.TLS = &tls.ConnectionState{}
	}
	received.Body = http.NoBody
	return received, nil
}

// response returns the response as a client sees it. The body ends with the given
// error, if any.
func (rec *recorder) response(req *http.Request, end error) *http.Response {
	length, err := strconv.ParseInt(rec.header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	body := io.Reader(&rec.body)
	if end != nil {
		body = io.MultiReader(body, failingReader{end})
	}
	if req.Method == http.MethodHead {
		body = bytes.NewReader(nil)
	}
	return &http.Response{
		StatusCode: rec.status, Status: fmt.Sprintf("%d %s", rec.status, http.StatusText(rec.status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.header, Body: io.NopCloser(body), ContentLength: length, Request: req,
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
