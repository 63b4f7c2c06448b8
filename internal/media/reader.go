package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Inspect reads at most MaxBytes of a file, in at most MaxCalls calls of ReadRange.
// A file of many boxes or segments may need up to MaxSteps more calls. Each of these calls reads
// at most StepBytes, which are not part of MaxBytes.
const (
	MaxBytes  = 512 << 10
	MaxCalls  = 12
	MaxSteps  = 128
	StepBytes = 512
)

// try calls parse and returns the error with which it panicked, or nil. Because the reader
// panics, a parser need not check each of its many reads. No such panic leaves the package.
func try(parse func()) (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case damage, unread, failedRead, *problem.Problem:
			err = e.(error)
		default:
			panic(e)
		}
	}()
	parse()
	return nil
}

// inBudget calls parse. It returns false if parse needs more than the rest of the budget.
func (r *reader) inBudget(parse func()) bool {
	switch err := try(parse); {
	case errors.Is(err, errBudget):
		return false
	case err != nil:
		panic(err)
	}
	return true
}

// failedRead is an error of ReadRange.
type failedRead struct{ error }

// errEnd reports a range that extends past the end of the file.
const errEnd = damage("it ends in the middle of its header")

// unread is the error with which a parser panics for a file that may be valid but that it
// cannot read. The text of the error continues the sentence "file was not checked: ".
type unread string

func (u unread) Error() string { return string(u) }

// errBudget reports that a read does not fit into the rest of the budget.
const errBudget = unread("its header is larger than the part of a file that lipdrop reads")

// reader reads a Source within the budget and keeps what it has read. A parser reads the
// file only through a reader.
type reader struct {
	ctx       context.Context
	src       Source
	start     int64 // offset of the content, after tags
	bytesLeft int64
	callsLeft int64
	stepsLeft int64
	windows   []window
	failed    error // error of the first read that failed; Inspect returns it, whatever the parser returns
	misfit    bool  // a box was longer than its parent, or its length was impossible
}

// window is a part of the file that has been read.
type window struct {
	off  int64
	data []byte
}

func (w window) end() int64 { return w.off + int64(len(w.data)) }

func newReader(ctx context.Context, src Source) *reader {
	return &reader{ctx: ctx, src: src, bytesLeft: MaxBytes, callsLeft: MaxCalls, stepsLeft: MaxSteps}
}

// bytes returns the n bytes at off. The caller must not change them. The method bytes
// panics with errEnd if the range is not inside the file, with errBudget if the range does
// not fit into the budget, and with a failedRead if ReadRange fails.
func (r *reader) bytes(off, n int64) []byte {
	if off < 0 || n < 0 || off > r.src.Size || n > r.src.Size-off {
		panic(errEnd)
	}
	if data, found := r.kept(off, n); found {
		return data
	}
	for i := range r.windows {
		w := &r.windows[i]
		if off < w.off || off > w.end() {
			continue
		}
		more := r.fetch(w.end(), off+n-w.end())
		w.data = append(w.data, more...)
		return w.data[off-w.off:][:n:n]
	}
	data := r.fetch(off, n)
	r.windows = append(r.windows, window{off, data})
	return data[:n:n]
}

// kept returns the n bytes at off if they have been read.
func (r *reader) kept(off, n int64) (data []byte, found bool) {
	if n == 0 { // ReadRange accepts no empty range
		return nil, true
	}
	for _, w := range r.windows {
		if off >= w.off && off+n <= w.end() {
			return w.data[off-w.off:][:n:n], true
		}
	}
	return nil, false
}

// step does what bytes does, for a parser that needs a few bytes at many places of a file.
// Once half of the calls are used, step makes short reads of up to StepBytes, which have
// a budget of their own.
func (r *reader) step(off, n int64) []byte {
	if r.callsLeft > MaxCalls/2 || n > StepBytes || off < 0 || off > r.src.Size-n {
		return r.bytes(off, n)
	}
	if data, found := r.kept(off, n); found {
		return data
	}
	if r.stepsLeft == 0 {
		panic(errBudget)
	}
	r.stepsLeft--
	data := r.read(off, min(StepBytes, r.src.Size-off))
	r.windows = append(r.windows, window{off, data})
	return data[:n:n]
}

// most returns up to n bytes at off. It returns fewer only at the end of the file.
func (r *reader) most(off, n int64) []byte {
	if off > r.src.Size {
		panic(errEnd)
	}
	return r.bytes(off, min(n, r.src.Size-off))
}

// padded returns a copy of the n bytes at off, or of fewer at the end of the file. Zeros follow
// them up to the given length.
func (r *reader) padded(off, n, length int64) []byte {
	data := r.most(off, n)
	return append(make([]byte, 0, length), data...)[:length]
}

// tail returns the last n bytes of the file, and the offset at which they begin. It leaves
// out the bytes before start.
func (r *reader) tail(start, n int64) (at int64, data []byte) {
	at = max(start, r.src.Size-n)
	return at, r.bytes(at, max(r.src.Size-at, 0))
}

// tailBeforeZeros does what tail does. But if the last n bytes are zeros, as after a download
// that broke off, it returns the n bytes before the zeros.
func (r *reader) tailBeforeZeros(start, n int64) (at int64, data []byte) {
	if at, data = r.tail(start, n); at > start && isZero(data) {
		end := r.startOfZeros(start, at)
		at = max(start, end-n)
		data = r.bytes(at, end-at)
	}
	return at, data
}

// startOfZeros bisects the bytes between start and end. It returns the offset at which the run of
// zeros before the offset end begins, or up to 64 bytes later. Earlier zeros, such as those of a
// white area in a JPEG, mislead a bisection, so the bytes at some places after its result are
// checked too.
func (r *reader) startOfZeros(start, end int64) int64 {
	const run, places = 64, 16
	data := func(off int64) []byte { return r.step(off, min(run, r.src.Size-off)) }
	for {
		at := end
		for at-start > run {
			if mid := start + (at-start)/2; isZero(data(mid)) {
				at = mid
			} else {
				start = mid
			}
		}
		place := int64(places - 1)
		for place > 0 && isZero(data(at+(end-at)*place/places)) {
			place--
		}
		if place == 0 {
			return at
		}
		start = at + (end-at)*place/places
	}
}

// endsInZeros reports whether the 16 KiB before the offset end are zeros, as after a download
// that broke off. It returns false if the budget is not enough to read them.
func (r *reader) endsInZeros(end int64) (zeros bool) {
	const enough = 16 << 10
	r.inBudget(func() { zeros = end > enough && isZero(r.bytes(end-enough, enough)) })
	return zeros
}

func isZero(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// share returns how many bytes each of the remaining calls can read if all read the same number.
func (r *reader) share() int64 { return r.bytesLeft / max(r.callsLeft, 1) }

// fetch reads at least n bytes at off, or up to the end of the file. It reads at least
// its share of the budget, because a call costs more than its bytes.
func (r *reader) fetch(off, n int64) []byte {
	if r.callsLeft <= 0 || n > r.bytesLeft {
		panic(errBudget)
	}
	n = min(max(n, r.share()), r.src.Size-off)
	r.callsLeft--
	r.bytesLeft -= n
	return r.read(off, n)
}

// read reads n bytes at off. Once a read has failed, it panics with the same error and
// reads no more.
func (r *reader) read(off, n int64) []byte {
	if r.failed != nil {
		panic(failedRead{r.failed})
	}
	data, err := r.src.ReadRange(r.ctx, off, n)
	if err == nil && int64(len(data)) != n {
		err = fmt.Errorf("got %d: %w", len(data), io.ErrUnexpectedEOF)
	}
	if err != nil {
		r.failed = fmt.Errorf("read %d bytes of %s at %d: %w", n, r.src.Name, off, err)
		panic(failedRead{r.failed})
	}
	return data[:n:n] // so that an append copies the bytes, and does not write into the source's memory
}

// withReserve calls parse with a budget that is smaller by the given calls and bytes. It returns
// the error with which parse panicked, or nil.
func (r *reader) withReserve(calls, bytes int64, parse func()) error {
	calls, bytes = min(calls, r.callsLeft), min(bytes, r.bytesLeft)
	r.callsLeft -= calls
	r.bytesLeft -= bytes
	err := try(parse)
	r.callsLeft += calls
	r.bytesLeft += bytes
	return err
}

// inTime converts n units to a time.Duration. A second has perSecond units. It returns
// false if the result is too large or perSecond is 0.
func inTime(n, perSecond uint64) (time.Duration, bool) {
	d, ok := mulDiv(n, uint64(time.Second), perSecond)
	if !ok || d > math.MaxInt64 {
		return 0, false
	}
	return time.Duration(d), true
}

// mulDiv returns a*b/c. It returns false if the result is too large or c is 0.
func mulDiv(a, b, c uint64) (uint64, bool) {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, c)
	return q, true
}
