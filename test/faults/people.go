package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// shape is what a person drops together.
type shape struct {
	files []string // the end of each key; the text after " = " says what a job.json contains
	jobs  int      // how many jobs the files make
}

var (
	pair      = shape{[]string{".mp4", ".wav"}, 1}
	portrait  = shape{[]string{".png", ".wav"}, 1}
	tagged    = shape{[]string{".mp4", ".de.wav", ".fr.wav"}, 2}
	bundle    = shape{[]string{".job/v.mp4", ".job/a.wav", ".job/job.json"}, 1}
	wildcard  = shape{[]string{".job/f.png", ".job/a.wav", ".job/b.wav", ".job/job.json = wild"}, 2}
	loneAudio = shape{[]string{".wav"}, 0}
	stray     = shape{[]string{".txt"}, 0}
)

// shapes are what people drop, the usual shapes more often.
var shapes = append(slices.Repeat([]shape{pair}, 10), portrait, portrait, tagged, tagged, bundle, bundle, wildcard, loneAudio, stray)

// drop is what a person has dropped, and what was done to it.
type drop struct {
	shape
	name string // the names of its jobs, and the keys of its files below inbox/, begin with this text
	acts []act
}

// key returns the key of a file of a drop and, for a job.json, what the file contains. The
// parameter is an element of shape.files.
func (d *drop) key(file string) (key, holds string) {
	key, holds, _ = strings.Cut(ledger.InboxPrefix+d.name+file, " = ")
	return key, holds
}

// action is something that happens at a given time.
type action struct {
	at time.Duration // since the world began
	do func()
}

const (
	dropTime  = 24 * time.Hour // the time in which people drop files for the first time
	chaosTime = 48 * time.Hour // the time in which outages begin
)

// plan plans what people do. It stops when the drops make at least the given number of jobs.
func (s *simulation) plan(jobs int) {
	for s.jobs < jobs {
		d := &drop{name: fmt.Sprintf("day %d/%d é+%%", s.plans.IntN(5), len(s.drops)), shape: shapes[s.plans.IntN(len(shapes))]}
		at := s.between(0, dropTime)
		s.dropAll(d, at)
		s.jobs += d.jobs
		if d.jobs == 0 {
			continue
		}
		if s.chance(0.1) && s.jobs < jobs {
			s.dropAgain(d, at+s.between(time.Minute, 6*time.Hour))
		}
		if len(d.files) == 2 && s.chance(0.05) && s.jobs < jobs {
			s.dropLargeAgain(d, at+s.between(time.Minute, 6*time.Hour))
		}
		if s.chance(0.08) {
			s.deleteOne(d, at+s.soon())
		}
		if s.chance(0.06) {
			s.stopOne(d, at+s.soon())
		}
		if s.chance(0.1) {
			s.redriveBad(d, at+s.between(time.Minute, 20*time.Hour))
		}
	}
}

// dropAll drops every file of a drop in random order, mostly within seconds.
func (s *simulation) dropAll(d *drop, at time.Duration) {
	s.drops = append(s.drops, d)
	for i, n := range s.plans.Perm(len(d.files)) {
		// If a drop makes one job, the event of the last file is enough to find all files. So
		// the events of the other files may be lost.
		s.dropOne(d, d.files[n], at, d.jobs == 1 && i < len(d.files)-1)
		if s.chance(0.2) {
			at += s.between(0, 5*time.Minute)
		} else {
			at += s.between(0, 3*time.Second)
		}
	}
}

// dropOne drops a file. The file's event may be repeated or late. If spare is true, the event
// may also be lost.
func (s *simulation) dropOne(d *drop, file string, at time.Duration, spare bool) {
	key, holds := d.key(file)
	body := s.bodyOf(key, holds)
	late := s.randomLateness(0.1, time.Hour)
	if late > 0 {
		s.faults["event of a drop late"]++
	}
	lost := spare && s.chance(0.03)
	if lost {
		s.faults["event of a drop lost"]++
	}
	s.schedule(at, func() {
		d.acts = append(d.acts, s.upload(key, body, s.w.Now(), late))
		if !lost {
			s.w.Notify("Object Created", key, late)
		}
	})
	for !lost && s.chance(0.1) {
		s.faults["event of a drop repeated"]++
		again := s.between(0, 10*time.Hour)
		s.schedule(at, func() { s.w.Notify("Object Created", key, again) })
	}
}

// dropAgain drops one file of a drop again, which makes new jobs. If the drop is a bundle,
// that file is job.json.
func (s *simulation) dropAgain(d *drop, at time.Duration) {
	file := d.files[len(d.files)-1]
	if !strings.Contains(file, "job.json") {
		file = d.files[s.plans.IntN(len(d.files))]
	}
	if kindOf(file) == "audio" {
		s.jobs++
	} else {
		s.jobs += d.jobs
	}
	s.faults["people: dropped again"]++
	s.dropOne(d, file, at, false)
}

// dropLargeAgain drops both files of a pair or a portrait again. The upload of the first file
// takes a while, and the file's LastModified is the time when the upload began. The voice
// arrives during the upload. Each of the two files may make a job.
func (s *simulation) dropLargeAgain(d *drop, at time.Duration) {
	large, _ := d.key(d.files[0])
	uploading := s.between(5*time.Second, 5*time.Minute)
	s.jobs += 2
	s.faults["people: large file dropped again"]++
	s.dropOne(d, d.files[1], at+s.between(time.Second, uploading), false)
	body := s.bodyOf(large, "")
	s.schedule(at+uploading, func() {
		d.acts = append(d.acts, s.upload(large, body, s.w.Now().Add(-uploading), 0))
		s.w.Notify("Object Created", large, 0)
	})
}

// upload writes a file. The upload began at the given time and ends now. The caller sends the event;
// late is how late the event is.
func (s *simulation) upload(key string, body []byte, began time.Time, late time.Duration) act {
	s.w.PutLarge(key, body, began)
	return act{at: s.w.Now(), late: late, file: file{key: key, body: body, etag: s.w.PresentETag(key), dropped: s.w.Now(), modified: began.UTC().Truncate(time.Second)}}
}

// deleteOne deletes one file of a drop. The event for submit may be late. The event for cancel
// may be late, repeated or lost.
func (s *simulation) deleteOne(d *drop, at time.Duration) {
	key, _ := d.key(d.files[s.plans.IntN(len(d.files))])
	s.faults["people: deleted"]++
	lost, again := s.chance(0.1), s.chance(0.2)
	late := s.randomLateness(0.2, 3*time.Hour)
	s.schedule(at, func() {
		s.w.Bucket.Remove(key)
		d.acts = append(d.acts, act{at: s.w.Now(), late: late / 2, deleted: true, file: file{key: key}})
		s.w.Notify("Object Deleted", key, late/2)
		if lost {
			s.faults["event of a deletion lost"]++
			return
		}
		s.w.NotifyCancel(key, "DeleteObject", late)
		if again {
			s.w.NotifyCancel(key, "DeleteObject", late*2+time.Minute)
		}
	})
}

// stopOne stops the execution of one take of a drop.
func (s *simulation) stopOne(d *drop, at time.Duration) {
	n := s.plans.IntN(100)
	s.schedule(at, func() {
		if takes := s.takesOf(d); len(takes) > 0 {
			s.faults["people: execution stopped"]++
			s.w.Stop(takes[n%len(takes)].Name, takes[n%len(takes)].Take)
		}
	})
}

// redriveBad redrives the executions of a drop that have ended badly; for others, Redrive fails.
// It leaves out cancelled takes, as lipdrop redrive does.
func (s *simulation) redriveBad(d *drop, at time.Duration) {
	s.schedule(at, func() {
		for _, rec := range s.takesOf(d) {
			if rec.State != ledger.Cancelled && s.w.Redrive(rec.Name, rec.Take) == nil {
				s.faults["people: redriven"]++
			}
		}
	})
}

// takesOf returns the records of a drop's takes.
func (s *simulation) takesOf(d *drop) []ledger.Record {
	return slices.DeleteFunc(s.records(), func(rec ledger.Record) bool { return !strings.HasPrefix(rec.Name, d.name) })
}

func (s *simulation) schedule(at time.Duration, do func()) {
	s.actions = append(s.actions, action{at, do})
}

func (s *simulation) chance(p float64) bool { return s.plans.Float64() < p }

func (s *simulation) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.plans.Int64N(int64(to-from)))
}

// randomLateness returns how late an event is: a random time from 0 to limit with the given
// probability, and otherwise 0.
func (s *simulation) randomLateness(probability float64, limit time.Duration) time.Duration {
	if !s.chance(probability) {
		return 0
	}
	return s.between(0, limit)
}

// soon returns how long after a drop a person changes their mind, mostly minutes.
func (s *simulation) soon() time.Duration {
	if s.chance(0.7) {
		return s.between(10*time.Second, 10*time.Minute)
	}
	return s.between(10*time.Minute, 5*time.Hour)
}

// wrongEmotion is the beginning of a value that no model accepts for its option emotion.
const wrongEmotion = "joyful"

// bodyOf returns the bytes of a file. The bytes are unique, except for a voice. If the file is
// a job.json, holds says what the job.json contains.
func (s *simulation) bodyOf(key, holds string) []byte {
	s.contents++
	if kindOf(key) != "" {
		return s.mediaOf(key)
	}
	if path.Base(key) != "job.json" {
		return []byte(`{"input": {}}` + strings.Repeat(" ", s.contents))
	}
	switch holds {
	case "wild", "narrow":
		pattern := map[string]string{"wild": "*.wav", "narrow": "c*.wav"}[holds]
		return fmt.Appendf(nil, `{"model": "community/live-avatar", "input": {"image_url": "f.png", "audio_url": %q, "prompt": "take %d"}}`, pattern, s.contents)
	case "wrong":
		return fmt.Appendf(nil, `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav", "emotion": %q}}`, wrongEmotion+fmt.Sprint(s.contents))
	case "broken":
		return fmt.Appendf(nil, `{"model": %d`, s.contents)
	default:
		return fmt.Appendf(nil, `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav", "temperature": %.6f}}`, float64(s.contents)/1e6)
	}
}

// mediaOf is bodyOf for a video, a voice or an image.
func (s *simulation) mediaOf(key string) []byte {
	switch kindOf(key) {
	case "video":
		// Players ignore a box of the type free.
		return slices.Concat(s.clip, []byte{0, 0, 0, 16}, []byte("free"), fmt.Appendf(nil, "%08d", s.contents))
	case "audio":
		return s.voice
	}
	picture := image.NewPaletted(image.Rect(0, 0, 512, 512), color.Palette{color.Black, color.White})
	for i := range 64 {
		picture.Pix[i] = uint8(s.contents >> i & 1)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		panic(err) // writes to a buffer cannot fail
	}
	return b.Bytes()
}
