package workflow

import (
	"math"
	"time"
)

// Progress is what is known of a job when the time to the next turn is chosen.
type Progress struct {
	Usual   time.Duration // how long a run of the model usually takes; 0 when not known
	Elapsed time.Duration // since the job was submitted

	Queued   bool
	Position int // how many are ahead in the queue; 0 when not told

	Troubles   int           // turns in a row without an answer
	RetryAfter time.Duration // what the last answer asked for
	Jitter     float64       // in [0, 1): spreads the turns of many jobs in trouble
}

const (
	// likelyShare is the part of the usual duration before which an end is not
	// likely: the usual duration is known within half of it.
	likelyShare = 0.5

	// elapsedShare is the wait as a part of the time that has passed. The end
	// is found half a wait late on average, which costs four percent of the
	// job's time, and the number of turns grows with the logarithm of that time
	// until maxWait counts: a job of 24 h takes about 160.
	elapsedShare = 0.08

	// queueShare is the part of the usual duration that each job ahead in the
	// queue is good for. RunComfy runs several at once, so it is small.
	queueShare = 0.1

	minWait = time.Second
	maxWait = 15 * time.Minute

	// troubleWait is the first wait in trouble. It doubles up to maxWait.
	troubleWait = 5 * time.Second
)

// FirstWait is how many seconds pass between the submit and the first turn. A
// job that fails at once, over an input that cannot be fetched say, is found
// at once.
const FirstWait = 1

// Wait returns how many seconds to wait before the next turn: few when an end
// is likely, many when the queue is long or RunComfy is in trouble.
func (p Progress) Wait() int {
	if p.Troubles > 0 {
		backoff := min(troubleWait<<min(p.Troubles-1, 20), maxWait)
		spread := time.Duration((0.5 + p.Jitter/2) * float64(backoff))
		return wholeSeconds(max(spread, p.RetryAfter))
	}
	likely := time.Duration(likelyShare * float64(p.Usual))
	if p.Elapsed < likely {
		// Twice the time at each turn, up to where an end is likely.
		return wholeSeconds(min(p.Elapsed, likely-p.Elapsed))
	}
	wait := time.Duration(elapsedShare * float64(p.Elapsed))
	if p.Queued {
		// It cannot end before those ahead have moved on and it has run.
		ahead := time.Duration(queueShare * float64(p.Position) * float64(p.Usual))
		wait = max(wait, min(ahead, likely))
	}
	return wholeSeconds(wait)
}

// wholeSeconds rounds a wait up to what the Wait state takes.
func wholeSeconds(d time.Duration) int {
	return int(math.Ceil(min(max(d, minWait), maxWait).Seconds()))
}
