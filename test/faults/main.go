// Command faults is the simulation of promises 2 to 4: it lets thousands of
// jobs pass through the four handlers, the shipped state machine and the fake
// RunComfy on a virtual clock, while everything around them fails at random;
// then the faults cease, what is to be redriven is redriven, and the end of
// each job is compared with what the fake charged and served.
//
//	go run ./test/faults -jobs 10000 -seed 1
//
// The same seed gives the same run. The exit status is 0 only when no job was
// lost, none charged twice, none has a wrong status and no secret was found;
// what these mean is written at type findings.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
)

// jobsOfAWorld is how many jobs share a bucket and a queue.
const jobsOfAWorld = 125

func main() {
	jobs := flag.Int("jobs", 10000, "how many jobs to let pass")
	seed := flag.Uint64("seed", 1, "the seed of all that is random")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	total, err := simulate(*jobs, *seed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	total.print(os.Stdout, *seed)
	if total.bad() {
		os.Exit(1)
	}
}

// simulate lets jobs pass, spread over as many worlds as they need, and
// returns what was found in all of them. Worlds know nothing of each other.
func simulate(jobs int, seed uint64) (tally, error) {
	worlds := max((jobs+jobsOfAWorld/2)/jobsOfAWorld, 1)
	tallies, errs := make([]tally, worlds), make([]error, worlds)
	var next sync.Mutex
	at := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		at++
		return at - 1
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := take(); i < worlds; i = take() {
				share := jobs*(i+1)/worlds - jobs*i/worlds
				tallies[i], errs[i] = simulateWorld(share, seed, uint64(i))
			}
		})
	}
	workers.Wait()
	total := newTally()
	for i := range tallies {
		if errs[i] != nil {
			return total, fmt.Errorf("world %d: %w", i, errs[i])
		}
		total.add(tallies[i])
	}
	return total, nil
}

// simulateWorld lets the jobs of one world pass.
func simulateWorld(jobs int, seed, number uint64) (tally, error) {
	s, err := newSimulation(jobs, seed, number)
	if err != nil {
		return tally{}, err
	}
	s.chaos()
	s.calm()
	s.check()
	return s.tally, nil
}

// maxShown is how many findings of a kind are printed.
const maxShown = 20

func (t tally) print(out io.Writer, seed uint64) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	p("seed %d", seed)
	p("%8d jobs", t.jobs)
	p("%8d virtual days", int(t.passed.Hours()/24))
	p("%8d calls of the functions", t.calls)
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
	for _, f := range []struct {
		name string
		list []string
	}{{"lost", t.lost}, {"charged twice", t.chargedTwice}, {"wrong status", t.wrongStatus}, {"secrets found", t.leaks}} {
		p("%8d %s", len(f.list), f.name)
		for _, text := range f.list[:min(len(f.list), maxShown)] {
			p("           %s", text)
		}
	}
}
