package main

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// verdict says what the status of a name may be about: the result of its files, a take, or
// either of them.
type verdict struct {
	result *want
	gone   bool // the files are gone: the status is withdrawn, or there is none
	take   *ledger.Record
	why    string // the explanation for a finding
	skip   bool   // the oracle does not decide
}

// margin is the uncertainty about when a function read the bucket.
const margin = roomForOther + time.Second

// verdictOf derives what the status of a name must be about in the end, from the
// acts of people and the records of the name's takes.
func verdictOf(name string, acts []act, takes []ledger.Record) verdict {
	there := inboxAfter(acts)
	w, has := there.names()[name]
	last := newest(takes)
	if w.loose() {
		return verdict{skip: true}
	}
	if has && w.state == "" {
		return verdictOfJob(name, acts, takes, w, last)
	}
	v := verdict{why: "its files make no job"}
	if has {
		v.result = &w
	} else {
		v.gone, v.why = true, "its files are gone"
	}
	if last == nil {
		return v
	}
	v.take = last
	if !droppedSince(name, acts, *last) {
		v.result, v.gone, v.why = nil, false, "a take ran, and only deletions came later"
		return v
	}
	// A bundle without a job.json never replaces the status of a take.
	if has && w.code != problem.WaitingForManifest && w.stamp() > stampOf(*last) &&
		slices.ContainsFunc(w.files, func(f file) bool { return f.dropped.After(last.Times.Claimed.Add(margin)) }) {
		v.take, v.why = nil, "newer files make no job"
	}
	return v
}

func verdictOfJob(name string, acts []act, takes []ledger.Record, w want, last *ledger.Record) verdict {
	for _, rec := range takes {
		if !madeFrom(rec, w.uses) {
			continue
		}
		if stampOf(*last) > stampOf(rec) {
			return verdict{take: last, why: "a newer take ran"}
		}
		return verdict{take: &rec, why: "a take ran its files"}
	}
	left, _ := exposed(name, acts, takes, w.uses)
	switch {
	case last != nil && w.stamp() < stampOf(*last):
		return verdict{take: last, why: "a newer take ran"}
	case last != nil && left:
		return verdict{take: last, why: "a deletion exposed older files"}
	case presetsClashed(acts, w):
		return verdict{result: &want{state: ledger.Rejected, code: problem.Ambiguous}, why: "the folder had two presets"}
	}
	return verdict{why: "its files are complete but never ran"}
}

// presetsClashed reports whether the folder of the files had two presets at any time since
// the newest of the files was dropped.
func presetsClashed(acts []act, w want) bool {
	newest := slices.MaxFunc(w.files, func(a, b file) int { return a.dropped.Compare(b.dropped) })
	for i := range acts {
		if next := i + 1; next < len(acts) && acts[next].at.Before(newest.dropped) {
			continue
		}
		if len(inboxAfter(acts[:i+1]).presets(path.Dir(w.files[0].key))) > 1 {
			return true
		}
	}
	return false
}

// droppedSince reports whether there was a drop of the name that the take did not use. It ignores
// drops that came at least margin before the take's claim.
func droppedSince(name string, acts []act, take ledger.Record) bool {
	for i, a := range acts {
		if a.deleted || !a.at.After(take.Times.Claimed.Add(-margin)) || madeFrom(take, []file{a.file}) {
			continue
		}
		w := inboxAfter(acts[:i+1]).names()[name]
		if slices.ContainsFunc(w.files, func(f file) bool { return f.key == a.key }) {
			return true
		}
	}
	return false
}

// settleTime is how long the queue delays the event of a drop.
const settleTime = 10 * time.Second

// exposed reports whether the files became a job only because a person deleted a file that a take
// had used. Such a job runs only if the event of an earlier upload of one of the files arrives
// within settleTime after the deletion. If that is possible, mayRun is true.
func exposed(name string, acts []act, takes []ledger.Record, files []file) (left, mayRun bool) {
	isJob := func(w want) bool {
		return w.whole() && slices.EqualFunc(w.uses, files, func(a, b file) bool { return a.key == b.key && a.dropped.Equal(b.dropped) })
	}
	var before want
	byDeletion := false // the files of the name are what a deletion left
	for i, a := range acts {
		w := inboxAfter(acts[:i+1]).names()[name]
		switch {
		case !a.deleted:
			byDeletion = byDeletion && !slices.ContainsFunc(w.files, func(f file) bool { return f.key == a.key })
		case before.code == problem.Ambiguous:
			// The remedy of Ambiguous asks for this deletion, so it does not set byDeletion.
		case deletionExposes(name, a, takes, files):
			byDeletion = true
			mayRun = slices.ContainsFunc(acts[:i], func(upload act) bool {
				arrival := upload.at.Add(settleTime + upload.late)
				return arrival.After(a.at.Add(-margin)) && arrival.Before(a.at.Add(settleTime+margin)) &&
					slices.ContainsFunc(files, func(f file) bool { return f.key == upload.key && f.dropped.Equal(upload.dropped) })
			})
		}
		if isJob(w) && !isJob(before) {
			left = byDeletion
		}
		before = w
	}
	return left, mayRun
}

// deletionExposes reports whether a take used the deleted file, but not all given files. The take
// must have used each given file whose stem is the name.
func deletionExposes(name string, deletion act, takes []ledger.Record, files []file) bool {
	return slices.ContainsFunc(takes, func(rec ledger.Record) bool {
		return rec.Uses(deletion.key) && !madeFrom(rec, files) && !slices.ContainsFunc(files, func(f file) bool {
			return strings.TrimSuffix(f.key, path.Ext(f.key)) == ledger.InboxPrefix+name && !madeFrom(rec, []file{f})
		})
	})
}
