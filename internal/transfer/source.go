package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	maxRedirects  = 5                // of one request
	maxRetryAfter = 10 * time.Second // the longest wait that a source can ask for

	// stallBytes must arrive within pace.stall: 20 KiB in five seconds. A slower
	// source could not be copied within the 15 minutes of a function.
	stallBytes = 20 << 10
)

// A source is the file at an address, as its first response described it.
type source struct {
	given     *url.URL
	origins   Origins
	transport http.RoundTripper
	pace      pace

	at       *url.URL // where the redirects of the first request ended
	total    int64    // bytes; -1 if unknown
	ranges   bool     // ranges can be fetched and combined safely
	unproven bool     // ranges are announced, but the first response was the whole file
	etag     string
	modified string // Last-Modified
}

// unsafeURL matches the characters that parseSource escapes, because a URL may not
// contain them. It does not match control characters: a URL with one is an error.
var unsafeURL = regexp.MustCompile("[ \"<>\\\\^`{|}\x7f-\U0010FFFF]")

// parseSource parses the address of a source. It escapes what a URL may not
// contain and keeps existing escapes as they are.
func parseSource(raw string) (*url.URL, error) {
	u, err := url.Parse(unsafeURL.ReplaceAllStringFunc(raw, url.PathEscape))
	if err != nil {
		// err holds the query, which may be a signature.
		return nil, &OutputRefused{Reason: "not an https address"}
	}
	return u, nil
}

// A response is an HTTP response whose body is still to be read.
type response struct {
	*http.Response
	body
}

// toEnd is the size of a range that extends to the end of the file.
const toEnd = -1

// request requests size bytes from an offset, or the whole file without a range
// if size is 0. It returns the response and the address that sent it.
func (s *source) request(ctx context.Context, u *url.URL, from, size int64) (*response, *url.URL, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	limit := time.AfterFunc(s.pace.response, func() { giveUp(errNoResponse) })
	defer limit.Stop()
	header := http.Header{"User-Agent": {"lipdrop"}, "Accept-Encoding": {"identity"}}
	switch {
	case size == toEnd:
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	case size > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
		if isStrong(s.etag) {
			header.Set("If-Range", s.etag)
		}
	}
	resp, at, err := s.follow(ctx, u, header)
	if err == nil && ctx.Err() != nil {
		_ = resp.Body.Close() // the response arrived after the request was given up
		err = ctx.Err()
	}
	if err != nil {
		err = cause(ctx, err)
		giveUp(nil)
		return nil, nil, err
	}
	r := &response{resp, body{resp.Body, ctx, giveUp, s.pace.stall}}
	if encoding := r.Header.Get("Content-Encoding"); r.StatusCode < 300 && encoding != "" && !strings.EqualFold(encoding, "identity") {
		r.close()
		return nil, nil, s.unavailable(errors.New("the response has a content encoding"))
	}
	return r, at, nil
}

// follow sends a GET request and follows its redirects. Each address is checked
// against the origins. No cookie, credentials or Referer are sent.
func (s *source) follow(ctx context.Context, u *url.URL, header http.Header) (*http.Response, *url.URL, error) {
	for redirects := 0; ; redirects++ {
		if err := s.origins.check(u); err != nil {
			return nil, nil, err
		}
		req := (&http.Request{Method: http.MethodGet, URL: u, Header: header}).WithContext(ctx)
		resp, err := s.transport.RoundTrip(req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode/100 != 3 || resp.Header.Get("Location") == "" {
			return resp, u, nil
		}
		_ = resp.Body.Close() // it is not read
		next, err := u.Parse(resp.Header.Get("Location"))
		switch {
		case err != nil:
			return nil, nil, &OutputRefused{Host: addressOf(u), Reason: "the redirect has no valid address"}
		case u.Scheme == "https" && next.Scheme != "https":
			return nil, nil, &OutputRefused{Host: addressOf(next), Reason: "a redirect to plain http is not allowed"}
		case redirects == maxRedirects:
			return nil, nil, &OutputRefused{Host: addressOf(next), Reason: fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		u = next
	}
}

// first requests the whole file, as a range if ranged is true, and stores what the
// response says about the source. It retries a request if another one may succeed.
func (s *source) first(ctx context.Context, ranged bool) (*response, error) {
	for try := 1; ; try++ {
		var size int64
		if ranged {
			size = toEnd
		}
		r, at, err := s.request(ctx, s.given, 0, size)
		if err == nil {
			s.at = at
			if err = s.describe(r, ranged); err == nil {
				return r, nil
			}
			r.close()
		}
		if errors.Is(err, errRange) {
			ranged = false
			continue
		}
		if err := s.waitToRetry(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// describe stores what the first response says about the source. It returns
// errRange if the file should be requested without a range.
func (s *source) describe(r *response, ranged bool) error {
	from, size, total := contentRange(r)
	s.total, s.unproven = total, false
	s.etag, s.modified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	// Responses can be combined only if something shows that they are of one file.
	// A weak ETag does not: it allows for different bytes.
	s.ranges = isStrong(s.etag) || s.modified != ""
	switch {
	case r.StatusCode == http.StatusOK && r.ContentLength == 0, r.Header.Get("Content-Range") == "bytes */0":
		return &NoOutput{Host: addressOf(s.given)}
	case r.StatusCode == http.StatusOK && r.ContentLength < 0 && len(r.TransferEncoding) == 0:
		// A broken connection would look like the end of such a body.
		return s.unavailable(errors.New("the response announces neither its length nor its end"))
	case r.StatusCode == http.StatusOK:
		// Some servers do not treat "bytes=0-" as a range.
		s.unproven = ranged && s.ranges && total > 0 && r.Header.Get("Accept-Ranges") == "bytes"
		s.ranges = s.unproven
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && ranged,
		r.StatusCode == http.StatusPartialContent && (from != 0 || size < min(total, s.pace.pieceSize) || !s.ranges && size < total):
		return errRange
	case r.StatusCode != http.StatusPartialContent:
		return s.status(r, false)
	}
	return nil
}

// open requests a range and compares the response with the first one. The first
// try uses the address at which redirects ended. Later tries use the given
// address, because the target of a redirect may expire.
func (s *source) open(ctx context.Context, try int, from, size int64) (*response, error) {
	u := s.at
	if try > 1 {
		u = s.given
	}
	r, _, err := s.request(ctx, u, from, size)
	if err != nil {
		return nil, err
	}
	if err := s.compare(r, u, from, size); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (s *source) compare(r *response, u *url.URL, from, size int64) error {
	gotFrom, gotSize, total := contentRange(r)
	// A value that only one of the two responses has cannot be compared.
	differs := func(before, now string) bool { return before != "" && now != "" && before != now }
	switch {
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return s.changed("a range that it had is no longer there")
	case r.StatusCode != http.StatusOK && r.StatusCode != http.StatusPartialContent:
		return s.status(r, u != s.given)
	case total >= 0 && total != s.total:
		return s.changed("its length")
	case differs(s.etag, r.Header.Get("ETag")):
		return s.changed("its ETag")
	case differs(s.modified, r.Header.Get("Last-Modified")):
		return s.changed("its time of change")
	case gotFrom != from || gotSize != size:
		return errRange
	}
	return nil
}

// waitToRetry waits before the next try of a request. It returns an error if
// there should be no other try.
func (s *source) waitToRetry(ctx context.Context, try int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if refused, ok := errors.AsType[*OutputRefused](err); ok {
		return refused // without what the transport wraps around it
	}
	failure := s.unavailable(err)
	failure.retry = true
	//nolint:errorlint // an error is wrapped only by the transport, and that one is retried
	switch e := err.(type) {
	case *NoOutput, *restartError:
		return err
	case *OutputUnavailable:
		failure = e
	}
	if !failure.retry || try >= s.pace.tries {
		return failure
	}
	return sleep(ctx, max(s.pace.backOffAfter(try), failure.after))
}

func (s *source) unavailable(err error) *OutputUnavailable {
	return &OutputUnavailable{Host: addressOf(s.given), Err: err}
}

func (s *source) changed(what string) error {
	return &restartError{err: &OutputChanged{Host: addressOf(s.given), What: what}}
}

// status returns the error for an HTTP status. If retry is true, another request may
// succeed whatever the status is.
func (s *source) status(r *response, retry bool) error {
	code := r.StatusCode
	retry = retry || code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
	after, _ := time.ParseDuration(r.Header.Get("Retry-After") + "s") // 0 if it is a date
	after = min(max(after, 0), maxRetryAfter)
	return &OutputUnavailable{Host: addressOf(s.given), Status: code, retry: retry, after: after}
}

// isStrong reports whether two responses with this ETag have the same bytes
// (RFC 9110, 8.8.3).
func isStrong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}

// contentRange returns which bytes a response holds, and the length of the file.
// Each is -1 if the response does not say so, or contradicts itself.
func contentRange(r *response) (from, size, total int64) {
	if r.StatusCode == http.StatusOK {
		return 0, r.ContentLength, r.ContentLength
	}
	var last int64
	_, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &last, &total)
	size = last - from + 1
	if err != nil || from < 0 || size < 1 || last >= total || (r.ContentLength >= 0 && r.ContentLength != size) {
		return -1, -1, -1
	}
	return from, size, total
}

// A body is the unread part of a response.
type body struct {
	from   io.ReadCloser
	ctx    context.Context // ends when the request is given up
	giveUp context.CancelCauseFunc
	stall  time.Duration
}

// close releases the connection, which is reused if the body was read to its
// end.
func (b *body) close() {
	_ = b.from.Close() // the body was read, or is no longer needed
	b.giveUp(nil)
}

// read fills dst. It returns how many bytes arrived, and whether the body ended.
// It gives up a body that stalls.
func (b *body) read(dst []byte) (n int, ended bool, err error) {
	watch := time.AfterFunc(b.stall, func() { b.giveUp(errStalled) })
	defer watch.Stop()
	recent := 0
	for n < len(dst) {
		m, err := b.from.Read(dst[n:])
		n += m
		if errors.Is(err, io.EOF) {
			// A server may end the body properly because the request was given up.
			return n, true, context.Cause(b.ctx)
		}
		if err != nil {
			return n, true, cause(b.ctx, err)
		}
		if recent += m; recent >= stallBytes {
			recent = 0
			watch.Reset(b.stall)
		}
	}
	return n, false, nil
}

// peek returns up to n bytes, which read returns again.
func (b *body) peek(n int64) ([]byte, error) {
	head := make([]byte, n)
	m, _, err := b.read(head)
	b.from = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head[:m]), b.from), b.from}
	return head[:m], err
}

// end checks that the body ends here.
func (b *body) end() error {
	n, _, err := b.read(make([]byte, 1))
	if err == nil && n > 0 {
		return errors.New("the body is longer than announced")
	}
	return err
}

// cause returns why ctx was cancelled, or err if it was not cancelled. The error
// that a reader returns after a cancellation does not say why.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}
