package media_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

func TestKindOf(t *testing.T) {
	known := map[media.Kind][]string{
		media.Video: {"a.mp4", "a.MOV", "a.m4v", "a.WebM", "a.mkv", "a.avi", "in/ads/a b.mp4"},
		media.Audio: {"a.wav", "a.mp3", "a.m4a", "a.aac", "a.ogg", "a.opus", "a.flac", "a.de.WAV"},
		media.Image: {"a.png", "a.jpg", "a.JPEG", "a.webp"},
		"":          {"a.txt", "a", "mp4", "a.mp4.part", "a.gif", "a.mp4/b", "a.mp4/", "a.m\u212av", ""},
	}
	for want, names := range known {
		for _, name := range names {
			got, ok := media.KindOf(name)
			if got != want || ok != (want != "") {
				t.Errorf("KindOf(%q) = %q, %v, want %q, %v", name, got, ok, want, want != "")
			}
		}
	}
}

func TestSniff(t *testing.T) {
	type sniffed struct{ Type, Suffix string }
	for name, want := range map[string]sniffed{
		"moov-first.mp4": {"video/mp4", ".mp4"},
		"video-only.m4v": {"video/mp4", ".mp4"},
		"pcm.mov":        {"video/quicktime", ".mov"},
		"small.webm":     {"video/webm", ".webm"},
		"picture.png":    {"image/png", ".png"},
		"picture.jpg":    {"image/jpeg", ".jpg"},
		"lossless.webp":  {"image/webp", ".webp"},
		"audio-only.m4a": {"audio/mp4", ""},
		"small.mkv":      {"video/x-matroska", ""},
		"pcm.wav":        {"audio/wav", ""},
		"small.aac":      {"audio/aac", ""},
		"make.sh":        {"text/x-shellscript", ""},
	} {
		data := sample(t, name)
		for _, length := range []int{512, len(data)} {
			var got sniffed
			got.Type, got.Suffix = media.Sniff(data[:min(length, len(data))])
			if got != want {
				t.Errorf("%s: Sniff of %d bytes = %v, want %v", name, length, got, want)
			}
		}
	}
	if _, suffix := media.Sniff(nil); suffix != "" {
		t.Errorf("Sniff of nothing gives the suffix %q, want none", suffix)
	}
}

func exportAs(file string, kind media.Kind) string {
	return "Export " + file + " as a real " + problem.List(media.Suffixes(kind), "or") + "."
}

func downloadAgain(file string) string {
	return "Download or export " + file + " again: it holds only text, such as an error message."
}

func TestProblems(t *testing.T) {
	text := []byte("Dear diary, today I renamed a text file.\n")
	movie := sample(t, "moov-first.mp4")
	late := sample(t, "moov-last.mp4")
	png := sample(t, "picture.png")
	webp := sample(t, "lossy.webp")
	windowsMedia := []byte("\x30\x26\xb2\x75\x8e\x66\xcf\x11 and so on")
	for _, row := range []struct {
		name   string
		file   string
		data   []byte
		code   problem.Code
		reason string
		remedy string
	}{
		{"empty", "talk.mp4", nil, problem.FileEmpty,
			"talk.mp4 is empty", "Make sure that talk.mp4 is not empty on your computer."},
		{"text as video", "talk.mp4", text, problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but text/plain", downloadAgain("talk.mp4")},
		{"text as audio", "talk.mp3", text, problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is not an audio file, but text/plain", downloadAgain("talk.mp3")},
		{"text with a word that is the type of an MP4 box", "talk.mp3", []byte("Buy free tickets for the museum tonight"), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is not an audio file, but text/plain", downloadAgain("talk.mp3")},
		{"an error message as image", "a.webp", []byte(`{"error": "AccessDenied"}`), problem.FileMismatch,
			"a.webp is not what its suffix says: it is not an image, but application/json", downloadAgain("a.webp")},
		{"a web page in XHTML as video", "talk.mp4", []byte(`<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Sign in</body></html>`), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but application/xhtml+xml", downloadAgain("talk.mp4")},
		{"a playlist as video", "talk.mp4", []byte("#EXTM3U\n#EXT-X-VERSION:3\n"), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but application/vnd.apple.mpegurl", downloadAgain("talk.mp4")},
		{"an archive as video", "talk.mov", slices.Concat([]byte("PK\x03\x04"), make([]byte, 22), le(uint16(8), uint16(0)), []byte("talk.avi")), problem.FileMismatch,
			"talk.mov is not what its suffix says: it is not a video, but application/zip", "Unpack talk.mov: it is an archive."},
		{"GIF as PNG", "a.png", append([]byte("GIF89a"), make([]byte, 99)...), problem.FileMismatch,
			"a.png is not what its suffix says: it is image/gif", "Convert a.png to a JPEG or PNG image."},
		{"GIF as video", "talk.mp4", append([]byte("GIF89a"), make([]byte, 99)...), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but image/gif", exportAs("talk.mp4", media.Video)},
		{"bytes of no known format as image", "a.png", bytes.Repeat([]byte{0xfe, 1}, 99), problem.FileMismatch,
			"a.png is not what its suffix says: it is not an image, but something else", exportAs("a.png", media.Image)},
		{"two bytes of an MP3, then zeros", "talk.mp3", slices.Concat([]byte{0xff, 0xfb}, make([]byte, 9000)), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is not an audio file, but something else", exportAs("talk.mp3", media.Audio)},
		{"MP3 in the free format", "talk.mp3", slices.Concat(id3(90), make([]byte, 90), bytes.Repeat(append([]byte{0xff, 0xfb, 0x08, 0xc0}, make([]byte, 1300)...), 9)), problem.FileMismatch,
			"talk.mp3 is an MP3 in the free format, whose frames do not say how long they are; common decoders refuse it", "Convert talk.mp3 to a WAV or MP3 file."},
		{"MP3 in the free format, without a tag", "talk.mp3", bytes.Repeat(append([]byte{0xff, 0xf3, 0x04, 0xc0}, make([]byte, 600)...), 9), problem.FileMismatch,
			"talk.mp3 is an MP3 in the free format, whose frames do not say how long they are; common decoders refuse it", "Convert talk.mp3 to a WAV or MP3 file."},
		{"PNG of an iPhone app", "a.png", slices.Concat([]byte("\x89PNG\r\n\x1a\n"), pngChunk("CgBI", []byte("P\x00\x20\x02")), png[8:]), problem.FileMismatch,
			"a.png is a PNG image of an iPhone app (CgBI), which only Apple's programs read", "Convert a.png to a JPEG or PNG image."},
		{"JPEG-LS", "a.jpg", jpegFile(jpegFrame(0xf7), jpegScan(99)), problem.FileMismatch,
			"a.jpg is a JPEG-LS image, which common decoders refuse", "Convert a.jpg to a JPEG or PNG image."},
		{"H.264 without a container", "talk.mp4", append([]byte("\x00\x00\x00\x01\x27"), make([]byte, 500)...), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is H.264 or H.265 video without a container", "Convert talk.mp4 to an MP4 file."},
		{"text in UTF-16 as MP3", "talk.mp3", []byte("\xff\xfeE\x00r\x00r\x00o\x00r\x00"), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is not an audio file, but text/plain", downloadAgain("talk.mp3")},
		{"text in Latin-1 as MP3", "talk.mp3", []byte("Datei f\xfcr Gr\xf6\xdfe nicht gefunden"), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is not an audio file, but text/plain", downloadAgain("talk.mp3")},
		{"8-bit samples without a header", "talk.wav", bytes.Repeat([]byte{0x7f, 0xff, 0xe5, 0xd8, 0x65, 0x58}, 999), problem.FileMismatch,
			"talk.wav is not what its suffix says: it is not an audio file, but something else", exportAs("talk.wav", media.Audio)},
		{"zeros as video", "talk.mp4", make([]byte, 9000), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but only zeros", "Download or copy talk.mp4 again."},
		{"zeros before noise as video", "talk.mp4", append(make([]byte, 9000), noise(9000)...), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but something else", exportAs("talk.mp4", media.Video)},
		{"a compressed file as video", "talk.mp4", append([]byte("\xfd7zXZ\x00"), make([]byte, 99)...), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is not a video, but application/x-xz", "Unpack talk.mp4: it is an archive."},
		{"one byte", "talk.wav", []byte{1}, problem.FileMismatch,
			"talk.wav is not what its suffix says: it is not an audio file, but something else", exportAs("talk.wav", media.Audio)},
		{"image as video", "talk.webm", png, problem.FileMismatch,
			"talk.webm is not what its suffix says: it is a PNG image", "Rename talk.webm to talk.png."},
		{"MP3 as video", "talk.mp4", sample(t, "tagged.mp3"), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is an MP3 file", exportAs("talk.mp4", media.Video)},
		{"image as MP3", "talk.mp3", png, problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is a PNG image", exportAs("talk.mp3", media.Audio)},
		{"MP3 as WAV", "in/my.talk.WAV", sample(t, "cbr-no-header.mp3"), problem.FileMismatch,
			"my.talk.WAV is not what its suffix says: it is an MP3 file", "Rename my.talk.WAV to my.talk.mp3."},
		{"MP3 with a tag as WAV", "talk.wav", sample(t, "tagged.mp3"), problem.FileMismatch,
			"talk.wav is not what its suffix says: it is an MP3 file", "Rename talk.wav to talk.mp3."},
		{"M4A as MP3", "talk.mp3", sample(t, "audio-only.m4a"), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is an M4A file", "Rename talk.mp3 to talk.m4a."},
		{"AAC as MP3", "talk.mp3", sample(t, "small.aac"), problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is an AAC stream", "Rename talk.mp3 to talk.aac."},
		{"Matroska as MP4", "talk.mp4", sample(t, "small.mkv"), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is a Matroska file", "Rename talk.mp4 to talk.mkv."},
		{"MP4 as WAV", "talk.wav", movie, problem.FileMismatch,
			"talk.wav is not what its suffix says: it is an MP4 file", "Rename talk.wav to talk.m4a."},
		{"WEBM as OGG", "talk.ogg", sample(t, "small.webm"), problem.FileMismatch,
			"talk.ogg is not what its suffix says: it is a WEBM file", "Convert talk.ogg to a WAV or MP3 file."},
		{"Windows Media as MP4", "talk.mp4", windowsMedia, problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is a Windows Media file", "Convert talk.mp4 to an MP4 file."},
		{"Windows Media as MP3", "talk.mp3", windowsMedia, problem.FileMismatch,
			"talk.mp3 is not what its suffix says: it is a Windows Media file", "Convert talk.mp3 to a WAV or MP3 file."},
		{"PNG as JPEG", "me.jpg", png, problem.FileMismatch,
			"me.jpg is not what its suffix says: it is a PNG image", "Rename me.jpg to me.png."},
		{"a phone's image as JPEG", "me.jpg", atom("ftyp", []byte("heic\x00\x00\x00\x00mif1heic")), problem.FileMismatch,
			"me.jpg is not what its suffix says: it is a HEIF image, as phones take them", "Convert me.jpg to a JPEG or PNG image."},
		{"a camera's HEIF image as JPEG", "me.jpg", atom("ftyp", []byte("avci\x00\x00\x00\x00mif1avci")), problem.FileMismatch,
			"me.jpg is not what its suffix says: it is a HEIF image, as phones take them", "Convert me.jpg to a JPEG or PNG image."},
		{"a camera's RAW image as JPEG", "me.jpg", atom("ftyp", []byte("crx \x00\x00\x00\x01crx isom")), problem.FileMismatch,
			"me.jpg is not what its suffix says: it is a Canon RAW image", "Convert me.jpg to a JPEG or PNG image."},
		{"sound as video", "talk.mp4", sample(t, "no-picture.mp4"), problem.NoVideoTrack,
			"talk.mp4 has no video track, only sound", "Export talk.mp4 again with its picture. If it is the voice, name it talk.m4a."},
		{"sound as WEBM", "talk.webm", slices.Concat(mkvHead(1000, mkvTrack(1, 2, "A_OPUS")), cluster(0, blocks(1, 9, 0))), problem.NoVideoTrack,
			"talk.webm has no video track, only sound", "Export talk.webm again with its picture. If it is the voice, convert it to WAV or MP3."},
		{"no track at all", "talk.mp4", slices.Concat(typeBox, movieBox(3000)), problem.NoVideoTrack,
			"talk.mp4 has no video track", "Export talk.mp4 again with its picture."},
		{"video as sound", "talk.m4a", sample(t, "no-sound.m4a"), problem.NoAudioTrack,
			"talk.m4a has no audio track", "Export talk.m4a again with its sound."},
		{"MP4 cut before its moov", "talk.mp4", late[:len(late)/2], problem.FileDamaged,
			"talk.mp4 is damaged: it ends in the middle of its media data, so the export or the upload broke off", "Export talk.mp4 again if it does not open on your computer."},
		{"MP4 cut at its moov", "talk.mp4", late[:bytes.Index(late, []byte("moov"))-4], problem.FileDamaged,
			"talk.mp4 is damaged: its index (moov) is missing, so the export or the upload broke off", "Export talk.mp4 again if it does not open on your computer."},
		{"MP4 cut in its moov", "talk.mp4", late[:bytes.LastIndex(late, []byte("stco"))+9], problem.FileDamaged,
			"talk.mp4 is damaged: it ends in the middle of its index (moov), so the export or the upload broke off", "Export talk.mp4 again if it does not open on your computer."},
		{"MP4 cut in its media", "talk.mp4", movie[:len(movie)-99], problem.FileDamaged,
			"talk.mp4 is damaged: it ends in the middle of its media data, so the export or the upload broke off", "Export talk.mp4 again if it does not open on your computer."},
		{"MP4 whose boxes overlap", "talk.mp4", slices.Concat(typeBox, atom("moov", be(500, "trak", 0)), make([]byte, 900)), problem.FileDamaged,
			"talk.mp4 is damaged: the lengths of its boxes do not fit together", "Export talk.mp4 again if it does not open on your computer."},
		{"MP4 with a short header", "talk.mp4", slices.Concat(typeBox, atom("moov", atom("mvhd", be(0, 0)))), problem.FileDamaged,
			"talk.mp4 is damaged: its mvhd box is too short", "Export talk.mp4 again if it does not open on your computer."},
		{"WAV without data", "talk.wav", riff("WAVE", pcm8k), problem.FileDamaged,
			"talk.wav is damaged: it has no sound data", "Export talk.wav again if it does not open on your computer."},
		{"WAV without a format chunk", "talk.wav", riff("WAVE", chunk("data", make([]byte, 99))), problem.FileDamaged,
			"talk.wav is damaged: it has no format chunk before its sound data", "Export talk.wav again if it does not open on your computer."},
		{"WAV without a sampling rate", "talk.wav", riff("WAVE", chunk("fmt ", make([]byte, 16)), chunk("data", make([]byte, 99))), problem.FileDamaged,
			"talk.wav is damaged: its format has no sampling rate", "Export talk.wav again if it does not open on your computer."},
		{"WAV of less than a block", "talk.wav", riff("WAVE", chunk("fmt ", le(uint16(0x11), uint16(1), 8000, 4055, uint16(256), uint16(4))), chunk("data", make([]byte, 200))), problem.FileEmpty,
			"talk.wav holds no sound", "Record talk.wav again."},
		{"WAV of half a sample", "talk.wav", riff("WAVE", pcm8k, chunk("data", []byte{1})), problem.FileEmpty,
			"talk.wav holds no sound", "Record talk.wav again."},
		{"OPUS without sound", "talk.opus", opus(1, 1, 0), problem.FileEmpty,
			"talk.opus holds no sound", "Record talk.opus again."},
		{"OPUS cut in its first page of sound", "talk.opus", opus(1, 1, 1)[:500], problem.FileDamaged,
			"talk.opus is damaged: it ends in the middle of its first page of sound, so the export or the upload broke off",
			"Export talk.opus again if it does not open on your computer."},
		{"OPUS without its beginning", "talk.opus", opusPage(48000, 1, 9), problem.NoAudioTrack,
			"talk.opus has no audio track", "Export talk.opus again with its sound."},
		{"FLAC without a frame", "talk.flac", flac(9999, 0, 0), problem.FileDamaged,
			"talk.flac is damaged: it has no frame of sound after its header", "Export talk.flac again if it does not open on your computer."},
		{"MP3 in a WAV whose data end after the Xing header", "talk.wav",
			riff("WAVE", chunk("fmt ", le(uint16(0x55), uint16(1), 32000, 4000, uint16(1), uint16(0))), []byte("data"), le(144), xing(9, 144*10), mp3Frames(9)), problem.FileDamaged,
			"talk.wav is damaged: it has no frame of sound", "Export talk.wav again if it does not open on your computer."},
		{"AAC of one header", "talk.aac", adts(1)[:9], problem.FileDamaged,
			"talk.aac is damaged: it has no frame of sound", "Export talk.aac again if it does not open on your computer."},
		{"AMR as M4A", "talk.m4a", []byte("#!AMR\n\x3c and so on"), problem.FileMismatch,
			"talk.m4a is not what its suffix says: it is an AMR recording, as phones make them", "Convert talk.m4a to a WAV or MP3 file."},
		{"a raw DV stream as AVI", "talk.avi", append([]byte("\x1f\x07\x00\xbf"), make([]byte, 500)...), problem.FileMismatch,
			"talk.avi is not what its suffix says: it is a raw DV stream, as camcorders record it", "Convert talk.avi to an MP4 file."},
		{"a transport stream as MP4", "talk.mp4", bytes.Repeat(append([]byte("G\x40\x11\x10"), make([]byte, 184)...), 9), problem.FileMismatch,
			"talk.mp4 is not what its suffix says: it is an MPEG transport stream", "Convert talk.mp4 to an MP4 file."},
		{"WAV without sound", "talk.wav", riff("WAVE", pcm8k, chunk("data", nil)), problem.FileEmpty,
			"talk.wav holds no sound", "Record talk.wav again."},
		{"WAV without sound, with another chunk at its end", "talk.wav", riff("WAVE", pcm8k, chunk("data", nil), chunk("LIST", make([]byte, 99))), problem.FileEmpty,
			"talk.wav holds no sound", "Record talk.wav again."},
		{"MP3 without frames", "talk.mp3", slices.Concat([]byte("ID3\x04\x00\x00\x00\x00\x01\x00"), make([]byte, 500)), problem.FileDamaged,
			"talk.mp3 is damaged: it has no frame of sound after its tags", "Export talk.mp3 again if it does not open on your computer."},
		{"MP3 that ends with its tag", "talk.mp3", slices.Concat(id3(5000), make([]byte, 5000)), problem.FileDamaged,
			"talk.mp3 is damaged: it has no frame of sound after its tags", "Export talk.mp3 again if it does not open on your computer."},
		{"MP4 behind a tag", "talk.mp4", slices.Concat(id3(5000), make([]byte, 5000), movie), problem.FileDamaged,
			"talk.mp4 is damaged: a tag was added before its header, so its pictures and its sound are not where its index says",
			"Export talk.mp4 again if it does not open on your computer."},
		{"MP3 cut in its tag", "talk.mp3", id3(5000), problem.FileDamaged,
			"talk.mp3 is damaged: it has no frame of sound after its tags", "Export talk.mp3 again if it does not open on your computer."},
		{"JPEG without a frame", "me.jpg", jpegFile(segment(0xe0, make([]byte, 14)), jpegScan(9)), problem.FileDamaged,
			"me.jpg is damaged: it has no frame header", "Export me.jpg again if it does not open on your computer."},
		{"JPEG cut in its header", "me.jpg", jpegFile(segment(0xe0, make([]byte, 14))), problem.FileDamaged,
			"me.jpg is damaged: it ends in the middle of its header", "Export me.jpg again if it does not open on your computer."},
		{"PNG with a wrong bit", "me.png", slices.Concat(png[:17], []byte{1}, png[18:]), problem.FileDamaged,
			"me.png is damaged: the checksum of its header is wrong", "Export me.png again if it does not open on your computer."},
		{"PNG of no size", "me.png", pngHeader(0, 48), problem.FileDamaged,
			"me.png is damaged: its picture has no valid size", "Export me.png again if it does not open on your computer."},
		{"WEBP cut short", "me.webp", webp[:len(webp)-9], problem.FileDamaged,
			"me.webp is damaged: it ends before its picture does", "Export me.webp again if it does not open on your computer."},
		{"WEBP without a picture", "me.webp", riff("WEBP", chunk("ICCP", make([]byte, 20))), problem.FileDamaged,
			"me.webp is damaged: the header of its picture cannot be read", "Export me.webp again if it does not open on your computer."},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := inspectData(t, row.file, row.data)
			var got *problem.Problem
			if !errors.As(err, &got) {
				t.Fatalf("got error %v, want a problem", err)
			}
			want := &problem.Problem{Code: row.code, Reason: row.reason, Remedy: row.remedy}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEverySuffixMustMatchTheContent(t *testing.T) {
	families := [][]string{
		{".mp4", ".m4v", ".mov", ".m4a"}, {".webm", ".mkv"}, {".ogg", ".opus"}, {".jpg", ".jpeg"},
		{".avi"}, {".wav"}, {".mp3"}, {".aac"}, {".flac"}, {".png"}, {".webp"},
	}
	samples := []string{
		"moov-last.mp4", "pcm.mov", "small.webm", "small.mkv", "small.avi", "pcm.wav", "cbr.mp3", "layer2.mp3", "tagged.mp3",
		"audio-only.m4a", "small.aac", "small.ogg", "small.opus", "small.flac", "picture.png", "picture.jpg", "lossy.webp",
	}
	for _, suffix := range media.Suffixes() {
		i := slices.IndexFunc(families, func(family []string) bool { return slices.Contains(family, suffix) })
		switch {
		case i < 0:
			t.Errorf("%s is accepted: add it to a form in sniff.go, and to a family of this test", suffix)
		case !slices.ContainsFunc(samples, func(name string) bool { return slices.Contains(families[i], filepath.Ext(name)) }):
			t.Errorf("%s is accepted: add a file of this format to testdata, and to the samples of this test", suffix)
		}
	}
	for _, name := range samples {
		data := sample(t, name)
		own := filepath.Ext(name)
		for _, family := range families {
			for _, suffix := range family {
				_, err := inspectData(t, "a"+suffix, data)
				wrong, rejected := errors.AsType[*problem.Problem](err)
				rejected = rejected && wrong.Code == problem.FileMismatch
				if rejected == slices.Contains(family, own) {
					t.Errorf("%s as %s: rejected is %v, want %v (error %v); the forms in sniff.go say which suffixes a format may have", name, suffix, rejected, !rejected, err)
				}
			}
		}
	}
}

// TestUnread checks files that pass with a warning although Inspect cannot read them.
func TestUnread(t *testing.T) {
	for _, row := range []struct {
		name string
		data []byte
		want media.Info
	}{
		{"output.bin", []byte("text of no known format"), media.Info{
			Warnings: []string{"output.bin was not checked: lipdrop cannot read its content (text/plain)"}}},
		{"compressed.mov", slices.Concat(typeBox, atom("moov", atom("cmov", make([]byte, 99)))), media.Info{
			Format: "mp4", Kind: media.Video,
			Warnings: []string{"compressed.mov was not checked: its index is compressed (cmov), as in some old QuickTime movies; if the job fails, export the movie as MP4"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.want.Name, row.want.Bytes, row.want.Unread = row.name, int64(len(row.data)), true
			got, err := inspectData(t, row.name, row.data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnknownSuffix checks that the content decides the kind of a file whose suffix is not
// accepted.
func TestUnknownSuffix(t *testing.T) {
	for name, want := range map[string]media.Kind{
		"moov-first.mp4": media.Video, "no-picture.mp4": media.Audio, "pcm.wav": media.Audio,
		"cbr.mp3": media.Audio, "picture.png": media.Image,
	} {
		data := sample(t, name)
		got, err := inspectData(t, "output.bin", data)
		if err != nil || got.Kind != want || got.Unread || len(got.Warnings) > 0 {
			t.Errorf("%s as output.bin: got %+v, error %v; want kind %q without a warning", name, got, err, want)
		}
	}
}

// TestReadErrors makes each of the first MaxCalls reads fail in turn. Inspect must return the error of the
// read, not a problem of the file.
func TestReadErrors(t *testing.T) {
	const farAway = 1 << 30 // no read from the beginning reaches this offset
	broken := errors.New("connection reset")
	files := map[string][]byte{
		// readWAV continues if it finds no MP3 frames, but must stop after a read error.
		"mp3.wav": riff("WAVE", chunk("fmt ", le(uint16(0x55), uint16(1), 32000, 4000, uint16(1), uint16(0))), chunk("LIST", make([]byte, 200<<10)), chunk("data", mp3Frames(9000))),
	}
	for _, name := range []string{"moov-last.mp4", "fragmented.mp4", "fragmented-no-index.mp4", "small.mkv", "small.avi", "small.flac", "small.opus", "small.aac", "pcm.wav", "tagged.mp3", "picture.jpg", "picture.png", "lossy.webp"} {
		files[name] = sample(t, name)
	}
	for name, data := range files {
		for size, content := range map[int64]io.ReaderAt{
			int64(len(data)):           bytes.NewReader(data),
			farAway + int64(len(data)): pieces{0: data[:len(data)/2], farAway: data[len(data)/2:]},
		} {
			failures := 0
			for nth := 1; nth <= media.MaxCalls; nth++ {
				src := count(name, size, content)
				read := src.ReadRange
				src.ReadRange = func(ctx context.Context, off, n int64) ([]byte, error) {
					if src.calls == nth-1 {
						failures++
						src.calls++
						return nil, broken
					}
					return read(ctx, off, n)
				}
				_, err := media.Inspect(t.Context(), src.Source)
				if src.calls >= nth && !errors.Is(err, broken) {
					t.Errorf("%s of %d bytes, read %d fails: got error %v, want %v", name, size, nth, err, broken)
				}
			}
			if failures == 0 {
				t.Errorf("%s of %d bytes: no read failed, so the test checks nothing", name, size)
			}
		}
	}

	src := count("talk.mp4", 5000, strings.NewReader(""))
	src.ReadRange = func(context.Context, int64, int64) ([]byte, error) { return make([]byte, 99), nil }
	if _, err := media.Inspect(t.Context(), src.Source); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short read: got error %v, want %v", err, io.ErrUnexpectedEOF)
	}
}
