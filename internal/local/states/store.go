package states

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// record is what is kept of an execution, in two files: the record itself, a
// small one that each change replaces by a rename, and its history, to which
// each change appends. The history is written first. What lies in it beyond
// HistoryBytes belongs to a change that a kill cut short: it is not read, and
// the next change writes over it. So after a kill at any moment an execution is
// what it was before or after its last change.
//
// Nothing is synced to the disk: this outlives the process, not the machine.
type record struct {
	Name         string    `json:"name"`
	HistoryBytes int64     `json:"historyBytes"`
	Execution    Execution `json:"execution"`

	// Redrives are the client tokens of the last redrives, oldest first.
	Redrives []redriveToken `json:"redrives,omitempty"`
}

// folder is where records are kept.
type folder string

// load reads all records.
func (dir folder) load() ([]record, error) {
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		return nil, err
	}
	var records []record
	for _, entry := range entries {
		path := filepath.Join(string(dir), entry.Name())
		if filepath.Ext(path) != ".json" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		records = append(records, r)
	}
	return records, nil
}

// save writes the record and moves its events to the history. It is the
// caller's to save no two changes of one execution at the same time.
func (dir folder) save(r *record) error {
	kept := *r
	lines := encodeEvents(r.Execution.Events)
	kept.Execution.Events = nil
	kept.HistoryBytes += int64(len(lines))
	if err := writeAt(dir.path(r.Name, ".history"), lines, r.HistoryBytes); err != nil {
		return err
	}
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	path := dir.path(r.Name, ".json")
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	*r = kept
	return nil
}

func writeAt(path string, text []byte, offset int64) error {
	if len(text) == 0 {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(text, offset)
	return errors.Join(err, file.Close())
}

// history returns the events of a record, a line of JSON each.
func (dir folder) history(r *record) ([][]byte, error) {
	file, err := os.Open(dir.path(r.Name, ".history"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text := make([]byte, r.HistoryBytes)
	if _, err := io.ReadFull(file, text); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	// Events that could not be saved are in memory still.
	text = append(text, encodeEvents(r.Execution.Events)...)
	return bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")), nil
}

// path is the file of an execution. Its hash keeps names apart that a file
// system takes for one, and the rest of it is for people. A name may have 80
// characters of any script, which a file's name could not hold.
func (dir folder) path(name, suffix string) string {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, name)
	hash := sha256.Sum256([]byte(name))
	return filepath.Join(string(dir), fmt.Sprintf("%s-%x%s", slug, hash[:8], suffix))
}
