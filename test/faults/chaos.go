package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// The rates are probabilities for each call; simulation.rate multiplies them.
const (
	crashRate      = 0.001            // the function dies before the call, and as often after it
	refusedRate    = 0.004            // the service returns an error, or there is no connection
	lostRate       = 0.003            // the call takes effect, but its response is lost
	sideBySideRate = 0.01             // another function runs before the call
	maxDepth       = 2                // the most functions that pause while another runs
	roomForOther   = 20 * time.Second // the other function must be due within this time
)

// faultRates are the probabilities of a fault for each call to RunComfy.
var faultRates = map[runcomfytest.Call]float64{
	runcomfytest.CallSubmit: 0.04, runcomfytest.CallStatus: 0.06, runcomfytest.CallResult: 0.15,
	runcomfytest.CallCancel: 0.3, runcomfytest.CallOutput: 0.1,
}

// faultsOf returns the possible faults of a call to RunComfy.
func faultsOf(call runcomfytest.Call) []runcomfytest.Fault {
	all := runcomfytest.Faults(call)
	if call == runcomfytest.CallResult {
		noOutput := func(members map[string]any) { delete(members, "output") }
		all = append(all, runcomfytest.Fault{Name: "no output", Accept: true, Edit: noOutput})
	}
	return all
}

// happens draws at random whether something with this rate happens now.
func (s *simulation) happens(rate float64) bool { return s.dice.Float64() < rate*s.rate }

// before is the hook before each call that a function makes.
func (s *simulation) before(c world.Call) error {
	s.calls++
	s.noteCharge()
	if s.calmed {
		return nil
	}
	s.maybeRunOther(c)
	if o := s.outageOf(c.Service); o != nil && o.err != nil {
		s.excuse(c)
		if c.Service == "events" {
			s.unsent[c.Key] = true
		}
		return o.err
	}
	if s.failing[c] > 0 {
		s.failing[c]--
		if c.Service == "states" {
			return world.ErrThrottledStates
		}
		return world.Throttled
	}
	switch {
	case s.happens(crashRate):
		s.crash(c, "before")
	case c.Service == "lambda" && s.happens(refusedRate):
		s.faults["lambda: throttled"]++
		return world.ErrLambda
	case c.Service == "s3" && s.happens(refusedRate):
		s.faults["s3: 503 SlowDown"]++
		s.failing[c] = s.dice.IntN(3) // how many of the client's retries fail too
		s.excuse(c)
		return world.Throttled
	case c.Service == "s3" && c.Op == "PutObject" && s.happens(refusedRate):
		s.faults["s3: 409 to a conditional write"]++
		s.excuse(c)
		return world.Conflicting
	case c.Service == "states" && s.happens(5*refusedRate):
		s.faults["states: throttled"]++
		s.failing[c] = s.dice.IntN(3)
		return world.ErrThrottledStates
	case c.Service == "events" && s.happens(25*refusedRate):
		s.faults["events: not sent"]++
		s.unsent[c.Key] = true
		return []error{world.ErrBroken, world.ErrEntry, world.Throttled}[s.dice.IntN(3)]
	case (c.Service == "secretsmanager" || c.Service == "runcomfy" || c.Service == "output") && s.happens(refusedRate):
		s.faults[c.Service+": no connection"]++
		s.excuse(c)
		return world.ErrBroken
	}
	return nil
}

// after is the hook after each call that took effect.
func (s *simulation) after(c world.Call) error {
	s.noteClaim(c)
	if s.calmed {
		return nil
	}
	switch {
	case s.happens(crashRate):
		s.crash(c, "after")
	case s.happens(lostRate):
		s.faults[c.Service+": response lost"]++
		s.excuse(c)
		if c.Service == "lambda" {
			return world.ErrLambda
		}
		return world.ErrBroken
	}
	return nil
}

// maybeRunOther sometimes does the world's next step before the call c, as if another function
// ran at the same time. The step must be due within roomForOther, and within half of the time that
// c's function has left.
func (s *simulation) maybeRunOther(c world.Call) {
	if s.depth == maxDepth || !s.happens(sideBySideRate) {
		return
	}
	room := min(roomForOther, c.Deadline.Sub(s.w.Now())/2)
	s.depth++
	if s.w.Step(room) {
		s.faults["side by side"]++
	}
	s.depth--
}

// crash ends the function as if its process died or ran out of time.
func (s *simulation) crash(c world.Call, when string) {
	s.faults["crash of "+c.Function+" "+when+" a call"]++
	s.excuse(c)
	name := "Runtime.ExitError"
	if s.dice.IntN(3) == 0 {
		name = "Sandbox.Timedout"
	}
	panic(world.Crash{Name: name})
}

// timedOut is the hook for a call that a function cannot make because the function's time
// is over.
func (s *simulation) timedOut(c world.Call) {
	s.faults["timeout of "+c.Function]++
	s.excuse(c)
}

// fault returns the fault of a request that reaches RunComfy, or nil.
func (s *simulation) fault(r *http.Request, _ []byte) *runcomfytest.Fault {
	call, _ := runcomfytest.CallOf(r)
	record := s.openClaims[world.InvocationOf(r)]
	if call == runcomfytest.CallSubmit {
		s.notePOST(record)
	}
	if s.calmed {
		return nil
	}
	var fault *runcomfytest.Fault
	if o := s.outageOf("runcomfy"); o != nil {
		fault = o.fault
	} else if s.happens(faultRates[call]) {
		all := faultsOf(call)
		fault = &all[s.dice.IntN(len(all))]
		s.faults["runcomfy "+string(call)+": "+fault.Name]++
	} else {
		return nil
	}
	if call != runcomfytest.CallSubmit {
		return fault
	}
	switch state, _ := world.AfterSubmit(*fault); state {
	case ledger.Unknown:
		s.excused[record] = true
	case ledger.Rejected:
		s.refused[record] = true
	}
	return fault
}

// noteClaim stores in s.openClaims which record each invocation has claimed. It deletes the entry when
// the invocation has resolved the claim.
func (s *simulation) noteClaim(c world.Call) {
	if c.Service != "s3" || c.Op != "PutObject" || !strings.HasPrefix(c.Key, "jobs/") {
		return
	}
	if rec, ok := s.recordAt(c.Key); ok && rec.State == ledger.Submitting {
		s.openClaims[c.Invocation] = c.Key
	} else if s.openClaims[c.Invocation] == c.Key {
		delete(s.openClaims, c.Invocation)
	}
}

// excuse notes that the record that c's invocation has claimed, if any, may end as unknown.
func (s *simulation) excuse(c world.Call) {
	if record, claimed := s.openClaims[c.Invocation]; claimed {
		s.excused[record] = true
	}
}
