package workflow

import (
	"math"
	"time"
)

// Progress is what a turn knows about a job when it decides how long to wait.
type Progress struct {
	Usual   time.Duration // how long a run of the model usually takes; 0 if not known
	Elapsed time.Duration // since the job was submitted

	Queued   bool
	Position int // how many jobs are ahead in the queue; 0 if not known

	Troubles   int           // the last turns in a row that did not learn the job's state
	RetryAfter time.Duration // the wait that RunComfy's last response asks for
	Jitter     float64       // in [0, 1): spreads the next turns of many jobs in trouble
}

const (
	// likelyShare is the share of the usual duration before which the job is
	// unlikely to end. The usual duration is only an estimate, and may be wrong by
	// half.
	likelyShare = 0.5

	// elapsedShare is the wait as a share of the time since the submit. On average a
	// turn finds the end half a wait late, which is 4 % of the job's time. The
	// number of turns grows with the logarithm of that time until maxWait is
	// reached.
	elapsedShare = 0.08

	// queueShare is the part of the usual duration to wait for each job ahead in
	// the queue. It is small because RunComfy runs several jobs at once.
	queueShare = 0.1

	minWait = time.Second

	// maxWait is the longest wait. With QueueHours and MaxHours it determines how
	// many events the history of an execution can hold. AWS allows 25,000. See
	// TestLongestJobFitsIntoTheHistory of the poll function.
	maxWait = 15 * time.Minute

	// troubleWait is the wait after the first turn that did not learn the job's
	// state. It doubles up to maxWait.
	troubleWait = 5 * time.Second
)

// FirstWait is how many seconds pass between the submit and the first turn. It is
// short because some jobs fail at once, for example if an input cannot be fetched.
const FirstWait = 1

// Wait returns how many seconds to wait before the next turn: few if the job is
// likely to end soon, many if the queue is long or RunComfy does not respond.
func (p Progress) Wait() int {
	if p.Troubles > 0 {
		backoff := min(troubleWait<<min(p.Troubles-1, 20), maxWait)
		spread := time.Duration((0.5 + p.Jitter/2) * float64(backoff))
		return wholeSeconds(max(spread, p.RetryAfter))
	}
	likely := time.Duration(likelyShare * float64(p.Usual))
	if p.Elapsed < likely {
		// The elapsed time doubles at each turn, until the end is likely.
		return wholeSeconds(min(p.Elapsed, likely-p.Elapsed))
	}
	wait := time.Duration(elapsedShare * float64(p.Elapsed))
	if p.Queued {
		// The job cannot end before those ahead have started and it has run.
		ahead := time.Duration(queueShare * float64(p.Position) * float64(p.Usual))
		wait = max(wait, min(ahead, likely))
	}
	return wholeSeconds(wait)
}

// wholeSeconds limits a wait to minWait and maxWait and rounds it up to the whole
// seconds that the Wait state accepts.
func wholeSeconds(d time.Duration) int {
	return int(math.Ceil(min(max(d, minWait), maxWait).Seconds()))
}
