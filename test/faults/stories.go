package main

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// trouble is the one thing that goes wrong in a story.
type trouble string

const (
	noTrouble       trouble = "nothing"
	startsFail      trouble = "no execution starts" // until the message is a dead letter
	cannotCancel    trouble = "no cancel for an hour"
	stopsFail       trouble = "no execution is stopped"
	throttled       trouble = "429, and S3 refuses the release of the claim"
	responseLost    trouble = "the response is lost"    // RunComfy accepts the job
	forgotten       trouble = "forgotten after its end" // RunComfy forgets a request whose job it has reported as failed
	notKnownForLong trouble = "not known for minutes"   // RunComfy does not know the request
	interleaved     trouble = "side by side"            // other functions and people act between two calls that a function makes
	slow            trouble = "slow calls"              // to AWS, and RunComfy's POST
	unpaid          trouble = "no balance for hours"
	shuffled        trouble = "the events arrive after all acts, in another order"
)

var troubles = []trouble{
	noTrouble, startsFail, cannotCancel, stopsFail, throttled, responseLost, forgotten, notKnownForLong,
	interleaved, slow, unpaid, shuffled, shuffled, shuffled, // shuffled is three times as likely as each other trouble
}

// story is a world with a few acts of people, a few names and one trouble.
type story struct {
	*simulation
	number  uint64
	trouble trouble
	dropped *drop    // everything that people drop
	lines   []string // the acts as text
	queue   time.Duration
	run     time.Duration
	fails   bool // RunComfy's jobs fail

	from, until time.Duration // when RunComfy's faults begin and end, since the start of the world; those of submit begin at 0; the trouble forgotten ignores both times

	hasty     int                     // how often people have acted while submit ran
	refusals  int                     // number of refused writes to a claim
	reported  map[string]bool         // requests whose result call has reported a failed job
	stopped   map[string]bool         // names whose execution a person stopped
	cancelled map[string]cancellation // takes that must be cancelled, by the key of their record
}

// cancellation is a take that must be cancelled.
type cancellation struct {
	take ledger.Record
	key  string    // the file that was deleted
	by   time.Time // the time by which cancel has handled the deletion
}

// tellStory runs a story and returns it with its findings.
func tellStory(seed, number uint64) (*story, error) {
	s, err := newEmptySimulation(seed, number)
	if err != nil {
		return nil, err
	}
	t := &story{
		simulation: s, number: number, dropped: &drop{}, reported: map[string]bool{},
		stopped: map[string]bool{}, cancelled: map[string]cancellation{},
	}
	t.stories = 1
	t.drops = append(t.drops, t.dropped)
	t.trouble = troubles[max(0, t.plans.IntN(2*len(troubles))-len(troubles))] // about half of the stories have none
	t.queue = []time.Duration{0, time.Minute, 10 * time.Minute, 3 * time.Hour}[t.plans.IntN(4)]
	t.run = []time.Duration{time.Minute, 10 * time.Minute}[t.plans.IntN(2)]
	t.fails = t.trouble == forgotten || t.chance(0.1)
	t.from = t.between(0, 20*time.Minute)
	t.until = t.from + 15*time.Minute
	t.w.Batch = 1 + t.plans.IntN(10)
	t.setCaps(budget.Caps{Jobs: 1000}) // more jobs than a story has: submit keeps the book of the day, but no cap is reached
	switch t.trouble {
	case slow:
		t.w.S3Latency, t.w.Batch = t.between(100*time.Millisecond, time.Second), t.w.SubmitBatch()
	case interleaved:
		t.w.S3Latency = s3Latency // so that no two things happen at the same time
	case cannotCancel, stopsFail:
		t.queue, t.from, t.until = 4*time.Hour, 0, time.Hour
	case unpaid:
		t.until = t.from + 6*time.Hour
	}
	t.w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
		script := runcomfytest.Script{Queue: t.queue, Run: t.run}
		if t.fails {
			script.Fail = "no face found"
		}
		return script
	}
	t.w.RunComfy.Fault = t.fault
	t.w.Before = t.before
	t.w.After = func(c world.Call) error { t.noteClaim(c); return nil }
	t.people()
	t.end()
	return t, nil
}

// mostRefused is the number of times that S3 refuses to change a claim. The client tries each call
// three times, so three calls fail.
const mostRefused = 9

// changesClaim reports whether a write to a key changes a record in the state submitting.
func (t *story) changesClaim(key string) bool {
	rec, ok := t.recordAt(key)
	return ok && strings.HasPrefix(key, "jobs/") && rec.State == ledger.Submitting
}

// before is called before each call that a function makes.
func (t *story) before(c world.Call) error {
	t.calls++
	if t.calmed {
		return nil
	}
	switch {
	case t.trouble == startsFail && c.Op == "StartExecution", t.trouble == stopsFail && c.Op == "StopExecution":
		return world.ErrThrottledStates
	case t.trouble == throttled && t.refusals < mostRefused && c.Op == "PutObject" && t.changesClaim(c.Key):
		t.refusals++
		return world.Throttled
	case t.trouble == slow && c.Service != "runcomfy" && t.dice.Float64() < 0.05:
		t.w.Spend(20 * time.Second)
	case t.trouble == interleaved && t.depth < maxDepth && t.dice.Float64() < 0.1:
		t.depth++
		t.w.Step(min(roomForOther, c.Deadline.Sub(t.w.Now())/2))
		t.depth--
	case t.trouble == interleaved && c.Function == "submit" && t.hasty < 3 && t.dice.Float64() < 0.02:
		t.hasty++
		t.dropOrDelete() // while submit assesses the files that were there
	}
	return nil
}

// fault returns the fault of a request that reaches RunComfy, or nil.
func (t *story) fault(r *http.Request, _ []byte) *runcomfytest.Fault {
	call, id := runcomfytest.CallOf(r)
	t.noteCharge()
	claimed := t.openClaims[world.InvocationOf(r)]
	if call == runcomfytest.CallSubmit {
		t.notePOST(claimed)
	}
	fault := t.faultOf(call, id, claimed)
	if fault == nil && call == runcomfytest.CallResult {
		if job, ok := t.w.RunComfy.Job(id); ok && job.State == "failed" {
			t.reported[id] = true
		}
	}
	return fault
}

func (t *story) faultOf(call runcomfytest.Call, id, claimed string) *runcomfytest.Fault {
	named := func(name string) *runcomfytest.Fault {
		fault := runcomfytest.FaultNamed(call, name)
		return &fault
	}
	asks := call == runcomfytest.CallStatus || call == runcomfytest.CallResult
	if t.trouble == forgotten && asks && t.reported[id] {
		return named("unknown request") // permanently
	}
	if t.calmed {
		return nil
	}
	if t.trouble == slow && call == runcomfytest.CallSubmit {
		t.w.Spend(25 * time.Second)
	}
	active := t.from <= t.since() && t.since() < t.until
	switch {
	case t.trouble == cannotCancel && call == runcomfytest.CallCancel && active:
		return named("503")
	case t.trouble == throttled && call == runcomfytest.CallSubmit && t.since() < t.until:
		return named("429")
	case t.trouble == unpaid && call == runcomfytest.CallSubmit && t.since() < t.until:
		return named("402")
	case t.trouble == responseLost && call == runcomfytest.CallSubmit && t.since() < t.until:
		t.excused[claimed] = true
		return named("accepted, then reset")
	case t.trouble == notKnownForLong && asks && active:
		return named("unknown request")
	}
	return nil
}

// people drops the files of an opening in random order and then does one to five other acts.
// If the trouble is shuffled, the events of all these acts arrive afterwards.
func (t *story) people() {
	opening := openings[t.plans.IntN(len(openings))]
	for _, i := range t.plans.Perm(len(opening)) {
		t.drop(opening[i])
		t.w.Pass([]time.Duration{0, time.Second, 3 * time.Second, time.Minute}[t.plans.IntN(4)])
	}
	for range 1 + t.plans.IntN(5) {
		t.w.Pass(gaps[t.plans.IntN(len(gaps))])
		t.actAtRandom()
	}
	if t.trouble != shuffled {
		return
	}
	for _, i := range t.plans.Perm(len(t.dropped.acts)) {
		a := &t.dropped.acts[i]
		a.late = t.w.Now().Sub(a.at)
		t.notify(a.key, a.deleted, 0)
		t.tell("the event of %s arrives", a.key)
		t.w.Pass([]time.Duration{0, time.Second, time.Minute}[t.plans.IntN(3)])
	}
}

func (t *story) addAct(a act) {
	t.dropped.acts = append(t.dropped.acts, a)
	if t.trouble != shuffled {
		t.notify(a.key, a.deleted, a.late)
	}
}

// notify sends the events of a file that was dropped or deleted.
func (t *story) notify(key string, deleted bool, late time.Duration) {
	if !deleted {
		t.w.Notify("Object Created", key, late)
		return
	}
	t.w.Notify("Object Deleted", key, late)
	t.w.NotifyCancel(key, "DeleteObject", late)
}

var gaps = []time.Duration{3 * time.Second, 40 * time.Second, 5 * time.Minute, 5 * time.Minute, time.Hour, 5 * time.Hour}

// openings are the files that people drop first, below inbox/.
var openings = [][]string{
	{"s/talk.mp4", "s/talk.wav"},
	{"s/talk.png", "s/talk.wav"},
	{"s/talk.mp4", "s/talk.wav", "s/talk.WAV"},
	{"s/talk.mp4", "s/talk.de.wav", "s/talk.fr.wav"},
	{"s/talk.de.mp4", "s/talk.de.wav", "s/talk.mp4"},
	{"s/talk.job/v.mp4", "s/talk.job/a.wav", "s/talk.job/job.json"},
	{"s/talk.job/f.png", "s/talk.job/a.wav", "s/talk.job/b.wav", "s/talk.job/job.json = wild"},
	{"s/talk.mp4", "s/talk.wav", "s/talk.job/v.mp4", "s/talk.job/a.wav", "s/talk.job/job.json"},
	{"s/preset.json", "s/PRESET.json", "s/talk.mp4", "s/talk.wav"},
}

// vocabulary is what people may drop later.
var vocabulary = []string{
	"s/talk.mp4", "s/talk.MP4", "s/talk.png", "s/talk.wav", "s/talk.WAV", "s/talk.de.wav", "s/talk.de.mp4",
	"s/talk.job/v.mp4", "s/talk.job/a.wav", "s/talk.job/c.wav", "s/talk.job/job.json", "s/talk.job/job.json = wild", "s/talk.job/job.json = broken", "s/talk.job/job.json = wrong",
	"s/talk.job/job.json = narrow", "s/notes.txt", "s/preset.json",
}

func (t *story) actAtRandom() {
	keys := inboxAfter(t.dropped.acts).keys()
	if len(keys) == 0 {
		t.drop(vocabulary[t.plans.IntN(len(vocabulary))])
		return
	}
	key := keys[t.plans.IntN(len(keys))]
	switch r := t.plans.Float64(); {
	case r < 0.3:
		t.delete(key)
	case r < 0.35:
		for _, each := range keys {
			if path.Dir(each) == path.Dir(key) {
				t.delete(each)
			}
		}
	case r < 0.55:
		t.drop(strings.TrimPrefix(key, ledger.InboxPrefix))
	case r < 0.65:
		t.dropLarge(keys)
	case r < 0.8:
		t.drop(vocabulary[t.plans.IntN(len(vocabulary))])
	case r < 0.85:
		t.stop()
	default:
		t.redrive()
	}
}

func (t *story) dropOrDelete() {
	keys := inboxAfter(t.dropped.acts).keys()
	if len(keys) == 0 {
		return
	}
	key := keys[t.plans.IntN(len(keys))]
	if t.chance(0.5) {
		t.delete(key)
	} else {
		t.drop(strings.TrimPrefix(key, ledger.InboxPrefix))
	}
}

func (t *story) tell(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf("%14s  ", t.since().Round(time.Second))+fmt.Sprintf(format, args...))
}

// drop drops a file now. For a job.json, the text after " = " says what it contains.
func (t *story) drop(what string) { t.put(what, t.w.Now()) }

// put drops a file whose upload began at the given time.
func (t *story) put(what string, began time.Time) {
	key, holds, _ := strings.Cut(ledger.InboxPrefix+what, " = ")
	maps.DeleteFunc(t.cancelled, func(_ string, c cancellation) bool {
		return c.key == key && t.w.Now().Before(c.by) // cancel will find that the file is there again
	})
	body := t.bodyOf(key, holds)
	late := t.randomLateness(0.1, time.Hour)
	t.addAct(t.upload(key, body, began, late))
	event := late.Round(time.Second).String() + " late"
	if t.trouble == shuffled {
		event = "after all acts"
	}
	t.tell("%s is dropped (event %s; LastModified %s)", what, event, began.Format("15:04:05"))
}

// dropLarge drops a file again. The upload takes a while, and the file's LastModified is the
// time when the upload began. During the upload, another file may be dropped again.
func (t *story) dropLarge(keys []string) {
	large := keys[t.plans.IntN(len(keys))]
	began := t.w.Now()
	t.w.Pass(t.between(time.Second, 20*time.Second))
	if small := keys[t.plans.IntN(len(keys))]; small != large {
		t.drop(strings.TrimPrefix(small, ledger.InboxPrefix))
	}
	t.w.Pass(t.between(time.Second, 2*time.Minute))
	t.put(strings.TrimPrefix(large, ledger.InboxPrefix), began)
}

func (t *story) delete(key string) {
	t.expectCancel(key)
	t.w.Bucket.Remove(key)
	t.addAct(act{at: t.w.Now(), deleted: true, file: file{key: key}})
	t.tell("%s is deleted", strings.TrimPrefix(key, ledger.InboxPrefix))
}

// expectCancel notes the takes that a deletion must cancel. They use the file, and
// their job stays queued long enough for a call of /cancel to succeed.
func (t *story) expectCancel(key string) {
	if !deletionCancels(key) {
		return
	}
	etag := t.w.PresentETag(key)
	for _, rec := range t.records() {
		uses := slices.ContainsFunc(rec.Inputs, func(in ledger.Input) bool { return in.Key == key && in.ETag == etag })
		starts := rec.Times.Submitted.Add(t.queue)
		if uses && !rec.State.Ended() && rec.RequestID != "" && starts.After(t.w.Now().Add(t.troubleLeft()+70*time.Minute)) {
			t.cancelled[ledger.RecordKey(rec.Name, rec.Take)] = cancellation{rec, key, t.w.Now().Add(t.troubleLeft() + 5*time.Minute)}
		}
	}
}

// troubleLeft returns how long calls of /cancel will still fail.
func (t *story) troubleLeft() time.Duration {
	if t.trouble != cannotCancel {
		return 0
	}
	return max(0, t.until-t.since())
}

func (t *story) stop() {
	recs := t.records()
	if len(recs) == 0 {
		return
	}
	rec := recs[t.plans.IntN(len(recs))]
	t.w.Stop(rec.Name, rec.Take)
	t.stopped[rec.Name] = true
	t.tell("the execution of %s is stopped", rec.Name)
}

func (t *story) redrive() {
	for _, rec := range t.records() {
		if rec.State == ledger.Failed && t.w.Redrive(rec.Name, rec.Take) == nil {
			t.tell("%s, which was %s, is redriven", rec.Name, rec.Code)
		}
	}
}

// end ends the trouble, waits until all jobs have ended, and checks the result.
func (t *story) end() {
	if t.trouble == startsFail {
		// The message becomes a dead letter. Instead of redriving the dead letter, a person
		// drops the files again, as the status asks.
		t.w.Pass(26 * time.Hour)
		t.calmed = true
		t.w.Dead = nil
		for _, key := range inboxAfter(t.dropped.acts).keys() {
			if deletionCancels(key) {
				t.drop(strings.TrimPrefix(key, ledger.InboxPrefix))
			}
		}
	}
	t.w.Pass(7 * time.Hour) // longer than a job is queued
	t.calm(3*time.Hour, 3*time.Hour)
	t.check()
	t.judgeCancelled()
}

func (t *story) text() string {
	return fmt.Sprintf("    story %d: each job is queued for %s and runs for %s; trouble: %s\n%s", t.number, t.queue, t.run, t.trouble, strings.Join(t.lines, "\n"))
}
