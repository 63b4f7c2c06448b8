package media

import (
	"encoding/binary"
	"iter"
	"time"
)

// chunk is a chunk of a RIFF file. Its end may be past the end of its parent.
type chunk struct {
	kind      string
	body, end int64
	next      int64 // offset of the next chunk, after padding
}

// chunks returns the chunks between off and end.
func (r *reader) chunks(off, end int64, order binary.ByteOrder) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for off <= end-8 {
			head := r.step(off, 8)
			length := int64(order.Uint32(head[4:]))
			c := chunk{string(head[:4]), off + 8, off + 8 + length, off + 8 + length + length%2}
			if !yield(c) {
				return
			}
			off = c.next
		}
	}
}

// avi is what was read of an AVI file and of the stream whose header was read last.
type avi struct {
	info    *Info
	kind    string // of the stream
	length  Length // of the stream
	frame   uint64 // nanoseconds of a frame of the stream
	data    bool   // there is a list of media data that is not empty
	open    bool   // the list does not say how long it is
	start   int64  // offset of the media data
	fullEnd int64  // where the media data end if the file is not cut
	indexed int64  // entries of the index, one for each picture and each piece of sound; 0 if there is no index
}

// readAVI reads the stream headers of an AVI file. A header says how long its stream is.
// A file of more than a gigabyte has several RIFF chunks. The first holds the headers.
func readAVI(r *reader, info *Info) {
	a := avi{info: info}
	end := int64(0) // of the last RIFF chunk
	for c := range r.chunks(0, r.src.Size, binary.LittleEndian) {
		if c.kind != "RIFF" {
			break // what follows the last RIFF chunk is ignored
		}
		if c.body == 8 { // the first chunk
			a.walk(r, c.body+4, r.src.Size)
		} else {
			a.fullEnd = max(a.fullEnd, c.end)
			a.indexed = 0 // the index lists only what is in the first chunk
		}
		end = min(c.end, r.src.Size)
	}
	if !a.data {
		panic(damage("it holds no pictures and no sound, only their description"))
	}
	cut := !a.open && (a.fullEnd > r.src.Size || r.endsInZeros(end))
	share := min(1, float64(r.src.Size-a.start)/float64(max(a.fullEnd-a.start, 1))) // what part of the media data the file holds
	for _, t := range []*Track{info.Video, info.Audio} {
		switch {
		case t == nil:
			continue
		case cut:
			t.Length = Length{D: time.Duration(float64(t.Length.D) * share)}
		case a.open || t.Length.D == 0:
			t.Length = Length{}
		case t == info.Video && a.indexed > 0 && float64(a.indexed)*float64(t.Frame) < float64(t.Length.D): // the header claims more pictures than the index lists
			t.Length.Exact = false
		}
		info.warnUnusual(t, unusualCodecs[t.Codec])
	}
	switch video := info.Video; {
	case cut:
		info.warn("%s ends in the middle of its pictures and sound: it may have been cut short", r.src.Name)
	case video != nil && !video.Length.Known():
		info.warn("%s does not say how long it is, so its length is not checked", r.src.Name)
	}
}

// walk reads the chunks between off and end, up to the media data, and the length of an index that
// follows them.
func (a *avi) walk(r *reader, off, end int64) {
	for c := range r.chunks(off, end, binary.LittleEndian) {
		stop := min(c.end, end)
		if c.kind == "LIST" && c.body+4 <= end {
			list := r.step(c.body, 4)
			switch string(list) {
			case "hdrl", "strl":
				a.walk(r, c.body+4, stop)
			case "movi":
				a.open = isPlaceholder(uint64(c.end-c.body), uint64(end-c.body))
				a.data = a.open && end-c.body > 4 || stop-c.body > 4
				a.start, a.fullEnd = c.body, c.end
				if !a.open && c.next <= end-8 {
					const entry = 16
					if head := r.step(c.next, 8); string(head[:4]) == "idx1" {
						a.indexed = int64(binary.LittleEndian.Uint32(head[4:])) / entry
					}
				}
				return
			}
			continue
		}
		fields := r.step(c.body, min(stop-c.body, 56))
		switch c.kind {
		case "strh":
			a.readHeader(fields)
		case "strf":
			a.readFormat(fields)
		}
	}
}

func (a *avi) readHeader(fields []byte) {
	le := binary.LittleEndian
	if len(fields) < 48 {
		return
	}
	a.kind = string(fields[:4])
	scale, rate := uint64(le.Uint32(fields[20:])), uint64(le.Uint32(fields[24:]))
	a.length = Length{}
	if a.frame, _ = mulDiv(scale, uint64(time.Second), rate); scale > 0 {
		a.length = factFromUnits(uint64(le.Uint32(fields[32:]))*scale, rate)
	}
	if sampleSize := le.Uint32(fields[44:]); a.kind == "auds" && sampleSize == 0 {
		a.length.Exact = false // programs count the packets of such a stream in several ways
	}
}

func (a *avi) readFormat(fields []byte) {
	le, info := binary.LittleEndian, a.info
	frame := time.Duration(min(a.frame, uint64(time.Hour)))
	switch {
	case a.kind == "vids" && len(fields) >= 20 && info.Video == nil:
		info.Video = &Track{Codec: pictureCodec(fields[16:20]), Length: a.length, Frame: frame}
		height := int32(le.Uint32(fields[8:]))
		info.Width, info.Height = int(le.Uint32(fields[4:])&0x7fffffff), int(max(height, -height, 0))
	case a.kind == "auds" && len(fields) >= 2 && info.Audio == nil:
		info.Audio = &Track{Codec: wavCodecs[le.Uint16(fields)], Length: a.length}
	case a.kind == "iavs" && info.Video == nil && info.Audio == nil: // DV, which holds pictures and sound in one stream
		info.Video = &Track{Codec: "dvvideo", Length: a.length, Frame: frame}
		info.Audio = &Track{Codec: "pcm", Length: a.length}
	}
}
