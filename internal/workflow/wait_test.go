package workflow

import (
	"math"
	"testing"
	"time"
)

// FirstWait is firstWait for the tests of package workflow_test.
const FirstWait = firstWait

func TestWait(t *testing.T) {
	const usual = 100 * time.Second
	tests := []struct {
		name    string
		p       progress
		want    int // seconds
		nearEnd bool
	}{
		{"a run that has just begun", progress{usual: usual, elapsed: time.Second, running: time.Second}, 5, false},
		{"five times the elapsed time", progress{usual: usual, elapsed: 6 * time.Second, running: 6 * time.Second}, 30, false},
		{"until an end is likely", progress{usual: usual, elapsed: 40 * time.Second, running: 40 * time.Second}, 5, false},
		{"a run that began late", progress{usual: usual, elapsed: time.Hour, running: 0}, 173, false},
		{"when an end is likely, the shortest wait", progress{usual: usual, elapsed: 50 * time.Second, running: 50 * time.Second}, 1, true},
		{"in the first minutes, a short wait", progress{usual: usual, elapsed: 110 * time.Second, running: 110 * time.Second}, 3, true},
		{"after three minutes, a longer wait", progress{usual: usual, elapsed: 5 * time.Minute, running: 5 * time.Minute}, 12, true},
		{"after an hour, only one request a turn", progress{usual: usual, elapsed: time.Hour, running: time.Hour}, 173, false},
		{"at most a quarter of an hour", progress{usual: usual, elapsed: 20 * time.Hour, running: 20 * time.Hour}, 900, false},
		{"queued", progress{usual: usual, elapsed: time.Minute, queued: true}, 45, false},
		{"behind four others", progress{usual: usual, elapsed: time.Minute, queued: true, position: 4}, 85, false},
		{"a long queue", progress{usual: usual, elapsed: time.Minute, queued: true, position: 400}, 90, false},
		{"a queue of billions", progress{usual: usual, elapsed: time.Minute, queued: true, position: math.MaxInt32}, 90, false},
		{"the first trouble", progress{usual: usual, elapsed: time.Hour, troubles: 1, jitter: 0.999}, 5, false},
		{"the fifth trouble, with jitter 0", progress{usual: usual, elapsed: time.Hour, troubles: 5}, 40, false},
		{"long trouble", progress{usual: usual, elapsed: time.Hour, troubles: 500, jitter: 0.999}, 900, false},
		{"RunComfy says when to come back", progress{usual: usual, troubles: 1, retryAfter: 2 * time.Minute}, 120, false},
		{"RunComfy asks for more than the longest wait", progress{usual: usual, troubles: 1, retryAfter: time.Hour}, 3600, false},
		{"a job without a usual time, queued", progress{elapsed: time.Minute, queued: true, position: 9}, 3, false},
		{"a job without a usual time, running", progress{elapsed: time.Minute, running: time.Minute}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.wait(); got != tt.want {
				t.Errorf("%d s, want %d s", got, tt.want)
			}
			if got := tt.p.nearEnd(); got != tt.nearEnd {
				t.Errorf("near the end: %t, want %t", got, tt.nearEnd)
			}
		})
	}
}
