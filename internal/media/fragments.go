package media

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"time"
)

// fragments holds what is known about the movie fragments of a file. A recorder that cannot
// go back to the beginning writes a fragment (moof) every few seconds, and then its samples.
// In it, traf holds the part of one track: tfhd names the track, tfdt says when its samples
// begin, trun how long each of them lasts.
type fragments struct {
	r         *reader
	m         *movie
	firstMoof int64
	next      int64           // offset of the box after the fragments that readFirst read
	indexes   []box           // sidx boxes before the first fragment
	spans     map[uint32]span // of the tracks whose first sample was found, by track id
	cut       bool            // the file ends inside a fragment
	named     map[uint32]bool // the tracks that the index at the end of the file names
	all       bool            // all fragments were read, or an index names each track whose samples were not found
	partial   bool            // samples of the last fragment are missing
}

// span is the part of a track whose samples were found. Its times are in units of the
// track's media and count from its beginning.
type span struct {
	start uint64 // presentation time of the first sample
	end   uint64 // end of the last sample found so far
	delay uint64 // the longest time by which a sample claims to be shown before it is decoded
	frame uint64 // how long most samples last, by a majority vote
	votes int    // samples of this length that no other sample has cancelled
}

// maxTime bounds the times of fragments so that adding a few cannot overflow.
const maxTime = math.MaxInt64 / 4

// errTime reports a time above maxTime.
const errTime = damage("the times in its fragments are too large")

// These parts of the budget are reserved for the search from the end of the file and
// for the segment indexes at its beginning. They are enough for 5,000 fragments.
const (
	tailCalls  = 3
	tailBytes  = 256 << 10
	indexCalls = 2
	indexBytes = 64 << 10
)

// read finds where the samples of the tracks start and end. It looks for the last
// fragment through the index at the end of the file (mfra), then by reading one fragment
// after the other, then by a search from the end. If the budget does not suffice, it uses
// the index at the beginning (sidx). It reports whether it found the end.
func (f *fragments) read() (found bool) {
	f.spans = map[uint32]span{}
	f.r.fits(f.readFirst)
	for _, t := range f.m.tracks {
		if t.total > 0 { // the track has samples before the fragments
			s := f.spans[t.id]
			s.start, s.end = 0, max(s.end, t.total)
			f.spans[t.id] = s
		}
	}
	reserve := int64(min(len(f.indexes), 1))
	err := f.r.withReserve(reserve*indexCalls, reserve*indexBytes, f.findLast)
	switch {
	case errors.Is(err, errEnd):
		f.cut = true
	case errors.Is(err, errBudget):
		return f.bySegmentIndex()
	case err != nil:
		panic(err)
	}
	return true
}

// findLast finds the ends of the tracks by reading the last fragments.
func (f *fragments) findLast() {
	err := f.r.withReserve(tailCalls, tailBytes, f.byRandomAccess)
	if err == nil {
		f.all = !slices.ContainsFunc(f.m.tracks, func(t track) bool {
			_, begun := f.spans[t.id]
			return !begun && !f.named[t.id]
		})
		return
	}
	err = f.r.withReserve(tailCalls, tailBytes, func() { f.follow(f.next, f.r.src.Size, nil) })
	f.all = err == nil && !f.cut
	switch {
	case errors.Is(err, errBudget):
		f.fromTail()
	case err != nil:
		panic(err)
	}
}

// lacks reports whether the fragments certainly hold no samples of a track.
func (f *fragments) lacks(id uint32) bool {
	_, begun := f.spans[id]
	return f.all && !begun
}

// readFirst reads the first fragment of each track. Several tracks may share a
// fragment.
func (f *fragments) readFirst() {
	const most = 8 // boxes: moof and mdat for each of four tracks
	f.next = f.firstMoof
	for range most {
		if len(f.spans) >= len(f.m.tracks) || f.next > f.r.src.Size-8 {
			break
		}
		b := f.r.box(f.next, f.r.src.Size)
		if b.kind == "moof" {
			f.readMoof(b, nil)
		}
		f.next = b.end
	}
}

// priming is the longest sound before the start of the presentation that counts as
// part of the duration. Encoders write such sound while they warm up. ffprobe counts
// it in fragmented files, and the limits of the models allow for it.
const priming = 50 * time.Millisecond

// lengths sets the lengths of the tracks, from their starts, ends and edit lists.
// Fragments that were cut from a longer stream begin late; the time before the first of
// them does not count. If samples claim to be shown before they are decoded, lengths
// delays the track until they no longer do, as ffprobe and players do. Found says
// whether the last fragments were found. If not, the length in the movie's header (mehd)
// is an estimate. So is the length if samples of the last fragment are missing.
func (f *fragments) lengths(found bool, tracks []*track) {
	start := time.Duration(math.MaxInt64)
	for _, t := range tracks {
		if s, ok := f.spans[t.id]; ok {
			if at, ok := t.shift(s.start + s.delay); ok {
				start = min(start, at)
			}
		}
	}
	if start < -priming {
		start = 0
	}
	for _, t := range tracks {
		s := f.spans[t.id]
		t.frame = s.frame
		end, ok := t.shift(s.end + s.delay)
		length := max(end-start, 0)
		switch {
		case s.end == 0 || !ok:
		case found && f.partial:
			t.Length.D = length
		case found:
			t.Length = Fact(length)
		default:
			t.Length.Least = length
			if d, _ := inTime(f.m.mehd, f.m.timescale); d > 0 {
				t.Length.D = max(d, length)
			}
		}
	}
}

// shift converts a time of a track's media to a time of the presentation.
func (t *track) shift(at uint64) (time.Duration, bool) {
	media, ok1 := inTime(at, t.timescale)
	cut, ok2 := inTime(min(t.start, maxTime), t.timescale)
	return media - cut + t.empty, ok1 && ok2 && max(media, cut, t.empty) < maxTime
}

// track returns the track with the given id, or nil.
func (m *movie) track(id uint32) *track {
	for i := range m.tracks {
		if m.tracks[i].id == id {
			return &m.tracks[i]
		}
	}
	return nil
}

// follow reads every fragment between off and end. It stops early at an mfra box. It
// panics with errEnd if the boxes stop before end. Guess is passed to readMoof.
func (f *fragments) follow(off, end int64, guess map[uint32]uint64) {
	for off = max(off, f.next); off <= end-8; {
		f.r.most(off, 16) // the samples of a fragment follow, so read more than its header
		var b box
		switch err := try(func() { b = f.r.box(off, end) }); {
		case errors.Is(err, errBox):
			panic(errEnd)
		case err != nil:
			panic(err)
		}
		switch {
		case b.kind == "mfra":
			return
		case b.end > end && b.kind == "mdat":
			f.cut, f.partial = true, true
		case b.end > end:
			panic(errEnd)
		case b.kind == "moof":
			f.readMoof(b, guess)
		}
		off = b.end
	}
}

// readMoof records where the samples of a fragment start and end. Guess holds the
// times of tracks, for fragments that do not say theirs (they have no tfdt box).
func (f *fragments) readMoof(moof box, guess map[uint32]uint64) {
	f.r.boxes(moof.body, min(moof.end, f.r.src.Size), func(b box) {
		if b.kind != "traf" {
			return
		}
		run := trackRun{fragments: f, guess: guess}
		f.r.boxes(b.body, b.end, run.read)
	})
}

// trackRun reads the samples of one track in one fragment.
type trackRun struct {
	*fragments
	guess  map[uint32]uint64
	id     uint32
	known  bool   // the movie has this track
	sample uint64 // default duration of a sample
	at     uint64 // decoding time of the next sample
}

func (t *trackRun) read(b box) {
	switch b.kind {
	case "tfhd":
		t.readHeader(b)
	case "tfdt":
		c, _ := t.r.versioned(b, 4, 1)
		t.at = c.word()
		within(t.at)
	case "trun":
		if t.known {
			t.readRun(b)
		}
	}
}

func (t *trackRun) readHeader(tfhd box) {
	const baseOffset, description, duration = 0x1, 0x2, 0x8
	c, flags := t.r.versioned(tfhd, 4, 0)
	t.id = c.u32()
	t.known = t.m.track(t.id) != nil
	t.sample = t.m.trex[t.id]
	t.at = max(t.spans[t.id].end, t.guess[t.id])
	if flags&duration == 0 {
		return
	}
	at := 8 + 8*present(flags, baseOffset) + 4*present(flags, description)
	data := t.r.fields(tfhd, at+4)
	t.sample = uint64(u32(data[at:]))
}

// present returns how many of the optional fields a box has, by its flags.
func present(flags, optional uint32) int64 { return int64(bits.OnesCount32(flags & optional)) }

// readRun adds up the durations of the samples in a trun box. Each sample is shown
// later than it is decoded, by its composition offset. The run therefore ends with
// the sample that is shown last.
func (t *trackRun) readRun(trun box) {
	const dataOffset, firstFlags, duration, size, sampleFlags, composition = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
	head := t.r.fields(trun, 8)
	signed, flags, count := head[0] != 0, u32(head), u32(head[4:])
	off := trun.body + 8 + 4*present(flags, dataOffset|firstFlags)
	entry := 4 * present(flags, duration|size|sampleFlags|composition)
	if off > trun.end || int64(count)*entry > trun.end-off {
		panic(damage("one of its fragments is shorter than it says"))
	}
	if count == 0 {
		return
	}
	if flags&(duration|composition) == 0 {
		length := uint64(count) * t.sample
		within(length)
		t.note(t.at, t.at+length, t.sample, 0)
		t.at += length
		within(t.at)
		return
	}
	for range count {
		data := t.r.bytes(off, entry)
		off += entry
		length, shown := t.sample, t.at
		if flags&duration != 0 {
			length = uint64(u32(data))
		}
		early := uint64(0)
		if flags&composition != 0 {
			late := u32(data[entry-4:])
			if by := int64(int32(late)); signed && by < 0 {
				early = uint64(-by)
				shown -= min(early, shown)
			} else {
				shown += uint64(late)
			}
		}
		t.note(shown, shown+length, length, early)
		t.at += length
		within(t.at)
	}
}

// within panics with errTime if a time is too large.
func within(at uint64) {
	if at > maxTime {
		panic(errTime)
	}
}

// note adds samples to the span of the track: when they are shown, how long each of them
// lasts, and how long before its decoding time it claims to be shown.
func (t *trackRun) note(shown, end, each, early uint64) {
	s, begun := t.spans[t.id]
	if !begun {
		s.start = shown
	}
	s.end = max(s.end, end)
	s.delay = max(s.delay, early)
	switch {
	case s.votes == 0:
		s.frame, s.votes = each, 1
	case s.frame == each:
		s.votes++
	default:
		s.votes--
	}
	t.spans[t.id] = s
}
