package runcomfytest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

const (
	model    = "sync/sync/lipsync/v2/pro"
	videoURL = "https://b.example/talk.mov?X-Amz-Signature=1"
	audioURL = "https://b.example/talk.wav?X-Amz-Signature=2"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

// files serves the contents of URLs, and records which URLs were requested.
type files struct {
	mu      sync.Mutex
	content map[string]string
	fetched []string
}

func (f *files) fetch(_ context.Context, url string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetched = append(f.fetched, url)
	content, ok := f.content[url]
	if !ok {
		return nil, errors.New("HTTP 403")
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

func pairFiles() *files {
	return &files{content: map[string]string{videoURL: "the video", audioURL: "the audio"}}
}

func pair() map[string]any {
	return map[string]any{"video_url": videoURL, "audio_url": audioURL, "sync_mode": "loop"}
}

func clientOf(fake *runcomfytest.Server, token string) *runcomfy.Client {
	return &runcomfy.Client{
		Token:      runcomfy.StaticToken(token),
		HTTPClient: &http.Client{Transport: fake.Transport()},
	}
}

func submit(t *testing.T, client *runcomfy.Client, input map[string]any) string {
	t.Helper()
	id, err := client.Submit(t.Context(), model, input)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func kindOf(err error) runcomfy.Kind {
	if e, ok := errors.AsType[*runcomfy.Error](err); ok {
		return e.Kind()
	}
	return ""
}

func TestAJobQueuesRunsAndSucceeds(t *testing.T) {
	c := &clock{noon}
	fake := &runcomfytest.Server{Queue: 25 * time.Second, Run: 10 * time.Second, Now: c.Now, Fetch: pairFiles().fetch, CostUSD: 0.4}
	client := clientOf(fake, "t")
	id := submit(t, client, pair())

	steps := []struct {
		wait     time.Duration // since the step before
		status   runcomfy.QueueStatus
		position int // -1 if there is none
		result   runcomfy.ResultStatus
	}{
		{0, runcomfy.InQueue, 2, runcomfy.ResultInQueue},
		{10 * time.Second, runcomfy.InQueue, 1, runcomfy.ResultInQueue},
		{14 * time.Second, runcomfy.InQueue, 0, runcomfy.ResultInQueue},
		{time.Second, runcomfy.InProgress, -1, runcomfy.ResultInProgress},
		{9 * time.Second, runcomfy.InProgress, -1, runcomfy.ResultInProgress},
		{time.Second, runcomfy.Completed, -1, runcomfy.ResultSucceeded},
		{time.Hour, runcomfy.Completed, -1, runcomfy.ResultSucceeded},
	}
	for _, step := range steps {
		c.advance(step.wait)
		status, err := client.Status(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		want := runcomfy.Status{State: step.status}
		if step.position >= 0 {
			want.QueuePosition = &step.position
		}
		if diff := cmp.Diff(want, status); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", c.now.Sub(noon), diff)
		}
		result, err := client.Result(t.Context(), id)
		if err != nil || result.State != step.result {
			t.Errorf("after %v: result %q, error %v; want %q", c.now.Sub(noon), result.State, err, step.result)
		}
		if step.result == runcomfy.ResultSucceeded {
			want := runcomfy.Result{
				State: step.result, CostUSD: new(0.4), CreatedAt: noon, FinishedAt: noon.Add(35 * time.Second),
				Outputs: []string{runcomfy.DefaultBaseURL + "/media/" + id + "%3D/output/1.mov"},
			}
			if diff := cmp.Diff(want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		}
	}
}

func TestSubmitIsRefused(t *testing.T) {
	tests := []struct {
		name, token, model string
		prepare            func(*runcomfytest.Server)
		want               runcomfy.Kind
	}{
		{"another token", "other", model, func(*runcomfytest.Server) {}, runcomfy.KindToken},
		{"a token that was rotated", "right", model, func(s *runcomfytest.Server) { s.SetToken("new") }, runcomfy.KindToken},
		{"an unknown model", "right", "sync/react-2", func(*runcomfytest.Server) {}, runcomfy.KindBadModel},
		{"no balance", "right", model, func(s *runcomfytest.Server) { s.SetBalanceEmpty(true) }, runcomfy.KindBalance},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := pairFiles()
			fake := &runcomfytest.Server{Token: "right", Models: models(), Fetch: files.fetch}
			tt.prepare(fake)
			_, err := clientOf(fake, tt.token).Submit(t.Context(), tt.model, pair())
			if got := kindOf(err); got != tt.want {
				t.Errorf("error of the kind %q, want %q: %v", got, tt.want, err)
			}
			if fake.Charges() != 0 || fake.Calls() != 1 || len(fake.Submitted()) != 0 || len(files.fetched) != 0 {
				t.Errorf("%d charges, %d calls, jobs %v, fetched %v; want only one call", fake.Charges(), fake.Calls(), fake.Submitted(), files.fetched)
			}
		})
	}
	t.Run("accepted with the new token, after the balance is topped up", func(t *testing.T) {
		fake := &runcomfytest.Server{Token: "old", Fetch: pairFiles().fetch}
		fake.SetBalanceEmpty(true)
		fake.SetToken("new")
		fake.SetBalanceEmpty(false)
		submit(t, clientOf(fake, "new"), pair())
		if fake.Charges() != 1 {
			t.Errorf("%d charges, want 1", fake.Charges())
		}
	})
}

func models() map[string]json.RawMessage {
	return map[string]json.RawMessage{model: json.RawMessage(`{"type":"object","required":["video_url"]}`)}
}

func TestModel(t *testing.T) {
	fake := &runcomfytest.Server{Models: models()}
	got, err := clientOf(fake, "t").Model(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	price := runcomfytest.InventedPrice(model)
	want := runcomfy.Model{ID: model, InputSchema: models()[model], BasePriceUSD: &price.USD, PriceUnit: price.Unit, PricingNote: price.Note}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("model (-want +got):\n%s", diff)
	}
	if _, err := clientOf(fake, "t").Model(t.Context(), "a/b"); kindOf(err) != runcomfy.KindBadModel {
		t.Errorf("error %v, want one of the kind %s", err, runcomfy.KindBadModel)
	}
	if got, err := clientOf(&runcomfytest.Server{}, "t").Model(t.Context(), "a/b"); err != nil || got.BasePriceUSD == nil {
		t.Errorf("model %+v, error %v; want any model to be known and to have a price", got, err)
	}
}

func TestRequestsThatAreNotKnown(t *testing.T) {
	client := clientOf(&runcomfytest.Server{}, "t")
	_, statusErr := client.Status(t.Context(), "nobody")
	_, resultErr := client.Result(t.Context(), "nobody")
	_, cancelErr := client.Cancel(t.Context(), "nobody")
	for _, err := range []error{statusErr, resultErr, cancelErr} {
		if e, ok := errors.AsType[*runcomfy.Error](err); !ok || e.Code != 404001 || e.Kind() != runcomfy.KindUnknownRequest {
			t.Errorf("error %v, want one with the code 404001 and the kind %s", err, runcomfy.KindUnknownRequest)
		}
	}
}

func TestInvalidRequests(t *testing.T) {
	fake := &runcomfytest.Server{}
	tests := []struct {
		name, method, path, authorization, body string
		want                                    int
	}{
		{"no authorization", "POST", "/v1/models/a/b", "", "{}", 401},
		{"no token", "POST", "/v1/models/a/b", "Bearer ", "{}", 401},
		{"another scheme", "POST", "/v1/models/a/b", "Basic t", "{}", 401},
		{"a body that is not JSON", "POST", "/v1/models/a/b", "Bearer t", "{", 422},
		{"a body that is not an object", "POST", "/v1/models/a/b", "Bearer t", "[]", 422},
		{"a null body", "POST", "/v1/models/a/b", "Bearer t", "null", 422},
		{"another method on a model", "DELETE", "/v1/models/a/b", "Bearer t", "", 404},
		{"another action", "GET", "/v1/requests/r/logs", "Bearer t", "", 404},
		{"another method on a request", "POST", "/v1/requests/r/status", "Bearer t", "", 404},
		{"a list of requests", "GET", "/v1/requests", "Bearer t", "", 404},
		{"another path", "GET", "/", "Bearer t", "", 404},
		{"a valid job", "POST", "/v1/models/a/b", "Bearer t", "{}", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			req.Header.Set("Authorization", tt.authorization)
			res := httptest.NewRecorder()
			fake.ServeHTTP(res, req)
			if res.Code != tt.want {
				t.Errorf("HTTP %d, want %d", res.Code, tt.want)
			}
		})
	}
	if fake.Charges() != 1 {
		t.Errorf("%d charges, want 1, for the valid job", fake.Charges())
	}
}

// The status in the response to a successful cancel is completed, as in the real API. A second
// cancel is refused.
func TestCancelSaysCompleted(t *testing.T) {
	fake := &runcomfytest.Server{Queue: time.Hour, Fetch: pairFiles().fetch}
	id := submit(t, clientOf(fake, "t"), pair())
	req := httptest.NewRequest("POST", "/v1/requests/"+id+"/cancel", nil)
	req.Header.Set("Authorization", "Bearer t")
	res := httptest.NewRecorder()
	fake.ServeHTTP(res, req)
	want := fmt.Sprintf(`{"outcome":"cancelled","request_id":%q,"status":"completed"}`, id)
	if got := res.Body.String(); res.Code != http.StatusAccepted || got != want {
		t.Errorf("HTTP %d %s, want 202 %s", res.Code, got, want)
	}
	if again, err := clientOf(fake, "t").Cancel(t.Context(), id); err != nil || again != runcomfy.OutcomeNotCancellable {
		t.Errorf("a second cancel: %q, error %v; want %q", again, err, runcomfy.OutcomeNotCancellable)
	}
}

func TestScriptedFailure(t *testing.T) {
	fake := &runcomfytest.Server{Fetch: pairFiles().fetch, Script: func(modelID string, input map[string]any) runcomfytest.Script {
		if modelID != model || input["sync_mode"] != "loop" {
			t.Errorf("Script received %s %v, want %s with the sync_mode loop", modelID, input, model)
		}
		return runcomfytest.Script{Fail: map[string]any{"message": "no face"}}
	}}
	client := clientOf(fake, "t")
	id := submit(t, client, pair())
	if status, err := client.Status(t.Context(), id); err != nil || status.State != runcomfy.Completed {
		t.Errorf("status %q, error %v; want %q, because only the result shows a failure", status.State, err, runcomfy.Completed)
	}
	result, err := client.Result(t.Context(), id)
	if err != nil || result.State != runcomfy.ResultFailed || result.Failure != "no face" || result.Outputs != nil {
		t.Errorf("result %+v, error %v; want the failure \"no face\" and no outputs", result, err)
	}
}
