package workflow

import (
	"math"
	"time"
)

// progress is what a turn of the loop knows about a job when it decides how long to wait.
type progress struct {
	usual   time.Duration // how long a run of the job usually takes; 0 if not known
	elapsed time.Duration // since the job was submitted
	running time.Duration // the longest that the job can have been running; 0 if it is queued

	queued   bool
	position int // how many jobs are ahead in the queue; 0 if not known

	troubles   int           // how many turns in a row, up to now, did not learn the job's state
	retryAfter time.Duration // the wait that RunComfy's last response asks for
	jitter     float64       // in [0, 1): spreads the next turns of many jobs in trouble
}

const (
	// likelyShare is the share of the usual duration before which the job is
	// unlikely to end. The usual duration is only an estimate, and may be wrong by
	// half.
	likelyShare = 0.45

	// Until the end is likely, each wait is at most growth times as long as the time since
	// the submit. Some jobs fail at once, so the first turns follow each other closely.
	growth = 5

	// lateShare is how late a turn may find the end, on average, as a share of the time
	// since the submit. While elapsed is less than lateUntil, this average is at most mostLate.
	lateShare = 0.024
	lateUntil = 6 * time.Minute
	mostLate  = 3 * time.Second

	// promptWait is the longest wait near the end while elapsed is less than promptUntil. Including
	// the time of a response, the end of a typical job is found at most 4 s late.
	promptWait  = 3 * time.Second
	promptUntil = 3 * time.Minute

	// AskEvery is the time between two requests of the same call of poll.
	AskEvery = 3 * time.Second
	// AskFor is the longest time for which one call of poll keeps asking. This costs about half
	// as much as another turn.
	AskFor = 20 * time.Second
	// A call asks several times only if the result of progress.late is less than worthAsking.
	// Otherwise, calls that ask once cost less.
	worthAsking = 40 * time.Second

	// queueShare is the part of the usual duration to wait for each job ahead in the
	// queue, but at most likelyShare for all of them. It is small because RunComfy runs
	// several jobs at once.
	queueShare = 0.1

	minWait = time.Second

	// maxWait is the longest wait, unless RunComfy asks for a longer one. With QueueHours
	// and MaxHours it determines how many events the longest job writes into its history.
	// AWS allows 25,000. See TestLongestJobFitsIntoTheHistory of the poll function.
	maxWait = 15 * time.Minute

	// troubleWait is the longest wait after the first turn that did not learn the job's
	// state, unless RunComfy asks for a longer one. The longest wait doubles with each further
	// such turn, up to maxWait. Jitter shortens a wait by up to half.
	troubleWait = 5 * time.Second
)

// firstWait is how many seconds pass between the submit and the first turn. It is
// short because some jobs fail at once, for example if an input cannot be fetched.
const firstWait = 1

// wait returns how many seconds to wait before the next turn: few if the job is
// likely to end soon, many if the queue is long or RunComfy does not respond.
func (p progress) wait() int {
	if p.troubles > 0 {
		backoff := min(troubleWait<<min(p.troubles-1, 20), maxWait)
		spread := time.Duration((0.5 + p.jitter/2) * float64(backoff))
		return wholeSeconds(max(spread, p.retryAfter))
	}
	late := p.late()
	quiet := p.quiet()
	if p.queued {
		// The time for a very long queue overflows a time.Duration, so float64s are compared.
		quiet += time.Duration(min(queueShare*float64(p.position)*float64(p.usual), float64(quiet)))
	}
	var wait time.Duration
	switch {
	case quiet > 0:
		wait = max(min(growth*p.elapsed, quiet), 2*late)
	case p.nearEnd() && late > AskEvery/2:
		// Each wait is followed by a call that lasts AskFor. So on average, the end is found late by
		// (wait²/2 + AskFor·AskEvery/2) / (wait + AskFor).
		l, ask, every := late.Seconds(), AskFor.Seconds(), AskEvery.Seconds()
		wait = time.Duration((l + math.Sqrt(l*l+2*ask*(l-every/2))) * float64(time.Second))
		if p.elapsed < promptUntil {
			wait = min(wait, promptWait)
		}
	case p.nearEnd():
		wait = minWait
	default:
		wait = 2 * late
	}
	return wholeSeconds(min(wait, maxWait))
}

// nearEnd reports whether the job may end soon, so that poll should ask again before it
// returns. It is false for a queued job: thousands of queued jobs must not occupy functions
// that wait.
func (p progress) nearEnd() bool {
	return !p.queued && p.troubles == 0 && p.quiet() <= 0 && p.late() < worthAsking
}

// quiet returns the time from now in which the job is unlikely to end. If the job may end now,
// the result is not positive.
func (p progress) quiet() time.Duration {
	return time.Duration(likelyShare*float64(p.usual)) - p.running
}

// late returns how late a turn may find the end of the job, on average.
func (p progress) late() time.Duration {
	late := time.Duration(lateShare * float64(p.elapsed))
	if p.elapsed < lateUntil {
		return min(late, mostLate)
	}
	return late
}

// wholeSeconds rounds a wait up to the whole seconds that the Wait state accepts.
func wholeSeconds(d time.Duration) int {
	return int(math.Ceil(max(d, minWait).Seconds()))
}
