package main

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// simulation is one world with the actions of people and the faults in it.
type simulation struct {
	tally
	w *world.World

	// The three random sources are separate, so that more faults do not change
	// what people do.
	plans, dice, jitter *rand.Rand

	clip, voice []byte
	contents    int // number of files that bodyOf has made
	drops       []*drop
	actions     []action

	// rate multiplies the probability of each fault in this world.
	rate       float64
	outages    []outage
	calmed     bool
	depth      int                // number of functions that are paused while another function runs
	failing    map[world.Call]int // how many more times a call will fail
	tokens     int                // how often the token was rotated
	openClaims map[int]string     // by invocation: the key of the record that it has claimed, until it resolves the claim
	excused    map[string]bool    // records that may end as unknown
	refused    map[string]bool    // records whose job RunComfy refused
	unsent     map[string]bool    // keys of statuses whose notice EventBridge once did not accept
	caps       capCheck
}

// newEmptySimulation returns a simulation without actions and without faults.
func newEmptySimulation(seed, number uint64) (*simulation, error) {
	s := &simulation{
		tally:   newTally(),
		plans:   rand.New(rand.NewPCG(seed, number*3)),
		dice:    rand.New(rand.NewPCG(seed, number*3+1)),
		jitter:  rand.New(rand.NewPCG(seed, number*3+2)),
		failing: map[world.Call]int{}, openClaims: map[int]string{}, excused: map[string]bool{}, refused: map[string]bool{}, unsent: map[string]bool{},
	}
	var err error
	if s.w, err = world.New(s.jitter.Float64); err != nil {
		return nil, err
	}
	s.clip, s.voice = sample.Files()
	s.w.RunComfy.Token = s.token()
	s.repairAccount()
	return s, nil
}

// newSimulation returns a simulation with planned actions and faults.
func newSimulation(jobs int, seed, number uint64) (*simulation, error) {
	s, err := newEmptySimulation(seed, number)
	if err != nil {
		return nil, err
	}
	s.rate = []float64{0.3, 1, 1, 3}[s.plans.IntN(4)]
	s.w.Batch = 1 + s.plans.IntN(10)
	s.w.RunComfy.FetchAtStart = s.chance(0.5)
	s.w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return s.script() }
	if s.chance(0.5) {
		s.setCaps(s.randomCaps(jobs))
	}
	s.w.RunComfy.Fault = s.fault
	s.w.Before, s.w.After, s.w.TimedOut = s.before, s.after, s.timedOut
	s.plan(jobs)
	s.planTrouble()
	slices.SortStableFunc(s.actions, func(a, b action) int { return cmp.Compare(a.at, b.at) })
	return s, nil
}

// script returns a random course of a job at RunComfy.
func (s *simulation) script() runcomfytest.Script {
	script := runcomfytest.Script{
		Queue: time.Duration(s.dice.Int64N(int64(10 * time.Minute))),
		Run:   30*time.Second + time.Duration(s.dice.Int64N(int64(20*time.Minute))),
	}
	switch r := s.dice.Float64(); {
	case r < 0.3:
		script.Queue = 0
	case r < 0.4:
		script.Queue *= 30 // up to five hours
	case r < 0.42:
		script.Queue = 7 * time.Hour // longer than QueueHours
	case r < 0.44:
		script.Run = 26 * time.Hour // longer than MaxHours
	}
	switch r := s.dice.Float64(); {
	case r < 0.08:
		script.Fail = []any{"no face found", map[string]any{"message": "no face found"}, []any{"no face", "found"}}[s.dice.IntN(3)]
	case r < 0.15:
		script.Outputs = 2 + s.dice.IntN(2)
	}
	return script
}

// chaos lets people act while things fail.
func (s *simulation) chaos() {
	for _, a := range s.actions {
		s.w.Pass(a.at - s.since())
		a.do()
	}
	s.w.Pass(chaosTime - s.since())
}

// since returns the virtual time since the world began.
func (s *simulation) since() time.Duration { return s.w.Now().Sub(world.Begin) }

const (
	retryTime  = 26 * time.Hour // a little more than the day in which the queue and the sweep retry
	longestJob = 40 * time.Hour // longer than any job at RunComfy
)

// calm ends all faults, raises the caps, and lets the queue and the sweeps retry. Then it
// redrives the dead letters, and the executions of failed jobs whose result may still be
// archived, as a person does. A redriven dead letter may start a job that runs longer
// than MaxHours. The execution of such a job is redriven once more, after the job has ended.
func (s *simulation) calm(run, retry time.Duration) {
	s.calmed = true
	s.w.LoseStatusEvents = false
	s.repairAccount()
	if !s.w.Caps.None() {
		s.setCaps(budget.Caps{Jobs: 1e6, Seconds: 1e6, USD: 1e6})
	}
	s.w.Run(run)
	s.w.Pass(retry)
	s.faults["dead letters redriven"] += len(s.w.Dead) + len(s.w.DeadDeletions)
	s.w.RedriveDeadLetters()
	s.w.Pass(retry)
	s.redriveFailed(func(ledger.Record) bool { return true })
	s.w.Run(run)
	s.w.Pass(retry)
	again := s.redriveFailed(func(rec ledger.Record) bool {
		job, ok := s.w.RunComfy.Job(rec.RequestID)
		return ok && rec.Code == problem.RanTooLong && job.State == "succeeded"
	})
	if again > 0 {
		s.w.Run(run)
		s.w.Pass(retry)
	}
	s.passed = s.since()
}

// end ends the faults, and checks the world when all jobs have ended.
func (s *simulation) end() {
	s.calm(longestJob, retryTime)
	s.check()
}

// redriveFailed redrives the executions of those failed takes that mayRedrive accepts, and
// returns how many it redrove. It leaves out jobs that RunComfy reports as failed, and executions
// for which Redrive returns NotRedrivable. It includes succeeded takes whose execution did not
// succeed: archive died after it had recorded the success.
func (s *simulation) redriveFailed(mayRedrive func(ledger.Record) bool) (redriven int) {
	for _, rec := range s.records() {
		execution, _ := s.w.Execution(rec.Name, rec.Take)
		died := rec.State == ledger.Succeeded && execution.Execution != nil && execution.Status != states.Succeeded
		failed := rec.State == ledger.Failed && rec.Code != problem.JobFailed
		if !died && !failed || !mayRedrive(rec) {
			continue
		}
		err := s.w.Redrive(rec.Name, rec.Take)
		if _, ok := errors.AsType[*states.NotRedrivable](err); ok {
			continue
		}
		if err != nil {
			s.wrong("the execution of %s cannot be redriven: %v", rec.Name, err)
			continue
		}
		s.faults["redriven in the end"]++
		redriven++
	}
	return redriven
}
