package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	maxRedirects  = 5                // of one request
	maxRetryAfter = 10 * time.Second // a longer Retry-After is cut to this

	// stallBytes must arrive within pace.stall: 20 KiB in five seconds. A slower
	// source sends less than 4 MB within the 15 minutes of a function.
	stallBytes = 20 << 10

	maxReason = 300 // how many bytes of an error of net/http are reported
)

var (
	errNoResponse = errors.New("no response in time")
	errStalled    = errors.New("the connection stalled")
	errSlow       = errors.New("one range was far slower than the others")
	errRange      = errors.New("the response does not hold the requested range")
)

// compressed matches a Content-Encoding that compresses the file. Any other encoding is
// ignored, because some storage servers return aws-chunked with the bytes of the file itself.
var compressed = regexp.MustCompile(`(?i)\b(gzip|compress|deflate|br|zstd)\b`)

// A temporaryError wraps an error after which another try may succeed.
type temporaryError struct {
	error
	after time.Duration // the shortest wait before the next try
}

func (e *temporaryError) Unwrap() error { return e.error }

// A source is the file at an address, as the first response described the file.
type source struct {
	given     *url.URL
	origins   origins.List
	transport http.RoundTripper
	pace      pace

	at       *url.URL // where the redirects of the first request ended
	total    int64    // bytes; -1 if unknown
	ranges   bool     // ranges can be fetched and combined safely
	etag     string
	modified string // Last-Modified
}

// request accepts these sizes besides a number of bytes.
const (
	whole = 0  // the whole file, without a range
	toEnd = -1 // a range that extends to the end of the file
)

// request requests size bytes from an offset, and checks the response. The first request
// of an attempt has the size whole or toEnd, and the response to it describes the source.
func (s *source) request(ctx context.Context, u *url.URL, from, size int64) (*response, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	limit := time.AfterFunc(s.pace.response, func() { giveUp(errNoResponse) })
	defer limit.Stop()
	header := http.Header{"User-Agent": {"lipdrop"}, "Accept-Encoding": {"identity"}}
	switch {
	case size == toEnd:
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	case size != whole:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
		if isStrong(s.etag) {
			header.Set("If-Range", s.etag)
		}
	}
	resp, err := s.follow(ctx, u, header)
	if err != nil {
		err = s.requestError(cmp.Or(context.Cause(ctx), err))
		giveUp(nil)
		return nil, err
	}
	r := &response{resp, ctx, giveUp, s.pace.stall}
	switch {
	case ctx.Err() != nil: // the response arrived after the request was given up
		err = s.requestError(context.Cause(ctx))
	case r.StatusCode < 300 && compressed.MatchString(strings.Join(r.Header.Values("Content-Encoding"), ",")):
		err = s.unavailable(errors.New("the response is compressed (Content-Encoding)"))
	case size == whole, size == toEnd:
		err = s.acceptFirst(r, size == toEnd)
	default:
		err = s.compare(r, from, size)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// follow sends a GET request and follows its redirects. Each address is checked
// against the origins. follow sends no cookie, no credentials and no Referer.
func (s *source) follow(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	for redirects := 0; ; redirects++ {
		if err := s.origins.Check(u); err != nil {
			return nil, err
		}
		req := (&http.Request{Method: http.MethodGet, URL: u, Header: header}).WithContext(ctx)
		resp, err := s.transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 3 || resp.Header.Get("Location") == "" {
			return resp, nil
		}
		_ = resp.Body.Close() // it is not read
		location, err := origins.ParseURL(resp.Header.Get("Location"))
		if err != nil {
			return nil, origins.Refuse(origins.Address(u), "the redirect has no valid address")
		}
		next := u.ResolveReference(location)
		switch {
		case u.Scheme == "https" && next.Scheme != "https":
			return nil, origins.Refuse(origins.Address(u), "a redirect from https to another scheme is not allowed")
		case redirects == maxRedirects:
			return nil, origins.Refuse(origins.Address(u), fmt.Sprintf("more than %d redirects", maxRedirects))
		}
		u = next
	}
}

// acceptFirst stores what the first response says about the source. It returns an error if
// the source cannot be read from this response.
func (s *source) acceptFirst(r *response, ranged bool) error {
	from, size, total := contentRange(r)
	s.at, s.total = r.Request.URL, total
	s.etag, s.modified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	// Responses can be combined only if something shows that they are of one file.
	// A weak ETag does not show that, because it allows different bytes.
	s.ranges = ranged && (isStrong(s.etag) || s.modified != "")
	switch {
	case r.StatusCode == http.StatusOK && r.ContentLength == 0, r.Header.Get("Content-Range") == "bytes */0":
		return s.emptyError()
	case r.StatusCode == http.StatusOK && r.ContentLength < 0 && len(r.TransferEncoding) == 0:
		// In HTTP/1.1, a broken connection looks like the end of such a body.
		return s.unavailable(errors.New("the response announces neither its length nor its end"))
	case r.StatusCode == http.StatusOK:
		// Some servers answer "bytes=0-" with the whole file, but accept other ranges.
		s.ranges = s.ranges && total > 0 && r.Header.Get("Accept-Ranges") == "bytes"
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && ranged,
		// Without s.ranges, this range must be the whole file.
		r.StatusCode == http.StatusPartialContent && (from != 0 || size < min(total, s.pace.pieceSize) || !s.ranges && size < total):
		return s.unavailable(errRange)
	case r.StatusCode != http.StatusPartialContent:
		return s.statusError(r, false)
	}
	return nil
}

// compare checks that a response holds the requested range of the file that the
// first response described.
func (s *source) compare(r *response, from, size int64) error {
	gotFrom, gotSize, total := contentRange(r)
	// A value that only one of the two responses has cannot be compared.
	differs := func(before, now string) bool { return before != "" && now != "" && before != now }
	var changed string
	switch {
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		changed = "a range that it had is no longer there"
	case r.StatusCode != http.StatusOK && r.StatusCode != http.StatusPartialContent:
		// The target of a redirect may have expired while the given address still works.
		return s.statusError(r, r.Request.URL != s.given)
	case total >= 0 && total != s.total:
		changed = "its length"
	case differs(s.etag, r.Header.Get("ETag")):
		changed = "its ETag"
	case differs(s.modified, r.Header.Get("Last-Modified")):
		changed = "its time of change"
	case gotFrom != from || gotSize != size:
		return s.unavailable(errRange)
	default:
		return nil
	}
	return &workflow.OutputChanged{Failure: workflow.Failuref("%s: the output changed while it was copied: %s", s.host(), changed)}
}

// requestError returns the error for a request that failed. The request may be retried, unless the
// address was refused.
func (s *source) requestError(err error) error {
	if refused, ok := errors.AsType[*workflow.OutputRefused](err); ok {
		return refused // without what the transport wraps around it
	}
	// net/http quotes what the server sent, which may repeat the query of the address.
	text, _, _ := strings.Cut(err.Error(), `"`)
	text = strings.TrimRight(strings.ToValidUTF8(text[:min(len(text), maxReason)], ""), " :[")
	return &temporaryError{error: s.unavailable(errors.New(text))}
}

// unavailable returns err as a *workflow.OutputUnavailable. To ask for another try, the caller wraps
// it in a temporaryError.
func (s *source) unavailable(err error) error {
	return &workflow.OutputUnavailable{Failure: workflow.Failuref("%s: %w", s.host(), err)}
}

// statusError returns the error for an HTTP status. If retry is true, another request may
// succeed whatever the status is.
func (s *source) statusError(r *response, retry bool) error {
	code := r.StatusCode
	err := s.unavailable(fmt.Errorf("HTTP status %d %s", code, http.StatusText(code)))
	if !retry && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout {
		return err
	}
	after, _ := time.ParseDuration(r.Header.Get("Retry-After") + "s") // 0 if it is missing or a date
	return &temporaryError{err, min(max(after, 0), maxRetryAfter)}
}

func (s *source) emptyError() error {
	return &workflow.NoOutput{Failure: workflow.Failuref("%s: the output is empty", s.host())}
}

func (s *source) host() string { return origins.Address(s.given) }

// isStrong reports whether two responses with this ETag have the same bytes (RFC 9110, 8.8.3).
func isStrong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}

// contentRange returns which bytes a response holds, and the length of the file. A response with
// HTTP status 200 holds the whole file; its length is -1 if it is not known. If the Content-Range
// of another response is missing, incomplete or contradictory, all three numbers are -1.
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

// A response is an HTTP response that can be given up.
type response struct {
	*http.Response
	ctx    context.Context // ends when the response is given up
	giveUp context.CancelCauseFunc
	stall  time.Duration
}

// close releases the connection, which is reused if the body was read to its end.
func (r *response) close() {
	_ = r.Body.Close() // the body was read, or is no longer needed
	r.giveUp(nil)
}

// read reads until dst is full or the body ends. Its error is io.EOF if it has read to the end
// of the body. It gives up a response that stalls.
func (r *response) read(dst []byte) (n int, err error) {
	watch := time.AfterFunc(r.stall, func() { r.giveUp(errStalled) })
	defer watch.Stop()
	for recent := 0; n < len(dst) && err == nil; {
		var m int
		m, err = r.Body.Read(dst[n:])
		n, recent = n+m, recent+m
		if recent >= stallBytes {
			recent = 0
			watch.Reset(r.stall)
		}
	}
	if err != nil {
		// The body may also end with io.EOF because the request was given up.
		err = cmp.Or(context.Cause(r.ctx), err)
	}
	return n, err
}
