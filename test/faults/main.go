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
	"sync/atomic"
)

// jobsOfAWorld is how many jobs share a bucket and a queue.
const jobsOfAWorld = 125

func main() {
	jobs := flag.Int("jobs", 10000, "how many jobs to let pass")
	stories := flag.Int("stories", 10000, "how many stories to tell")
	hostile := flag.Int("hostile", 4*len(hostiles), "how many hostile people to let act among victims")
	short := flag.Int("orders", 0, "how many short stories to tell in three orders each")
	seed := flag.Uint64("seed", 1, "the seed of all that is random")
	shown := flag.Int("shown", 20, "how many findings of a kind to print")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	total := newTally()
	for _, part := range []struct {
		of  func(n int, seed uint64) (tally, error)
		how int
	}{{simulate, *jobs}, {tellStories, *stories}, {attacks, *hostile}, {orders, *short}} {
		found, err := part.of(part.how, *seed)
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

// simulate lets jobs pass, spread over as many worlds as they need, and
// returns what was found in all of them. Worlds know nothing of each other.
func simulate(jobs int, seed uint64) (tally, error) {
	worlds := max((jobs+jobsOfAWorld/2)/jobsOfAWorld, 1)
	return sum(worlds, func(i int) (tally, error) {
		share := jobs*(i+1)/worlds - jobs*i/worlds
		return simulateWorld(share, seed, uint64(i))
	})
}

// tellStories lets stories happen, each in a world of its own, and returns what
// was found in all of them, each finding with its story.
func tellStories(stories int, seed uint64) (tally, error) {
	return sum(stories, func(i int) (tally, error) {
		t, err := tellStory(seed, uint64(i))
		if err != nil {
			return tally{}, err
		}
		for _, list := range [][]string{t.lost, t.chargedTwice, t.wrongStatus, t.leaks} {
			if len(list) > 0 {
				list[len(list)-1] += "\n" + t.text()
			}
		}
		return t.tally, nil
	})
}

// sum adds up what n worlds come to, which know nothing of each other.
func sum(n int, world func(i int) (tally, error)) (tally, error) {
	tallies, errs := make([]tally, n), make([]error, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				tallies[i], errs[i] = world(i)
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
	s.calm(longestJob, byItself)
	s.check()
	return s.tally, nil
}

func (t tally) print(out io.Writer, seed uint64, shown int) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	p("seed %d", seed)
	p("%8d jobs", t.jobs)
	p("%8d stories", t.stories)
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
	}{{"lost", t.lost}, {"charged twice", t.chargedTwice}, {"wrong status", t.wrongStatus}, {"secrets found", t.leaks}, {"victims without a status", t.unanswered}} {
		p("%8d %s", len(f.list), f.name)
		for _, text := range f.list[:min(len(f.list), shown)] {
			p("           %s", text)
		}
	}
}
