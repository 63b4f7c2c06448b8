package media

import (
	"math"
	"time"
)

// maxTracks is the largest number of tracks that are read. A film has at most a few dozen.
const maxTracks = 64

// movie is what a moov box says. This box is the index of a movie: mvhd is the header of the
// movie, each trak describes a track, and mvex announces fragments. In trak, tkhd says how
// the track is shown, mdhd describes the media, and hdlr gives the kind of the track.
type movie struct {
	timescale  uint64 // units per second in mvhd, elst and mehd
	length     uint64 // from mvhd, in units of timescale; 0 if unknown
	tracks     []track
	fragmented bool              // mvex says that moof boxes may follow
	mehd       uint64            // length with all fragments, in units of timescale; 0 if unknown
	trex       map[uint32]uint64 // default sample durations by track
	unwritten  bool              // zeros follow instead of the last boxes of moov, so a track may be missing
}

// track is what a trak box and its tables say. A time is in units of the track's media
// unless its comment or its type names another unit. A time that is not known is 0.
type track struct {
	Track
	id, flags uint32
	handler   string         // "vide", "soun" or another
	chapters  []byte         // ids of the tracks that hold the chapters of this track
	tables    map[string]box // by kind

	encrypted               bool
	unusual                 string // the codec in words if few programs decode it, or ""
	width, height           int    // of the picture by the track's header, before it is turned
	codedWidth, codedHeight int    // of the picture as it is stored
	turned                  bool   // by 90 degrees

	timescale uint64 // units per second of the media
	length    uint64 // of the media, by its samples if stts was read, or else by its header
	claimed   uint64 // length of the presentation by the track's header, in the movie's units
	size      int64  // bytes of each sample; 0 if they differ
	total     uint64 // how long all samples last
	frame     uint64 // how long most samples last
	end       int64  // when the last sample to be shown ends

	lastSample int64 // offset of the last sample; 0 if the offset is not known, the sample is not compressed, or all samples have the same size

	start uint64        // start of the first edit that is not empty
	empty time.Duration // length of the empty edits at the beginning
	shown time.Duration // length of the presentation, after the edit list
}

// readMP4 reads MP4, M4A and QuickTime files. The moov box may come first or last, and
// the samples may be in fragments.
func readMP4(r *reader, info *Info) {
	var m *movie
	var moov box
	frag := fragments{r: r}
	cut := false
	size := r.src.Size
	for off := int64(0); off <= size-8 && frag.firstMoof == 0; {
		var b box
		err := try(func() { b = r.box(off, size) })
		if err != nil && m == nil {
			panic(err)
		}
		if err != nil {
			break // moov may be enough: the file may have no fragments
		}
		switch {
		case b.kind == "moov" && m == nil:
			moov = b
			m = readMoov(r, b)
		case b.kind == "mdat" && b.end > size && m == nil:
			panic(errCutMedia)
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
		panic(damage("its index (moov) is missing, so the export or the upload broke off"))
	}
	frag.m = m
	m.describe(r, info, moov, &frag, cut)
}

// describe sets the fields of info that depend on the tracks. If cut is set, an mdat box
// extends past the end of the file.
func (m *movie) describe(r *reader, info *Info, moov box, frag *fragments, cut bool) {
	for i := range m.tracks {
		m.tracks[i].readTables(r, m)
	}
	if frag.firstMoof == 0 || !m.fragmented && m.samples() > 0 {
		frag = nil // only the tables count
	}
	chosen := m.measure(r, info, frag)
	known, lastSample := true, int64(0)
	for _, t := range chosen {
		if frag == nil { // with fragments, the tables list only the samples before them
			r.inBudget(func() { t.readSizes(r) })
		}
		if !r.inBudget(func() { t.checkData(r, moov) }) && cut && frag == nil {
			panic(errCutMedia)
		}
		if t.handler == "vide" {
			t.Frame, _ = inTime(t.frame, t.timescale)
			info.Width, info.Height = t.dimensions()
		}
		info.warnUnusual(&t.Track, t.unusual)
		known = known && t.Length.Known()
		lastSample = max(lastSample, t.lastSample)
	}
	const enough = 16 // no compressed sample begins with so many zeros
	r.inBudget(func() {
		if lastSample > 0 && isZero(r.step(lastSample, min(enough, r.src.Size-lastSample))) {
			panic(errZeroMedia)
		}
	})
	switch {
	case m.unwritten:
		info.warn("%s has zeros instead of the end of its index (moov): it may have been cut short", r.src.Name)
	case moov.end > r.src.Size:
		info.warn("%s ends in the middle of its index (moov): it may have been cut short", r.src.Name)
	}
	if !known {
		unknown := r.src.Name
		if info.Length().Known() {
			unknown = "the sound of " + unknown
		}
		info.warn("lipdrop did not find the length of %s in the part of the file that it reads, so this length is not checked", unknown)
	}
}

// measure returns the tracks that a player shows, with their lengths.
func (m *movie) measure(r *reader, info *Info, frag *fragments) (chosen []*track) {
	foundEnds := frag != nil && frag.read()
	chosen = m.chooseTracks(r, info, frag)
	if frag == nil {
		for _, t := range chosen {
			t.Length = m.lengthOf(t)
		}
		return chosen
	}
	frag.lengths(foundEnds, chosen)
	if frag.cut {
		info.warn("%s breaks off in the middle of a fragment: it may have been cut short", r.src.Name)
	}
	return chosen
}

// chooseTracks returns the tracks that a player shows, and sets info.Video and info.Audio to
// them. It panics if one of them is encrypted, if a video file's video track or an audio file's
// audio track has no samples, or if it chose no track and r.misfit is set. The parameter frag is
// nil if only the tables count.
func (m *movie) chooseTracks(r *reader, info *Info, frag *fragments) []*track {
	var chosen []*track
	for _, kind := range []struct {
		handler, damage string
		track           **Track
		needed          bool
	}{
		{"vide", "its video track holds no picture", &info.Video, info.Kind == Video},
		{"soun", "its audio track holds no sound", &info.Audio, info.Kind == Audio},
	} {
		t, exists := m.chooseTrack(kind.handler, func(t *track) bool { return t.Samples == 0 && (frag == nil || frag.lacks(t.id, kind.needed)) })
		switch {
		case t != nil && t.encrypted:
			panic(encryptedFile(r.src.Name))
		case t != nil:
			chosen = append(chosen, t)
			*kind.track = &t.Track
		case exists && kind.needed && m.fragmented && frag == nil && m.samples() == 0:
			panic(damage("it holds no pictures and no sound, only the beginning of a stream (an init segment)"))
		case exists && kind.needed:
			panic(damage(kind.damage))
		}
	}
	if len(chosen) == 0 && r.misfit {
		panic(errBox)
	}
	return chosen
}

// samples returns how many samples the tracks have outside fragments.
func (m *movie) samples() (n int64) {
	for _, t := range m.tracks {
		n += t.Samples
	}
	return n
}

// chooseTrack returns the track with the given handler that a player shows, or nil. It ignores
// empty tracks and tracks that hold chapters. Of the others, it prefers one that is not a single
// picture (a poster), then one that is switched on, then one that is not spatial audio, then
// the first. chooseTrack also reports whether any track has the handler.
func (m *movie) chooseTrack(handler string, empty func(*track) bool) (t *track, exists bool) {
	const enabled = 1
	best := -1
	for i := range m.tracks {
		c := &m.tracks[i]
		if c.handler != handler {
			continue
		}
		exists = true
		if m.isChapter(c.id) || empty(c) {
			continue
		}
		rank := 0
		if c.Samples != 1 {
			rank = 4
		}
		if c.flags&enabled != 0 {
			rank += 2
		}
		if c.unusual != spatialAudio {
			rank++
		}
		if rank > best {
			t, best = c, rank
		}
	}
	return t, exists
}

// isChapter reports whether a track holds the chapters of another track.
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

// lengthOf returns the length of a track without fragments. The length is a fact if the
// durations of the samples were read, or if the headers of the track and of its media agree.
// If the track does not say its length, lengthOf returns the movie's length as an estimate.
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
func readMoov(r *reader, moov box) *movie {
	m := &movie{trex: map[uint32]uint64{}}
	r.children(moov.body, min(moov.end, r.src.Size), func(b box) {
		switch b.kind {
		case "mvhd":
			m.timescale, m.length = readTimes(r, b)
		case "trak":
			if len(m.tracks) == maxTracks {
				panic(unread("it has more tracks than lipdrop reads"))
			}
			m.tracks = append(m.tracks, readTrak(r, b))
		case "mvex":
			m.fragmented = true
			r.children(b.body, b.end, func(b box) { m.readExtends(r, b) })
		case "\x00\x00\x00\x00":
			m.unwritten = m.unwritten || r.unwrittenFrom(b.off)
		case "cmov":
			panic(unread("its index is compressed (cmov), as in some old QuickTime movies; if the job fails, export the movie as MP4"))
		}
	})
	return m
}

// readExtends reads a box that is inside mvex.
func (m *movie) readExtends(r *reader, b box) {
	switch b.kind {
	case "mehd":
		c, _ := r.versioned(b, 4, 1)
		m.mehd = c.word()
	case "trex":
		data := r.fields(b, 16)
		if len(m.trex) < maxTracks {
			m.trex[u32(data[4:])] = uint64(u32(data[12:]))
		}
	}
}

func readTrak(r *reader, trak box) (t track) {
	t.tables = map[string]box{}
	incomplete := r.misfit && trak.end >= r.src.Size // also true if zeros follow instead of some of its boxes
	var visit func(box)
	visit = func(b box) {
		switch b.kind {
		case "edts", "mdia", "minf", "stbl", "tref":
			r.children(b.body, b.end, visit)
		case "tkhd":
			t.readHeader(r, b)
		case "mdhd":
			t.timescale, t.length = readTimes(r, b)
		case "hdlr": // QuickTime has a second hdlr in each track, of the type dhlr
			if data := r.fields(b, 12); t.handler == "" && string(data[4:8]) != "dhlr" {
				t.handler = string(data[8:])
			}
		case "chap":
			t.chapters = r.head(b, min(b.end-b.body, StepBytes))
		case "stsd", "stts", "ctts", "stsc", "stsz", "stz2", "stco", "co64", "elst":
			t.tables[b.kind] = b
		case "\x00\x00\x00\x00":
			incomplete = incomplete || r.unwrittenFrom(b.off)
		}
	}
	r.children(trak.body, trak.end, visit)
	if incomplete && t.tables["stco"].end == 0 && t.tables["co64"].end == 0 { // of the tables that a player needs, programs write stco or co64 last
		panic(errCutIndex)
	}
	return t
}

// readHeader reads the track's id, flags and length, the size of its picture, and whether the
// matrix turns the picture by 90 degrees.
func (t *track) readHeader(r *reader, tkhd box) {
	const afterTimes, matrixSize = 8 + 2 + 2 + 2 + 2, 9 * 4 // reserved, layer, group, volume, reserved
	c, flags := r.versioned(tkhd, 5*4+afterTimes+matrixSize+2*4, 3)
	t.flags = flags
	_, _ = c.word(), c.word() // the times of creation and of the last change
	t.id, _ = c.u32(), c.u32()
	t.claimed = c.word()
	c.take(afterTimes)
	matrix := c.take(matrixSize)
	entry := func(i int) float64 { return math.Abs(float64(int32(u32(matrix[4*i:])))) }
	t.turned = entry(1) > entry(0)
	// The numbers are fixed point; the upper 16 bits are whole pixels.
	t.width, t.height = int(c.u32()>>16), int(c.u32()>>16)
}

// dimensions returns the size of the picture as it is shown.
func (t *track) dimensions() (width, height int) {
	if width, height = t.width, t.height; width == 0 || height == 0 {
		width, height = t.codedWidth, t.codedHeight
	}
	if t.turned {
		return height, width
	}
	return width, height
}

// readTimes reads the fields that mvhd and mdhd share: the units per second and the
// length. The length is 0 if it is not known.
func readTimes(r *reader, b box) (timescale, length uint64) {
	c, _ := r.versioned(b, 4*4, 3)
	_, _ = c.word(), c.word() // the times of creation and of the last change
	timescale, length = uint64(c.u32()), c.word()
	if length == math.MaxUint64 || length == math.MaxUint32 && !c.wide {
		length = 0
	}
	return timescale, length
}
