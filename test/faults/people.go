package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// kind is the kind of a drop.
type kind int

const (
	pair kind = iota
	portrait
	tagged
	bundle
	wildcard
	loneAudio
	stray
)

// drop is what a person drops together. It makes one job, two jobs (tagged audios
// or a wildcard) or none.
type drop struct {
	kind  kind
	name  string
	files []string // keys; the job.json of a bundle is the last
	jobs  []job
	acts  []act // what was done to the files so far
}

// job is the name of a job and the files that it needs.
type job struct {
	name  string
	files []string
}

// action is something that happens at a given time.
type action struct {
	at time.Duration // since the world began
	do func()
}

const (
	dropTime  = 24 * time.Hour // in which people drop
	chaosTime = 48 * time.Hour // in which faults happen
)

// plan plans what people do, until they ask for the given number of jobs.
func (s *simulation) plan(jobs int) {
	for s.jobs < jobs {
		d := s.invent()
		at := s.between(0, dropTime)
		s.dropAll(d, at)
		s.drops = append(s.drops, d)
		s.jobs += len(d.jobs)
		if len(d.jobs) == 0 {
			continue
		}
		if s.chance(0.1) && s.jobs < jobs {
			s.dropAgain(d, at+s.between(time.Minute, 6*time.Hour))
		}
		if (d.kind == pair || d.kind == portrait) && s.chance(0.05) && s.jobs < jobs {
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

// invent returns a random drop.
func (s *simulation) invent() *drop {
	name := fmt.Sprintf("day %d/%d é+%%", s.plans.IntN(5), len(s.drops))
	at := ledger.InboxPrefix + name
	d := &drop{name: name, kind: []kind{
		pair, pair, pair, pair, pair, pair, pair, pair, pair, pair,
		portrait, portrait, tagged, tagged, bundle, bundle, wildcard, loneAudio, stray,
	}[s.plans.IntN(19)]}
	switch d.kind {
	case pair, portrait:
		suffix := ".mp4"
		if d.kind == portrait {
			suffix = ".png"
		}
		d.files = []string{at + suffix, at + ".wav"}
		d.jobs = []job{{name, d.files}}
	case tagged:
		d.files = []string{at + ".mp4", at + ".de.wav", at + ".fr.wav"}
		d.jobs = []job{
			{name + ".de", []string{d.files[0], d.files[1]}},
			{name + ".fr", []string{d.files[0], d.files[2]}},
		}
	case bundle:
		d.files = []string{at + ".job/talk.mp4", at + ".job/voice.wav", at + ".job/job.json"}
		d.jobs = []job{{name, d.files}}
	case wildcard:
		d.files = []string{at + ".job/face.png", at + ".job/a.wav", at + ".job/b.wav", at + ".job/job.json"}
		d.jobs = []job{
			{name + "/a", []string{d.files[0], d.files[1], d.files[3]}},
			{name + "/b", []string{d.files[0], d.files[2], d.files[3]}},
		}
	case loneAudio:
		d.files = []string{at + ".wav"}
	case stray:
		d.files = []string{at + ".txt"}
	}
	return d
}

// dropAll drops every file of a drop in random order, mostly within seconds.
func (s *simulation) dropAll(d *drop, at time.Duration) {
	files := slices.Clone(d.files)
	s.plans.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for i, key := range files {
		// One event of a pair or a bundle is enough to find all its files. So every
		// event may be lost, except the last file's.
		whole := d.kind == pair || d.kind == portrait || d.kind == bundle
		s.dropOne(d, key, at, whole && i < len(files)-1)
		if s.chance(0.2) {
			at += s.between(0, 5*time.Minute)
		} else {
			at += s.between(0, 3*time.Second)
		}
	}
}

// dropOne drops a file. Its event may be repeated or late. It may be lost if spare
// is true.
func (s *simulation) dropOne(d *drop, key string, at time.Duration, spare bool) {
	body := s.content(d, key)
	late := time.Duration(0)
	if s.chance(0.1) {
		late = s.between(0, time.Hour)
		s.faults["event of a drop late"]++
	}
	if lost := spare && s.chance(0.03); lost {
		s.faults["event of a drop lost"]++
		s.act(at, func() { d.acts = append(d.acts, s.upload(key, body, s.w.Now(), 0)) })
		return
	}
	s.act(at, func() {
		d.acts = append(d.acts, s.upload(key, body, s.w.Now(), late))
		s.w.Notify("Object Created", key, late)
	})
	for s.chance(0.1) {
		s.faults["event of a drop repeated"]++
		again := s.between(0, 10*time.Hour)
		s.act(at, func() { s.w.Notify("Object Created", key, again) })
	}
}

// dropAgain drops one file of a drop again, which makes new jobs.
func (s *simulation) dropAgain(d *drop, at time.Duration) {
	key := d.files[len(d.files)-1]
	if d.kind == pair || d.kind == portrait || d.kind == tagged {
		key = d.files[s.plans.IntN(len(d.files))]
	}
	for _, j := range d.jobs {
		if slices.Contains(j.files, key) {
			s.jobs++
		}
	}
	s.faults["people: dropped again"]++
	s.dropOne(d, key, at, false)
}

// dropLargeAgain drops both files of a pair again. The upload of the large file
// takes a while, and its LastModified is the time when the upload began. The small
// file arrives during the upload. Each of the two files may make a job.
func (s *simulation) dropLargeAgain(d *drop, at time.Duration) {
	large, small := d.files[0], d.files[1]
	uploading := s.between(5*time.Second, 5*time.Minute)
	s.jobs += 2
	s.faults["people: large file dropped again"]++
	s.dropOne(d, small, at+s.between(time.Second, uploading), false)
	body := s.content(d, large)
	s.act(at+uploading, func() {
		d.acts = append(d.acts, s.upload(large, body, s.w.Now().Add(-uploading), 0))
		s.w.Notify("Object Created", large, 0)
	})
}

// upload writes a file whose upload began at the given time and ends now. It returns the act,
// whose event is late by the given time.
func (s *simulation) upload(key string, body []byte, began time.Time, late time.Duration) act {
	s.w.PutLarge(key, body, began)
	etag, _ := s.w.Present(key)
	return act{at: s.w.Now(), late: late, file: file{key, body, etag, s.w.Now(), began.UTC().Truncate(time.Second)}}
}

// deleteOne deletes one file. Cancel's event may be repeated, late or lost.
func (s *simulation) deleteOne(d *drop, at time.Duration) {
	key := d.files[s.plans.IntN(len(d.files))]
	s.faults["people: deleted"]++
	lost, again := s.chance(0.1), s.chance(0.2)
	late := time.Duration(0)
	if s.chance(0.2) {
		late = s.between(0, 3*time.Hour)
	}
	s.act(at, func() {
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

// stopOne stops the execution of the newest take of one job of a drop.
func (s *simulation) stopOne(d *drop, at time.Duration) {
	name := d.jobs[s.plans.IntN(len(d.jobs))].name
	s.act(at, func() {
		if takes := s.w.Takes(name); len(takes) > 0 {
			s.faults["people: execution stopped"]++
			s.w.Stop(name, takes[len(takes)-1].Take)
		}
	})
}

// redriveBad redrives those executions of a drop that ended badly.
func (s *simulation) redriveBad(d *drop, at time.Duration) {
	s.act(at, func() {
		for _, j := range d.jobs {
			for _, rec := range s.w.Takes(j.name) {
				// The record may not say yet that the execution ended.
				if rec.State != ledger.Cancelled && s.w.Redrive(j.name, rec.Take) == nil {
					s.faults["people: redriven"]++
				}
			}
		}
	})
}

// act adds an action to the plan.
func (s *simulation) act(at time.Duration, do func()) {
	s.actions = append(s.actions, action{at, do})
}

func (s *simulation) chance(p float64) bool { return s.plans.Float64() < p }

func (s *simulation) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.plans.Int64N(int64(to-from)))
}

// soon returns how long after a drop a person changes their mind, mostly minutes.
func (s *simulation) soon() time.Duration {
	if s.chance(0.7) {
		return s.between(10*time.Second, 10*time.Minute)
	}
	return s.between(10*time.Minute, 5*time.Hour)
}

// content returns the bytes of a file. They are unique, except for voices.
func (s *simulation) content(d *drop, key string) []byte {
	s.contents++
	switch {
	case kindOf(key) != "":
		return s.mediaOf(key)
	case d.kind == wildcard:
		return fmt.Appendf(nil, `{"model": "community/live-avatar", "input": {"image_url": "face.png", "audio_url": "*.wav", "prompt": "take %d"}}`, s.contents)
	case d.kind == bundle:
		return fmt.Appendf(nil, `{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "voice.wav", "temperature": %.6f}}`, float64(s.contents)/1e6)
	}
	return fmt.Append(nil, s.contents)
}

// mediaOf returns the bytes of a video, a voice or an image. Videos and images contain
// the number of contents, which makes them unique.
func (s *simulation) mediaOf(key string) []byte {
	switch kindOf(key) {
	case "video":
		// Players ignore the free box after the clip.
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
