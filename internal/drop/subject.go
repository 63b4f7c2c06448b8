package drop

import (
	"bytes"
	"cmp"
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

	stem   string // see Key.Stem; "" for a file that cannot belong to a job
	match  string // the key of a file in a bundle; see findMatches
	beyond int    // if the job is beyond MaxJobsPerDrop, the number of jobs that were found for the change; else 0
	waits  bool   // files of a job beyond MaxJobsPerDrop are missing
	file   string // the key of a file that cannot belong to a job
}

// TooMany reports whether only MaxJobsPerDrop keeps the job of the subject from starting.
func (s Subject) TooMany() bool { return s.beyond > 0 && !s.waits }

// Match returns the key of the file if the subject is a file in a bundle, or "".
func (s Subject) Match() string { return s.match }

// SubjectOf returns the subject of a job name.
func SubjectOf(name string) Subject { return subjectOf(ledger.InboxPrefix + name) }

func subjectOf(stem string) Subject { return Subject{Name: nameOf(stem), stem: stem} }

// memberSubject returns the subject of a file in a bundle.
func memberSubject(k Key) Subject { return Subject{Name: k.Name, stem: k.Stem, match: k.Raw} }

func fileSubject(key string) Subject {
	return Subject{Name: strings.TrimPrefix(key, ledger.InboxPrefix), file: key}
}

// subjectJSON is a Subject in a message of the queue. A job name has a stem only, a
// file that cannot belong to a job has a key only, and a file in a bundle has both.
type subjectJSON struct {
	Stem   string `json:"stem,omitempty"`
	Key    string `json:"key,omitempty"`
	Beyond int    `json:"beyond,omitempty"`
}

// MarshalJSON returns the text that UnmarshalJSON reads.
func (s Subject) MarshalJSON() ([]byte, error) {
	return json.Marshal(subjectJSON{s.stem, cmp.Or(s.match, s.file), s.beyond})
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
	case read.Stem == "" && k.Stem == "" && k.Role != NoDrop:
		*s = fileSubject(read.Key)
	case k.Role == Member && k.Stem == read.Stem:
		*s = memberSubject(k)
	default:
		return fmt.Errorf("not a subject: %.100s", text)
	}
	if s.beyond = read.Beyond; s.beyond < 0 {
		return fmt.Errorf("not a subject: %d jobs", s.beyond)
	}
	return nil
}

// MatchKey returns the key of the status that the subject's file has if the file is a match
// of a wildcard. It returns "" if the file is not in a bundle.
func (s Subject) MatchKey() string {
	if s.match == "" {
		return ""
	}
	return about(matchName(ParseKey(s.match).Bundle, s.match)).Key
}

// Key returns the key of the subject's status or answer file.
func (s Subject) Key() string {
	if s.file != "" {
		return answerKey(s.file)
	}
	return about(s.Name).Key
}
