package media

import (
	"errors"
	"math"
	"time"
)

// fragments is what is found out about the movie fragments of a file. Times by
// track are in the units of the track's media, from its beginning.
type fragments struct {
	firstMoof int64
	next      int64             // the box behind the fragments that were read at the beginning
	indexes   []box             // sidx boxes before the first fragment
	starts    map[uint32]uint64 // presentation time of the first sample
	ends      map[uint32]uint64 // where the last sample that was found ends
	delays    map[uint32]uint64 // by how much a sample claims to be shown before it is decoded
	cut       bool              // the file ends inside a fragment
}

// maxTime bounds the times of fragments so that adding a few cannot overflow.
const maxTime = math.MaxInt64 / 4

// errTime is about a time above maxTime.
const errTime = damage("the times in its fragments are longer than can be")

// What of the budget is kept for the search from the end, and for the indexes at
// the beginning where there are any: enough for 5,000 fragments.
const (
	tailCalls  = 3
	tailBytes  = 256 << 10
	indexCalls = 2
	indexBytes = 64 << 10
)

// duration returns how long the fragments last. The last one tells, and is found by
// the index at the end (mfra), by following one after the other, or by a search from
// the end of the file; where that takes more than the budget, by what the index at
// the beginning (sidx) or the movie's header (mehd) claims. It is not known where
// none of them does.
func (f *fragments) duration(r *reader, m *movie) (d time.Duration, known bool, err error) {
	f.starts, f.ends, f.delays = map[uint32]uint64{}, map[uint32]uint64{}, map[uint32]uint64{}
	if err := f.readFirst(r, m); err != nil && !errors.Is(err, errBudget) {
		return 0, false, err
	}
	for _, t := range m.tracks {
		if t.length > 0 { // samples of its own come before the fragments
			f.starts[t.id] = 0
			f.ends[t.id] = max(f.ends[t.id], min(t.length, maxTime))
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
			return 0, false, err
		}
		if !found {
			d, known = inTime(m.mehd, m.timescale)
			return d, known && m.mehd > 0, nil
		}
	case err != nil:
		return 0, false, err
	}
	d, known = f.presentation(m)
	return d, known, nil
}

// findLast finds the last fragment by reading.
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

// readFailed says whether err is about reading a file, not about what is in it or
// how much of it may be read.
func readFailed(err error) bool {
	var d damage
	return err != nil && !errors.As(err, &d) && !errors.Is(err, errEnd) && !errors.Is(err, errBudget)
}

// readFirst reads the first fragment of each track: they may share one or not.
func (f *fragments) readFirst(r *reader, m *movie) error {
	const most = 8 // boxes: a pair for each of four tracks
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

// priming is the longest sound before the start of the presentation, as encoders
// put it there to warm up, that counts as part of it: ffprobe counts it in
// fragmented files, and the limits of models allow for it.
const priming = 50 * time.Millisecond

// presentation reckons from the starts and ends of the tracks and their edit lists.
// Fragments that were cut from a longer stream begin late: that is no part of it.
// A track whose samples claim to be shown before they are decoded is delayed until
// none does, as by ffprobe and players.
func (f *fragments) presentation(m *movie) (time.Duration, bool) {
	start, end := time.Duration(math.MaxInt64), time.Duration(0)
	for _, t := range m.tracks {
		from, found := f.starts[t.id]
		if !found {
			continue
		}
		a, ok1 := m.shift(t, from+f.delays[t.id])
		b, ok2 := m.shift(t, f.ends[t.id]+f.delays[t.id])
		if !ok1 || !ok2 {
			return 0, false
		}
		start, end = min(start, a), max(end, b)
	}
	if start < -priming {
		start = 0
	}
	return max(end-start, 0), end > 0
}

// shift converts a time of a track's media to the presentation's.
func (m *movie) shift(t track, at uint64) (time.Duration, bool) {
	media, ok1 := inTime(at, t.timescale)
	cut, ok2 := inTime(min(t.edits.start, maxTime), t.timescale)
	empty, ok3 := inTime(t.edits.empty, m.timescale)
	const most = math.MaxInt64 / 4
	return media - cut + empty, ok1 && (ok2 || t.edits.start == 0) && (ok3 || t.edits.empty == 0) &&
		media < most && cut < most && empty < most
}

// track returns the track of that id.
func (m *movie) track(id uint32) (track, bool) {
	for _, t := range m.tracks {
		if t.id == id {
			return t, true
		}
	}
	return track{}, false
}

// follow reads every fragment between off and end, where mfra may end them early.
// It returns errEnd when the boxes break off before the end.
func (f *fragments) follow(r *reader, m *movie, off, end int64, guess map[uint32]uint64) error {
	for off = max(off, f.next); off <= end-8; {
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

// readMoof notes where the samples of a fragment end. Guess holds times of tracks
// for fragments that do not tell theirs (tfdt lacks).
func (f *fragments) readMoof(r *reader, m *movie, moof box, guess map[uint32]uint64) error {
	return r.boxes(moof.body, min(moof.end, r.src.Size), func(b box) error {
		if b.kind != "traf" {
			return nil
		}
		run := trackRun{fragments: f, guess: guess}
		return r.boxes(b.body, b.end, func(b box) error { return run.read(r, m, b) })
	})
}

// trackRun is the samples of one track in one fragment.
type trackRun struct {
	*fragments
	guess  map[uint32]uint64
	id     uint32
	known  bool   // the track is one of the movie's
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

// readRun adds up the samples of a trun box. A sample is shown later than it is
// decoded by its composition offset, so the run ends with the latest one shown.
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
		t.note(t.at)
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
		t.note(shown)
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

// note keeps the time of the track's very first sample.
func (t *trackRun) note(shown uint64) {
	if _, noted := t.starts[t.id]; !noted {
		t.starts[t.id] = shown
	}
}

func (t *trackRun) end(at uint64) {
	t.ends[t.id] = max(t.ends[t.id], at)
}
