package media

import (
	"bytes"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// mpegFrame is the header of an MPEG audio frame (ISO 11172-3 and 13818-3, 2.4.2.3).
type mpegFrame struct {
	frame
	layer int
	v1    bool // MPEG 1, not 2 or 2.5
	mono  bool
}

// mpegFraming describes the frames of MPEG audio. The largest frame is a padded frame of
// MPEG 2.5, layer 2, at 160 kb/s and 8 kHz.
var mpegFraming = framing{header: 4, largest: 2881, parse: func(data []byte) (frame, bool) {
	f, ok := parseMPEG(data)
	return f.frame, ok
}}

// mpegCodecs are the words for the codecs, by layer.
var mpegCodecs = [4]string{1: "mp1", 2: "mp2", 3: "mp3"}

// These are the bit rates in kb/s, by layer and index. bitratesV1 is for MPEG 1,
// bitratesV2 for MPEG 2 and 2.5. Index 0 is the free format, in which a frame does
// not say how many bytes it has.
var (
	bitratesV1 = [4][15]uint64{
		1: {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
		2: {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
		3: {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}
	bitratesV2 = [4][15]uint64{
		1: {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
		2: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		3: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
	}
	samplingRates = [3]uint64{44100, 48000, 32000} // MPEG 1; MPEG 2 has half of each, MPEG 2.5 a quarter
)

// parseMPEG reads a frame header. It returns false for an invalid header and for the free format.
func parseMPEG(data []byte) (mpegFrame, bool) {
	h := u32(data)
	version, layer := h>>19&3, 4-int(h>>17&3)
	bitrate, rate, padding := h>>12&15, h>>10&3, int64(h>>9&1)
	if h>>21 != 1<<11-1 || version == 1 || layer == 4 || bitrate == 0 || bitrate == 15 || rate == 3 {
		return mpegFrame{}, false
	}
	const fixed = 0xfffe0c00 // the version, the layer and the sampling rate
	f := mpegFrame{layer: layer, v1: version == 3, mono: h>>6&3 == 3, frame: frame{stream: h & fixed, rate: samplingRates[rate]}}
	f.bitrate = bitratesV2[layer][bitrate] * 1000
	switch version {
	case 3:
		f.bitrate = bitratesV1[layer][bitrate] * 1000
	case 2:
		f.rate /= 2
	case 0:
		f.rate /= 4
	}
	switch {
	case layer == 1:
		f.samples = 384
		f.size = (int64(12*f.bitrate/f.rate) + padding) * 4
		return f, true
	case layer == 3 && !f.v1:
		f.samples = 576
	default:
		f.samples = 1152
	}
	f.size = int64(f.samples/8*f.bitrate/f.rate) + padding
	return f, true
}

// frameSearch is how many bytes are searched for the first frame. A stream that was cut
// begins with a part of a frame, and programs that write tags leave padding.
const frameSearch = 64 << 10

// findSound returns the offset of the first frame in the n bytes at off. If these bytes hold
// an ID3 tag and no frame, it searches the n bytes after the tag.
func (g framing) findSound(r *reader, off, n int64) (at int64, found bool) {
	const most = 3 // searches
	for range most {
		if at, found = g.find(r, off, n); found {
			return at, true
		}
		data := r.most(off, n)
		i := bytes.Index(data, []byte("ID3"))
		if i < 0 {
			break
		}
		next := skipTags(r, off+int64(i))
		off = max(next, off+int64(i)+1)
	}
	return 0, false
}

// readMP3 reads the duration of MPEG audio.
func readMP3(r *reader, info *Info) {
	start, found := mpegFraming.findSound(r, r.start, frameSearch)
	if !found && r.start == r.src.Size { // a tag claims to be longer than the file
		start, found = mpegFraming.find(r, 0, frameSearch)
	}
	switch {
	case !found && isFreeFormat(r):
		panic(refused(info.Name, "an MP3 in the free format, whose frames do not say how long they are; common decoders refuse it", Audio))
	case !found:
		panic(damage("it has no frame of sound after its tags"))
	}
	measureMPEG(r, start, r.src.Size, info)
}

// isFreeFormat reports whether the sound begins with two layer 3 frames in the free format.
func isFreeFormat(r *reader) bool {
	const enough = 8 << 10 // bytes that hold two frames
	data := r.most(r.start, enough)
	return len(data) > 3 && data[0] == 0xff && (data[1]&0xfe == 0xfa || data[1]&0xee == 0xe2) && data[2]>>4 == 0 && bytes.Contains(data[3:], data[:3])
}

// measureMPEG sets the audio track of info from the MPEG audio between start and limit. A
// frame begins at start. If the frames agree with a Xing, Info or VBRI header, the header gives
// the length. Otherwise the frames are measured. If the result is only an estimate, the length in
// the header may replace it.
func measureMPEG(r *reader, start, limit int64, info *Info) {
	first, _ := parseMPEG(r.bytes(start, int64(mpegFraming.header)))
	info.Audio = &Track{Codec: mpegCodecs[first.layer]}
	stated := readFrameCount(r, start, first)
	sound := start
	if stated.present { // the first frame holds that header, and no sound
		var found bool
		if sound, found = mpegFraming.find(r, min(start+first.size, limit), frameSearch); !found || sound >= limit {
			panic(damage("it has no frame of sound"))
		}
	}
	s := newStream(r, mpegFraming, sound, limit)
	if s.agreesWith(stated, start) {
		info.Audio.Length = factFromUnits(stated.frames*first.samples-stated.padding, first.rate)
		return
	}
	info.Audio.Length = s.measure()
	l := &info.Audio.Length
	byHeader := factFromUnits(stated.frames*first.samples, first.rate)
	// stated.size may include tags, so a file that is shorter by up to a sixteenth may be complete.
	const leeway, inaudible = 16, 100 * time.Millisecond
	if over := start + stated.size - limit; over > limit/leeway || start+stated.size > s.end && l.Exact && byHeader.D-l.D > inaudible {
		info.warn(cutShort, r.src.Name)
	}
	const near = 8
	if !l.Exact && stated.size == 0 && byHeader.D > 0 && (byHeader.D-l.D).Abs() <= l.D/near {
		*l = byHeader
	}
	if !l.Exact {
		info.warn(byParts, r.src.Name, problem.Length(l.D))
	}
}

// agreesWith reports whether the frames of the stream agree with a Xing, Info or VBRI header.
// The frame that holds this header begins at start.
func (s *stream) agreesWith(stated frameCount, start int64) bool {
	if stated.frames == 0 || stated.size == 0 || stated.padding >= stated.frames*s.first.samples {
		return false
	}
	claimed := start + stated.size
	s.count(s.start, s.r.share())
	n := s.r.share()
	p := s.count(max(min(claimed+n/2, s.limit)-n, s.start), n)
	// stated.size may include an ID3v1 tag after the sound, or leave out the frame at start.
	const tag = 128
	slack := max(tag, s.start-start, s.seen.dense.size)
	if !p.found || p.open || p.end < claimed-slack || p.end > claimed+slack {
		return false
	}
	mean, seen := uint64(stated.size)/stated.frames, s.seen.bytes/s.seen.frames // bytes of a frame
	if s.seen.constant() {
		ahead := uint64(s.start-start) / stated.frames // mean is larger by this if stated.size counts the frame at start, and stated.frames does not
		return max(mean, seen)-min(mean, seen) <= seen/50+ahead+1
	}
	const spread = 4 // largest ratio between the mean sizes of the frames in a part of a file and in the whole file
	return mean <= spread*seen && seen <= spread*mean
}

// frameCount is what a Xing, Info or VBRI header says about the stream after it.
type frameCount struct {
	present bool   // the first frame has such a header
	frames  uint64 // 0 if the header does not say
	size    int64  // bytes of the stream; 0 if the header does not say
	padding uint64 // samples that the encoder added and a player leaves out
}

// readFrameCount reads the Xing, Info or VBRI header that may be inside the first
// frame, which begins at start.
func readFrameCount(r *reader, start int64, first mpegFrame) frameCount {
	var c frameCount
	if first.layer != 3 {
		return c
	}
	const vbriOffset = 32
	const longest = 32 + 156 // the most side information, and a Xing header with LAME's tag
	data := r.padded(start+int64(mpegFraming.header), longest, longest)
	xing := data[first.sideInfo():]
	if tag := string(xing[:4]); tag == "Xing" || tag == "Info" {
		c.present = true
		flags := u32(xing[4:])
		xing = xing[8:]
		take := func(flag uint32, n int) []byte {
			if flags&flag == 0 {
				return make([]byte, n)
			}
			field := xing[:n]
			xing = xing[n:]
			return field
		}
		c.frames, c.size = uint64(u32(take(1, 4))), int64(u32(take(2, 4)))
		take(4, 100) // the table of contents
		take(8, 4)   // the quality
		const encoder, delays = 4, 21
		if name := string(xing[:encoder]); name == "LAME" || name == "Lavc" || name == "Lavf" {
			c.padding = uint64(xing[delays])<<4 + uint64(xing[delays+1])>>4 + uint64(xing[delays+1]&15)<<8 + uint64(xing[delays+2])
		}
		return c
	}
	if vbri := data[vbriOffset:]; string(vbri[:4]) == "VBRI" {
		c.present = true
		c.size = int64(u32(vbri[10:]))
		c.frames = uint64(u32(vbri[14:]))
	}
	return c
}

// sideInfo returns how many bytes of side information follow the header of a layer 3
// frame. A Xing header comes after them.
func (f mpegFrame) sideInfo() int {
	switch {
	case f.v1 && !f.mono:
		return 32
	case !f.v1 && f.mono:
		return 9
	}
	return 17
}
