package media_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/media"
)

// TestWhatIsRead compares a table of docs/media.md with what Inspect reads. More requests make
// each job slower, so review each change of the table.
func TestWhatIsRead(t *testing.T) {
	const mb = 1 << 20
	picture := slices.Concat(pngHeader(640, 480), pngChunk("IDAT", make([]byte, 5*mb)), pngChunk("IEND", nil))
	photo := jpegFile(segment(0xe1, make([]byte, 40000)), jpegFrame(0xc0), jpegScan(5*mb))
	webp := riff("WEBP", chunk("VP8 ", slices.Concat([]byte("\x30\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01"), noise(3*mb))))
	avi := sample(t, "small.avi")
	rows := []struct {
		what, name string
		file
	}{
		{"MP4 of a minute, index first", "a.mp4", film(60, true)},
		{"MP4 of a minute, index last", "a.mp4", film(60, false)},
		{"MP4 of ten minutes, index last", "a.mp4", film(600, false)},
		{"MP4 of 5 fragments of 1 GB without an index", "a.mp4", gigabytes(5, fragmentedMovie())},
		{"MP4 of 100 fragments of 1 GB with an index", "a.mp4", indexed(gigabytes(100, fragmentedMovie()))},
		{"WEBM of a minute", "a.webm", mkvFar(mkvHead(59360, mkvTrack(1, 1, "V_VP8"), mkvTrack(2, 2, "A_OPUS")), 60, func(at, size int) []byte {
			return cluster(at, blocks(1, size, 0, 40, 80), blocks(2, size, 0, 40, 80))
		})},
		{"AVI of 12 KB", "a.avi", whole(avi)},
		{"WAV of ten minutes", "a.wav", far(riff("WAVE", pcm8k, le("data", 600*16000)), 600*16000+43, []byte{0})},
		{"MP3 of ten minutes, constant bit rate", "a.mp3", whole(mp3Frames(600000 / 36))},
		{"MP3 of ten minutes, Xing header", "a.mp3", whole(xing(600000/36, 144*(600000/36+1)), mp3Frames(600000/36))},
		{"AAC of a minute", "a.aac", whole(adts(60000 / 64))},
		{"OPUS of ten minutes", "a.opus", whole(opus(1, 1, 600))},
		{"FLAC", "a.flac", whole(flac(100*4096, 0, 100))},
		{"JPEG of 5 MB", "a.jpg", whole(photo)},
		{"PNG of 5 MB", "a.png", whole(picture)},
		{"WEBP of 3 MB", "a.webp", whole(webp)},
	}
	table := "| file | requests | KB |\n| --- | ---: | ---: |\n"
	for _, row := range rows {
		src := count(row.name, row.size, row.file)
		info, err := media.Inspect(t.Context(), src.Source)
		src.checkBudget(t)
		if err != nil || info.Unread || info.Kind != media.Image && !info.Length().Exact {
			t.Errorf("%s: got %+v, length %+v, error %v; want tracks that were read and, except for an image, an exact length", row.what, info, info.Length(), err)
		}
		table += fmt.Sprintf("| %s | %d | %d |\n", row.what, src.calls, (src.bytes+1023)/1024)
	}
	golden.CompareBetween(t, "../../docs/media.md", "<!-- read -->", "\n"+table+"\n")
}

// film returns a movie with 25 pictures and 50 frames of sound per second. Each picture and
// each frame has 4,000 bytes, and each chunk holds one second of one track. The index is
// before the media data if indexFirst is true, and after them otherwise.
func film(seconds int, indexFirst bool) file {
	index := func(dataAt int) []byte {
		var tracks []byte
		entries := [][]byte{atom("avc1", make([]byte, 78)), atom("mp4a", make([]byte, 28))}
		for id, handler := range []string{"vide", "soun"} {
			each := 25 * (id + 1)
			offsets := []byte{}
			for i := range seconds {
				offsets = append(offsets, be(dataAt+300000*i+100000*id)...)
			}
			tracks = append(tracks, headedTrack(id+1, handler, 3, mediaBox(handler, 1000*seconds,
				table("stsd", 1, entries[id]),
				table("stts", 1, be(each*seconds, 1000/each)),
				table("stsc", 1, be(1, each, 1)),
				atom("stsz", be(0, 0, each*seconds, bytes.Repeat(be(4000), each*seconds))),
				table("stco", seconds, offsets)))...)
		}
		return movieBox(1000*seconds, tracks)
	}
	data := 75 * 4000 * seconds
	head, last := be(8+data, "mdat"), bytes.Repeat([]byte{1}, 300000)
	if indexFirst {
		at := len(typeBox) + len(index(0)) + len(head)
		return far(slices.Concat(typeBox, index(at), head), int64(at+data-len(last)), last)
	}
	at := len(typeBox) + len(head)
	return far(slices.Concat(typeBox, head), int64(at+data-len(last)), append(last, index(at)...))
}

// indexed adds an index to the 100 fragments of f. The index names only the last fragment.
func indexed(f file) file {
	last := slices.Max(slices.Collect(maps.Keys(f.ReaderAt.(pieces))))
	return f.followed(accessIndex(99000, uint64(last)))
}
