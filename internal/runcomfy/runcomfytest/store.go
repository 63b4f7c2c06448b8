package runcomfytest

import (
	"path/filepath"

	"github.com/lipdrop/lipdrop/internal/private"
)

// save writes the record of a job into Dir atomically.
func (s *Server) save(j *job) error {
	if s.Dir == "" {
		return nil
	}
	return private.ReplaceJSON(filepath.Join(s.Dir, j.ID+".json"), j.record)
}

// Load makes Dir if it is missing, and reads the jobs of an earlier Server from Dir. If Dir
// is set, call Load before the first use of the Server. The ids count up, so the files are in
// the order in which the jobs were accepted.
func (s *Server) Load() error {
	records, err := private.ReadAllJSON[record](s.Dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		// Queue and Run are in the record. Only the other fields of the script are used.
		s.keep(&job{record: r, script: s.scriptOf(r.Model, r.Input)})
	}
	return nil
}
