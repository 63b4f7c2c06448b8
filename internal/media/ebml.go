package media

import (
	"math"
	"math/bits"
)

// element is an element of a Matroska file. The field end is never past the end of the parent.
type element struct {
	id        uint32
	body, end int64
	open      bool // it does not say how long it is
	cut       bool // by its size, it would end after its parent does
}

// errElement reports bytes that are not an element.
const errElement = damage("its elements do not fit together")

// longestHead is how many bytes the identifier and the size of an element take at most.
const longestHead = 12

// element reads the head of the element at off. The parent of the element ends at limit.
func (r *reader) element(off, limit int64) (element, error) {
	var head []byte
	if err := try(func() { head = r.step(off, min(longestHead, limit-off)) }); err != nil {
		return element{}, err
	}
	tooShort := errEnd
	if limit < r.src.Size {
		tooShort = errElement
	}
	if len(head) == 0 {
		return element{}, tooShort
	}
	n := bits.LeadingZeros8(head[0]) + 1
	switch {
	case n > 4:
		return element{}, errElement
	case len(head) <= n:
		return element{}, tooShort
	}
	size, known, length := vint(head[n:])
	switch {
	case head[n] == 0: // a size has at most eight bytes
		return element{}, errElement
	case length == 0:
		return element{}, tooShort
	}
	var id uint32
	for _, b := range head[:n] {
		id = id<<8 | uint32(b)
	}
	e := element{id: id, body: off + int64(n+length), end: limit, open: !known}
	e.cut = known && size > limit-e.body
	if known && !e.cut {
		e.end = e.body + size
	}
	return e, nil
}

// vint reads a number of variable length. A number whose bits are all ones means "not known".
// vint also returns how many bytes the number takes, or 0 if data holds no complete number.
func vint(data []byte) (n int64, known bool, length int) {
	if len(data) == 0 {
		return 0, false, 0
	}
	length = bits.LeadingZeros8(data[0]) + 1
	if length > 8 || length > len(data) {
		return 0, false, 0
	}
	n = int64(data[0]) & (1<<(8-length) - 1)
	for _, b := range data[1:length] {
		n = n<<8 | int64(b)
	}
	return n, n != 1<<(7*length)-1, length
}

// elements calls visit for each element between off and end.
func (r *reader) elements(off, end int64, visit func(element)) {
	for off < end {
		e, err := r.element(off, end)
		if err != nil {
			panic(err)
		}
		visit(e)
		off = e.end
	}
}

// value returns the body of an element, or its first n bytes if it is longer.
func (r *reader) value(e element, n int64) (data []byte) {
	_ = try(func() { data = r.step(e.body, min(n, e.end-e.body)) }) // after an error, data stays nil, which callers treat as an empty body
	return data
}

func (r *reader) number(e element) (n uint64) {
	for _, b := range r.value(e, 8) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) float(e element) float64 {
	switch data := r.value(e, 8); len(data) {
	case 4:
		return float64(math.Float32frombits(u32(data)))
	case 8:
		return math.Float64frombits(u64(data))
	}
	return 0
}
