package media_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// TestImages inspects images with headers that ffmpeg does not make, and a sample of each form of WEBP.
func TestImages(t *testing.T) {
	tiff := func(order binary.ByteOrder, orientation int) []byte {
		mark := "MM"
		if order == binary.LittleEndian {
			mark = "II"
		}
		entry := func(tag, value int) []byte {
			return write(order, []any{uint16(tag), uint16(3), 1, uint16(value), uint16(0)})
		}
		return write(order, []any{mark, uint16(42), 8, uint16(2), entry(0x0100, 7), entry(0x0112, orientation), 0})
	}
	exif := func(order binary.ByteOrder, orientation int) []byte {
		return segment(0xe1, []byte("Exif\x00\x00"), tiff(order, orientation))
	}
	webp := func(metadata []byte) file {
		return whole(webpFile(8, chunk("VP8L", make([]byte, 99)), chunk("EXIF", metadata)))
	}
	jpeg := func(parts ...[]byte) file { return whole(jpegFile(parts...), jpegScan(900)) }
	app := segment(0xe2, make([]byte, 60000))
	type size struct{ Width, Height int }
	for _, row := range []struct {
		name    string
		as      string
		file    file
		want    size
		warning string
	}{
		{name: "baseline", as: "a.jpg", file: jpeg(jpegFrame(0xc0)), want: size{640, 480}},
		{name: "progressive", as: "a.jpg", file: jpeg(jpegFrame(0xc2)), want: size{640, 480}},
		{name: "arithmetic", as: "a.jpg", file: jpeg(segment(0xcc, make([]byte, 2)), jpegFrame(0xc9)), want: size{640, 480}},
		{name: "tables and fill bytes first", as: "a.jpg", file: jpeg(segment(0xc4, make([]byte, 9)), []byte("\xff\xff"), segment(0xdb, make([]byte, 9)), jpegFrame(0xc1)), want: size{640, 480}},
		{name: "upside down", as: "a.jpg", file: jpeg(exif(binary.LittleEndian, 3), jpegFrame(0xc0)), want: size{640, 480}},
		{name: "turned right", as: "a.jpg", file: jpeg(exif(binary.LittleEndian, 6), jpegFrame(0xc0)), want: size{480, 640}},
		{name: "turned left, in big-endian metadata", as: "a.jpeg", file: jpeg(segment(0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00")), exif(binary.BigEndian, 8), jpegFrame(0xc0)), want: size{480, 640}},
		{name: "turned right, with the orientation as a number of 32 bits", as: "a.jpg", want: size{480, 640},
			file: jpeg(segment(0xe1, []byte("Exif\x00\x00"), be("MM", uint16(42), 8, uint16(1), uint16(0x0112), uint16(4), 1, 6, 0)), jpegFrame(0xc0))},
		{name: "malformed metadata", as: "a.jpg", file: jpeg(segment(0xe1, []byte("Exif\x00\x00II*\x00\xff\xff\xff\xff")), jpegFrame(0xc0)), want: size{640, 480}},
		{name: "600 KB of metadata", as: "a.jpg", file: jpeg(bytes.Repeat(app, 10), jpegFrame(0xc0)), want: size{640, 480}},
		{name: "2.4 MB of metadata", as: "a.jpg", file: jpeg(bytes.Repeat(app, 40), jpegFrame(0xc0)), want: size{640, 480}},
		{name: "more segments than are read", as: "a.jpg", file: jpeg(bytes.Repeat(app, 140), jpegFrame(0xc0)), warning: "a.jpg was not checked: its header is larger"},
		{name: "stray bytes before a segment", as: "a.jpg", file: jpeg(segment(0xdb), []byte("\x00\x00stray"), jpegFrame(0xc0), []byte("\xff\x00")), want: size{640, 480}},
		{name: "a film after the end of the picture, with bytes that look like markers", as: "a.jpg", file: whole(jpegFile(jpegFrame(0xc2), jpegScan(900)), bytes.Repeat([]byte("\xff\xe7film"), 9000)), want: size{640, 480}},
		{name: "zeros after the end of the picture", as: "a.jpg", file: far(jpegFile(jpegFrame(0xc2), jpegScan(90000)), 1<<20), want: size{640, 480}},
		{name: "a height that follows the picture", as: "a.jpg", file: jpeg(segment(0xc0, be("\x08", uint16(0), uint16(640), "\x01\x01\x11\x00"))), warning: "a.jpg does not say at its beginning how high its picture is"},
		{name: "PNG", as: "a.png", file: whole(pngHeader(70000, 3), pngChunk("IDAT", make([]byte, 9)), pngChunk("IEND", nil)), want: size{70000, 3}},
		{name: "PNG with large texts", as: "a.png", file: whole(pngHeader(30, 40), bytes.Repeat(pngChunk("iTXt", make([]byte, 60000)), 30), pngChunk("IDAT", make([]byte, 9)), pngChunk("IEND", nil)), want: size{30, 40}},
		{name: "PNG of many chunks, zeros after its end", as: "a.png", file: far(slices.Concat(pngHeader(30, 40), bytes.Repeat(pngChunk("IDAT", make([]byte, 8192)), 40), pngChunk("IEND", nil)), 1<<20), want: size{30, 40}},
		{name: "PNG of one colour, of more chunks than are read, zeros after its end", as: "a.png",
			file: far(slices.Concat(pngHeader(30, 40), bytes.Repeat(pngChunk("IDAT", make([]byte, 60000)), 250), pngChunk("IEND", nil)), 16<<20), want: size{30, 40}},
		{name: "PNG of more chunks than are read, zeros after its end", as: "a.png", file: far(slices.Concat(pngHeader(30, 40), bytes.Repeat(pngChunk("IDAT", noise(8192)), 250), pngChunk("IEND", nil)), 4<<20), want: size{30, 40}},
		{name: "a film after the end of the picture, without bytes that look like markers", as: "a.jpg", file: whole(jpegFile(jpegFrame(0xc2), jpegScan(900)), noise(60000)), want: size{640, 480}},
		{name: "a picture that ends with zeros, zeros after its end", as: "a.jpg", want: size{640, 480},
			file: far(jpegFile(jpegFrame(0xc2), segment(0xda), noise(900), make([]byte, 900), []byte("\xff\xd9")), 60000)},
		{name: "a picture with zeros in its middle, zeros after its end", as: "a.jpg",
			file: far(jpegFile(jpegFrame(0xc2), jpegScan(20000)[:20000], make([]byte, 120000), jpegScan(60000)), 1<<18), want: size{640, 480}},
		{name: "PNG, turned right", as: "a.png", file: whole(pngHeader(30, 40), pngChunk("eXIf", tiff(binary.BigEndian, 6)), pngChunk("IDAT", make([]byte, 9)), pngChunk("IEND", nil)), want: size{40, 30}},
		{name: "WEBP, turned right", as: "a.webp", file: webp(tiff(binary.LittleEndian, 6)), want: size{48, 64}},
		{name: "WEBP, turned left, its metadata as in a JPEG", as: "a.webp", file: webp(append([]byte("Exif\x00\x00"), tiff(binary.BigEndian, 8)...)), want: size{48, 64}},
		{name: "WEBP of more chunks than are read", as: "a.webp", want: size{64, 48}, warning: "a.webp was not checked: its header is larger than the part of a file that lipdrop reads",
			file: whole(webpFile(8, bytes.Repeat(chunk("ABCD", make([]byte, 200)), 4000), chunk("VP8L", make([]byte, 99))))},
		{name: "WEBP whose XMP metadata end with zeros", as: "a.webp", want: size{64, 48},
			file: whole(webpFile(4, chunk("VP8 ", noise(20000)), chunk("XMP ", make([]byte, 20000))))},
		{name: "WEBP whose metadata end with zeros", as: "a.webp", want: size{64, 48},
			file: whole(webpFile(8, chunk("VP8 ", noise(20000)), chunk("EXIF", make([]byte, 20000))))},
		{name: "WEBP with zeros instead of the end of its metadata", as: "a.webp", want: size{64, 48},
			file: whole(webpFile(8, chunk("VP8 ", noise(20000)), chunk("EXIF", make([]byte, 9)), make([]byte, 20000)))},
		{name: "WEBP, lossless, whose picture ends with zeros", as: "a.webp", want: size{64, 48},
			file: whole(webpFile(0, chunk("VP8L", append(noise(20000), make([]byte, 20000)...))))},
		{name: "WEBP, animated, whose XMP metadata end with zeros", as: "a.webp", want: size{64, 48},
			file: whole(webpFile(6, chunk("ANIM", make([]byte, 6)), bytes.Repeat(chunk("ANMF", noise(20000)), 2), chunk("XMP ", make([]byte, 20000))))},
		{name: "WEBP, upside down", as: "a.webp", file: webp(tiff(binary.LittleEndian, 3)), want: size{64, 48}},
		{name: "WEBP, lossy", as: "a.webp", file: whole(sample(t, "lossy.webp")), want: size{64, 48}},
		{name: "WEBP, lossless", as: "a.webp", file: whole(sample(t, "lossless.webp")), want: size{64, 48}},
		{name: "WEBP, extended", as: "a.webp", file: whole(sample(t, "alpha.webp")), want: size{64, 48}},
		{name: "WEBP, animated", as: "a.webp", file: whole(sample(t, "moving.webp")), want: size{64, 48}},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := count(row.as, row.file.size, row.file)
			info, err := media.Inspect(t.Context(), src.Source)
			src.checkBudget(t)
			if err != nil {
				t.Fatal(err)
			}
			if got := (size{info.Width, info.Height}); got != row.want {
				t.Errorf("got %v pixels, want %v", got, row.want)
			}
			if info.Kind != media.Image || info.Video != nil || info.Audio != nil {
				t.Errorf("got %+v, want an image", info)
			}
			checkWarning(t, info.Warnings, row.warning)
		})
	}
}

// TestBrokenImages inspects images that have a whole header but no whole picture.
func TestBrokenImages(t *testing.T) {
	const noPicture, cut = "it has no picture data", "it ends in the middle of its picture, so the export or the upload broke off"
	picture := jpegFile(jpegFrame(0xc2), jpegScan(90000))
	chunks := slices.Concat(pngHeader(30, 40), bytes.Repeat(pngChunk("IDAT", make([]byte, 8192)), 300))
	for _, row := range []struct {
		name, as string
		data     []byte
		why      string
	}{
		{"JPEG without picture data", "a.jpg", jpegFile(jpegFrame(0xc0), []byte("\xff\xd9")), noPicture},
		{"JPEG with an empty scan", "a.jpg", jpegFile(jpegFrame(0xc0), segment(0xda), []byte("\xff\xd9")), noPicture},
		{"JPEG that ends with its header", "a.jpg", jpegFile(jpegFrame(0xc0), segment(0xda)), noPicture},
		{"JPEG, the last two bytes missing", "a.jpg", picture[:len(picture)-2], cut},
		{"JPEG, half of it missing", "a.jpg", picture[:len(picture)/2], cut},
		{"JPEG with zeros instead of its second half", "a.jpg", append(picture[:len(picture)/2:len(picture)/2], make([]byte, len(picture)/2)...), cut},
		{"JPEG with zeros instead of almost all of its picture", "a.jpg", jpegFile(jpegFrame(0xc0), segment(0xda), bytes.Repeat([]byte{0x28}, 100), make([]byte, 4<<20)), cut},
		{"JPEG that ends in the middle of a white area", "a.jpg", jpegFile(jpegFrame(0xc0), segment(0xda), bytes.Repeat([]byte{0x28, 0xa0, 0x02}, 20000)), cut},
		{"JPEG, all but the first 200 bytes missing", "a.jpg", picture[:200], cut},
		{"PNG without picture data", "a.png", slices.Concat(pngHeader(3, 3), pngChunk("IEND", nil)), noPicture},
		{"PNG with an empty chunk of picture data", "a.png", slices.Concat(pngHeader(3, 3), pngChunk("IDAT", nil), pngChunk("IEND", nil)), noPicture},
		{"PNG without an end", "a.png", slices.Concat(pngHeader(3, 3), pngChunk("IDAT", make([]byte, 9))), cut},
		{"PNG, the last byte missing", "a.png", slices.Concat(pngHeader(3, 3), pngChunk("IDAT", make([]byte, 9)), pngChunk("IEND", nil)[:11]), cut},
		{"PNG of one chunk, cut", "a.png", slices.Concat(pngHeader(3, 3), pngChunk("IDAT", make([]byte, 90000))[:60000]), cut},
		{"PNG with zeros instead of its second half", "a.png", append(chunks[:40000:40000], make([]byte, 1<<20)...), cut},
		{"PNG of more chunks than are read, with zeros instead of its second half", "a.png", slices.Concat(pngHeader(30, 40), bytes.Repeat(pngChunk("IDAT", noise(8192)), 250)[:2_000_000], make([]byte, 2_000_000)), cut},
		{"PNG of many chunks, cut", "a.png", chunks[:len(chunks)-100], cut},
		{"WEBP of metadata only", "a.webp", webpFile(0, chunk("EXIF", make([]byte, 9))), noPicture},
		{"WEBP with zeros instead of its second half", "a.webp", webpFile(0, chunk("VP8 ", append(noise(20000), make([]byte, 20000)...))), cut},
		{"WEBP with zeros instead of its metadata and the end of its picture", "a.webp", webpFile(8, chunk("VP8 ", append(noise(20000), make([]byte, 20000)...)), make([]byte, 20000)), cut},
		{"WEBP with zeros instead of its metadata and the last bytes of its picture", "a.webp", webpFile(8, chunk("VP8 ", append(noise(20000), make([]byte, 200)...)), make([]byte, 20000)), cut},
		{"animated WEBP with zeros instead of the end of its last picture", "a.webp",
			webpFile(0, bytes.Repeat(chunk("ANMF", append(make([]byte, 16), chunk("VP8 ", append(noise(20000), make([]byte, 20000)...))...)), 2)), cut},
		{"animated WEBP with zeros instead of its second picture", "a.webp", webpFile(0, chunk("ANMF", noise(20000)), make([]byte, 20000)), cut},
		{"WEBP whose picture is longer than the file", "a.webp", webpFile(0, le("VP8L", 900, make([]byte, 99))), cut},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := inspectData(t, row.as, row.data)
			got, ok := errors.AsType[*problem.Problem](err)
			if want := row.as + " is damaged: " + row.why; !ok || got.Code != problem.FileDamaged || got.Reason != want {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}
