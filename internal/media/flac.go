package media

import "slices"

// flacInfo is the STREAMINFO block of a FLAC file (RFC 9639, 8.2).
type flacInfo struct {
	blockSize uint64 // samples of a frame, if all frames have the same number of samples
	rate      uint64 // samples per second
	channels  int
	samples   uint64 // of one channel; 0 if unknown
}

// flacFrame is a frame of a FLAC file.
type flacFrame struct {
	first   uint64 // how many samples come before the frame
	samples uint64 // how many samples the frame has
	data    []byte // begins with the frame
}

// readFLAC computes the length of a FLAC file from the first and the last frame. If the last
// frame is not found, the number of samples in STREAMINFO gives an estimate.
func readFLAC(r *reader, info *Info) {
	const blockHeader, streamInfo, most = 4, 34, 200
	head := r.bytes(r.start, 4+blockHeader+streamInfo)[4+blockHeader:]
	f := flacInfo{
		blockSize: uint64(u32(head) & 0xffff), rate: uint64(u32(head[10:]) >> 12),
		channels: int(head[12]>>1&7) + 1, samples: uint64(head[13]&15)<<32 | uint64(u32(head[14:])),
	}
	if f.rate == 0 {
		panic(damage("its header has no sampling rate"))
	}
	info.Audio = &Track{Codec: "flac"}
	start := r.start + 4
	for range most {
		block := r.step(start, blockHeader)
		start += blockHeader + int64(u32(block)&0xffffff)
		if last := block[0]&0x80 != 0; last {
			break
		}
	}
	const near = 64 << 10
	data := r.most(min(start, r.src.Size), near)
	first, found := f.find(data)
	if !found {
		panic(damage("it has no frame of sound after its header"))
	}
	early, _ := f.last(data)
	_, data = r.tailBeforeZeros(start, near)
	last, found := f.last(data)
	end := last.first
	if last.whole() {
		end += last.samples
	}
	switch {
	case found && end == first.first:
		panic(damage("it ends in the middle of its first frame of sound"))
	case found:
		info.Audio.Length = factFromUnits(end-min(first.first, end), f.rate)
		// An encoder that reads a WAV file of unknown length from a pipe may write into STREAMINFO how
		// many samples fit into 2 or 4 GiB. This number is not a sign that the file was cut short.
		bits := uint64(head[12]&1)<<4 + uint64(head[13]>>4) + 1
		placeholder := f.samples/2 > end && f.samples*uint64(f.channels)*bits/8 >= 1<<31-1<<16
		if end == last.first || end < f.samples && !placeholder {
			info.warn(cutShort, r.src.Name)
		}
	default:
		l := factFromUnits(f.samples, f.rate)
		l.Exact = false
		l.Least = factFromUnits(early.first+early.samples-min(first.first, early.first), f.rate).D
		if l.Known() {
			l.Least = min(l.Least, l.D)
		}
		info.Audio.Length = l
		info.warn("the end of the sound of %s was not found, so its length is not certain", r.src.Name)
	}
}

// find returns the first frame in data.
func (f flacInfo) find(data []byte) (flacFrame, bool) {
	for i := range data {
		if frame, ok := f.parseFrame(data[i:]); ok {
			return frame, true
		}
	}
	return flacFrame{}, false
}

// last returns the last frame in data. The sound may hold bytes that look like the header of
// a frame. So a frame counts only if it begins with the first sample of the recording, if it
// begins where an earlier frame in data ends, or if STREAMINFO says that the sound ends with it.
func (f flacInfo) last(data []byte) (last flacFrame, found bool) {
	const most = 64
	var ends []uint64
	for i := range data {
		frame, ok := f.parseFrame(data[i:])
		if !ok {
			continue
		}
		end := frame.first + frame.samples
		follows := frame.first == 0 || end == f.samples || slices.Contains(ends, frame.first)
		if follows && frame.first >= last.first {
			last, found = frame, true
		}
		if ends = append(ends, end); len(ends) > most {
			ends = ends[1:]
		}
	}
	return last, found
}

// whole reports whether the frame is complete. A frame ends with a CRC-16 of its other bytes,
// so the CRC-16 of a complete frame is 0. At each byte before the end, the CRC-16 is 0 by
// chance with a probability of 1 in 65,536. So about 1 in 7 frames that are cut after 10 KB
// passes as complete.
func (f flacFrame) whole() bool {
	crc := uint16(0)
	for _, b := range f.data {
		crc ^= uint16(b) << 8
		for range 8 {
			crc = crc<<1 ^ crc>>15*0x8005
		}
		if crc == 0 {
			return true
		}
	}
	return false
}

// parseFrame reads a frame header (RFC 9639, 9.1). It returns false unless the header has as
// many channels as STREAMINFO says, and the right checksum.
func (f flacInfo) parseFrame(data []byte) (flacFrame, bool) {
	if len(data) < 6 || data[0] != 0xff || data[1]&0xfe != 0xf8 || data[3]&1 != 0 {
		return flacFrame{}, false
	}
	variable := data[1]&1 != 0
	size, rate, channels := data[2]>>4, data[2]&15, int(data[3]>>4)
	if size == 0 || rate == 15 || channels > 10 || channels < 8 && channels+1 != f.channels || channels >= 8 && f.channels != 2 {
		return flacFrame{}, false
	}
	number, n := flacNumber(data[4:])
	if n == 0 {
		return flacFrame{}, false
	}
	at := 4 + n
	own := [16]int{6: 1, 7: 2}[size] // how many bytes hold the number of samples; 0 if size gives this number
	end := at + own + [16]int{12: 1, 13: 2, 14: 2}[rate]
	if len(data) <= end || crc8(data[:end]) != data[end] {
		return flacFrame{}, false
	}
	samples := [16]uint64{1: 192, 576, 1152, 2304, 4608, 8: 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}[size]
	switch own {
	case 1:
		samples = uint64(data[at]) + 1
	case 2:
		samples = uint64(data[at])<<8 + uint64(data[at+1]) + 1
	}
	if !variable {
		number *= f.blockSize
	}
	return flacFrame{number, samples, data}, true
}

// flacNumber reads a number that is coded like a character of UTF-8, in up to 7 bytes.
// It also returns the length of the code, which is 0 if the code is not valid.
func flacNumber(data []byte) (number uint64, length int) {
	lead := data[0]
	if lead < 0x80 {
		return uint64(lead), 1
	}
	for length = 0; lead&0x80 != 0; length++ {
		lead <<= 1
	}
	if length == 1 || length > 7 || len(data) < length {
		return 0, 0
	}
	number = uint64(lead >> length)
	for _, b := range data[1:length] {
		if b&0xc0 != 0x80 {
			return 0, 0
		}
		number = number<<6 | uint64(b&0x3f)
	}
	return number, length
}

// crc8 returns the checksum of a frame header: polynomial x^8 + x^2 + x + 1.
func crc8(data []byte) byte {
	crc := byte(0)
	for _, b := range data {
		crc ^= b
		for range 8 {
			crc = crc<<1 ^ crc>>7*7
		}
	}
	return crc
}
