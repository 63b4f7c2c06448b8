package runcomfy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// statusError returns the *Error that Client.Status returns for a response.
func statusError(t *testing.T, status int, contentType, body string) *runcomfy.Error {
	t.Helper()
	client, _ := responding(t, status, contentType, body)
	_, err := client.Status(t.Context(), "id")
	e, ok := errors.AsType[*runcomfy.Error](err)
	if !ok {
		t.Fatalf("error %v, want an *Error", err)
	}
	return e
}

func TestKind(t *testing.T) {
	const (
		onModel   = "/v1/models/a/b"
		onRequest = "/v1/requests/r/status"
	)
	tests := []struct {
		name string
		err  runcomfy.Error
		want runcomfy.Kind
	}{
		{"bad model id", runcomfy.Error{HTTPStatus: 400, Code: 400001}, runcomfy.KindBadModel},
		{"no balance", runcomfy.Error{HTTPStatus: 400, Code: 400002}, runcomfy.KindBalance},
		{"bad token", runcomfy.Error{HTTPStatus: 400, Code: 400004}, runcomfy.KindToken},
		{"somebody else's request", runcomfy.Error{HTTPStatus: 403, Code: 403001}, runcomfy.KindForeign},
		{"unknown request", runcomfy.Error{HTTPStatus: 404, Code: 404001, Path: onRequest}, runcomfy.KindUnknownRequest},
		{"a documented code under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 400002}, runcomfy.KindBalance},
		{"a documented code under HTTP 500", runcomfy.Error{HTTPStatus: 500, Code: 400004}, runcomfy.KindToken},
		{"a documented code under HTTP 404", runcomfy.Error{HTTPStatus: 404, Code: 400004, Path: onRequest}, runcomfy.KindToken},
		{"a documented code under HTTP 429", runcomfy.Error{HTTPStatus: 429, Code: 400002}, runcomfy.KindBalance},
		{"undocumented code 400007 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 400007}, runcomfy.KindBadInput},
		{"undocumented code 401009 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 401009}, runcomfy.KindToken},
		{"undocumented code 429001 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 429001}, runcomfy.KindThrottled},
		{"undocumented code 402001 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 402001}, runcomfy.KindBalance},
		{"undocumented code 404007 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 404007, Path: onRequest}, runcomfy.KindUnknownRequest},
		{"undocumented code 413001 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 413001}, runcomfy.KindBadInput},
		{"undocumented code 400007 under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 400007}, runcomfy.KindBadInput},
		{"undocumented code 429001 under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 429001}, runcomfy.KindThrottled},
		{"undocumented code 400007 under HTTP 500", runcomfy.Error{HTTPStatus: 500, Code: 400007}, runcomfy.KindUnavailable},
		{"undocumented code 429001 under HTTP 500", runcomfy.Error{HTTPStatus: 500, Code: 429001}, runcomfy.KindUnavailable},
		{"undocumented code 401009 under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 401009}, runcomfy.KindToken},
		{"undocumented code 403002 under HTTP 403", runcomfy.Error{HTTPStatus: 403, Code: 403002}, runcomfy.KindToken},
		{"undocumented code 400007 under HTTP 429", runcomfy.Error{HTTPStatus: 429, Code: 400007}, runcomfy.KindThrottled},
		{"undocumented code 500001 under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 500001}, runcomfy.KindUnavailable},
		{"undocumented code 500001 under HTTP 400", runcomfy.Error{HTTPStatus: 400, Code: 500001}, runcomfy.KindBadInput},
		{"a small code under HTTP 200", runcomfy.Error{HTTPStatus: 200, Code: 17}, runcomfy.KindUnavailable},
		{"a negative code", runcomfy.Error{HTTPStatus: 200, Code: -400001}, runcomfy.KindUnavailable},
		{"400", runcomfy.Error{HTTPStatus: 400}, runcomfy.KindBadInput},
		{"401", runcomfy.Error{HTTPStatus: 401}, runcomfy.KindToken},
		{"402", runcomfy.Error{HTTPStatus: 402}, runcomfy.KindBalance},
		{"403", runcomfy.Error{HTTPStatus: 403}, runcomfy.KindToken},
		{"404 of a model", runcomfy.Error{HTTPStatus: 404, Path: onModel}, runcomfy.KindBadModel},
		{"404 of a request", runcomfy.Error{HTTPStatus: 404, Path: onRequest}, runcomfy.KindUnknownRequest},
		{"408", runcomfy.Error{HTTPStatus: 408}, runcomfy.KindUnavailable},
		{"409", runcomfy.Error{HTTPStatus: 409}, runcomfy.KindUnavailable},
		{"422", runcomfy.Error{HTTPStatus: 422}, runcomfy.KindBadInput},
		{"429", runcomfy.Error{HTTPStatus: 429}, runcomfy.KindThrottled},
		{"500", runcomfy.Error{HTTPStatus: 500}, runcomfy.KindUnavailable},
		{"503", runcomfy.Error{HTTPStatus: 503}, runcomfy.KindUnavailable},
		{"503 with Retry-After", runcomfy.Error{HTTPStatus: 503, RetryAfter: time.Second}, runcomfy.KindThrottled},
		{"500 with Retry-After", runcomfy.Error{HTTPStatus: 500, RetryAfter: time.Second}, runcomfy.KindUnavailable},
		{"a redirect", runcomfy.Error{HTTPStatus: 302}, runcomfy.KindUnavailable},
		{"a response that lacks a member", runcomfy.Error{HTTPStatus: 200}, runcomfy.KindUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Kind(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestErrorCodeAndText(t *testing.T) {
	tests := []struct {
		name, body string
		code       int
		message    string
	}{
		{"error_message", `{"error_code":400002,"error_message":"no balance"}`, 400002, "no balance"},
		{"a code as text", `{"error_code":"400002","message":"no balance"}`, 400002, "no balance"},
		{"message", `{"message":"no balance"}`, 0, "no balance"},
		{"error as text", `{"error":"no balance"}`, 0, "no balance"},
		{"error as object", `{"error":{"message":"no balance","type":"x"}}`, 0, "no balance"},
		{"detail as text", `{"detail":"no balance"}`, 0, "no balance"},
		{"detail as list", `{"detail":[{"loc":["body","video_url"],"msg":"field required"},{"loc":["body","seed"],"msg":"too large"}]}`, 0, "body.video_url: field required; body.seed: too large"},
		{"the first member that has a text", `{"error_message":"","message":null,"error":"b","detail":"c"}`, 0, "b"},
		{"no text", `{"error_code":400002}`, 400002, ""},
		{"a word as code", `{"error_code":"E_BALANCE","message":"no"}`, 0, "no"},
		{"a code that is an object", `{"error_code":{"a":1},"message":"no"}`, 0, "no"},
		{"a code with a fraction", `{"error_code":400002.5,"message":"no"}`, 0, "no"},
		{"a text in 50 nested lists", `{"error":` + strings.Repeat("[", 50) + `"deep"` + strings.Repeat("]", 50) + `}`, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := &runcomfy.Error{
				Method: "GET", Path: "/v1/requests/id/status",
				HTTPStatus: 400, Code: tt.code, Message: tt.message,
			}
			if diff := cmp.Diff(want, statusError(t, 400, "application/json", tt.body)); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorUnder200(t *testing.T) {
	tests := []struct {
		name, body string
		isError    bool
	}{
		{"a code", `{"status":"completed","error_code":400002,"error_message":"no balance"}`, true},
		{"a code as text", `{"status":"completed","error_code":"400002"}`, true},
		{"a word as code", `{"status":"completed","error_code":"E_BALANCE"}`, true},
		{"a code of 0", `{"status":"completed","error_code":0}`, false},
		{"a code of null", `{"status":"completed","error_code":null}`, false},
		{"an empty code", `{"status":"completed","error_code":""}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := respondingJSON(t, 200, tt.body)
			for _, call := range []runcomfytest.Call{runcomfytest.CallSubmit, runcomfytest.CallStatus, runcomfytest.CallResult} {
				err := calls[call](t.Context(), client, "id")
				if !tt.isError && call != runcomfytest.CallSubmit { // Submit needs a request_id, which no body has
					if err != nil {
						t.Errorf("%s: error %v, want none", call, err)
					}
				} else if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.HTTPStatus != 200 {
					t.Errorf("%s: error %v, want an *Error with HTTP 200", call, err)
				}
			}
		})
	}
}

func TestBodiesThatAreNotJSON(t *testing.T) {
	page := `<!DOCTYPE html><html><head><title> 502 Bad &amp; Gateway </title></head><body>` + strings.Repeat("<p>x</p>", 10_000)
	tests := []struct {
		name, contentType, body, want string
	}{
		{"a page", "text/html", page, "a web page instead of JSON: 502 Bad & Gateway"},
		{"a page with the Content-Type of JSON", "application/json", page, "a web page instead of JSON: 502 Bad & Gateway"},
		{"a page without a title", "text/html", "<h1>no</h1>", "a web page instead of JSON"},
		{"text", "text/plain", " upstream\nconnect error ", "not a JSON object: upstream connect error"},
		{"a list", "application/json", `["no"]`, `not a JSON object: ["no"]`},
		{"nothing", "", "", "an empty response"},
		{"bytes", "application/octet-stream", "\xff\xfe\x00a", "not a JSON object: a"},
	}
	for _, tt := range tests {
		for _, status := range []int{200, 404, 429, 502} {
			t.Run(fmt.Sprint(tt.name, " under ", status), func(t *testing.T) {
				e := statusError(t, status, tt.contentType, tt.body)
				if e.Message != tt.want || e.HTTPStatus != status {
					t.Errorf("HTTP %d, message %q; want %q", e.HTTPStatus, e.Message, tt.want)
				}
			})
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	const limit = 500
	long := strings.Repeat("ü ", 5_000)
	for _, body := range []string{`{"message":"` + long + `"}`, long, "<title>" + long + "</title>"} {
		e := statusError(t, 500, "", body)
		if n := utf8.RuneCountInString(e.Message); n > limit || n < limit-10 {
			t.Errorf("a message of %d runes, want at most %d and not much less", n, limit)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	const mebibyte = 1 << 20
	valid := func(size int) string {
		start, end := `{"status":"in_queue","x":"`, `"}`
		return start + strings.Repeat("x", size-len(start)-len(end)) + end
	}
	if _, err := respondingJSON(t, 200, valid(mebibyte)).Status(t.Context(), "id"); err != nil {
		t.Errorf("a body of 1 MiB: error %v, want none", err)
	}
	for _, status := range []int{200, 429, 500} {
		e := statusError(t, status, "application/json", valid(mebibyte+1))
		if e.HTTPStatus != status || !strings.Contains(e.Message, "1 MiB") {
			t.Errorf("a body of more than 1 MiB under HTTP %d: error %v, want one that says 1 MiB", status, e)
		}
	}
}

// If a response breaks off, the client still uses its HTTP status. If the JSON object in it is
// whole, the client also uses the object's members, so that the id of a paid job is not lost.
func TestABodyThatBreaksOff(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		id     string
		kind   runcomfy.Kind
	}{
		{http.StatusOK, `{"request_id":"r"}`, "r", ""},
		{http.StatusOK, "\ufeff" + `{"request_id":"r"}`, "r", ""},
		{http.StatusOK, `{"request_id":"r"`, "", runcomfy.KindUnavailable},
		{http.StatusOK, `{"error_code":400002}`, "", runcomfy.KindBalance},
		{http.StatusTooManyRequests, `{"message":`, "", runcomfy.KindThrottled},
	} {
		client := serving(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		id, err := client.Submit(t.Context(), "a/b", nil)
		if kind := classOf(err).kind; id != tt.id || kind != tt.kind {
			t.Errorf("%s under HTTP %d: id %q and error %v, want id %q and kind %q", tt.body, tt.status, id, err, tt.id, tt.kind)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Fri, 01 May 2026 10:00:00 GMT"
	tests := []struct {
		name, value string
		want        time.Duration
	}{
		{"absent", "", 0},
		{"seconds", "7", 7 * time.Second},
		{"zero counts as one second", "0", time.Second},
		{"six hours at most", "4294967295", 6 * time.Hour},
		{"more than 32 bits", "4294967296", 6 * time.Hour},
		{"more than 64 bits", "99999999999999999999", 6 * time.Hour},
		{"negative", "-5", 0},
		{"a fraction", "1.5", 0},
		{"a date 90 seconds after the response's Date", "Fri, 01 May 2026 10:01:30 GMT", 90 * time.Second},
		{"a date that is past", "Fri, 01 May 2026 09:00:00 GMT", time.Second},
		{"a date far off", "Fri, 01 May 2099 09:00:00 GMT", 6 * time.Hour},
		{"words", "soon", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := serving(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", date)
				if tt.value != "" {
					w.Header().Set("Retry-After", tt.value)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			_, err := client.Status(t.Context(), "id")
			if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.RetryAfter != tt.want {
				t.Errorf("error %#v, want RetryAfter %v", err, tt.want)
			}
		})
	}
}

func TestErrorString(t *testing.T) {
	tests := []struct {
		err  runcomfy.Error
		want string
	}{
		{runcomfy.Error{Method: "POST", Path: "/v1/models/a/b", HTTPStatus: 400, Code: 400002, Message: "no balance"}, "POST /v1/models/a/b: HTTP 400, code 400002: no balance"},
		{runcomfy.Error{Method: "GET", Path: "/v1/requests/r/status", HTTPStatus: 503}, "GET /v1/requests/r/status: HTTP 503"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	bodies := []string{
		`{"message":"token ` + canary + ` is revoked"}`,
		`{"error":{"Bearer ` + canary + `":true}}`,
		`{"detail":"cannot read https://b.example/a.mp4?X-Amz-Signature=1"}`,
		`{"detail":[{"loc":["body","https://b.example/a.mp4?X-Amz-Signature=1"],"msg":"bad"}]}`,
		`<title>` + canary + ` /a?X-Amz-Signature=1</title>`,
		canary + ` https://b.example/a.mp4?X-Amz-Signature=1`,
		`{"status":7,"message":"` + canary + `"}`,
	}
	for _, body := range bodies {
		for _, status := range []int{200, 400, 502} {
			client := respondingJSON(t, status, body)
			for _, call := range calls {
				err := call(t.Context(), client, "id")
				if err == nil {
					t.Fatalf("no error for %s, want one", body)
				}
				if text := fmt.Sprintf("%v %#v", err, err); strings.Contains(text, canary) || strings.Contains(text, "X-Amz-") {
					t.Errorf("%s under HTTP %d: error %s, want no secret in it", body, status, text)
				}
			}
		}
	}
}

// brokenSource is a token source that fails.
type brokenSource struct{ err error }

func (b brokenSource) Token(context.Context) (string, error) { return "", b.err }
func (brokenSource) Refused()                                {}

func TestTokenError(t *testing.T) {
	locked := errors.New("the vault is locked")
	tests := []struct {
		name  string
		token runcomfy.TokenSource
		want  string
	}{
		{"no source", nil, "API token: no source for the token"},
		{"an error", brokenSource{locked}, "API token: the vault is locked"},
		{"empty", runcomfy.StaticToken(""), "API token: the token is empty"},
		{"a line break", runcomfy.StaticToken(canary + "\n"), "API token: the token has a character that no token has, such as a space, a line break or a letter that is not ASCII"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, requests := responding(t, 200, "application/json", `{"request_id":"r"}`)
			client.Token = tt.token
			_, err := client.Submit(t.Context(), "a/b", nil)
			if _, ok := errors.AsType[*runcomfy.TokenError](err); !ok || err.Error() != tt.want || !runcomfy.NotSent(err) {
				t.Errorf("error %v, not sent %t; want %s, not sent", err, runcomfy.NotSent(err), tt.want)
			}
			if tt.name == "an error" && !errors.Is(err, locked) {
				t.Errorf("error %v, want one that wraps the error of the source", err)
			}
			if checked := client.CheckToken(t.Context()); checked == nil || checked.Error() != tt.want {
				t.Errorf("CheckToken: %v, want %s", checked, tt.want)
			}
			if len(*requests) != 0 {
				t.Errorf("%d requests were made, want none", len(*requests))
			}
		})
	}
}
