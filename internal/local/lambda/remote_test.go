package lambda_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
)

func TestRemote(t *testing.T) {
	for _, tt := range []struct {
		name, function string
		status         int
		errorHeader    string
		response       string

		result  string
		failure *lambda.Error
		err     string
	}{
		{name: "a response", function: "poll", status: 200, response: `{"ended":true}`, result: `{"ended":true}`},
		{name: "a function named by its ARN", function: "arn:aws:lambda:us-east-1:000000000000:function:poll", status: 200, response: `{}`, result: `{}`},
		{
			name: "an error of the function", function: "poll", status: 200, errorHeader: "Unhandled",
			response: `{"errorType":"QueuedTooLong","errorMessage":"queued for 6 h"}`,
			failure:  &lambda.Error{Type: "QueuedTooLong", Message: "queued for 6 h"},
		},
		{
			name: "a response that looks like an error", function: "poll", status: 200,
			response: `{"errorType":"QueuedTooLong"}`, result: `{"errorType":"QueuedTooLong"}`,
		},
		{name: "an endpoint without the function", function: "poll", status: 404, response: `{"Message":"Function not found"}`, err: "Function not found"},
		{name: "an endpoint that is unavailable", function: "poll", status: 503, err: "503 Service Unavailable"},
		{name: "an unknown function", function: "dance", status: 200, err: "no function dance"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				const want = `POST /2015-03-31/functions/PollFunction/invocations {"name":"talk"}`
				if got := r.Method + " " + r.URL.Path + " " + string(body); err != nil || got != want {
					t.Errorf("the endpoint received %s (%v), want %s", got, err, want)
				}
				if tt.errorHeader != "" {
					w.Header().Set("X-Amz-Function-Error", tt.errorHeader)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.response)
			}))
			defer server.Close()
			remote := lambda.NewRemote(server.URL+"/", map[string]string{"poll": "PollFunction"})
			defer remote.Close()
			result, err := remote.Invoke(t.Context(), tt.function, []byte(`{"name":"talk"}`))
			failure, failed := errors.AsType[*lambda.Error](err)
			if diff := cmp.Diff(tt.failure, failure); diff != "" || string(result) != tt.result {
				t.Errorf("result %s, want %s; failure (-want +got):\n%s", result, tt.result, diff)
			}
			if failed {
				err = nil
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestCheckEndpointRefuses(t *testing.T) {
	for _, endpoint := range []string{"", "127.0.0.1:3001", "ftp://127.0.0.1", "http://"} {
		if lambda.CheckEndpoint(endpoint) == nil {
			t.Errorf("%q is accepted, want an error", endpoint)
		}
	}
}

func TestRemoteIsClosedDuringACall(t *testing.T) {
	called := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices that the client is gone only after the whole body is read
		close(called)
		<-r.Context().Done()
	}))
	defer server.Close()
	remote := lambda.NewRemote(server.URL, map[string]string{"poll": "PollFunction"})
	go func() {
		<-called
		remote.Close()
	}()
	if _, err := remote.Invoke(t.Context(), "poll", []byte("{}")); !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("the call returned %v, want ErrClosed", err)
	}
}
