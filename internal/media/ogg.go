package media

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// oggPage is a page of an Ogg file (RFC 3533, 6).
type oggPage struct {
	size    int
	first   bool   // of its stream
	last    bool   // of its stream; many programs do not mark this page
	granule uint64 // position after the last packet that ends in the page, or the largest uint64 if no packet does
	serial  uint32 // of its stream
	number  uint32 // in its stream
	lacing  []byte // the lengths of the segments
	body    []byte
}

const (
	oggChecksum   = 22 // offset in a page
	oggHeaderSize = 27
	oggPageSize   = oggHeaderSize + 255 + 255*255 // of the largest page
)

// parseOggPage reads the page at the beginning of data. It returns false if there is no
// complete page. A download that broke off may leave zeros instead of the end of a page, so
// parseOggPage also returns false if a page that ends with zeros has a wrong checksum.
func parseOggPage(data []byte) (oggPage, bool) {
	if len(data) < oggHeaderSize || string(data[:4]) != "OggS" || data[4] != 0 || data[5] > 7 {
		return oggPage{}, false
	}
	p := oggPage{
		first: data[5]&2 != 0, last: data[5]&4 != 0, granule: binary.LittleEndian.Uint64(data[6:]),
		serial: binary.LittleEndian.Uint32(data[14:]), number: binary.LittleEndian.Uint32(data[18:]),
	}
	segments := int(data[26])
	if len(data) < oggHeaderSize+segments {
		return oggPage{}, false
	}
	p.lacing, p.body = data[oggHeaderSize:][:segments], data[oggHeaderSize+segments:]
	size := 0
	for _, n := range p.lacing {
		size += int(n)
	}
	if len(p.body) < size {
		return oggPage{}, false
	}
	p.body = p.body[:size]
	p.size = oggHeaderSize + segments + size
	const few = 16 // zeros
	if size >= few && isZero(p.body[size-few:]) && oggCRC(data[:p.size]) != binary.LittleEndian.Uint32(data[oggChecksum:]) {
		return oggPage{}, false
	}
	return p, true
}

// oggCRC returns the checksum of a page. The four bytes of the checksum itself count as zeros.
func oggCRC(page []byte) (crc uint32) {
	for i, b := range page {
		if i < oggChecksum || i >= oggChecksum+4 {
			crc ^= uint32(b) << 24
		}
		for range 8 {
			crc = crc<<1 ^ crc>>31*0x04c11db7
		}
	}
	return crc
}

// packets returns how many packets end in a page.
func (p oggPage) packets() (n int) {
	for _, size := range p.lacing {
		if size < 255 {
			n++
		}
	}
	return n
}

// oggStream is a stream of an Ogg file.
type oggStream struct {
	codec       string
	video       bool
	rate, skip  uint64 // samples per second, and samples at the beginning that are not played
	most        uint64 // largest number of samples of a packet, except for Opus; 0 if unknown
	start, last uint64 // position of the first sample, and position after the last sample
	late        uint64 // position after the first page of sound if start is an estimate, otherwise 0
	pages       int    // how many pages with a position were read
	samples     uint64 // in all packets that were read, for Opus
	lastSamples uint64 // in the page that was added last, for Opus
	begun       []byte // the first bytes of a packet that continues in the next page
	gap         bool   // pages were left out
}

// newOggStream reads the first packet of a stream. It returns false if the codec of the stream is
// not listed here.
func newOggStream(head []byte) (oggStream, bool) {
	le := binary.LittleEndian
	begins := func(s string, n int) bool { return len(head) >= n && bytes.HasPrefix(head, []byte(s)) }
	switch {
	case begins("OpusHead", 19):
		return oggStream{codec: "opus", rate: 48000, skip: uint64(le.Uint16(head[10:]))}, true
	case begins("\x01vorbis", 30):
		return oggStream{codec: "vorbis", rate: uint64(le.Uint32(head[12:])), most: 1 << (head[28] >> 4) / 2}, true
	case begins("\x7fFLAC", 51):
		return oggStream{codec: "flac", rate: uint64(u32(head[27:]) >> 12), most: uint64(head[19])<<8 | uint64(head[20])}, true
	case begins("Speex   ", 68):
		return oggStream{codec: "speex", rate: uint64(le.Uint32(head[36:])), most: uint64(le.Uint32(head[56:])) * uint64(le.Uint32(head[64:]))}, true
	case begins("\x80theora", 7):
		return oggStream{codec: "theora", video: true}, true
	}
	return oggStream{}, false
}

// add notes the position of a page and, for Opus, how many samples the page has. If gap is set,
// some pages before this page were not read.
func (s *oggStream) add(p oggPage, gap bool) {
	samples := uint64(0)
	s.gap = s.gap || gap
	if s.codec == "opus" {
		samples = s.opusSamples(p)
		s.samples += samples
		s.lastSamples = samples
	}
	if p.granule == 0 || p.granule > maxTime {
		return
	}
	if s.pages++; s.pages == 1 && !gap { // a stream that was cut out of a longer one begins late
		most := min(s.most, maxTime/256) * uint64(p.packets())
		switch {
		case samples > 0:
			s.start = p.granule - min(samples, p.granule)
		case s.most > 0 && p.granule > most+s.rate:
			s.start, s.late = p.granule-most, p.granule
		}
	}
	s.last = max(s.last, p.granule)
}

// length returns how long the stream plays. If all pages of an Opus stream were read, length
// compares the positions with the packets, because some programs write wrong positions, or none.
// The last page may hold padding, which is in its packets but not in its position.
func (s *oggStream) length() Length {
	played := s.last - min(s.start+s.skip, s.last)
	l := factFromUnits(played, s.rate)
	if s.late > 0 {
		l.Exact, l.Least = false, factFromUnits(s.last-s.late, s.rate).D
	}
	if s.codec != "opus" || s.gap {
		return l
	}
	const near = 12000 // a quarter of a second
	decoded := s.samples - min(s.skip, s.samples)
	if played <= decoded+near && played+s.lastSamples+near >= decoded {
		return l
	}
	byPackets := factFromUnits(decoded, s.rate)
	if s.pages > 0 {
		byPackets.Exact, byPackets.Least = false, min(byPackets.D, l.D)
	}
	return byPackets
}

// opusSamples returns how many samples of 48 kHz the packets that end in a page hold
// (RFC 6716, 3.1).
func (s *oggStream) opusSamples(p oggPage) uint64 {
	total, body, size := uint64(0), p.body, 0
	for _, n := range p.lacing {
		size += int(n)
		if n == 255 {
			continue
		}
		total += opusPacket(append(s.begun, body[:min(size, 8)]...))
		body, size, s.begun = body[size:], 0, nil
	}
	if size > 0 && s.begun == nil { // the packet continues in the next page
		s.begun = slices.Clone(body[:min(size, 8)])
	}
	return total
}

// opusPacket returns the number of samples of the packet that begins with head.
func opusPacket(head []byte) uint64 {
	if len(head) == 0 || bytes.HasPrefix(head, []byte("OpusTags")) {
		return 0
	}
	frames := uint64(2) // codes 1 and 2
	switch head[0] & 3 {
	case 0:
		frames = 1
	case 3:
		frames = uint64(head[min(1, len(head)-1)] & 63)
	}
	return frames * opusFrame(head[0]>>3)
}

// opusFrame returns the number of samples of a frame by its configuration.
func opusFrame(config byte) uint64 {
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return [4]uint64{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return [2]uint64{480, 960}[config&1]
	}
	return 120 << (config & 3) // CELT: 2.5, 5, 10, 20 ms
}

// oggFile is what was found in an Ogg file. Several recordings may follow one another.
type oggFile struct {
	streams map[uint32]*oggStream // the newest stream of each serial number; nil if the stream is not read
	sound   []*oggStream          // one stream for each recording
	video   string                // codec
	begins  bool                  // the first page of the sound was read, and only first pages of other streams have followed
	strange bool                  // the beginning of a stream was not found, or there are more streams than are read
	gap     bool                  // pages were left out
	cut     bool                  // the file ends in the middle of a page
	ended   bool                  // the page that was read last is marked as the last one of its stream
	pages   int64                 // how many pages were read
	last    int64                 // number of the last page of the sound
}

func newOggFile() *oggFile { return &oggFile{streams: map[uint32]*oggStream{}} }

const maxOggStreams = 1000

func (o *oggFile) add(p oggPage) {
	o.pages++
	o.ended = p.last
	if !p.first {
		o.begins = false
		s, known := o.streams[p.serial]
		o.strange = o.strange || !known
		if s != nil {
			s.add(p, o.gap)
			o.last = int64(p.number)
		}
		return
	}
	if len(o.streams) == maxOggStreams {
		o.strange = true
		return
	}
	o.streams[p.serial] = nil
	switch s, known := newOggStream(p.body); {
	case known && s.video:
		o.video = s.codec
	case known && !o.begins:
		o.streams[p.serial] = &s
		o.sound = append(o.sound, &s)
		o.begins = true
	}
}

// read notes the complete pages in the n bytes at off, and returns where the last of them ends.
// It skips what is not a page.
func (o *oggFile) read(r *reader, off, n int64) (end int64) {
	end = off
	data := r.most(off, n)
	for at := 0; at < len(data); {
		if p, ok := parseOggPage(data[at:]); ok {
			o.add(p)
			at += p.size
			end, o.cut = off+int64(at), false
			continue
		}
		o.cut = o.cut || beginsWith(data[at:], "OggS")
		next := bytes.Index(data[at+1:], []byte("OggS"))
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return end
}

// length returns the sum of the lengths of the recordings.
func (o *oggFile) length() Length {
	all := Fact(0)
	for _, s := range o.sound {
		l := s.length()
		if s.rate == 0 || l.D > math.MaxInt64-all.D {
			return Length{}
		}
		all = Length{D: all.D + l.D, Exact: all.Exact && l.Exact, Least: all.AtLeast() + l.AtLeast()}
	}
	if all.Exact {
		all.Least = 0
	}
	return all
}

// follows reports whether the page numbers at a few places in the n bytes at off increase
// and do not exceed o.last. If not, several recordings with one serial number were joined.
func (o *oggFile) follows(r *reader, off, n int64) bool {
	const parts = 5
	before := int64(0)
	for i := range int64(parts - 1) {
		at := off + n/parts*(i+1)
		data := r.most(at, r.share())
		if page := bytes.Index(data, []byte("OggS")); page >= 0 && len(data)-page >= oggHeaderSize {
			number := int64(binary.LittleEndian.Uint32(data[page+18:]))
			if number <= before || number > o.last {
				return false
			}
			before = number
		}
	}
	return true
}

// readOggPages reads the first and the last pages of a file. If the other pages may change the
// length of the sound, and the file fits into the budget, readOggPages reads all pages. It also
// reports whether the pages that were read are enough to know the length of the sound.
func readOggPages(r *reader) (o *oggFile, complete bool) {
	const head = 32 << 10
	size := r.src.Size - r.start
	o = newOggFile()
	end := o.read(r, r.start, min(head, size))
	if size <= head {
		return o, true
	}
	first := o.pages
	expected := first * (size - head) / head
	tail := max(r.src.Size-oggPageSize, end)
	o.gap, o.cut = tail > end, false
	o.read(r, tail, oggPageSize)
	doubtful := o.strange || o.pages == first && o.gap || len(o.sound) > 1 || len(o.sound) > 0 && o.sound[0].pages == 0
	few := o.video == "" && o.last < expected*3/4 // another recording may have begun to number its pages anew
	if !doubtful && !few {
		return o, true
	}
	whole := newOggFile()
	if r.inBudget(func() { whole.read(r, r.start, size) }) {
		return whole, true
	}
	return o, !doubtful && o.follows(r, r.start, size)
}

// readOgg reads the length of the sound in an Ogg file from the positions in its pages.
func readOgg(r *reader, info *Info) {
	o, complete := readOggPages(r)
	if o.video != "" {
		info.Video = &Track{Codec: o.video}
	}
	if len(o.sound) == 0 {
		return
	}
	info.Audio = &Track{Codec: o.sound[0].codec}
	if suffixOf(info.Name) == ".opus" {
		info.Format = "opus"
	}
	if !complete {
		info.warn("%s holds several recordings or does not end with its sound, so its length is not checked", r.src.Name)
		return
	}
	l := o.length()
	switch {
	case l.Exact && l.D == 0 && o.cut:
		panic(damage("it ends in the middle of its first page of sound, so the export or the upload broke off"))
	case l.Exact && l.D == 0:
		panic(noSound(r.src.Name))
	case !l.Known():
		panic(damage("its header or the positions in its pages are impossible"))
	case !l.Exact:
		info.warn("the length of %s, about %s, is an estimate: the positions in its pages are wrong or do not begin at 0", r.src.Name, problem.Length(l.D))
	}
	if o.cut || !o.ended && r.endsInZeros(r.src.Size) {
		info.warn(cutShort, r.src.Name)
	}
	info.Audio.Length = l
}
