package runcomfytest

import (
	"maps"
	"slices"
	"time"
)

// Job is a job that was taken, and so charged.
type Job struct {
	RequestID   string
	Model       string
	Input       map[string]any
	SubmittedAt time.Time

	// State is what /result says of the job at the moment of asking.
	State string

	// FetchError is why an input could not be downloaded, empty when each was
	// or has not been tried yet.
	FetchError string

	// OutputBytes and OutputSHA256 (hex) are those of each output; 0 and empty
	// while there is none.
	OutputBytes  int64
	OutputSHA256 string
}

// Submitted returns the jobs that were taken, in that order, each charged
// once. Those whose time has come are started first, as if they had been asked
// about.
func (s *Server) Submitted() []Job {
	_ = s.ready()
	s.mu.Lock()
	order := slices.Clone(s.order)
	s.mu.Unlock()
	jobs := make([]Job, 0, len(order))
	for _, j := range order {
		jobs = append(jobs, s.describe(j))
	}
	return jobs
}

// Job returns the job of a request id, started first if its time has come.
func (s *Server) Job(requestID string) (Job, bool) {
	_ = s.ready()
	s.mu.Lock()
	j := s.jobs[requestID]
	s.mu.Unlock()
	if j == nil {
		return Job{}, false
	}
	return s.describe(j), true
}

// Charges returns how often the account was charged: once for each job that
// was taken, cancelled ones included.
func (s *Server) Charges() int {
	_ = s.ready()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.order)
}

// Cancelled returns the request ids of the jobs whose cancel took effect, in
// that order.
func (s *Server) Cancelled() []string {
	_ = s.ready()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cancelled)
}

// Calls returns how many requests have reached the API, whatever came of them.
// Those for outputs are none.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// LeakedTokens returns how many requests for outputs carried an Authorization
// header. Each of them was refused.
func (s *Server) LeakedTokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaked
}

// SetToken changes the token that is accepted.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Token = token
}

// SetBalanceEmpty says whether the account's balance is used up, so that no
// job is taken.
func (s *Server) SetBalanceEmpty(empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBalance = empty
}

func (s *Server) describe(j *job) Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := s.now()
	s.start(j, now)
	described := Job{
		RequestID: j.ID, Model: j.Model, Input: maps.Clone(j.Input),
		SubmittedAt: j.Submitted, State: j.state(now), FetchError: j.FetchError,
	}
	if described.State == succeeded {
		described.OutputBytes, described.OutputSHA256 = j.Bytes, j.SHA256
	}
	return described
}
