package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// promise is one of lipdrop's promises, named after how it is broken.
type promise string

const (
	// lost: a job succeeded at RunComfy, but no record has its request id, the record or
	// the execution of its take did not end as succeeded, its result.json is not stored
	// below this take, or its outputs there are not what RunComfy served, byte for byte. A
	// job is not lost if its record ended as unknown because of a fault after the claim
	// and before the request id was recorded.
	lost promise = "lost"

	// chargedTwice: RunComfy accepted more than one job for the same versions of
	// the same files with the same options. Each job after the first is a
	// finding.
	chargedTwice promise = "charged twice"

	// wrongStatus: a record, status, answer file, notice or execution is wrong or missing; a
	// take should not have started, or should have been cancelled; or a message, event,
	// execution or dead letter is left. Each record must have ended as RunComfy's job did,
	// except a record that ended as unknown because of a fault, as under lost. The status of a
	// name must be about the name's newest drop and agree with the record.
	wrongStatus promise = "wrong status"

	// leaked: an object outside inbox/, a notice or an execution contains the token or
	// the signature of a presigned URL, or the token was sent to the host of an output.
	leaked promise = "secrets found"

	// Victims drop their files at the same time as a hostile person, in a world in which each
	// request to S3 takes some time. noStatus: a victim has no status, or a status that is waiting
	// although the files are there, or a message about the victim became a dead letter.
	noStatus promise = "victims without a status"

	// overCap: RunComfy accepted a job that exceeds a cap of the day on which its take was
	// claimed, or the book of that day is wrong.
	overCap promise = "over the cap"
)

var promises = []promise{lost, chargedTwice, wrongStatus, leaked, noStatus, overCap}

// check checks a world in which nothing is left to do.
func (s *simulation) check() {
	records := s.records()
	accepted := s.checkCharges(records) // the same files and options are paid for once, and each job that succeeded is recorded
	for _, rec := range records {
		s.checkRecord(rec, accepted) // each take ended as its job did; each output is archived, byte for byte
	}
	for _, d := range s.drops {
		s.judge(d.acts, s.takesOf(d)) // each status and answer file says what the oracle expects
	}
	if n := len(s.w.Dead) + len(s.w.DeadDeletions); n > 0 {
		s.wrong("%d dead letters are left", n)
	}
	if !s.w.Rests() {
		s.wrong("a message, an event or an execution is left")
	}
	s.checkCaps()    // each day is within its caps, and its book is right
	s.checkNotices() // each status and record has the notice that its state needs, and no notice is wrong
	s.checkSecrets() // no notice, no execution and no object outside inbox/ has a secret in it
}

// judge compares the statuses and answer files about a drop, and the records of its takes, with
// what the oracle expects after the given acts.
//
// The oracle is a second, small implementation of what lipdrop promises. It knows
// what people did and when, and derives what the status of each name must say in
// the end. It shares no code with package drop or the functions, so it does not
// share their mistakes. First, inbox.names derives the expected result of each name's
// files. Then verdictOf decides whether the status must be about these files or about a
// take.
func (s *simulation) judge(acts []act, records []ledger.Record) {
	takes := map[string][]ledger.Record{}
	names := map[string]bool{}
	for _, rec := range records {
		takes[rec.Name] = append(takes[rec.Name], rec)
		names[rec.Name] = true
	}
	for i := range acts {
		for name := range inboxAfter(acts[:i+1]).names() {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s.judgeName(name, acts, takes[name])
		for _, rec := range takes[name] {
			s.judgeStart(rec, acts, takes[name])
		}
	}
	s.judgeFiles(inboxAfter(acts))
}

// file is a file below inbox/.
type file struct {
	key      string
	body     []byte
	etag     string
	dropped  time.Time // when the upload ended
	modified time.Time // LastModified, to the second: when the upload began
}

// act is one thing that a person did below inbox/.
type act struct {
	at      time.Time
	late    time.Duration // how late the event of the act is
	deleted bool
	file
}

// inbox holds the files below inbox/ at some time, by key.
type inbox map[string]file

// inboxAfter returns the inbox after some acts.
func inboxAfter(acts []act) inbox {
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

// want is the expected result of the files of a name. The state is empty if the files
// are a job.
type want struct {
	state ledger.State
	code  problem.Code
	files []file   // the files of the name
	uses  []file   // for a job: the files whose versions identify a take
	jobs  []string // if the state is ledger.Used: the names of the jobs
	sides []want   // if a pair and a bundle share the name: the result of each
}

// whole reports whether the files are a job, or are used by other jobs.
func (w want) whole() bool { return w.state == "" || w.state == ledger.Used }

// loose reports whether a pair and a bundle share the name and at least one of the two is
// not whole. Then the oracle does not judge what ran.
func (w want) loose() bool {
	return slices.ContainsFunc(w.sides, func(side want) bool { return !side.whole() })
}

// jobOf returns the job that a record may belong to: w or a side of w.
func (w want) jobOf(rec ledger.Record) (want, bool) {
	for _, side := range append([]want{w}, w.sides...) {
		if side.state == "" && madeFrom(rec, side.uses) && (len(w.sides) == 0 || w.loose()) {
			return side, true
		}
	}
	return want{}, false
}

// stamp returns the LastModified of the newest file, in the format of stampOf.
func (w want) stamp() string {
	var newest time.Time
	for _, f := range w.files {
		if f.modified.After(newest) {
			newest = f.modified
		}
	}
	return newest.UTC().Format(ledger.StampLayout)
}

// stampOf returns the time with which a take's id begins.
func stampOf(rec ledger.Record) string { return rec.Take[:len(ledger.StampLayout)] }

// names returns the expected result of each name that has files.
func (b inbox) names() map[string]want {
	names := map[string]want{}
	add := func(name string, w want) {
		other, twice := names[name]
		if !twice {
			names[name] = w
			return
		}
		// If a pair and a bundle share a name, neither runs. See loose for the exception.
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
		// If a pair shares the bundle's name, the bundle's matches do not run either.
		for match, w := range bundled(name, files) {
			if match != name {
				names[match] = want{state: ledger.Rejected, code: problem.Ambiguous, files: w.uses}
			}
		}
	}
	return names
}

func (b inbox) keys() []string { return slices.Sorted(maps.Keys(b)) }

// lone returns the expected result of files without a partner.
func lone(code problem.Code, files []file) want {
	if len(files) > 1 {
		return want{state: ledger.Rejected, code: problem.Ambiguous, files: files}
	}
	return want{state: ledger.Waiting, code: code, files: files}
}

// pair returns the expected result of the visuals and audios of one name.
func (b inbox) pair(visuals, audios []file) want {
	files := append(slices.Clone(visuals), audios...)
	if len(visuals) > 1 || len(audios) > 1 || len(b.presets(path.Dir(visuals[0].key))) > 1 {
		return want{state: ledger.Rejected, code: problem.Ambiguous, files: files}
	}
	return want{files: files, uses: files}
}

// presets returns the presets that are directly in a folder.
func (b inbox) presets(folder string) []file {
	var found []file
	for key, f := range b {
		if path.Dir(key) == folder && strings.EqualFold(path.Base(key), "preset.json") {
			found = append(found, f)
		}
	}
	return found
}

// bundled returns the expected results of a .job folder and of its matches, by name.
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
	if emotion, _ := text.Input["emotion"].(string); strings.HasPrefix(emotion, wrongEmotion) {
		return one(want{state: ledger.Rejected, code: problem.BadValue, files: []file{manifest}})
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
		if f, ok := there[folder+named]; ok {
			used = append(used, f)
		} else {
			missing = true
		}
	}
	waits := want{state: ledger.Waiting, code: problem.WaitingForFiles, files: []file{manifest}}
	switch {
	case pattern == "" && missing:
		return one(waits)
	case pattern == "":
		return one(want{files: used, uses: []file{manifest}})
	}
	wants, own := map[string]want{}, want{state: ledger.Used, files: []file{manifest}}
	for _, key := range there.keys() {
		if ok, _ := path.Match(folder+pattern, key); !ok {
			continue
		}
		stem := strings.TrimSuffix(path.Base(key), path.Ext(key))
		match := want{files: append(slices.Clone(used), there[key]), uses: []file{manifest, there[key]}}
		if missing {
			match.state, match.code, match.files = waits.state, waits.code, match.uses
		}
		wants[name+"/"+stem] = match
		own.jobs, own.files = append(own.jobs, name+"/"+stem), append(own.files, there[key])
	}
	if len(own.jobs) == 0 {
		own.state, own.code = ledger.Waiting, problem.WaitingForMatch
	}
	slices.Sort(own.jobs)
	wants[name] = own
	return wants
}

func kindOf(name string) string {
	return map[string]string{".mp4": "video", ".png": "image", ".wav": "audio"}[strings.ToLower(path.Ext(name))]
}

// withoutTag returns a stem without its last dot and the text after it. It returns
// "" if there is no dot in the last part of the path.
func withoutTag(stem string) string {
	i := strings.LastIndexByte(stem, '.')
	if i <= strings.LastIndexByte(stem, '/') {
		return ""
	}
	return stem[:i]
}

// deletionCancels reports whether the deletion of a file cancels the jobs that use it.
func deletionCancels(key string) bool {
	if strings.Contains(key, ".job/") {
		return path.Base(key) == "job.json"
	}
	return kindOf(key) != ""
}

// madeFrom reports whether a record was made from these versions of files. It returns false
// if there are no files.
func madeFrom(rec ledger.Record, files []file) bool {
	for _, f := range files {
		if !slices.ContainsFunc(rec.Inputs, func(in ledger.Input) bool {
			return in.Key == f.key && in.ETag == f.etag && in.LastModified.Truncate(time.Second).Equal(f.modified)
		}) {
			return false
		}
	}
	return len(files) > 0
}

// newest returns the record of the newest take of a name, or nil.
func newest(takes []ledger.Record) *ledger.Record {
	if len(takes) == 0 {
		return nil
	}
	last := slices.MaxFunc(takes, func(a, b ledger.Record) int {
		return cmp.Or(cmp.Compare(stampOf(a), stampOf(b)), a.Times.Claimed.Compare(b.Times.Claimed))
	})
	return &last
}
