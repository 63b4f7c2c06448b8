package drop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Subject is something to assess: a job name, a file in a bundle, or a file that cannot
// belong to a job. It is comparable.
type Subject struct {
	// Name is the job name. For a file in a bundle, it is the name of the bundle. For a
	// file that cannot belong to a job, it is the file's path below inbox/.
	Name string

	stem  string // see Key.Stem; "" for a file that cannot belong to a job
	key   string // of a file in a bundle, or of a file that cannot belong to a job
	jobs  int    // if the subject's job is beyond MaxJobsPerDrop, the number of jobs found for the change; else 0
	waits bool   // jobs is set, and files of the job were missing; always false in a subject from the queue
}

// TooMany reports whether the subject's job is beyond MaxJobsPerDrop and had all its files.
func (s Subject) TooMany() bool { return s.jobs > 0 && !s.waits }

// File returns the key of the file if the subject is a file in a bundle, or "".
func (s Subject) File() string {
	if s.stem == "" {
		return ""
	}
	return s.key
}

// limited returns the subject of the nth job of a change. If this job is beyond MaxJobsPerDrop,
// limited sets the fields jobs and waits.
func (s Settings) limited(subject Subject, nth, jobs int, waits bool) Subject {
	if s.MaxJobsPerDrop > 0 && nth > s.MaxJobsPerDrop {
		subject.jobs, subject.waits = jobs, waits
	}
	return subject
}

// SubjectOf returns the subject of a job name.
func SubjectOf(name string) Subject { return subjectOf(ledger.InboxPrefix + name) }

func subjectOf(stem string) Subject { return Subject{Name: nameOf(stem), stem: stem} }

// fileSubject returns the subject of a file in a bundle, or of a file that cannot belong to a
// job.
func fileSubject(k Key) Subject { return Subject{Name: k.Name, stem: k.Stem, key: k.Raw} }

// subjectJSON is a Subject in a message of the queue. A job name has a stem only, a
// file that cannot belong to a job has a key only, and a file in a bundle has both.
type subjectJSON struct {
	Stem   string `json:"stem,omitempty"`
	Key    string `json:"key,omitempty"`
	Beyond int    `json:"beyond,omitempty"`
}

// MarshalJSON returns the text that UnmarshalJSON reads.
func (s Subject) MarshalJSON() ([]byte, error) {
	return json.Marshal(subjectJSON{s.stem, s.key, s.jobs})
}

// UnmarshalJSON reads a text that MarshalJSON has returned. It refuses other texts.
func (s *Subject) UnmarshalJSON(text []byte) error {
	var read subjectJSON
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil {
		return err
	}
	k := ParseKey(read.Key)
	switch {
	case read.Key == "" && len(read.Stem) > len(ledger.InboxPrefix) && strings.HasPrefix(read.Stem, ledger.InboxPrefix):
		*s = subjectOf(read.Stem)
	case k.Stem == read.Stem && (k.Role == Member || k.Stem == "" && k.Role != NoDrop):
		*s = fileSubject(k)
	default:
		return fmt.Errorf("not a subject: %.100s", text)
	}
	if s.jobs = read.Beyond; s.jobs < 0 {
		return fmt.Errorf("not a subject: %d jobs", s.jobs)
	}
	return nil
}

// MatchStatusKey returns the key of the status that the subject's file gets if the wildcard of its
// bundle matches it. It returns "" if the subject is not a file in a bundle.
func (s Subject) MatchStatusKey() string {
	if s.File() == "" {
		return ""
	}
	return newFinding(MatchName(ParseKey(s.key).Bundle, s.key)).Key
}

// Key returns the key of the subject's status. A file that cannot belong to a job, and a name
// whose status key would be too long, have an answer file instead.
func (s Subject) Key() string {
	if s.stem == "" {
		return answerKey(s.key)
	}
	return newFinding(s.Name).Key
}
