package states

import "time"

// redrivablePeriod is how long after its end an execution can be redriven:
// https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
const redrivablePeriod = 14 * 24 * time.Hour

// NotRedrivable says why an execution cannot be redriven.
type NotRedrivable struct{ Reason string }

func (e *NotRedrivable) Error() string { return e.Reason }

// Abort stops x; the error and the cause may be empty. It does nothing to an
// execution that has ended.
func (x *Execution) Abort(now time.Time, name, cause string) {
	if x.end(now, Aborted, Event{Type: "ExecutionAborted", Aborted: &ErrorDetails{name, cause}}) {
		x.Error, x.Cause = name, cause
	}
}

// Redrive has x go on from the state that did not succeed, with that state's
// input: a Wait waits anew, a Task is scheduled again with all its retries, and
// the machine's timeout begins again. An execution that cannot be redriven
// returns a *NotRedrivable.
func (m *Machine) Redrive(x *Execution, now time.Time) error {
	if err := x.Redrivable(now); err != nil {
		return err
	}
	x.Status = Running
	x.StoppedAt, x.Error, x.Cause = time.Time{}, "", ""
	x.Deadline = now.Add(m.timeout)
	x.Retries = nil
	if x.Phase != arriving {
		x.Phase = entered
	}
	x.RedriveCount++
	x.RedrivenAt = now
	x.record(now, Event{Type: "ExecutionRedriven", Redriven: &RedrivenDetails{x.RedriveCount}})
	return nil
}

// Redrivable returns nil when Redrive would redrive x, else a *NotRedrivable.
func (x *Execution) Redrivable(now time.Time) error {
	switch {
	case x.Status == Running || x.Status == Succeeded:
		return &NotRedrivable{"Execution is " + string(x.Status) + " and cannot be redriven"}
	case now.Sub(x.StoppedAt) > redrivablePeriod:
		return &NotRedrivable{"Execution redrivable period exceeded"}
	// The event of the redrive and one more must have room.
	case x.LastEventID >= maxEvents-1:
		return &NotRedrivable{"Execution history event limit exceeded"}
	}
	return nil
}

func (x *Execution) fail(now time.Time, name, cause string) {
	if x.end(now, Failed, Event{Type: "ExecutionFailed", Failed: &ErrorDetails{name, cause}}) {
		x.Error, x.Cause = name, cause
	}
}

// end ends x, unless it has ended before, and says whether it did.
func (x *Execution) end(now time.Time, status Status, event Event) bool {
	if x.Status != Running {
		return false
	}
	x.add(now, event)
	x.Status = status
	x.StoppedAt = now
	if event.Succeeded != nil {
		x.Output = event.Succeeded.Output
	}
	return true
}
