package states

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/private"
)

// Server is the Step Functions endpoint of one state machine. Its executions run
// in real time, each in a goroutine of its own, and outlive the process in files:
// after a kill, Resume repeats at most one step of each execution.
type Server struct {
	// Machine is the state machine, and ARN its ARN:
	// arn:aws:states:REGION:ACCOUNT:stateMachine:NAME.
	Machine *Machine
	ARN     string

	// Invoke calls the functions.
	Invoke Invoker

	// Dir is the folder of the executions, which Resume makes. No two servers may
	// use it at the same time.
	Dir string

	// OnEnd, if set, is called when an execution has ended. A kill can lose a call,
	// as AWS can lose an event. The execution is locked during the call, so OnEnd must
	// not call the server.
	OnEnd func(End)

	mu   sync.Mutex
	runs map[string]*run
	work sync.WaitGroup

	// life is set by Resume and is done after Close.
	life context.Context
	end  context.CancelFunc
}

// End is how an execution ended.
type End struct {
	ExecutionARN string
	Status       Status
	RedriveCount int
}

// run is one execution in the server, and its file.
type run struct {
	mu     sync.Mutex
	record record
	stop   context.CancelFunc // ends the goroutine that drives the execution
}

type record struct {
	Name      string    `json:"name"`
	Execution Execution `json:"execution"`
}

// Resume reads the executions in Dir and continues those that were running. It
// must be called once.
func (s *Server) Resume(ctx context.Context) error {
	records, err := private.ReadAllJSON[record](s.Dir)
	if err != nil {
		return err
	}
	runs := map[string]*run{}
	for _, r := range records {
		runs[r.Name] = &run{record: r}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = runs
	s.life, s.end = context.WithCancel(ctx)
	for _, r := range runs {
		if r.record.Execution.Status == Running {
			s.resume(r)
		}
	}
	return nil
}

// Close stops driving the executions, cancels the tasks under way and returns
// after their invokers have returned. The executions are still running: a Server
// made for the same Dir resumes them.
func (s *Server) Close() {
	s.mu.Lock()
	if s.end != nil {
		s.end()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Path returns the names of the states that an execution entered, in order, or nil
// if there is no execution of that name.
func (s *Server) Path(name string) []string {
	r := s.run(name)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.Execution.Path()
}

func (s *Server) run(name string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// now returns the time in whole milliseconds, as the API has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// create saves a new execution and starts it. If there is one of that name, create
// returns that instead.
func (s *Server) create(name, input string) (r *run, created bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[name]; r != nil {
		return r, false, nil
	}
	r = &run{record: record{name, *s.Machine.Start(input, now())}}
	if err := s.save(&r.record); err != nil {
		return nil, false, err
	}
	s.runs[name] = r
	s.resume(r)
	return r, true, nil
}

// resume starts a goroutine that drives an execution. The caller holds s.mu, so that
// Close waits for the goroutine.
func (s *Server) resume(r *run) {
	ctx, stop := context.WithCancel(s.life)
	r.stop = stop
	if ctx.Err() != nil {
		return
	}
	s.work.Go(func() {
		defer stop()
		s.drive(ctx, r)
	})
}

// drive steps through an execution until it ends or ctx does. It saves the execution
// before each call of a function and before each wait. If ctx is done, it discards the outcome
// of the call: the execution was stopped, or the server was closed and Resume will call
// the function again.
func (s *Server) drive(ctx context.Context, r *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := func() {
		if err := s.save(&r.record); err != nil {
			// The execution continues in memory and is saved again later. If this was the last
			// time, Resume repeats what was not saved.
			slog.Error("execution not saved", "execution", r.record.Name, "err", err)
		}
	}
	invoke := func(ctx context.Context, arn string, payload []byte) ([]byte, error) {
		keep()
		r.mu.Unlock()
		defer r.mu.Lock()
		return s.Invoke(ctx, arn, payload)
	}
	for ctx.Err() == nil {
		wake, ended := s.Machine.Step(ctx, &r.record.Execution, now, invoke)
		if ctx.Err() != nil {
			return
		}
		keep()
		if ended {
			s.ended(&r.record)
			return
		}
		r.mu.Unlock()
		select {
		case <-time.After(time.Until(wake)):
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
}

// change changes an execution and saves it. If change returns an error, or the
// execution cannot be saved, nothing has changed. The caller holds r.mu.
func (s *Server) change(r *run, change func(*Execution) error) error {
	changed := r.record
	if err := change(&changed.Execution); err != nil {
		return err
	}
	if err := s.save(&changed); err != nil {
		return err
	}
	r.record = changed
	return nil
}

func (s *Server) ended(r *record) {
	if s.OnEnd != nil {
		s.OnEnd(End{s.executionARN(r.Name), r.Execution.Status, r.Execution.RedriveCount})
	}
}

// save replaces the file of an execution.
func (s *Server) save(r *record) error {
	return private.ReplaceJSON(filepath.Join(s.Dir, r.Name+".json"), r)
}
