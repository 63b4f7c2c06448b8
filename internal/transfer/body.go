package transfer

import (
	"context"
	"errors"
	"io"
	"time"
)

// stallBytes is what has to come within the time of a stall: 20 KiB in five
// seconds, 4 KiB/s a connection. A source slower than that could not fill a
// function's 15 minutes with anything worth copying.
const stallBytes = 20 << 10

// A body is what is still to be read of an answer.
type body struct {
	from   io.ReadCloser
	ctx    context.Context // ends when the request is given up
	giveUp context.CancelCauseFunc
	stall  time.Duration
}

// close lets go of the connection, which is used again if the body was read to
// its end.
func (b *body) close() {
	_ = b.from.Close() // it has been read, or is not wanted any more
	b.giveUp(nil)
}

// read fills dst. It returns how much came, and whether the body ended: cleanly
// where the error is nil. It gives up a body that does not get on.
func (b *body) read(dst []byte) (n int, ended bool, err error) {
	watch := time.AfterFunc(b.stall, func() { b.giveUp(errStalled) })
	defer watch.Stop()
	since := 0
	for n < len(dst) {
		m, err := b.from.Read(dst[n:])
		n += m
		if errors.Is(err, io.EOF) {
			// A server may end an answer in good order because it was given up.
			return n, true, cause(b.ctx, nil)
		}
		if err != nil {
			return n, true, cause(b.ctx, err)
		}
		if since += m; since >= stallBytes {
			since = 0
			watch.Reset(b.stall)
		}
	}
	return n, false, nil
}

// fill fills dst, whole.
func (b *body) fill(dst []byte) error {
	n, _, err := b.read(dst)
	if err == nil && n < len(dst) {
		return errShort
	}
	return err
}

// end makes sure that the body ends here.
func (b *body) end() error {
	var more [1]byte
	n, _, err := b.read(more[:])
	if err == nil && n > 0 {
		return errLong
	}
	return err
}
