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

// TestMatroska inspects files that ffmpeg does not make, or that are too large to keep.
func TestMatroska(t *testing.T) {
	const noLength, cut = "a.webm does not say how long it is", "a.webm ends in the middle of its pictures"
	frames := ebml(0x23E383, be(40000000))
	picture, sound := mkvTrack(1, 1, "V_VP8", frames), mkvTrack(2, 2, "A_OPUS")
	part := func(at, size int) []byte { // a cluster with 120 ms of pictures and 80 ms of sound
		return cluster(at, blocks(1, size, 0, 40), blocks(2, size, 0, 20, 40, 60), blocks(1, size, 80))
	}
	open := func(at, size int) []byte { // the same, but the cluster does not say how long it is
		head := openEBML(0x1F43B675)
		return slices.Concat(head, part(at, size)[len(head):])
	}
	closed := func(head []byte, body ...[]byte) []byte { // the segment says how long it is
		const at, end = 26, 38 // head[at:end] is the head of the segment
		return slices.Concat(head[:at], ebml(0x18538067, head[end:], slices.Concat(body...)))
	}
	silence := func(track byte, at int) []byte { // a block without compression
		return ebml(0xA3, []byte{0x80 | track}, be(uint16(at)), []byte{0x80}, make([]byte, 18432))
	}
	durationTag := func(uid int, clock string) []byte {
		return ebml(0x1254C367, ebml(0x7373, ebml(0x63C0, ebml(0x63C5, be(uid))), ebml(0x67C8, ebml(0x45A3, []byte("DURATION")), ebml(0x4487, []byte(clock)))))
	}
	tagged, tag := mkvTrack(1, 1, "V_VP8", ebml(0x73C5, be(78))), durationTag(78, "00:00:03.120000000")
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, row := range []struct {
		name         string // "a length", "no length": in the head of the file
		file         file
		video, audio media.Length
		warning      string
	}{
		{name: "a length that the last blocks confirm",
			file:  whole(mkvHead(1120, picture, sound), part(0, 9), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "a length that the last blocks refute",
			file:  whole(mkvHead(60000, picture, sound), part(0, 9), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080))},
		{name: "a length, the last blocks out of reach",
			file:  whole(mkvHead(1120, picture, sound), part(0, 9), part(1000, 90000)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "a length, zeros instead of the last blocks",
			file:  whole(closed(mkvHead(1120, picture, sound), part(0, 9), make([]byte, 40000))),
			video: media.Fact(ms(120)), audio: media.Fact(ms(80)), warning: cut},
		{name: "a length, a last block of silence without compression",
			file: whole(closed(mkvHead(1120, picture, sound), part(0, 9), part(1000, 9),
				cluster(1080, silence(2, 0)))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "a length, the last blocks out of reach, the last of them silence without compression",
			file:  whole(mkvHead(1120, picture, sound), part(0, 9), cluster(1000, blocks(1, 90000, 0, 40), silence(2, 60))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "a second sound track that is longer and ends with silence without compression",
			file:  whole(mkvHead(2120, picture, sound, mkvTrack(3, 2, "A_PCM/INT/LIT")), part(0, 9), part(1000, 9), cluster(2100, silence(3, 0))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080))},
		{name: "a length, zeros behind the segment",
			file:  whole(closed(mkvHead(1120, picture, sound), part(0, 9), part(1000, 9)), make([]byte, 40000)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "no length",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "sound that starts before the timestamp of the first cluster",
			file:  whole(mkvHead(1120, picture, sound), cluster(125, blocks(1, 9, 0, 40), blocks(2, 9, -125, -105)), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "no length, clusters that do not say how long they are, the first one at 5 s",
			file:  whole(mkvHead(0, picture, sound), open(5000, 9), open(6000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "no length, a last cluster that is larger than the part that is read",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), part(1000, 90000)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "no length, clusters a megabyte apart",
			file:  mkvFar(mkvHead(0, picture, sound), 60, part),
			video: media.Fact(ms(59120)), audio: media.Fact(ms(59080)), warning: noLength},
		{name: "no length, no block in reach",
			file:    whole(mkvHead(0, picture, sound), open(0, 400000)),
			warning: "lipdrop did not find the length of a.webm"},
		{name: "cut in a block",
			file: func() file {
				c := part(1000, 90)
				return whole(mkvHead(60000, picture, sound), part(0, 9), c[:len(c)-150])
			}(),
			video: media.Fact(ms(1080)), audio: media.Fact(ms(1080)), warning: cut},
		{name: "blocks in groups, which say how long they last",
			file:  whole(mkvHead(0, mkvTrack(1, 1, "V_VP9")), cluster(0, ebml(0xA0, ebml(0xA1, []byte("\x81\x00\x00\x00pic")), ebml(0x9B, be(700))))),
			video: media.Fact(ms(700)), warning: noLength},
		{name: "padding and metadata between the parts",
			file:  whole(mkvHead(1120, picture, sound), ebml(0xEC, make([]byte, 90000)), ebml(0x1254C367, make([]byte, 20)), part(0, 9), part(1000, 9), ebml(0x1C53BB6B, make([]byte, 400))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "a last block of sound with eight frames",
			file: whole(mkvHead(1120, picture, mkvTrack(2, 2, "A_AAC", ebml(0x23E383, be(64000000)))), part(0, 9),
				cluster(608, ebml(0xA3, []byte("\x82\x00\x00\x86\x07sound")), blocks(1, 9, 472))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "an empty video track before the one with pictures",
			file:  whole(mkvHead(1120, mkvTrack(7, 1, "V_VP8"), picture, sound), part(0, 9), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "something behind an open cluster",
			file:  whole(mkvHead(0, picture, sound), open(0, 9), open(1000, 9), make([]byte, 5000)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "no length, bytes in a large last cluster that look like a block that is cut",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), cluster(1000, ebml(0xA3, []byte("\x81\x00\x00\x80"), bytes.Repeat([]byte("\xA3\x10\xFF\xFF\xFF\x81\x00\x00\x80"), 50000)), blocks(2, 9, 0, 20, 40, 60), blocks(1, 9, 80))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "no length, an invalid size between the clusters",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), []byte("\xEC\x00\x00"), part(1000, 9)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "a segment that ends with a stray byte, and something behind it",
			file:  whole(closed(mkvHead(0, picture, sound), part(0, 9), part(1000, 9), []byte{0xEC}), make([]byte, 90)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "the pictures end before the last cluster",
			file:  whole(mkvHead(2060, picture, sound), part(0, 9), part(1000, 9), cluster(2000, blocks(2, 9, 0, 20, 40))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(2060))},
		{name: "no length, the pictures end before the last cluster",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), part(1000, 9), cluster(2000, blocks(2, 9, 0, 20, 40))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(2060)), warning: noLength},
		{name: "no length, a block that is longer than its cluster",
			file:  whole(mkvHead(0, picture, sound), part(0, 9), cluster(1000, blocks(2, 9, 0, 20, 40, 60), blocks(1, 9, 80), []byte("\xA3\x7F\xF0\x85\x00\x00\x00")), ebml(0x1C53BB6B, make([]byte, 400))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: noLength},
		{name: "the picture that is shown last is not in the last cluster",
			file:  whole(mkvHead(1120, picture, sound), cluster(0, blocks(1, 9, 0, 1080), blocks(2, 9, 1060)), cluster(1000, blocks(1, 9, 40, 0))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1060))},
		{name: "subtitles that end after the pictures",
			file:  whole(mkvHead(9000, picture, sound, mkvTrack(3, 17, "S_TEXT/UTF8")), cluster(0, blocks(1, 9, 0, 40), ebml(0xA0, ebml(0xA1, []byte("\x83\x00\x00\x00hello")), ebml(0x9B, be(9000))), blocks(2, 9, 0, 20, 40))),
			video: media.Fact(ms(80)), audio: media.Fact(ms(60))},
		{name: "lengths of the tracks in the tags, the last blocks out of reach",
			file:  whole(mkvHead(5120, mkvTrack(1, 1, "V_VP8", ebml(0x73C5, be(78))), mkvTrack(2, 2, "A_OPUS", ebml(0x73C5, be(77)))), durationTag(77, "00:00:01.080000000"), durationTag(78, "00:00:05.120000000"), part(0, 9), part(1000, 90000)),
			video: media.Fact(ms(5120)), audio: media.Fact(ms(1080))},
		{name: "a last picture that is shown for two seconds, by the tag of its track",
			file:  whole(mkvHead(3120, tagged, sound), tag, part(0, 9), part(1000, 9)),
			video: media.Fact(ms(3120)), audio: media.Fact(ms(1080))},
		{name: "the tag of a track, zeros instead of a small last cluster",
			file:  whole(closed(mkvHead(3120, tagged, sound), tag, part(0, 9), part(1000, 9), make([]byte, 900))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: cut},
		{name: "the tag of a track, padding at the end",
			file:  whole(closed(mkvHead(3120, tagged, sound), tag, part(0, 9), part(1000, 9), ebml(0xEC, make([]byte, 1024)))),
			video: media.Fact(ms(3120)), audio: media.Fact(ms(1080))},
		{name: "padding at the end with more zeros than a block of silence has",
			file:  whole(closed(mkvHead(1120, picture, sound), part(0, 9), part(1000, 9), ebml(0xEC, make([]byte, 50000)))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "the tag of a track, zeros inside the last cluster",
			file:  whole(mkvHead(3120, tagged, sound), tag, part(0, 9), cluster(1000, blocks(1, 9, 0, 40), blocks(2, 9, 0, 20, 40, 60), blocks(1, 9, 80), make([]byte, 900), blocks(1, 9, 2080))),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: cut},
		{name: "the tag of a track in a file that is cut",
			file: func() file {
				f := closed(mkvHead(3120, tagged, sound), tag, part(0, 9), part(1000, 9), part(2000, 9))
				return whole(f[:len(f)-len(part(2000, 9))])
			}(),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1080)), warning: cut},
		{name: "a length in a tag that the length of the file refutes",
			file:  whole(mkvHead(1120, picture, mkvTrack(2, 2, "A_OPUS", ebml(0x73C5, be(77)))), durationTag(77, "01:00:00.000000000"), part(0, 9), part(1000, 90000)),
			video: media.Fact(ms(1120)), audio: media.Fact(ms(1120))},
		{name: "two recordings, joined",
			file:    whole(closed(mkvHead(1120, picture, sound), part(0, 9), part(1000, 9)), mkvHead(120, picture, sound), part(0, 9)),
			warning: "a.webm holds several recordings"},
		{name: "two recordings that do not say how long they are, joined",
			file:    whole(mkvHead(0, picture, sound), open(0, 9), open(1000, 9), mkvHead(0, picture, sound), open(0, 9)),
			warning: "a.webm holds several recordings"},
		{name: "pixels that are not square",
			file:  whole(mkvHead(120, mkvTrack(1, 1, "V_VP8", ebml(0xE0, ebml(0xB0, be(32)), ebml(0x54B0, be(16)), ebml(0x54BA, be(12)))), sound), part(0, 9)),
			video: media.Fact(ms(120)), audio: media.Fact(ms(120))},
		{name: "a track that is switched off",
			file:  whole(mkvHead(120, mkvTrack(7, 1, "V_MJPEG", ebml(0xB9, be(0)), ebml(0xE0, ebml(0xB0, be(320)), ebml(0xBA, be(240)))), picture, sound), part(0, 9)),
			video: media.Fact(ms(120)), audio: media.Fact(ms(120))},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := count("a.webm", row.file.size, row.file)
			got, err := media.Inspect(t.Context(), src.Source)
			src.checkBudget(t)
			if err != nil {
				t.Fatal(err)
			}
			var audio media.Length
			if got.Audio != nil {
				audio = got.Audio.Length
			}
			if got.Video.Length != row.video || audio != row.audio || got.Width != 64 || got.Height != 48 {
				t.Errorf("got %+v, video %+v, audio %+v; want lengths %+v and %+v, and 64×48 pixels", got, got.Video, audio, row.video, row.audio)
			}
			checkWarning(t, got.Warnings, row.warning)
		})
	}
}

// mkvFar returns a file of clusters that are a megabyte apart. Only the last cluster, which part
// returns, has blocks.
func mkvFar(head []byte, count int, part func(at, size int) []byte) file {
	f := file{pieces{0: head}, int64(len(head))}
	for i := range count - 1 {
		f = f.followed(slices.Concat(be(0x1F43B675, uint64(1<<20)|1<<56), ebml(0xE7, be(1000*i))))
		f.size += 1<<20 - 13
	}
	return f.followed(part(1000*(count-1), 9))
}

// TestMatroskaTracks checks codecs, encryption and broken files.
func TestMatroskaTracks(t *testing.T) {
	config := make([]byte, 23)
	config[17] = 0xfa
	hdr := mkvTrack(1, 1, "V_MPEGH/ISO/HEVC", ebml(0x63A2, config), ebml(0xE0, ebml(0x55B0, ebml(0x55BA, be(16)))))
	const rest = ", which not every program decodes; if the job fails, export a.mkv as H.264 with AAC sound"
	data := cluster(0, blocks(1, 9, 0, 40, 80), blocks(2, 9, 0, 40, 80))
	for _, row := range []struct {
		name    string
		tracks  []byte
		data    []byte
		want    []string
		warning string
		code    problem.Code
	}{
		{"H.264 and AAC", slices.Concat(mkvTrack(1, 1, "V_MPEG4/ISO/AVC"), mkvTrack(2, 2, "A_AAC/MPEG4/LC")), data, []string{"h264", "aac"}, "", ""},
		{"HEVC HDR", hdr, data, []string{"hevc"}, "a.mkv is 10-bit HEVC HDR" + rest, ""},
		{"ProRes and PCM", slices.Concat(mkvTrack(1, 1, "V_PRORES"), mkvTrack(2, 2, "A_PCM/INT/LIT")), data, []string{"prores", "pcm"}, "a.mkv is ProRes" + rest, ""},
		{"VP9 with transparency", mkvTrack(1, 1, "V_VP9", ebml(0xE0, ebml(0x53C0, be(1)))), data, []string{"vp9"}, "a.mkv is a video with transparency" + rest, ""},
		{"codecs with the names that AVI files use", slices.Concat(mkvTrack(1, 1, "V_MS/VFW/FOURCC", ebml(0x63A2, make([]byte, 16), []byte("XVID"))), mkvTrack(2, 2, "A_MS/ACM", ebml(0x63A2, le(uint16(0x55))))), data, []string{"mpeg4", "mp3"}, "", ""},
		{"encrypted", mkvTrack(1, 1, "V_VP9", ebml(0x6D80, ebml(0x6240, ebml(0x5035, nil)))), data, nil, "", problem.FileEncrypted},
		{"sound only", mkvTrack(2, 2, "A_OPUS"), data, nil, "", problem.NoVideoTrack},
		{"no cluster", mkvTrack(1, 1, "V_VP8"), nil, nil, "", problem.FileDamaged},
		{"no track", nil, data, nil, "", problem.FileDamaged},
		{"no picture", slices.Concat(mkvTrack(1, 1, "V_VP8"), mkvTrack(2, 2, "A_OPUS")), cluster(0, blocks(2, 9, 0, 40, 80)), nil, "", problem.FileDamaged},
		{"no sound", slices.Concat(mkvTrack(1, 1, "V_VP8"), mkvTrack(2, 2, "A_OPUS")), cluster(0, blocks(1, 9, 0, 40, 80)), []string{"vp8"}, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			info, err := inspectData(t, "a.mkv", slices.Concat(mkvHead(120, row.tracks), row.data))
			got, rejected := errors.AsType[*problem.Problem](err)
			if rejected != (row.code != "") || rejected && got.Code != row.code {
				t.Fatalf("got %v, want code %q", err, row.code)
			}
			if rejected {
				return
			}
			if diff := cmp.Diff(row.want, info.Codecs()); diff != "" {
				t.Errorf("codecs (-want +got):\n%s", diff)
			}
			if got := strings.Join(info.Warnings, "\n"); got != row.warning {
				t.Errorf("got warnings %q, want %q", got, row.warning)
			}
		})
	}
	head := mkvHead(120, mkvTrack(1, 1, "V_VP8"))
	_, err := inspectData(t, "a.mkv", head[:len(head)-9])
	if got, ok := errors.AsType[*problem.Problem](err); !ok || got.Code != problem.FileDamaged {
		t.Errorf("cut in its tracks: got %v, want code %q", err, problem.FileDamaged)
	}
}

// TestAVI inspects files that ffmpeg does not make, or that are too large to keep.
func TestAVI(t *testing.T) {
	stream := func(kind string, scale, rate, length, sampleSize int, format []byte) []byte {
		strh := le(kind, "none", 0, 0, 0, scale, rate, 0, length, 0, 0, sampleSize, make([]byte, 8))
		return chunk("LIST", slices.Concat([]byte("strl"), chunk("strh", strh), chunk("strf", format)))
	}
	bitmap := func(fourCC string) []byte { return le(40, 64, -48, 0, fourCC, make([]byte, 20)) }
	header := func(streams ...[]byte) []byte {
		return chunk("LIST", slices.Concat([]byte("hdrl"), chunk("avih", make([]byte, 56)), slices.Concat(streams...)))
	}
	picture := stream("vids", 1, 25, 50, 0, bitmap("XVID"))
	sound := stream("auds", 1, 8000, 24000, 1, le(uint16(1), uint16(1)))
	packets := stream("auds", 1, 8000, 24000, 0, le(uint16(0x55), uint16(1)))
	piped := stream("vids", 1, 25, 1<<30, 0, bitmap("XVID"))
	media900 := append([]byte("movi"), make([]byte, 900)...)
	movi := chunk("LIST", media900)
	complete := riff("AVI ", header(picture, sound), movi)
	claims := func(size int) []byte { return slices.Concat(le("LIST", size), media900) }
	headers := header(picture, sound)
	end := 12 + len(headers) + 8 + 1<<30 // of the first part of a large file
	large := le("RIFF", end-8, "AVI ", headers, "LIST", 1<<30, "movi")
	second := riff("AVIX", movi)
	const noLength, cut = "a.avi does not say how long it is, so its length is not checked", "a.avi ends in the middle of its pictures"
	both := []media.Length{media.Fact(2 * time.Second), media.Fact(3 * time.Second)}
	about := func(video, audio time.Duration) []media.Length { return []media.Length{{D: video}, {D: audio}} }
	for _, row := range []struct {
		name    string
		file    file
		want    []media.Length // of the video track and the audio track
		codecs  string
		warning string
	}{
		{"complete", whole(complete), both, "mpeg4 pcm", ""},
		{"fewer pictures in the index than in the header", whole(riff("AVI ", header(picture, sound), movi, chunk("idx1", make([]byte, 49*16)))), []media.Length{{D: 2 * time.Second}, both[1]}, "mpeg4 pcm", ""},
		{"all pictures in the index", whole(riff("AVI ", header(picture, sound), movi, chunk("idx1", make([]byte, 50*16)))), both, "mpeg4 pcm", ""},
		{"zeros behind the end", whole(complete, make([]byte, 20000)), both, "mpeg4 pcm", ""},
		{"much after the end", whole(complete, make([]byte, 1<<20), chunk("LIST", []byte("movi")), bytes.Repeat(chunk("JUNK", make([]byte, 10)), 3000)), both, "mpeg4 pcm", ""},
		{"half of the media data", whole(complete[:len(complete)-452]), about(time.Second, 1500*time.Millisecond), "mpeg4 pcm", cut},
		{"a byte short", whole(complete[:len(complete)-1]), about(2*time.Second, 3*time.Second), "mpeg4 pcm", cut},
		{"zeros instead of the end", whole(riff("AVI ", header(picture, sound), chunk("LIST", slices.Concat(media900, noise(20000), make([]byte, 20000))))), about(2*time.Second, 3*time.Second), "mpeg4 pcm", cut},
		{"written to a pipe, zeros instead of the end", whole(le("RIFF", -1, "AVI "), header(piped, sound), claims(-1), make([]byte, 20000)), []media.Length{{}, {}}, "mpeg4 pcm", noLength},
		{"sound in packets of different lengths", whole(riff("AVI ", header(picture, packets), movi)), []media.Length{both[0], {D: 3 * time.Second}}, "mpeg4 mp3", ""},
		{"no length", whole(riff("AVI ", header(stream("vids", 1, 25, 0, 0, bitmap("MJPG"))), movi)), []media.Length{{}}, "mjpeg", noLength},
		{"CineForm", whole(riff("AVI ", header(stream("vids", 1, 25, 50, 0, bitmap("CFHD"))), movi)), both[:1], "cfhd", "a.avi is CineForm"},
		{"written to a pipe", whole(le("RIFF", -1, "AVI "), header(piped, sound), claims(-1)), []media.Length{{}, {}}, "mpeg4 pcm", noLength},
		{"recorded by a program that crashed", whole(le("RIFF", 0, "AVI "), header(piped, sound), claims(0)), []media.Length{{}, {}}, "mpeg4 pcm", noLength},
		{"DV with its sound in the pictures", whole(riff("AVI ", header(stream("iavs", 1, 25, 50, 0, make([]byte, 32))), movi)),
			[]media.Length{both[0], both[0]}, "dvvideo pcm", ""},
		{"more than a gigabyte", far(large, int64(end), second), both, "mpeg4 pcm", ""},
		{"more than a gigabyte, cut in its second part", far(large, int64(end), second[:500]), about(2*time.Second, 3*time.Second), "mpeg4 pcm", cut},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := count("a.avi", row.file.size, row.file)
			got, err := media.Inspect(t.Context(), src.Source)
			src.checkBudget(t)
			if err != nil {
				t.Fatal(err)
			}
			tracks := []*media.Track{got.Video, got.Audio}
			for i, want := range row.want {
				l := tracks[i].Length
				if l.Exact != want.Exact || (l.D-want.D).Abs() > 10*time.Millisecond {
					t.Errorf("track %d: got %+v, want %+v", i, l, want)
				}
			}
			if codecs := strings.Join(got.Codecs(), " "); codecs != row.codecs || got.Video.Frame != 40*time.Millisecond {
				t.Errorf("got codecs %q and frames of %v, want %q and 40ms", codecs, got.Video.Frame, row.codecs)
			}
			if got.Video.Codec == "mpeg4" && (got.Width != 64 || got.Height != 48) {
				t.Errorf("got %d×%d pixels, want 64×48", got.Width, got.Height)
			}
			checkWarning(t, got.Warnings, row.warning)
		})
	}
	for name, data := range map[string][]byte{
		"no media data":             riff("AVI ", header(picture, sound)),
		"empty media data":          riff("AVI ", header(picture, sound), chunk("LIST", []byte("movi"))),
		"cut before its media data": slices.Concat(le("RIFF", 0, "AVI "), header(picture, sound), le("LIST", 0, "movi")),
	} {
		_, err := inspectData(t, "a.avi", data)
		if got, ok := errors.AsType[*problem.Problem](err); !ok || got.Code != problem.FileDamaged {
			t.Errorf("%s: got %v, want code %q", name, err, problem.FileDamaged)
		}
	}
}
