package main

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// tally holds the counts of one world or of all worlds.
type tally struct {
	stories int
	jobs    int // paid runs that people ask for
	charges int // jobs that RunComfy accepted
	notices int // that EventBridge accepted
	outputs int // archived files that were compared with what RunComfy served
	calls   int

	passed time.Duration // on the virtual clock
	faults map[string]int
	ends   map[string]int // number of takes by their last state and code
	findings
}

// promise is a promise that can be broken.
type promise string

const (
	// lost: a job succeeded at RunComfy, but its outputs or its result.json are
	// not stored below the take that paid for them. Outputs must be equal byte
	// for byte. A job is not lost if the record of its take ended as unknown
	// because of a fault between the claim and the record of the request id.
	lost promise = "lost"

	// chargedTwice: RunComfy accepted more than one job for the same versions of
	// the same files with the same options. Each job after the first is a
	// finding.
	chargedTwice promise = "charged twice"

	// wrongStatus: a record or a status is wrong. Each record must have ended as
	// RunComfy's job did: failed if the job failed, cancelled or failed without a charge
	// if RunComfy cancelled it. (If the job succeeded, see lost.) A record may be unknown
	// only because of a fault as above, and then it has no request id. The status of
	// a name must be about its newest drop and agree with the record. It may be
	// waiting only if a file is missing, and rejected only if RunComfy refused that
	// take or, in a story, if something is wrong with the files. Such a status must have
	// a code, a reason and a remedy. These are findings too: a complete drop without a
	// record or a refusal, a dead letter that is left, a stray file without an answer
	// file, a notice that says what no status, answer file or record ever said, and a
	// final status or record without a notice.
	wrongStatus promise = "wrong status"

	// leaked: an object outside inbox/, a notice or an execution contains the token or
	// the signature of a presigned URL, or the token was sent to the host of an output.
	leaked promise = "secrets found"

	// noStatus: a victim has no status, or is waiting, although its files are
	// there; or its message became a dead letter. Victims drop their files at the
	// same time as a hostile person, in a world in which each request to S3 takes
	// some time.
	noStatus promise = "victims without a status"

	// overCap: RunComfy accepted a job that exceeds a cap of the day on which its take was
	// claimed, or the book of that day is wrong: a job that RunComfy accepted is missing, a
	// take that is not charged is there although its outcome is known, or its numbers differ
	// from the records. Jobs that RunComfy cancelled before they started do not count. Half
	// of the worlds of jobs have caps. Stories have a cap that no story reaches, so only
	// their books are checked.
	overCap promise = "over the cap"
)

var promises = []promise{lost, chargedTwice, wrongStatus, leaked, noStatus, overCap}

// findings are the broken promises, one sentence each.
type findings map[promise][]string

// found adds a finding.
func (f findings) found(broken promise, format string, args ...any) {
	f[broken] = append(f[broken], fmt.Sprintf(format, args...))
}

func (f findings) wrong(format string, args ...any) { f.found(wrongStatus, format, args...) }

// all returns every finding.
func (f findings) all() []string {
	var all []string
	for _, p := range promises {
		all = append(all, f[p]...)
	}
	return all
}

func newTally() tally {
	return tally{faults: map[string]int{}, ends: map[string]int{}, findings: findings{}}
}

func (t *tally) add(other tally) {
	t.stories += other.stories
	t.jobs += other.jobs
	t.charges += other.charges
	t.outputs += other.outputs
	t.notices += other.notices
	t.calls += other.calls
	t.passed += other.passed
	for kind, n := range other.faults {
		t.faults[kind] += n
	}
	for end, n := range other.ends {
		t.ends[end] += n
	}
	for p, list := range other.findings {
		t.findings[p] = append(t.findings[p], list...)
	}
}

// bad reports whether a promise was broken.
func (t tally) bad() bool { return len(t.all()) > 0 }

func sortedKeys(counts map[string]int) []string { return slices.Sorted(maps.Keys(counts)) }
