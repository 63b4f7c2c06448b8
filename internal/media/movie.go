package media

import (
	"math"
	"time"
)

// maxTracks is the largest number of tracks that are read. Films have a few dozen.
const maxTracks = 64

// movie is what a moov box says.
type movie struct {
	timescale  uint64 // units per second in mvhd, elst and mehd
	length     uint64 // from mvhd, in units of timescale; 0 if unknown
	tracks     []track
	fragmented bool              // moof boxes hold more samples
	mehd       uint64            // length with all fragments, in units of timescale; 0 if unknown
	trex       map[uint32]uint64 // default sample durations by track
}

// track is what a trak box says.
type track struct {
	id            uint32
	handler       string // "vide", "soun" or another
	timescale     uint64 // units per second of the media
	length        uint64 // of the media, in units of timescale; 0 if unknown
	width, height int    // of the picture as shown
	edits         edits
}

// edits sums up an edit list.
type edits struct {
	listed bool
	total  uint64 // length of all edits, in the movie's units
	empty  uint64 // length of the empty edits at the beginning, in the movie's units
	start  uint64 // start of the first edit that is not empty, in the media's units
	open   bool   // the only such edit has no length: it shows the media from start to the end
}

// readMP4 reads MP4, M4A and QuickTime files. The moov box may come first or last, and
// the samples may be in fragments.
func readMP4(r *reader, info *Info) error {
	var m *movie
	var frag fragments
	size := r.src.Size
	for off := int64(0); off <= size-8 && frag.firstMoof == 0; {
		b, err := r.box(off, size)
		if m != nil && err != nil && !readFailed(err) {
			break // nothing after the moov box is needed
		}
		if err != nil {
			return err
		}
		switch {
		case b.kind == "moov" && m == nil:
			if b.end > size {
				return damage("it ends in the middle of its index (moov), so the export or the upload broke off")
			}
			if m, err = readMoov(r, b); err != nil {
				return err
			}
			m.describe(info)
		case b.kind == "mdat" && b.end > size && (m == nil || !m.fragmented):
			return damage("it ends in the middle of its media data, so the export or the upload broke off")
		case b.kind == "moof" && m != nil:
			frag.firstMoof = off
		case b.kind == "sidx" && m != nil && len(frag.indexes) < maxTracks:
			frag.indexes = append(frag.indexes, b)
		}
		off = b.end
	}
	if m == nil {
		return damage("its index (moov) is missing, so the export or the upload broke off")
	}
	if m.fragmented && frag.firstMoof > 0 {
		d, known, err := frag.duration(r, m)
		if err != nil {
			return err
		}
		for _, t := range []*Track{info.Video, info.Audio} {
			if t != nil {
				t.Length = Length{D: d, Exact: known}
			}
		}
	}
	if frag.cut {
		info.warn("%s breaks off in the middle of a fragment: it may have been cut short", r.src.Name)
	}
	unknown := func(t *Track) bool { return t != nil && !t.Length.Known() }
	if unknown(info.Video) || unknown(info.Audio) {
		info.warn("%s does not say, in the part that is read, how long it is, so its duration is not checked", r.src.Name)
	}
	return nil
}

// describe sets the fields of info that depend on the tracks.
func (m *movie) describe(info *Info) {
	for _, t := range m.tracks {
		switch t.handler {
		case "vide":
			if info.Video == nil {
				info.Video = &Track{Length: m.lengthOf(t)}
			}
			if info.Width == 0 && t.width > 0 && t.height > 0 {
				info.Width, info.Height = t.width, t.height
			}
		case "soun":
			if info.Audio == nil {
				info.Audio = &Track{Length: m.lengthOf(t)}
			}
		}
	}
	if info.Type != typeMOV { // the tracks say more than the brand
		info.Type = typeMP4
		if info.Video == nil && info.Audio != nil {
			info.Type = typeM4A
		}
	}
}

// lengthOf returns the length of a track. If the track has no duration, it returns the
// duration in mvhd.
func (m *movie) lengthOf(t track) Length {
	d, ok := t.duration(m.timescale)
	if d == 0 {
		d, ok = inTime(m.length, m.timescale)
	}
	return Length{D: d, Exact: ok && d > 0}
}

// duration returns how long the track is shown. Movie is the timescale of the movie,
// which edits use.
func (t track) duration(movie uint64) (time.Duration, bool) {
	if !t.edits.listed {
		return inTime(t.length, t.timescale)
	}
	d, ok := inTime(t.edits.total, movie)
	if !ok || !t.edits.open || t.length <= t.edits.start {
		return d, ok
	}
	rest, ok := inTime(t.length-t.edits.start, t.timescale)
	if rest > math.MaxInt64-d {
		return 0, false
	}
	return d + rest, ok
}

// readMoov reads a moov box. It skips the sample tables, which grow with the movie.
func readMoov(r *reader, moov box) (*movie, error) {
	m := &movie{trex: map[uint32]uint64{}}
	return m, r.boxes(moov.body, moov.end, func(b box) (err error) {
		switch b.kind {
		case "mvhd":
			m.timescale, m.length, err = readTimes(r, b)
		case "trak":
			if len(m.tracks) == maxTracks {
				return unread("it has more tracks than are read")
			}
			var t track
			t, err = readTrak(r, b)
			m.tracks = append(m.tracks, t)
		case "mvex":
			m.fragmented = true
			err = r.boxes(b.body, b.end, m.readExtends(r))
		case "cmov":
			return unread("its header is compressed, as that of some old QuickTime movies")
		}
		return err
	})
}

// readExtends reads the boxes that announce fragments.
func (m *movie) readExtends(r *reader) func(box) error {
	return func(b box) error {
		switch b.kind {
		case "mehd":
			data, version, err := r.versioned(b, 8, 12)
			if err != nil {
				return err
			}
			if version == 0 {
				m.mehd = uint64(u32(data[4:]))
			} else {
				m.mehd = u64(data[4:])
			}
		case "trex":
			data, err := r.fields(b, 16)
			if err != nil {
				return err
			}
			if len(m.trex) < maxTracks {
				m.trex[u32(data[4:])] = uint64(u32(data[12:]))
			}
		}
		return nil
	}
}

func readTrak(r *reader, trak box) (t track, err error) {
	err = r.boxes(trak.body, trak.end, func(b box) error {
		switch b.kind {
		case "tkhd":
			return t.readHeader(r, b)
		case "edts":
			return r.boxes(b.body, b.end, func(b box) error {
				if b.kind != "elst" {
					return nil
				}
				return t.edits.read(r, b)
			})
		case "mdia":
			return r.boxes(b.body, b.end, func(b box) (err error) {
				switch b.kind {
				case "mdhd":
					t.timescale, t.length, err = readTimes(r, b)
				case "hdlr":
					var data []byte
					if data, err = r.fields(b, 12); err == nil {
						t.handler = string(data[8:])
					}
				}
				return err
			})
		}
		return nil
	})
	return t, err
}

// readHeader reads the track's id and the size of its picture. It swaps width and
// height if the matrix turns the picture by 90 degrees.
func (t *track) readHeader(r *reader, tkhd box) error {
	const afterTimes = 8 + 2 + 2 + 2 + 2 // reserved, layer, group, volume, reserved
	const matrix, size = 9 * 4, 2 * 4
	data, version, err := r.versioned(tkhd, 4+20+afterTimes+matrix+size, 4+32+afterTimes+matrix+size)
	if err != nil {
		return err
	}
	id, rest := data[12:], data[4+20+afterTimes:]
	if version != 0 {
		id, rest = data[20:], data[4+32+afterTimes:]
	}
	t.id = u32(id)
	a, b, c, d := u32(rest), u32(rest[4:]), u32(rest[12:]), u32(rest[16:])
	// The numbers are fixed point; the upper 16 bits are whole pixels.
	t.width, t.height = int(u32(rest[matrix:])>>16), int(u32(rest[matrix+4:])>>16)
	if a == 0 && d == 0 && b != 0 && c != 0 {
		t.width, t.height = t.height, t.width
	}
	return nil
}

// readTimes reads the fields that mvhd and mdhd share: the units per second and the
// length. The length is 0 if it is not known.
func readTimes(r *reader, b box) (timescale, length uint64, err error) {
	data, version, err := r.versioned(b, 4+4+4+4+4, 4+8+8+4+8)
	if err != nil {
		return 0, 0, err
	}
	if version == 0 {
		timescale, length = uint64(u32(data[12:])), uint64(u32(data[16:]))
		if length == math.MaxUint32 {
			length = 0
		}
	} else {
		timescale, length = uint64(u32(data[20:])), u64(data[24:])
		if length == math.MaxUint64 {
			length = 0
		}
	}
	return timescale, length, nil
}

// read reads an elst box.
func (e *edits) read(r *reader, elst box) error {
	head, err := r.fields(elst, 8)
	if err != nil {
		return err
	}
	long := head[0] != 0
	entry := int64(12)
	if long {
		entry = 20
	}
	shown := false
	off := elst.body + 8
	for range u32(head[4:]) {
		if off > elst.end-entry {
			return damage("its edit list is shorter than it says")
		}
		data, err := r.bytes(off, entry)
		if err != nil {
			return err
		}
		off += entry
		length, start := uint64(u32(data)), int64(int32(u32(data[4:])))
		if long {
			length, start = u64(data), int64(u64(data[8:]))
		}
		if length > math.MaxUint64-e.total {
			return damage("its edit list is too long")
		}
		e.listed = true
		e.total += length
		switch {
		case start < 0 && !shown:
			e.empty += length
		case start >= 0 && !shown:
			shown = true
			e.start = uint64(start)
			e.open = length == 0
		default:
			e.open = false // a length of 0 means "to the end" only in a single edit
		}
	}
	return nil
}
