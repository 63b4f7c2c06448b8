package runcomfy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

const (
	modelsPath   = "/v1/models/"
	requestsPath = "/v1/requests/"
	balancePath  = "/prod/v2/balance"
)

// The forms of request ids that RunComfy's own clients accept, and of the model ids
// in its catalogue. Both are put into paths without escaping.
var (
	requestIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	modelIDs   = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){1,4}$`)
)

// defaultHTTPClient opens a connection for each request and uses HTTP/1.1. A Lambda
// function is frozen between two invocations. If the server closed a kept connection in that
// time, the outcome of a paid POST on that connection would be unknown. On a new HTTP/1.1 connection,
// net/http never repeats a request automatically.
var defaultHTTPClient = newDefaultHTTPClient()

func newDefaultHTTPClient() *http.Client {
	// A clone of http.DefaultTransport would offer HTTP/2 to the server.
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
		Protocols:           new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &http.Client{Transport: transport, Timeout: Timeout}
}

// call is what a request is made from: a path below the base URL, a raw query, and a JSON body or
// nil. A paid call is never repeated.
type call struct {
	method, path, query string
	body                []byte
	paid                bool
}

// do makes a call and returns the response. The doc of Client lists the errors and says when a
// call is repeated. If an HTTP 2xx response has an error code, do returns both the response and
// the error.
func (c *Client) do(ctx context.Context, call call) (*response, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.send(ctx, call, token)
	// An error of KindBalance or KindForeign may be about the token too, because a person may have set
	// the token of another account meanwhile.
	if !IsKind(err, KindToken, KindBalance, KindForeign) {
		return res, err
	}
	c.Token.Refused()
	if call.paid {
		return res, err
	}
	next, tokenErr := c.token(ctx)
	if tokenErr != nil || next == token {
		return res, err
	}
	return c.send(ctx, call, next)
}

// send makes one HTTP request.
func (c *Client) send(ctx context.Context, call call, token string) (*response, error) {
	failed := &sendError{method: call.method, path: call.path, notSent: true}
	req, err := c.newRequest(ctx, call, token)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		failed.err = withoutURL(err)
		return nil, failed
	}

	var asked, got atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	}))
	res, err := c.httpClient().Do(req)
	if err != nil {
		// A transport that did not call GetConn ignores the trace, and may have sent the request.
		failed.notSent = asked.Load() && !got.Load()
		failed.err = withoutURL(err)
		failed.text = cmp.Or(safeText(failed.err.Error(), token), "no response")
		return nil, failed
	}
	defer func() { _ = res.Body.Close() }()
	return readResponse(call, res, token)
}

// CheckToken returns a *TokenError if there is no token that can be sent. It sends nothing to
// RunComfy.
func (c *Client) CheckToken(ctx context.Context) error {
	_, err := c.token(ctx)
	return err
}

func (c *Client) token(ctx context.Context) (string, error) {
	if c.Token == nil {
		return "", &TokenError{Err: errors.New("no source for the token")}
	}
	token, err := c.Token.Token(ctx)
	if err != nil {
		return "", &TokenError{Err: err}
	}
	if token == "" {
		return "", &TokenError{Err: errors.New("the token is empty")}
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			c.Token.Refused() // a person may correct the secret
			return "", &TokenError{Err: errors.New("the token has a character that no token has, such as a space, a line break or a letter that is not ASCII")}
		}
	}
	return token, nil
}

func (c *Client) newRequest(ctx context.Context, call call, token string) (*http.Request, error) {
	u, err := url.Parse(strings.TrimSuffix(cmp.Or(c.BaseURL, DefaultBaseURL), "/") + call.path)
	if err != nil {
		return nil, fmt.Errorf("base URL: %w", withoutURL(err))
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("base URL: it must have http or https and a host, but no user, query or fragment")
	}
	u.RawQuery = call.query
	var body io.Reader
	if call.body != nil {
		body = bytes.NewReader(call.body)
	}
	req, err := http.NewRequestWithContext(ctx, call.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	// Without GetBody no transport can send a body twice.
	req.GetBody = nil
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache")
	if call.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

// httpClient returns the client to use. That client follows no redirect, because a redirect
// could send the token to another address, and a second POST could be a second job.
func (c *Client) httpClient() *http.Client {
	client := *cmp.Or(c.HTTPClient, defaultHTTPClient)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func validRequestID(id string) bool { return requestIDs.MatchString(id) }

// modelPath returns the path of a model. The method is for the error.
func modelPath(method, modelID string) (string, error) {
	if !modelIDs.MatchString(modelID) {
		return "", &sendError{method: method, path: modelsPath + "…", notSent: true, err: fmt.Errorf("not a model id: %.100q", modelID)}
	}
	return modelsPath + modelID, nil
}

// withoutURL returns what an *url.Error in err wraps, because the text of an *url.Error
// contains the whole URL. It returns any other error unchanged.
func withoutURL(err error) error {
	for {
		wrapped, ok := errors.AsType[*url.Error](err)
		if !ok {
			return err
		}
		err = wrapped.Err
	}
}
