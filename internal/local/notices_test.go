package local

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

func TestCheckWebhook(t *testing.T) {
	for address, says := range map[string]string{
		"http://127.0.0.1:8000/":     "",
		"http://localhost:8000/a?b":  "",
		"https://[::1]:8000/":        "",
		"http://example.com/":        "only to loopback",
		"http://10.0.0.1/":           "only to loopback",
		"http://127.0.0.1.nip.io/":   "only to loopback",
		"127.0.0.1:8000":             "is not a URL",
		"http:/localhost":            "is not a URL",
		"file:///etc/passwd":         "is not a URL",
		"http://localhost@evil.org/": "only to loopback",
	} {
		err := CheckWebhook(address)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("CheckWebhook(%s) = %v, want an error with %q, or no error if that is empty", address, err, says)
		}
	}
}

// A notice that a function sends reaches the webhook with the webhook's key, even if the webhook
// fails or redirects at first. No redirect is followed.
func TestWebhookReceivesNotices(t *testing.T) {
	type call struct{ path, key, kind, body string }
	calls, responses := make(chan call, 10), []int{http.StatusInternalServerError, http.StatusTemporaryRedirect, http.StatusNoContent}
	tries := 0
	webhook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.URL.Path, r.Header.Get(WebhookKeyHeader), r.Header.Get("Content-Type"), string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(responses[tries])
		tries++
	}))
	defer webhook.Close()
	var noticed []string
	s := &Stack{intakeCtx: t.Context(), options: Options{Webhook: webhook.URL, Notice: func(n events.Notice) { noticed = append(noticed, n.DetailType) }}}
	s.keys.Webhook = "key"
	server := httptest.NewServer(s.bus().Operations().Handler())
	defer server.Close()
	client := eventbridge.NewFromConfig(aws.Config{
		Region: Region, BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	out, err := client.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		{Source: aws.String("lipdrop"), DetailType: aws.String("Job failed"), Detail: aws.String(`{"name": "talk <b>"}`)},
	}})
	if err != nil || out.FailedEntryCount != 0 || len(out.Entries) != 1 || out.Entries[0].EventId == nil {
		t.Fatalf("PutEvents: %+v, %v; want one entry with an id", out, err)
	}
	if len(noticed) != 1 || noticed[0] != "Job failed" {
		t.Errorf("Notice was called for %q, want one Job failed", noticed)
	}
	for range responses {
		got := <-calls
		var event events.Notice
		if err := json.Unmarshal([]byte(got.body), &event); err != nil || event.DetailType != "Job failed" || event.Source != "lipdrop" || string(event.Detail) != `{"name":"talk \u003cb\u003e"}` {
			t.Errorf("the webhook received %s (%v), want the notice that was sent", got.body, err)
		}
		if got.path != "/" || got.key != "key" || got.kind != "application/json" {
			t.Errorf("path %q, key %q, content type %q; want /, key and application/json", got.path, got.key, got.kind)
		}
	}
}
