package media_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/media"
)

// page returns a page of an Ogg stream. The page holds the given packets.
func page(flags byte, granule, serial, number int, packets ...[]byte) []byte {
	var lacing, body []byte
	for _, p := range packets {
		lacing = append(lacing, bytes.Repeat([]byte{255}, len(p)/255)...)
		lacing = append(lacing, byte(len(p)%255))
		body = append(body, p...)
	}
	return checked(slices.Concat([]byte{'O', 'g', 'g', 'S', 0, flags}, le(uint64(granule), serial, number, 0), []byte{byte(len(lacing))}, lacing, body))
}

// checked sets the checksum of a page.
func checked(page []byte) []byte {
	var crc uint32
	for _, b := range page {
		for bit := 7; bit >= 0; bit-- {
			carry := crc>>31 ^ uint32(b>>bit&1)
			crc = crc<<1 ^ carry*0x04c11db7
		}
	}
	binary.LittleEndian.PutUint32(page[22:], crc)
	return page
}

// opus returns an Ogg file of one Opus stream. Each page of sound lasts a second. firstEnd and
// lastEnd say at which second the first and the last of these pages end. The encoder's delay is 312
// samples.
func opus(serial, firstEnd, lastEnd int) []byte {
	out := slices.Concat(
		page(2, 0, serial, 0, slices.Concat([]byte("OpusHead\x01\x01"), le(uint16(312), 48000, uint16(0)), []byte{0})),
		page(0, 0, serial, 1, append([]byte("OpusTags"), make([]byte, 300)...)))
	for i := firstEnd; i <= lastEnd; i++ {
		out = append(out, opusPage(48000*i, serial, 2+i-firstEnd)...)
	}
	return out
}

// opusPage returns a page with fifty packets of 20 ms.
func opusPage(granule, serial, number int) []byte {
	packet := append([]byte{0xf8}, make([]byte, 40)...)
	return page(0, granule, serial, number, slices.Repeat([][]byte{packet}, 50)...)
}

func TestOgg(t *testing.T) {
	other := page(2, 0, 77, 0, []byte("fishead\x00"), make([]byte, 60))
	theora := page(2, 0, 78, 0, append([]byte("\x80theora"), make([]byte, 40)...))
	vorbis := func(rate int) []byte {
		return page(2, 0, 5, 0, slices.Concat([]byte("\x01vorbis"), le(0), []byte{1}, le(rate, 0, 64000, 0), []byte{0xb8, 1}))
	}
	flac := page(2, 0, 5, 0, slices.Concat([]byte("\x7fFLAC\x01\x00\x00\x01fLaC\x00\x00\x00\x22"), streamInfo(16000, 0)))
	speex := page(2, 0, 5, 0, append([]byte("Speex   "), le(make([]byte, 28), 16000, make([]byte, 16), 320, 0, 1, make([]byte, 12))...))
	sound := func(granule, number int) []byte { // a page with two hundred packets
		return page(0, granule, 5, number, slices.Repeat([][]byte{make([]byte, 9)}, 200)...)
	}
	picture := slices.Concat(page(2, 0, 1, 0, slices.Concat([]byte("OpusHead\x01\x01"), le(uint16(312), 48000, uint16(0)), []byte{0})),
		bytes.Repeat(page(0, -1, 1, 1, make([]byte, 60000)), 40), opusPage(48000, 1, 41), opusPage(96000, 1, 42))
	fiveSeconds := opus(1, 1, 5)
	late := opus(1, 101, 104)

	positions := func(granules ...int) []byte { // a one-second page for each position
		out := opus(1, 1, 0)
		for i, granule := range granules {
			out = append(out, opusPage(granule, 1, 2+i)...)
		}
		return out
	}
	long := append([]byte{0xf8}, make([]byte, 511)...)
	acrossPages := slices.Concat( // half a second of packets, and one packet that begins on the first page and ends on the second
		checked(slices.Concat([]byte("OggS\x00\x00"), le(uint64(48000*2+24000), 1, 4, 0), []byte{27}, bytes.Repeat([]byte{1}, 25), []byte{255, 255}, bytes.Repeat([]byte{0xf8}, 25), long[:510])),
		page(5, 48000*2+24960, 1, 5, long[510:]))
	const delay = 6500 * time.Microsecond
	testSound(t, "a.opus", media.Info{Format: "opus"}, "opus", []soundRow{
		{name: "a voice message", file: whole(opus(1, 1, 6)), duration: 6*time.Second - delay},
		{name: "a long voice message", file: whole(opus(1, 1, 4000)), duration: 4000*time.Second - delay},
		{name: "a last page whose position excludes the padding", file: whole(opus(1, 1, 5), opusPage(5*48000+24312, 1, 7)), duration: 5500 * time.Millisecond},
		{name: "one page", file: whole(opus(1, 1, 1)), duration: time.Second - delay},
		{name: "cut out of a longer recording", file: whole(late), duration: 4*time.Second - delay},
		{name: "cut in a page", file: whole(fiveSeconds[:len(fiveSeconds)-99]), duration: 4*time.Second - delay, warning: "a.opus ends before its sound does"},
		{name: "zeros instead of the end of its last page", file: whole(fiveSeconds[:len(fiveSeconds)-99], make([]byte, 99)), duration: 4*time.Second - delay, warning: "a.opus ends before its sound does"},
		{name: "more zeros at the end than Inspect reads", file: whole(opus(1, 1, 9), make([]byte, 600000)), warning: "a.opus holds several recordings or does not end with its sound"},
		{name: "a tag in front", file: whole(id3(5000), make([]byte, 5000), fiveSeconds), duration: 5*time.Second - delay},
		{name: "something in front", file: whole(noise(5000), fiveSeconds), duration: 5*time.Second - delay},
		{name: "a tag and zeros behind", file: whole(fiveSeconds, []byte("TAG"), make([]byte, 9000)), duration: 5*time.Second - delay},
		{name: "zeros instead of its second half", file: whole(fiveSeconds, make([]byte, 20000)), duration: 5*time.Second - delay, warning: "a.opus ends before its sound does"},
		{name: "zeros behind a page that is marked as the last one", file: whole(fiveSeconds, page(4, 5*48000, 1, 7), make([]byte, 20000)), duration: 5*time.Second - delay},
		{name: "two recordings, joined", file: whole(fiveSeconds, opus(2, 1, 3)), duration: 8*time.Second - 2*delay},
		{name: "two recordings of one serial number, joined", file: whole(opus(1, 1, 50), opus(1, 1, 30)), duration: 80*time.Second - 2*delay},
		{name: "two long recordings, joined", file: whole(opus(1, 1, 900), opus(2, 1, 900)), warning: "a.opus holds several recordings"},
		{name: "two long recordings of one serial number, joined", file: whole(opus(1, 1, 900), opus(1, 1, 900)), warning: "a.opus holds several recordings"},
		{name: "a page across the end of the first 32 KiB", file: whole(opus(1, 1, 16)), duration: 16*time.Second - delay},
		{name: "positions that are all 0", file: whole(positions(0, 0, 0, 0, 0)), duration: 5*time.Second - delay},
		{name: "a last position that is far too late", file: whole(positions(48000, 96000, 144000, 192000, 48000*5000)), duration: 5*time.Second - delay, least: 5*time.Second - delay,
			warning: "the length of a.opus, about 5.0 s, is an estimate: the positions in its pages are wrong"},
		{name: "positions that start again in the middle", file: whole(positions(48000, 96000, 48000, 96000, 144000)), duration: 5*time.Second - delay, least: 3*time.Second - delay,
			warning: "the length of a.opus, about 5.0 s, is an estimate"},
		{name: "a last page without a position", file: whole(fiveSeconds, page(4, -1, 1, 7)), duration: 5*time.Second - delay},
		{name: "a packet across two pages", file: whole(opus(1, 1, 2), acrossPages), duration: 2520*time.Millisecond - delay},
		{name: "a picture of 2.4 MB", file: whole(picture), duration: 2*time.Second - delay},
		{name: "pages larger than the first ones", duration: 600*time.Second - delay, file: whole(fiveSeconds, func() (all []byte) {
			for i := range 595 {
				all = append(all, page(0, 48000*(6+i), 1, 7+i, make([]byte, 3000))...)
			}
			return all
		}())},
	})
	testSound(t, "a.ogg", media.Info{Format: "ogg"}, "vorbis", []soundRow{
		{name: "Vorbis", file: whole(vorbis(16000), sound(56000, 1)), duration: 3500 * time.Millisecond},
		{name: "Vorbis that was cut out of a longer recording", file: whole(vorbis(16000), sound(16000000, 1), sound(16056000, 2)), duration: 16300 * time.Millisecond, least: 3500 * time.Millisecond,
			warning: "the length of a.ogg, about 16.3 s, is an estimate: the positions in its pages are wrong or do not begin at 0"},
		{name: "FLAC", file: whole(flac, sound(56000, 1)), duration: 3500 * time.Millisecond, codec: "flac"},
		{name: "Speex", file: whole(speex, sound(56000, 1)), duration: 3500 * time.Millisecond, codec: "speex"},
		{name: "Vorbis and another stream", duration: 3500 * time.Millisecond,
			file: whole(other, vorbis(16000), page(0, 0, 77, 1, make([]byte, 9)), sound(56000, 1), page(4, 99, 77, 2))},
	})
	f := whole(theora, vorbis(16000), page(0, 9, 78, 1, make([]byte, 9)), sound(56000, 1), page(4, 99, 78, 2))
	got, err := media.Inspect(t.Context(), count("a.ogg", f.size, f).Source)
	if err != nil || got.Video == nil || got.Video.Codec != "theora" || got.Length() != media.Fact(3500*time.Millisecond) {
		t.Errorf("a film: got %+v, error %v; want a video track of theora, and sound of exactly 3.5 s", got, err)
	}
}

// streamInfo returns a STREAMINFO block of FLAC: one channel, samples of 16 bits, and frames of 4,096 samples.
func streamInfo(rate, samples int) []byte {
	return be(uint16(4096), uint16(4096), make([]byte, 6), uint64(rate)<<44|15<<36|uint64(samples), make([]byte, 16))
}

// flac returns a FLAC file of frames of 4,096 samples. total is the number of samples that STREAMINFO
// says, and firstFrame is the number of the first frame. A frame with a number below 128 has 2,008 bytes.
// Other frames have more.
func flac(total, firstFrame, frames int) []byte {
	out := slices.Concat([]byte("fLaC\x80\x00\x00\x22"), streamInfo(16000, total))
	for i := firstFrame; i < firstFrame+frames; i++ {
		head := utf8.AppendRune([]byte{0xff, 0xf8, 0xc0, 0x08}, rune(i))
		frame := slices.Concat(head, []byte{crc8(head)}, noise(2000))
		out = append(append(out, frame...), be(crc16(frame))...)
	}
	return out
}

func crc16(data []byte) (crc uint16) {
	for _, b := range data {
		for bit := 7; bit >= 0; bit-- {
			carry := crc>>15 ^ uint16(b>>bit&1)
			crc = crc<<1 ^ carry*0x8005
		}
	}
	return crc
}

func crc8(data []byte) (crc byte) {
	for _, b := range data {
		for bit := 7; bit >= 0; bit-- {
			carry := crc>>7 ^ b>>bit&1
			crc = crc<<1 ^ carry*7
		}
	}
	return crc
}

func TestFLAC(t *testing.T) {
	const frame = 4096 * time.Second / 16000
	good := flac(100*4096, 0, 100)
	picture := slices.Concat(good[:4], []byte{0}, good[5:42], be(0x86000000+(2<<20)), make([]byte, 2<<20), good[42:])
	testSound(t, "a.flac", media.Info{Format: "flac"}, "flac", []soundRow{
		{name: "whole", file: whole(good), duration: 100 * frame},
		{name: "frame numbers of several bytes", file: whole(flac(3000*4096, 0, 3000)), duration: 3000 * frame},
		{name: "a picture in front", file: whole(picture), duration: 100 * frame},
		{name: "a tag in front", file: whole(id3(99), make([]byte, 99), good), duration: 100 * frame},
		{name: "a tag behind", file: whole(good, []byte("TAG"), make([]byte, 125)), duration: 100 * frame},
		{name: "an unknown number of samples", file: whole(flac(0, 0, 100)), duration: 100 * frame},
		{name: "a placeholder for the number of samples, from an encoder that read a pipe", file: whole(flac(1<<30, 0, 100)), duration: 100 * frame},
		{name: "the beginning of a recording of five hours", file: whole(flac(300_000_000, 0, 100)), duration: 100 * frame, warning: "a.flac ends before its sound does"},
		{name: "cut out of a longer recording", file: whole(flac(0, 50, 10)), duration: 10 * frame},
		{name: "cut short", file: whole(good[:len(good)-30*2008-999]), duration: 69 * frame, warning: "a.flac ends before its sound does"},
		{name: "cut between two frames", file: whole(good[:len(good)-30*2008]), duration: 70 * frame, warning: "a.flac ends before its sound does"},
		{name: "without its last byte", file: whole(good[:len(good)-1]), duration: 99 * frame, warning: "a.flac ends before its sound does"},
		{name: "an unknown number of samples, without its last byte", duration: 99 * frame, warning: "a.flac ends before its sound does",
			file: whole(flac(0, 0, 100)[:42+100*2008-1])},
		{name: "a frame of another recording at the end", file: whole(good, flac(0, 127, 1)[42:]), duration: 100 * frame},
		{name: "megabytes of zeros behind", file: whole(good, make([]byte, 2<<20)), duration: 100 * frame},
		{name: "zeros instead of its second half", file: whole(good[:len(good)-50*2008], make([]byte, 50*2008)), duration: 50 * frame, warning: "a.flac ends before its sound does"},
		{name: "megabytes of noise behind", file: whole(good, noise(2<<20)), duration: 100 * frame, least: 33 * frame, warning: "the end of the sound of a.flac was not found"},
		{name: "an unknown number of samples, and megabytes of noise behind", file: whole(flac(0, 0, 100), noise(2<<20)), least: 33 * frame, warning: "the end of the sound of a.flac was not found"},
	})
}

// adts returns frames of 1,024 samples at 16 kHz. Their sizes vary.
func adts(frames int) []byte {
	var out []byte
	for i := range frames {
		size := 90 + i*37%60
		head := []byte{0xff, 0xf1, 0x60, 0x40, byte(size >> 3), byte(size<<5) | 0x1f, 0xfc}
		out = append(append(out, head...), make([]byte, size-len(head))...)
	}
	return out
}

func TestAAC(t *testing.T) {
	const frame = 64 * time.Millisecond
	testSound(t, "a.aac", media.Info{Format: "aac"}, "aac", []soundRow{
		{name: "whole", file: whole(adts(100)), duration: 100 * frame},
		{name: "a tag in front", file: whole(id3(5000), make([]byte, 5000), adts(100)), duration: 100 * frame},
		{name: "two blocks a frame", file: whole(bytes.ReplaceAll(adts(100), []byte{0xfc}, []byte{0xfd})), duration: 200 * frame},
		{name: "a tag before each of two segments", file: whole(id3(50), make([]byte, 50), adts(100), id3(50), make([]byte, 50), adts(60)), duration: 160 * frame},
		{name: "64 kHz", file: whole(bytes.ReplaceAll(adts(314), []byte{0x60, 0x40}, []byte{0x48, 0x40})), duration: 314 * 16 * time.Millisecond},
		{name: "a part of a frame first", file: whole(adts(101)[50:]), duration: 100 * frame},
		{name: "cut in a frame", file: whole(adts(100)[:len(adts(100))-50]), duration: 99 * frame},
		{name: "mono, then stereo", file: whole(adts(50), bytes.ReplaceAll(adts(50), []byte{0x60, 0x40}, []byte{0x60, 0x80})), duration: 100 * frame},
		{name: "a picture of several megabytes behind", file: whole(adts(100), id3(3<<20), noise(3<<20)), duration: 100 * frame},
		{name: "zeros instead of its second half", file: whole(adts(100), make([]byte, 20000)), duration: 100 * frame, warning: "a.aac ends before its sound does"},
		{name: "an hour", file: whole(adts(56250)), duration: time.Hour, least: 48*time.Minute + 7235436224*time.Nanosecond, warning: "the length of a.aac, about 1 h "},
	})
}
