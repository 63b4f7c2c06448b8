package media_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// soundRow is a file of sound and what Inspect must find in it.
type soundRow struct {
	name     string
	file     file
	duration time.Duration
	warning  string // the beginning of the only warning
}

func testSound(t *testing.T, name string, want media.Info, rows []soundRow) {
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
			want.Audio = &media.Track{Codec: got.Audio.Codec, Length: media.Length{D: row.duration, Exact: row.duration > 0}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
			warning := strings.Join(got.Warnings, "\n")
			if (warning == "") != (row.warning == "") || !strings.HasPrefix(warning, row.warning) {
				t.Errorf("got warnings %q, want one that begins with %q", got.Warnings, row.warning)
			}
		})
	}
}

func TestWAV(t *testing.T) {
	second := make([]byte, 16000)
	tag := func(tag, channels, align int, rate, byteRate int) []byte {
		return chunk("fmt ", le(uint16(tag), uint16(channels), rate, byteRate, uint16(align), uint16(0)))
	}
	claims := func(size int, body []byte) []byte { return slices.Concat(le("data", size), body) }
	testSound(t, "a.wav", media.Info{Format: "wav", Type: "audio/wav"}, []soundRow{
		{name: "odd chunks and their padding", duration: time.Second,
			file: whole(riff("WAVE", chunk("bext", make([]byte, 605)), pcm8k, chunk("LIST", make([]byte, 33)), chunk("data", second)))},
		{name: "a picture of several megabytes before the sound", duration: time.Second,
			file: far(riff("WAVE", pcm8k, le("id3 ", 5<<20)), 5<<20+12+24+8, chunk("data", second))},
		{name: "chunks after the sound", duration: time.Second,
			file: whole(riff("WAVE", pcm8k, chunk("data", second), chunk("LIST", make([]byte, 5000))))},
		{name: "lengths that a program left open because it wrote to a pipe", duration: time.Second,
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
		{name: "a codec with the number of samples", duration: 3 * time.Second,
			file: whole(riff("WAVE", tag(0x55, 1, 1, 8000, 1000), chunk("fact", le(24000)), chunk("data", second)))},
		{name: "a codec with only a byte rate", duration: 16 * time.Second,
			file: whole(riff("WAVE", tag(0x55, 1, 1, 8000, 1000), chunk("data", second)))},
		{name: "a codec with neither", warning: "a.wav does not say how long it is",
			file: whole(riff("WAVE", tag(0x55, 1, 1, 8000, 0), chunk("fact", le(-1)), chunk("data", second)))},
	})
}

// xing returns a frame of 32 kb/s with a Xing header, to precede mp3Frames.
func xing(frames, size int) []byte {
	frame := mp3Frame(0x18)
	copy(frame[4+17:], be("Xing", 3, frames, size))
	return frame
}

// withXing returns a frame with a Xing header that claims a number of frames, and a
// hundred frames of 8 kb/s and 16 kHz after it. Each frame has 36 bytes and lasts 36 ms.
func withXing(channels byte, at, frames int) []byte {
	frame := make([]byte, 36)
	copy(frame, []byte{0xff, 0xf3, 0x18, channels})
	header := slices.Clone(frame)
	copy(header[4+at:], be("Xing", 1, frames))
	return append(header, bytes.Repeat(frame, 100)...)
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
	copy(stereo[4+32:], be("Xing", 1, 200))
	layer1 := make([]byte, 32)
	copy(layer1, []byte{0xff, 0xff, 0x10, 0xc0}) // 32 kb/s, 44.1 kHz: 384 samples in 32 bytes
	changing := slices.Concat(mp3Frames(500), bytes.Repeat(mp3Frame(0x58), 500))
	ape := slices.Concat(make([]byte, 4000), []byte("APETAGEX"), le(2000, 4032, 1, 0, 0, 0))
	testSound(t, "a.mp3", media.Info{Format: "mp3", Type: "audio/mpeg"}, []soundRow{
		{name: "a Xing header", file: whole(xing(100, 144*101), mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header without a size", file: whole(xing(100, 0), mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header in stereo", file: whole(stereo, mp3Frames(100)), duration: 200 * frame},
		{name: "a Xing header of MPEG 2 in stereo", file: whole(withXing(0x00, 17, 200)), duration: 200 * frame},
		{name: "a Xing header of MPEG 2", file: whole(withXing(0xc0, 9, 200)), duration: 200 * frame},
		{name: "a VBRI header", file: whole(vbri, mp3Frames(100)), duration: 100 * frame},
		{name: "a Xing header after a picture of several megabytes", duration: 100 * frame,
			file: far(id3(10<<20), 10<<20+10, xing(100, 144*101), mp3Frames(100))},
		{name: "two tags, one after the other", duration: 100 * frame,
			file: far(id3(1<<20), 1<<20+10, id3(0), xing(100, 144*101), mp3Frames(100))},
		{name: "joined files with the header of the first", duration: 300 * frame,
			file: whole(xing(100, 144*101), mp3Frames(100), mp3Frames(200))},
		{name: "a header that claims more frames than fit", duration: 100 * frame,
			file: whole(xing(1<<30, 0), mp3Frames(100))},
		{name: "a header that claims no frames", duration: 100 * frame,
			file: whole(xing(0, 0), mp3Frames(100))},
		{name: "a header that claims more than the file has", duration: 200 * frame, warning: "a.mp3 ends before its sound does",
			file: whole(xing(200, 144*201), mp3Frames(100))},
		{name: "a constant bit rate without a header", file: whole(mp3Frames(100)), duration: 100 * frame},
		{name: "a constant bit rate, an hour long", file: whole(mp3Frames(100000)), duration: 100000 * frame},
		{name: "a constant bit rate, an hour long, with tags at the end", file: whole(mp3Frames(100000), ape, []byte("TAG"), make([]byte, 125)), duration: 100000 * frame},
		{name: "a changing bit rate without a header, counted", file: whole(changing), duration: 1000 * frame},
		{name: "the end of another frame first", file: whole(make([]byte, 77), []byte{0xff, 0xfb}, mp3Frames(100)), duration: 100 * frame},
		{name: "garbage between frames", file: whole(mp3Frames(50), []byte("\xff\xfe waste"), mp3Frames(50)), duration: 100 * frame},
		{name: "layer 1", file: whole(bytes.Repeat(layer1, 441)), duration: 3840 * time.Millisecond},
		{name: "one frame", file: whole(mp3Frames(1)), duration: frame},
		{name: "one frame and a tag", file: whole(mp3Frames(1), []byte("TAG"), make([]byte, 125)), duration: frame},
	})
}

// TestMP3Estimate inspects a file whose bit rate changes and that is too long to count.
func TestMP3Estimate(t *testing.T) {
	var parts [][]byte
	for i := range 100 {
		parts = append(parts, mp3Frames(100), bytes.Repeat(mp3Frame(0x58), 40+i))
	}
	f := whole(parts...)
	src := count("a.mp3", f.size, f)
	got, err := media.Inspect(t.Context(), src.Source)
	src.checkBudget(t)
	if err != nil {
		t.Fatal(err)
	}
	frames := 100*100 + 40*100 + 99*100/2
	want := time.Duration(frames) * 36 * time.Millisecond
	if off := (got.Audio.Length.D - want).Abs(); got.Audio.Length.Exact || off > want/20 {
		t.Errorf("got %+v, want an estimate of %v within a twentieth", got.Audio.Length, want)
	}
	if len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], "the duration of a.mp3 is an estimate") {
		t.Errorf("got warnings %q", got.Warnings)
	}
}

func TestMP3WithoutSound(t *testing.T) {
	f := whole(xing(0, 0), make([]byte, 3000))
	_, err := media.Inspect(t.Context(), count("a.mp3", f.size, f).Source)
	if _, is := errors.AsType[*problem.Problem](err); !is {
		t.Errorf("a header without frames: got error %v, want a problem", err)
	}
}
