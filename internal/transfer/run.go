package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"net/http"
	"runtime"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// collectEvery is after how many bytes the garbage is collected. Nearly all of
// the heap is buffers, and on their account the collector would let as much
// garbage pile up before it begins by itself. A heap with so few pointers takes
// it a millisecond.
const collectEvery = 128 << 20

// A manner is how a run copies: what is tried first, and given up where it does
// not work.
type manner struct {
	ranged  bool // several ranges side by side, not the whole in one answer
	flowing bool // a put that begins before the file is there; it cannot be sent again
}

func (m manner) without(given manner) manner {
	return manner{m.ranged && !given.ranged, m.flowing && !given.flowing}
}

// A run copies a source once, from its first byte. Bytes come into parts, in
// order or nearly so; each part that is full is hashed in order and sent at
// once; when both are done its buffer takes a later part.
type run struct {
	copier *Copier
	src    *source
	object *object
	pace   pace

	first *answer // its body goes on after begin
	begin []byte

	group    *errgroup.Group
	prepared chan struct{} // closed when the key is known to be free
	free     chan []byte
	buffers  [][]byte // all there are, in use or not
	hashing  chan *part

	sha    hash.Hash
	crc    uint32
	hashed int64 // bytes
	only   *part // the one part of a file that is put from memory
	flow   *flow // of a file that is put while it comes; else nil
	put    put   // what came of either
}

// A put is how the one request that made an object ended.
type put struct {
	etag, version string
	err           error
}

// A part is a part of the file, and of the upload.
type part struct {
	number int32 // from 1
	size   int64
	data   []byte // size bytes, once ready
	ready  chan struct{}

	missing atomic.Int64 // bytes still to come
	filled  chan struct{}
	uses    atomic.Int32 // of data: the hash and the upload
}

func newPart(number int32, size int64) *part {
	p := &part{number: number, size: size, ready: make(chan struct{}), filled: make(chan struct{})}
	p.missing.Store(size)
	p.uses.Store(2)
	return p
}

// foundError ends a run whose object is there already.
type foundError struct{ head *s3.HeadObjectOutput }

func (e *foundError) Error() string { return "the object is there already" }

// copyOnce makes one run. A *restartError asks for another.
func (c *Copier) copyOnce(ctx context.Context, src *source, how manner, name func([]byte, string) (string, string)) (Object, error) {
	first, err := src.first(ctx, how.ranged)
	if err != nil {
		return Object{}, err
	}
	defer first.close()
	if src.total > c.MaxBytes {
		return Object{}, &OutputTooLarge{Bytes: src.total, Limit: c.MaxBytes}
	}
	begin := make([]byte, headBytes)
	if src.total >= 0 {
		begin = begin[:min(src.total, headBytes)]
	}
	n, _, err := first.read(begin)
	switch {
	case err != nil:
		return Object{}, src.broken(err)
	case n == 0:
		return Object{}, &NoOutput{Host: addressOf(src.given)}
	case n < len(begin) && src.total >= 0:
		return Object{}, src.broken(errShort)
	}
	begin = begin[:n]
	key, contentType := name(begin, src.given.Path)

	length := src.total
	if length < 0 {
		length = c.MaxBytes
	}
	p := src.pace.fit(length)
	flowing := how.flowing && src.total > 0 && src.total <= p.flowMax
	if flowing {
		p = p.forFlow(src.total)
	}
	r := &run{
		copier: c, src: src, pace: p, first: first, begin: begin,
		object:   &object{s3: c.S3, bucket: c.Bucket, key: key, contentType: contentType, source: markOf(src.given), pace: p},
		prepared: make(chan struct{}),
		free:     make(chan []byte, p.window),
		hashing:  make(chan *part, p.window),
		sha:      sha256.New(),
	}
	if flowing {
		r.flow = &flow{parts: make(chan *part, p.window), release: r.release}
	}
	var groupCtx context.Context
	r.group, groupCtx = errgroup.WithContext(ctx)
	r.group.Go(func() error { return r.prepare(groupCtx) })
	r.group.Go(func() error { return r.hash(groupCtx) })
	if flowing {
		r.group.Go(func() error {
			r.put = r.object.putFlow(groupCtx, r.flow, src.total)
			return r.put.err
		})
	}
	if src.ranges {
		r.fetch(groupCtx)
	} else {
		r.group.Go(func() error { return r.stream(groupCtx) })
	}
	return r.finish(ctx, r.group.Wait())
}

// prepare looks whether the object is there already, and opens the upload while
// the first part is still coming, where it is known that there will be one. A
// put needs neither: S3 refuses it where the object is there.
func (r *run) prepare(ctx context.Context) error {
	if r.flow != nil || r.src.total >= 0 && r.src.total <= r.pace.partSize {
		close(r.prepared)
		return nil
	}
	head, err := r.object.find(ctx)
	if err != nil {
		return err
	}
	if head != nil {
		return &foundError{head}
	}
	if r.src.ranges {
		if err := r.object.open(ctx); err != nil {
			return err
		}
	}
	close(r.prepared)
	return nil
}

// buffer returns memory for one part, and waits for a part to be done where
// there is no more.
func (r *run) buffer(ctx context.Context, size int64) ([]byte, error) {
	select {
	case b := <-r.free:
		return b, nil
	default:
	}
	if len(r.buffers) < r.pace.window {
		b := r.copier.spare(size)
		r.buffers = append(r.buffers, b)
		return b, nil
	}
	select {
	case b := <-r.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// spare returns a buffer that an earlier copy left, or a new one.
func (c *Copier) spare(size int64) []byte {
	last := len(c.buffers) - 1
	if last < 0 {
		return make([]byte, size)
	}
	if int64(len(c.buffers[last])) != size {
		c.buffers = nil
		runtime.GC() // before this copy has its own
		return make([]byte, size)
	}
	b := c.buffers[last]
	c.buffers = c.buffers[:last]
	return b
}

// keep takes back the buffers of a copy, but one that was made for a small file.
func (c *Copier) keep(buffers [][]byte, size int64) {
	for _, b := range buffers {
		if int64(len(b)) >= size {
			c.buffers = append(c.buffers, b)
		}
	}
	if len(c.buffers) > 0 {
		runtime.GC() // what many connections have left, before the next copy adds to it
	}
}

// hash adds up the parts in order.
func (r *run) hash(ctx context.Context) error {
	for {
		var p *part
		select {
		case p = <-r.hashing:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if p == nil {
			if r.flow != nil {
				close(r.flow.parts)
			}
			return nil
		}
		select {
		case <-p.filled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.sha.Write(p.data)
		r.crc = crc32.Update(r.crc, crc32.IEEETable, p.data)
		r.hashed += p.size
		if r.copier.garbage += p.size; r.copier.garbage >= collectEvery {
			r.copier.garbage = 0
			runtime.GC()
		}
		if r.flow != nil {
			r.flow.parts <- p // it holds as many as there are buffers
		}
		r.release(p)
	}
}

// dispatch sends a part that is full on its way.
func (r *run) dispatch(ctx context.Context, p *part) {
	close(p.filled)
	if r.flow != nil {
		return
	}
	r.group.Go(func() error {
		select {
		case <-r.prepared:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if p == r.only {
			// Its error is for build: the hash goes on.
			r.put = r.object.put(ctx, p.data)
			return nil
		}
		if err := r.object.open(ctx); err != nil {
			return err
		}
		if err := r.object.send(ctx, p.number, p.data); err != nil {
			return err
		}
		r.release(p)
		return nil
	})
}

func (r *run) release(p *part) {
	if p.uses.Add(-1) == 0 {
		r.free <- p.data[:cap(p.data)]
	}
}

// finish makes the object of what was copied, or clears up where err says that
// it was not.
func (r *run) finish(ctx context.Context, err error) (made Object, _ error) {
	var (
		found   *foundError
		flowing *flowError
	)
	switch {
	case errors.As(err, &found):
		made, err = r.object.existing(ctx, found.head, r.src.total, r.begin)
	case err == nil || errors.As(err, &flowing):
		made, err = r.build(ctx)
		if err == nil && !made.Existed {
			r.copier.keep(r.buffers, r.pace.partSize)
			return made, nil
		}
	}
	// Buffers of a run that went wrong are left to the collector: a connection
	// that was cut off may still be reading them.
	if abortErr := r.object.abort(ctx); abortErr != nil && err != nil {
		err = fmt.Errorf("%w; %w", err, abortErr)
	}
	return made, err
}

// build makes the object of the parts that S3 has, where it is not there by one
// put. Where either went wrong it looks whether the object is there nevertheless.
func (r *run) build(ctx context.Context) (Object, error) {
	made := Object{
		Key: r.object.key, Bytes: r.hashed, SHA256: hex.EncodeToString(r.sha.Sum(nil)), ContentType: r.object.contentType,
	}
	if r.flow == nil && r.only == nil {
		r.put = r.object.complete(ctx, r.hashed, r.crc)
	}
	err := r.put.err
	if err == nil {
		made.ETag, made.VersionID = r.put.etag, r.put.version
		return made, nil
	}
	// Either the key was taken meanwhile, or what went wrong was the reply alone.
	head, findErr := r.object.find(ctx)
	if findErr != nil {
		return Object{}, err
	}
	if head != nil {
		length, whole := r.hashed, true
		if r.flow != nil {
			length, whole = r.src.total, r.hashed == r.src.total
		}
		there, err := r.object.existing(ctx, head, length, r.begin)
		if err == nil && whole && there.SHA256 != made.SHA256 {
			return Object{}, &OutputOccupied{Key: made.Key, Reason: "its SHA-256 differs"}
		}
		return there, err
	}
	if r.flow != nil {
		return Object{}, &restartError{err: err, without: manner{flowing: true}}
	}
	switch httpStatus(err) {
	// S3 answers 409 when another write of the key was under way, and wants the
	// parts sent again; 412 and 404 with no object there say that the object, or
	// the upload, was removed by somebody else.
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusNotFound:
		return Object{}, &restartError{err: err}
	}
	return Object{}, err
}
