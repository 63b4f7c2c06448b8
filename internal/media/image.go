package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"golang.org/x/image/webp"
)

// errNoPicture and errCutPicture report an image with a header and no whole picture.
const (
	errNoPicture  = damage("it has no picture data")
	errCutPicture = damage("it ends in the middle of its picture, so the export or the upload broke off")
)

// imageTail is how much of the end of an image is searched for the end of its picture.
const imageTail = 16 << 10

// readPNG reads the size of a PNG image from its IHDR chunk, which comes first.
func readPNG(r *reader, info *Info) error {
	const signature, headerChunk = 8, 4 + 4 + 13 + 4
	data, err := r.bytes(signature, headerChunk)
	if err != nil {
		return err
	}
	length, chunk, sum := data[:4], data[4:headerChunk-4], data[headerChunk-4:]
	if u32(length) != 13 || string(chunk[:4]) != "IHDR" {
		return damage("it does not begin with the size of its picture")
	}
	if crc32.ChecksumIEEE(chunk) != u32(sum) {
		return damage("the checksum of its header is wrong")
	}
	if err := setSize(info, u32(chunk[4:]), u32(chunk[8:])); err != nil {
		return err
	}
	return checkPNG(r, signature+headerChunk)
}

// checkPNG checks that the chunks from off on reach the end of the picture (IEND). A
// picture may have thousands of chunks, so checkPNG looks at the end of the file before
// it follows them. Other data may follow the picture.
func checkPNG(r *reader, off int64) error {
	first := off
	var tail []byte // the end of the file; nil before the first picture data
	for {
		head, err := r.step(off, 8)
		switch {
		case errors.Is(err, errEnd):
			return errCutPicture
		case errors.Is(err, errBudget): // check the last chunk of picture data that begins in the tail
			if i := bytes.LastIndex(tail, []byte("IDAT")); i >= 4 && int64(u32(tail[i-4:])) > int64(len(tail[i+4:])) {
				return errCutPicture
			}
			return nil
		case err != nil:
			return err
		}
		switch kind := string(head[4:]); {
		case kind == "IEND" && tail == nil:
			return errNoPicture
		case kind == "IEND" && off+12 > r.src.Size, head[4] == 0: // a download that broke off may have zeros instead of the rest
			return errCutPicture
		case kind == "IEND":
			return nil
		case kind == "IDAT" && tail == nil:
			if _, tail, err = r.tail(first, imageTail); err != nil || bytes.Contains(tail, []byte("IEND\xae\x42\x60\x82")) {
				return err
			}
		}
		off += 8 + int64(u32(head)) + 4
	}
}

// readWEBP reads the size of a lossy, lossless or extended WEBP image. The size of an
// animation is the size of its canvas.
func readWEBP(r *reader, info *Info) error {
	const enough = 4096 // the size is in the first bytes of the first chunk
	head, err := r.most(0, enough)
	if err != nil {
		return err
	}
	claimed := int64(binary.LittleEndian.Uint32(head[4:])) + 8
	if claimed > r.src.Size+1 { // some programs count a padding byte that they do not write
		return damage("it ends before its picture does")
	}
	config, err := webp.DecodeConfig(bytes.NewReader(head))
	if err != nil {
		return damage("the header of its picture cannot be read")
	}
	if err := setSize(info, uint32(config.Width), uint32(config.Height)); err != nil {
		return err
	}
	for c, err := range r.chunks(12, claimed, binary.LittleEndian) {
		switch {
		case err != nil:
			return err
		case c.kind != "VP8 " && c.kind != "VP8L" && c.kind != "ANMF":
			continue
		case c.body == c.end:
			return errNoPicture
		case c.end > r.src.Size:
			return errCutPicture
		}
		return nil
	}
	return errNoPicture
}

func setSize(info *Info, width, height uint32) error {
	const most = 1<<31 - 1
	if width == 0 || height == 0 || width > most || height > most {
		return damage("its picture has no size")
	}
	info.Width, info.Height = int(width), int(height)
	return nil
}

// JPEG markers.
const (
	markerTEM  = 0x01
	markerSOF0 = 0xc0
	markerDHT  = 0xc4
	markerJPG  = 0xc8
	markerDAC  = 0xcc
	markerSOFF = 0xcf
	markerRST0 = 0xd0
	markerRST7 = 0xd7
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerDQT  = 0xdb
	markerDNL  = 0xdc
	markerDRI  = 0xdd
	markerAPP1 = 0xe1
)

// readJPEG reads the size of a JPEG image from its frame header. It accepts every
// coding process. It swaps width and height if the EXIF orientation turns the picture
// by 90 degrees.
func readJPEG(r *reader, info *Info) error {
	aside, framed := false, false
	for off := int64(2); ; {
		marker, body, length, err := nextSegment(r, off)
		if err != nil {
			return err
		}
		switch {
		case !framed && (marker == markerEOI || marker == markerSOS):
			return damage("it has no frame header")
		case marker == markerEOI:
			return errNoPicture
		case marker == markerSOS:
			return checkScan(r, body+length)
		case isFrame(marker) && !framed:
			framed = true
			err = readFrameHeader(r, body, aside, info)
		case marker == markerAPP1 && !aside:
			if aside, err = turnedAside(r, body, length); errors.Is(err, errEnd) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
		off = body + length
	}
}

// nextSegment finds the first segment at off or after it. Like decoders, it skips stray
// bytes between two segments.
func nextSegment(r *reader, off int64) (marker byte, body, length int64, err error) {
	for {
		head, err := r.step(off, 2)
		if err != nil {
			return 0, 0, 0, err
		}
		switch marker = head[1]; {
		case head[0] != 0xff || marker == 0xff: // a stray byte, or a fill byte
			off++
			continue
		case marker == 0 || marker == markerTEM || marker >= markerRST0 && marker <= markerSOI:
			off += 2
			continue
		case marker == markerEOI:
			return marker, off + 2, 0, nil
		}
		if head, err = r.step(off, 4); err != nil {
			return 0, 0, 0, err
		}
		if length = int64(binary.BigEndian.Uint16(head[2:])) - 2; length < 0 {
			return 0, 0, 0, damage("one of its segments has no length")
		}
		return marker, off + 4, length, nil
	}
}

// checkScan checks that the picture data, which begin at off, come to an end (EOI).
// Cameras write other data after the picture, such as a film. In picture data only a few
// markers follow the byte 0xff. So checkScan can recognize a file that ends in the middle
// of its picture.
func checkScan(r *reader, off int64) error {
	at, tail, err := r.tail(off, imageTail)
	if err != nil {
		return err
	}
	coded, foreign := false, false
	for i := 1; i < len(tail); i++ {
		if tail[i-1] != 0xff {
			continue
		}
		switch marker := tail[i]; {
		case marker == markerEOI && at == off && i == 1:
			return errNoPicture
		case marker == markerEOI:
			return nil
		case marker == 0 || marker >= markerRST0 && marker <= markerRST7:
			coded = true
		case marker != 0xff && marker != markerDHT && marker != markerSOS && marker != markerDQT && marker != markerDNL && marker != markerDRI:
			foreign = true
		}
	}
	switch {
	case len(tail) == 0:
		return errNoPicture
	case at == off || coded && !foreign:
		return errCutPicture
	}
	return nil
}

func isFrame(marker byte) bool {
	return marker >= markerSOF0 && marker <= markerSOFF &&
		marker != markerDHT && marker != markerJPG && marker != markerDAC
}

func readFrameHeader(r *reader, body int64, aside bool, info *Info) error {
	data, err := r.bytes(body, 5)
	if err != nil {
		return err
	}
	height, width := binary.BigEndian.Uint16(data[1:]), binary.BigEndian.Uint16(data[3:])
	if height == 0 { // JPEG allows this; the height then follows the first scan
		info.warn("%s does not say at its beginning how high it is, so its size is not checked", r.src.Name)
		return nil
	}
	if aside {
		width, height = height, width
	}
	return setSize(info, uint32(width), uint32(height))
}

// turnedAside reports whether the APP1 segment at body holds an EXIF orientation that
// turns the picture by 90 degrees (EXIF 2.32, tag 0x0112, values 5 to 8). It returns
// errEnd for malformed metadata.
func turnedAside(r *reader, body, length int64) (bool, error) {
	const preamble = "Exif\x00\x00"
	const orientation = 0x0112
	field := func(off, n int64) ([]byte, error) {
		if off > body+length-n {
			return nil, errEnd
		}
		return r.bytes(off, n)
	}
	head, err := field(body, int64(len(preamble))+8)
	if err != nil || string(head[:len(preamble)]) != preamble {
		return false, err
	}
	var order binary.ByteOrder = binary.BigEndian
	tiff := head[len(preamble):]
	if string(tiff[:2]) == "II" {
		order = binary.LittleEndian
	}
	dir := body + int64(len(preamble)) + int64(order.Uint32(tiff[4:]))
	count, err := field(dir, 2)
	if err != nil {
		return false, err
	}
	for i := range int64(order.Uint16(count)) {
		entry, err := field(dir+2+12*i, 12)
		if err != nil {
			return false, err
		}
		if order.Uint16(entry) == orientation {
			value := order.Uint16(entry[8:])
			return value >= 5 && value <= 8, nil
		}
	}
	return false, nil
}
