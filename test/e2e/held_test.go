package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// If RunComfy refuses a job once with 429, submit tries again long before the queue's visibility
// timeout ends. The job is charged once.
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
			s := start(t, local.Options{Visibility: 12 * time.Minute})
			var refused atomic.Bool
			s.Fake().Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
				if call, _ := runcomfytest.CallOf(r); call != runcomfytest.CallSubmit || !refused.CompareAndSwap(false, true) {
					return nil
				}
				return &runcomfytest.Fault{Status: http.StatusTooManyRequests, Header: tt.header}
			}
			clip, voice := sample.Files()
			s.drop("inbox/talk.mp4", clip)
			s.status("talk", func(st ledger.Status) bool { return st.State == ledger.Waiting }) // otherwise the video's message could submit the job after the refusal
			s.drop("inbox/talk.wav", voice)
			s.status("talk", func(st ledger.Status) bool { return st.State == ledger.Succeeded })
			if !refused.Load() {
				t.Error("RunComfy refused nothing")
			}
			if charges := s.Fake().Charges(); charges != 1 {
				t.Errorf("%d charges, want 1", charges)
			}
		})
	}
}

// The functions of a local stack hold the second job of a day if MaxJobsPerDay is 1.
func TestCapOnTheStack(t *testing.T) {
	t.Parallel()
	s := start(t, local.Options{Variables: map[string]string{"MAX_JOBS_PER_DAY": "1"}})
	if now := time.Now(); budget.Day(now) != budget.Day(now.Add(patience)) {
		t.Skip("the two jobs may be submitted on different days")
	}
	clip, voice := sample.Files()
	for _, name := range []string{"one", "two"} {
		s.drop("inbox/"+name+".mp4", clip)
		s.drop("inbox/"+name+".wav", voice)
	}
	held := func(st ledger.Status) bool { return st.State == ledger.Held && st.Code == problem.OverBudget }
	states := map[ledger.State]bool{}
	for _, name := range []string{"one", "two"} {
		st := s.status(name, func(st ledger.Status) bool { return st.State == ledger.Succeeded || held(st) })
		states[st.State] = true
		if st.EstimateUSD == nil {
			t.Errorf("%s has no estimate", name)
		}
	}
	if charges := s.Fake().Charges(); charges != 1 || !states[ledger.Held] || !states[ledger.Succeeded] {
		t.Errorf("%d charges, states %v; want 1, one succeeded and one held", charges, states)
	}
}
