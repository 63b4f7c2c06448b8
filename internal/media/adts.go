package media

import "github.com/lipdrop/lipdrop/internal/problem"

// adtsFraming describes the frames of AAC in ADTS (ISO 13818-7, 6.2).
var adtsFraming = framing{header: 7, largest: 1<<13 - 1, parse: parseADTS}

// adtsRates are the samples per second, by the index in a frame header.
var adtsRates = [13]uint64{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// parseADTS reads a frame header: 12 sync bits, layer 0, and one of 13 sampling rates.
func parseADTS(data []byte) (frame, bool) {
	const fixed = 0xfffefdc0 // the same in all frames of a stream: the version, the profile, the sampling rate and the channels
	h := u32(data)
	index, size := h>>10&15, int64(h&3)<<11|int64(data[4])<<3|int64(data[5]>>5)
	if h>>20 != 1<<12-1 || h>>17&3 != 0 || int(index) >= len(adtsRates) || size < 7 {
		return frame{}, false
	}
	return frame{stream: h & fixed, size: size, rate: adtsRates[index], samples: 1024 * uint64(data[6]&3+1)}, true
}

// isLATM reports whether head begins with the sync word of AAC in LATM (ISO 14496-3, 1.7).
func isLATM(head []byte) bool { return len(head) > 1 && head[0] == 0x56 && head[1]&0xe0 == 0xe0 }

// readAAC reads the duration of AAC in ADTS.
func readAAC(r *reader, info *Info) {
	if head := r.most(r.start, 4); string(head) == "ADIF" || isLATM(head) {
		panic(unread("its AAC is not in ADTS frames but in ADIF or LATM, which lipdrop does not read"))
	}
	start, found := adtsFraming.findSound(r, r.start, frameSearch)
	if !found {
		panic(damage("it has no frame of sound"))
	}
	info.Audio = &Track{Codec: "aac"}
	s := newStream(r, adtsFraming, start, r.src.Size)
	if info.Audio.Length = s.measure(); !info.Audio.Length.Exact {
		info.warn(byParts, r.src.Name, problem.Length(info.Audio.Length.D))
	}
	if r.endsInZeros(r.src.Size) {
		info.warn(cutShort, r.src.Name)
	}
}
