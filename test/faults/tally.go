package main

import (
	"maps"
	"slices"
	"time"
)

// tally is what was counted in one world, or in all.
type tally struct {
	stories int
	jobs    int // what people made to be one paid run each, as they see it
	charges int // jobs that RunComfy took
	outputs int // files that were archived, each compared with what was served
	calls   int
	passed  time.Duration
	faults  map[string]int
	ends    map[string]int // takes by the state and the code that they ended in
	findings
}

// findings are the broken promises, each in a sentence. All must be empty.
type findings struct {
	// lost: RunComfy took a job and it succeeded, but its outputs do not lie
	// in the bucket byte for byte below the take that paid for them, with a
	// result.json, and no record is left unknown for a reason that RunComfy's
	// API leaves open. Such a reason is a fault between the claim of the take
	// and the record of its request id, in one of the few calls that have a
	// place there: the POST itself, the token before it, and writes of the
	// record. A fault anywhere else is none, so that recording the id a call
	// later than at once is found.
	lost []string

	// chargedTwice: RunComfy took two jobs for one take, which is the same
	// versions of the same files (of a bundle: one job.json), with the same
	// options. Each job after the first is one.
	chargedTwice []string

	// wrongStatus: a record or a status does not say what is so. A record must
	// have ended, as RunComfy's own job did: succeeded exactly with its
	// outputs, failed with RunComfy's failure, cancelled or failed where
	// RunComfy cancelled; unknown only for a reason as above, and without a
	// request id. The status of a name must be about its newest drop and say
	// what the record says; held and waiting only where something is missing;
	// rejected only where RunComfy refused that very take; each with code,
	// reason and remedy. A complete drop without a record or a refusal is one
	// too, and so are a dead letter that stays and a file without an answer.
	wrongStatus []string

	// leaks: the token, or the signature of a presigned URL, in an object of
	// the bucket or in an execution; or sent to the host of an output.
	leaks []string

	// unanswered: in a world where every request to S3 takes its time, a person
	// whose files came together with those of a hostile one has no status.
	unanswered []string
}

// all returns every finding.
func (f findings) all() []string {
	return slices.Concat(f.lost, f.chargedTwice, f.wrongStatus, f.leaks, f.unanswered)
}

func newTally() tally {
	return tally{faults: map[string]int{}, ends: map[string]int{}}
}

func (t *tally) add(other tally) {
	t.stories += other.stories
	t.jobs += other.jobs
	t.charges += other.charges
	t.outputs += other.outputs
	t.calls += other.calls
	t.passed += other.passed
	for kind, n := range other.faults {
		t.faults[kind] += n
	}
	for end, n := range other.ends {
		t.ends[end] += n
	}
	t.lost = append(t.lost, other.lost...)
	t.chargedTwice = append(t.chargedTwice, other.chargedTwice...)
	t.wrongStatus = append(t.wrongStatus, other.wrongStatus...)
	t.leaks = append(t.leaks, other.leaks...)
	t.unanswered = append(t.unanswered, other.unanswered...)
}

// bad reports whether a promise was broken.
func (t tally) bad() bool { return len(t.all()) > 0 }

func sortedKeys(counts map[string]int) []string { return slices.Sorted(maps.Keys(counts)) }
