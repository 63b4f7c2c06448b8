package media_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/media"
)

// file is the content of a test file. The file may be longer than what is kept in memory.
type file struct {
	io.ReaderAt
	size int64
}

func whole(parts ...[]byte) file {
	all := slices.Concat(parts...)
	return file{bytes.NewReader(all), int64(len(all))}
}

// far returns a file that begins with head. The tail begins at the given offset, and zeros
// are between the two.
func far(head []byte, at int64, tail ...[]byte) file {
	end := slices.Concat(tail...)
	return file{pieces{0: head, at: end}, at + int64(len(end))}
}

// TestMP4 inspects movies that ffmpeg does not make, or that are too large to keep in memory.
func TestMP4(t *testing.T) {
	track := func(length int, more ...[]byte) []byte { return trackBox(1, "vide", length, more...) }
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	timeless := slices.Concat(table("stts", 1, be(1, 0)), table("stsz", 0, be(1, 1)), table("stsc", 1, be(1, 1, 1)), table("stco", 1, be(2)))
	timelessTrack := headedTrack(1, "vide", 3, mediaBox("vide", 0, timeless))
	bigTables := func(length int) []byte { // a track whose sample tables claim a gigabyte
		trak := track(length)
		minf := be(int(gigabyte), "minf")
		trak = append(trak, minf...)
		binary.BigEndian.PutUint32(trak, uint32(len(trak))+uint32(gigabyte)-8)
		mdia := bytes.Index(trak, []byte("mdia")) - 4
		binary.BigEndian.PutUint32(trak[mdia:], uint32(len(trak)-mdia)+uint32(gigabyte)-8)
		return trak
	}
	cut := func(f file) file {
		f.size -= 99
		return f
	}
	segmentIndex := atom("sidx", be(0, 1, 1000, 0, 0, 21, bytes.Repeat(be(int(gigabyte)+len(fragment(0, 10, 0))-8, 950, 0), 21)))

	for _, row := range []struct {
		name     string
		file     file
		duration time.Duration // of the video track
		estimate bool          // the duration is an estimate
		least    time.Duration // the shortest possible duration, if the duration is an estimate or unknown
		sound    time.Duration // of the audio track; 0 if it is not checked
		warning  string        // the beginnings of the warnings, one a line
	}{
		{name: "moov after 5 GB of media with a 64-bit size",
			file:     far(slices.Concat(typeBox, longAtom("mdat", uint64(5*gigabyte))), 5*gigabyte+int64(len(typeBox)), movieBox(0, track(7250))),
			duration: seconds(7.25)},
		{name: "media without a size, to the end",
			file:     whole(typeBox, movieBox(0, track(1500)), be(0, "mdat"), make([]byte, 70000)),
			duration: seconds(1.5)},
		{name: "moov without a size, to the end",
			file: func() file {
				moov := movieBox(0, track(1500))
				copy(moov, be(0))
				return whole(typeBox, atom("mdat", make([]byte, 99)), moov)
			}(),
			duration: seconds(1.5)},
		{name: "sample tables of a gigabyte between two tracks",
			file: func() file {
				first, second := bigTables(2000), trackBox(2, "soun", 3000)
				head := slices.Concat(typeBox, be(0, "moov"), atom("mvhd", be(0, 0, 0, 1000, 0), make([]byte, 80)), first)
				moov := int64(len(head)) - int64(len(typeBox)) + gigabyte - 8 + int64(len(second))
				binary.BigEndian.PutUint32(head[len(typeBox):], uint32(moov))
				return far(head, int64(len(head))+gigabyte-8, second)
			}(),
			duration: seconds(2), sound: seconds(3)},
		{name: "version 1 headers",
			file: func() file {
				mvhd := atom("mvhd", be(1<<24, uint64(0), uint64(0), 600, uint64(600*20)), make([]byte, 80))
				tkhd := atom("tkhd", be(1<<24|3, uint64(0), uint64(0), 1, 0, uint64(0)), make([]byte, 16), matrix, be(64<<16, 48<<16))
				elst := atom("elst", be(1<<24, 1, uint64(600*2), uint64(0), 1<<16))
				mdhd := atom("mdhd", be(1<<24, uint64(0), uint64(0), 600, uint64(600*20), 0))
				hdlr := atom("hdlr", be(0, 0, "vide"), make([]byte, 13))
				stbl := atom("minf", atom("stbl", sampleTable("vide", 600*20)))
				return whole(typeBox, atom("moov", mvhd, atom("trak", tkhd, atom("edts", elst), atom("mdia", mdhd, hdlr, stbl))))
			}(),
			duration: seconds(2)},
		{name: "an edit list that shows two parts",
			file:     whole(typeBox, movieBox(9000, track(9000, editList([2]int{1000, 0}, [2]int{500, 8000})))),
			duration: seconds(1.5)},
		{name: "empty edits between two parts and after them",
			file:     whole(typeBox, movieBox(9000, track(9000, editList([2]int{1000, 0}, [2]int{2000, -1}, [2]int{500, 8000}, [2]int{9000, -1})))),
			duration: seconds(3.5)},
		{name: "an empty edit before the media",
			file:     whole(typeBox, movieBox(9000, track(9000, editList([2]int{400, -1}, [2]int{1000, 0})))),
			duration: seconds(1.4)},
		{name: "an edit of length 0, which lasts to the end of the media",
			file:     whole(typeBox, movieBox(9000, track(9000, editList([2]int{400, -1}, [2]int{0, 2000})))),
			duration: seconds(7.4)},
		{name: "an edit that is longer than the media",
			file:     whole(typeBox, movieBox(31000, track(9000, editList([2]int{31000, 0})))),
			duration: seconds(9)},
		{name: "an edit that begins when the first picture is shown",
			file: whole(typeBox, movieBox(9000, headedTrack(1, "vide", 3, editList([2]int{9000, 80}),
				mediaBox("vide", 9000, sampleTable("vide", 9000), atom("ctts", be(0, 1, 1, 80)))))),
			duration: seconds(9)},
		{name: "slow motion",
			file: whole(typeBox, movieBox(9000, track(9000,
				atom("edts", atom("elst", be(0, 3, 1000, 0, 1<<16, 4000, 1000, 1<<14, 7000, 2000, 1<<16)))))),
			duration: seconds(12)},
		{name: "one picture for three seconds",
			file:     whole(typeBox, movieBox(9000, track(40, atom("edts", atom("elst", be(0, 1, 3000, 0, 0)))))),
			duration: seconds(3)},
		{name: "an edit list with fewer entries than it says",
			file:     whole(typeBox, movieBox(9000, track(4000, atom("edts", atom("elst", be(0, 3, 1000, 0, 1<<16)))))),
			duration: seconds(1)},
		{name: "a wrong length in the media's header",
			file:     whole(typeBox, movieBox(21000, headedTrack(1, "vide", 3, mediaBox("vide", 0, sampleTable("vide", 21000))))),
			duration: seconds(21)},
		{name: "a last picture of a negative length",
			file: whole(typeBox, movieBox(2000, headedTrack(1, "vide", 3, mediaBox("vide", 2000,
				slices.Concat(table("stts", 2, be(2, 1000, 1, -5)), table("stsz", 0, be(3, 1, 1, 1)), table("stsc", 1, be(1, 3, 1)), table("stco", 1, be(2))))))),
			duration: seconds(2.001)},
		{name: "chapters that outlast the picture",
			file:     whole(typeBox, movieBox(60000, track(9000), trackBox(2, "soun", 8000, atom("tref", atom("chap", be(3)))), trackBox(3, "text", 60000))),
			duration: seconds(9), sound: seconds(8)},
		{name: "a picture of a chapter before the film",
			file:     whole(typeBox, movieBox(60000, trackBox(3, "vide", 60000), trackBox(1, "vide", 9000, atom("tref", atom("chap", be(3)))))),
			duration: seconds(9)},
		{name: "a disabled track, then the film",
			file:     whole(typeBox, movieBox(60000, headedTrack(3, "vide", 0, mediaBox("vide", 60000, sampleTable("vide", 60000))), track(9000))),
			duration: seconds(9)},
		{name: "an enabled poster of one picture, then the film in a disabled track",
			file: whole(typeBox, movieBox(9000, track(1000), headedTrack(2, "vide", 0, mediaBox("vide", 9000,
				table("stts", 1, be(2, 4500)), table("stsz", 0, be(2, 1, 1)), table("stsc", 1, be(1, 2, 1)), table("stco", 1, be(2)))))),
			duration: seconds(9)},
		{name: "an empty audio track",
			file:     whole(typeBox, movieBox(9000, track(9000), trackBox(2, "soun", 0))),
			duration: seconds(9)},
		{name: "user data that claim to be longer than the rest of the moov box",
			file:     whole(typeBox, movieBox(9000, track(9000), be(44, "udta", make([]byte, 24))), atom("mdat", make([]byte, 99))),
			duration: seconds(9)},
		{name: "user data that break off with the file",
			file:     whole(typeBox, movieBox(9000, track(9000), be(44, "udta", make([]byte, 24)))),
			duration: seconds(9)},
		{name: "text where a box should be",
			file:     whole(typeBox, movieBox(9000, track(9000), []byte("\x00\x00\x00\x05text that is no box"))),
			duration: seconds(9)},
		{name: "media data that claim to be longer than the file",
			file:     whole(typeBox, movieBox(9000, track(9000)), be(9000, "mdat", make([]byte, 50))),
			duration: seconds(9)},
		{name: "60 boxes, far apart, before the moov box",
			file: func() file {
				f := far(slices.Concat(typeBox, be(1<<20, "free")), 1<<20+int64(len(typeBox)))
				for range 60 {
					f = f.followed(be(1<<20, "free"))
					f.size += 1<<20 - 8
				}
				return f.followed(movieBox(9000, track(9000)))
			}(),
			duration: seconds(9)},
		{name: "no length of any track",
			file:     whole(typeBox, movieBox(2500, timelessTrack)),
			duration: seconds(2.5), estimate: true},
		{name: "no length anywhere",
			file:    whole(typeBox, movieBox(0, timelessTrack)),
			warning: "lipdrop did not find the length of a.mp4"},
		{name: "an unknown length, all ones",
			file:    whole(typeBox, movieBox(-1, track(-1))),
			warning: "lipdrop did not find the length of a.mp4"},
		{name: "an old QuickTime movie without a file type",
			file:     whole(atom("wide"), atom("mdat", make([]byte, 20)), movieBox(0, track(800))),
			duration: seconds(0.8)},
		{name: "a uuid box before the ftyp box",
			file:     whole(atom("uuid", make([]byte, 16)), typeBox, atom("mdat", make([]byte, 20)), movieBox(0, track(800))),
			duration: seconds(0.8)},
		{name: "zeros instead of the second track",
			file:     whole(typeBox, atom("mdat", make([]byte, 20)), movieBox(0, track(800), make([]byte, 500))),
			duration: seconds(0.8),
			warning:  "a.mp4 has zeros instead of the end of its index (moov)"},
		{name: "a moov box that ends where the second track should begin",
			file: func() file {
				moov := movieBox(0, track(800))
				binary.BigEndian.PutUint32(moov, uint32(len(moov)+500))
				return whole(typeBox, atom("mdat", make([]byte, 20)), moov)
			}(),
			duration: seconds(0.8),
			warning:  "a.mp4 ends in the middle of its index (moov)"},
		{name: "a last track without tables, at the end of a whole file",
			file:     whole(typeBox, atom("mdat", make([]byte, 20)), movieBox(0, track(800), headedTrack(2, "tmcd", 3, mediaBox("tmcd", 800, atom("stbl", nil))))),
			duration: seconds(0.8)},
		{name: "a moov box that is cut after the tables of its last track",
			file: func() file {
				moov := movieBox(0, headedTrack(1, "vide", 3, mediaBox("vide", 800, sampleTable("vide", 800), atom("sgpd", make([]byte, 20)))))
				return whole(typeBox, atom("mdat", make([]byte, 20)), moov[:len(moov)-9])
			}(),
			duration: seconds(0.8),
			warning:  "a.mp4 ends in the middle of its index (moov)"},
		{name: "a few zeros after the last track",
			file:     whole(typeBox, movieBox(0, track(800), make([]byte, 12)), atom("mdat", bytes.Repeat([]byte{1}, 20))),
			duration: seconds(0.8)},
		{name: "garbage after the movie",
			file:     whole(typeBox, movieBox(0, track(800)), []byte("\x00\x00\x00\x03waste that is no box")),
			duration: seconds(0.8)},
		{name: "fragments without an mfra or sidx box",
			file:     whole(fragmentedMovie(), fragment(0, 10, 900), fragment(1000, 10, 900), fragment(2000, 7, 900)),
			duration: seconds(2.7)},
		{name: "fragments of a gigabyte without an mfra box, the last one small",
			file:     gigabytes(21, fragmentedMovie()).followed(fragment(21000, 7, 50000)),
			duration: seconds(21.7)},
		{name: "fragments that begin late, cut from a stream",
			file:     whole(fragmentedMovie(), fragment(50000, 10, 900), fragment(51000, 7, 900)),
			duration: seconds(1.7)},
		{name: "fragments before the beginning of the only edit",
			file: whole(typeBox, movieBox(0, trackBox(1, "vide", 0, editList([2]int{0, 100000})), atom("mvex", atom("trex", be(0, 1, 1, 0, 0, 0)))),
				fragment(0, 10, 900), fragment(1000, 7, 900)),
			duration: seconds(1.7)},
		{name: "fragments that do not say their time",
			file:     whole(fragmentedMovie(), bytes.Repeat(bytes.ReplaceAll(fragment(0, 10, 900), []byte("tfdt"), []byte("free")), 3)),
			duration: seconds(3)},
		{name: "fragments that break off",
			file: func() file {
				second := fragment(1000, 10, 900)
				return whole(fragmentedMovie(), fragment(0, 10, 900), second[:len(second)-99])
			}(),
			duration: seconds(2), estimate: true,
			warning: "a.mp4 breaks off in the middle of a fragment"},
		{name: "fragments without sound, although there is an audio track",
			file:     whole(typeBox, movieBox(0, trackBox(1, "vide", 0), trackBox(2, "soun", 0), atom("mvex")), fragment(0, 10, 900)),
			duration: seconds(1)},
		{name: "an mfra box that does not name the sound, which begins late",
			file: func() file {
				f := fragmentsOfTwo(1, 1, 1, 1, 1, 2, 1)
				return whole(f, accessIndex(6000, uint64(bytes.LastIndex(f, []byte("moof"))-4)))
			}(),
			duration: seconds(7), warning: "lipdrop did not find the length of the sound of a.mp4"},
		{name: "a last fragment that breaks off in its header",
			file:     whole(fragmentedMovie(), fragment(0, 10, 900), fragment(1000, 10, 900)[:30]),
			duration: seconds(1),
			warning:  "a.mp4 breaks off in the middle of a fragment"},
		{name: "a last fragment of pictures that breaks off in its header; no fragment of sound",
			file:     whole(fragmentsOfTwo(1), fragment(1000, 10, 900)[:30]),
			duration: seconds(1),
			warning:  "a.mp4 breaks off in the middle of a fragment\nlipdrop did not find the length of the sound of a.mp4"},
		{name: "a negative composition offset in version 0 of a trun box",
			file: whole(fragmentedMovie(), atom("moof", atom("traf", atom("tfhd", be(0x8, 1, 100)), atom("tfdt", be(0, 0)),
				atom("trun", be(0x800, 3, 0, 100, -100)))), atom("mdat", make([]byte, 900))),
			duration: seconds(0.3)},
		{name: "fragments that break off before the first one of the sound",
			file: func() file {
				f := fragmentsOfTwo(1)
				return whole(f[:len(f)-9])
			}(),
			duration: seconds(1), estimate: true,
			warning: "a.mp4 breaks off in the middle of a fragment\nlipdrop did not find the length of the sound of a.mp4"},
		{name: "fragments with zeros instead of the first one of the sound",
			file:     whole(fragmentsOfTwo(1), make([]byte, 2000)),
			duration: seconds(1),
			warning:  "a.mp4 breaks off in the middle of a fragment\nlipdrop did not find the length of the sound of a.mp4"},
		{name: "fragments with zeros instead of the last one",
			file:     whole(fragmentedMovie(), fragment(0, 10, 900), make([]byte, 2000)),
			duration: seconds(1),
			warning:  "a.mp4 breaks off in the middle of a fragment"},
		{name: "fragments of a gigabyte; the mfra box lists the last one",
			file: func() file {
				f := gigabytes(21, fragmentedMovie())
				last := f.size - gigabyte - int64(len(fragment(0, 10, 0))) + 8
				return f.followed(accessIndex(20000, uint64(last)))
			}(),
			duration: seconds(21)},
		{name: "an mfra box that points to nowhere",
			file:     whole(fragmentedMovie(), fragment(0, 10, 900), fragment(1000, 10, 900), accessIndex(1000, 1<<40)),
			duration: seconds(2)},
		{name: "an mfra box whose length field includes the last fragment",
			file: func() file {
				last, index := fragment(1000, 10, 900), accessIndex(1000, 0)
				index = append(index[:len(index)-4], be(len(last)+len(index))...)
				return whole(fragmentedMovie(), fragment(0, 10, 900), last, index)
			}(),
			duration: seconds(2)},
		{name: "an mfra box that lists the first fragment of pictures and the last one of sound",
			file: func() file {
				f := fragmentsOfTwo(1, 2, 1, 2, 1, 2, 1, 2)
				first, last := bytes.Index(f, []byte("moof"))-4, bytes.LastIndex(f, []byte("moof"))-4
				return whole(f, accessIndexOfTwo(0, first, 7000, last))
			}(),
			duration: seconds(7)},
		{name: "an mfra box after fragments that do not say their time",
			file:     untimed(0),
			duration: seconds(6), sound: seconds(2)},
		{name: "an mfra box whose offsets are 24 bytes too large, because a program shortened the header of the file",
			file:     untimed(24),
			duration: seconds(6), sound: seconds(2)},
		{name: "a large file of fragments whose end holds only sound",
			file:    gigabytes(21, fragmentsOfTwo(1, 2)).followed(fragmentsOfTwo(2, 2)[len(fragmentsOfTwo()):]),
			least:   seconds(8),
			warning: "lipdrop did not find the length of a.mp4"},
		{name: "a large file of fragments with a segment index",
			file:     gigabytes(21, fragmentedMovie(), segmentIndex),
			duration: seconds(19.95)},
		{name: "a large file of fragments with a segment index; the file breaks off",
			file:     cut(gigabytes(21, fragmentedMovie(), segmentIndex)),
			duration: seconds(19.95), estimate: true,
			warning: "a.mp4 breaks off in the middle of a fragment"},
		{name: "a large file of fragments whose header says the length",
			file:     gigabytes(200, fragmentedMovie(atom("mehd", be(0, 12500)))),
			duration: seconds(12.5), estimate: true, least: seconds(8)},
		{name: "a large file of fragments without any index",
			file:     gigabytes(21, fragmentedMovie()),
			duration: seconds(21)},
		{name: "a large file of fragments that breaks off",
			file:     cut(gigabytes(21, fragmentedMovie())),
			duration: seconds(21), estimate: true,
			warning: "a.mp4 breaks off in the middle of a fragment"},
		{name: "a large file of fragments that do not say their time",
			file: func() file {
				f := gigabytes(21, fragmentedMovie())
				for at, piece := range f.ReaderAt.(pieces) {
					f.ReaderAt.(pieces)[at] = bytes.ReplaceAll(piece, []byte("tfdt"), []byte("free"))
				}
				return f
			}(),
			least:   seconds(8),
			warning: "lipdrop did not find the length of a.mp4"},
		{name: "a large file of a hundred fragments without any index",
			file:     gigabytes(100, fragmentedMovie()),
			duration: seconds(100)},
		{name: "a large file of two hundred fragments without any index",
			file:    gigabytes(200, fragmentedMovie()),
			least:   seconds(8),
			warning: "lipdrop did not find the length of a.mp4"},
		{name: "a length that is too large for a duration",
			file: whole(typeBox, movieBox(700, headedTrack(1, "vide", 3, atom("mdia", atom("mdhd", be(1<<24, uint64(0), uint64(0), 1, uint64(1<<63))),
				atom("hdlr", be(0, 0, "vide"), make([]byte, 13)), atom("minf", atom("stbl", timeless)))))),
			duration: seconds(0.7), estimate: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := count("a.mp4", row.file.size, row.file)
			got, err := media.Inspect(t.Context(), src.Source)
			checkSane(t, src, got, err)
			if err != nil {
				t.Fatal(err)
			}
			want := media.Length{D: row.duration, Exact: row.duration > 0 && !row.estimate, Least: row.least}
			if diff := cmp.Diff(want, got.Video.Length); diff != "" || got.Width != 64 || got.Height != 48 {
				t.Errorf("got %+v, want 64×48 pixels; length (-want +got):\n%s", got, diff)
			}
			if row.sound > 0 && got.Audio.Length != media.Fact(row.sound) {
				t.Errorf("got sound of %+v, want exactly %v", got.Audio.Length, row.sound)
			}
			checkWarning(t, got.Warnings, row.warning)
		})
	}
}

// A movie with more boxes before its tracks than Inspect may read is accepted with a warning.
func TestMovieWithMoreBoxesThanAreRead(t *testing.T) {
	file := whole(typeBox, movieBox(9000, bytes.Repeat(atom("free", make([]byte, 60000)), 200), trackBox(1, "vide", 9000)))
	src := count("a.mp4", file.size, file)
	got, err := media.Inspect(t.Context(), src.Source)
	checkSane(t, src, got, err)
	if err != nil || len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], "a.mp4 was not checked: its header is larger") {
		t.Errorf("got %+v, %v; want only a warning that the file was not checked", got, err)
	}
}

// gigabyte is larger than what Inspect may read.
const gigabyte = int64(1 << 30)

// gigabytes returns a movie of count fragments. Each fragment lasts a second and has an
// mdat box of a gigabyte.
func gigabytes(count int, head ...[]byte) file {
	start := slices.Concat(head...)
	f := far(start, int64(len(start)))
	for i := range count {
		part := fragment(1000*i, 10, 0)
		binary.BigEndian.PutUint32(part[len(part)-8:], uint32(gigabyte))
		f = f.followed(part)
		f.size += gigabyte - 8
	}
	return f
}

// untimed returns a movie of fragments that do not say their time: six of pictures and two of
// sound. Each fragment lasts a second. The index at the movie's end has an entry for the last
// fragment of each track. Each offset in the index is too large by shift.
func untimed(shift int) file {
	f := bytes.ReplaceAll(fragmentsOfTwo(1, 2, 1, 1, 1, 2, 1, 1), []byte("tfdt"), []byte("free"))
	at := func(n int) int { return len(fragmentsOfTwo()) + n*len(fragment(0, 10, 900)) + shift }
	return whole(f, accessIndexOfTwo(5000, at(7), 1000, at(5)))
}

// accessIndexOfTwo returns an mfra box with one entry for track 1 and one for track 2: the time
// and the offset of a fragment.
func accessIndexOfTwo(time1, offset1, time2, offset2 int) []byte {
	tfra := func(id, time, offset int) []byte { return atom("tfra", be(0, id, 0, 1, time, offset, "\x01\x01\x01")) }
	return atom("mfra", tfra(1, time1, offset1), tfra(2, time2, offset2), atom("mfro", be(0, 8+2*35+16)))
}

// fragmentsOfTwo returns a movie of a track of pictures (1) and a track of sound (2). It has a
// fragment for each of the given tracks. Each fragment lasts a second.
func fragmentsOfTwo(tracks ...int) []byte {
	f := slices.Concat(typeBox, movieBox(0, trackBox(1, "vide", 0), trackBox(2, "soun", 0), atom("mvex")))
	for i, id := range tracks {
		f = append(f, bytes.Replace(fragment(1000*i, 10, 900), be(0x8, 1, 100), be(0x8, id, 100), 1)...)
	}
	return f
}

// followed returns the file with a part appended.
func (f file) followed(part []byte) file {
	f.ReaderAt.(pieces)[f.size] = part
	f.size += int64(len(part))
	return f
}
