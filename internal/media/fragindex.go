package media

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
)

// bySegmentIndex sets the ends of the tracks from the segment indexes (sidx) at the
// beginning of the file. It reports whether any index was usable and none was damaged.
func (f *fragments) bySegmentIndex() (found bool) {
	err := try(func() {
		for _, b := range f.indexes {
			found = f.readSegmentIndex(b) || found
		}
	})
	return found && err == nil
}

// readSegmentIndex sets the end of a track from a segment index, which says how many bytes
// each segment has and how long the segment lasts. It reports whether the index is usable. An
// index whose last segment ends before the file does is not usable. If the last segment ends
// after the file does, the file was cut short.
func (f *fragments) readSegmentIndex(sidx box) bool {
	const entry = 12
	c, _ := f.r.versioned(sidx, 4+4+4+4+4, 2)
	off := sidx.body + 4 + int64(len(c.data))
	t, timescale, end, offset := f.m.track(c.u32()), uint64(c.u32()), c.word(), c.word()
	if end > maxTime || offset > uint64(f.r.src.Size) {
		panic(errTime)
	}
	covered := sidx.end + int64(offset)
	for range c.u32() & 0xffff {
		if off > sidx.end-entry {
			panic(damage("its segment index is shorter than it says"))
		}
		reference := f.r.bytes(off, entry)
		off += entry
		covered += int64(u32(reference) & 0x7fffffff)
		end += uint64(u32(reference[4:]))
	}
	if t == nil || covered < f.r.src.Size {
		return false
	}
	s, begun := f.spans[t.id]
	end, ok := mulDiv(end, t.timescale, timescale)
	if !ok || !begun || end > maxTime {
		return false
	}
	s.end = max(s.end, end)
	f.spans[t.id] = s
	if covered > f.r.src.Size {
		f.cut, f.partial, f.jumped = true, true, true
	}
	return true
}

const errNoIndex = damage("it has no index of its fragments")

// byRandomAccess finds the last fragments through the index (mfra) that may be at the
// end of the file. The mfra box holds one table per track (tfra). The last box in mfra
// (mfro) holds the length of mfra. A table may list only the fragments to which a player can
// jump. Therefore byRandomAccess begins at the earliest fragment that readLastAccess returned,
// and reads all fragments up to mfra. It panics if there is no valid index.
func (f *fragments) byRandomAccess() {
	const tailSize, mfroSize = 4 << 10, 16
	_, tail := f.r.tail(f.firstMoof, tailSize)
	if len(tail) < mfroSize {
		panic(errNoIndex)
	}
	mfro := tail[len(tail)-mfroSize:]
	off := f.r.src.Size - int64(u32(mfro[12:]))
	if string(mfro[4:8]) != "mfro" || off <= f.firstMoof {
		panic(errNoIndex)
	}
	mfra := f.r.box(off, f.r.src.Size)
	if mfra.kind != "mfra" {
		panic(errNoIndex)
	}
	entries := map[uint32]access{}
	f.named = map[uint32]bool{}
	start := mfra.off
	f.r.boxes(mfra.body, mfra.end, func(b box) {
		if b.kind != "tfra" || len(f.named) == maxTracks {
			return
		}
		id, entry := readLastAccess(f.r, b, mfra.off)
		f.named[id] = true
		if entry.moof > 0 {
			start, entries[id] = min(start, entry.moof), entry
		}
	})
	if start == mfra.off {
		start = f.next
	}
	f.follow(start, mfra.off, entries)
}

// readLastAccess goes back from the last entry of a tfra box while the fragments are near the mfra
// box. It returns the id of the track and the earliest entry that it reaches. The last entry is not
// enough: samples are not decoded in the order in which they are shown, so the sample that is shown
// last may be in an earlier fragment. It panics if no fragment begins where the entry says.
func readLastAccess(r *reader, tfra box, mfraOff int64) (id uint32, chosen access) {
	const head = 4 + 4 + 4 + 4
	c, _ := r.versioned(tfra, head-4, 0)
	id, lengths, count := c.u32(), c.u32(), int64(c.u32())
	entry := int64(8)
	if c.wide {
		entry = 16
	}
	entry += int64(lengths>>4&3+1) + int64(lengths>>2&3+1) + int64(lengths&3+1)
	end := tfra.body + head + count*entry
	if end > tfra.end {
		panic(damage("its index of fragments is shorter than it says"))
	}
	const far = 128 << 10
	const reordered = 16 // how many of the last entries are read: encoders reorder fewer pictures than this
	length := min(count, reordered) * entry
	data := r.bytes(end-length, length)
	for i := int64(0); i < length; i += entry {
		fields := cursor{data[length-i-entry:], c.wide}
		time, offset := fields.word(), fields.word()
		if time > maxTime || offset > uint64(mfraOff) {
			panic(errTime)
		}
		if i > 0 && int64(offset) < mfraOff-far {
			break
		}
		chosen = access{time, int64(offset)}
	}
	if chosen.moof > 0 && r.box(chosen.moof, mfraOff).kind != "moof" {
		panic(errNoIndex)
	}
	return id, chosen
}

// search looks for the last fragments in the last n bytes of the file, and reports whether
// it found the ends of all tracks.
func (f *fragments) search(n int64) bool {
	const candidates = 32
	at, tail := f.r.tail(f.firstMoof, min(n, f.r.bytesLeft))
	for range candidates {
		before, after, found := bytes.Cut(tail, []byte("moof"))
		if !found {
			break
		}
		at, tail = at+int64(len(before)+len("moof")), after
		if f.endsFrom(at - 8) {
			return true
		}
	}
	return false
}

// skim reads the headers of the boxes to find the last two fragments. It reads only these two,
// and reports whether it found the ends of all tracks.
func (f *fragments) skim() bool {
	var last, before int64
	err := try(func() {
		f.r.boxes(f.next, f.r.src.Size, func(b box) {
			if b.kind == "moof" {
				last, before = b.off, last
			}
		})
	})
	return (err == nil || errors.Is(err, errBox)) && f.endsFrom(cmp.Or(before, last))
}

// endsFrom reads the fragments between off and the end of the file, and reports whether it
// found the ends of all tracks. It returns false if a track has no samples there, because
// this track may then end anywhere before this offset. If endsFrom returns false, it leaves f
// unchanged.
func (f *fragments) endsFrom(off int64) bool {
	trial := *f
	trial.spans = maps.Clone(f.spans)
	trial.jumped = true
	if try(func() { trial.follow(off, f.r.src.Size, nil) }) != nil {
		return false
	}
	for id, s := range f.spans {
		if trial.spans[id].end <= s.end {
			return false
		}
	}
	*f = trial
	return true
}
