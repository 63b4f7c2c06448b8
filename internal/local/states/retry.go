package states

import (
	"math"
	"slices"
	"time"
)

// retrier is one entry of a Task's Retry.
type retrier struct {
	errorEquals []string
	interval    time.Duration
	maxAttempts int
	backoffRate float64
	maxDelay    time.Duration // 0: none
	fullJitter  bool
}

// matches says whether the retrier is for an error of that name. States.ALL
// leaves out what no retry can mend, and States.TaskFailed leaves out the
// timeout too.
func (r retrier) matches(name string) bool {
	terminal := name == errRuntime || name == errDataLimitExceeded
	return slices.Contains(r.errorEquals, name) ||
		!terminal && slices.Contains(r.errorEquals, errAll) ||
		!terminal && name != errTimeout && slices.Contains(r.errorEquals, errTaskFailed)
}

// delay is how long to wait before the next attempt when the retrier has made
// that many: IntervalSeconds times BackoffRate for each, at most
// MaxDelaySeconds, and with full jitter anything between nothing and that.
// random gives numbers from 0 up to 1. The result is in whole milliseconds.
func (r retrier) delay(made int, random func() float64) time.Duration {
	// The longest wait of the States Language keeps a product without a
	// MaxDelaySeconds inside a Duration.
	longest := maxSeconds * time.Second
	if r.maxDelay > 0 {
		longest = r.maxDelay
	}
	seconds := min(r.interval.Seconds()*math.Pow(r.backoffRate, float64(made)), longest.Seconds())
	if r.fullJitter {
		seconds *= random()
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}
