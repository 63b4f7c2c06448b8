package media

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"time"
)

// fragments holds what is known about the fragments of a movie. A recorder that cannot go
// back to the beginning of the file writes a fragment every few seconds: a moof box, and
// then samples. In moof, each traf box describes the samples of one track: tfhd names the
// track, tfdt says when the first sample is decoded, and trun says how long each sample lasts.
type fragments struct {
	r         *reader
	m         *movie
	firstMoof int64           // offset of the first fragment; 0 if there is none
	next      int64           // offset of the box after the fragments that readFirst read
	indexes   []box           // sidx boxes before the first fragment
	spans     map[uint32]span // by track id; a track has none if no sample of the track was found
	cut       bool            // the end of the file is missing, or is zeros
	named     map[uint32]bool // the tracks in the index at the end of the file
	all       bool            // every track that has samples has a span
	partial   bool            // samples of the last fragment are missing
	jumped    bool            // fragments were skipped without the index at the end of the file
}

// span describes the samples of a track that were found. Times count from the beginning of
// the track's media, in units of the track's timescale.
type span struct {
	start uint64 // when the first sample that was found is shown
	end   uint64 // when the last shown sample ends
	delay uint64 // added to all times, so that no sample is shown before it is decoded
	frame uint64 // how long most samples last, by a majority vote
	votes int    // the lead of that majority
}

// maxTime limits times, so that the sum of a few times cannot overflow.
const maxTime = math.MaxInt64 / 4

// errTime reports a time above maxTime, or an offset outside the file.
const errTime = damage("the times or offsets of its fragments are too large")

// errNoTime reports a fragment that does not say when it is decoded.
const errNoTime = damage("one of its fragments has no time")

// tailCalls and tailBytes are the part of the budget that is reserved for the search from
// the end of the file. indexCalls and indexBytes are reserved for the segment indexes at the
// beginning of the file: indexBytes is enough for an index of 5,000 segments.
const (
	tailCalls  = 3
	tailBytes  = 256 << 10
	indexCalls = 2
	indexBytes = 64 << 10
)

// read finds when the samples of the tracks start and end. If findLast does not fit into the
// budget, read uses the segment indexes at the beginning of the file (sidx). It reports whether it
// found when the samples end.
func (f *fragments) read() (foundEnds bool) {
	f.spans = map[uint32]span{}
	f.r.inBudget(f.readFirst)
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

// findLast finds the ends of the tracks. It reads the last fragments through the index at the end
// of the file. If that fails, it reads all fragments. If they do not fit into the budget, it tries
// three ways until one succeeds: a search of the last 64 KiB, the headers of all boxes (only without
// a segment index), and a search of as much as the budget allows.
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
	const near = 64 << 10
	if err == nil || errors.Is(err, errBudget) && (f.search(near) || len(f.indexes) == 0 && f.skim() || f.search(MaxBytes)) {
		return
	}
	panic(err)
}

// lacks reports whether a track certainly has no samples. If orCut is true, lacks also returns
// true if the file breaks off before the track's first sample.
func (f *fragments) lacks(id uint32, orCut bool) bool {
	_, begun := f.spans[id]
	return !begun && (f.all || orCut && f.cut && !f.jumped)
}

// readFirst reads fragments from the first one on, until it has found a sample of each
// track or has read a few boxes.
func (f *fragments) readFirst() {
	const most = 8 // boxes: moof and mdat for each of four tracks that share no fragment
	f.next = f.firstMoof
	for range most {
		if len(f.spans) >= len(f.m.tracks) || f.next > f.r.src.Size-8 {
			break
		}
		b := f.r.box(f.next, f.r.src.Size)
		if b.end >= f.r.src.Size {
			break // follow reads this box, and checks whether it is whole
		}
		if b.kind == "moof" {
			f.readMoof(b, nil)
		}
		f.next = b.end
	}
}

// priming is the longest sound before the start of the presentation that counts as part of the
// length, as in ffprobe: encoders write such sound while they warm up. If there is more sound
// before the start, none of it counts.
const priming = 50 * time.Millisecond

// lengths sets the lengths of the tracks from their spans and edit lists. Fragments that
// were cut from a longer stream begin late; the time before the first sample does not
// count. Some files say that a sample is shown before it is decoded. lengths then adds the
// span's delay to the times of all samples of the track, as ffprobe and players do.
//
// foundEnds is the result of read. If it is false, the length in the mehd box is the estimate.
func (f *fragments) lengths(foundEnds bool, tracks []*track) {
	start, last := time.Duration(math.MaxInt64), time.Duration(0)
	for _, t := range tracks {
		if s, ok := f.spans[t.id]; ok {
			if at, ok := t.presentationTime(s.start + s.delay); ok {
				start = min(start, at)
			}
			end, _ := t.presentationTime(s.end + s.delay)
			last = max(last, end)
		}
	}
	if start < -priming && last > 0 { // if last is 0, the edits would hide all samples, and ffmpeg ignores such edits
		start = 0
	}
	for _, t := range tracks {
		s := f.spans[t.id]
		t.frame = s.frame
		end, ok := t.presentationTime(s.end + s.delay)
		length := max(end-start, 0)
		switch {
		case s.end == 0 || !ok:
		case foundEnds && f.partial:
			t.Length.D = length
		case foundEnds:
			t.Length = Fact(length)
		default:
			t.Length.Least = length
			if d, _ := inTime(f.m.mehd, f.m.timescale); d > 0 {
				t.Length.D = max(d, length)
			}
		}
	}
}

// presentationTime converts a time of a track's media to a time of the presentation. It returns false
// if a time is too large or the track's timescale is 0.
func (t *track) presentationTime(at uint64) (time.Duration, bool) {
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

// follow reads every fragment between off and end that readFirst has not read. It stops at
// an mfra box or at zeros. It panics with errEnd if a box other than mdat extends past end, or if
// the length of a box is impossible.
func (f *fragments) follow(off, end int64, entries map[uint32]access) {
	for off = max(off, f.next); off <= end-8; {
		f.r.most(off, 16) // reads ahead: f.r.box would read only the header, and readMoof needs the body
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
		case b.kind == "\x00\x00\x00\x00": // zeros instead of the rest
			f.cut = true
			return
		case b.end > end && b.kind == "mdat":
			f.cut, f.partial = true, true
		case b.end > end:
			panic(errEnd)
		case b.kind == "moof":
			f.readMoof(b, entries)
		}
		off = b.end
	}
}

// access is an entry of the index at the end of the file. The zero value stands for no entry.
type access struct {
	at   uint64 // the time of a sample, in units of the track's timescale
	moof int64  // offset of the fragment that contains this sample
}

// readMoof records when the samples of a fragment start and end. A fragment without a tfdt box starts
// when the span of its track ends, or at the time in the track's index entry if that is later. An
// entry for a later fragment does not count. entries has the entries by track id.
func (f *fragments) readMoof(moof box, entries map[uint32]access) {
	f.r.boxes(moof.body, moof.end, func(b box) {
		if b.kind != "traf" {
			return
		}
		run := trackRun{fragments: f, moof: moof.off, entries: entries}
		f.r.boxes(b.body, b.end, run.read)
	})
}

// trackRun reads the samples of one track in one fragment.
type trackRun struct {
	*fragments
	moof    int64 // offset of the fragment
	entries map[uint32]access
	id      uint32
	known   bool   // the movie has this track
	timed   bool   // the file says when the fragment is decoded
	each    uint64 // default duration of a sample
	at      uint64 // decoding time of the next sample
}

func (t *trackRun) read(b box) {
	switch b.kind {
	case "tfhd":
		t.readHeader(b)
	case "tfdt":
		c, _ := t.r.versioned(b, 4, 1)
		t.at, t.timed = c.word(), true
		checkTime(t.at)
	case "trun":
		if t.jumped && !t.timed {
			panic(errNoTime)
		}
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
	t.each = t.m.trex[t.id]
	t.at = t.spans[t.id].end
	if entry := t.entries[t.id]; entry.moof <= t.moof {
		t.at = max(t.at, entry.at)
	}
	if flags&duration == 0 {
		return
	}
	off := 8 + 8*present(flags, baseOffset) + 4*present(flags, description)
	data := t.r.fields(tfhd, off+4)
	t.each = uint64(u32(data[off:]))
}

// present returns how many of the optional fields a box has, by its flags.
func present(flags, optional uint32) int64 { return int64(bits.OnesCount32(flags & optional)) }

// readRun adds the samples in a trun box to the span of the track. A sample may have a
// composition offset, which says how long after its decoding the sample is shown, or how long
// before if it is negative. So the sample that is shown last may not be the last in trun. Like
// players, readRun accepts a negative offset in version 0 too.
func (t *trackRun) readRun(trun box) {
	const dataOffset, firstFlags, duration, size, sampleFlags, composition = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
	head := t.r.fields(trun, 8)
	flags, count := u32(head), u32(head[4:])
	off := trun.body + 8 + 4*present(flags, dataOffset|firstFlags)
	entry := 4 * present(flags, duration|size|sampleFlags|composition)
	if off > trun.end || int64(count)*entry > trun.end-off {
		panic(damage("one of its fragments is shorter than it says"))
	}
	if count == 0 {
		return
	}
	if flags&(duration|composition) == 0 {
		length := uint64(count) * t.each
		checkTime(length)
		t.addSamples(t.at, t.at+length, t.each, 0)
		t.at += length
		checkTime(t.at)
		return
	}
	for range count {
		data := t.r.bytes(off, entry)
		off += entry
		length, shown := t.each, t.at
		if flags&duration != 0 {
			length = uint64(u32(data))
		}
		early := uint64(0)
		if flags&composition != 0 {
			if late := int64(int32(u32(data[entry-4:]))); late < 0 {
				early = uint64(-late)
				shown -= min(early, shown)
			} else {
				shown += uint64(late)
			}
		}
		t.addSamples(shown, shown+length, length, early)
		t.at += length
		checkTime(t.at)
	}
}

func checkTime(at uint64) {
	if at > maxTime {
		panic(errTime)
	}
}

// addSamples adds samples of one length to the span of the track. The first begins at shown, and the
// last ends at end. Some files say that a sample is shown before it is decoded; early is how long
// before. Each call is one vote on how long most samples last.
func (t *trackRun) addSamples(shown, end, length, early uint64) {
	s, begun := t.spans[t.id]
	if !begun {
		s.start = shown
	}
	s.end = max(s.end, end)
	s.delay = max(s.delay, early)
	switch {
	case s.votes == 0:
		s.frame, s.votes = length, 1
	case s.frame == length:
		s.votes++
	default:
		s.votes--
	}
	t.spans[t.id] = s
}
