package media

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// box is a box of an ISO base media file (ISO 14496-12, 4.2). Apple calls it an atom.
// Its offsets count from the beginning of the file. Its end may be past the end of the
// box that contains it.
type box struct {
	kind           string
	off, body, end int64
}

const errBox = damage("the lengths of its boxes do not fit together")

// box reads the header of the box at off. A box of size 0 extends to limit, which is
// the end of the enclosing box or of the file.
func (r *reader) box(off, limit int64) box {
	const short, long = 8, 16
	head := r.step(off, short)
	b := box{kind: string(head[4:8]), off: off, body: off + short}
	size := uint64(u32(head))
	switch size {
	case 0:
		size = uint64(limit - off)
	case 1:
		head = r.step(off, long)
		b.body = off + long
		size = u64(head[8:])
	}
	if size < uint64(b.body-off) || size > math.MaxInt64-uint64(off) {
		panic(errBox)
	}
	b.end = off + int64(size)
	return b
}

// boxes calls visit for each box between off and end. It panics with errBox if a box
// extends past end. It ignores up to 7 bytes at the end, because QuickTime writes a
// terminator there that is shorter than a box header.
func (r *reader) boxes(off, end int64, visit func(box)) {
	for off <= end-8 {
		b := r.box(off, end)
		if b.end > end {
			panic(errBox)
		}
		visit(b)
		off = b.end
	}
}

// children calls visit for each box between off and end, the body of a parent box. Like
// players, it accepts two mistakes. If a box claims to end after its parent, children lets
// the box end with the parent. If the length of a box is impossible, children ignores the
// rest of the parent. children panics with errCutIndex if a box that a player needs whole
// extends past the end of the file.
func (r *reader) children(off, end int64, visit func(box)) {
	for off <= end-8 {
		var b box
		switch err := try(func() { b = r.box(off, end) }); {
		case errors.Is(err, errBox):
			r.misfit = true
			return
		case err != nil:
			panic(err)
		}
		if b.end > r.src.Size && slices.Contains(needed, b.kind) {
			panic(errCutIndex)
		}
		if b.end > end {
			r.misfit = true
			b.end = end
		}
		visit(b)
		off = b.end
	}
}

// unwrittenFrom reports whether the file has only zeros from off to its end, as after a download
// that broke off. It reads only the first and the last StepBytes of this range.
func (r *reader) unwrittenFrom(off int64) bool {
	n := min(StepBytes, r.src.Size-off)
	return isZero(r.step(off, n)) && isZero(r.step(r.src.Size-n, n))
}

const errCutIndex = damage("it ends in the middle of its index (moov), so the export or the upload broke off")

// needed are boxes in moov without which a movie cannot be shown. Of the boxes that hold others, only
// mvex and stsd are listed: the end of another may hold only what a player does not need.
var needed = []string{"mvhd", "tkhd", "mdhd", "hdlr", "stsd", "stts", "ctts", "stsc", "stsz", "stz2", "stco", "co64", "mvex", "trex"}

// fields returns the first n bytes of a box's body.
func (r *reader) fields(b box, n int64) []byte {
	if n > b.end-b.body {
		panic(damage("its " + b.kind + " box is too short"))
	}
	return r.bytes(b.body, n)
}

// versioned returns the flags of a box and a cursor over the first fields after the flags. In
// version 0 these fields take n bytes. In later versions, some of these fields have 64 bits
// instead of 32. wideFields is the number of these longer fields.
func (r *reader) versioned(b box, n, wideFields int64) (c cursor, flags uint32) {
	data := r.fields(b, 1)
	if c.wide = data[0] != 0; c.wide {
		n += 4 * wideFields
	}
	data = r.fields(b, 4+n)
	c.data = data[4:]
	return c, u32(data) & 0xffffff
}

// cursor takes one field after the other from the beginning of data.
type cursor struct {
	data []byte
	wide bool // times, lengths and offsets have 64 bits
}

func (c *cursor) take(n int) []byte {
	field := c.data[:n]
	c.data = c.data[n:]
	return field
}

func (c *cursor) u32() uint32 { return u32(c.take(4)) }

// word returns a time, a length or an offset.
func (c *cursor) word() uint64 {
	if c.wide {
		return u64(c.take(8))
	}
	return uint64(c.u32())
}

// signed returns a time that may be negative.
func (c *cursor) signed() int64 {
	if c.wide {
		return int64(c.word())
	}
	return int64(int32(c.u32()))
}

func u32(data []byte) uint32 { return binary.BigEndian.Uint32(data) }
func u64(data []byte) uint64 { return binary.BigEndian.Uint64(data) }
