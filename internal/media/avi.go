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
func (r *reader) chunks(off, end int64, order binary.ByteOrder) iter.Seq2[chunk, error] {
	return func(yield func(chunk, error) bool) {
		for off <= end-8 {
			head, err := r.step(off, 8)
			if err != nil {
				yield(chunk{}, err)
				return
			}
			length := int64(order.Uint32(head[4:]))
			c := chunk{string(head[:4]), off + 8, off + 8 + length, off + 8 + length + length%2}
			if !yield(c, nil) {
				return
			}
			off = c.next
		}
	}
}

// readAVI reads the stream headers of an AVI file. They say how many frames a stream has.
func readAVI(r *reader, info *Info) error {
	le := binary.LittleEndian
	var kind string           // of the stream that is being read
	var length Length         // of that stream
	var frame uint64          // nanoseconds of a frame of that stream
	data, cut := false, false // there is a list of media data; the file ends in it
	share := 1.0              // how much of the media data the file holds
	var walk func(off, end int64) error
	walk = func(off, end int64) error {
		for c, err := range r.chunks(off, end, le) {
			if err != nil {
				return err
			}
			stop := min(c.end, end)
			if c.kind == "LIST" && c.body+4 <= end {
				list, err := r.step(c.body, 4)
				if err != nil {
					return err
				}
				switch string(list) {
				case "hdrl", "strl":
					if err := walk(c.body+4, stop); err != nil {
						return err
					}
				case "movi":
					data, cut = stop-c.body > 4, c.next > r.src.Size+1
					share = float64(stop-c.body) / float64(max(c.next-c.body, 1))
					return nil // nothing after the media data is needed
				}
				continue
			}
			fields, err := r.step(c.body, min(stop-c.body, 56))
			if err != nil {
				return err
			}
			switch {
			case c.kind == "strh" && len(fields) >= 36:
				kind = string(fields[:4])
				scale, rate := uint64(le.Uint32(fields[20:])), uint64(le.Uint32(fields[24:]))
				length = Length{}
				if frame, _ = mulDiv(scale, uint64(time.Second), rate); scale > 0 {
					length = fact(uint64(le.Uint32(fields[32:]))*scale, rate)
				}
			case c.kind == "strf" && kind == "vids" && len(fields) >= 20 && info.Video == nil:
				info.Video = &Track{Codec: pictureCodec(fields[16:20]), Length: length, Frame: time.Duration(min(frame, uint64(time.Hour)))}
				height := int32(le.Uint32(fields[8:]))
				info.Width, info.Height = int(le.Uint32(fields[4:])&0x7fffffff), int(max(height, -height, 0))
			case c.kind == "strf" && kind == "auds" && len(fields) >= 2 && info.Audio == nil:
				info.Audio = &Track{Codec: wavCodecs[le.Uint16(fields)], Length: length}
			}
		}
		return nil
	}
	if err := walk(12, r.src.Size); err != nil {
		return err
	}
	if !data {
		return damage("it holds no pictures and no sound, only their description")
	}
	for _, t := range []*Track{info.Video, info.Audio} {
		switch {
		case t == nil:
		case cut:
			t.Length = Length{D: time.Duration(float64(t.Length.D) * share)}
		case t.Length.D == 0:
			t.Length = Length{}
		}
		if t != nil {
			info.warnRare(t, rare[t.Codec])
		}
	}
	switch video := info.Video; {
	case cut:
		info.warn("%s ends in the middle of its pictures and sound: it may have been cut short", r.src.Name)
	case video != nil && !video.Length.Known():
		info.warn("%s does not say how long it is, so its duration is not checked", r.src.Name)
	}
	return nil
}
