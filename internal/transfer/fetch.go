package transfer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slowFactor is how many times longer than the average a range may take
	// before it is fetched again: one bad connection would hold up all parts that
	// come after it. It is done once for a range, so that a source that has become
	// slow as a whole is waited for.
	slowFactor = 16

	// slowSample is how many ranges make an average.
	slowSample = 8
)

// A piece is a range of the source, all of it in one part.
type piece struct {
	part   *part
	offset int64 // in the part
	from   int64 // in the source
	size   int64
}

// A fetcher fetches the pieces of a run, in order, over several connections.
type fetcher struct {
	*run
	parts  []*part
	pieces []piece

	next atomic.Int64 // the piece that is taken next

	mu      sync.Mutex
	workers int

	came  atomic.Int64 // pieces that have been read
	spent atomic.Int64 // nanoseconds of reading them, over all connections
}

// fetch starts to fetch a source that gives ranges, whose first answer took
// that long.
func (r *run) fetch(ctx context.Context, answered time.Duration) {
	f := &fetcher{run: r}
	for from := int64(0); from < r.src.total; from += r.pace.partSize {
		p := newPart(int32(len(f.parts)+1), min(r.pace.partSize, r.src.total-from))
		f.parts = append(f.parts, p)
		for offset := int64(0); offset < p.size; offset += r.pace.pieceSize {
			f.pieces = append(f.pieces, piece{p, offset, from + offset, min(r.pace.pieceSize, p.size-offset)})
		}
	}
	if len(f.parts) == 1 {
		r.only = f.parts[0]
	}
	r.group.Go(func() error { return f.feed(ctx) })
	f.connect(ctx, r.pace.few)
	if answered > r.pace.quick {
		f.connect(ctx, r.pace.many)
	}
}

// feed gives the parts their buffers. It does so in order, whatever comes first:
// were all buffers with later parts, the hash would wait for the one that has
// none, and they for the hash.
func (f *fetcher) feed(ctx context.Context) error {
	defer close(f.hashing)
	for _, p := range f.parts {
		b, err := f.buffer(ctx, min(f.pace.partSize, f.src.total))
		if err != nil {
			return err
		}
		p.data = b[:p.size]
		close(p.ready)
		f.hashing <- p
	}
	return nil
}

// connect raises the number of connections to n.
func (f *fetcher) connect(ctx context.Context, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; f.workers < n && f.workers < len(f.pieces); f.workers++ {
		f.group.Go(func() error { return f.work(ctx) })
	}
}

// work fetches one piece after the other.
func (f *fetcher) work(ctx context.Context) error {
	for {
		i := f.next.Add(1) - 1
		if i >= int64(len(f.pieces)) {
			return nil
		}
		if err := f.piece(ctx, f.pieces[i]); err != nil {
			return err
		}
	}
}

// piece fetches one piece, alone again where that goes wrong.
func (f *fetcher) piece(ctx context.Context, p piece) error {
	for try := 1; ; try++ {
		err := f.try(ctx, try, p)
		if err == nil {
			break
		}
		if try == f.pace.tries && (errors.Is(err, errRangeIgnored) || errors.Is(err, errRange)) {
			// Some caches ignore ranges of what they do not hold.
			return &restartError{err: f.src.unavailable(err), withoutRanges: true}
		}
		if err := f.src.again(ctx, try, err); err != nil {
			return err
		}
	}
	if p.part.missing.Add(-p.size) == 0 {
		f.dispatch(ctx, p.part)
	}
	return nil
}

// try fetches a piece once. The request goes out before there is a buffer, so
// that a distant source's answer is there when there is one.
func (f *fetcher) try(ctx context.Context, try int, p piece) error {
	a := f.first
	if p.from > 0 || try > 1 {
		var err error
		if a, err = f.src.open(ctx, try, p.from, p.size); err != nil {
			return err
		}
	}
	defer a.close()
	select {
	case <-p.part.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	dst := p.part.data[p.offset : p.offset+p.size]
	if a == f.first {
		dst = dst[copy(dst, f.begin):]
	}
	began := time.Now()
	if n := f.came.Load(); n >= slowSample && try == 1 {
		average := time.Duration(f.spent.Load() / n)
		slow := time.AfterFunc(max(slowFactor*average, f.pace.stall), func() { a.giveUp(errSlow) })
		defer slow.Stop()
	}
	if err := a.readAll(dst); err != nil {
		return err
	}
	took := time.Since(began)
	f.spent.Add(int64(took))
	f.came.Add(1)
	if took > f.pace.quick {
		f.connect(ctx, f.pace.many)
	}
	return nil
}

// stream reads a source that gives no ranges.
func (r *run) stream(ctx context.Context) error {
	defer close(r.hashing)
	var total int64
	for number := int32(1); ; number++ {
		b, err := r.buffer(ctx, r.pace.partSize)
		if err != nil {
			return err
		}
		n := 0
		if number == 1 {
			n = copy(b, r.begin)
		}
		more, ended, err := r.first.read(b[n:])
		if err != nil {
			return r.src.broken(err)
		}
		n += more
		total += int64(n)
		if total > r.copier.MaxBytes {
			return &TooLargeError{Bytes: total, Limit: r.copier.MaxBytes}
		}
		if n == 0 {
			return nil
		}
		p := newPart(number, int64(n))
		p.data = b[:n]
		if ended && number == 1 {
			r.only = p
		}
		r.hashing <- p
		r.dispatch(ctx, p)
		if ended {
			return nil
		}
	}
}
