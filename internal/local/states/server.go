package states

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Server is the Step Functions endpoint of one state machine. Its executions
// run in real time, each in a goroutine of its own, and outlive the process in
// files: after a kill at any moment, Resume runs again what was under way, at
// most one step of each execution.
type Server struct {
	// Machine is what the executions step through.
	Machine *Machine

	// ARN is the ARN of the state machine,
	// arn:aws:states:REGION:ACCOUNT:stateMachine:NAME.
	ARN string

	// Invoke calls the functions.
	Invoke Invoker

	// Dir is the folder of the executions. It is made if it is not there, and is
	// one server's at a time.
	Dir string

	// Now defaults to time.Now. Waits are timed by it to begin with, but their
	// length is real.
	Now func() time.Time

	// OnStatus, when set, is handed the event that EventBridge sends when an
	// execution starts, is redriven or ends: from one goroutine, one after the
	// other, in the order of what happened. As on AWS, a kill can lose one.
	OnStatus func(event []byte)

	mu      sync.Mutex
	runs    map[string]*run
	closing bool
	work    sync.WaitGroup
	notices notices

	// life ends with Close or with the context of Resume.
	life context.Context
	end  context.CancelFunc
}

// run is one execution in the server.
type run struct {
	mu     sync.Mutex
	record record

	// stop cancels the goroutine that steps through the execution.
	stop context.CancelFunc
}

// Resume reads the executions in Dir and goes on with those that were running.
// It must return before the first request, and be called once. When ctx is
// done the executions halt where they are, as after Close.
func (s *Server) Resume(ctx context.Context) error {
	if len(strings.Split(s.ARN, ":")) != 7 || !strings.Contains(s.ARN, ":stateMachine:") {
		return fmt.Errorf("not the ARN of a state machine: %q", s.ARN)
	}
	records, err := folder(s.Dir).load()
	if err != nil {
		return fmt.Errorf("read executions: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life, s.end = context.WithCancel(ctx)
	s.runs = make(map[string]*run, len(records))
	if s.OnStatus != nil {
		s.notices.start(s.OnStatus)
	}
	for _, rec := range records {
		r := &run{record: rec}
		s.runs[rec.Name] = r
		if rec.Execution.Status == Running {
			s.goOn(r)
		}
	}
	return nil
}

// Close halts the executions where they are, cancels the tasks under way and
// returns when their invokers and OnStatus have returned. The executions are
// still running: a Server made for the same Dir resumes them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	started := s.end != nil
	s.mu.Unlock()
	if !started {
		return
	}
	s.end()
	s.work.Wait()
	s.notices.close()
}

// Path returns the names of the states that an execution entered, in order: none
// when there is no execution of that name, or its history cannot be read.
func (s *Server) Path(name string) []string {
	r := s.run(name)
	if r == nil {
		return nil
	}
	lines, err := s.history(r)
	if err != nil {
		slog.Error("history not read", "execution", name, "err", err)
		return nil
	}
	events, err := decodeEvents(lines)
	if err != nil {
		slog.Error("history not read", "execution", name, "err", err)
	}
	return Path(events)
}

func (s *Server) run(name string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

func (s *Server) history(r *run) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return folder(s.Dir).history(&r.record)
}

// now is the time in whole milliseconds, which is what the API tells.
func (s *Server) now() time.Time {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return now().UTC().Truncate(time.Millisecond)
}

// create adds an execution and saves it, and starts it. One of that name that is
// there already is returned instead.
func (s *Server) create(name, input string) (r *run, created bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[name]; r != nil {
		return r, false, nil
	}
	r = &run{record: record{Name: name, Execution: *s.Machine.Start(input, s.now())}}
	if err := folder(s.Dir).save(&r.record); err != nil {
		return nil, false, err
	}
	s.runs[name] = r
	s.notify(&r.record)
	s.goOn(r)
	return r, true, nil
}

// ready says whether requests are answered: after Resume and before Close.
func (s *Server) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life != nil && s.life.Err() == nil && !s.closing
}

// goOn starts the goroutine of an execution. The caller holds s.mu, so that
// Close waits for it. Locks are taken in the order server, execution.
func (s *Server) goOn(r *run) {
	if s.closing {
		return
	}
	ctx, stop := context.WithCancel(s.life)
	r.stop = stop
	s.work.Go(func() {
		defer stop()
		s.drive(ctx, r)
	})
}

// drive steps through an execution until it ends or ctx does.
func (s *Server) drive(ctx context.Context, r *run) {
	deliver := func(*Execution) {}
	for {
		call, wake, ended := s.turn(ctx, r, deliver)
		switch {
		case ended:
			return
		case call != nil:
			result, err := call.do(ctx, s.now(), s.Invoke)
			deliver = func(x *Execution) { s.Machine.Deliver(x, s.now(), result, err) }
		default:
			deliver = func(*Execution) {}
			timer := time.NewTimer(wake.Sub(s.now()))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}
}

// turn delivers the outcome of the last call, takes the execution as far as it
// can go and saves it. An outcome that comes when ctx is done is dropped: the
// execution was stopped, or the server was closed and will call again.
func (s *Server) turn(ctx context.Context, r *run, deliver func(*Execution)) (call *Call, wake time.Time, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return nil, time.Time{}, true
	}
	x := &r.record.Execution
	deliver(x)
	call, wake = s.Machine.Advance(x, s.now())
	if err := folder(s.Dir).save(&r.record); err != nil {
		// The execution goes on in memory, and the next turn saves both.
		slog.Error("execution not saved", "execution", r.record.Name, "err", err)
	}
	if x.Status == Running {
		return call, wake, false
	}
	s.notify(&r.record)
	return nil, time.Time{}, true
}

// change changes an execution from outside, saves it and tells its new status.
// When change returns an error, or it cannot be saved, nothing has changed.
func (s *Server) change(r *run, change func(*record) error) error {
	changed := r.record
	if err := change(&changed); err != nil {
		return err
	}
	if err := folder(s.Dir).save(&changed); err != nil {
		return err
	}
	r.record = changed
	s.notify(&r.record)
	return nil
}
