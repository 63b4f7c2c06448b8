package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// judgeName compares the status of a name with the oracle's verdict.
func (s *simulation) judgeName(name string, acts []act, takes []ledger.Record) {
	v := verdictOf(name, acts, takes)
	if v.skip {
		return
	}
	st := s.status(ledger.StatusKey(name))
	says := fmt.Sprintf("the status of %s is %s %s, take %q (%s)", name, st.State, st.Code, st.Take, st.Reason)
	expected := v.result != nil && st.State == v.result.state && (v.result.code == "" || v.result.code == st.Code) &&
		(v.result.state != ledger.Used || slices.Equal(st.Jobs, v.result.jobs))
	withdrawn := v.gone && (st.State == ledger.Withdrawn || st.State == "")
	switch {
	case v.take != nil && st.Take == v.take.Take && st.State.Claimed():
		s.compare(st, *v.take)
	case expected, withdrawn:
	case s.rate > 0 && v.take != nil && !s.allPresent(droppedOf(*v.take)) && (st.State == ledger.Waiting || st.State == ledger.Withdrawn):
		// A fault may have kept the status from naming the take. After the deletion of one of the take's files,
		// the status then says only which files are left.
	case v.take == nil && v.result == nil && !v.gone && st.State == ledger.Rejected && st.Code == problem.RefusedByRunComfy && s.refused[ledger.RecordKey(name, st.Take)]:
		// RunComfy refused the job and submit released the claim, so checkCharges has not counted this end.
		s.ends[string(st.State)+" "+string(st.Code)]++
	default:
		want := ""
		if v.result != nil {
			want += fmt.Sprintf(", want %s %s %v", v.result.state, v.result.code, v.result.jobs)
		}
		if v.gone {
			want += ", want withdrawn"
		}
		if v.take != nil {
			want += fmt.Sprintf(", want take %s, which is %s %s", v.take.Take, v.take.State, v.take.Code)
		}
		s.wrong("%s%s: %s", says, want, v.why)
	}
	hasProblem := st.State != "" && st.State != ledger.Used && st.State != ledger.Succeeded
	if hasProblem && (st.Code == "" || st.Reason == "" || st.Remedy == "") {
		s.wrong("%s, remedy %q: the code, the reason or the remedy is missing", says, st.Remedy)
	}
}

// judgeFiles checks the answer files of files that belong to no job.
func (s *simulation) judgeFiles(there inbox) {
	for _, key := range there.keys() {
		answer := s.status("answers/" + strings.TrimPrefix(key, ledger.InboxPrefix) + ".json")
		switch base := path.Base(key); {
		case strings.EqualFold(base, "preset.json"):
			want := ledger.Accepted
			if len(there.presets(path.Dir(key))) > 1 {
				want = ledger.Rejected
			}
			if answer.State != want {
				s.wrong("the answer file for %s is %q %s, want %s", key, answer.State, answer.Code, want)
			}
		case path.Ext(base) == ".txt" && !strings.Contains(key, ".job/"):
			if answer.State != ledger.Rejected || answer.Code != problem.UnknownSuffix {
				s.wrong("the answer file for %s is %q %s, want rejected unknown_suffix", key, answer.State, answer.Code)
			}
		}
	}
}

// judgeCancelled checks the takes that a deletion must have cancelled.
func (t *story) judgeCancelled() {
	for _, rec := range t.records() {
		was, ok := t.cancelled[ledger.RecordKey(rec.Name, rec.Take)]
		if !ok || t.stopped[rec.Name] || t.allPresent(droppedOf(was.take)) {
			continue
		}
		if rec.State != ledger.Cancelled || rec.Code != problem.CancelledByDeletion {
			t.wrong("take %s of %s is %s %s (%s), want it cancelled: a file was deleted more than an hour before the job was to start", rec.Take, rec.Name, rec.State, rec.Code, rec.Reason)
		}
	}
}

// droppedOf returns the keys of a take's files whose deletion cancels the take.
func droppedOf(rec ledger.Record) []string {
	var keys []string
	for _, in := range rec.Inputs {
		if deletionCancels(in.Key) {
			keys = append(keys, in.Key)
		}
	}
	return keys
}

// judgeStart checks that a take's files existed together. It also checks that the deletion of a file
// that an earlier take used did not start the take. For an exception, see exposed.
func (s *simulation) judgeStart(rec ledger.Record, all []act, takes []ledger.Record) {
	var before []ledger.Record
	for _, other := range takes {
		if other.Times.Claimed.Before(rec.Times.Claimed) {
			before = append(before, other)
		}
	}
	var acts []act
	for _, a := range all {
		if !a.at.After(rec.Times.Claimed) {
			acts = append(acts, a)
		}
	}
	var files []file
	for i := range acts {
		if w, ok := inboxAfter(acts[:i+1]).names()[rec.Name].jobOf(rec); ok {
			files = w.uses
		}
	}
	if files == nil {
		s.wrong("take %s of %s uses files that never existed together", rec.Take, rec.Name)
		return
	}
	if byDeletion, mayRun := exposed(rec.Name, acts, before, files); byDeletion && !mayRun {
		s.wrong("take %s of %s was started by the deletion of a file that an earlier take used", rec.Take, rec.Name)
	}
}
