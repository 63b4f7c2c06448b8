package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// frame is the header of an MPEG audio frame (ISO 11172-3 and 13818-3, 2.4.2.3).
type frame struct {
	header  uint32
	size    int64  // bytes, with the header
	samples uint64 // per channel
	rate    uint64 // samples per second
	bitrate uint64 // bits per second
	layer   int
	v1      bool // MPEG 1, not 2 or 2.5
	mono    bool
}

const frameHeaderSize = 4

// codecs are the names of the layers.
var codecs = [4]string{1: "mp1", 2: "mp2", 3: "mp3"}

// These are the bit rates in kb/s, by layer and index. bitratesV1 is for MPEG 1,
// bitratesV2 for MPEG 2 and 2.5. Index 0 is the free format, in which frames do not
// say how long they are.
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

// parseFrame reads a frame header. It returns false for free-format frames.
func parseFrame(data []byte) (frame, bool) {
	h := binary.BigEndian.Uint32(data)
	version, layer := h>>19&3, 4-int(h>>17&3)
	bitrate, rate, padding := h>>12&15, h>>10&3, int64(h>>9&1)
	if h>>21 != 1<<11-1 || version == 1 || layer == 4 || bitrate == 0 || bitrate == 15 || rate == 3 {
		return frame{}, false
	}
	f := frame{header: h, layer: layer, v1: version == 3, mono: h>>6&3 == 3, rate: samplingRates[rate]}
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

// sameStream reports whether two frames can belong to one stream. The version, the
// layer and the sampling rate do not change within a stream.
func (f frame) sameStream(g frame) bool {
	const fixed = 0xfffe0c00
	return f.header&fixed == g.header&fixed
}

// frameSearch is how many bytes after the tags the first frame may begin. A stream that
// was cut begins with a part of a frame, and programs that write tags leave padding.
const frameSearch = 16 << 10

// findFrame returns the offset of the first frame that begins in the n bytes at off.
// Two more frames of its stream or the end of the file must follow it.
func findFrame(r *reader, off, n int64) (at int64, found bool, err error) {
	const largest = 2881 // bytes of a padded frame of MPEG 2.5, layer 2, at 160 kb/s and 8 kHz
	data, err := r.most(off, n+3*largest)
	if err != nil {
		return 0, false, err
	}
	whole := off+int64(len(data)) == r.src.Size
	for i := range min(n, int64(len(data))) {
		if data[i] == 0xff && isChain(data[i:], whole) {
			return off + i, true, nil
		}
	}
	return 0, false, nil
}

// isChain reports whether data begins with three frames of one stream. Fewer are
// enough if they end where the file ends. Whole says that data reaches to the end of
// the file.
func isChain(data []byte, whole bool) bool {
	const wanted = 3
	var first frame
	for n := range wanted {
		if len(data) < frameHeaderSize {
			return whole && n > 0
		}
		f, ok := parseFrame(data)
		if n == 0 {
			first = f
		}
		if !ok || !f.sameStream(first) {
			return whole && n > 0 && isTail(data)
		}
		data = data[min(f.size, int64(len(data))):]
	}
	return true
}

const (
	id3v1Size     = 128
	apeFooterSize = 32
)

func isTail(data []byte) bool {
	return len(data) == id3v1Size && bytes.HasPrefix(data, []byte("TAG")) || bytes.HasPrefix(data, []byte("APETAGEX"))
}

// skipID3 returns the offset of the first byte after the ID3v2 tags at the beginning of
// the file, or the size of the file if a tag claims to be longer. The tags may hold
// pictures of many megabytes.
func skipID3(r *reader) (int64, error) {
	const most = 4 // some files have several tags, because each program added its own
	off := int64(0)
	for range most {
		head, err := r.most(off, 10)
		if err != nil {
			return 0, err
		}
		if len(head) < 10 || string(head[:3]) != "ID3" || (head[6]|head[7]|head[8]|head[9])&0x80 != 0 {
			break
		}
		size := int64(head[6])<<21 | int64(head[7])<<14 | int64(head[8])<<7 | int64(head[9])
		if footer := head[5]&0x10 != 0; footer {
			size += 10
		}
		off = min(off+10+size, r.src.Size)
	}
	return off, nil
}

// readMP3 reads the duration of MPEG audio. It uses the number of frames in a Xing, Info
// or VBRI header, if there is a credible one. Otherwise it counts the frames of a file
// that fits the budget. For a larger file it computes the duration from the size if
// the bit rate is constant, and else estimates it from parts of the file.
func readMP3(r *reader, info *Info) error {
	off, err := skipID3(r)
	if err != nil {
		return err
	}
	start, found, err := findFrame(r, off, frameSearch)
	if err != nil {
		return err
	}
	if !found {
		return damage("it has no frame of sound behind its tags")
	}
	data, err := r.bytes(start, frameHeaderSize)
	if err != nil {
		return err
	}
	first, _ := parseFrame(data)
	info.Audio = &Track{Codec: codecs[first.layer]}

	header, err := readFrameCount(r, start, first)
	if err != nil {
		return err
	}
	size := r.src.Size - start
	if header.covers(size) {
		if header.size > size+size/leeway {
			info.warn("%s ends before its sound does: it may have been cut short", r.src.Name)
		}
		info.Audio.Length = fact(header.frames*first.samples, first.rate)
		return nil
	}
	if header.present { // a frame with such a header holds no sound
		if start, found, err = findFrame(r, start+first.size, frameSearch); err != nil {
			return err
		}
		if !found {
			return damage("it has no frame of sound behind its header")
		}
	}
	return sampleMP3(r, start, info)
}

// frameCount is what a Xing, Info or VBRI header says about the stream after it.
type frameCount struct {
	present bool   // the first frame has such a header
	frames  uint64 // 0 if the header does not say
	size    int64  // bytes of the stream; 0 if the header does not say
}

// leeway is the divisor for the difference that is allowed between the size of a
// stream and the size in its header: 1/16. Some encoders do not count the tags at the
// end.
const leeway = 16

// covers reports whether the count can describe a whole stream of size bytes. If files
// were joined, the header describes only the first one, and covers returns false.
func (c frameCount) covers(size int64) bool {
	return c.frames > 0 && c.frames <= uint64(size)/frameHeaderSize &&
		(c.size == 0 || size <= c.size+c.size/leeway)
}

// readFrameCount reads the Xing, Info or VBRI header that may be inside the first
// frame, which begins at start.
func readFrameCount(r *reader, start int64, first frame) (frameCount, error) {
	var c frameCount
	if first.layer != 3 {
		return c, nil
	}
	const vbriOffset, longest = 32, 32 + 18
	data, err := r.most(start+frameHeaderSize, longest)
	if err != nil {
		return c, err
	}
	data = append(make([]byte, 0, longest), data...)[:longest] // zeros after the end of the file
	xing := data[first.sideInfo():]
	if tag := string(xing[:4]); tag == "Xing" || tag == "Info" {
		c.present = true
		flags, xing := binary.BigEndian.Uint32(xing[4:]), xing[8:]
		if flags&1 != 0 {
			c.frames, xing = uint64(binary.BigEndian.Uint32(xing)), xing[4:]
		}
		if flags&2 != 0 {
			c.size = int64(binary.BigEndian.Uint32(xing))
		}
		return c, nil
	}
	if vbri := data[vbriOffset:]; string(vbri[:4]) == "VBRI" {
		c.present = true
		c.size = int64(binary.BigEndian.Uint32(vbri[10:]))
		c.frames = uint64(binary.BigEndian.Uint32(vbri[14:]))
	}
	return c, nil
}

// sideInfo returns how many bytes of side information follow the header of a layer 3
// frame. A Xing header comes after them.
func (f frame) sideInfo() int {
	switch {
	case f.v1 && !f.mono:
		return 32
	case !f.v1 && f.mono:
		return 9
	}
	return 17
}

// tally adds up frames.
type tally struct {
	bytes, samples   uint64
	slowest, fastest uint64 // bits per second
}

// add counts the complete frames in data that belong to the stream.
func (t *tally) add(data []byte, stream frame) {
	for len(data) >= frameHeaderSize {
		f, ok := parseFrame(data)
		if !ok || !f.sameStream(stream) {
			next := bytes.IndexByte(data[1:], 0xff)
			if next < 0 {
				return
			}
			data = data[1+next:]
			continue
		}
		if f.size > int64(len(data)) {
			return
		}
		t.bytes += uint64(f.size)
		t.samples += f.samples
		t.slowest = min(t.slowest, f.bitrate)
		t.fastest = max(t.fastest, f.bitrate)
		data = data[f.size:]
	}
}

// sampleMP3 sets the duration of the frames from start on. A frame must begin at start.
func sampleMP3(r *reader, start int64, info *Info) error {
	end, err := soundEnd(r, start)
	if err != nil {
		return err
	}
	data, err := r.bytes(start, frameHeaderSize)
	if err != nil {
		return err
	}
	stream, _ := parseFrame(data)
	count := tally{slowest: math.MaxUint64}
	size := end - start
	whole, err := r.bytes(start, size)
	switch {
	case err == nil:
		count.add(whole, stream)
		info.Audio.Length = fact(count.samples, stream.rate)
		return nil
	case !errors.Is(err, errBudget):
		return err
	}
	const samples = 8 // calls; reading the tags may have left fewer
	windows := min(samples, r.callsLeft)
	for i := range windows {
		length := r.bytesLeft / r.callsLeft
		data, err := r.bytes(start+(size-length)/max(windows-1, 1)*i, length)
		if err != nil {
			return err
		}
		if i > 0 {
			data = data[sync(data, stream):]
		}
		count.add(data, stream)
	}
	if count.bytes == 0 {
		return damage("its frames of sound do not follow one another")
	}
	if count.slowest == count.fastest {
		info.Audio.Length = fact(uint64(size), stream.bitrate/8)
		return nil
	}
	if samples, ok := mulDiv(uint64(size), count.samples, count.bytes); ok {
		info.Audio.Length = fact(samples, stream.rate)
	}
	info.Audio.Length.Exact = false
	info.Audio.Length.Least, _ = inTime(count.samples, stream.rate)
	info.warn("the duration of %s is an estimate: its bit rate varies and it does not say how long it is", r.src.Name)
	return nil
}

// sync returns the index in data of the first frame of the stream that other frames
// follow, or len(data) if there is no such frame.
func sync(data []byte, stream frame) int {
	for i := range data {
		if data[i] != 0xff || len(data)-i < frameHeaderSize {
			continue
		}
		if f, ok := parseFrame(data[i:]); ok && f.sameStream(stream) && isChain(data[i:], false) {
			return i
		}
	}
	return len(data)
}

// soundEnd returns the offset at which the sound ends. An ID3v1 tag, an APE tag or both
// may follow it.
func soundEnd(r *reader, start int64) (int64, error) {
	end := r.src.Size
	if end-start >= id3v1Size {
		tag, err := r.bytes(end-id3v1Size, id3v1Size)
		if err != nil {
			return 0, err
		}
		if string(tag[:3]) == "TAG" {
			end -= id3v1Size
		}
	}
	if end-start >= apeFooterSize {
		footer, err := r.bytes(end-apeFooterSize, apeFooterSize)
		if err != nil {
			return 0, err
		}
		if string(footer[:8]) == "APETAGEX" {
			size := int64(binary.LittleEndian.Uint32(footer[12:]))
			if hasHeader := footer[23]&0x80 != 0; hasHeader {
				size += apeFooterSize
			}
			if size <= end-start {
				end -= size
			}
		}
	}
	return end, nil
}
