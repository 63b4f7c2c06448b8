package main

import (
	"fmt"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// lambdaLimit is how many calls of functions AWS runs at the same time in an account and
// region, by default. In a new account it is often only 10.
const lambdaLimit = 1000

// crowd is a world with many jobs, in which Lambda refuses a call if too many others
// run. Nothing else fails.
type crowd struct {
	*simulation
	limit   int
	running map[int]time.Time // by invocation: when each running call began
	polls   int               // how many of them are calls of poll
	ending  []endingCall      // the calls whose function has returned, in that order

	longest     time.Duration // the longest call of poll
	whileQueued time.Duration // the longest call of poll while all jobs were queued
}

// endingCall is a call whose function has returned. On the virtual clock, a function
// that does not sleep takes no time, so its call still counts until a later time.
type endingCall struct {
	invocation int
	isPoll     bool
	until      time.Time
}

// callTime is how long a call counts after its function has returned.
const callTime = 500 * time.Millisecond

// crowds runs a number of jobs in one world.
func crowds(jobs int, seed uint64) (tally, error) {
	if jobs == 0 {
		return newTally(), nil
	}
	c, err := gather(jobs, lambdaLimit, seed)
	if err != nil {
		return tally{}, err
	}
	return c.tally, nil
}

// gather runs a number of pairs in one world. The jobs of the first half wait in
// RunComfy's queue for hours. RunComfy runs the others at once.
func gather(jobs, limit int, seed uint64) (*crowd, error) {
	s, err := newWorld(seed, 0)
	if err != nil {
		return nil, err
	}
	c := &crowd{simulation: s, limit: limit, running: map[int]time.Time{}}
	s.w.Batch = queueBatch
	s.w.Before, s.w.After = c.before, c.after
	s.w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		script := runcomfytest.Script{Run: s.between(30*time.Second, 3*time.Minute)}
		if len(s.drops) <= jobs/2 {
			script.Queue = s.between(time.Hour, 4*time.Hour)
		}
		return script
	}
	for s.jobs < jobs {
		if s.jobs == jobs/2 {
			s.w.Pass(10 * time.Minute)
			c.whileQueued = c.longest
		}
		name := fmt.Sprintf("crowd/%05d", s.jobs)
		files := []string{ledger.InboxPrefix + name + ".mp4", ledger.InboxPrefix + name + ".wav"}
		s.drops = append(s.drops, &drop{kind: pair, name: name, files: files, jobs: []job{{name, files}}})
		s.jobs++
		s.w.Drop(files[0], s.clip)
		s.w.Drop(files[1], s.voice)
		s.w.Pass(25 * time.Millisecond)
	}
	s.w.Pass(24 * time.Hour)
	s.passed = s.since()
	s.check()
	for _, text := range s.w.Errors {
		s.wrong("a function returned an error: %s", text)
	}
	return c, nil
}

func (c *crowd) before(call world.Call) error {
	if call.Service != "lambda" {
		return nil
	}
	now := c.w.Now()
	for len(c.ending) > 0 && !now.Before(c.ending[0].until) {
		delete(c.running, c.ending[0].invocation)
		if c.ending[0].isPoll {
			c.polls--
		}
		c.ending = c.ending[1:]
	}
	if len(c.running) >= c.limit {
		c.faults["lambda: too many calls at once"]++
		return world.ErrLambda
	}
	c.calls++
	c.running[call.Invocation] = now
	if call.Function == "poll" {
		c.polls++
		c.mostPolls = max(c.mostPolls, c.polls)
	}
	return nil
}

func (c *crowd) after(call world.Call) error {
	if call.Service != "lambda" {
		return nil
	}
	isPoll, now := call.Function == "poll", c.w.Now()
	if isPoll {
		c.longest = max(c.longest, now.Sub(c.running[call.Invocation]))
	}
	c.ending = append(c.ending, endingCall{call.Invocation, isPoll, now.Add(callTime)})
	return nil
}
