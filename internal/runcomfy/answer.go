package runcomfy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds what is read of one answer. A result is a few kilobytes.
const maxBody = 1 << 20

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

// answer is a JSON object under 2xx that is no error. Its methods take what
// has the expected form and pass over what has not: only callers know which
// member they cannot do without.
type answer struct {
	call       call
	httpStatus int
	token      string
	members    map[string]json.RawMessage
}

// readAnswer reads the one answer of a call. The token is that of the request,
// to be kept out of errors.
func readAnswer(call call, res *http.Response, token string) (*answer, error) {
	failed := &Error{
		Method: call.method, Path: call.path,
		HTTPStatus: res.StatusCode,
		RetryAfter: retryAfter(res.Header),
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		failed.Message = message("the answer broke off: "+err.Error(), token)
		return nil, failed
	case len(body) > maxBody:
		failed.Message = "the answer is longer than 1 MiB"
		return nil, failed
	}

	a := &answer{call: call, httpStatus: res.StatusCode, token: token}
	if err := json.Unmarshal(body, &a.members); err != nil || a.members == nil {
		failed.Message = message(describe(res, body), token)
		return nil, failed
	}
	code, isError := errorCode(a.members["error_code"])
	if res.StatusCode/100 == 2 && !isError {
		return a, nil
	}
	failed.Code = code
	failed.Message = message(errorText(a.members), token)
	return nil, failed
}

// unexpected returns the error for an answer that lacks what it must have.
func (a *answer) unexpected(what string) *Error {
	if text := errorText(a.members); text != "" {
		what += ": " + text
	}
	return &Error{
		Method: a.call.method, Path: a.call.path,
		HTTPStatus: a.httpStatus,
		Message:    message(what, a.token),
	}
}

func (a *answer) text(name string) string {
	var s string
	if json.Unmarshal(a.members[name], &s) != nil {
		return ""
	}
	return s
}

// maxWord is how many runes of a state are kept. The known ones are shorter.
const maxWord = 40

// word returns a state in the one spelling that this package uses. An unknown
// one goes into logs and errors, so it holds no secret and is short.
func (a *answer) word(name string) string {
	word := []rune(normalWord(message(a.text(name), a.token)))
	return string(word[:min(len(word), maxWord)])
}

// quotesToken reports whether a text holds the token, in any case: a host is in
// lower case.
func (a *answer) quotesToken(text string) bool {
	return len(a.token) >= minToken && strings.Contains(strings.ToLower(text), strings.ToLower(a.token))
}

// raw returns a member as it was given, nil when it is absent or null.
func (a *answer) raw(name string) json.RawMessage {
	raw := a.members[name]
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return bytes.Clone(raw)
}

func (a *answer) number(name string) *float64 {
	raw := a.raw(name)
	var n float64
	if raw == nil || json.Unmarshal(raw, &n) != nil {
		return nil
	}
	return &n
}

// position returns a whole number from 0 on.
func (a *answer) position(name string) *int {
	n := a.number(name)
	if n == nil || *n < 0 || *n > math.MaxInt32 || *n != math.Trunc(*n) {
		return nil
	}
	position := int(*n)
	return &position
}

// time returns a time of RFC 3339; without a zone it is taken as UTC.
func (a *answer) time(name string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, a.text(name)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// outputs returns the URLs of a result's output, in the order that
// Result.Outputs documents. Results can echo the inputs, so nothing else of
// the output is looked at.
func outputs(raw json.RawMessage) []string {
	var members map[string]json.RawMessage
	places := []json.RawMessage{raw}
	if json.Unmarshal(raw, &members) == nil {
		places = []json.RawMessage{members["video"], members["videos"], members["image"], members["images"]}
	}
	var found []string
	seen := map[string]bool{}
	for _, place := range places {
		for _, u := range urls(place) {
			if !seen[u] {
				seen[u] = true
				found = append(found, u)
			}
		}
	}
	return found
}

// urls returns the absolute URLs of a string or of a list of strings.
func urls(raw json.RawMessage) []string {
	var values []any
	if json.Unmarshal(raw, &values) != nil {
		var single any
		if json.Unmarshal(raw, &single) != nil {
			return nil
		}
		values = []any{single}
	}
	var found []string
	for _, value := range values {
		s, ok := value.(string)
		if ok && absoluteURL.MatchString(s) {
			found = append(found, s)
		}
	}
	return found
}

// errorCode returns the error code of a body, a number or a string of digits,
// and whether the member says that the body is an error at all.
func errorCode(raw json.RawMessage) (code int, isError bool) {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return 0, false
	}
	switch v := value.(type) {
	case nil:
		return 0, false
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
			return 0, true
		}
		return int(v), v != 0
	case string:
		code, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return 0, v != ""
		}
		return int(code), code != 0
	}
	return 0, true
}

// retryAfter reads Retry-After. A date counts from the answer's own Date where
// it has one, so that no clock but the server's decides.
func retryAfter(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(max(time.Duration(seconds)*time.Second, time.Second), maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), time.Second), maxRetryAfter)
}

// maxPage is how many bytes of a web page are searched for its title.
const maxPage = 16 << 10

// describe says in a few words what a body is that is no JSON object.
func describe(res *http.Response, body []byte) string {
	if res.StatusCode/100 == 3 {
		return "a redirect, which is not followed"
	}
	text := strings.TrimSpace(string(body[:min(len(body), maxPage)]))
	switch {
	case text == "":
		return "an empty answer"
	case strings.HasPrefix(text, "<") || strings.Contains(res.Header.Get("Content-Type"), "html"):
		if title := htmlTitle(text); title != "" {
			return "a web page instead of JSON: " + title
		}
		return "a web page instead of JSON"
	}
	return fmt.Sprintf("not a JSON object: %s", text)
}
