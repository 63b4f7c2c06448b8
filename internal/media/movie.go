package media

import (
	"errors"
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
	Track
	samples
	entry

	id, flags     uint32
	handler       string // "vide", "soun" or another
	timescale     uint64 // units per second of the media
	length        uint64 // of the media, in units of timescale; 0 if unknown
	claimed       uint64 // length of the presentation in the track's header, in the movie's units
	width, height int    // of the picture as shown
	chapters      []byte // ids of the tracks that hold the chapters of this one

	start uint64        // start of the first edit that is not empty, in the media's units
	empty time.Duration // length of the empty edits at the beginning
	shown time.Duration // length of the presentation, after the edit list; 0 if not known
}

// readMP4 reads MP4, M4A and QuickTime files. The moov box may come first or last, and
// the samples may be in fragments.
func readMP4(r *reader, info *Info) error {
	var m *movie
	var moov box
	var frag fragments
	cut := false // the media data claim to be longer than the file
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
			moov = b
			if m, err = readMoov(r, b); err != nil {
				return err
			}
		case b.kind == "mdat" && b.end > size && m == nil:
			return errCutMedia
		case b.kind == "mdat" && b.end > size:
			cut = true
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
	return m.describe(r, info, moov, &frag, cut)
}

// describe sets the fields of info that depend on the tracks. Frag are the fragments of
// the movie, if it has any. Cut says that its media data claim to be longer than the
// file.
func (m *movie) describe(r *reader, info *Info, moov box, frag *fragments, cut bool) error {
	for i := range m.tracks {
		if err := m.tracks[i].readTables(r, m); err != nil {
			return err
		}
	}
	fragmented := frag.firstMoof > 0 && (m.fragmented || m.samples() == 0)
	var chosen []*track
	for _, kind := range []struct {
		handler, lacks string
		track          **Track
		needed         bool
	}{
		{"vide", "its video track holds no picture", &info.Video, info.Kind == Video},
		{"soun", "its audio track holds no sound", &info.Audio, info.Kind == Audio},
	} {
		t, found := m.choose(kind.handler, fragmented)
		switch {
		case t != nil && t.encrypted:
			return errEncrypted
		case t != nil:
			chosen = append(chosen, t)
			*kind.track = &t.Track
		case found && kind.needed && m.fragmented && m.samples() == 0:
			return damage("it holds no pictures and no sound, only the beginning of a stream (an init segment)")
		case found && kind.needed:
			return damage(kind.lacks)
		}
	}
	if len(chosen) == 0 && r.misfit {
		return errBox
	}
	if fragmented {
		found, err := frag.read(r, m)
		if err != nil {
			return err
		}
		frag.lengths(m, found, chosen...)
		if frag.cut {
			info.warn("%s breaks off in the middle of a fragment: it may have been cut short", r.src.Name)
		}
	}
	for _, t := range chosen {
		err := t.checkData(r, moov)
		if errors.Is(err, errBudget) && cut && !fragmented {
			err = errCutMedia
		}
		if err != nil && !errors.Is(err, errBudget) {
			return err
		}
		if !fragmented {
			t.Length = m.lengthOf(t)
		}
		if t.handler == "vide" {
			t.Frame, _ = inTime(t.frame, t.timescale)
		}
		t.Samples, t.Bytes, t.Hash = t.count, t.bytes, t.hash
	}
	if info.Video != nil {
		t := chosen[0]
		if info.Width, info.Height = t.width, t.height; t.width == 0 || t.height == 0 {
			info.Width, info.Height = t.entry.width, t.entry.height
		}
	}
	for _, t := range chosen {
		part := map[bool]string{true: "sound", false: ""}[t.handler == "soun" && info.Kind == Video]
		if t.doubt != "" {
			info.warn("%s", doubt(r.src.Name, part, t.doubt))
		}
	}
	unknown := func(t *Track) bool { return t != nil && !t.Length.Known() }
	if unknown(info.Video) || unknown(info.Audio) {
		info.warn("%s does not say, in the part that is read, how long it is, so its duration is not checked", r.src.Name)
	}
	return nil
}

// samples returns how many samples the tracks have outside fragments.
func (m *movie) samples() (n int64) {
	for _, t := range m.tracks {
		n += t.count
	}
	return n
}

// choose returns the track with the given handler that a player shows: the first one
// that has samples, is switched on and holds no chapters. It prefers sound that many
// programs decode. It reports in found whether there is any track with that handler.
func (m *movie) choose(handler string, fragmented bool) (t *track, found bool) {
	const enabled = 1
	best := -1
	for i := range m.tracks {
		c := &m.tracks[i]
		if c.handler != handler {
			continue
		}
		found = true
		if m.isChapter(c.id) || c.count == 0 && !fragmented {
			continue
		}
		rank := 0
		if c.flags&enabled != 0 {
			rank = 2
		}
		if c.doubt != doubtSpatial {
			rank++
		}
		if rank > best {
			t, best = c, rank
		}
	}
	return t, found
}

// isChapter reports whether a track holds the chapters of another one.
func (m *movie) isChapter(id uint32) bool {
	for _, t := range m.tracks {
		for ids := t.chapters; len(ids) >= 4; ids = ids[4:] {
			if u32(ids) == id {
				return true
			}
		}
	}
	return false
}

// lengthOf returns the length of a track without fragments. It is a fact if the sample
// tables were read, or if the headers of the track and of its media agree. If the track
// has no length, the movie's is an estimate.
func (m *movie) lengthOf(t *track) Length {
	const agree = 100 * time.Millisecond
	claimed, _ := inTime(t.claimed, m.timescale)
	switch {
	case t.shown > 0 && (t.total > 0 || (t.shown-claimed).Abs() <= agree):
		return Fact(t.shown)
	case t.shown > 0:
		return Length{D: t.shown}
	}
	d, _ := inTime(m.length, m.timescale)
	return Length{D: d}
}

// readMoov reads a moov box. It skips the sample tables, which grow with the movie.
func readMoov(r *reader, moov box) (*movie, error) {
	m := &movie{trex: map[uint32]uint64{}}
	return m, r.children(moov.body, min(moov.end, r.src.Size), func(b box) (err error) {
		switch b.kind {
		case "mvhd":
			m.timescale, m.length, err = readTimes(r, b)
		case "trak":
			if len(m.tracks) == maxTracks {
				return unread("it has more tracks than lipdrop reads")
			}
			var t track
			t, err = readTrak(r, b)
			m.tracks = append(m.tracks, t)
		case "mvex":
			m.fragmented = true
			err = r.children(b.body, b.end, m.readExtends(r))
		case "cmov":
			return unread("its index is compressed (cmov), as in some old QuickTime movies; if the job fails, export it as MP4")
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
	var visit func(box) error
	visit = func(b box) (err error) {
		switch b.kind {
		case "edts", "mdia", "minf", "stbl", "tref":
			return r.children(b.body, b.end, visit)
		case "tkhd":
			return t.readHeader(r, b)
		case "mdhd":
			t.timescale, t.length, err = readTimes(r, b)
		case "hdlr":
			var data []byte
			if data, err = r.fields(b, 12); err == nil && t.handler == "" && string(data[4:8]) != "dhlr" {
				t.handler = string(data[8:])
			}
		case "chap":
			t.chapters, err = r.head(b, min(b.end-b.body, StepBytes))
		case "stsd":
			t.stsd = b
		case "stts":
			t.stts = b
		case "ctts":
			t.ctts = b
		case "stsc":
			t.stsc = b
		case "stsz", "stz2":
			t.stsz = b
		case "stco", "co64":
			t.stco = b
		case "elst":
			t.elst = b
		}
		return err
	}
	return t, r.children(trak.body, trak.end, visit)
}

// readHeader reads the track's id, its length and the size of its picture. It swaps width and
// height if the matrix turns the picture by 90 degrees.
func (t *track) readHeader(r *reader, tkhd box) error {
	const afterTimes = 8 + 2 + 2 + 2 + 2 // reserved, layer, group, volume, reserved
	const matrix, size = 9 * 4, 2 * 4
	data, version, err := r.versioned(tkhd, 4+20+afterTimes+matrix+size, 4+32+afterTimes+matrix+size)
	if err != nil {
		return err
	}
	id, rest := data[12:], data[4+20+afterTimes:]
	t.claimed = uint64(u32(data[20:]))
	if version != 0 {
		id, rest = data[20:], data[4+32+afterTimes:]
		t.claimed = u64(data[28:])
	}
	t.id, t.flags = u32(id), flags(data)
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
