package runcomfy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxBody is the largest response that is read. A result is a few kilobytes.
const maxBody = 1 << 20

// maxRetryAfter limits Retry-After. The submit function postpones its message by Retry-After, and
// SQS allows 12 hours.
const maxRetryAfter = 6 * time.Hour

// response is an HTTP 2xx response that is a JSON object. The methods that return a member return the zero value
// if the member is absent or has another form: only the caller knows which members are required.
type response struct {
	about   Error // the method, the path and the HTTP status
	token   string
	members map[string]json.RawMessage
}

// readResponse reads the response to a call. Its errors do not contain the token. If an HTTP 2xx
// response has an error code, readResponse returns both the response and the error.
func readResponse(call call, res *http.Response, token string) (*response, error) {
	r := &response{about: Error{Method: call.method, Path: call.path, HTTPStatus: res.StatusCode}, token: token}
	failed := r.about
	failed.RetryAfter = retryAfter(res.Header)
	if res.StatusCode == http.StatusSwitchingProtocols {
		failed.Message = "a switch to another protocol" // the client's timeout does not end such a body
		return nil, &failed
	}
	body, readErr := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if len(body) > maxBody {
		failed.Message = "the response is longer than 1 MiB"
		return nil, &failed
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some servers write this byte order mark
	// If the connection broke after a whole object, nothing is missing.
	if err := unmarshal(body, &r.members); err != nil || r.members == nil {
		what := describe(res, body)
		if readErr != nil {
			what = "the response ended early: " + readErr.Error()
		}
		failed.Message = safeText(what, token)
		return nil, &failed
	}
	code, isError := errorCode(r.members["error_code"])
	failed.Code = code
	failed.Message = safeText(errorText(r.members), token)
	switch {
	case res.StatusCode/100 != 2:
		return nil, &failed
	case isError:
		return r, &failed
	}
	return r, nil
}

// notFinite matches NaN and Infinity. It also matches whole strings, so that it finds nothing inside them.
var notFinite = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|NaN|-?Infinity`)

// unmarshal is json.Unmarshal, but reads NaN and Infinity as null. Python writes both by default,
// and a cost that is not a number must not hide the output beside it.
func unmarshal(body []byte, members *map[string]json.RawMessage) error {
	err := json.Unmarshal(body, members)
	if err != nil {
		err = json.Unmarshal(notFinite.ReplaceAllFunc(body, func(found []byte) []byte {
			if found[0] == '"' {
				return found
			}
			return []byte("null")
		}), members)
	}
	return err
}

// unexpected returns the error for a response that lacks a required member.
func (r *response) unexpected(what string) *Error {
	if text := errorText(r.members); text != "" {
		what += ": " + text
	}
	failed := r.about
	failed.Message = safeText(what, r.token)
	return &failed
}

func (r *response) text(name string) string {
	var s string
	if json.Unmarshal(r.members[name], &s) != nil {
		return ""
	}
	return s
}

// maxWord is how many runes of a word are kept. The known words are shorter.
const maxWord = 40

// word returns a state, an outcome or a unit in the spelling that this package uses. Logs and
// errors show unknown words, so the result is short and contains no secret.
func (r *response) word(name string) string {
	word := []rune(normalWord(safeText(r.text(name), r.token)))
	return string(word[:min(len(word), maxWord)])
}

// quotesToken reports whether a text contains the token. It ignores case, because
// the token may be part of a host, which a URL has in lower case.
func (r *response) quotesToken(text string) bool {
	return len(r.token) >= minToken && strings.Contains(strings.ToLower(text), strings.ToLower(r.token))
}

// raw returns a member as it was given, or nil if it is absent or null.
func (r *response) raw(name string) json.RawMessage {
	if raw := r.members[name]; string(raw) != "null" {
		return raw
	}
	return nil
}

// number returns a member that is a number, or a string that holds one: many servers write amounts of
// money as strings. It returns nil for any other value.
func (r *response) number(name string) *float64 {
	var number json.Number
	_ = json.Unmarshal(r.members[name], &number) // after an error or null, number is empty
	n, err := number.Float64()
	if err != nil {
		return nil
	}
	return &n
}

// position returns a member that is a whole number of at least 0, or nil.
func (r *response) position(name string) *int {
	n := r.number(name)
	if n == nil || *n < 0 || *n > math.MaxInt32 || *n != math.Trunc(*n) {
		return nil
	}
	position := int(*n)
	return &position
}

// time returns a member that is a time in the form of RFC 3339. If the time has no zone, it is in
// UTC, and may have a space instead of the T.
func (r *response) time(name string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, r.text(name)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

var absoluteURL = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+`)

// outputs returns the URLs for Result.Outputs, and how many nonempty values are not absolute URLs.
// In an object, it reads only four members, because the others may hold URLs of inputs.
func outputs(raw json.RawMessage) (found []string, others int) {
	var output any
	_ = json.Unmarshal(raw, &output) // what cannot be read is not a URL
	places := []any{output}
	if members, ok := output.(map[string]any); ok {
		places = []any{members["video"], members["videos"], members["image"], members["images"]}
	}
	seen := map[string]bool{}
	for _, place := range places {
		values, isList := place.([]any)
		if !isList {
			values = []any{place}
		}
		for _, value := range values {
			u, _ := value.(string)
			u = strings.TrimSpace(u)
			switch {
			case !absoluteURL.MatchString(u):
				if value != nil && value != "" {
					others++
				}
			case !seen[u]:
				seen[u] = true
				found = append(found, u)
			}
		}
	}
	return found, others
}

// errorCode returns the error_code of a body, and whether this member says that the body is an
// error. The code is a whole number or a string of digits; 0 is not an error. Any other value
// except null and "" is an error with the code 0.
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

// retryAfter returns how long Retry-After asks to wait, from a second to maxRetryAfter, or 0 without
// a valid Retry-After. A date is compared with the Date of the response, if the response has one, so
// that the local clock does not matter.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) { // on ErrRange, seconds is the largest number
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

// maxPage is how many bytes of a body describe reads to find the title of a web page.
const maxPage = 16 << 10

var pageTitle = regexp.MustCompile(`(?is)<title[^>]*>\s*([^\s<].*?)</title>`)

// describe says what a body is instead of a JSON object. The text may be long: see safeText.
func describe(res *http.Response, body []byte) string {
	if res.StatusCode/100 == 3 {
		return "a redirect, which is not followed"
	}
	text := strings.TrimSpace(string(body[:min(len(body), maxPage)]))
	switch {
	case text == "":
		return "an empty response"
	case strings.HasPrefix(text, "<") || strings.Contains(res.Header.Get("Content-Type"), "html"):
		if title := pageTitle.FindStringSubmatch(text); title != nil {
			return "a web page instead of JSON: " + html.UnescapeString(title[1])
		}
		return "a web page instead of JSON"
	}
	return fmt.Sprintf("not a JSON object: %s", text)
}
