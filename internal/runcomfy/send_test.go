package runcomfy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// dialing returns a client whose connections come from a function.
func dialing(dial func() (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
	}}
}

func TestNotSent(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	dropping := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer dropping.Close()
	closed.Close() // last, so that no other server here can get its port

	tests := []struct {
		name    string
		client  runcomfy.Client
		model   string
		input   map[string]any
		notSent bool
	}{
		{name: "connection refused", client: runcomfy.Client{BaseURL: closed.URL}, notSent: true},
		{name: "no such host", client: runcomfy.Client{HTTPClient: dialing(func() (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "model-api.example", IsNotFound: true}
		})}, notSent: true},
		{name: "a certificate that is not trusted", client: runcomfy.Client{BaseURL: untrusted.URL}, notSent: true},
		{name: "a base URL without a scheme", client: runcomfy.Client{BaseURL: "model-api.example"}, notSent: true},
		{name: "a base URL that cannot be parsed", client: runcomfy.Client{BaseURL: "https://a b/%zz"}, notSent: true},
		{name: "a base URL with a query", client: runcomfy.Client{BaseURL: "https://a.example/?key=1"}, notSent: true},
		{name: "a base URL of another protocol", client: runcomfy.Client{BaseURL: "ftp://a.example"}, notSent: true},
		{name: "an input that JSON cannot hold", client: runcomfy.Client{BaseURL: dropping.URL}, input: map[string]any{"x": math.NaN()}, notSent: true},
		{name: "an invalid model id", client: runcomfy.Client{BaseURL: dropping.URL}, model: "a/../b", notSent: true},
		{name: "the server closes the connection after it has read the request", client: runcomfy.Client{BaseURL: dropping.URL}},
		{name: "a transport that calls no hook of net/http/httptrace", client: runcomfy.Client{HTTPClient: &http.Client{
			Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}),
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.model == "" {
				tt.model = "a/b"
			}
			tt.client.Token = fixedToken
			_, err := tt.client.Submit(t.Context(), tt.model, tt.input)
			if err == nil {
				t.Fatal("no error, want one")
			}
			if got := runcomfy.NotSent(err); got != tt.notSent {
				t.Errorf("NotSent returns %t, want %t: %v", got, tt.notSent, err)
			}
			if _, ok := errors.AsType[*runcomfy.Error](err); ok {
				t.Errorf("error %v, want no *Error, because there was no response", err)
			}
			_, resultErr := tt.client.Result(t.Context(), "r")
			for _, err := range []error{err, resultErr} {
				if text := fmt.Sprint(err); strings.Contains(text, "?") || strings.Contains(text, "://") || strings.Contains(text, "key") || strings.Contains(text, canary) {
					t.Errorf("error %q, want no address and no secret in it", text)
				}
			}
		})
	}
	if runcomfy.NotSent(nil) || runcomfy.NotSent(io.EOF) {
		t.Error("nil, or an error that is not of this package, counts as not sent")
	}
}

func TestNotSentWhenTheCallerGivesUp(t *testing.T) {
	t.Run("before the request", func(t *testing.T) {
		client, requests := responding(t, 200, "application/json", `{"request_id":"r"}`)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client.Submit(ctx, "a/b", nil)
		if !runcomfy.NotSent(err) || !errors.Is(err, context.Canceled) || len(*requests) != 0 {
			t.Errorf("error %v, %d requests; want context.Canceled, not sent, and no request", err, len(*requests))
		}
	})
	t.Run("while connecting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client := &runcomfy.Client{Token: fixedToken, HTTPClient: dialing(func() (net.Conn, error) {
			cancel()
			<-t.Context().Done()
			return nil, t.Context().Err()
		})}
		_, err := client.Submit(ctx, "a/b", nil)
		if !runcomfy.NotSent(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled, not sent", err)
		}
	})
	t.Run("while waiting for the response", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client := serving(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		})
		_, err := client.Submit(ctx, "a/b", nil)
		if err == nil || runcomfy.NotSent(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled, perhaps sent", err)
		}
	})
}

// A server may close an idle connection at the moment when a client writes to
// it. net/http then repeats a GET, but must not repeat a paid POST.
func TestAPostIsNeverRepeated(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var posts atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go respondToGetsOnly(conn, &posts)
		}
	}()
	client := &runcomfy.Client{
		Token: fixedToken, BaseURL: "http://" + listener.Addr().String(),
		HTTPClient: &http.Client{Transport: &http.Transport{}},
	}
	if _, err := client.Status(t.Context(), "id"); err != nil {
		t.Fatal(err)
	}
	_, err = client.Submit(t.Context(), "a/b", map[string]any{"x": 1})
	if err == nil || runcomfy.NotSent(err) {
		t.Errorf("error %v, NotSent returns %t; want an error and false", err, runcomfy.NotSent(err))
	}
	if n := posts.Load(); n != 1 {
		t.Errorf("%d POSTs, want 1", n)
	}
}

func respondToGetsOnly(conn net.Conn, posts *atomic.Int32) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			posts.Add(1)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"status\":\"in_queue\"}")
	}
}

func TestNoTransportCanRepeatThePost(t *testing.T) {
	var seen *http.Request
	client := &runcomfy.Client{Token: fixedToken, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		seen = r
		return nil, io.ErrUnexpectedEOF
	})}}
	if _, err := client.Submit(t.Context(), "a/b", map[string]any{"x": 1}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("error %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if seen.GetBody != nil {
		t.Error("the request has GetBody, want none: a transport could send the body twice")
	}
	if want := int64(len(`{"x":1}`)); seen.ContentLength != want {
		t.Errorf("Content-Length %d, want %d", seen.ContentLength, want)
	}
	if want := runcomfy.DefaultBaseURL + "/v1/models/a/b"; seen.URL.String() != want {
		t.Errorf("URL %s, want %s", seen.URL, want)
	}
}

// A Lambda function is frozen between two invocations. A connection that the function kept
// may be dead when the function writes the next paid POST to it.
func TestTheDefaultClientKeepsNoConnection(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"in_queue"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := &runcomfy.Client{Token: fixedToken, BaseURL: server.URL + "/"}
	for range 3 {
		if _, err := client.Status(t.Context(), "id"); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections for 3 requests, want 3", n)
	}
}

func TestBadIDsAreNotPutIntoAPath(t *testing.T) {
	client, requests := responding(t, 200, "application/json", `{"status":"in_queue","outcome":"cancelled","model_id":"m","request_id":"r"}`)
	ctx := t.Context()
	for _, id := range []string{"", ".", "..", "a/b", "a%2Fb", "a?b", "a b", "ü", "a\n", strings.Repeat("a", 129)} {
		for _, call := range []runcomfytest.Call{runcomfytest.CallStatus, runcomfytest.CallResult, runcomfytest.CallCancel} {
			if err := calls[call](ctx, client, id); !runcomfy.NotSent(err) {
				t.Errorf("request id %q: error %v, want one that counts as not sent", id, err)
			}
		}
	}
	for _, id := range []string{"", "a", "/a/b", "a/b/", "a//b", "a/../b", "a/.b", "a/b?c", "a/%62", "a/b/c/d/e/f", "a/b c"} {
		_, submitErr := client.Submit(ctx, id, nil)
		_, modelErr := client.Model(ctx, id)
		for _, err := range []error{submitErr, modelErr} {
			if !runcomfy.NotSent(err) {
				t.Errorf("model id %q: error %v, want one that counts as not sent", id, err)
			}
		}
	}
	if len(*requests) != 0 {
		t.Errorf("%d requests were made, want none", len(*requests))
	}
	for _, id := range []string{"a/b", "a/b/c/d/e", "happyhorse/happyhorse-1.0/reference-to-video"} {
		if _, err := client.Submit(ctx, id, nil); err != nil {
			t.Errorf("model id %q: error %v, want none", id, err)
		}
	}
}

func TestTheClientOfTheCallerIsNotChanged(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer server.Close()
	mine := server.Client()
	client := &runcomfy.Client{Token: fixedToken, BaseURL: server.URL, HTTPClient: mine}
	_, err := client.Status(t.Context(), "id")
	if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.HTTPStatus != http.StatusFound {
		t.Errorf("error %v, want an *Error with HTTP 302", err)
	}
	if mine.CheckRedirect != nil {
		t.Error("the caller's redirect policy was replaced")
	}
}
