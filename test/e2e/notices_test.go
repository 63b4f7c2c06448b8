package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// received collects notices.
type received struct {
	mu   sync.Mutex
	said []string
}

func (r *received) add(n events.Notice) {
	var detail notice.Detail
	if err := json.Unmarshal(n.Detail, &detail); err != nil {
		detail.Name = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, n.DetailType+": "+detail.Name)
}

func (r *received) sorted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.said))
}

// The functions send one notice for each hold, each rejection and each end. Each notice reaches the
// webhook. The hourly sweep sends none again.
func TestNoticeOfEachEnd(t *testing.T) {
	sent, delivered := &received{}, &received{}
	webhook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var n events.Notice
		if err := json.Unmarshal(body, &n); err != nil || r.Header.Get(local.WebhookKeyHeader) == "" {
			t.Errorf("the webhook received %s (%v)", body, err)
		}
		delivered.add(n)
	}))
	defer webhook.Close()
	s := start(t, local.Options{Notice: sent.add, Webhook: webhook.URL})
	s.Fake().Script = func(_ string, input map[string]any) runcomfytest.Script {
		address, _ := input["video_url"].(string)
		switch {
		case strings.Contains(address, "/fails.mp4"):
			return runcomfytest.Script{Fail: "no face"}
		case strings.Contains(address, "/deleted.mp4"):
			return runcomfytest.Script{Queue: time.Hour}
		}
		return runcomfytest.Script{}
	}
	held := false
	s.Fake().Fault = func(r *http.Request, body []byte) *runcomfytest.Fault {
		call, _ := runcomfytest.CallOf(r)
		switch {
		case call != runcomfytest.CallSubmit:
		case bytes.Contains(body, []byte("/lost.mp4")):
			return &runcomfytest.Fault{Status: http.StatusBadGateway}
		case bytes.Contains(body, []byte("/held.mp4")) && !held:
			held = true
			return &runcomfytest.Fault{Status: http.StatusTooManyRequests}
		}
		return nil
	}
	clip, voice := sample.Files()
	for _, name := range []string{"good", "fails", "deleted", "lost", "held"} {
		s.drop("inbox/ads/"+name+".wav", voice)
		s.drop("inbox/ads/"+name+".mp4", clip)
	}
	s.drop("inbox/ads/wrong.wav", voice)
	s.drop("inbox/ads/wrong.mp4", []byte("no video"))
	s.drop("inbox/ads/notes.txt", []byte("text"))
	s.status("ads/deleted", func(st ledger.Status) bool { return st.State == ledger.InQueue })
	if _, err := s.S3().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: aws.String("inbox/ads/deleted.wav")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"good", "fails", "deleted", "lost", "held", "wrong"} {
		s.status("ads/"+name, ended)
	}
	want := []string{
		"Job cancelled: ads/deleted", "Job failed: ads/fails", "Job held: ads/held", "Job rejected: ads/notes.txt", "Job rejected: ads/wrong",
		"Job succeeded: ads/good", "Job succeeded: ads/held", "Job unknown: ads/lost",
	}
	for deadline := time.Now().Add(patience); len(delivered.sorted()) < len(want) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close() // ends what is under way, so that nothing is sent afterwards
	for name, got := range map[string]*received{"functions sent": sent, "webhook received": delivered} {
		if diff := cmp.Diff(want, got.sorted()); diff != "" {
			t.Errorf("what the %s (-want +got):\n%s", name, diff)
		}
	}
}
