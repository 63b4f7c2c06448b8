package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"golang.org/x/image/webp"
)

// readPNG reads the size of a PNG image from its IHDR chunk, which comes first.
func readPNG(r *reader, info *Info) error {
	const signature, headerChunk = 8, 4 + 4 + 13 + 4
	data, err := r.bytes(signature, headerChunk)
	if err != nil {
		return err
	}
	length, chunk, sum := data[:4], data[4:headerChunk-4], data[headerChunk-4:]
	if binary.BigEndian.Uint32(length) != 13 || string(chunk[:4]) != "IHDR" {
		return damage("it does not begin with the size of its picture")
	}
	if crc32.ChecksumIEEE(chunk) != binary.BigEndian.Uint32(sum) {
		return damage("the checksum of its header is wrong")
	}
	return setSize(info, binary.BigEndian.Uint32(chunk[4:]), binary.BigEndian.Uint32(chunk[8:]))
}

// readWEBP reads the size of a lossy, lossless or extended WEBP image. The size of an
// animation is the size of its canvas.
func readWEBP(r *reader, info *Info) error {
	const enough = 4096 // the size is in the first bytes of the first chunk
	head, err := r.most(0, enough)
	if err != nil {
		return err
	}
	if claimed := int64(binary.LittleEndian.Uint32(head[4:])) + 8; claimed > r.src.Size {
		return damage("it ends before its picture does")
	}
	config, err := webp.DecodeConfig(bytes.NewReader(head))
	if err != nil {
		return damage("the header of its picture cannot be read")
	}
	return setSize(info, uint32(config.Width), uint32(config.Height))
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
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerAPP1 = 0xe1
)

// readJPEG reads the size of a JPEG image from its frame header. It accepts every
// coding process. It swaps width and height if the EXIF orientation turns the picture
// by 90 degrees.
func readJPEG(r *reader, info *Info) error {
	aside := false
	off := int64(2)
	for {
		head, err := r.bytes(off, 2)
		if err != nil {
			return err
		}
		marker := head[1]
		switch {
		case head[0] != 0xff:
			return damage("its segments do not follow one another")
		case marker == 0xff: // a fill byte
			off++
			continue
		case marker == markerTEM || marker >= markerRST0 && marker <= markerSOI:
			off += 2
			continue
		case marker == markerEOI || marker == markerSOS:
			return damage("it has no frame header")
		}
		if head, err = r.bytes(off, 4); err != nil {
			return err
		}
		body, length := off+4, int64(binary.BigEndian.Uint16(head[2:]))-2
		if length < 0 {
			return damage("one of its segments has no length")
		}
		switch {
		case isFrame(marker):
			return readFrameHeader(r, body, aside, info)
		case marker == markerAPP1 && !aside:
			if aside, err = turnedAside(r, body, length); err != nil {
				return err
			}
		}
		off = body + length
	}
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
// false for malformed metadata.
func turnedAside(r *reader, body, length int64) (bool, error) {
	const preamble = "Exif\x00\x00"
	const orientation = 0x0112
	end := body + length
	field := func(off, n int64) ([]byte, error) {
		if off > end-n {
			return nil, errEnd
		}
		return r.bytes(off, n)
	}
	tiff := body + int64(len(preamble))
	head, err := field(body, int64(len(preamble))+8)
	if err != nil || string(head[:len(preamble)]) != preamble {
		return false, unlessEnd(err)
	}
	var order binary.ByteOrder = binary.BigEndian
	if head = head[len(preamble):]; string(head[:2]) == "II" {
		order = binary.LittleEndian
	}
	dir := tiff + int64(order.Uint32(head[4:]))
	data, err := field(dir, 2)
	if err != nil {
		return false, unlessEnd(err)
	}
	for i := range int64(order.Uint16(data)) {
		entry, err := field(dir+2+12*i, 12)
		if err != nil {
			return false, unlessEnd(err)
		}
		if order.Uint16(entry) == orientation {
			value := order.Uint16(entry[8:])
			return value >= 5 && value <= 8, nil
		}
	}
	return false, nil
}

func unlessEnd(err error) error {
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}
