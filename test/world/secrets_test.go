package world_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// urlSecret is the query of an https URL in a job.json.
const urlSecret = "sig=canary-of-the-url"

// logged collects every log line of a test.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var lines bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &lines
}

// wantNoSecrets searches for secrets in everything that the functions have written, and in the notices.
// It returns the number of texts that it searched.
func wantNoSecrets(t *testing.T, w *world.World, logs *bytes.Buffer) int {
	t.Helper()
	texts := map[string]string{}
	for i, line := range strings.Split(logs.String(), "\n") {
		texts[fmt.Sprintf("log line %d", i)] = line
	}
	for _, key := range w.Bucket.Keys() {
		if body, _ := w.Bucket.Object(key); !strings.HasPrefix(key, ledger.InboxPrefix) {
			texts[key] = key + string(body)
		}
	}
	for _, e := range w.Executions() {
		whole, err := json.Marshal(e.Execution) // input, output, error, cause and history
		if err != nil {
			t.Fatal(err)
		}
		texts[e.ARN] = e.ARN + string(whole)
	}
	for i, text := range w.Errors {
		texts[fmt.Sprintf("error %d", i)] = text
	}
	for i, n := range w.Notices {
		texts[fmt.Sprintf("notice %d", i)] = fmt.Sprintf("%+v", n)
	}
	for where, text := range texts {
		for _, secret := range []string{world.Token, "X-Amz-", "canary"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s contains the secret %q, want no secret: %s", where, secret, text)
			}
		}
	}
	if n := w.RunComfy.LeakedTokens(); n > 0 {
		t.Errorf("the token was sent to the host of an output %d times, want never", n)
	}
	return len(texts)
}

// talkative returns responses of RunComfy that quote the request with its secrets.
func talkative(call runcomfytest.Call) []runcomfytest.Fault {
	quote := fmt.Sprintf(`could not fetch https://s3.example.com/inbox/a.mp4?%s nor https://media.example.com/talk.mp4?%s with the token %s`, world.Signature, urlSecret, world.Token)
	var all []runcomfytest.Fault
	for _, status := range []int{200, 202, 302, 400, 401, 404, 422, 429, 500, 503} {
		all = append(all,
			runcomfytest.Fault{Name: fmt.Sprintf("%d, quoting", status), Status: status, Body: fmt.Appendf(nil, `{"error_message": %q}`, quote)},
			runcomfytest.Fault{Name: fmt.Sprintf("%d, quoting in plain text", status), Status: status, Body: []byte(quote)},
			runcomfytest.Fault{Name: fmt.Sprintf("%d, quoting in details", status), Status: status, Body: fmt.Appendf(nil, `{"detail": [{"loc": ["body"], "msg": %q}]}`, quote)},
		)
	}
	if call == runcomfytest.CallResult {
		for _, failure := range []any{quote, map[string]any{"message": quote}, []any{map[string]any{"x": []any{quote}}}} {
			all = append(all, runcomfytest.Fault{Name: fmt.Sprintf("failed, quoting as %T", failure), Accept: true, Edit: func(members map[string]any) {
				members["status"], members["error"] = "failed", failure
			}})
		}
	}
	return all
}

// No log line, object outside inbox/, execution, notice or error contains a secret, whatever
// RunComfy returns and whatever people do. The secrets are the token, the query of a
// presigned URL, and the query of an https URL in a job.json.
func TestNoSecretLeaves(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	logs := logged(t)
	searched := 0
	scenario := func(call runcomfytest.Call, fault runcomfytest.Fault, lasts time.Duration, act func(w *world.World)) {
		t.Helper()
		logs.Reset()
		w := newWorld(t)
		w.RunComfy.Queue = 10 * time.Minute
		clip, voice := sample.Files()
		w.Web["https://media.example.com/talk.mp4"] = clip
		hits := faulty(w, call, fault, lasts)
		dropPair(w)
		w.Drop("inbox/ads/web.job/job.json", fmt.Appendf(nil,
			`{"model": "sync/react-1", "input": {"video_url": "https://media.example.com/talk.mp4?%s", "audio_url": "voice.wav"}}`, urlSecret))
		w.Drop("inbox/ads/web.job/voice.wav", voice)
		w.Drop("inbox/ads/wrong.job/job.json", fmt.Appendf(nil,
			`{"model": "sync/react-1", "input": {"video_url": "https://media.example.com/talk.mp4?%s", "audio_ur": "https://media.example.com/a.wav?%s"}}`, urlSecret, urlSecret))
		w.Run(2 * time.Minute)
		if act != nil {
			act(w)
		}
		w.Pass(2*time.Hour + lasts)
		searched += wantNoSecrets(t, w, logs)
		if *hits == 0 {
			t.Errorf("RunComfy received no %s, want at least one", call)
		}
		if t.Failed() {
			t.Fatalf("the fault was %s of %s, for %v", fault.Name, call, lasts)
		}
	}
	stop := func(w *world.World) {
		for _, name := range []string{"ads/talk", "ads/web"} {
			w.Stop(name, w.Status(name).Take)
		}
	}
	remove := func(w *world.World) {
		w.Delete("inbox/ads/talk.wav")
		w.Delete("inbox/ads/web.job/job.json")
	}
	calls := []runcomfytest.Call{runcomfytest.CallSubmit, runcomfytest.CallStatus, runcomfytest.CallResult}
	for _, call := range append(calls, runcomfytest.CallOutput) {
		for _, fault := range runcomfytest.Faults(call) {
			scenario(call, fault, 0, nil)
		}
	}
	for _, call := range calls {
		for i, fault := range talkative(call) {
			lasts := time.Duration(0)
			if i%4 == 0 {
				lasts = 9 * time.Hour // longer than QueueHours, and than all retries of archive
			}
			scenario(call, fault, lasts, nil)
		}
	}
	scenario(runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallStatus, "unknown request"), 0, nil) // not one of Faults(CallSubmit)
	for i, fault := range append(runcomfytest.Faults(runcomfytest.CallCancel), talkative(runcomfytest.CallCancel)...) {
		scenario(runcomfytest.CallCancel, fault, 0, remove)
		if i%4 == 0 {
			scenario(runcomfytest.CallCancel, fault, 21*time.Hour, stop) // longer than all retries of cancel
		}
	}
	none := runcomfytest.Fault{}
	for _, secret := range []string{"", "canary of another account", `{"token": "canary`, `{"token": ["canary"]}`, "canary\nof two lines", `{"tokn": "canary"}`} {
		scenario(runcomfytest.CallModel, none, 0, func(w *world.World) {
			w.Secret = secret
			stop(w)
		})
	}
	scenario(runcomfytest.CallModel, none, 0, func(w *world.World) {
		w.Before = worldtest.FailIf(world.Throttled, func(c world.Call) bool { return c.Service == "s3" && c.Op == "PutObject" })
	})
	if searched < 10_000 {
		t.Errorf("%d texts were searched, want at least 10,000", searched)
	}
}

// RunComfy fetches an input when the job starts, and the fetch fails. RunComfy's error
// quotes the whole URL, but the status leaves out the query of the URL.
func TestNoSecretLeavesByAFailedFetch(t *testing.T) {
	logs := logged(t)
	w := newWorld(t)
	w.RunComfy.FetchAtStart = true
	_, voice := sample.Files()
	w.Drop("inbox/ads/web.job/job.json", fmt.Appendf(nil,
		`{"model": "sync/react-1", "input": {"video_url": "https://media.example.com/gone.mp4?%s", "audio_url": "voice.wav"}}`, urlSecret))
	w.Drop("inbox/ads/web.job/voice.wav", voice)
	rest(t, w)
	st := wantStatus(t, w, "ads/web", ledger.Failed, problem.JobFailed)
	if !strings.Contains(st.Reason, "could not download video_url from https://media.example.com/gone.mp4") {
		t.Errorf("reason %q, want one with the URL up to its query", st.Reason)
	}
	wantNoSecrets(t, w, logs)
}
