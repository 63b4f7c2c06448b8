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

// inspectTracks inspects a movie with the given tracks.
func inspectTracks(t *testing.T, name string, tracks ...[]byte) (media.Info, error) {
	t.Helper()
	data := slices.Concat(typeBox, movieBox(1000, tracks...), atom("mdat", bytes.Repeat([]byte{1}, 5000)))
	return inspectData(t, name, data)
}

// trackWithEntry returns a track with the given sample entry.
func trackWithEntry(id int, handler string, entry []byte) []byte {
	return headedTrack(id, handler, 3, mediaBox(handler, 1000, sampleTable(handler, 1000), table("stsd", 1, entry)))
}

// pictureEntry and soundEntry return a sample entry that ends with the given boxes.
func pictureEntry(kind string, depth byte, more ...[]byte) []byte {
	fields := make([]byte, 78)
	copy(fields[24:], be(uint16(320), uint16(180)))
	fields[75] = depth
	return atom(kind, fields, slices.Concat(more...))
}

func soundEntry(kind string, more ...[]byte) []byte {
	return atom(kind, make([]byte, 28), slices.Concat(more...))
}

// TestCodecs checks the names of codecs, and the warnings about codecs that not every program
// decodes.
func TestCodecs(t *testing.T) {
	esds := func(object byte, config ...byte) []byte {
		decoder := slices.Concat([]byte{4, 0x80, 0x80, byte(15 + len(config)), object}, make([]byte, 12), []byte{5, byte(len(config))}, config)
		return atom("esds", be(0), []byte{3, byte(len(decoder) + 3), 0, 1, 0}, decoder)
	}
	hevc := func(bits, transfer byte, settings ...byte) []byte { // some encoders append their settings to the hvcC box
		config := append(make([]byte, 23), settings...)
		config[17] = 0xf8 | (bits - 8)
		return pictureEntry("hvc1", 24, atom("hvcC", config), atom("colr", []byte("nclx\x00\x09\x00"), []byte{transfer, 0, 9, 0}))
	}
	aac := soundEntry("mp4a", esds(0x40))
	avc := pictureEntry("avc1", 24)
	const rest = ", which not every program decodes; if the job fails, export a.mov as H.264 with AAC sound"
	for _, row := range []struct {
		name         string
		video, audio []byte
		want         []string
		warning      string
	}{
		{"H.264 and AAC", avc, aac, []string{"h264", "aac"}, ""},
		{"HEVC", hevc(8, 1), aac, []string{"hevc", "aac"}, ""},
		{"HEVC of ten bits", hevc(10, 1), aac, []string{"hevc", "aac"}, "a.mov is 10-bit HEVC" + rest},
		{"HEVC HDR of twelve bits", hevc(12, 16), aac, []string{"hevc", "aac"}, "a.mov is 12-bit HEVC HDR" + rest},
		{"HEVC HDR", hevc(10, 18), aac, []string{"hevc", "aac"}, "a.mov is 10-bit HEVC HDR" + rest},
		{"HEVC HDR with the settings of its encoder", hevc(10, 18, noise(2500)...), aac, []string{"hevc", "aac"}, "a.mov is 10-bit HEVC HDR" + rest},
		{"ProRes with uncompressed sound", pictureEntry("apch", 24), soundEntry("sowt"), []string{"prores", "pcm"}, "a.mov is ProRes" + rest},
		{"ProRes with transparency", pictureEntry("ap4h", 32), aac, []string{"prores", "aac"}, "a.mov is ProRes with transparency" + rest},
		{"ProRes RAW", pictureEntry("aprn", 24), aac, []string{"prores_raw", "aac"}, "a.mov is ProRes RAW" + rest},
		{"H.266", pictureEntry("vvc1", 24), aac, []string{"vvc", "aac"}, "a.mov is H.266 (VVC)" + rest},
		{"Dolby AC-4", avc, soundEntry("ac-4"), []string{"h264", "ac4"}, "the sound of a.mov is Dolby AC-4" + rest},
		{"DNxHD", pictureEntry("AVdn", 24), aac, []string{"dnxhd", "aac"}, "a.mov is DNxHD" + rest},
		{"PNG pictures with transparency", pictureEntry("png ", 32), aac, []string{"png", "aac"}, "a.mov is a video with transparency" + rest},
		{"AV1 and Opus", pictureEntry("av01", 24), soundEntry("Opus"), []string{"av1", "opus"}, ""},
		{"MPEG-4 and MP3", pictureEntry("mp4v", 24, esds(0x20)), soundEntry("mp4a", esds(0x6b)), []string{"mpeg4", "mp3"}, ""},
		{"xHE-AAC", avc, soundEntry("mp4a", esds(0x40, 0xf9, 0x46)), []string{"h264", "aac"}, "the sound of a.mov is xHE-AAC" + rest},
		{"HE-AAC", avc, soundEntry("mp4a", esds(0x40, 0x2b, 0x92)), []string{"h264", "aac"}, ""},
		{"Apple Lossless", avc, soundEntry("alac"), []string{"h264", "alac"}, "the sound of a.mov is Apple Lossless (ALAC)" + rest},
		{"spatial sound only", avc, soundEntry("apac"), []string{"h264", "apac"}, "the sound of a.mov is spatial audio (apac)" + rest},
		{"DV with sound of eight bits", pictureEntry("dvcp", 24), soundEntry("raw "), []string{"dvvideo", "pcm"}, ""},
		{"unknown", pictureEntry("what", 24), soundEntry("ever"), nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			info, err := inspectTracks(t, "a.mov", trackWithEntry(1, "vide", row.video), trackWithEntry(2, "soun", row.audio))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, info.Codecs()); diff != "" {
				t.Errorf("codecs (-want +got):\n%s", diff)
			}
			if got := strings.Join(info.Warnings, "\n"); got != row.warning {
				t.Errorf("got warnings %q, want %q", got, row.warning)
			}
		})
	}
	info, err := inspectTracks(t, "a.mov", trackWithEntry(1, "vide", avc), trackWithEntry(2, "soun", soundEntry("apac")), trackWithEntry(3, "soun", aac))
	if err != nil || info.Audio.Codec != "aac" || len(info.Warnings) > 0 {
		t.Errorf("spatial sound beside AAC: got %+v, error %v; want AAC without a warning", info, err)
	}
	info, err = inspectTracks(t, "a.m4a", trackWithEntry(1, "vide", pictureEntry("apch", 24)), trackWithEntry(2, "soun", aac))
	if err != nil || len(info.Warnings) > 0 {
		t.Errorf("ProRes in an audio file: got warnings %q, error %v; want neither", info.Warnings, err)
	}
}

// TestTurnedPicture checks the size of a picture that a matrix turns.
func TestTurnedPicture(t *testing.T) {
	upright := trackWithEntry(1, "vide", pictureEntry("avc1", 24))
	turned := bytes.Replace(upright, matrix, be(3, 1<<16, 0, -1<<16, 0, 0, 0, 0, 1<<30), 1)
	for _, row := range []struct {
		name          string
		track         []byte
		width, height int
	}{
		{"turned by a matrix with a rounding error", turned, 48, 64},
		{"turned, with its size only in the sample entry", bytes.Replace(turned, be(64<<16, 48<<16), be(0, 0), 1), 180, 320},
		{"turned upside down", bytes.Replace(upright, matrix, be(-1<<16, 0, 0, 0, -1<<16, 0, 0, 0, 1<<30), 1), 64, 48},
	} {
		info, err := inspectTracks(t, "a.mp4", row.track)
		if err != nil || info.Width != row.width || info.Height != row.height {
			t.Errorf("%s: got %d×%d, %v; want %d×%d", row.name, info.Width, info.Height, err, row.width, row.height)
		}
	}
}

// TestSamplesOfATrack checks what Inspect finds about the samples of a track.
func TestSamplesOfATrack(t *testing.T) {
	track := func(sizes ...int) []byte {
		n := len(sizes)
		list := be(n)
		for _, size := range sizes {
			list = append(list, be(size)...)
		}
		tables := slices.Concat(table("stsd", 1, pictureEntry("avc1", 24)), table("stts", 2, be(n-1, 40, 1, 90)), table("stsc", 1, be(1, n, 1)),
			table("stsz", 0, list), table("stco", 1, be(2)))
		return headedTrack(1, "vide", 3, mediaBox("vide", 0, tables))
	}
	inspect := func(sizes ...int) media.Track {
		info, err := inspectTracks(t, "a.mp4", track(sizes...))
		if err != nil {
			t.Fatal(err)
		}
		return *info.Video
	}
	got := inspect(700, 20, 30)
	want := media.Track{
		Codec: "h264", Length: media.Fact(170 * time.Millisecond), Frame: 40 * time.Millisecond, Samples: 3, Bytes: 750, Largest: 700, Hash: got.Hash,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("track (-want +got):\n%s", diff)
	}
	if got.Hash == "" || got.Hash != inspect(700, 20, 30).Hash || got.Hash == inspect(700, 30, 20).Hash {
		t.Errorf("got the hash %q, want the same for the same sizes, and another for other sizes", got.Hash)
	}
	const fiveMinutes = 5 * 60 * 48000 / 1024 // coded frames of AAC
	if got := inspect(slices.Repeat([]int{3}, fiveMinutes)...); got.Bytes != 3*fiveMinutes || got.Hash == "" {
		t.Errorf("%d samples: got %d bytes, hash %q; want %d and a hash", fiveMinutes, got.Bytes, got.Hash, 3*fiveMinutes)
	}
	data := slices.Concat(typeBox, movieBox(1000, track(700, 20, 30), atom("mvex")), fragment(170, 10, 1), atom("mdat", bytes.Repeat([]byte{1}, 5000)))
	if info, err := inspectData(t, "a.mp4", data); err != nil || info.Video.Bytes != 0 || info.Video.Largest != 0 || info.Video.Hash != "" {
		t.Errorf("more samples in a fragment: got %+v, error %v; want no size and no hash", info.Video, err)
	}
}

// TestFrameOfFragments checks the Frame of a fragmented movie.
func TestFrameOfFragments(t *testing.T) {
	traf := atom("traf", atom("tfhd", be(0, 1)), atom("tfdt", be(0, 0)), atom("trun", be(0x100, 5, 900, 40, 40, 90, 40)))
	data := slices.Concat(fragmentedMovie(), atom("moof", traf), atom("mdat", make([]byte, 9)))
	info, err := inspectData(t, "a.mp4", data)
	if err != nil || info.Video.Frame != 40*time.Millisecond || info.Video.Length != media.Fact(1110*time.Millisecond) {
		t.Errorf("got %+v, error %v; want a Frame of 40 ms and an exact Length of 1.11 s", info.Video, err)
	}
}

// TestBrokenMovies checks that Inspect rejects damaged and encrypted movies, and accepts
// movies whose samples are all there.
func TestBrokenMovies(t *testing.T) {
	const (
		notThere = "its index is there, but not its pictures and sound, so the export or the upload broke off"
		cut      = "it ends in the middle of its media data, so the export or the upload broke off"
		lacks    = "its index (moov) lacks a table that every player needs"
		index    = "it ends in the middle of its index (moov), so the export or the upload broke off"
	)
	track := func(handler string, tables ...[]byte) []byte {
		return headedTrack(1, handler, 3, mediaBox(handler, 1000, table("stsd", 1, pictureEntry("avc1", 24)), table("stts", 1, be(4, 250)), slices.Concat(tables...)))
	}
	chunks := func(kind string, offsets ...any) []byte { return table(kind, len(offsets), be(offsets...)) }
	sizes, runs := table("stsz", 0, be(4, 100, 100, 100, 100)), table("stsc", 1, be(1, 2, 1))
	movie := func(tracks ...[]byte) []byte {
		return slices.Concat(typeBox, movieBox(1000, tracks...), atom("mdat", bytes.Repeat([]byte{1}, 1000)))
	}
	whole := movie(track("vide", sizes, runs, chunks("stco", 900, 1100)))
	uneven := movie(track("vide", table("stsz", 0, be(3, 100, 100, 100)), runs, chunks("stco", 900, 1100)))
	oneChunk := func(n int) []byte { // n samples of one byte each; the file does not have all of them
		list := table("stsz", 0, be(n, bytes.Repeat(be(1), n)))
		return movie(track("soun", list, table("stsc", 1, be(1, n, 1)), chunks("stco", 4*n+700)))[:4*n+900]
	}
	for _, row := range []struct {
		name, as string
		data     []byte
		code     problem.Code
		why      string // of a damaged file
	}{
		{"media data that are not there", "a.mp4", movie(track("vide", sizes, runs, chunks("stco", 9000, 9200))), problem.FileDamaged, notThere},
		{"samples inside the index", "a.mp4", movie(track("vide", sizes, runs, chunks("stco", 100, 200))), problem.FileDamaged, notThere},
		{"a last chunk that is not there", "a.mp4", movie(track("vide", sizes, runs, chunks("stco", 900, 9000))), problem.FileDamaged, cut},
		{"a last chunk that is cut", "a.mp4", whole[:1299], problem.FileDamaged, cut},
		{"a single chunk of many samples that is cut", "a.m4a", oneChunk(1000), problem.FileDamaged, cut},
		{"a single chunk of very many samples that is cut", "a.m4a", oneChunk(20000), problem.FileDamaged, cut},
		{"a last sample of zeros", "a.mp4", append(whole[:1200:1200], make([]byte, 200)...), problem.FileDamaged, "it holds zeros instead of the last part of its media data, so a download or a copy broke off"},
		{"far chunks that are not there", "a.mp4", movie(track("vide", sizes, runs, chunks("co64", uint64(900), uint64(1<<40)))), problem.FileDamaged, cut},
		{"samples of one size that are cut", "a.mp4", movie(track("vide", table("stsz", 4000, be(4)), runs, chunks("stco", 700, 900))), problem.FileDamaged, cut},
		{"a video track without a picture", "a.mp4", movie(track("vide", table("stsz", 0, be(0)), runs, chunks("stco"))), problem.FileDamaged, "its video track holds no picture"},
		{"a video track without tables", "a.mp4", movie(track("vide")), problem.FileDamaged, "its video track holds no picture"},
		{"an audio track without sound", "a.m4a", movie(track("soun", table("stsz", 0, be(0)), runs, chunks("stco"))), problem.FileDamaged, "its audio track holds no sound"},
		{"fragments that break off before the first picture", "a.mp4", fragmentsOfTwo(2)[:len(fragmentsOfTwo(2))-9], problem.FileDamaged, "its video track holds no picture"},
		{"fragments with zeros instead of the first sound", "a.m4a", append(fragmentsOfTwo(1), make([]byte, 2000)...), problem.FileDamaged, "its audio track holds no sound"},
		{"an init segment", "a.mp4", fragmentedMovie(), problem.FileDamaged, "it holds no pictures and no sound, only the beginning of a stream (an init segment)"},
		{"fragments without sound", "a.m4a", slices.Concat(typeBox, movieBox(0, trackBox(1, "vide", 0), trackBox(2, "soun", 0), atom("mvex")), fragment(0, 9, 9)),
			problem.FileDamaged, "its audio track holds no sound"},
		{"samples without a place", "a.mp4", movie(track("vide", sizes, runs)), problem.FileDamaged, lacks},
		{"samples that are not divided into chunks", "a.mp4", movie(track("vide", sizes, chunks("stco", 900, 1100))), problem.FileDamaged, lacks},
		{"samples without a time", "a.mp4", movie(headedTrack(1, "vide", 3, mediaBox("vide", 1000, sizes, runs, chunks("stco", 900, 1100)))), problem.FileDamaged, lacks},
		{"samples in no chunk", "a.mp4", movie(track("vide", sizes, runs, chunks("stco"))), problem.FileDamaged, lacks},
		{"an index that is cut in a table", "a.mp4", whole[:bytes.Index(whole, []byte("stco"))+9], problem.FileDamaged, index},
		{"zeros instead of the last tables of the second track", "a.mp4", slices.Concat(typeBox, atom("mdat", bytes.Repeat([]byte{1}, 1000)),
			movieBox(1000, track("vide", sizes, runs, chunks("stco", 100, 300)), track("soun", sizes, make([]byte, 60)))), problem.FileDamaged, index},
		{"an encrypted picture", "a.mp4", movie(trackWithEntry(1, "vide", pictureEntry("encv", 24, atom("sinf", atom("frma", []byte("avc1")))))), problem.FileEncrypted, ""},
		{"encrypted sound", "a.mp4", movie(trackWithEntry(1, "vide", pictureEntry("avc1", 24)), trackWithEntry(2, "soun", soundEntry("enca"))), problem.FileEncrypted, ""},
		{"a song with copy protection", "a.m4a", movie(trackWithEntry(1, "soun", soundEntry("drms"))), problem.FileEncrypted, ""},
		{"an audio book with copy protection", "a.m4a", movie(trackWithEntry(1, "soun", soundEntry("aavd"))), problem.FileEncrypted, ""},
		{"an encrypted stream", "a.mp4", slices.Concat(typeBox, movieBox(0, trackWithEntry(1, "vide", pictureEntry("encv", 24)), atom("mvex")), fragment(0, 9, 9)), problem.FileEncrypted, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := inspectData(t, row.as, row.data)
			got, ok := errors.AsType[*problem.Problem](err)
			if !ok || got.Code != row.code || row.why != "" && got.Reason != row.as+" is damaged: "+row.why {
				t.Errorf("got %v, want %s: %s", err, row.code, row.why)
			}
		})
	}
	if _, err := inspectData(t, "a.mp4", whole[:1300]); err != nil {
		t.Errorf("all samples are there: got error %v, want none", err)
	}
	if _, err := inspectData(t, "a.mp4", uneven[:1200]); err != nil {
		t.Errorf("a last chunk of fewer samples: got error %v, want none", err)
	}
	black := bytes.Replace(append(whole[:1200:1200], make([]byte, 200)...), []byte("avc1"), []byte("raw "), 1)
	if _, err := inspectData(t, "a.mov", black); err != nil {
		t.Errorf("a last picture that is black and not compressed: got error %v, want none", err)
	}
	padded := slices.Concat(typeBox, atom("mdat", bytes.Repeat([]byte{1}, 1000)), movieBox(1000, track("vide", sizes, runs, chunks("stco", 100, 300), make([]byte, 60))))
	if info, err := inspectData(t, "a.mp4", padded); err != nil || len(info.Warnings) > 0 {
		t.Errorf("padding after the last table: got error %v and warnings %q, want none", err, info.Warnings)
	}
}
