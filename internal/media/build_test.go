package media_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
)

// be and le encode values one after the other, each in the size of its type. An int
// takes four bytes.
func be(values ...any) []byte { return write(binary.BigEndian, values) }
func le(values ...any) []byte { return write(binary.LittleEndian, values) }

func write(order binary.ByteOrder, values []any) []byte {
	var out []byte
	for _, value := range values {
		switch v := value.(type) {
		case int:
			value = uint32(v)
		case string:
			value = []byte(v)
		}
		var err error
		if out, err = binary.Append(out, order, value); err != nil {
			panic(err)
		}
	}
	return out
}

// atom returns a box of an MP4 file.
func atom(kind string, body ...[]byte) []byte {
	all := slices.Concat(body...)
	return be(8+len(all), kind, all)
}

// longAtom returns the header of a box with a 64-bit size.
func longAtom(kind string, size uint64) []byte { return be(1, kind, size) }

// trackBox returns a trak box of 64×48 pixels. The media counts in milliseconds and has one
// sample, or none if the length is 0.
func trackBox(id int, handler string, length int, more ...[]byte) []byte {
	return headedTrack(id, handler, 3, append(more, mediaBox(handler, length, sampleTable(handler, length)))...)
}

// headedTrack returns a trak box of 64×48 pixels with the given flags and boxes.
func headedTrack(id int, handler string, flags int, more ...[]byte) []byte {
	tkhd := atom("tkhd", be(flags, 0, 0, id, 0, 0), make([]byte, 16), matrix, be(64<<16, 48<<16))
	return atom("trak", tkhd, slices.Concat(more...))
}

// table returns a box that begins with a number. In most tables, this is how many entries the
// table has.
func table(kind string, number int, rest []byte) []byte { return atom(kind, be(0, number, rest)) }

// mediaBox returns the mdia box of a track.
func mediaBox(handler string, length int, tables ...[]byte) []byte {
	return atom("mdia",
		atom("mdhd", be(0, 0, 0, 1000, length, 0)),
		atom("hdlr", be(0, 0, handler), make([]byte, 13)),
		atom("minf", atom("stbl", tables...)),
	)
}

// sampleTable returns the tables of a track with one sample of one byte, which is the third
// byte of the file. If the length is 0, the track has no sample. If it is -1, which means
// unknown, the sample has no length.
func sampleTable(handler string, length int) []byte {
	count := 0
	if length != 0 {
		count = 1
	}
	entry := map[string][]byte{"vide": atom("avc1", make([]byte, 78)), "soun": atom("mp4a", make([]byte, 28))}[handler]
	return slices.Concat(
		atom("stsd", be(0, 1, entry)),
		atom("stts", be(0, 1, count, max(length, 0))),
		atom("stsc", be(0, 1, 1, 1, 1)),
		atom("stsz", be(0, 0, count, bytes.Repeat(be(1), count))),
		atom("stco", be(0, count, bytes.Repeat(be(2), count))),
	)
}

var matrix = be(1<<16, 0, 0, 0, 1<<16, 0, 0, 0, 1<<30)

// movieBox returns a moov box that counts in milliseconds.
func movieBox(length int, more ...[]byte) []byte {
	mvhd := atom("mvhd", be(0, 0, 0, 1000, length), make([]byte, 80))
	return atom("moov", mvhd, slices.Concat(more...))
}

var typeBox = atom("ftyp", []byte("isom\x00\x00\x02\x00isommp41"))

// editList returns an edts box. An edit is a length in units of the movie, and a start in
// units of the media.
func editList(edits ...[2]int) []byte {
	list := be(0, len(edits))
	for _, e := range edits {
		list = append(list, be(e[0], e[1], 1<<16)...)
	}
	return atom("edts", atom("elst", list))
}

// fragment returns a moof box that lists samples of track 1, and an mdat box that holds zeros.
// start is the time of the first sample, count is the number of samples, and size is the number of
// zeros. Each sample lasts 100 units.
func fragment(start, count, size int) []byte {
	traf := atom("traf",
		atom("tfhd", be(0x8, 1, 100)),
		atom("tfdt", be(0, start)),
		atom("trun", be(0, count)),
	)
	return slices.Concat(atom("moof", atom("mfhd", be(0, 1)), traf), atom("mdat", make([]byte, size)))
}

// fragmentedMovie returns the boxes before the fragments of a video track.
func fragmentedMovie(more ...[]byte) []byte {
	trex := atom("trex", be(0, 1, 1, 0, 0, 0))
	mvex := atom("mvex", trex, slices.Concat(more...))
	return slices.Concat(typeBox, movieBox(0, trackBox(1, "vide", 0), mvex))
}

// accessIndex returns an mfra box with one entry, for the fragment at offset. start is the time of
// the fragment.
func accessIndex(start int, offset uint64) []byte {
	tfra := atom("tfra", be(1<<24, 1, 0, 1, uint64(start), offset, "\x01\x01\x01"))
	return atom("mfra", tfra, atom("mfro", be(0, 8+len(tfra)+16)))
}

// chunk returns a chunk of a RIFF file.
func chunk(kind string, body []byte) []byte {
	out := le(kind, len(body), body)
	if len(body)%2 != 0 {
		out = append(out, 0)
	}
	return out
}

// riff returns a RIFF file of the given form.
func riff(form string, chunks ...[]byte) []byte {
	all := slices.Concat(chunks...)
	return le("RIFF", 4+len(all), form, all)
}

// pcm8k is the format chunk of a WAV file with 8,000 samples a second, of two bytes each.
var pcm8k = chunk("fmt ", le(uint16(1), uint16(1), 8000, 16000, uint16(2), uint16(16)))

// webpFile returns an extended WEBP file of 64×48 pixels with the given VP8X flags.
func webpFile(flags int, chunks ...[]byte) []byte {
	return riff("WEBP", chunk("VP8X", le(flags, "\x3f\x00\x00\x2f\x00\x00")), slices.Concat(chunks...))
}

// pngHeader returns a PNG file up to the end of its header.
func pngHeader(width, height int) []byte {
	ihdr := be("IHDR", width, height, "\x08\x02\x00\x00\x00")
	return be("\x89PNG\r\n\x1a\n", 13, ihdr, crc32.ChecksumIEEE(ihdr))
}

// pngChunk returns a chunk of a PNG file.
func pngChunk(kind string, body []byte) []byte {
	return be(len(body), kind, body, crc32.ChecksumIEEE(be(kind, body)))
}

// jpegFile returns a JPEG file of the given parts.
func jpegFile(parts ...[]byte) []byte {
	return slices.Concat([]byte("\xff\xd8"), slices.Concat(parts...))
}

// jpegScan returns the picture data of a JPEG file and its end marker. The data have at
// least size bytes.
func jpegScan(size int) []byte {
	return slices.Concat(segment(0xda, make([]byte, 10)), bytes.Repeat([]byte("\x5a\xff\x00\xff\xd0\x5a"), (size+5)/6), []byte("\xff\xd9"))
}

// segment returns a segment of a JPEG file.
func segment(marker byte, body ...[]byte) []byte {
	all := slices.Concat(body...)
	return be([]byte{0xff, marker}, uint16(len(all)+2), all)
}

// jpegFrame returns a JPEG frame header of 640×480 pixels.
func jpegFrame(marker byte) []byte {
	return segment(marker, be("\x08", uint16(480), uint16(640), "\x03", strings.Repeat("\x01\x11\x00", 3)))
}

// mp3Frames returns count frames of MPEG 1 layer 3 at 32 kb/s and 32 kHz. Each frame
// has 144 bytes and lasts 36 ms.
func mp3Frames(count int) []byte { return bytes.Repeat(mp3Frame(0x18), count) }

// mp3Frame returns a frame. rateByte is the third byte of the frame, which holds the bit rate, the
// sampling rate and the padding. It must say 32 kHz and no padding.
func mp3Frame(rateByte byte) []byte {
	kbps := []int{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}[rateByte>>4]
	frame := make([]byte, 144*kbps/32)
	copy(frame, []byte{0xff, 0xfb, rateByte, 0xc0})
	return frame
}

// noise returns n bytes that look like neither frames nor tags.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return bytes.ReplaceAll(data, []byte{0xff}, []byte{0xfe})
}

// ebml returns an element of a Matroska file.
func ebml(id int, body ...[]byte) []byte {
	all := slices.Concat(body...)
	return slices.Concat(bytes.TrimLeft(be(id), "\x00"), be(uint64(len(all))|1<<56), all)
}

// openEBML returns the head of an element that does not say how long it is.
func openEBML(id int) []byte { return be(id, uint64(1<<57-1)) }

// mkvTrack returns a TrackEntry. Its kind is 1 for video and 2 for audio.
func mkvTrack(number, kind int, codec string, more ...[]byte) []byte {
	return ebml(0xAE, ebml(0xD7, be(number)), ebml(0x83, be(kind)), ebml(0x86, []byte(codec)),
		ebml(0xE0, ebml(0xB0, be(64)), ebml(0xBA, be(48))), slices.Concat(more...))
}

// mkvHead returns the elements before the clusters: a header, an open segment, a length
// in milliseconds unless it is 0, and the tracks.
func mkvHead(length float32, tracks ...[]byte) []byte {
	var duration []byte
	if length > 0 {
		duration = ebml(0x4489, be(length))
	}
	return slices.Concat(ebml(0x1A45DFA3, ebml(0x4282, []byte("webm"))), openEBML(0x18538067),
		ebml(0x1549A966, ebml(0x2AD7B1, be(1000000)), duration), ebml(0x1654AE6B, tracks...))
}

// blocks returns a SimpleBlock with size bytes of data for each time. A time counts from the
// timestamp of the cluster.
func blocks(track byte, size int, times ...int) []byte {
	var out []byte
	for _, at := range times {
		out = append(out, ebml(0xA3, []byte{0x80 | track}, be(uint16(at)), []byte{0x80}, bytes.Repeat([]byte{0x55}, size))...)
	}
	return out
}

// cluster returns a Cluster that begins at a time in milliseconds.
func cluster(at int, blocks ...[]byte) []byte {
	return ebml(0x1F43B675, ebml(0xE7, be(at)), slices.Concat(blocks...))
}
