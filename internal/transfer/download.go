package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

const (
	// slowFactor is how many times longer than the average a range may take before
	// it is requested once more. Otherwise one bad connection would delay every byte
	// after it.
	slowFactor = 16

	// averaged is about how many of the latest pieces the average time covers.
	averaged = 8
)

// A download is an io.Reader of a source, which hashes what is read. It reads the
// first response as long as that is fast, then fetches ranges in parallel if the
// source has them. Up to pace.window pieces wait in memory to be read.
type download struct {
	ctx   context.Context
	fail  context.CancelCauseFunc // ends ctx, and the attempt with it
	src   *source
	pace  pace
	limit int64 // bytes

	free  chan []byte   // buffers of pieces that were read
	made  chan struct{} // one element per buffer
	queue chan *piece   // in order; some are still being fetched
	done  sync.WaitGroup

	mu      sync.Mutex
	fetched int           // how many pieces
	average time.Duration // of one piece; recent ones weigh more

	now   *piece // the piece that is being read
	left  []byte // the unread rest of now
	sha   hash.Hash
	crc   hash.Hash32
	bytes int64 // how many were read
	whole bool  // the end was read
}

// A piece is a range of the file.
type piece struct {
	from  int64
	data  []byte // complete once ready is closed
	last  bool
	ready chan struct{}
}

// start starts to download a source whose first response is open.
func start(ctx context.Context, fail context.CancelCauseFunc, src *source, first *response, p pace, limit int64) *download {
	d := &download{
		ctx: ctx, fail: fail, src: src, pace: p, limit: limit,
		free: make(chan []byte, p.window), made: make(chan struct{}, p.window), queue: make(chan *piece, p.window),
		sha: sha256.New(), crc: crc32.NewIEEE(),
	}
	d.done.Go(func() { d.fetchAll(first) })
	return d
}

// Read implements io.Reader. Its error is io.EOF or why the attempt failed.
func (d *download) Read(b []byte) (int, error) {
	for len(d.left) == 0 {
		if d.now != nil {
			if d.now.last {
				d.whole = true
				return 0, io.EOF
			}
			d.free <- d.now.data[:cap(d.now.data)]
			d.now = nil
		}
		select {
		case d.now = <-d.queue:
		case <-d.ctx.Done():
			return 0, context.Cause(d.ctx)
		}
		select {
		case <-d.now.ready:
			d.left = d.now.data
		case <-d.ctx.Done():
			return 0, context.Cause(d.ctx)
		}
	}
	n := copy(b, d.left)
	d.left = d.left[n:]
	d.sha.Write(b[:n])
	_, _ = d.crc.Write(b[:n]) // a hash returns no error
	d.bytes += int64(n)
	return n, nil
}

// fetchAll fetches all pieces in order, the first ones from open.
func (d *download) fetchAll(open *response) {
	slots := make(chan struct{}, d.pace.connections)
	for from, ended := int64(0), false; !ended && d.ctx.Err() == nil; {
		buffer, size := d.buffer(), d.pace.pieceSize
		if buffer == nil {
			return
		}
		if d.src.total >= 0 {
			size = min(size, d.src.total-from)
		}
		p := &piece{from: from, data: buffer[:size], last: from+size == d.src.total, ready: make(chan struct{})}
		from += size
		d.queue <- p // never blocks: it holds as many as there are buffers
		if average, _ := d.timing(); open != nil && d.src.ranges && average > d.pace.quick {
			open.close()
			open = nil
		}
		if open != nil {
			open = d.fetch(p, open)
		} else {
			slots <- struct{}{}
			d.done.Go(func() {
				d.fetch(p, nil)
				<-slots
			})
		}
		ended = p.last
	}
}

// buffer returns memory for a piece, or nil at the end of ctx. It prefers a used
// buffer, because the first use of fresh memory is slow.
func (d *download) buffer() []byte {
	select {
	case b := <-d.free:
		return b
	default:
	}
	select {
	case b := <-d.free:
		return b
	case d.made <- struct{}{}:
		return make([]byte, d.pace.pieceSize)
	case <-d.ctx.Done():
		return nil
	}
}

// fetch fetches one piece, from a response that is open there or from a request
// of its own. It returns the response if it can be read further.
func (d *download) fetch(p *piece, open *response) *response {
	for try := 1; ; try++ {
		err := d.tryFetch(p, open, try)
		if err == nil {
			close(p.ready)
			return open
		}
		if open != nil {
			open.close()
			open = nil
		}
		// Some caches ignore ranges of files that they do not hold yet.
		noRanges := errors.Is(err, errRange) && (d.src.unproven || try == d.pace.tries)
		if noRanges || !d.src.ranges {
			err = &restartError{err: d.src.unavailable(err), noRanges: noRanges}
		}
		if err := d.src.waitToRetry(d.ctx, try, err); err != nil {
			d.fail(err)
			return nil
		}
	}
}

func (d *download) tryFetch(p *piece, r *response, try int) error {
	began, own := time.Now(), r == nil
	if own {
		var err error
		if r, err = d.src.open(d.ctx, try, p.from, int64(len(p.data))); err != nil {
			return err
		}
		defer r.close()
	}
	if average, fetched := d.timing(); fetched >= averaged && try == 1 {
		slow := time.AfterFunc(max(slowFactor*average, d.pace.stall), func() { r.giveUp(errSlow) })
		defer slow.Stop()
	}
	n, ended, err := r.read(p.data)
	if err != nil {
		return err
	}
	if received := p.from + int64(n); received > d.limit {
		d.fail(&OutputTooLarge{Bytes: received, Limit: d.limit})
	}
	switch {
	case d.src.total < 0:
		p.data, p.last = p.data[:n], ended
	case n < len(p.data):
		return errors.New("the body ended early")
	case own || p.last:
		if err := r.end(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched++
	d.average += (time.Since(began) - d.average) / time.Duration(min(d.fetched, averaged))
	return nil
}

// timing returns the average time of a piece, and how many were fetched.
func (d *download) timing() (average time.Duration, fetched int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.average, d.fetched
}
