package media_test

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// repeated is a file that begins with head and then repeats unit without end.
type repeated struct{ head, unit []byte }

func (r repeated) ReadAt(data []byte, off int64) (int, error) {
	for i := range data {
		if at := off + int64(i); at < int64(len(r.head)) {
			data[i] = r.head[at]
		} else {
			data[i] = r.unit[(at-int64(len(r.head)))%int64(len(r.unit))]
		}
	}
	return len(data), nil
}

// TestHostileFiles inspects files that claim lengths they do not have, or that could make a
// reader loop. For each file, Inspect must read no more than its limits (see media.MaxBytes) and
// must not allocate what the file claims. It must return a problem, a warning or an inexact
// length. An image has no length, so it needs a problem or a warning.
func TestHostileFiles(t *testing.T) {
	const terabyte = 1 << 40
	// All frames of this file have one bit rate, so Inspect may return an exact length.
	const constantRate = "the smallest frames"
	huge := func(kind string, fields []byte) []byte { return be(-1, kind, fields) } // a box of 4 GB
	moov := func(inside []byte) []byte {
		return slices.Concat(typeBox, longAtom("moov", terabyte/2), inside)
	}
	fragmented := func(inside []byte) []byte {
		return slices.Concat(fragmentedMovie(), fragment(0, 10, 0), longAtom("moof", terabyte/2), inside)
	}
	zeros := make([]byte, 8)
	for _, row := range []struct {
		name       string
		file       string
		head, unit []byte
	}{
		{"boxes without end", "a.mp4", typeBox, atom("free")},
		{"tracks without end", "a.mp4", moov(nil), trackBox(1, "vide", 1000)},
		{"empty tracks without end", "a.mp4", moov(nil), atom("trak")},
		{"track defaults without end", "a.mp4", moov(longAtom("mvex", terabyte/4)), atom("trex", be(0, 1, 1, 0, 0, 0))},
		{"edits without end", "a.mp4", moov(slices.Concat(huge("trak", nil), huge("edts", nil), huge("elst", be(0, -1)))), be(0, 0, 0)},
		{"fragments without end", "a.mp4", fragmentedMovie(), fragment(0, 10, 0)},
		{"tracks of a fragment without end", "a.mp4", fragmented(nil), atom("traf", atom("tfhd", be(0x8, 1, 100)))},
		{"samples without end", "a.mp4", fragmented(slices.Concat(huge("traf", nil), atom("tfhd", be(0, 1)), huge("trun", be(0x100, 1<<29)))), be(1)},
		{"samples of no bytes", "a.mp4", fragmented(slices.Concat(huge("traf", nil), atom("tfhd", be(0x8, 1, -1)))), atom("trun", be(0, -1))},
		{"the word moof without end", "a.mp4", slices.Concat(fragmentedMovie(), fragment(0, 10, 0), longAtom("mdat", terabyte/2)), []byte("moof")},
		{"fragments inside each other", "a.mp4", slices.Concat(fragmentedMovie(), fragment(0, 10, 0)), be(99, "moof")},
		{"segment indexes without end", "a.mp4", fragmentedMovie(), atom("sidx", be(0, 1, 1000, 0, 0, 1, 1, 1, 0))},
		{"elements without end", "a.mkv", mkvHead(0), ebml(0xEC)},
		{"track entries without end", "a.mkv", slices.Concat(ebml(0x1A45DFA3), openEBML(0x18538067), openEBML(0x1654AE6B)), mkvTrack(1, 1, "V_VP8")},
		{"clusters without end", "a.mkv", mkvHead(0, mkvTrack(1, 1, "V_VP8")), cluster(0, blocks(1, 1, 0))},
		{"empty blocks without end", "a.mkv", slices.Concat(mkvHead(0, mkvTrack(1, 1, "V_VP8")), openEBML(0x1F43B675), ebml(0xE7, be(1))), []byte{0xA3, 0x80}},
		{"IDs of clusters without end", "a.mkv", slices.Concat(mkvHead(0, mkvTrack(1, 1, "V_VP8")), cluster(0, blocks(1, 1, 0))), be(0x1F43B675)},
		{"lists without end", "a.avi", le("RIFF", -1, "AVI "), le("LIST", -1, "hdrl")},
		{"streams without end", "a.avi", le("RIFF", -1, "AVI ", "LIST", -1, "hdrl"), chunk("strh", make([]byte, 56))},
		{"chunks without end", "a.wav", riff("WAVE"), chunk("LIST", nil)},
		{"a format chunk of 4 GB", "a.wav", slices.Concat(riff("WAVE"), le("fmt ", -1)), []byte{1}},
		{"tags without end", "a.mp3", id3(0), id3(0)},
		{"synchronization without end", "a.mp3", nil, []byte{0xff}},
		{"synchronization after a tag", "a.mp3", id3(0), []byte{0xff, 0xfb}},
		{"free format", "a.mp3", nil, []byte{0xff, 0xfb, 0x08, 0xc0}},
		{"pages without end", "a.ogg", opus(1, 1, 1), opusPage(48000, 1, 9)},
		{"beginnings without end", "a.ogg", nil, opus(1, 1, 0)},
		{"signatures of pages without end", "a.ogg", opus(1, 1, 1), []byte("OggS\x00\x00")},
		{"metadata without end", "a.flac", slices.Concat([]byte("fLaC\x00\x00\x00\x22"), streamInfo(16000, 9)), be(0x04000000)},
		{"frames without end", "a.flac", flac(0, 0, 1), flac(0, 1, 1)[42:]},
		{"headers of frames without end", "a.flac", flac(0, 0, 1), []byte{0xff, 0xf8, 0xc0, 8, 1, crc8([]byte{0xff, 0xf8, 0xc0, 8, 1})}},
		{"the smallest frames of AAC", "a.aac", nil, []byte{0xff, 0xf1, 0x60, 0x40, 0, 0xff, 0xfc}},
		{"tags and frames of AAC without end", "a.aac", nil, slices.Concat(id3(9), make([]byte, 9), adts(1))},
		{constantRate, "a.mp3", nil, slices.Concat([]byte{0xff, 0xe3, 0x18, 0xc0}, make([]byte, 68))},
		{"fill bytes without end", "a.jpg", []byte("\xff\xd8"), []byte{0xff}},
		{"segments without end", "a.jpg", []byte("\xff\xd8"), segment(0xe1, []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff"))},
		{"a WEBP of 4 GB", "a.webp", le("RIFF", -9, "WEBPVP8X", 1<<31-1), zeros},
		{"a PNG of nothing", "a.png", []byte("\x89PNG\r\n\x1a\n"), zeros},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := count(row.file, terabyte, repeated{row.head, row.unit})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			info, err := media.Inspect(t.Context(), src.Source)
			runtime.ReadMemStats(&after)

			src.checkBudget(t)
			const most = 32 * media.MaxBytes // a growing window is copied, and each box allocates its name
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most {
				t.Errorf("allocated %d bytes, want at most %d", allocated, most)
			}
			var problem *problem.Problem
			needsWarning := info.Length().Exact || info.Kind == media.Image
			if !errors.As(err, &problem) && (err != nil || needsWarning && len(info.Warnings) == 0 && row.name != constantRate) {
				t.Errorf("got %+v, %v, want a problem, a warning or, if the file is not an image, an inexact length", info, err)
			}
		})
	}
}

// BenchmarkGroupsInEachOther inspects a file of many groups, each of which seems to hold all
// groups after it. Inspect reads a limited number of elements, which takes about 10 ms.
// Without the limit, Inspect would take seconds.
func BenchmarkGroupsInEachOther(b *testing.B) {
	groups := bytes.Repeat([]byte{0x20, 0xA0, 0x04, 0x80}, 16<<10)
	f := whole(mkvHead(5000, mkvTrack(1, 1, "V_VP8")), cluster(0, ebml(0xEC, make([]byte, 200<<10)), ebml(0xEC, make([]byte, 200<<10)), groups))
	for b.Loop() {
		if _, err := media.Inspect(b.Context(), count("a.mkv", f.size, f).Source); err != nil {
			b.Fatal(err)
		}
	}
}

// checkSane reports results that Inspect must not return for any file.
func checkSane(t *testing.T, src *counted, info media.Info, err error) {
	t.Helper()
	src.checkBudget(t)
	var problem *problem.Problem
	if err != nil && !errors.As(err, &problem) {
		t.Errorf("got error %v, want a problem", err)
	}
	if problem != nil && (problem.Code == "" || problem.Reason == "" || problem.Remedy == "") {
		t.Errorf("got problem %+v, want a code, a reason and a remedy", problem)
	}
	for _, track := range []*media.Track{info.Video, info.Audio} {
		if track != nil && (track.Length.D < 0 || track.Length.AtLeast() < 0 || track.Length.D > 0 && track.Length.AtLeast() > track.Length.D || track.Frame < 0) {
			t.Errorf("got %+v, want no negative time, and AtLeast no longer than a known length", track)
		}
	}
	if info.Width < 0 || info.Height < 0 {
		t.Errorf("got a picture of %d×%d pixels, want no negative size", info.Width, info.Height)
	}
}

// fuzz inspects a file as it is, and with a gap in its middle. The gap makes Inspect
// search for data that is far away.
func fuzz(f *testing.F, name string, built [][]byte, samples ...string) {
	for _, s := range samples {
		built = append(built, sample(f, s))
	}
	for _, data := range built {
		f.Add(data, uint32(0))
		f.Add(data, uint32(1<<20))
	}
	f.Fuzz(func(t *testing.T, data []byte, gap uint32) {
		head, tail := data[:len(data)/2], data[len(data)/2:]
		at := int64(len(head)) + int64(gap)
		src := count(name, at+int64(len(tail)), pieces{0: head, at: tail})
		info, err := media.Inspect(t.Context(), src.Source)
		checkSane(t, src, info, err)
		media.Sniff(data)
	})
}

func FuzzMP4(f *testing.F) {
	fuzz(f, "a.mp4", [][]byte{
		slices.Concat(typeBox, movieBox(0, trackBox(1, "vide", 900, editList([2]int{400, -1}, [2]int{0, 200})))),
		slices.Concat(fragmentedMovie(atom("mehd", be(0, 900))), fragment(0, 9, 9), fragment(900, 9, 9)),
		slices.Concat(fragmentedMovie(), atom("sidx", be(0, 1, 1000, 0, 0, 1, 99, 900, 0)), fragment(0, 9, 9)),
		slices.Concat(fragmentedMovie(), fragment(0, 9, 9), fragment(900, 9, 9), accessIndex(900, uint64(len(fragmentedMovie())+len(fragment(0, 9, 9))))),
	}, "moov-first.mp4", "moov-last.mp4", "fragmented.mp4", "fragmented-no-index.mp4", "fragmented-sidx.mp4",
		"fragmented-dash.mp4", "fragmented-every-frame.mp4", "fragmented.m4a", "cut-by-edit-list.mp4", "late-sound.mp4", "pcm.mov")
}

func FuzzMatroska(f *testing.F) {
	tracks := slices.Concat(mkvTrack(1, 1, "V_VP8", ebml(0x23E383, be(40000000))), mkvTrack(2, 2, "A_OPUS"))
	fuzz(f, "a.mkv", [][]byte{
		slices.Concat(mkvHead(900, tracks), cluster(0, blocks(1, 9, 0, 40)), cluster(900, blocks(2, 9, 0, 40))),
		slices.Concat(mkvHead(0, tracks), openEBML(0x1F43B675), ebml(0xE7, be(9)), blocks(1, 9, 0, 40), blocks(2, 9, 50)),
	}, "small.mkv", "small.webm")
}

func FuzzAVI(f *testing.F) { fuzz(f, "a.avi", nil, "small.avi") }

func FuzzWAV(f *testing.F) {
	fuzz(f, "a.wav", [][]byte{
		riff("WAVE", chunk("LIST", make([]byte, 9)), pcm8k, chunk("data", make([]byte, 99))),
		riff("WAVE", pcm8k, chunk("fact", le(9)), le("data", -1)),
		slices.Concat(le("RF64", -1, "WAVE"), chunk("ds64", le(uint64(99), uint64(99), uint64(0), 0)), pcm8k, le("data", -1)),
	}, "pcm.wav", "rf64.wav", "extensible.wav", "streamed.wav", "tagged.wav", "adpcm-ms.wav")
}

func FuzzMP3(f *testing.F) {
	fuzz(f, "a.mp3", [][]byte{
		slices.Concat(id3(20), make([]byte, 20), xing(3, 144*4), mp3Frames(3)),
		slices.Concat(mp3Frames(3), []byte("APETAGEX"), le(2000, 32, 1, 0, 0, 0), []byte("TAG"), make([]byte, 125)),
	}, "cbr.mp3", "vbr.mp3", "cbr-no-header.mp3", "mpeg25.mp3", "layer2.mp3", "tagged.mp3")
}

func FuzzOgg(f *testing.F) {
	fuzz(f, "a.ogg", [][]byte{
		slices.Concat(opus(1, 1, 2), opus(2, 5, 6)), slices.Concat(id3(9), make([]byte, 9), opus(1, 1, 2)),
	}, "small.ogg", "small.opus")
}

func FuzzFLAC(f *testing.F) {
	fuzz(f, "a.flac", [][]byte{flac(0, 0, 3), flac(9000, 0, 1), append(id3(9), flac(9, 2, 2)...)}, "small.flac")
}

func FuzzAAC(f *testing.F) {
	fuzz(f, "a.aac", [][]byte{adts(9), slices.Concat(id3(9), adts(9), id3(900), adts(9))}, "small.aac")
}

func FuzzImage(f *testing.F) {
	fuzz(f, "image", [][]byte{
		jpegFile(segment(0xe1, []byte("Exif\x00\x00MM"), be(uint16(42), 8, uint16(1), 0x01120003, 1, 6<<16)), []byte("stray"), jpegFrame(0xc2), jpegScan(99)),
		slices.Concat(pngHeader(640, 480), pngChunk("IDAT", make([]byte, 99)), pngChunk("IEND", nil)),
	}, "picture.jpg", "picture.png", "lossy.webp", "lossless.webp", "alpha.webp", "moving.webp")
}
