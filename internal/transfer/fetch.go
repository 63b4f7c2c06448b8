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

	// moreConnections is how many there are for each one that was too slow.
	moreConnections = 8

	// remembered is how many pieces the average of a piece is of, about.
	remembered = 8
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
	begin  []byte // of the first answer, which were read before the pieces

	next atomic.Int64 // the piece that is taken next

	mu      sync.Mutex
	workers int
	judged  int           // pieces since there were that many
	came    int           // pieces
	average time.Duration // that a piece took, the last ones most
}

// fetch starts to fetch a source that gives ranges. The first answer is the
// whole, and goes on for as long as it is fast enough; where it is not, it is
// given up for ranges that come side by side.
func (r *run) fetch(ctx context.Context) {
	f := &fetcher{run: r, begin: r.begin, workers: 1}
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
	r.group.Go(func() error { return f.work(ctx, r.first) })
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

// judge takes how long a piece took, and opens more connections where they take
// too long on average. One that is held up among quick ones does not count.
func (f *fetcher) judge(ctx context.Context, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.came++; f.came == 1 {
		f.average = took
	}
	f.average += (took - f.average) / remembered
	if f.judged++; f.judged < f.workers || f.average <= f.pace.quick {
		return
	}
	f.judged = 0
	for most := min(moreConnections*f.workers, f.pace.many, len(f.pieces)); f.workers < most; f.workers++ {
		f.group.Go(func() error { return f.work(ctx, nil) })
	}
}

// tooSlow returns for how long a piece may be read before it is fetched again,
// or false while too few have come to tell.
func (f *fetcher) tooSlow() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(slowFactor*f.average, f.pace.stall), f.came >= remembered
}

// several reports whether there is more than one connection.
func (f *fetcher) several() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.workers > 1
}

// work fetches one piece after the other, from an answer that is open at the
// first of them, or nil.
func (f *fetcher) work(ctx context.Context, open *answer) error {
	for {
		i := f.next.Add(1) - 1
		if i >= int64(len(f.pieces)) {
			return nil
		}
		p := f.pieces[i]
		if open != nil && f.several() {
			open.close()
			open = nil
		}
		var err error
		if open, err = f.piece(ctx, p, open); err != nil {
			return err
		}
	}
}

// piece fetches one piece, from an answer that is open there or alone. Where
// that goes wrong, it does so again, alone. It returns the answer if it is still
// of use.
func (f *fetcher) piece(ctx context.Context, p piece, open *answer) (*answer, error) {
	for try := 1; ; try++ {
		err := f.try(ctx, try, p, open)
		if err == nil {
			break
		}
		if open != nil {
			open.close()
			open = nil
		}
		noRange := errors.Is(err, errRangeIgnored) || errors.Is(err, errRange)
		if noRange && (try == f.pace.tries || f.src.unproven) {
			// Some caches ignore ranges of what they do not hold: they are tried again.
			return nil, &restartError{err: f.src.unavailable(err), without: manner{ranged: true}}
		}
		if err := f.src.again(ctx, try, err); err != nil {
			return nil, err
		}
	}
	if p.part.missing.Add(-p.size) == 0 {
		f.dispatch(ctx, p.part)
	}
	return open, nil
}

// try fetches a piece once. The request goes out before there is a buffer, so
// that a distant source's answer is there when there is one.
func (f *fetcher) try(ctx context.Context, try int, p piece, open *answer) error {
	a, end := open, f.src.total
	asked := time.Now()
	if a == nil {
		var err error
		if a, err = f.src.open(ctx, try, p.from, p.size); err != nil {
			return err
		}
		defer a.close()
		end = p.from + p.size
	}
	took := time.Since(asked)
	select {
	case <-p.part.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	dst := p.part.data[p.offset : p.offset+p.size]
	if a == open {
		n := copy(dst, f.begin)
		dst, f.begin = dst[n:], f.begin[n:]
	}
	began := time.Now()
	if limit, known := f.tooSlow(); known && try == 1 {
		slow := time.AfterFunc(limit, func() { a.giveUp(errSlow) })
		defer slow.Stop()
	}
	if err := a.fill(dst); err != nil {
		return err
	}
	if p.from+p.size == end {
		if err := a.end(); err != nil {
			return err
		}
	}
	f.judge(ctx, took+time.Since(began))
	return nil
}

// stream reads a source that gives no ranges.
func (r *run) stream(ctx context.Context) error {
	defer close(r.hashing)
	begin, total := r.begin, int64(0)
	for number := int32(1); ; number++ {
		size := r.pace.partSize
		if r.src.total >= 0 {
			size = min(size, r.src.total+1) // the byte more is where the end is met
		}
		b, err := r.buffer(ctx, size)
		if err != nil {
			return err
		}
		n := copy(b, begin)
		begin = begin[n:]
		more, ended, err := r.first.read(b[n:])
		if err != nil {
			return r.src.broken(err)
		}
		n += more
		total += int64(n)
		if total > r.copier.MaxBytes {
			return &OutputTooLarge{Bytes: total, Limit: r.copier.MaxBytes}
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
