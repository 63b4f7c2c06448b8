package runcomfytest

import (
	"maps"
	"slices"
)

// Job is a job that was accepted and charged.
type Job struct {
	RequestID string
	Model     string
	Input     map[string]any

	// State is the job's state now, in the words of /result.
	State string

	// FetchError says why an input could not be downloaded, why the output could not be made
	// or stored, or why the job's record could not be stored. It is empty if nothing failed, or
	// if the download has not started.
	FetchError string

	// OutputSHA256 is the SHA-256 of an output in hexadecimal, or "" if the job has not succeeded
	// or has no output. All outputs of a job have the same content.
	OutputSHA256 string
}

// Submitted returns the accepted jobs in the order in which they were accepted. It first
// downloads the inputs whose download is due.
func (s *Server) Submitted() []Job {
	s.mu.Lock()
	order := slices.Clone(s.order)
	s.mu.Unlock()
	jobs := make([]Job, 0, len(order))
	for _, j := range order {
		jobs = append(jobs, s.describe(j))
	}
	return jobs
}

// Job returns the job of a request id. Job first downloads the job's inputs if their download is due.
func (s *Server) Job(requestID string) (Job, bool) {
	j := s.find(requestID)
	if j == nil {
		return Job{}, false
	}
	return s.describe(j), true
}

func (s *Server) find(requestID string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[requestID]
}

// Charges returns how many jobs were charged. Each accepted job is charged, even if it
// is cancelled later.
func (s *Server) Charges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.order)
}

// Cancelled returns the request ids of the cancelled jobs.
func (s *Server) Cancelled() []string {
	var ids []string
	for _, job := range s.Submitted() {
		if job.State == cancelled {
			ids = append(ids, job.RequestID)
		}
	}
	return ids
}

// Calls returns how many requests have reached the API, except requests for
// outputs.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// LeakedTokens returns how many requests for outputs carried an Authorization
// header. The Server refused each of these requests.
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

func (s *Server) describe(j *job) Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := s.now()
	s.fetchIfDue(j, now)
	described := Job{
		RequestID: j.ID, Model: j.Model, Input: maps.Clone(j.Input),
		State: j.state(now), FetchError: j.FetchError,
	}
	if described.State == succeeded {
		described.OutputSHA256 = j.SHA256
	}
	return described
}
