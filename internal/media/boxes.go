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

// errBox reports a box whose length is impossible.
const errBox = damage("the lengths of its boxes do not fit together")

// box reads the header of the box at off. A box of size 0 extends to limit, which is
// the end of the enclosing box or of the file.
func (r *reader) box(off, limit int64) (box, error) {
	const short, long = 8, 16
	head, err := r.step(off, short)
	if err != nil {
		return box{}, err
	}
	b := box{kind: string(head[4:8]), off: off, body: off + short}
	switch size := uint64(binary.BigEndian.Uint32(head)); size {
	case 0:
		b.end = limit
		return b, nil
	case 1:
		if head, err = r.step(off, long); err != nil {
			return box{}, err
		}
		b.body = off + long
		if size = binary.BigEndian.Uint64(head[8:]); size > math.MaxInt64-uint64(off) {
			return box{}, errBox
		}
		b.end = off + int64(size)
	default:
		b.end = off + int64(size)
	}
	if b.end < b.body {
		return box{}, errBox
	}
	return b, nil
}

// boxes calls visit for each box between off and end. It returns errBox if a box
// extends past end. It ignores up to 7 bytes at the end, because QuickTime writes a
// terminator there that is shorter than a box header.
func (r *reader) boxes(off, end int64, visit func(box) error) error {
	for off <= end-8 {
		b, err := r.box(off, end)
		if err != nil {
			return err
		}
		if b.end > end {
			return errBox
		}
		if err := visit(b); err != nil {
			return err
		}
		off = b.end
	}
	return nil
}

// children calls visit for each box between off and end. Like players, it accepts two
// mistakes: a last box that claims to be longer than its parent ends where the parent
// does, and bytes that are no box are ignored. It returns errCutIndex if a box that a
// player needs extends past the end of the file.
func (r *reader) children(off, end int64, visit func(box) error) error {
	for off <= end-8 {
		b, err := r.box(off, end)
		if errors.Is(err, errBox) {
			r.misfit = true
			return nil
		}
		if err != nil {
			return err
		}
		if b.end > r.src.Size && slices.Contains(needed, b.kind) {
			return errCutIndex
		}
		if b.end > end {
			r.misfit = true
			b.end = end
		}
		if err := visit(b); err != nil {
			return err
		}
		off = b.end
	}
	return nil
}

// errCutIndex reports that a file ends before its index does.
const errCutIndex = damage("it ends in the middle of its index (moov), so the export or the upload broke off")

// needed are boxes in moov without which a movie cannot be shown.
var needed = []string{
	"mvhd", "trak", "tkhd", "mdia", "mdhd", "hdlr", "minf", "stbl", "stsd", "stts", "ctts", "stsc", "stsz", "stz2", "stco", "co64", "mvex", "trex",
}

// fields returns the first n bytes of a box's body.
func (r *reader) fields(b box, n int64) ([]byte, error) {
	if n > b.end-b.body {
		return nil, damage("its " + b.kind + " box is too short")
	}
	return r.bytes(b.body, n)
}

// versioned returns the fields of a box whose body begins with a version. The fields
// take v0 bytes in version 0 and v1 bytes in later versions.
func (r *reader) versioned(b box, v0, v1 int64) (data []byte, version byte, err error) {
	if data, err = r.fields(b, 1); err != nil {
		return nil, 0, err
	}
	if version = data[0]; version == 0 {
		data, err = r.fields(b, v0)
	} else {
		data, err = r.fields(b, v1)
	}
	return data, version, err
}

// flags returns the 24 bits after the version byte.
func flags(data []byte) uint32 { return binary.BigEndian.Uint32(data) & 0xffffff }

func u32(data []byte) uint32 { return binary.BigEndian.Uint32(data) }
func u64(data []byte) uint64 { return binary.BigEndian.Uint64(data) }
