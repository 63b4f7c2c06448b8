package transfer

import (
	"context"
	"math/rand/v2"
	"time"
)

// A pace is every figure that decides how fast a copy goes, how much memory it
// takes and how patient it is.
type pace struct {
	partSize  int64 // bytes of one part of an upload
	pieceSize int64 // bytes of one range
	window    int   // parts in memory: coming, being hashed, going up
	flowMax   int64 // bytes of the largest file that is put while it comes
	many      int   // connections at most

	quick   time.Duration // a connection that takes it for a piece is fast enough alone
	answer  time.Duration // until the header of an answer, connecting included
	stall   time.Duration // within which stallBytes have to come
	upload  time.Duration // for one try of one part, the SDK's retries included
	backOff time.Duration // before the second try; doubled before each further one
	tries   int           // of one request
}

// defaultPace keeps 40 MiB in memory. Sixteen connections fill the line where
// each of them is limited or far away, and what they hold at a time leaves
// buffers for what goes up meanwhile; where a single one is fast, more of them
// only cost handshakes. Pieces much smaller than parts let that many connections
// work on few parts. One put saves the requests of an upload, and the server the
// joining of its parts; of more than 64 MiB too much would be lost with one
// connection to S3, and several carry more.
var defaultPace = pace{
	partSize:  8 << 20,
	pieceSize: 1 << 20,
	window:    5,
	flowMax:   64 << 20,
	many:      16,
	quick:     25 * time.Millisecond,
	answer:    15 * time.Second,
	stall:     5 * time.Second,
	upload:    time.Minute,
	backOff:   200 * time.Millisecond,
	tries:     6,
}

const (
	// maxParts is S3's limit for one upload.
	maxParts = 10_000

	// flowParts is in how many parts a small file is put while it comes, if they
	// are not smaller than a piece divided by it: 64 KiB.
	flowParts = 16

	// maxBackOff bounds one wait between two tries.
	maxBackOff = 5 * time.Second
)

// fit returns p with parts large enough for a source of that many bytes to stay
// under S3's number of parts, and as many of them as p's memory holds, but two.
// The parts grow from 78 GiB on; the memory from 195 GiB on.
func (p pace) fit(bytes int64) pace {
	memory := p.partSize * int64(p.window)
	least := (bytes + maxParts - 1) / maxParts
	if least > p.partSize {
		p.partSize = (least + p.pieceSize - 1) / p.pieceSize * p.pieceSize
		p.window = int(max(2, memory/p.partSize))
	}
	return p
}

// forFlow returns p for a file of that many bytes that is put while it comes:
// parts of one piece, small enough for the put to begin when little of the file
// is there, and as many of them as half of p's memory holds. What S3 takes as
// fast as it comes fits into less, and memory that was never used is dear.
func (p pace) forFlow(bytes int64) pace {
	memory := p.partSize * int64(p.window)
	p.partSize = min(p.pieceSize, max(bytes/flowParts, p.pieceSize/flowParts))
	p.quick = p.quick * time.Duration(p.partSize) / time.Duration(p.pieceSize)
	p.window = max(2, int(memory/2/p.partSize))
	p.pieceSize = p.partSize
	return p
}

// backOffAfter returns how long to wait after that many tries: doubled each
// time, and spread so that ranges that failed together do not come back
// together.
func (p pace) backOffAfter(try int) time.Duration {
	full := min(p.backOff<<(try-1), maxBackOff)
	return full/2 + rand.N(full/2+1)
}

// sleep waits for d or until ctx ends, whichever is first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
