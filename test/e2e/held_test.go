package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// A job that RunComfy refuses once with 429 is submitted long before the queue's own 12
// minutes have passed, and is charged once. On an idle machine this takes 2 to 5 s with
// the Retry-After below, and 4 to 15 s without one.
func TestThrottledSubmit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
	}{
		{"with Retry-After", http.Header{"Retry-After": {"2"}}},
		{"without Retry-After", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, local.Options{})
			var refused atomic.Int64 // when, in nanoseconds
			s.Fake().Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				if call, _ := runcomfytest.CallOf(r); call != runcomfytest.CallSubmit || !refused.CompareAndSwap(0, time.Now().UnixNano()) {
					return nil
				}
				return &runcomfytest.Fault{Status: http.StatusTooManyRequests, Header: tt.header}
			}
			s.drop("inbox/talk.mp4", sampleFile(t, "clip.mp4"))
			s.drop("inbox/talk.wav", sampleFile(t, "voice.wav"))
			s.status("talk", func(st ledger.Status) bool { return st.State == ledger.Succeeded })
			if refused.Load() == 0 {
				t.Error("RunComfy refused nothing")
			}
			if charges := s.Fake().Charges(); charges != 1 {
				t.Errorf("%d charges, want 1", charges)
			}
		})
	}
}
