package media_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// soundRow is a file of sound and what Inspect must find in it.
type soundRow struct {
	name     string
	file     file
	duration time.Duration
	least    time.Duration // the shortest possible length, if the length is an estimate; the estimate must be within a twentieth of duration
	codec    string        // if it differs from the codec of the test
	warning  string        // the beginning of the only warning
}

func testSound(t *testing.T, name string, want media.Info, codec string, rows []soundRow) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			src := count(name, row.file.size, row.file)
			got, err := media.Inspect(t.Context(), src.Source)
			src.checkBudget(t)
			if err != nil {
				t.Fatal(err)
			}
			want := want
			want.Name, want.Bytes, want.Kind, want.Warnings = name, row.file.size, media.Audio, got.Warnings
			length := media.Length{D: row.duration, Exact: row.duration > 0}
			if row.least > 0 {
				length = media.Length{D: got.Audio.Length.D, Least: row.least}
				if off := (length.D - row.duration).Abs(); off > row.duration/20 {
					t.Errorf("got an estimate of %v, want about %v", length.D, row.duration)
				}
			}
			want.Audio = &media.Track{Codec: cmp.Or(row.codec, codec), Length: length}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
			checkWarning(t, got.Warnings, row.warning)
		})
	}
}

func TestWAV(t *testing.T) {
	second := make([]byte, 16000)
	format := func(tag, channels, rate, byteRate, align, bits int) []byte {
		return chunk("fmt ", le(uint16(tag), uint16(channels), rate, byteRate, uint16(align), uint16(bits)))
	}
	claims := func(size int, body []byte) []byte { return slices.Concat(le("data", size), body) }
	testSound(t, "a.wav", media.Info{Format: "wav"}, "pcm", []soundRow{
		{name: "odd chunks and their padding", duration: time.Second,
			file: whole(riff("WAVE", chunk("bext", make([]byte, 605)), pcm8k, chunk("LIST", make([]byte, 33)), chunk("data", second)))},
		{name: "a picture of several megabytes before the sound", duration: time.Second,
			file: far(riff("WAVE", pcm8k, le("id3 ", 5<<20)), 5<<20+12+24+8, chunk("data", second))},
		{name: "chunks after the sound", duration: time.Second,
			file: whole(riff("WAVE", pcm8k, chunk("data", second), chunk("LIST", make([]byte, 5000))))},
		{name: "lengths that a program did not fill in because it wrote to a pipe", duration: time.Second,
			file: whole(le("RIFF", -1, "WAVE"), pcm8k, claims(-1, second))},
		{name: "lengths that a recorder left at 0", duration: time.Second,
			file: whole(le("RIFF", 0, "WAVE"), pcm8k, claims(0, second))},
		{name: "the largest signed length", duration: time.Second,
			file: whole(le("RIFF", -1, "WAVE"), pcm8k, claims(1<<31-1, second))},
		{name: "RF64 of 6 GB", duration: 3 * (1 << 30) / 8000 * time.Second,
			file: far(slices.Concat(le("RF64", -1, "WAVE"), chunk("ds64", le(uint64(6<<30+72), uint64(6<<30/16000*16000), uint64(0), 0)), pcm8k, le("data", -1)), 6<<30, second)},
		{name: "BW64", duration: time.Second / 2,
			file: whole(le("BW64", -1, "WAVE"), chunk("ds64", le(uint64(16072), uint64(8000), uint64(0), 0)), pcm8k, claims(-1, second))},
		{name: "cut short", duration: time.Second, warning: "a.wav ends before its sound does",
			file: whole(riff("WAVE", pcm8k), claims(99999, second))},
		{name: "a big-endian file", duration: time.Second,
			file: whole(be("RIFX", 36+16000, "WAVE", "fmt ", 16, uint16(1), uint16(1), 8000, 16000, uint16(2), uint16(16), "data", 16000), second)},
		{name: "a tag before the header", duration: time.Second, file: whole(id3(3000), make([]byte, 3000), riff("WAVE", pcm8k, chunk("data", second)))},
		{name: "a length of 2,000,000,000 bytes, which a program wrote before it knew the length", duration: time.Second,
			file: whole(le("RIFF", 2000000036, "WAVE"), pcm8k, claims(2000000000, second))},
		{name: "the largest signed length that is a multiple of 4 KiB", duration: time.Second, file: whole(le("RIFF", -1, "WAVE"), pcm8k, claims(0x7ffff000, second))},
		{name: "a length of 0, and a RIFF size that counts only the header", duration: time.Second, file: whole(le("RIFF", 36, "WAVE"), pcm8k, claims(0, second))},
		{name: "a length of 0, and a RIFF size that counts the sound too", duration: time.Second, file: whole(le("RIFF", 36+16000, "WAVE"), pcm8k, claims(0, second))},
		{name: "a length that counts the header of the chunk too", duration: time.Second, file: whole(riff("WAVE", pcm8k), claims(16008, second))},
		{name: "blocks of one byte for samples of two", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 16000, 1, 16), chunk("data", second)))},
		{name: "blocks of four bytes for samples of two", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 16000, 4, 16), chunk("data", second)))},
		{name: "no byte rate", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 0, 2, 16), chunk("data", second)))},
		{name: "no block size", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 16000, 0, 16), chunk("data", second)))},
		{name: "neither byte rate nor block size", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 0, 0, 16), chunk("data", second)))},
		{name: "24 bits in blocks of 32", duration: time.Second / 2, file: whole(riff("WAVE", format(1, 1, 8000, 32000, 4, 24), chunk("data", second)))},
		{name: "12 bits in two bytes", duration: time.Second, file: whole(riff("WAVE", format(1, 1, 8000, 16000, 2, 12), chunk("data", second)))},
		{name: "no bits", duration: time.Second, warning: "the header of a.wav does not say how many channels or bits",
			file: whole(riff("WAVE", format(1, 1, 8000, 16000, 2, 0), chunk("data", second)))},
		{name: "no channels", duration: time.Second, warning: "the header of a.wav does not say how many channels or bits",
			file: whole(riff("WAVE", format(1, 0, 8000, 16000, 2, 16), chunk("data", second)))},
		{name: "an extensible format", duration: time.Second, codec: "pcm_mulaw",
			file: whole(riff("WAVE", chunk("fmt ", le(uint16(0xfffe), uint16(1), 16000, 16000, uint16(1), uint16(8), uint16(22), uint16(8), 4, uint16(7), make([]byte, 14))), chunk("data", second)))},
		{name: "IMA ADPCM whose header does not say how many samples a block has", duration: 500 * 505 * time.Second / 8000, codec: "adpcm_ima_wav",
			file: whole(riff("WAVE", chunk("fmt ", le(uint16(0x11), uint16(1), 8000, 4055, uint16(256), uint16(4))), chunk("data", make([]byte, 500*256))))},
		{name: "ADPCM that was written to a pipe, with a wrong byte rate", duration: 500 * 500 * time.Second / 8000, codec: "adpcm_ms",
			file: whole(le("RIFF", -1, "WAVE"), chunk("fmt ", le(uint16(2), uint16(1), 8000, 2900, uint16(256), uint16(4), uint16(4), uint16(500))), chunk("fact", le(-1)), claims(-1, make([]byte, 500*256)))},
		{name: "ADPCM that is cut", duration: 480 * 500 * time.Second / 8000, codec: "adpcm_ms", warning: "a.wav ends before its sound does",
			file: whole(riff("WAVE", chunk("fmt ", le(uint16(2), uint16(1), 8000, 4096, uint16(256), uint16(4), uint16(4), uint16(500))), chunk("fact", le(500*500))), claims(500*256, make([]byte, 480*256)))},
		{name: "GSM", duration: 100 * 320 * time.Second / 8000, codec: "gsm_ms",
			file: whole(riff("WAVE", chunk("fmt ", le(uint16(0x31), uint16(1), 8000, 1625, uint16(65), uint16(0), uint16(2), uint16(320))), chunk("data", make([]byte, 6500))))},
		{name: "MP3 in a WAV", duration: 100 * 36 * time.Millisecond, codec: "mp3",
			file: whole(riff("WAVE", format(0x55, 1, 32000, 1, 1, 0), chunk("fact", le(9)), chunk("data", mp3Frames(100)), chunk("LIST", make([]byte, 99))))},
		{name: "a codec whose number of samples agrees with its byte rate", duration: 16 * time.Second, codec: "aac",
			file: whole(riff("WAVE", format(0xff, 1, 8000, 1000, 1, 0), chunk("fact", le(128000)), chunk("data", second)))},
		{name: "a codec whose number of samples disagrees with its byte rate", duration: 16 * time.Second, least: 3 * time.Second, codec: "aac",
			file:    whole(riff("WAVE", format(0xff, 1, 8000, 1000, 1, 0), chunk("fact", le(24000)), chunk("data", second))),
			warning: "the length of a.wav, about 16.0 s, is an estimate: nothing else in the file confirms it"},
		{name: "a codec with a byte rate but no number of samples", duration: 16 * time.Second, least: 16 * time.Second, codec: "aac",
			file:    whole(riff("WAVE", format(0xff, 1, 8000, 1000, 1, 0), chunk("data", second))),
			warning: "the length of a.wav, about 16.0 s, is an estimate: nothing else in the file confirms it"},
		{name: "a codec with neither a byte rate nor a number of samples", warning: "a.wav does not say how long it is", codec: "aac",
			file: whole(riff("WAVE", format(0xff, 1, 8000, 0, 1, 0), chunk("fact", le(-1)), chunk("data", second)))},
		{name: "many chunks before the sound", duration: time.Second,
			file: whole(riff("WAVE", bytes.Repeat(chunk("cue ", make([]byte, 50000)), 40), pcm8k, chunk("data", second)))},
	})
}

// xing returns a frame of 32 kb/s to put before mp3Frames. Its Xing header claims how many frames
// follow it, and how many bytes they have together with this frame.
func xing(frames, size int) []byte {
	frame := mp3Frame(0x18)
	copy(frame[4+17:], be("Xing", 3, frames, size))
	return frame
}

// withXing returns a frame with a Xing header, and then a hundred frames of 16 kb/s and
// 16 kHz. Each frame has 72 bytes and lasts 36 ms. The fourth byte of each frame is mode. The
// Xing header begins at byte 4+sideInfo.
func withXing(mode byte, sideInfo int) []byte {
	frame := make([]byte, 72)
	copy(frame, []byte{0xff, 0xf3, 0x28, mode})
	header := slices.Clone(frame)
	copy(header[4+sideInfo:], be("Xing", 3, 99, 72*101)) // one frame fewer than there are
	return append(header, bytes.Repeat(frame, 100)...)
}

// lame returns a frame of 64 kb/s with a header that says how many samples the encoder
// added before and after the sound.
func lame(frames, before, after int) []byte {
	frame := mp3Frame(0x58)
	copy(frame[4+17:], be("Info", 15, frames, 288+144*frames, make([]byte, 100), 0, "LAME3.100", make([]byte, 12)))
	copy(frame[4+17+120+21:], []byte{byte(before >> 4), byte(before<<4 | after>>8), byte(after)})
	return frame
}

// id3 returns the header of an ID3v2 tag that claims a body of size bytes.
func id3(size int) []byte {
	return []byte{'I', 'D', '3', 4, 0, 0, byte(size >> 21 & 127), byte(size >> 14 & 127), byte(size >> 7 & 127), byte(size & 127)}
}

func TestMP3(t *testing.T) {
	const frame = 36 * time.Millisecond
	vbri := mp3Frame(0x18)
	copy(vbri[4+32:], be("VBRI", uint16(1), uint16(0), uint16(0), 144*101, 100))
	stereo := mp3Frame(0x18)
	stereo[3] = 0
	copy(stereo[4+32:], be("Xing", 3, 99, 144*101))
	layer1 := make([]byte, 32)
	copy(layer1, []byte{0xff, 0xff, 0x10, 0xc0}) // 32 kb/s, 44.1 kHz: 384 samples in 32 bytes
	changing := slices.Concat(mp3Frames(500), bytes.Repeat(mp3Frame(0x58), 500))
	framesOnly := mp3Frame(0x18)
	copy(framesOnly[4+17:], be("Xing", 1, 20000))
	var changingSlowly [][]byte
	for i := range 100 {
		changingSlowly = append(changingSlowly, mp3Frames(100), bytes.Repeat(mp3Frame(0x58), 40+i))
	}
	ape := slices.Concat(make([]byte, 4000), []byte("APETAGEX"), le(2000, 4032, 1, 0, 0, 0))
	testSound(t, "a.mp3", media.Info{Format: "mp3"}, "mp3", []soundRow{
		{name: "a Xing header", file: whole(xing(100, 144*101), mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header without a size", file: whole(xing(100, 0), mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header in stereo", file: whole(stereo, mp3Frames(100)), duration: 99 * frame},
		{name: "a Xing header of MPEG 2 in stereo", file: whole(withXing(0x00, 17)), duration: 99 * frame},
		{name: "a Xing header of MPEG 2", file: whole(withXing(0xc0, 9)), duration: 99 * frame},
		{name: "a header that says what the encoder added", file: whole(lame(100, 576, 1728), mp3Frames(100)), duration: 98 * frame},
		{name: "a header that says what the encoder added, before a few smaller frames", file: whole(lame(10, 576, 576), mp3Frames(10)), duration: 9 * frame},
		{name: "a header that says what the encoder added, and a picture at the end", duration: 98 * frame,
			file: whole(lame(100, 576, 1728), mp3Frames(100), id3(2<<20), noise(2<<20))},
		{name: "a VBRI header", file: whole(vbri, mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header after a picture of several megabytes", duration: 100 * frame,
			file: far(id3(10<<20), 10<<20+10, xing(100, 144*101), mp3Frames(100))},
		{name: "two tags, one after the other", duration: 100 * frame,
			file: far(id3(1<<20), 1<<20+10, id3(0), xing(100, 144*101), mp3Frames(100))},
		{name: "joined files, only the first with a header", duration: 300 * frame,
			file: whole(xing(100, 144*101), mp3Frames(100), mp3Frames(200))},
		{name: "joined files of different sampling rates", file: whole(mp3Frames(100), withXing(0xc0, 9)[72:]), duration: 200 * frame},
		{name: "a header that claims more frames than fit", duration: 100 * frame,
			file: whole(xing(1<<30, 0), mp3Frames(100))},
		{name: "a header that claims no frames", duration: 100 * frame,
			file: whole(xing(0, 0), mp3Frames(100))},
		{name: "a header that claims more than the file has", duration: 100 * frame, warning: "a.mp3 ends before its sound does",
			file: whole(xing(200, 144*201), mp3Frames(100))},
		{name: "cut shortly before the end", duration: 90 * frame, warning: "a.mp3 ends before its sound does",
			file: whole(xing(100, 144*101), mp3Frames(90))},
		{name: "zeros instead of its second half", duration: 100 * frame, warning: "a.mp3 ends before its sound does",
			file: whole(xing(200, 144*201), mp3Frames(100), make([]byte, 144*100))},
		{name: "an ID3v1 tag that the size in the header includes", file: whole(xing(100, 144*101+128), mp3Frames(100), []byte("TAG"), make([]byte, 125)), duration: 100 * frame},
		{name: "a constant bit rate without a header", file: whole(mp3Frames(100)), duration: 100 * frame},
		{name: "a constant bit rate, an hour long", file: whole(mp3Frames(100000)), duration: 100000 * frame},
		{name: "a constant bit rate, an hour long, with tags at the end", file: whole(mp3Frames(100000), ape, []byte("TAG"), make([]byte, 125)), duration: 100000 * frame},
		{name: "a tag that claims to be longer than the file", file: whole(id3(3<<20), noise(900), mp3Frames(100)), duration: 100 * frame},
		{name: "a picture of several megabytes at the end of a short file", file: whole(mp3Frames(100), id3(3<<20), noise(3<<20)), duration: 100 * frame},
		{name: "a picture of several megabytes at the end of a long file", file: whole(mp3Frames(10000), id3(3<<20), noise(3<<20), []byte("TAG"), make([]byte, 125)), duration: 10000 * frame},
		{name: "zeros at the end", file: whole(mp3Frames(10000), make([]byte, 1<<20)), duration: 10000 * frame},
		{name: "lyrics and a tag at the end", duration: 10000 * frame,
			file: whole(mp3Frames(10000), []byte("LYRICSBEGIN"), make([]byte, 1<<20), []byte(fmt.Sprintf("%06dLYRICS200TAG", 1<<20+11)), make([]byte, 125))},
		{name: "a tag with a footer at the end", file: whole(mp3Frames(10000), id3(1<<20), noise(1<<20), []byte("3DI"), id3(1 << 20)[3:]), duration: 10000 * frame},
		{name: "a picture in the middle of the sound", duration: 7000 * frame, least: 1211 * frame, warning: "the length of a.mp3",
			file: whole(mp3Frames(3000), id3(70), noise(70), mp3Frames(4000))},
		{name: "cut after a quarter of the frames that the header claims", duration: 5000 * frame, warning: "a.mp3 ends before its sound does",
			file: whole(xing(20000, 144*20001), mp3Frames(5000))},
		{name: "an APE tag in front", duration: 100 * frame,
			file: whole([]byte("APETAGEX"), le(2000, 200032, 1, -1, 0, 0), noise(200032), mp3Frames(100))},
		{name: "an APE tag of twelve megabytes at the end of an hour", duration: 100000 * frame,
			file: far(mp3Frames(100000), 14400000+12<<20, []byte("APETAGEX"), le(2000, 12<<20+32, 1, 0, 0, 0))},
		{name: "one frame and an APE tag", file: whole(mp3Frames(1), []byte("APETAGEX"), make([]byte, 500)), duration: frame},
		{name: "a header with the right size and far too many frames", file: whole(xing(9000, 144+len(changing)), changing), duration: 1000 * frame},
		{name: "a changing bit rate, and a header that has only the number of frames", file: whole(framesOnly, bytes.Repeat(changing, 20)), duration: 20000 * frame},
		{name: "a tag whose length uses eight bits a byte", file: whole([]byte("ID3\x03\x00\x00\x00\x01\xff\xf5"), noise(0x1fff5), mp3Frames(100)), duration: 100 * frame},
		{name: "a tag whose length uses eight bits a byte, although each byte is below 128", file: whole([]byte("ID3\x03\x00\x00\x00\x01\x70\x10"), noise(0x17010), mp3Frames(100)), duration: 100 * frame},
		{name: "zeros after a tag", file: whole(id3(3000), make([]byte, 50000), mp3Frames(100)), duration: 100 * frame},
		{name: "60 KB of something first", file: whole(noise(60<<10), mp3Frames(100)), duration: 100 * frame},
		{name: "something first, then a tag", file: whole(noise(999), id3(200000), noise(200000), mp3Frames(100)), duration: 100 * frame},
		{name: "two tags, and no Xing header", file: whole(id3(300), noise(300), id3(90000), noise(90000), mp3Frames(100)), duration: 100 * frame},
		{name: "a changing bit rate without a header", file: whole(changing), duration: 1000 * frame},
		{name: "the end of another frame first", file: whole(make([]byte, 77), []byte{0xff, 0xfb}, mp3Frames(100)), duration: 100 * frame},
		{name: "garbage between frames", file: whole(mp3Frames(50), []byte("\xff\xfe waste"), mp3Frames(50)), duration: 100 * frame},
		{name: "garbage between frames, and a megabyte of zeros at the end", duration: 100 * frame,
			file: whole(mp3Frames(50), []byte("\xff\xfe waste"), mp3Frames(50), make([]byte, 1<<20))},
		{name: "garbage near the end of the first part that is read", duration: 2000 * frame, least: 1324 * frame, warning: "the length of a.mp3",
			file: whole(mp3Frames(302), []byte("\xff\xfe waste"), mp3Frames(1698), make([]byte, 1<<20))},
		{name: "a tag between two recordings, near the end of the first part that is read", duration: 2000 * frame, least: 1324 * frame, warning: "the length of a.mp3",
			file: whole(mp3Frames(302), []byte("ID3 waste"), mp3Frames(1698), make([]byte, 1<<20))},
		{name: "zeros that begin near the end of a part that is read", file: whole(mp3Frames(2000), make([]byte, 3<<20)), duration: 2000 * frame},
		{name: "a changing bit rate, and a megabyte of zeros at the end", duration: 600 * frame, least: 600 * frame, warning: "the length of a.mp3",
			file: whole(mp3Frames(500), bytes.Repeat(mp3Frame(0x58), 100), make([]byte, 1<<20))},
		{name: "a changing bit rate, and too many frames to count", duration: (100*100 + 40*100 + 99*100/2) * frame, least: 13950 * frame, warning: "the length of a.mp3, about ",
			file: whole(changingSlowly...)},
		{name: "layer 1", file: whole(bytes.Repeat(layer1, 441)), duration: 3840 * time.Millisecond, codec: "mp1"},
		{name: "layer 1 with checksums", file: whole(bytes.Repeat(bytes.Replace(layer1, []byte{0xff, 0xff}, []byte{0xff, 0xfe}, 1), 441)), duration: 3840 * time.Millisecond, codec: "mp1"},
		{name: "one frame", file: whole(mp3Frames(1)), duration: frame},
		{name: "one frame and a tag", file: whole(mp3Frames(1), []byte("TAG"), make([]byte, 125)), duration: frame},
	})
}

func TestMP3WithoutSound(t *testing.T) {
	f := whole(xing(0, 0), make([]byte, 3000))
	_, err := media.Inspect(t.Context(), count("a.mp3", f.size, f).Source)
	if _, is := errors.AsType[*problem.Problem](err); !is {
		t.Errorf("a header without frames: got error %v, want a problem", err)
	}
}
