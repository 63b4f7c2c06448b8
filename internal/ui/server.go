// Package ui serves the page of `lipdrop ui`: the jobs of a stack, one job with its input
// and its output, decisions about outputs, and drops. The server listens on loopback and uses
// the person's own credentials, so the page can do what the person may do.
package ui

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
)

//go:embed static
var static embed.FS

// Server serves the page. It is safe for concurrent use.
type Server struct {
	client   *client.Client
	flags    []string      // select the stack in the commands that the page shows
	resolver drop.Resolver // Files is nil, because each drop sets its own
	prices   *budget.Prices
	caller   string // ARN of the person
	feed     *feed
	listener net.Listener
	shell    *shell

	againMu        sync.Mutex // dropAgain holds it, so that only one call copies a file at a time
	rightsMu       sync.Mutex
	rightsByFolder map[string]cachedRights

	ctx        context.Context // the parent of the contexts of the drops
	sessionsMu sync.Mutex
	sessions   map[string]*dropSession // by id
}

// Listen returns a server that listens on a free port of 127.0.0.1.
func Listen(ctx context.Context, c *client.Client, flags ...string) (*Server, error) {
	resolver, err := c.Resolver()
	if err != nil {
		return nil, err
	}
	media, err := presignedPrefix(ctx, c)
	if err != nil {
		return nil, err
	}
	caller, err := c.Caller(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		client: c, flags: flags, resolver: resolver, caller: caller, feed: newFeed(c), prices: &budget.Prices{API: c.RunComfy(), Now: time.Now},
		listener: listener, rightsByFolder: map[string]cachedRights{}, ctx: ctx, sessions: map[string]*dropSession{},
	}
	s.shell = newShell(listener.Addr(), media, s.routes())
	return s, nil
}

// URL returns the URL to open in a browser. The URL holds a secret.
func (s *Server) URL() string { return s.shell.url() }

// Serve serves the page until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: s.shell, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10, // a browser also sends the cookies of other servers of this machine
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       log.New(io.Discard, "", 0), // a log could contain parts of requests
	}
	go s.feed.run(ctx)
	context.AfterFunc(ctx, func() { _ = server.Close() })
	err := server.Serve(s.listener)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, static, "static/index.html") })
	mux.Handle("GET /static/", http.FileServerFS(static))
	mux.Handle("GET /api/page", handle(s.pageInfo))
	mux.Handle("GET /api/events", s.feed)
	mux.Handle("GET /api/job", handle(s.job))
	mux.HandleFunc("GET /api/reviews.csv", s.serveReviews)
	mux.Handle("POST /api/review", handle(s.handleAction(s.review)))
	mux.Handle("POST /api/cancel", handle(s.handleAction(s.cancel)))
	mux.Handle("POST /api/redrive", handle(s.handleAction(s.redrive)))
	mux.Handle("POST /api/again", handle(s.handleAction(s.dropAgain)))
	mux.Handle("GET /api/models", handle(s.models))
	mux.Handle("POST /api/drop/open", handle(s.openDrop))
	mux.Handle("POST /api/drop/next", handle(s.withSession((*dropSession).next)))
	mux.Handle("POST /api/drop/part", handle(s.withSession((*dropSession).receivePart)))
	mux.Handle("POST /api/drop/keep", handle(s.withSession((*dropSession).keep)))
	mux.Handle("POST /api/drop/start", handle(s.withSession((*dropSession).start)))
	mux.Handle("POST /api/drop/close", handle(s.withSession((*dropSession).close)))
	return mux
}

// pageInfo returns what the page asks for when it opens.
func (s *Server) pageInfo(r *http.Request) (any, error) {
	stack, region := s.client.Stack, s.client.Config.Region
	if s.client.Local() {
		stack, region = "local stack in "+s.client.Dir, ""
	}
	return map[string]any{"stack": stack, "bucket": s.client.Bucket.Name, "region": region, "who": s.caller, "lacks": s.missingRightsFor(r.Context(), "")}, nil
}

// handle returns a handler that calls the function do, and responds with its value as JSON, or
// with its error as a text for the person.
func handle(do func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := do(r)
		if err != nil {
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value) // an error means that the browser has gone
	}
}

// requestError is an error that has its own HTTP status.
type requestError struct {
	status int
	reason string
}

func (e *requestError) Error() string { return e.reason }

// statusOf returns the HTTP status of the response to a request that failed.
func statusOf(err error) int {
	if own, ok := errors.AsType[*requestError](err); ok {
		return own.status
	}
	if _, ok := errors.AsType[*client.UsageError](err); ok {
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*client.DeniedError](err); ok {
		return http.StatusForbidden
	}
	if _, ok := errors.AsType[*client.StateError](err); ok {
		return http.StatusConflict
	}
	if _, ok := errors.AsType[*client.NoJobError](err); ok {
		return http.StatusNotFound
	}
	return http.StatusBadGateway
}

// decode reads the JSON of a request.
func decode(r *http.Request, value any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(value)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &requestError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return &requestError{http.StatusBadRequest, "the request is not the JSON that was expected"}
	}
	return nil
}
