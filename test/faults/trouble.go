package main

import (
	"maps"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// outage is a time in which every call to a service fails.
type outage struct {
	service  string
	from, to time.Duration // since the world began
	err      error
	fault    *runcomfytest.Fault // for RunComfy, instead of err
}

// planTrouble plans the outages of a world, the trouble with the account at RunComfy, and
// when events of executions are lost or repeated.
func (s *simulation) planTrouble() {
	broken := map[string]error{
		"s3": world.Throttled, "states": world.ErrThrottledStates, "secretsmanager": world.ErrBroken,
		"output": world.ErrBroken, "lambda": world.ErrLambda,
	}
	for _, service := range slices.Sorted(maps.Keys(broken)) {
		for range s.plans.IntN(3) {
			from := s.between(0, chaosTime)
			s.outages = append(s.outages, outage{service, from, from + s.between(time.Minute, 2*time.Hour), broken[service], nil})
			s.faults["outage of "+service]++
		}
	}
	for range s.plans.IntN(4) {
		fault := outageFaults[s.plans.IntN(len(outageFaults))]
		from, longest := s.between(0, chaosTime), 2*time.Hour
		if s.chance(0.2) {
			longest = 8 * time.Hour // longer than QueueHours
		}
		if state, _ := world.AfterSubmit(fault); state == ledger.Unknown && from < dropTime {
			longest = 15 * time.Minute // because each job that is submitted during this outage ends as unknown
		}
		s.outages = append(s.outages, outage{"runcomfy", from, from + s.between(time.Minute, longest), nil, &fault})
		s.faults["outage of runcomfy: "+fault.Name]++
	}
	for range s.plans.IntN(3) {
		s.accountTrouble(s.between(0, chaosTime), s.between(10*time.Minute, 4*time.Hour))
	}
	if s.chance(0.15) {
		s.accountTrouble(s.between(0, dropTime/2), s.between(25*time.Hour, 30*time.Hour)) // longer than the day for which submit retries a held job
	}
	from := s.between(0, chaosTime)
	s.schedule(from, func() { s.w.LoseStatusEvents = true })
	s.schedule(from+s.between(time.Hour, 10*time.Hour), func() { s.w.LoseStatusEvents = false })
	s.faults["time without status events"]++
	for range 3 {
		s.schedule(s.between(0, chaosTime), s.repeatStatusEvents)
	}
	if s.chance(0.5) {
		from := s.between(0, chaosTime)
		s.outages = append(s.outages, outage{"events", from, from + s.between(time.Minute, 26*time.Hour), world.ErrBroken, nil})
		s.faults["outage of events"]++
	}
}

var outageFaults = func() (all []runcomfytest.Fault) {
	for _, name := range []string{
		"not sent", "reset", "silence", "429", "503", "503 with Retry-After", "500", "502 huge page", "403", "foreign request", "unknown request",
	} {
		all = append(all, runcomfytest.FaultNamed(runcomfytest.CallModel, name))
	}
	return all
}()

// accountTrouble makes the token or the balance wrong for a time.
func (s *simulation) accountTrouble(at, lasts time.Duration) {
	switch s.plans.IntN(4) {
	case 0:
		s.faults["account: token rotated, but not yet in the secret"]++
		s.schedule(at, func() { s.tokens++; s.w.RunComfy.SetToken(s.token()) })
	case 1:
		s.faults["account: wrong token in the secret"]++
		s.schedule(at, func() { s.w.Secret = "canary-of-another-account" })
	case 2:
		s.faults["account: no token in the secret"]++
		s.schedule(at, func() { s.w.Secret = "" })
	case 3:
		s.faults["account: no balance"]++
		s.schedule(at, func() { s.w.RunComfy.SetBalanceEmpty(true) })
	}
	s.schedule(at+lasts, s.repairAccount)
}

// repairAccount corrects the token and the balance, as a person does.
func (s *simulation) repairAccount() {
	s.w.Secret = s.token()
	s.w.RunComfy.SetBalanceEmpty(false)
}

// token returns the token that RunComfy accepts now.
func (s *simulation) token() string { return world.Token + string(rune('a'+s.tokens)) }

// repeatStatusEvents sends once more the events of all executions that ended badly, even if
// an execution was redriven since. The events arrive late and out of order.
func (s *simulation) repeatStatusEvents() {
	for _, e := range s.w.Executions() {
		if e.Error != "" || e.Status == "ABORTED" || e.RedriveCount > 0 {
			s.faults["event of an execution repeated"]++
			s.w.NotifyStatus(e.ARN, time.Duration(s.dice.Int64N(int64(time.Hour))))
		}
	}
}

// outageOf returns the present outage of a service, or nil.
func (s *simulation) outageOf(service string) *outage {
	now := s.since()
	for i := range s.outages {
		if o := &s.outages[i]; o.service == service && o.from <= now && now < o.to {
			return o
		}
	}
	return nil
}
