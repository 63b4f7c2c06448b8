package media

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Format tags from Microsoft's mmreg.h.
const (
	tagPCM        = 0x0001
	tagADPCM      = 0x0002
	tagFloat      = 0x0003
	tagALaw       = 0x0006
	tagMuLaw      = 0x0007
	tagIMAADPCM   = 0x0011
	tagGSM        = 0x0031
	tagMPEG       = 0x0050
	tagMP3        = 0x0055
	tagAAC        = 0x00ff
	tagADTS       = 0x1600
	tagExtensible = 0xfffe
)

// wavCodecs are the names of the codecs by format tag.
var wavCodecs = map[uint16]string{
	tagPCM: "pcm", tagFloat: "pcm", tagALaw: "pcm_alaw", tagMuLaw: "pcm_mulaw", tagADPCM: "adpcm_ms", tagIMAADPCM: "adpcm_ima_wav",
	tagGSM: "gsm_ms", tagMPEG: "mp2", tagMP3: "mp3", tagAAC: "aac", tagADTS: "aac",
}

// wav is what the chunks before the data chunk say about the sound.
type wav struct {
	order       binary.ByteOrder
	longData    uint64 // bytes of sound, from the ds64 chunk; 0 if unknown
	tag         uint16
	channels    uint64
	rate        uint64 // samples per second
	byteRate    uint64
	blockAlign  uint64 // bytes of one sample of all channels, or of a block of a codec
	bits        uint64 // of a sample
	inBlock     uint64 // samples of a block of a codec; 0 if unknown
	samples     uint64 // from the fact chunk; 0 if unknown
	formatKnown bool
}

// readWAV reads RIFF, RIFX, RF64 and BW64 files.
func readWAV(r *reader, info *Info) {
	head := r.bytes(r.start, 12)
	w := wav{order: binary.LittleEndian}
	if string(head[:4]) == "RIFX" {
		w.order = binary.BigEndian
	}
	for c := range r.chunks(r.start+12, r.src.Size, w.order) {
		switch c.kind {
		case "ds64":
			w.longData = w.order.Uint64(r.bytes(c.body, 16)[8:])
		case "fmt ":
			w.readFormat(r, c)
		case "fact":
			if w.samples = uint64(w.order.Uint32(r.bytes(c.body, 4))); w.samples == math.MaxUint32 {
				w.samples = 0
			}
		case "data":
			w.finish(r, c, info)
			return
		}
	}
	panic(damage("it has no sound data"))
}

func (w *wav) readFormat(r *reader, c chunk) {
	const bits, inBlock, subFormat = 14, 18, 24 // offsets
	length := c.end - c.body
	if length < bits {
		panic(damage("its format chunk is too short"))
	}
	data := r.padded(c.body, min(length, subFormat+2), subFormat+2)
	field := func(at int) uint64 { return uint64(w.order.Uint16(data[at:])) }
	w.tag, w.channels, w.blockAlign, w.bits, w.inBlock = uint16(field(0)), field(2), field(12), field(bits), field(inBlock)
	w.rate, w.byteRate = uint64(w.order.Uint32(data[4:])), uint64(w.order.Uint32(data[8:]))
	if w.tag == tagExtensible {
		w.tag = uint16(field(subFormat))
	}
	w.formatKnown = true
}

// sampleSize returns how many bytes one sample of all channels has, or 0 if it is not known.
// Some programs write wrong values into the format, so two fields that agree win over a third.
func (w *wav) sampleSize() uint64 {
	bySample, byAlign, byRate := w.channels*((w.bits+7)/8), w.blockAlign, uint64(0)
	if w.byteRate%w.rate == 0 {
		byRate = w.byteRate / w.rate
	}
	if byAlign > 0 && (byAlign == byRate || bySample == 0) {
		return byAlign
	}
	return cmp.Or(bySample, byRate)
}

// finish sets the audio track from the data chunk.
func (w *wav) finish(r *reader, c chunk, info *Info) {
	switch {
	case !w.formatKnown:
		panic(damage("it has no format chunk before its sound data"))
	case w.rate == 0:
		panic(damage("its format has no sampling rate"))
	}
	if w.channels == 0 || w.bits == 0 && w.tag == tagPCM {
		info.warn("the header of %s does not say how many channels or bits its sound has, and some programs cannot read such a file", info.Name)
	}
	info.Audio = &Track{Codec: wavCodecs[w.tag]}
	length := w.dataLength(r, c, info)
	if length == 0 {
		panic(noSound(r.src.Name))
	}
	switch w.tag {
	case tagPCM, tagFloat, tagALaw, tagMuLaw:
		size := w.sampleSize()
		if size == 0 {
			panic(damage("its samples have no size"))
		}
		if length < size {
			panic(noSound(r.src.Name))
		}
		info.Audio.Length = factFromUnits(length/size, w.rate)
	case tagMPEG, tagMP3:
		end := c.body + int64(length)
		if start, found := mpegFraming.find(r, c.body, frameSearch); found && start < end {
			measureMPEG(r, start, end, info)
			return
		}
		fallthrough
	default:
		w.measureCodec(length, info)
		if info.Audio.Length == Fact(0) { // the data are shorter than a block
			panic(noSound(r.src.Name))
		}
	}
	if !info.Audio.Length.Known() {
		info.warn("%s does not say how long it is, so its length is not checked", r.src.Name)
	}
}

// measureCodec sets the length of coded sound in which no MPEG frame was found.
func (w *wav) measureCodec(length uint64, info *Info) {
	byFact, byBlocks, byRate := factFromUnits(w.samples, w.rate), w.byBlocks(length), factFromUnits(length, w.byteRate)
	const near = 20 // two lengths agree if they differ by at most a twentieth
	agree := func(a, b Length) bool { return a.D > 0 && (a.D-b.D).Abs() <= a.D/near }
	l := &info.Audio.Length
	switch {
	case agree(byFact, byRate), agree(byFact, byBlocks):
		*l = byFact
		if byBlocks.Exact && byBlocks.D < byFact.D { // the file is cut
			*l = byBlocks
		}
		return
	case byBlocks.Exact, agree(byBlocks, byRate):
		*l = Fact(byBlocks.D)
		return
	}
	l.D = cmp.Or(max(byBlocks.D, byRate.D), byFact.D)
	l.Least = l.D
	for _, sign := range []Length{byFact, byBlocks, byRate} {
		if sign.D > 0 {
			l.Least = min(l.Least, sign.D)
		}
	}
	if l.Known() {
		info.warn("the length of %s, about %s, is an estimate: nothing else in the file confirms it", info.Name, problem.Length(l.D))
	}
}

// byBlocks returns the length of sound that is coded in blocks. It is unknown for other codecs,
// and not exact if the header claims more or fewer samples than fit into a block.
func (w *wav) byBlocks(length uint64) Length {
	fit := uint64(0)
	switch {
	case w.blockAlign == 0 || w.channels == 0:
	case w.tag == tagIMAADPCM && w.blockAlign > 4*w.channels:
		fit = (w.blockAlign-4*w.channels)*2/w.channels + 1
	case w.tag == tagADPCM && w.blockAlign > 7*w.channels:
		fit = (w.blockAlign-7*w.channels)*2/w.channels + 2
	case w.tag == tagGSM:
		fit = w.blockAlign / 65 * 320
	}
	if fit == 0 {
		return Length{}
	}
	n := cmp.Or(w.inBlock, fit)
	l := factFromUnits(length/w.blockAlign*n, w.rate)
	l.Exact = l.Exact && n == fit
	return l
}

// isPlaceholder reports whether the length that a chunk claims is only a placeholder. A program
// that writes to a pipe cannot go back to the header, so it leaves the length at 0 or at a
// very large value. The chunk then extends to the end of the file. available is how many bytes
// follow the header of the chunk.
func isPlaceholder(claimed, available uint64) bool {
	const veryLarge = 1_000_000_000
	return claimed == 0 || claimed >= veryLarge && claimed/2 > available
}

// dataLength returns how many bytes of sound are in the file after the header of the data
// chunk c.
func (w *wav) dataLength(r *reader, c chunk, info *Info) uint64 {
	claimed, available := uint64(c.end-c.body), uint64(r.src.Size-c.body)
	if claimed == math.MaxUint32 && w.longData > 0 {
		claimed = w.longData
	}
	switch {
	case claimed == 0 && w.isChunk(r, c.body): // the chunk is empty, and another one follows
		return 0
	case isPlaceholder(claimed, available):
		return available
	case claimed > available:
		if claimed-available > w.byteRate/20 { // more than 50 ms are missing
			info.warn(cutShort, r.src.Name)
		}
		return available
	}
	return claimed
}

// isChunk reports whether the bytes at off look like a chunk: four printable ASCII characters,
// and a length that fits into the file.
func (w *wav) isChunk(r *reader, off int64) bool {
	if off > r.src.Size-8 {
		return false
	}
	head := r.step(off, 8)
	foreign := slices.ContainsFunc(head[:4], func(b byte) bool { return b < ' ' || b > '~' })
	return !foreign && int64(w.order.Uint32(head[4:])) <= r.src.Size-off-8
}
