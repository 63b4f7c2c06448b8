package states

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/private"
)

// Server is the Step Functions endpoint of one state machine. Executions run in real
// time, each in its own goroutine. The server saves each execution in a file. After a kill,
// a new Server continues each execution from its file. If every save succeeded, the new Server
// repeats at most one call of a function in each execution.
type Server struct {
	Machine *Machine
	ARN     string // arn:aws:states:REGION:ACCOUNT:stateMachine:NAME
	Invoke  Invoker

	// Dir is the folder for the files of the executions. Resume makes the folder. No two
	// servers may use the folder at the same time.
	Dir string

	// OnEnd, if set, is called when an execution has ended. A kill of the process can
	// prevent the call, as AWS can lose an event. The execution is locked during the call,
	// so OnEnd must not call the server.
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

// run is one execution in the server.
type run struct {
	mu     sync.Mutex
	record record
	stop   context.CancelFunc // ends the goroutine that drives the execution
}

type record struct {
	Name      string    `json:"name"`
	Execution Execution `json:"execution"`
}

// Resume reads the executions in Dir and continues those that were running. Resume must be
// called once.
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
			s.startDriving(r)
		}
	}
	return nil
}

// Close stops driving the executions, cancels the calls of functions under way and
// returns after these calls have returned. An execution that has not ended keeps the status
// RUNNING, so another Server with the same Dir continues it.
func (s *Server) Close() {
	s.mu.Lock()
	if s.end != nil {
		s.end()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Path returns the names of the states that the execution with the given name has entered, in
// order, or nil if there is no such execution.
func (s *Server) Path(name string) []string {
	r := s.runNamed(name)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.Execution.Path()
}

func (s *Server) runNamed(name string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// now returns the time in whole milliseconds, the precision of the API.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// create saves and starts a new execution. If an execution of that name exists, create
// returns the existing execution instead.
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
	s.startDriving(r)
	return r, true, nil
}

// startDriving starts a goroutine that drives an execution. The caller holds s.mu, so that
// Close waits for the goroutine.
func (s *Server) startDriving(r *run) {
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

// drive steps through an execution until the execution ends or ctx is done. It saves the
// execution before each call of a function, before each wait, and at the end. If ctx is done
// during a call, drive discards the outcome: the execution was stopped, or the server was closed
// and the next Server calls the function again.
func (s *Server) drive(ctx context.Context, r *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := func() {
		if err := s.save(&r.record); err != nil {
			// The execution continues in memory. If the process ends before a later save succeeds,
			// Resume repeats the steps that were not saved.
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
			s.notifyEnd(&r.record)
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

// change applies edit to an execution and saves the result. If edit returns an error, or
// the result cannot be saved, the execution stays as it was. The caller holds r.mu.
func (s *Server) change(r *run, edit func(*Execution) error) error {
	changed := r.record
	if err := edit(&changed.Execution); err != nil {
		return err
	}
	if err := s.save(&changed); err != nil {
		return err
	}
	r.record = changed
	return nil
}

func (s *Server) notifyEnd(r *record) {
	if s.OnEnd != nil {
		s.OnEnd(End{s.executionARN(r.Name), r.Execution.Status, r.Execution.RedriveCount})
	}
}

func (s *Server) save(r *record) error {
	return private.ReplaceJSON(filepath.Join(s.Dir, r.Name+".json"), r)
}
