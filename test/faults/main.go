// Command faults tests the promises of docs/reliability.md by simulation:
//
//	go run ./test/faults -jobs 10000 -seed 1
//
// It has three parts:
//   - Thousands of jobs pass through the four handlers, the shipped state machine and the fake
//     RunComfy on a virtual clock, while everything around them fails at random. Then the faults
//     stop, the dead letters and failed executions are redriven, and the command compares the
//     end of each job with what the fake charged and served.
//   - In each story, people do a few things to one or two names, with at most one fault.
//   - A hostile person drops files that are expensive to assess, among other people's drops.
//
// The same flags give the same run. The exit status is 0 only if there are no
// findings. oracle.go says what is checked and what each finding means.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// jobsOfAWorld is the approximate number of jobs in a world.
const jobsOfAWorld = 125

func main() {
	jobs := flag.Int("jobs", 10000, "number of jobs to simulate")
	stories := flag.Int("stories", 10000, "number of stories to run")
	hostile := flag.Int("hostile", 4*len(hostiles), "number of hostile people to simulate")
	seed := flag.Uint64("seed", 1, "seed of the random numbers")
	shown := flag.Int("shown", 20, "largest number of findings of each kind to print")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	total := newTally()
	for _, part := range []struct {
		run   func(n int, seed uint64) (tally, error)
		count int
	}{{simulate, *jobs}, {tellStories, *stories}, {attack, *hostile}} {
		found, err := part.run(part.count, *seed)
		if err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		total.add(found)
	}
	total.print(os.Stdout, *seed, *shown)
	if total.bad() {
		os.Exit(1)
	}
}

// simulate simulates jobs in as many worlds as needed and returns the sum of the
// tallies. The worlds are independent.
func simulate(jobs int, seed uint64) (tally, error) {
	worlds := max((jobs+jobsOfAWorld/2)/jobsOfAWorld, min(jobs, 1)) // rounded, but one world for a few jobs
	return sum(worlds, func(i int) (tally, error) {
		share := jobs*(i+1)/worlds - jobs*i/worlds
		s, err := newSimulation(share, seed, uint64(i))
		if err != nil {
			return tally{}, err
		}
		s.chaos()
		s.end()
		return s.tally, nil
	})
}

// tellStories runs stories, each in its own world, and returns the sum of the
// tallies. If a story has findings, its text follows the last finding of each kind.
func tellStories(stories int, seed uint64) (tally, error) {
	return sum(stories, func(i int) (tally, error) {
		t, err := tellStory(seed, uint64(i))
		if err != nil {
			return tally{}, err
		}
		for _, list := range t.findings {
			list[len(list)-1] += "\n" + t.text()
		}
		return t.tally, nil
	})
}

// attack lets n hostile people act, each in a world with victims.
func attack(n int, seed uint64) (tally, error) {
	return sum(n, func(i int) (tally, error) { return attackWorld(seed, uint64(i), hostileTime) })
}

// sum runs n independent worlds and adds up their tallies.
func sum(n int, world func(i int) (tally, error)) (tally, error) {
	tallies := make([]tally, n)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		group.Go(func() (err error) {
			if tallies[i], err = world(i); err != nil {
				err = fmt.Errorf("world %d: %w", i, err)
			}
			return err
		})
	}
	err := group.Wait()
	total := newTally()
	for _, one := range tallies {
		total.add(one)
	}
	return total, err
}

func (t tally) print(out io.Writer, seed uint64, shown int) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	p("seed %d", seed)
	p("%8d jobs", t.jobs)
	p("%8d stories", t.stories)
	p("%8d virtual days", int(t.passed.Hours()/24))
	p("%8d calls that the functions made", t.calls)
	all := 0
	for _, n := range t.faults {
		all += n
	}
	p("%8d faults:", all)
	for _, kind := range sortedKeys(t.faults) {
		p("%16d  %s", t.faults[kind], kind)
	}
	p("         ends:")
	for _, end := range sortedKeys(t.ends) {
		p("%16d  %s", t.ends[end], end)
	}
	p("%8d charges", t.charges)
	p("%8d outputs", t.outputs)
	p("%8d notices", t.notices)
	for _, broken := range promises {
		list := t.findings[broken]
		p("%8d %s", len(list), broken)
		for _, text := range list[:max(0, min(len(list), shown))] {
			p("           %s", text)
		}
	}
}

// tally holds the counts of one world or of all worlds.
type tally struct {
	stories int
	jobs    int // takes that the drops ask for, without the drops of stories and of hostile people
	charges int // jobs that RunComfy accepted
	notices int // notices that EventBridge accepted
	outputs int // archived files that were compared with what RunComfy served
	calls   int // calls that the functions made

	passed time.Duration // time on the virtual clock
	faults map[string]int
	ends   map[string]int // number of takes by their last state and code
	findings
}

// findings holds the texts of the findings, by the promise that is broken.
type findings map[promise][]string

func (f findings) found(broken promise, format string, args ...any) {
	f[broken] = append(f[broken], fmt.Sprintf(format, args...))
}

func (f findings) wrong(format string, args ...any) { f.found(wrongStatus, format, args...) }

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
