package media

import (
	"errors"
	"math"
	"time"
)

// fragments holds what is known about the movie fragments of a file. The maps are
// keyed by track id. Their times are in units of the track's media and count from its
// beginning.
type fragments struct {
	firstMoof int64
	next      int64             // offset of the box after the fragments that readFirst read
	indexes   []box             // sidx boxes before the first fragment
	starts    map[uint32]uint64 // presentation time of the first sample
	ends      map[uint32]uint64 // end of the last sample found so far
	frames    map[uint32]frameLength
	delays    map[uint32]uint64 // how long before its decoding time a sample claims to be shown, at most
	cut       bool              // the file ends inside a fragment
}

// frameLength is how long most samples last, by a majority vote.
type frameLength struct {
	length uint64 // in units of the track's media
	votes  int    // of samples of this length that no other sample has cancelled
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
func (f *fragments) read(r *reader, m *movie) (found bool, err error) {
	f.starts, f.ends, f.delays, f.frames = map[uint32]uint64{}, map[uint32]uint64{}, map[uint32]uint64{}, map[uint32]frameLength{}
	if err := f.readFirst(r, m); err != nil && !errors.Is(err, errBudget) {
		return false, err
	}
	for _, t := range m.tracks {
		if t.total > 0 { // the track has samples before the fragments
			f.starts[t.id] = 0
			f.ends[t.id] = max(f.ends[t.id], t.total)
		}
	}
	reserve := int64(min(len(f.indexes), 1))
	err = r.withReserve(reserve*indexCalls, reserve*indexBytes, func() error { return f.findLast(r, m) })
	switch {
	case errors.Is(err, errEnd):
		f.cut = true
	case errors.Is(err, errBudget):
		found, err := f.bySegmentIndex(r, m)
		if readFailed(err) {
			return false, err
		}
		return found, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// findLast finds the ends of the tracks by reading the last fragments.
func (f *fragments) findLast(r *reader, m *movie) error {
	found, err := f.byRandomAccess(r, m)
	if found || readFailed(err) {
		return err
	}
	err = r.withReserve(tailCalls, tailBytes, func() error { return f.follow(r, m, f.next, r.src.Size, nil) })
	if errors.Is(err, errBudget) {
		err = f.fromTail(r, m)
	}
	return err
}

// readFailed reports whether err came from reading the file. It returns false for
// errors about the file's content and about the budget.
func readFailed(err error) bool {
	var d damage
	return err != nil && !errors.As(err, &d) && !errors.Is(err, errEnd) && !errors.Is(err, errBudget)
}

// readFirst reads the first fragment of each track. Several tracks may share a
// fragment.
func (f *fragments) readFirst(r *reader, m *movie) error {
	const most = 8 // boxes: moof and mdat for each of four tracks
	f.next = f.firstMoof
	for range most {
		if len(f.starts) >= len(m.tracks) || f.next > r.src.Size-8 {
			break
		}
		b, err := r.box(f.next, r.src.Size)
		if err != nil {
			return err
		}
		if b.kind == "moof" {
			if err := f.readMoof(r, m, b, nil); err != nil {
				return err
			}
		}
		f.next = b.end
	}
	return nil
}

// priming is the longest sound before the start of the presentation that counts as
// part of the duration. Encoders write such sound while they warm up. ffprobe counts
// it in fragmented files, and the limits of the models allow for it.
const priming = 50 * time.Millisecond

// lengths sets the lengths of the tracks, from their starts, ends and edit lists.
// Fragments that were cut from a longer stream begin late; the time before the first of
// them does not count. If samples claim to be shown before they are decoded, lengths
// delays the track until they no longer do, as ffprobe and players do. Found says
// whether the ends are those of the last fragments. If not, the length in the movie's
// header (mehd) is an estimate.
func (f *fragments) lengths(m *movie, found bool, tracks ...*track) {
	start := time.Duration(math.MaxInt64)
	for _, t := range tracks {
		if from, ok := f.starts[t.id]; ok {
			if at, ok := t.shift(from + f.delays[t.id]); ok {
				start = min(start, at)
			}
		}
	}
	if start < -priming {
		start = 0
	}
	for _, t := range tracks {
		t.frame = f.frames[t.id].length
		end, ok := t.shift(f.ends[t.id] + f.delays[t.id])
		length := max(end-start, 0)
		switch {
		case f.ends[t.id] == 0 || !ok:
		case found:
			t.Length = Fact(length)
		default:
			t.Length.Least = length
			if d, _ := inTime(m.mehd, m.timescale); d > 0 {
				t.Length.D = max(d, length)
			}
		}
	}
}

// shift converts a time of a track's media to a time of the presentation.
func (t track) shift(at uint64) (time.Duration, bool) {
	media, ok1 := inTime(at, t.timescale)
	cut, ok2 := inTime(min(t.start, maxTime), t.timescale)
	return media - cut + t.empty, ok1 && ok2 && max(media, cut, t.empty) < maxTime
}

// track returns the track with the given id.
func (m *movie) track(id uint32) (track, bool) {
	for _, t := range m.tracks {
		if t.id == id {
			return t, true
		}
	}
	return track{}, false
}

// follow reads every fragment between off and end. It stops early at an mfra box. It
// returns errEnd if the boxes stop before end. Guess is passed to readMoof.
func (f *fragments) follow(r *reader, m *movie, off, end int64, guess map[uint32]uint64) error {
	for off = max(off, f.next); off <= end-8; {
		if _, err := r.most(off, 16); err != nil { // the samples of a fragment follow, so read more than its header
			return err
		}
		b, err := r.box(off, end)
		if errors.Is(err, errBox) {
			return errEnd
		}
		if err != nil {
			return err
		}
		switch {
		case b.kind == "mfra":
			return nil
		case b.end > end && b.kind == "mdat":
			f.cut = true
		case b.end > end:
			return errEnd
		case b.kind == "moof":
			if err := f.readMoof(r, m, b, guess); err != nil {
				return err
			}
		}
		off = b.end
	}
	return nil
}

// readMoof records where the samples of a fragment start and end. Guess holds the
// times of tracks, for fragments that do not say theirs (they have no tfdt box).
func (f *fragments) readMoof(r *reader, m *movie, moof box, guess map[uint32]uint64) error {
	return r.boxes(moof.body, min(moof.end, r.src.Size), func(b box) error {
		if b.kind != "traf" {
			return nil
		}
		run := trackRun{fragments: f, guess: guess}
		return r.boxes(b.body, b.end, func(b box) error { return run.read(r, m, b) })
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

func (t *trackRun) read(r *reader, m *movie, b box) error {
	switch b.kind {
	case "tfhd":
		return t.readHeader(r, m, b)
	case "tfdt":
		data, version, err := r.versioned(b, 8, 12)
		if err != nil {
			return err
		}
		t.at = uint64(u32(data[4:]))
		if version != 0 {
			t.at = u64(data[4:])
		}
		if t.at > maxTime {
			return errTime
		}
	case "trun":
		if t.known {
			return t.readRun(r, b)
		}
	}
	return nil
}

func (t *trackRun) readHeader(r *reader, m *movie, tfhd box) error {
	const baseOffset, description, duration = 0x1, 0x2, 0x8
	data, err := r.fields(tfhd, 8)
	if err != nil {
		return err
	}
	flags := flags(data)
	t.id = u32(data[4:])
	_, t.known = m.track(t.id)
	t.sample = m.trex[t.id]
	t.at = max(t.ends[t.id], t.guess[t.id])
	at := int64(8)
	if flags&baseOffset != 0 {
		at += 8
	}
	if flags&description != 0 {
		at += 4
	}
	if flags&duration != 0 {
		if data, err = r.fields(tfhd, at+4); err != nil {
			return err
		}
		t.sample = uint64(u32(data[at:]))
	}
	return nil
}

// readRun adds up the durations of the samples in a trun box. Each sample is shown
// later than it is decoded, by its composition offset. The run therefore ends with
// the sample that is shown last.
func (t *trackRun) readRun(r *reader, trun box) error {
	const dataOffset, firstFlags, duration, size, sampleFlags, composition = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
	head, err := r.fields(trun, 8)
	if err != nil {
		return err
	}
	flags, count := flags(head), u32(head[4:])
	signed := head[0] != 0
	off := trun.body + 8
	for _, flag := range []uint32{dataOffset, firstFlags} {
		if flags&flag != 0 {
			off += 4
		}
	}
	entry := int64(0)
	for _, flag := range []uint32{duration, size, sampleFlags, composition} {
		if flags&flag != 0 {
			entry += 4
		}
	}
	if off > trun.end || int64(count)*entry > trun.end-off {
		return damage("one of its fragments is shorter than it says")
	}
	if count == 0 {
		return nil
	}
	if flags&(duration|composition) == 0 {
		length := uint64(count) * t.sample
		if err := within(length); err != nil {
			return err
		}
		t.note(t.at, t.sample)
		t.at += length
		t.end(t.at)
		return within(t.at)
	}
	for range count {
		data, err := r.bytes(off, entry)
		if err != nil {
			return err
		}
		off += entry
		length, shown := t.sample, t.at
		if flags&duration != 0 {
			length = uint64(u32(data))
		}
		if flags&composition != 0 {
			late := u32(data[entry-4:])
			if !signed {
				shown += uint64(late)
			} else if by := int64(int32(late)); by >= 0 {
				shown += uint64(by)
			} else {
				early := uint64(-by)
				shown -= min(early, shown)
				t.delays[t.id] = max(t.delays[t.id], early)
			}
		}
		t.note(shown, length)
		t.end(shown + length)
		t.at += length
		if err := within(t.at); err != nil {
			return err
		}
	}
	return nil
}

func within(at uint64) error {
	if at > maxTime {
		return errTime
	}
	return nil
}

// note records the time of the track's first sample, and the length that most of the
// samples have that are noted.
func (t *trackRun) note(shown, length uint64) {
	if _, noted := t.starts[t.id]; !noted {
		t.starts[t.id] = shown
	}
	switch f := t.frames[t.id]; {
	case f.votes == 0:
		t.frames[t.id] = frameLength{length, 1}
	case f.length == length:
		t.frames[t.id] = frameLength{length, f.votes + 1}
	default:
		t.frames[t.id] = frameLength{f.length, f.votes - 1}
	}
}

func (t *trackRun) end(at uint64) {
	t.ends[t.id] = max(t.ends[t.id], at)
}
