package media

import (
	"bytes"
	"encoding/binary"
	"slices"
)

const (
	id3HeaderSize = 10
	apeHeaderSize = 32
)

// isTail reports whether data begins like a tag or with zeros, which may follow the sound.
func isTail(data []byte) bool {
	return beginsWith(data, "TAG", "APETAGEX", "ID3", "LYRICSBEGIN", "\x00\x00\x00\x00")
}

func beginsWith(data []byte, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(s string) bool { return bytes.HasPrefix(data, []byte(s)) })
}

// skipTags skips up to six tags that begin at off: each program may have added its own. It
// returns the offset of the byte after them, or the size of the file if a tag claims to extend
// past the end of the file. It does not read a tag's content, which may be many megabytes of
// pictures.
func skipTags(r *reader, off int64) int64 {
	for range 6 {
		head := r.most(off, apeHeaderSize)
		switch {
		case isID3(head):
			off = min(id3End(r, off, head), r.src.Size)
		case len(head) == apeHeaderSize && string(head[:8]) == "APETAGEX":
			off = min(off+apeHeaderSize+int64(binary.LittleEndian.Uint32(head[12:])), r.src.Size)
		default:
			return off
		}
	}
	return off
}

// isID3 reports whether head begins with the header of an ID3v2 tag.
func isID3(head []byte) bool {
	return len(head) >= id3HeaderSize && string(head[:3]) == "ID3" && head[3] < 0x10 && head[4] < 0xff
}

// id3End returns where the ID3v2 tag at off ends. Each byte of the tag's size should hold seven
// bits, but some programs write eight. So id3End tries both: sound, zeros or another tag
// follows the right end. If both or neither fit, it assumes eight bits if a byte has its highest
// bit set, otherwise seven.
func id3End(r *reader, off int64, head []byte) int64 {
	size := head[6:10]
	sevenBits := int64(size[0]&0x7f)<<21 | int64(size[1]&0x7f)<<14 | int64(size[2]&0x7f)<<7 | int64(size[3]&0x7f)
	if footer := head[5]&0x10 != 0; footer {
		sevenBits += id3HeaderSize
	}
	ends := []int64{off + id3HeaderSize + sevenBits, off + id3HeaderSize + int64(u32(size))}
	if (size[0]|size[1]|size[2]|size[3])&0x80 != 0 {
		slices.Reverse(ends)
	}
	for _, end := range ends {
		if end >= r.src.Size {
			continue
		}
		next := r.most(end, apeHeaderSize)
		_, isMPEG := mpegFraming.at(next)
		_, isADTS := adtsFraming.at(next)
		if isMPEG || isADTS || isTail(next) || beginsWith(next, "RIFF", "RIFX", "RF64", "fLaC", "OggS") {
			return end
		}
	}
	return ends[0]
}
