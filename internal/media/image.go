package media

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"golang.org/x/image/webp"
)

// errNoPicture and errCutPicture report an image that has a header but no whole picture.
const (
	errNoPicture  = damage("it has no picture data")
	errCutPicture = damage("it ends in the middle of its picture, so the export or the upload broke off")
)

// imageTail is how many bytes at the end of an image are searched for the end of its picture.
const imageTail = 16 << 10

// readPNG reads the size of a PNG image from its IHDR chunk, which comes first.
func readPNG(r *reader, info *Info) {
	const signature, headerChunk = 8, 4 + 4 + 13 + 4
	data := r.bytes(signature, headerChunk)
	length, chunk, sum := data[:4], data[4:headerChunk-4], data[headerChunk-4:]
	switch {
	case string(chunk[:4]) == "CgBI":
		panic(refused(info.Name, "a PNG image of an iPhone app (CgBI), which only Apple's programs read", Image))
	case u32(length) != 13 || string(chunk[:4]) != "IHDR":
		panic(damage("it does not begin with the size of its picture"))
	}
	if crc32.ChecksumIEEE(chunk) != u32(sum) {
		panic(damage("the checksum of its header is wrong"))
	}
	setSize(info, u32(chunk[4:]), u32(chunk[8:]))
	checkPNG(r, signature+headerChunk, info)
}

// checkPNG checks that the file has the end of the picture (IEND). The header (IHDR) ends at off.
// A picture may have thousands of chunks, more than the budget allows to read. So at the first
// picture data (IDAT), checkPNG searches the end of the file for IEND. If IEND is not there, other
// data may follow the picture, so checkPNG reads the heads of the other chunks, as far as the budget
// allows.
func checkPNG(r *reader, off int64, info *Info) {
	first := off
	var tail []byte // the end of the file; nil before the first picture data
	cut := false    // the last IDAT chunk in the tail is not whole, or is followed by zeros or by nothing
	for {
		if off > r.src.Size-8 {
			panic(errCutPicture)
		}
		var head []byte
		if !r.inBudget(func() { head = r.step(off, 8) }) { // the budget is used up
			if cut {
				panic(errCutPicture)
			}
			return
		}
		switch kind := string(head[4:]); {
		case kind == "IEND" && tail == nil:
			panic(errNoPicture)
		case kind == "IEND" && off+12 > r.src.Size, head[4] == 0: // a download that broke off may have zeros instead of the rest
			panic(errCutPicture)
		case kind == "IEND":
			return
		case kind == "eXIf":
			info.turn(turnedAside(r, off+8, off+8+int64(u32(head))))
		case kind == "IDAT" && u32(head) > 0 && tail == nil:
			var at int64
			if at, tail = r.tailBeforeZeros(first, imageTail); bytes.Contains(tail, []byte("IEND\xae\x42\x60\x82")) {
				return
			}
			if i := bytes.LastIndex(tail, []byte("IDAT")); i >= 4 {
				next := at + int64(i) + 8 + int64(u32(tail[i-4:]))
				cut = next > r.src.Size || isZero(r.step(next, min(8, r.src.Size-next)))
			}
		}
		off += 8 + int64(u32(head)) + 4
	}
}

// readWEBP reads the size of a lossy, lossless or extended WEBP image, and checks that its picture
// is whole. The size of an animation is the size of its canvas.
func readWEBP(r *reader, info *Info) {
	const enough = 4096 // the size is in the first bytes of the first chunk
	head := r.most(0, enough)
	claimed := int64(binary.LittleEndian.Uint32(head[4:])) + 8
	if claimed > r.src.Size+1 { // some programs count a padding byte that they do not write
		panic(damage("it ends before its picture does"))
	}
	config, err := webp.DecodeConfig(bytes.NewReader(head))
	if err != nil {
		panic(damage("the header of its picture cannot be read"))
	}
	setSize(info, uint32(config.Width), uint32(config.Height))
	pictures, end := 0, int64(0) // the file is cut if the 16 KiB before end are zeros
	still := int64(0)            // end of the picture, if it is not animated
	whole := r.inBudget(func() {
		for c := range r.chunks(12, claimed, binary.LittleEndian) {
			switch {
			case c.kind == "\x00\x00\x00\x00": // zeros instead of the rest, or padding
				const few = 64 // a whole picture does not end with so many zeros
				if still == 0 || isZero(r.step(max(0, still-few), few)) {
					end = min(claimed, r.src.Size)
				}
				return
			case c.kind == "EXIF":
				info.turn(turnedAside(r, c.body, c.end))
				continue
			case c.kind != "VP8 " && c.kind != "VP8L" && c.kind != "ANMF":
				continue
			case c.body == c.end:
				panic(errNoPicture)
			case c.end > r.src.Size:
				panic(errCutPicture)
			}
			kind := c.kind
			if kind != "ANMF" {
				still = c.end
			} else if c.body+20 <= c.end { // a frame has 16 bytes before its picture; ALPH is the transparency of a lossy picture
				kind = string(r.step(c.body+16, 4))
			}
			if pictures++; kind == "VP8 " || kind == "ALPH" { // a lossless picture and metadata may end with zeros, so they are not checked
				end = c.end
			}
		}
	})
	switch {
	case r.endsInZeros(end):
		panic(errCutPicture)
	case pictures > 0:
	case whole:
		panic(errNoPicture)
	default:
		panic(errBudget)
	}
}

func setSize(info *Info, width, height uint32) {
	const most = 1<<31 - 1
	if width == 0 || height == 0 || width > most || height > most {
		panic(damage("its picture has no valid size"))
	}
	info.Width, info.Height = int(width), int(height)
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
	markerLS   = 0xf7
)

// readJPEG reads the size of a JPEG image from its frame header, and checks that its picture is
// whole. It accepts every coding process except JPEG-LS.
func readJPEG(r *reader, info *Info) {
	aside, framed := false, false
	for off := int64(2); ; {
		marker, body, length := nextSegment(r, off)
		switch {
		case marker == markerLS && !framed:
			panic(refused(info.Name, "a JPEG-LS image, which common decoders refuse", Image))
		case !framed && (marker == markerEOI || marker == markerSOS):
			panic(damage("it has no frame header"))
		case marker == markerEOI:
			panic(errNoPicture)
		case marker == markerSOS:
			info.turn(aside)
			checkScan(r, body+length)
			return
		case isFrame(marker) && !framed:
			framed = true
			readFrameHeader(r, body, info)
		case marker == markerAPP1 && !aside:
			aside = turnedAside(r, body, body+length)
		}
		off = body + length
	}
}

// nextSegment finds the first segment at off or after it. Like decoders, it skips stray
// bytes between two segments.
func nextSegment(r *reader, off int64) (marker byte, body, length int64) {
	for {
		head := r.step(off, 2)
		switch marker = head[1]; {
		case head[0] != 0xff || marker == 0xff: // a stray byte, or a fill byte
			off++
			continue
		case marker == 0 || marker == markerTEM || marker >= markerRST0 && marker <= markerSOI:
			off += 2
			continue
		case marker == markerEOI:
			return marker, off + 2, 0
		}
		head = r.step(off, 4)
		if length = int64(binary.BigEndian.Uint16(head[2:])) - 2; length < 0 {
			panic(damage("one of its segments has no length"))
		}
		return marker, off + 4, length
	}
}

// checkScan checks that the picture data, which begin at off, come to an end (EOI). It searches
// the end of the file, and then all data after off if they fit into the budget. If they do not fit,
// the EOI may be in the part that was not searched, because cameras may write other data, such as
// a film, after the picture. The picture is then cut if the end of the file has markers, but only
// those that occur in picture data. It is also cut if only zeros follow its first 16 KiB.
func checkScan(r *reader, off int64) {
	at, tail := r.tailBeforeZeros(off, imageTail)
	coded, foreign := false, false
	for i := 1; i < len(tail); i++ {
		if tail[i-1] != 0xff {
			continue
		}
		switch marker := tail[i]; {
		case marker == markerEOI && at == off && i == 1:
			panic(errNoPicture)
		case marker == markerEOI:
			return
		case marker == 0 || marker >= markerRST0 && marker <= markerRST7:
			coded = true
		case marker != 0xff && marker != markerDHT && marker != markerSOS && marker != markerDQT && marker != markerDNL && marker != markerDRI:
			foreign = true
		}
	}
	var all []byte
	whole := r.inBudget(func() { all = r.bytes(off, r.src.Size-off) })
	switch {
	case bytes.Contains(all, []byte{0xff, markerEOI}):
	case len(tail) == 0:
		panic(errNoPicture)
	case whole, at == off, coded && !foreign:
		panic(errCutPicture)
	}
}

func isFrame(marker byte) bool {
	return marker >= markerSOF0 && marker <= markerSOFF &&
		marker != markerDHT && marker != markerJPG && marker != markerDAC
}

func readFrameHeader(r *reader, body int64, info *Info) {
	data := r.bytes(body, 5)
	height, width := binary.BigEndian.Uint16(data[1:]), binary.BigEndian.Uint16(data[3:])
	if height == 0 { // JPEG allows this; the height then follows the first scan
		info.warn("%s does not say at its beginning how high its picture is, so the size of the picture is not checked", r.src.Name)
		return
	}
	setSize(info, uint32(width), uint32(height))
}

// turn swaps width and height if aside is set.
func (i *Info) turn(aside bool) {
	if aside {
		i.Width, i.Height = i.Height, i.Width
	}
}

// turnedAside reports whether the metadata between off and end hold an EXIF orientation that
// turns the picture by 90 degrees (EXIF 2.32, tag 0x0112, values 5 to 8). It returns
// false for malformed metadata.
func turnedAside(r *reader, off, end int64) bool {
	const preamble = "Exif\x00\x00" // in every JPEG, and in some WEBP images
	const orientation = 0x0112
	end = min(end, r.src.Size)
	field := func(off, n int64) []byte { // zeros if it is not there
		if off > end-n {
			return make([]byte, n)
		}
		return r.bytes(off, n)
	}
	if string(field(off, int64(len(preamble)))) == preamble {
		off += int64(len(preamble))
	}
	head := field(off, 8)
	var order binary.ByteOrder
	switch string(head[:2]) {
	case "II":
		order = binary.LittleEndian
	case "MM":
		order = binary.BigEndian
	default:
		return false
	}
	dir := off + int64(order.Uint32(head[4:]))
	count := field(dir, 2)
	for i := range min(int64(order.Uint16(count)), (end-dir)/12) {
		entry := field(dir+2+12*i, 12)
		if order.Uint16(entry) == orientation {
			const long = 4 // the type of a number of 32 bits; the usual type has 16
			value := uint32(order.Uint16(entry[8:]))
			if order.Uint16(entry[2:]) == long {
				value = order.Uint32(entry[8:])
			}
			return value >= 5 && value <= 8
		}
	}
	return false
}
