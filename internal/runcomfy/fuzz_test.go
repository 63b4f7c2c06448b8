package runcomfy_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// No response makes a call panic or hang. The text of an error is short, is one line of UTF-8, and
// contains no secret.
func FuzzResponse(f *testing.F) {
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"request_id":"r"}`, `{"status":"completed","output":{"video":"https://a.example/%3D.mp4"}}`,
		`{"status":"failed","error":[{"loc":["a",1],"msg":"https://a.example/?X-Amz-Signature=1"}]}`,
		`{"status":"failed","error":{"a":"` + canary + `","a":1e999}}`,
		`{"error_code":400002,"error_message":"x"}`, `{"error_code":"400005"}`, `{"error_code":1e400}`, `{"request_id":"r","status":"failed","error_code":400002}`,
		`{"detail":[{"loc":["body"],"msg":"field required"}]}`, `<title>x-amz-</title>`, "\xff\x00",
	} {
		f.Add(200, "application/json", body)
		f.Add(502, "text/html", body)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		client := &runcomfy.Client{Token: fixedToken, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			// Like http.Transport, call the hooks that NotSent depends on.
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GetConn(r.Host)
			trace.GotConn(httptrace.GotConnInfo{})
			return &http.Response{
				StatusCode: 100 + (status%500+900)%500, // a status from 100 to 599 does not change
				Header:     http.Header{"Content-Type": {contentType}, "Retry-After": {body}},
				Body:       io.NopCloser(strings.NewReader(body)),
			}, nil
		})}}
		ctx := t.Context()
		id, submitErr := client.Submit(ctx, "a/b", nil)
		if submitErr == nil && id == "" || strings.ContainsAny(id, "/.?%") {
			t.Errorf("Submit returned the request id %q, want an error or an id that may be in a path", id)
		}
		result, resultErr := client.Result(ctx, "r")
		for _, output := range result.Outputs {
			if !strings.Contains(output, "://") {
				t.Errorf("output %q, want an absolute URL", output)
			}
		}
		checkText(t, result.Failure)
		_, statusErr := client.Status(ctx, "r")
		_, cancelErr := client.Cancel(ctx, "r")
		_, modelErr := client.Model(ctx, "a/b")
		_, balanceErr := client.Balance(ctx)
		for _, err := range []error{submitErr, statusErr, resultErr, cancelErr, modelErr, balanceErr} {
			if err == nil {
				continue
			}
			if runcomfy.NotSent(err) {
				t.Errorf("a request with a response counts as not sent: %v", err)
			}
			e, ok := errors.AsType[*runcomfy.Error](err)
			if !ok {
				t.Fatalf("%T %v, want a *runcomfy.Error", err, err)
			}
			checkText(t, e.Message)
			if e.Kind() == "" {
				t.Errorf("error %v has no kind, want one", err)
			}
		}
	})
}

func checkText(t *testing.T, text string) {
	t.Helper()
	if utf8.RuneCountInString(text) > 500 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
		t.Errorf("text %q, want one line of UTF-8 with at most 500 characters", text)
	}
	if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), "x-amz-") {
		t.Errorf("text %q, want no secret in it", text)
	}
}
