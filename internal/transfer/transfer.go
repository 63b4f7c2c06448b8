// Package transfer copies a file from an https URL into an S3 object. It uses
// bounded memory, verifies the copy and never overwrites an object. It uploads a
// file of up to 64 MiB by one PUT that starts before the file is complete, and a
// larger file in parts. Package transfer decides which addresses may be fetched. Its
// caller decides what to fetch, and how the object is named.
package transfer

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
)

// S3 is the client that a Copier needs; *s3.Client implements it. The required
// permissions are s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on the
// object, and s3:ListBucket on the bucket: without s3:ListBucket, S3 reports a
// missing key as forbidden.
type S3 = transfermanager.S3APIClient

// A Copier copies https URLs into objects of one bucket, one at a time: a call waits
// until an earlier call has ended.
type Copier struct {
	S3       S3
	Bucket   string  // name
	Origins  Origins // what may be fetched
	MaxBytes int64   // length of the largest source that is copied

	resolver *net.Resolver  // nil: the system's
	roots    *x509.CertPool // nil: the system's
	pace     pace           // zero: defaultPace

	mu sync.Mutex
}

// An Object describes a copy.
type Object struct {
	Key         string
	ETag        string // in quotes, as S3 writes it
	VersionID   string // empty if the bucket keeps no versions
	Bytes       int64
	SHA256      string // hexadecimal
	ContentType string
	Existed     bool // an earlier call made it, or this call made it and lost the response
}

// A pace sets the speed, the memory and the patience of a copy.
type pace struct {
	pieceSize   int64 // bytes of one range
	window      int   // pieces in memory
	connections int   // to the source, at most
	putMax      int64 // bytes of the largest file that one PUT streams
	partSize    int64 // bytes of one part of an upload
	uploads     int   // parts that are sent in parallel

	quick    time.Duration // a connection that fetches a piece in this time is fast enough
	response time.Duration // until the header of a response
	stall    time.Duration // in which stallBytes must arrive
	upload   time.Duration // in which S3 must accept bytes or respond
	backOff  time.Duration // before the second try; doubled before each further one
	tries    int           // of one request
}

// defaultPace keeps up to 64 MiB in memory. One PUT needs fewer requests than a
// multipart upload, but if its connection breaks, the whole upload is lost. Several
// connections are faster for more than 64 MiB.
var defaultPace = pace{
	pieceSize:   1 << 20,
	window:      24,
	connections: 16,
	putMax:      64 << 20,
	partSize:    8 << 20,
	uploads:     4,
	quick:       25 * time.Millisecond,
	response:    15 * time.Second,
	stall:       5 * time.Second,
	upload:      time.Minute,
	backOff:     200 * time.Millisecond,
	tries:       6,
}

const (
	// headBytes is how many of a file's first bytes are read before its key is
	// chosen.
	headBytes = 4 << 10

	// maxAttempts is how often a copy is started at most.
	maxAttempts = 4

	// maxChanges is how many attempts may end because the source changed. The next
	// attempt reads the source in one response, because some CDN nodes give the same
	// file their own ETag or Last-Modified.
	maxChanges = 2

	// pieces is how many pieces a small file is divided into, so that its upload
	// starts before the file is complete. leastPiece is the size of the smallest
	// piece in bytes.
	pieces     = 16
	leastPiece = 64 << 10

	maxBackOff = 5 * time.Second
)

// Copy copies the file at rawURL into an object. The function name returns the
// object's key and content type for the first bytes of the file (4 KiB, or the
// whole file) and the unescaped path of rawURL. If the copy is started again,
// name is called again. If the key already holds an object with the length and
// the first bytes of the source, Copy describes that object.
//
// The error is a *OutputRefused, *OutputTooLarge, *NoOutput, *OutputChanged,
// *OutputOccupied, *OutputUnavailable or *StorageUnavailable, or the cause of the end of
// ctx. It contains no query of an address. After an error the key holds no part
// of the file, and no upload is left open unless the error says that its abort
// failed as well. ctx should end some seconds before the process does, so that
// an upload can be aborted.
func (c *Copier) Copy(ctx context.Context, rawURL string, name func(head []byte, path string) (key, contentType string)) (Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := parseSource(rawURL)
	if err != nil {
		return Object{}, err
	}
	transport := c.newTransport()
	// A function may be frozen for hours after it returned.
	defer transport.CloseIdleConnections()
	src := &source{given: u, origins: c.Origins, transport: transport, pace: cmp.Or(c.pace, defaultPace)}
	a := attempt{Copier: c, src: src, name: name, ranged: true, stream: true}

	var changed error
	for n, changes := 1, 0; ; n++ {
		object, err := a.run(ctx)
		restart, again := errors.AsType[*restartError](err)
		_, isChange := errors.AsType[*OutputChanged](err)
		_, isUnavailable := errors.AsType[*OutputUnavailable](err)
		switch {
		case err != nil && ctx.Err() != nil:
			return Object{}, context.Cause(ctx)
		case isUnavailable && changes >= maxChanges:
			return Object{}, changed // it explains more
		case !again:
			return object, err
		case n == maxAttempts:
			return Object{}, restart.err
		case isChange:
			changes, changed = changes+1, restart.err
		}
		a.ranged = a.ranged && !restart.noRanges && changes < maxChanges
		a.stream = a.stream && !restart.noStream
		if err := sleep(ctx, src.pace.backOffAfter(n)); err != nil {
			return Object{}, err
		}
	}
}

// Find returns the object with the key if an earlier Copy of the file at rawURL
// made it. It does not request the source. Its error is a *OutputRefused, a
// *StorageUnavailable or the cause of the end of ctx.
func (c *Copier) Find(ctx context.Context, rawURL, key string) (Object, bool, error) {
	u, err := parseSource(rawURL)
	if err != nil {
		return Object{}, false, err
	}
	o := &object{s3: c.S3, bucket: c.Bucket, key: key, pace: cmp.Or(c.pace, defaultPace)}
	head, err := o.find(ctx)
	if err != nil || head == nil || head.Metadata[sourceMetadata] != hashOf(u) {
		return Object{}, false, err
	}
	found, err := o.existing(ctx, head, -1, nil)
	return found, err == nil, err
}

// An attempt copies a source once, from its first byte.
type attempt struct {
	*Copier
	src    *source
	name   func([]byte, string) (string, string)
	ranged bool // use ranges if the source has them
	stream bool // use one PUT if the file is small
}

// run makes the attempt. A *restartError asks for another one.
func (a *attempt) run(parent context.Context) (Object, error) {
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	src := a.src
	first, err := src.first(ctx, a.ranged)
	if err != nil {
		return Object{}, err
	}
	defer first.close()
	if src.total > a.MaxBytes {
		return Object{}, &OutputTooLarge{Bytes: src.total, Limit: a.MaxBytes}
	}
	head, err := first.peek(headBytes)
	switch {
	case err != nil:
		return Object{}, &restartError{err: src.unavailable(err)}
	case len(head) == 0:
		return Object{}, &NoOutput{Host: addressOf(src.given)}
	}
	o := &object{s3: a.S3, bucket: a.Bucket, metadata: map[string]string{sourceMetadata: hashOf(src.given)}, pace: src.pace}
	o.key, o.contentType = a.name(head, src.given.Path)

	p := src.pace
	if src.total > 0 {
		p.pieceSize = min(p.pieceSize, max(src.total/pieces, leastPiece))
		p.quick = p.quick * time.Duration(p.pieceSize) / time.Duration(src.pace.pieceSize)
	}
	d := start(ctx, fail, src, first, p, a.MaxBytes)
	defer d.done.Wait()
	defer fail(nil)
	if a.stream = a.stream && src.total > 0 && src.total <= p.putMax; a.stream {
		object, err := o.put(ctx, d)
		return a.settle(parent, o, d, head, object, err)
	}
	found, err := o.find(parent)
	switch {
	case err != nil:
		return Object{}, err
	case found != nil:
		return o.existing(parent, found, src.total, head)
	}
	object, err := o.upload(ctx, d, a.MaxBytes)
	return a.settle(parent, o, d, head, object, err)
}

// settle returns the object that an attempt made. After an error it checks whether
// the object exists: somebody else may have created it, or only the response was
// lost.
func (a *attempt) settle(ctx context.Context, o *object, d *download, head []byte, made Object, err error) (Object, error) {
	storage, ok := errors.AsType[*StorageUnavailable](err)
	if !ok || storage.Op != "PutObject" && storage.Op != "CompleteMultipartUpload" {
		return made, err
	}
	found, findErr := o.find(ctx)
	switch {
	case findErr != nil:
		return Object{}, err
	case found != nil && d.whole:
		there, err := o.existing(ctx, found, d.bytes, head)
		if sum := o.made(d, nil, nil).SHA256; err == nil && there.SHA256 != sum {
			return Object{}, &OutputOccupied{Key: o.key, Reason: "its SHA-256 differs"}
		}
		return there, err
	case found != nil:
		return o.existing(ctx, found, d.src.total, head)
	case a.stream:
		return Object{}, &restartError{err: err, noStream: true}
	}
	switch httpStatus(err) {
	// 409: another write of the key was under way. 412, 404: somebody removed the
	// object, or the upload.
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusNotFound:
		return Object{}, &restartError{err: err}
	}
	return Object{}, err
}

// backOffAfter returns the wait after a number of tries. It is random, so that
// ranges that failed together are not requested together.
func (p pace) backOffAfter(try int) time.Duration {
	full := min(p.backOff<<(try-1), maxBackOff)
	return full/2 + rand.N(full/2+1)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
