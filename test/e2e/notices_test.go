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
// webhook. The hourly sweep sends none again. The job that RunComfy refuses once with 429 is charged once.
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
	// Unless submit changes the visibility itself, the held job is delivered again too late.
	s := start(t, local.Options{Notice: sent.add, Webhook: webhook.URL, Visibility: 12 * time.Minute})
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
	video, voice := sample.Files()
	for _, name := range []string{"good", "fails", "deleted", "lost"} {
		s.DropPair("ads/" + name)
	}
	s.Drop("inbox/ads/held.mp4", video)
	s.Await("ads/held", func(st ledger.Status) bool { return st.State == ledger.Waiting }) // so that no other message can retry the held job
	s.Drop("inbox/ads/held.wav", voice)
	s.Drop("inbox/ads/wrong.wav", voice)
	s.Drop("inbox/ads/wrong.mp4", []byte("no video"))
	s.Drop("inbox/ads/notes.txt", []byte("text"))
	s.Await("ads/deleted", func(st ledger.Status) bool { return st.State == ledger.InQueue })
	s.Remove("inbox/ads/deleted.wav")
	for _, name := range []string{"good", "fails", "deleted", "lost", "held", "wrong"} {
		s.Await("ads/"+name, ended)
	}
	if charges := s.Fake().Charges(); charges != 4 {
		t.Errorf("%d charges, want 4: of good, fails, deleted and held", charges)
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
