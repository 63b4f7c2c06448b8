package workflow_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// The states that an execution enters at each turn: Wait, Poll and Ended?.
const transitionsPerTurn = 3

// turns returns when the turns of a job are that ends at end, the last of them
// the one that finds the end.
func turns(usual, end time.Duration) (count int, last time.Duration) {
	at := time.Duration(workflow.FirstWait) * time.Second
	for count = 1; at < end; count++ {
		at += time.Duration(workflow.Progress{Usual: usual, Elapsed: at}.Wait()) * time.Second
	}
	return count, at
}

// fixedTurns is turns of a loop that always waits for 5 s.
func fixedTurns(end time.Duration) (count int, last time.Duration) {
	const wait = 5 * time.Second
	count = int((end + wait - 1) / wait)
	return count, time.Duration(count) * wait
}

// Over jobs of 30 s to 2 h, as many in each octave, whose usual time is known
// within half, the loop makes at most a third of the transitions that one of a
// fixed 5 s makes, and an end is found at most 5 % of the job's time late, in
// the mean over the jobs.
func TestPaceAgainstAFixedLoop(t *testing.T) {
	const (
		jobs     = 20_000
		shortest = 30 * time.Second
		longest  = 2 * time.Hour
	)
	tests := []struct {
		name  string
		usual func(end, spread float64) float64 // spread is from 0.5 to 1.5
	}{
		{"the usual time is within half of the job's", func(end, spread float64) float64 { return end * spread }},
		{"the job's time is within half of the usual", func(end, spread float64) float64 { return end / spread }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 5))
			var ours, fixed int
			var lateOurs, lateFixed, worst float64
			for range jobs {
				end := time.Duration(float64(shortest) * math.Pow(float64(longest)/float64(shortest), random.Float64()))
				usual := time.Duration(tt.usual(float64(end), 0.5+random.Float64()))
				count, last := turns(usual, end)
				late := float64(last-end) / float64(end)
				ours, lateOurs, worst = ours+count, lateOurs+late/jobs, max(worst, late)
				count, last = fixedTurns(end)
				fixed, lateFixed = fixed+count, lateFixed+float64(last-end)/float64(end)/jobs
			}
			share := float64(ours) / float64(fixed)
			t.Logf("%d jobs: %.1f transitions a job, %.1f in a fixed loop (%.1f %%); found %.2f %% of the job's time late on average, %.1f %% at worst (fixed loop: %.2f %% on average)",
				jobs, float64(transitionsPerTurn*ours)/jobs, float64(transitionsPerTurn*fixed)/jobs, 100*share, 100*lateOurs, 100*worst, 100*lateFixed)
			if share > 1.0/3 {
				t.Errorf("%.1f %% of the transitions of a fixed loop, want at most a third", 100*share)
			}
			if lateOurs > 0.05 {
				t.Errorf("an end is found %.2f %% of the job's time late, want at most 5 %%", 100*lateOurs)
			}
		})
	}
}

// A job of 24 h stays far below what the history of an execution holds.
func TestPaceOfADay(t *testing.T) {
	for _, usual := range []time.Duration{0, 90 * time.Second, time.Hour, 24 * time.Hour} {
		count, _ := turns(usual, 24*time.Hour)
		t.Logf("usually %v: %d turns", usual, count)
		if count >= 2000 {
			t.Errorf("usually %v: %d turns in 24 h, want under 2,000", usual, count)
		}
	}
}
