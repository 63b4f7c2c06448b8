package main

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// The oracle is a second, small reading of what lipdrop promises. It knows
// what people did and when, and says from that what each name must say in the
// end. It has nothing of package drop and nothing of the functions, so that a
// mistake there is not a mistake here too. It looks at the whole bucket at
// once, which the functions must never do.

// file is a file below inbox/.
type file struct {
	key      string
	body     []byte
	etag     string
	dropped  time.Time // when it was there
	modified time.Time // what S3 says, to the second; of a multipart upload when it began
}

// act is one thing that a person did below inbox/.
type act struct {
	at      time.Time
	deleted bool
	file
}

// inbox is what is below inbox/ at some time, by key.
type inbox map[string]file

// after returns the inbox after some acts.
func after(acts []act) inbox {
	there := inbox{}
	for _, a := range acts {
		if a.deleted {
			delete(there, a.key)
		} else {
			there[a.key] = a.file
		}
	}
	return there
}

// want is what the files of a name amount to. The zero State is a job.
type want struct {
	state ledger.State
	code  problem.Code
	files []file   // what it is about
	takes []file   // of a job: the files whose versions tell its takes apart
	jobs  []string // of state used
	sides []want   // of a name that two places claim: what each amounts to by itself
}

// whole reports whether nothing is missing.
func (w want) whole() bool { return w.state == "" || w.state == ledger.Used }

// loose reports whether a name is claimed by two places of which one has not
// all its files: it is left open whether the other is run.
func (w want) loose() bool {
	return slices.ContainsFunc(w.sides, func(side want) bool { return !side.whole() })
}

// jobOf returns the side of a name that is a job of the files of a record.
func (w want) jobOf(rec ledger.Record) (want, bool) {
	for _, side := range append([]want{w}, w.sides...) {
		if side.state == "" && made(rec, side.takes) && (len(w.sides) == 0 || w.loose()) {
			return side, true
		}
	}
	return want{}, false
}

// stamp is the time of the newest file, as a take begins with it.
func (w want) stamp() string {
	var newest time.Time
	for _, f := range w.files {
		if f.modified.After(newest) {
			newest = f.modified
		}
	}
	for _, f := range w.takes {
		if f.modified.After(newest) {
			newest = f.modified
		}
	}
	return newest.UTC().Format("20060102T150405Z")
}

// names returns what each name that has files amounts to.
func (b inbox) names() map[string]want {
	names := map[string]want{}
	add := func(name string, w want) {
		other, twice := names[name]
		if !twice {
			names[name] = w
			return
		}
		// A name that two places claim is run from neither.
		files := append(slices.Clone(w.files), other.files...)
		names[name] = want{state: ledger.Rejected, code: problem.Ambiguous, files: files, sides: []want{w, other}}
	}
	visuals, audios := map[string][]file{}, map[string][]file{} // by stem
	bundles := map[string][]file{}                              // by folder
	for _, key := range b.keys() {
		f, below := b[key], strings.TrimPrefix(key, ledger.InboxPrefix)
		if bundle, _, ok := strings.Cut(below, ".job/"); ok {
			bundles[bundle] = append(bundles[bundle], f)
			continue
		}
		stem := strings.TrimSuffix(below, path.Ext(below))
		switch kindOf(below) {
		case "video", "image":
			visuals[stem] = append(visuals[stem], f)
		case "audio":
			audios[stem] = append(audios[stem], f)
		}
	}
	tagged := map[string][]string{}
	for stem, found := range audios {
		at := stem
		for at != "" && len(visuals[at]) == 0 {
			at = withoutTag(at)
		}
		if at == "" {
			add(stem, lone(problem.WaitingForVisual, found))
			continue
		}
		if at != stem {
			tagged[at] = append(tagged[at], stem)
		}
		add(stem, b.pair(visuals[at], found))
	}
	for stem, found := range visuals {
		switch jobs := tagged[stem]; {
		case len(audios[stem]) > 0:
		case len(jobs) > 0:
			slices.Sort(jobs)
			add(stem, want{state: ledger.Used, jobs: jobs, files: found})
		default:
			add(stem, lone(problem.WaitingForAudio, found))
		}
	}
	for name, files := range bundles {
		for match, w := range bundled(name, files) {
			add(match, w)
		}
	}
	for name, files := range bundles {
		if len(names[name].sides) == 0 {
			continue
		}
		// The matches of a bundle whose name two places claim start nothing either.
		for match, w := range bundled(name, files) {
			if match != name && w.state != ledger.Rejected {
				names[match] = want{state: ledger.Rejected, code: problem.Ambiguous, files: w.takes}
			}
		}
	}
	return names
}

func (b inbox) keys() []string {
	var keys []string
	for key := range b {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// lone is what files amount to that have no partner.
func lone(code problem.Code, files []file) want {
	if len(files) > 1 {
		return want{state: ledger.Rejected, code: problem.Ambiguous, files: files}
	}
	return want{state: ledger.Waiting, code: code, files: files}
}

// pair is what a video or image and an audio of one stem amount to.
func (b inbox) pair(visuals, audios []file) want {
	files := append(slices.Clone(visuals), audios...)
	if len(visuals) > 1 || len(audios) > 1 || len(b.presets(path.Dir(visuals[0].key))) > 1 {
		return want{state: ledger.Rejected, code: problem.Ambiguous, files: files}
	}
	return want{files: files, takes: files}
}

// presets returns the presets of the folder itself.
func (b inbox) presets(folder string) []file {
	var found []file
	for key, f := range b {
		if path.Dir(key) == folder && strings.EqualFold(path.Base(key), "preset.json") {
			found = append(found, f)
		}
	}
	return found
}

// bundled is what a .job folder amounts to, and the names of its matches.
func bundled(name string, files []file) map[string]want {
	folder := ledger.InboxPrefix + name + ".job/"
	there := inbox{}
	for _, f := range files {
		there[f.key] = f
	}
	one := func(w want) map[string]want { return map[string]want{name: w} }
	manifest, ok := there[folder+"job.json"]
	if !ok {
		return one(want{state: ledger.Waiting, code: problem.WaitingForManifest, files: files})
	}
	var text struct {
		Input map[string]any `json:"input"`
	}
	if json.Unmarshal(manifest.body, &text) != nil {
		return one(want{state: ledger.Rejected, code: problem.InvalidJSON, files: []file{manifest}})
	}
	missing, pattern := false, ""
	used := []file{manifest}
	for property, value := range text.Input {
		named, isText := value.(string)
		if !strings.HasSuffix(property, "_url") || !isText {
			continue
		}
		if strings.Contains(named, "*") {
			pattern = named
			continue
		}
		f, there := there[folder+named]
		missing = missing || !there
		if there {
			used = append(used, f)
		}
	}
	waits := want{state: ledger.Waiting, code: problem.WaitingForFiles, files: []file{manifest}}
	switch {
	case pattern == "" && missing:
		return one(waits)
	case pattern == "":
		return one(want{files: used, takes: []file{manifest}})
	}
	wants, whole := map[string]want{}, want{state: ledger.Used, files: []file{manifest}}
	for _, key := range there.keys() {
		if ok, _ := path.Match(folder+pattern, key); !ok {
			continue
		}
		stem := strings.TrimSuffix(path.Base(key), path.Ext(key))
		match := want{files: append(slices.Clone(used), there[key]), takes: []file{manifest, there[key]}}
		if missing {
			match.state, match.code, match.files = waits.state, waits.code, match.takes
		}
		wants[name+"/"+stem] = match
		whole.jobs, whole.files = append(whole.jobs, name+"/"+stem), append(whole.files, there[key])
	}
	if len(whole.jobs) == 0 {
		whole.state, whole.code = ledger.Waiting, problem.WaitingForMatch
	}
	slices.Sort(whole.jobs)
	wants[name] = whole
	return wants
}

func kindOf(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".mp4":
		return "video"
	case ".png":
		return "image"
	case ".wav":
		return "audio"
	}
	return ""
}

// withoutTag returns a stem without what is behind its last dot, or "".
func withoutTag(stem string) string {
	i := strings.LastIndexByte(stem, '.')
	if i <= strings.LastIndexByte(stem, '/') {
		return ""
	}
	return stem[:i]
}

// cancels reports whether the deletion of a file cancels what was made of it.
func cancels(key string) bool {
	if strings.Contains(key, ".job/") {
		return path.Base(key) == "job.json"
	}
	return kindOf(key) != ""
}

// made reports whether a record is of these versions of files.
func made(rec ledger.Record, takes []file) bool {
	for _, f := range takes {
		if !slices.ContainsFunc(rec.Inputs, func(in ledger.Input) bool {
			return in.Key == f.key && in.ETag == f.etag && in.LastModified.Truncate(time.Second).Equal(f.modified)
		}) {
			return false
		}
	}
	// An audio or a job.json of other versions makes another take.
	return len(takes) > 0
}

// newest returns the record of the newest take of a name, or nil.
func newest(takes []ledger.Record) *ledger.Record {
	if len(takes) == 0 {
		return nil
	}
	last := slices.MaxFunc(takes, func(a, b ledger.Record) int {
		return cmp.Or(cmp.Compare(a.Take[:16], b.Take[:16]), a.Times.Claimed.Compare(b.Times.Claimed))
	})
	return &last
}

// verdict is what a status may be about: an answer, or a take, or either.
type verdict struct {
	answer *want
	gone   bool // withdrawn, or no status where nothing was ever answered
	take   *ledger.Record
	why    string // what is so where it is neither
	skip   bool
}

// margin is for how long about a moment it is open what a function saw.
const margin = roomForOther + time.Second

// verdictOf says what the status of a name must be about in the end, from what
// people did and the records of its takes.
func verdictOf(name string, acts []act, takes []ledger.Record) verdict {
	there := after(acts)
	w, has := there.names()[name]
	last := newest(takes)
	if w.loose() {
		return verdict{skip: true}
	}
	if has && w.state == "" {
		return verdictOfJob(name, acts, takes, w, last)
	}
	v := verdict{why: "its files amount to no job"}
	if has {
		v.answer = &w
	} else {
		v.gone, v.why = true, "its files are gone"
	}
	if last == nil {
		return v
	}
	v.take = last
	if since := droppedSince(name, acts, *last); !since {
		// Only deletions came after it: what ran is what the status is about.
		v.answer, v.gone, v.why = nil, false, "it ran, and only deletions came after"
		return v
	}
	if has && w.stamp() > last.Take[:16] && slices.ContainsFunc(w.files, func(f file) bool { return f.dropped.After(last.Times.Claimed.Add(margin)) }) &&
		w.code != problem.WaitingForManifest {
		v.take, v.why = nil, "files that came after it amount to no job"
	}
	return v
}

func verdictOfJob(name string, acts []act, takes []ledger.Record, w want, last *ledger.Record) verdict {
	for _, rec := range takes {
		if !made(rec, w.takes) {
			continue
		}
		if last.Take[:16] > rec.Take[:16] {
			return verdict{take: last, why: "a newer take ran"}
		}
		return verdict{take: &rec, why: "its files were run"}
	}
	switch {
	case last != nil && w.stamp() < last.Take[:16]:
		return verdict{take: last, why: "a newer take ran"}
	case last != nil && exposed(name, acts, takes, w.takes):
		return verdict{take: last, why: "a deletion brought older files to light"}
	case presetsClashed(acts, w):
		return verdict{answer: &want{state: ledger.Rejected, code: problem.Ambiguous}, why: "two presets were there"}
	}
	return verdict{why: "its files are all there and were never run"}
}

// presetsClashed reports whether a folder had two presets since the newest of
// the files came.
func presetsClashed(acts []act, w want) bool {
	since := w.files[0].dropped
	for _, f := range w.files {
		if f.dropped.After(since) {
			since = f.dropped
		}
	}
	for i := range acts {
		if next := i + 1; next < len(acts) && acts[next].at.Before(since) {
			continue
		}
		if len(after(acts[:i+1]).presets(path.Dir(w.files[0].key))) > 1 {
			return true
		}
	}
	return false
}

// droppedSince reports whether a file that the name may be made of was dropped
// after a take of it was claimed.
func droppedSince(name string, acts []act, take ledger.Record) bool {
	for i, a := range acts {
		if a.deleted || !a.at.After(take.Times.Claimed.Add(-margin)) || made(take, []file{a.file}) {
			continue
		}
		w := after(acts[:i+1]).names()[name]
		if slices.ContainsFunc(w.files, func(f file) bool { return f.key == a.key }) {
			return true
		}
	}
	return false
}

// exposed reports whether it was a deletion, and nothing else, that made these
// files a job of the name, and one of a file which a take of the name used.
func exposed(name string, acts []act, takes []ledger.Record, files []file) bool {
	same := func(w want) bool {
		return w.whole() && len(w.takes) == len(files) && slices.EqualFunc(w.takes, files, func(a, b file) bool { return a.key == b.key && a.dropped.Equal(b.dropped) })
	}
	was, found, before := false, false, want{}
	for i, a := range acts {
		w := after(acts[:i+1]).names()[name]
		is := same(w)
		if is && !was {
			if before.code == problem.Ambiguous {
				return false // it resolves what was ambiguous, as the remedy says
			}
			used := slices.ContainsFunc(takes, func(rec ledger.Record) bool { return rec.Uses(a.key) && !made(rec, files) })
			if !a.deleted || !used {
				return false
			}
			found = true
		}
		was, before = is, w
	}
	return found
}
