package runcomfytest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// save writes the record of a job into Dir atomically.
func (s *Server) save(j *job) error {
	if s.Dir == "" {
		return nil
	}
	text, err := json.Marshal(j.record)
	if err != nil {
		return err
	}
	temporary := filepath.Join(s.Dir, j.ID+".tmp")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(s.Dir, j.ID+".json"))
}

// Load reads the jobs of an earlier Server from Dir. It must be called before the first
// use if Dir may hold jobs. The ids count up, so the files are in the order in which the
// jobs were accepted.
func (s *Server) Load() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, entry := range entries {
		name := filepath.Join(s.Dir, entry.Name())
		if filepath.Ext(name) != ".json" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		j := &job{}
		if err := json.Unmarshal(text, &j.record); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// The record holds Queue and Run. Only the other fields of the script are used.
		j.script = s.scriptOf(j.Model, j.Input)
		s.keep(j)
	}
	return nil
}
