package runcomfytest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// save writes a job's record into Dir, whole or not at all.
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

// ready loads what Dir holds, once. Every request tells an error of it.
func (s *Server) ready() error {
	s.loading.Do(func() { s.loadError = s.load() })
	return s.loadError
}

// load reads the jobs that an earlier Server left in Dir. Their ids count up,
// so the names are in the order in which the jobs were taken.
func (s *Server) load() error {
	if s.Dir == "" {
		return nil
	}
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
		// How long it queues and runs was decided when it was taken.
		j.script = s.scriptOf(j.Model, j.Input)
		s.keep(j)
	}
	return nil
}
