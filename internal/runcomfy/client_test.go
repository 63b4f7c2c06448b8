package runcomfy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// canary is the token of the tests: it must be in no error.
const canary = "canary-7f3a-token"

const fixedToken = runcomfy.StaticToken(canary)

// sent is what a server saw of one request.
type sent struct {
	Method, Path, Query, Body string
	Header                    http.Header
}

// serving returns a client of a server with the given handler.
func serving(t *testing.T, handle http.HandlerFunc) *runcomfy.Client {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return &runcomfy.Client{Token: fixedToken, BaseURL: server.URL}
}

// responding returns a client whose every request gets the same response, and the
// requests that were made.
func responding(t *testing.T, status int, contentType, body string) (*runcomfy.Client, *[]sent) {
	t.Helper()
	var requests []sent
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests = append(requests, sent{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(text), r.Header})
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}), &requests
}

func respondingJSON(t *testing.T, status int, body string) *runcomfy.Client {
	t.Helper()
	client, _ := responding(t, status, "application/json", body)
	return client
}

// calls are the calls of the Model API. Each is about the model a/b or about the given request.
var calls = map[runcomfytest.Call]func(ctx context.Context, c *runcomfy.Client, id string) error{
	runcomfytest.CallSubmit: func(ctx context.Context, c *runcomfy.Client, _ string) error {
		_, err := c.Submit(ctx, "a/b", map[string]any{"video_url": "https://b.example/a.mp4?X-Amz-Signature=1"})
		return err
	},
	runcomfytest.CallStatus: func(ctx context.Context, c *runcomfy.Client, id string) error {
		_, err := c.Status(ctx, id)
		return err
	},
	runcomfytest.CallResult: func(ctx context.Context, c *runcomfy.Client, id string) error {
		_, err := c.Result(ctx, id)
		return err
	},
	runcomfytest.CallCancel: func(ctx context.Context, c *runcomfy.Client, id string) error {
		_, err := c.Cancel(ctx, id)
		return err
	},
	runcomfytest.CallModel: func(ctx context.Context, c *runcomfy.Client, _ string) error {
		_, err := c.Model(ctx, "a/b")
		return err
	},
}

// RunComfy's two APIs are at two addresses. If BaseURL is the address of another server, both APIs
// are there. The token is sent only to these addresses.
func TestAddresses(t *testing.T) {
	for base, want := range map[string][]string{ // by BaseURL: the addresses that Balance and Model call
		"":                      {runcomfy.AccountBaseURL, runcomfy.DefaultBaseURL},
		runcomfy.DefaultBaseURL: {runcomfy.AccountBaseURL, runcomfy.DefaultBaseURL},
		"http://127.0.0.1:1":    {"http://127.0.0.1:1", "http://127.0.0.1:1"},
	} {
		var got []string
		c := &runcomfy.Client{Token: fixedToken, BaseURL: base, HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			got = append(got, r.URL.Scheme+"://"+r.URL.Host)
			return nil, io.EOF
		})}}
		_, balanceErr := c.Balance(t.Context())
		_, modelErr := c.Model(t.Context(), "a/b")
		if diff := cmp.Diff(want, got); diff != "" || balanceErr == nil || modelErr == nil {
			t.Errorf("requests for the balance and a model, with the base URL %q (-want +got):\n%s", base, diff)
		}
	}
}

func TestRequests(t *testing.T) {
	const id = "Ab3_-9"
	everything := `{"request_id":"Ab3_-9","status":"in_queue","outcome":"cancelled","model_id":"a/b","new":[1]}`
	submit := func(model string, input map[string]any) func(context.Context, *runcomfy.Client, string) error {
		return func(ctx context.Context, c *runcomfy.Client, _ string) error {
			_, err := c.Submit(ctx, model, input)
			return err
		}
	}
	tests := []struct {
		name string
		call func(context.Context, *runcomfy.Client, string) error
		want sent
	}{
		{
			name: "submit sends the input and nothing else",
			call: submit("happyhorse/happyhorse-1.0/reference-to-video", map[string]any{
				"video_url": "https://b.example/a.mp4?X-Amz-Expires=1&x=<2>", "seed": 7, "watermark": false,
			}),
			want: sent{
				Method: "POST", Path: "/v1/models/happyhorse/happyhorse-1.0/reference-to-video",
				Body: `{"seed":7,"video_url":"https://b.example/a.mp4?X-Amz-Expires=1&x=<2>","watermark":false}`,
			},
		},
		{
			name: "submit without an input sends an empty object", call: submit("sync/sync/lipsync/v2/pro", nil),
			want: sent{Method: "POST", Path: "/v1/models/sync/sync/lipsync/v2/pro", Body: `{}`},
		},
		{"status", calls[runcomfytest.CallStatus], sent{Method: "GET", Path: "/v1/requests/Ab3_-9/status"}},
		{"result asks for the cost", calls[runcomfytest.CallResult], sent{Method: "GET", Path: "/v1/requests/Ab3_-9/result", Query: "include_cost=true"}},
		{"cancel has no body", calls[runcomfytest.CallCancel], sent{Method: "POST", Path: "/v1/requests/Ab3_-9/cancel"}},
		{"model", calls[runcomfytest.CallModel], sent{Method: "GET", Path: "/v1/models/a/b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, requests := responding(t, 200, "application/json", everything)
			if err := tt.call(t.Context(), client, id); err != nil {
				t.Fatal(err)
			}
			if len(*requests) != 1 {
				t.Fatalf("%d requests, want 1", len(*requests))
			}
			got := (*requests)[0]
			header := got.Header
			got.Header = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got := header.Get("Authorization"); got != "Bearer "+canary {
				t.Errorf("Authorization %q, want %q", got, "Bearer "+canary)
			}
			if agent := header.Get("User-Agent"); !strings.HasPrefix(agent, "lipdrop") {
				t.Errorf("User-Agent %q, want one that begins with lipdrop", agent)
			}
			for name := range header {
				if strings.Contains(name, "Idempotency") {
					t.Errorf("the header %s is sent, want no header that lets a transport repeat the request", name)
				}
			}
			if wantJSON := tt.want.Body != ""; wantJSON != (header.Get("Content-Type") == "application/json") {
				t.Errorf("Content-Type %q; want application/json: %t", header.Get("Content-Type"), wantJSON)
			}
		})
	}
}

func TestSubmitResponses(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
		kind   runcomfy.Kind // of the error; "" if there is no error
	}{
		{"a UUID beside a URL", 200, `{"request_id":"8f14e45f-ceea-467f-a8f1-000000000001","status_url":"u"}`, "8f14e45f-ceea-467f-a8f1-000000000001", ""},
		{"only the id", 200, `{"request_id":"r_1-A"}`, "r_1-A", ""},
		{"an id under HTTP 202", 202, `{"request_id":"r"}`, "r", ""},
		{"an id of 128 characters", 200, `{"request_id":"` + strings.Repeat("a", 128) + `"}`, strings.Repeat("a", 128), ""},
		{"an id of 129 characters", 200, `{"request_id":"` + strings.Repeat("a", 129) + `"}`, "", runcomfy.KindUnavailable},
		{"an id that would change the path", 200, `{"request_id":"../models"}`, "", runcomfy.KindUnavailable},
		{"an id with a line break", 200, `{"request_id":"a\n"}`, "", runcomfy.KindUnavailable},
		{"an empty id", 200, `{"request_id":""}`, "", runcomfy.KindUnavailable},
		{"a null id", 200, `{"request_id":null}`, "", runcomfy.KindUnavailable},
		{"a number as id", 200, `{"request_id":12}`, "", runcomfy.KindUnavailable},
		{"no id", 200, `{"message":"queued"}`, "", runcomfy.KindUnavailable},
		{"a list", 200, `[{"request_id":"r"}]`, "", runcomfy.KindUnavailable},
		{"null", 200, `null`, "", runcomfy.KindUnavailable},
		{"text after the object", 200, `{"request_id":"r"} trailing`, "", runcomfy.KindUnavailable},
		{"an empty body", 200, "", "", runcomfy.KindUnavailable},
		{"an id under HTTP 500", 500, `{"request_id":"r"}`, "", runcomfy.KindUnavailable},
		{"an id beside an error code", 200, `{"request_id":"r","error_code":400002}`, "r", runcomfy.KindBalance},
		{"an invalid id beside an error code", 200, `{"request_id":"../models","error_code":400002}`, "", runcomfy.KindBalance},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, tt.status, tt.body).Submit(t.Context(), "a/b", nil)
			if want := (class{ok: tt.kind == "", kind: tt.kind}); got != tt.want || classOf(err) != want {
				t.Errorf("id %q and error %v, want id %q and the class %+v", got, err, tt.want, want)
			}
		})
	}
}

func TestStatusWords(t *testing.T) {
	tests := []struct {
		word  string
		want  runcomfy.QueueStatus
		ended bool
	}{
		{"in_queue", runcomfy.InQueue, false},
		{"in_progress", runcomfy.InProgress, false},
		{"IN_PROGRESS", runcomfy.InProgress, false},
		{"completed", runcomfy.Completed, true},
		{"Completed", runcomfy.Completed, true},
		{"succeeded", "succeeded", true},
		{"failed", "failed", true},
		{"cancelled", runcomfy.Cancelled, true},
		{"canceled", runcomfy.Cancelled, true},
		{"CANCELED", runcomfy.Cancelled, true},
		{"warming_up", "warming_up", false},
		{"complete", "complete", false},
		{"not_ready", "not_ready", false},
	}
	for _, tt := range tests {
		t.Run(tt.word, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"`+tt.word+`"}`).Status(t.Context(), "id")
			if err != nil || got.State != tt.want || got.State.Ended() != tt.ended {
				t.Errorf("%q, ended %t, error %v; want %q, %t", got.State, got.State.Ended(), err, tt.want, tt.ended)
			}
		})
	}
}

func TestQueuePosition(t *testing.T) {
	tests := []struct {
		name, member string
		want         *int
	}{
		{"absent", ``, nil},
		{"no job ahead", `,"queue_position":0`, new(0)},
		{"three jobs ahead", `,"queue_position":3`, new(3)},
		{"written as a float", `,"queue_position":3.0`, new(3)},
		{"null", `,"queue_position":null`, nil},
		{"text", `,"queue_position":"soon"`, nil},
		{"a number as text", `,"queue_position":"3"`, new(3)},
		{"negative", `,"queue_position":-1`, nil},
		{"half", `,"queue_position":1.5`, nil},
		{"beyond an int", `,"queue_position":1e99`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"in_queue"`+tt.member+`}`).Status(t.Context(), "id")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.QueuePosition); diff != "" {
				t.Errorf("position (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCancelIsDecidedByTheOutcome(t *testing.T) {
	tests := []struct {
		name, body string
		want       runcomfy.Outcome
	}{
		{"cancelled, although the status is completed", `{"status":"completed","outcome":"cancelled"}`, runcomfy.OutcomeCancelled},
		{"canceled with one l", `{"outcome":"canceled"}`, runcomfy.OutcomeCancelled},
		{"upper case", `{"outcome":"NOT_CANCELLABLE"}`, runcomfy.OutcomeNotCancellable},
		{"not cancellable, although the status is cancelled", `{"status":"cancelled","outcome":"not_cancellable"}`, runcomfy.OutcomeNotCancellable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 202, tt.body).Cancel(t.Context(), "id")
			if err != nil || got != tt.want {
				t.Errorf("%q and error %v, want %q", got, err, tt.want)
			}
		})
	}
	for name, body := range map[string]string{"no outcome": `{"status":"cancelled"}`, "an unknown outcome": `{"status":"cancelled","outcome":"requested"}`} {
		t.Run(name+" is an error", func(t *testing.T) {
			_, err := respondingJSON(t, 202, body).Cancel(t.Context(), "id")
			if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.Kind() != runcomfy.KindUnavailable || e.HTTPStatus != 202 {
				t.Errorf("error %v, want an *Error with HTTP 202 and the kind %s", err, runcomfy.KindUnavailable)
			}
		})
	}
}

func TestModel(t *testing.T) {
	got, err := respondingJSON(t, 200, `{"model_id":"sync/react-1","input_schema":{"type":"object"},"base_price_usd":0.08,"price_unit":"Second","pricing_note":"at 25 fps\n with `+canary+`"}`).Model(t.Context(), "sync/react-1")
	if err != nil {
		t.Fatal(err)
	}
	want := runcomfy.Model{
		ID: "sync/react-1", InputSchema: json.RawMessage(`{"type":"object"}`),
		BasePriceUSD: new(0.08), PriceUnit: runcomfy.PerSecond, PricingNote: "at 25 fps with [token]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("model (-want +got):\n%s", diff)
	}
	for price, want := range map[string]*float64{`"?"`: nil, `"0.08"`: new(0.08)} {
		got, err := respondingJSON(t, 200, `{"model_id":"a/b","base_price_usd":`+price+`,"input_schema":null}`).Model(t.Context(), "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(runcomfy.Model{ID: "a/b", BasePriceUSD: want}, got); diff != "" {
			t.Errorf("model with the price %s (-want +got):\n%s", price, diff)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			followed := 0
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed++ }))
			defer elsewhere.Close()
			client := serving(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+"/?secret=1", status) })
			_, err := client.Submit(t.Context(), "a/b", nil)
			e, ok := errors.AsType[*runcomfy.Error](err)
			if !ok || e.HTTPStatus != status || e.Kind() != runcomfy.KindUnavailable {
				t.Fatalf("error %v, want an *Error with HTTP %d and the kind %s", err, status, runcomfy.KindUnavailable)
			}
			if followed != 0 {
				t.Error("the redirect was followed, want no request to its target")
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want no query of a URL in it", err)
			}
		})
	}
}

// rotating is a token source that returns the next token after a refusal.
type rotating struct {
	tokens  []string
	refused int
}

func (r *rotating) Token(context.Context) (string, error) {
	return r.tokens[min(r.refused, len(r.tokens)-1)], nil
}

func (r *rotating) Refused() { r.refused++ }

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	all := maps.Clone(calls)
	all[runcomfytest.CallBalance] = func(ctx context.Context, c *runcomfy.Client, _ string) error { _, err := c.Balance(ctx); return err }
	for _, refusal := range []struct {
		name   string
		status int
		body   string
	}{
		{"HTTP 401", 401, `{}`},
		{"a code under HTTP 400", 400, `{"error_code": 400004}`},
		{"a code under HTTP 200", 200, `{"error_code": 400004}`},
		{"a request of another account", 403, `{"error_code": 403001}`},
		{"no balance", 402, `{}`}, // a new token may be of an account with a balance
	} {
		for _, tt := range []struct {
			name   string
			tokens []string
			sent   []string // the tokens that each call except submit sends
			ok     bool
		}{
			{"the token was rotated", []string{"old", "new"}, []string{"old", "new"}, true},
			{"the token is the same", []string{"old"}, []string{"old"}, false},
			{"the next token is refused too", []string{"old", "older", "new"}, []string{"old", "older"}, false},
		} {
			for call, do := range all {
				t.Run(refusal.name+"/"+tt.name+"/"+string(call), func(t *testing.T) {
					var got []string
					client := serving(t, func(w http.ResponseWriter, r *http.Request) {
						token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
						got = append(got, token)
						if token != "new" {
							w.WriteHeader(refusal.status)
							_, _ = io.WriteString(w, refusal.body)
							return
						}
						_, _ = io.WriteString(w, `{"request_id":"id","status":"in_queue","outcome":"cancelled","model_id":"a/b","balance_usd":1}`)
					})
					source := &rotating{tokens: tt.tokens}
					client.Token = source
					err := do(t.Context(), client, "id")
					wantSent, wantOK := tt.sent, tt.ok
					if call == runcomfytest.CallSubmit {
						wantSent, wantOK = tt.sent[:1], false
					}
					if diff := cmp.Diff(wantSent, got); diff != "" {
						t.Errorf("tokens sent (-want +got):\n%s", diff)
					}
					if (err == nil) != wantOK || source.refused != 1 {
						t.Errorf("error %v, %d refusals reported; want success %t and 1", err, source.refused, wantOK)
					}
				})
			}
		}
	}
}

func TestBalance(t *testing.T) {
	fake := &runcomfytest.Server{Token: canary}
	client := serving(t, fake.ServeHTTP)
	if usd, err := client.Balance(t.Context()); usd != 12.5 || err != nil {
		t.Errorf("balance %v, error %v; want 12.5", usd, err)
	}
	fake.SetBalanceEmpty(true)
	if usd, err := client.Balance(t.Context()); usd != 0 || err != nil {
		t.Errorf("after a change: balance %v, error %v; want 0", usd, err)
	}
	if usd, err := respondingJSON(t, 200, `{"balance_usd":"12.50"}`).Balance(t.Context()); usd != 12.5 || err != nil {
		t.Errorf("a balance as text: %v, error %v; want 12.5", usd, err)
	}
	for body, want := range map[string]runcomfy.Kind{
		`{}`: runcomfy.KindUnavailable, `{"balance_usd":"much"}`: runcomfy.KindUnavailable, `{"error_code":400004}`: runcomfy.KindToken,
	} {
		if _, err := respondingJSON(t, 200, body).Balance(t.Context()); classOf(err) != of(want) {
			t.Errorf("%s: %v, want the kind %s", body, err, want)
		}
	}
}
