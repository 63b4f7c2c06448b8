package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// If a piece's own request takes slowFactor times as long as an average piece, and at least
	// pace.stall, the piece is requested once more. Otherwise one bad connection would delay the rest of the file.
	slowFactor = 16

	// The average time covers about this many of the latest pieces.
	averaged = 8

	// pieces is about how many pieces a small file is divided into, so that its upload
	// starts before its download ends. Every piece except the last has at least
	// leastPiece bytes.
	pieces     = 16
	leastPiece = 64 << 10
)

// A download is an io.Reader that reads a source and hashes what is read. It reads the
// first response. If that response is slow or breaks, and the source supports ranges, it
// fetches the rest as ranges in parallel.
type download struct {
	ctx   context.Context
	fail  context.CancelCauseFunc // ends ctx, and the attempt with it
	src   *source
	pace  pace
	limit int64 // bytes

	pool    sync.Pool    // of pieces
	queue   chan *piece  // in order; some are still being fetched
	average atomic.Int64 // nanoseconds per piece; recent ones weigh more
	done    sync.WaitGroup

	mu      sync.Mutex // guards the rest, because the body may still be read after PutObject has returned
	current *piece     // the piece that is being read, or nil
	left    []byte     // the unread rest of current
	ended   bool       // the last piece was received
	sha     hash.Hash
	crc     hash.Hash32
	bytes   int64 // how many were read
}

// A piece is a range of the file.
type piece struct {
	buffer []byte // one byte longer than a range, to notice a body that is too long
	from   int64
	data   []byte        // the part of buffer that the range fills
	last   bool          // the file ends with this piece
	ready  chan struct{} // gets an element when data is complete
}

// start starts to download a source whose first response is open. The caller must call
// done.Wait before it returns.
func start(ctx context.Context, fail context.CancelCauseFunc, src *source, first *response, limit int64) *download {
	p := src.pace
	if src.total > 0 {
		p.pieceSize = min(p.pieceSize, max(src.total/pieces, leastPiece))
		p.quick = p.quick * time.Duration(p.pieceSize) / time.Duration(src.pace.pieceSize)
	}
	d := &download{
		ctx: ctx, fail: fail, src: src, pace: p, limit: limit, queue: make(chan *piece, p.window-1),
		sha: sha256.New(), crc: crc32.NewIEEE(),
	}
	d.done.Go(func() { d.fetchAll(first) })
	return d
}

// Read implements io.Reader. Its error is io.EOF or the reason why the attempt failed.
func (d *download) Read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left, err := d.unread()
	if err != nil {
		return 0, err
	}
	n := copy(b, left)
	d.left = left[n:]
	d.sha.Write(b[:n])
	_, _ = d.crc.Write(b[:n]) // a hash returns no error
	d.bytes += int64(n)
	return n, nil
}

// unread returns the next bytes, at least one, without consuming them.
func (d *download) unread() ([]byte, error) {
	for len(d.left) == 0 {
		if d.ended {
			return nil, io.EOF
		}
		if d.current != nil {
			d.pool.Put(d.current)
			d.current = nil
		}
		var next *piece
		select {
		case next = <-d.queue:
		case <-d.ctx.Done():
			return nil, context.Cause(d.ctx)
		}
		select {
		case <-next.ready:
			d.current, d.left, d.ended = next, next.data, next.last
		case <-d.ctx.Done():
			return nil, context.Cause(d.ctx)
		}
	}
	return d.left, nil
}

// result returns how many bytes were read, their SHA-256 in hexadecimal, and whether
// they are the whole file.
func (d *download) result() (bytes int64, sum string, complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes, hex.EncodeToString(d.sha.Sum(nil)), d.ended && len(d.left) == 0
}

// fetchAll queues all pieces in order and fetches them, the first ones from the open response.
// The queue holds up to pace.window-1 pieces. Two more are in memory: the one that is being read, and the
// one that waits for a place in the queue.
func (d *download) fetchAll(open *response) {
	for from, last := int64(0), false; !last; {
		p, ok := d.pool.Get().(*piece)
		if !ok {
			p = &piece{buffer: make([]byte, d.pace.pieceSize+1), ready: make(chan struct{}, 1)}
		}
		size := d.pace.pieceSize
		if d.src.total >= 0 {
			size = min(size, d.src.total-from)
		}
		p.from, p.data, p.last = from, p.buffer[:size], from+size == d.src.total
		from += size
		select {
		case d.queue <- p:
		case <-d.ctx.Done():
			return
		}
		if open != nil && d.src.ranges && time.Duration(d.average.Load()) > d.pace.quick {
			open.close()
			open = nil
		}
		if open != nil {
			open = d.fetch(p, open)
		} else {
			d.done.Go(func() { d.fetch(p, nil) })
		}
		last = p.last
	}
}

// fetch fetches one piece: from the open response or, if open is nil, by a request of its own. It
// returns the open response, or nil if reading from it failed.
func (d *download) fetch(p *piece, open *response) *response {
	for try := 1; ; try++ {
		err := d.tryFetch(p, open, try)
		if err == nil {
			p.ready <- struct{}{}
			return open
		}
		if open != nil {
			open.close()
			open = nil
		}
		if d.src.ranges {
			err = d.pace.waitToRetry(d.ctx, try, err)
		}
		if err != nil {
			d.fail(err)
			return nil
		}
	}
}

// tryFetch is one try of fetch. If r is nil, tryFetch sends a request. The first try sends it to
// src.at. Later tries send it to src.given, because the target of a redirect may expire.
func (d *download) tryFetch(p *piece, r *response, try int) error {
	began, own := time.Now(), r == nil
	average := time.Duration(d.average.Load())
	if own {
		u := d.src.at
		if try > 1 {
			u = d.src.given
		}
		var err error
		if r, err = d.src.request(d.ctx, u, p.from, int64(len(p.data))); err != nil {
			return err
		}
		defer r.close()
		if average > 0 && try == 1 {
			slow := time.AfterFunc(max(slowFactor*average, d.pace.stall), func() { r.giveUp(errSlow) })
			defer slow.Stop()
		}
	}
	size := len(p.data)
	if own || p.last {
		size++ // to notice a body that does not end with the piece
	}
	n, err := r.read(p.buffer[:size])
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return d.src.requestError(err)
	case d.src.total < 0:
		p.data, p.last = p.buffer[:n], err != nil
		if received := p.from + int64(n); received > d.limit {
			return tooLarge(received, d.limit)
		}
	case n != len(p.data):
		return d.src.requestError(errors.New("the body is longer or shorter than announced"))
	}
	took := time.Since(began)
	if average > 0 {
		took = average + (took-average)/averaged
	}
	d.average.Store(int64(took))
	return nil
}
