package media

import (
	"bytes"
	"math"
)

// frame is what the header of a frame of coded sound says.
type frame struct {
	size    int64  // bytes, with the header
	samples uint64 // per channel
	rate    uint64 // samples per second
	bitrate uint64 // bits per second; 0 if the header does not say
	stream  uint32 // the bits of the header that do not change within a stream
}

// unitsPerSecond is how many units of time a second has. At every sampling rate of MPEG audio and
// AAC, a sample lasts a whole number of these units.
const unitsPerSecond = 28224000

// time returns how long the frame lasts, in 1/unitsPerSecond seconds.
func (f frame) time() uint64 { return f.samples * (unitsPerSecond / f.rate) }

// framing describes the frames of a format.
type framing struct {
	header  int                             // bytes of a header
	largest int64                           // bytes of the largest frame
	parse   func(data []byte) (frame, bool) // reads a header
}

// at returns the frame whose header is at the beginning of data.
func (g framing) at(data []byte) (frame, bool) {
	if len(data) < g.header {
		return frame{}, false
	}
	return g.parse(data)
}

const (
	// byParts is the warning about a length that [stream.measure] could not find exactly.
	byParts = "the length of %s, about %s, is an estimate from parts of the file, because the file does not say how long it is"
	// cutShort is the warning about sound that the end of the file cuts off.
	cutShort = "%s ends before its sound does: it may have been cut short"
)

// chainLength is how many frames of one stream must follow one another before the method
// sync accepts the first of them.
const chainLength = 3

// isChain reports whether data begins with three frames of one stream. If last is true, data
// extends to the end of the sound, and fewer frames are enough if they are followed by a tag,
// by zeros, or by less than a header.
func (g framing) isChain(data []byte, last bool) bool {
	var first frame
	for n := range chainLength {
		f, ok := g.at(data)
		if n == 0 {
			first, ok = f, ok && f.size <= int64(len(data))
		}
		if !ok || f.stream != first.stream {
			return last && n > 0 && (len(data) < g.header || isTail(data))
		}
		data = data[min(f.size, int64(len(data))):]
	}
	return true
}

// sync returns the first index of data, not below start, at which a chain of frames begins. If
// there is no such index, it returns len(data). For a chain that begins with the frame f, sync
// passes last(f) to isChain.
func (g framing) sync(data []byte, start int, last func(frame) bool) int {
	for start < len(data) {
		next := bytes.IndexByte(data[start:], 0xff)
		if next < 0 {
			break
		}
		start += next
		if f, ok := g.at(data[start:]); ok && g.isChain(data[start:], last(f)) {
			return start
		}
		start++
	}
	return len(data)
}

// find returns the offset of the first frame that begins in the n bytes at off.
func (g framing) find(r *reader, off, n int64) (at int64, found bool) {
	data := r.most(off, n+chainLength*g.largest)
	last := off+int64(len(data)) == r.src.Size
	i := g.sync(data, 0, func(frame) bool { return last })
	return off + int64(i), i < len(data) && int64(i) < n
}

// tally adds up frames.
type tally struct {
	offsets          map[int64]bool // of the frames
	frames, bytes    uint64
	time             uint64 // in 1/unitsPerSecond seconds
	slowest, fastest uint64 // bits per second
	dense            frame  // the frame with the most bytes per second
}

// add adds the frame at off, unless it was added before: parts of a stream may overlap.
func (t *tally) add(off int64, f frame) {
	if t.frames == 0 {
		t.offsets, t.slowest = map[int64]bool{}, math.MaxUint64
	}
	if t.offsets[off] {
		return
	}
	t.offsets[off] = true
	t.frames++
	t.bytes += uint64(f.size)
	t.time += f.time()
	t.slowest = min(t.slowest, f.bitrate)
	t.fastest = max(t.fastest, f.bitrate)
	if t.frames == 1 || uint64(f.size)*t.dense.time() >= uint64(t.dense.size)*f.time() {
		t.dense = f
	}
}

// constant reports whether the headers of all frames say the same bit rate.
func (t *tally) constant() bool { return t.slowest == t.fastest && t.fastest > 0 }

// stream is a stream of frames that begins at start and ends at limit or before.
type stream struct {
	framing
	r            *reader
	first        frame
	start, limit int64
	end          int64 // offset after the last frame that was found
	seen         tally
	gap          bool // other bytes or other streams may be among the frames
}

// newStream returns the stream of frames whose first frame is at start.
func newStream(r *reader, g framing, start, limit int64) *stream {
	first, _ := g.at(r.bytes(start, int64(g.header)))
	return &stream{framing: g, r: r, first: first, start: start, limit: limit}
}

// part is what was found in a part of a stream.
type part struct {
	found bool
	end   int64 // offset after the last complete frame
	open  bool  // the frames may continue after the part
}

// count counts the complete frames in the n bytes at off. Frames of other streams count
// too if at least three follow one another, because people join recordings.
func (s *stream) count(off, n int64) part {
	n = min(n, s.limit-off)
	data := s.r.bytes(off, n)
	last := off+n == s.limit
	p := part{end: off}
	at, current := 0, s.first.stream
	mayBeShort := func(f frame) bool { return last && f.stream == s.first.stream }
	if off > s.start {
		at = s.sync(data, 0, mayBeShort)
		s.gap = s.gap || at < len(data) && !s.inStep(off+int64(at))
	}
	for at < len(data) {
		f, ok := s.at(data[at:])
		if !ok || f.stream != current {
			if !last && len(data)-at < s.header {
				p.open = p.found
				break
			}
			end := at
			if at = s.sync(data, at, mayBeShort); at == len(data) {
				p.open = p.found && !last && int64(at-end) < chainLength*s.largest && !isZero(data[end:])
				break
			}
			s.gap = true
			f, _ = s.at(data[at:])
			current = f.stream
		}
		if f.size > int64(len(data)-at) {
			p.open = !last
			break
		}
		s.seen.add(off+int64(at), f)
		at += int(f.size)
		p.found, p.end = true, off+int64(at)
		s.end = max(s.end, p.end)
		p.open = !last && at == len(data)
	}
	return p
}

// inStep reports whether a frame can begin at off. It assumes that all frames before off have
// the bit rate of the first. Encoders add padding to some frames, so off-s.start may differ by a
// few bytes from a multiple of the average size.
func (s *stream) inStep(off int64) bool {
	const leeway = 4
	size := float64(s.first.samples) / 8 * float64(s.first.bitrate) / float64(s.first.rate)
	return math.Abs(math.Remainder(float64(off-s.start), size)) <= leeway
}

// measure returns how long the stream is. The length is a fact in two cases: measure has
// counted all frames; or it has found the end, the counted frames have the same bit rate, and gap
// is false. measure panics with errBudget if no frame fits into the budget, and with a damage if
// the stream fits but has no frame.
func (s *stream) measure() Length {
	s.seen, s.gap = tally{}, false
	if s.r.inBudget(func() { s.count(s.start, s.limit-s.start) }) {
		if s.seen.frames == 0 {
			panic(damage("its frames of sound do not follow one another"))
		}
		return factFromUnits(s.seen.time, unitsPerSecond)
	}
	from, to, counted := s.findEnd()
	if s.seen.frames == 0 { // long tags have left so little of the budget that not one frame fits
		panic(errBudget)
	}
	if counted {
		return factFromUnits(s.seen.time, unitsPerSecond)
	}
	const most = 6 // parts between the beginning and the end
	windows := min(most, s.r.callsLeft)
	for i := range windows {
		n := s.r.share()
		room := from - s.start - n
		if room <= 0 || i >= 2 && s.seen.constant() {
			break
		}
		s.count(s.start+room/(windows+1)*(i+1), n)
	}
	if s.seen.constant() {
		l := factFromUnits(uint64(to-s.start), s.first.bitrate/8)
		if l.Exact = !s.gap && from == to; l.Exact {
			return l
		}
		l.Least, _ = inTime(uint64(from-s.start), s.first.bitrate/8)
		if s.gap {
			l.Least, _ = inTime(s.seen.time, unitsPerSecond)
		}
		l.Least = min(l.Least, l.D)
		return l
	}
	return s.estimate(from, to)
}

// findEnd returns two offsets between which the last frame ends, and whether all frames were
// counted. If it finds the end, both offsets are the end. Something else, such as a picture or
// zeros, may follow the last frame.
func (s *stream) findEnd() (from, to int64, counted bool) {
	head := s.count(s.start, s.r.share())
	n := min(s.r.share(), s.limit-s.start)
	tail := s.count(s.limit-n, n)
	switch {
	case tail.found:
		s.gap = s.gap || !head.open
		return tail.end, tail.end, false
	case !head.open:
		return head.end, head.end, true
	}
	from, to = head.end, s.limit-n
	for s.r.callsLeft > 0 && from < to {
		mid := from + (to-from)/2
		p := s.count(mid, min(s.r.share(), to-mid))
		switch {
		case !p.found:
			to = mid
		case p.open || p.end > to-s.largest:
			from = p.end
		default:
			return p.end, p.end, false
		}
		if to-from < s.largest {
			return from, from, false
		}
	}
	return from, to, false
}

// estimate returns the length of a stream that ends between two offsets, from the frames
// that were counted.
func (s *stream) estimate(from, to int64) Length {
	var l Length
	if time, ok := mulDiv(uint64(from+to)/2-uint64(s.start), s.seen.time, s.seen.bytes); ok {
		l.D, _ = inTime(time, unitsPerSecond)
	}
	if least, ok := mulDiv(uint64(from-s.start), s.seen.dense.time(), uint64(s.seen.dense.size)); ok {
		l.Least, _ = inTime(max(least, s.seen.time), unitsPerSecond)
	}
	l.Least = min(l.Least, l.D)
	return l
}
