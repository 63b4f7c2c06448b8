package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxRedirects is how many redirects one request follows (design: at most five).
const maxRedirects = 5

// A source is the file to be copied, and what its first answer said of it.
type source struct {
	given     *url.URL
	origins   Origins
	transport http.RoundTripper
	pace      pace

	at       *url.URL // where the redirects of the first request led
	total    int64    // bytes; -1 where the source does not say
	ranges   bool     // the source gives ranges of what it cannot change unnoticed
	unproven bool     // it says that it does; its first answer was the whole
	etag     string
	modified string // Last-Modified
}

// parseSource reads the address of a source. What a path may not hold as it is
// (a space, another script) is escaped; every escape that is there already
// stays as it was given.
func parseSource(raw string) (*url.URL, error) {
	var b strings.Builder
	for i := range len(raw) {
		if c := raw[i]; c == ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	u, err := url.Parse(b.String())
	if err != nil {
		// The error holds the address with its query.
		return nil, &OutputRefused{Reason: "not an https address"}
	}
	return u, nil
}

// An answer is a response whose header has come and whose body is still to be
// read.
type answer struct {
	*http.Response
	body
}

// toEnd is the size of a range that ends with the file.
const toEnd = -1

// ask requests size bytes from an offset, or all of it without a range where
// size is 0, and returns whatever is answered.
func (s *source) ask(ctx context.Context, u *url.URL, from, size int64) (*answer, *url.URL, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	limit := time.AfterFunc(s.pace.answer, func() { giveUp(errNoAnswer) })
	defer limit.Stop()
	header := http.Header{"User-Agent": {"lipdrop"}, "Accept-Encoding": {"identity"}}
	switch {
	case size == toEnd:
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	case size > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
		if strongETag(s.etag) {
			header.Set("If-Range", s.etag)
		}
	}
	resp, at, err := s.follow(ctx, u, header)
	if err == nil && ctx.Err() != nil {
		_ = resp.Body.Close() // an answer to being given up is none
		err = ctx.Err()
	}
	if err != nil {
		err = cause(ctx, err)
		giveUp(nil)
		return nil, nil, err
	}
	return &answer{resp, body{resp.Body, ctx, giveUp, s.pace.stall}}, at, nil
}

// follow makes a request and follows its redirects, each of which passes the
// gate as the first address did. No cookie, no credentials and no Referer go
// with any of them.
func (s *source) follow(ctx context.Context, u *url.URL, header http.Header) (*http.Response, *url.URL, error) {
	for hop := 0; ; hop++ {
		if err := s.origins.check(u); err != nil {
			return nil, nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "", nil)
		if err != nil {
			return nil, nil, err
		}
		req.URL, req.Host, req.Header = u, u.Host, header
		resp, err := s.transport.RoundTrip(req)
		if err != nil {
			return nil, nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, u, nil
		}
		_ = resp.Body.Close() // a redirect's body says nothing
		next, err := u.Parse(resp.Header.Get("Location"))
		switch {
		case err != nil:
			return nil, nil, &OutputRefused{Host: addressOf(u), Reason: "redirects to what is no address"}
		case u.Scheme == "https" && next.Scheme != "https":
			return nil, nil, &OutputRefused{Host: addressOf(next), Reason: "a redirect to plain http is not allowed"}
		case hop == maxRedirects:
			return nil, nil, &OutputRefused{Host: addressOf(next), Reason: fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		u = next
	}
}

// first asks for the whole, as a range where ranged is true, and learns from the
// answer what the source is. It tries again what may pass. Where the source does
// not give ranges, or nothing to tell a changed file by, the answer is all that
// there will be.
func (s *source) first(ctx context.Context, ranged bool) (*answer, error) {
	s.etag, s.modified, s.total, s.ranges, s.unproven = "", "", -1, false, false
	for try := 1; ; try++ {
		var size int64
		if ranged {
			size = toEnd
		}
		a, at, err := s.ask(ctx, s.given, 0, size)
		if err == nil {
			s.at = at
			err = s.learn(a, ranged)
			if err == nil {
				return a, nil
			}
			a.close()
		}
		if errors.Is(err, errRange) && ranged {
			ranged = false
			continue
		}
		if err := s.again(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// learn takes what the first answer says of the source. errRange says that the
// source is to be asked for the whole.
func (s *source) learn(a *answer, ranged bool) error {
	switch {
	case s.transformed(a):
		return s.unavailable(errTransformed)
	case a.StatusCode == http.StatusRequestedRangeNotSatisfiable && ranged:
		if a.Header.Get("Content-Range") == "bytes */0" {
			return &NoOutput{Host: addressOf(s.given)}
		}
		return errRange
	case a.StatusCode == http.StatusPartialContent && ranged:
		from, size, total := contentRange(a.Header.Get("Content-Range"))
		if from != 0 || size < min(total, s.pace.pieceSize) || (a.ContentLength >= 0 && a.ContentLength != size) {
			return errRange
		}
		s.ranges = s.identify(a)
		if !s.ranges && size < total {
			return errRange
		}
		s.total = total
		return nil
	case a.StatusCode != http.StatusOK:
		return s.status(a)
	case a.ContentLength == 0:
		return &NoOutput{Host: addressOf(s.given)}
	case a.ContentLength < 0 && len(a.TransferEncoding) == 0:
		// Such a body ends where the connection does, for whatever reason.
		return s.unavailable(errors.New("the answer tells neither its length nor its end"))
	}
	identified := s.identify(a)
	s.total = a.ContentLength
	// Some servers do not count all of a file as a range.
	s.unproven = ranged && identified && s.total > 0 && a.Header.Get("Accept-Ranges") == "bytes"
	s.ranges = s.unproven
	return nil
}

// identify takes what an answer is told by from another, and reports whether
// several answers can be put together. One cannot change halfway; several need
// something to hold them together: a strong ETag, or else the time of the last
// change. A weak ETag alone allows for other bytes.
func (s *source) identify(a *answer) bool {
	s.etag, s.modified = a.Header.Get("ETag"), a.Header.Get("Last-Modified")
	return strongETag(s.etag) || s.modified != ""
}

// open asks for a piece and holds the answer against the first one. The first
// try goes where the first request was redirected to, later ones begin at the
// given address again, since what a redirect leads to may expire.
func (s *source) open(ctx context.Context, try int, from, size int64) (*answer, error) {
	u := s.at
	if try > 1 {
		u = s.given
	}
	a, _, err := s.ask(ctx, u, from, size)
	if err != nil {
		return nil, err
	}
	if err := s.matches(a, from, size); err != nil {
		a.close()
		var gone *OutputUnavailable
		if u != s.given && errors.As(err, &gone) {
			return s.open(ctx, try+1, from, size)
		}
		return nil, err
	}
	return a, nil
}

func (s *source) matches(a *answer, from, size int64) error {
	if s.transformed(a) {
		return s.unavailable(errTransformed)
	}
	switch a.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return s.changed("a range that it had is not there any more")
	case http.StatusOK:
		if a.ContentLength >= 0 && a.ContentLength != s.total {
			return s.changed("its length")
		}
	case http.StatusPartialContent:
		gotFrom, gotSize, total := contentRange(a.Header.Get("Content-Range"))
		if total >= 0 && total != s.total {
			return s.changed("its length")
		}
		if gotFrom != from || gotSize != size || (a.ContentLength >= 0 && a.ContentLength != size) {
			return errRange
		}
	default:
		return s.status(a)
	}
	// Where only one of two answers has a header, it says nothing.
	differs := func(header, before string) bool {
		now := a.Header.Get(header)
		return now != "" && before != "" && now != before
	}
	if differs("ETag", s.etag) {
		return s.changed("its ETag")
	}
	if differs("Last-Modified", s.modified) {
		return s.changed("its time of change")
	}
	if a.StatusCode == http.StatusOK {
		return errRangeIgnored
	}
	return nil
}

func (s *source) changed(what string) error {
	return &restartError{err: &OutputChanged{Host: addressOf(s.given), What: what}}
}

// broken is the error of a body that cannot be had again in part: the copy
// begins anew.
func (s *source) broken(err error) error {
	return &restartError{err: s.unavailable(err)}
}

func (s *source) unavailable(err error) error {
	return &OutputUnavailable{Host: addressOf(s.given), Err: err}
}

// transformed reports whether a body is not the file as it lies there.
func (s *source) transformed(a *answer) bool {
	encoding := a.Header.Get("Content-Encoding")
	return a.StatusCode < 300 && encoding != "" && !strings.EqualFold(encoding, "identity")
}

// again waits before the next try of a request, or returns the error that ends
// them: err itself where it is final, else an *OutputUnavailable after the last
// try.
func (s *source) again(ctx context.Context, try int, err error) error {
	if ctx.Err() != nil {
		return cause(ctx, err)
	}
	var (
		refused     *OutputRefused
		empty       *NoOutput
		restart     *restartError
		unavailable *OutputUnavailable
		passing     *passingError
	)
	if errors.As(err, &refused) {
		return refused // what the dialler wraps around it says less
	}
	if errors.As(err, &empty) || errors.As(err, &restart) || errors.As(err, &unavailable) {
		return err
	}
	if try >= s.pace.tries {
		if errors.As(err, &passing) {
			return &OutputUnavailable{Host: addressOf(s.given), Status: passing.status}
		}
		return s.unavailable(err)
	}
	wait := s.pace.backOffAfter(try)
	if errors.As(err, &passing) {
		wait = max(wait, passing.retryAfter)
	}
	return sleep(ctx, wait)
}

// A passingError is an answer that another try may not get again.
type passingError struct {
	status     int
	retryAfter time.Duration
}

func (e *passingError) Error() string { return fmt.Sprintf("answered %d", e.status) }

// maxRetryAfter bounds how long a source may make one try wait.
const maxRetryAfter = 10 * time.Second

func (s *source) status(a *answer) error {
	switch code := a.StatusCode; {
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if err != nil || seconds < 0 {
			seconds = 0
		}
		return &passingError{status: code, retryAfter: min(time.Duration(seconds)*time.Second, maxRetryAfter)}
	default:
		return &OutputUnavailable{Host: addressOf(s.given), Status: code}
	}
}

// strongETag reports whether etag is one that two answers share only when they
// are the same byte for byte (RFC 9110, 8.8.3).
func strongETag(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}

// contentRange reads "bytes 0-99/1000". What it cannot read, a total of `*`
// among it, is -1.
func contentRange(header string) (from, size, total int64) {
	var to int64
	rest, ok := strings.CutPrefix(header, "bytes ")
	span, of, slash := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !slash || !dash {
		return -1, -1, -1
	}
	for _, f := range []struct {
		text string
		to   *int64
	}{{first, &from}, {last, &to}, {of, &total}} {
		n, err := strconv.ParseInt(f.text, 10, 64)
		if err != nil || n < 0 {
			return -1, -1, -1
		}
		*f.to = n
	}
	return from, to - from + 1, total
}
