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
	notices int // notices that EventBridge accepted
	outputs int // archived files that were compared with what RunComfy served
	calls   int

	passed time.Duration // time on the virtual clock
	faults map[string]int
	ends   map[string]int // number of takes by their last state and code
	findings
}

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
