// Package transfer copies a file from an https URL into an S3 object: in bounded
// memory, verified, and never over an object that is there already. One answer of
// the source is read for as long as it comes quickly, and parallel ranges where
// it does not. A file of up to 64 MiB goes up in one put that begins before the
// file is there, a larger one in parts. Package transfer decides what may be
// fetched; it leaves to its caller what to fetch, how the object is named and
// what the file is worth.
//
// It calls S3's multipart operations directly. The SDK's uploaders
// (feature/s3/manager, feature/s3/transfermanager) read one stream in order into
// buffers of their own, so that ranges that come side by side would be copied
// once more and held twice; they open the upload only when the first part is
// full; and they do not tell a completion whose reply was lost from a key that
// somebody else has taken.
package transfer

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"runtime"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 is what a Copier needs of a client of S3; *s3.Client has it. The caller
// needs the permissions s3:PutObject, s3:GetObject and s3:AbortMultipartUpload
// on the object, and s3:ListBucket on the bucket, without which S3 answers for a
// missing key as for a forbidden one.
type S3 interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
}

// A Copier copies https URLs into objects of one bucket. It makes one copy at a
// time, since one fills the line: further calls wait. Its buffers, 40 MiB after
// the first large copy, are kept for the next.
type Copier struct {
	// S3 is where the objects are made.
	S3 S3

	// Bucket is the name of the bucket.
	Bucket string

	// Origins is what may be fetched.
	Origins Origins

	// MaxBytes is the length of the largest source that is copied.
	MaxBytes int64

	resolver *net.Resolver  // nil: the system's
	roots    *x509.CertPool // nil: the system's
	pace     *pace          // nil: defaultPace

	mu      sync.Mutex
	buffers [][]byte // of the last copy, for the next
	garbage int64    // bytes that were copied since the last collection
}

// An Object is what a copy made or found.
type Object struct {
	Key         string
	ETag        string // as S3 writes it, in quotes
	VersionID   string // empty where the bucket keeps no versions
	Bytes       int64
	SHA256      string // hexadecimal
	ContentType string
	Existed     bool // found, not made: by an earlier call, or by this one and the reply was lost
}

const (
	// headBytes is how much of a file is known when its name is asked for, where
	// the file has that much.
	headBytes = 4 << 10

	// maxRuns is how often a copy is begun.
	maxRuns = 4

	// maxChanges is after how many runs in which the source changed the whole of
	// it is asked for in one response: the nodes of some CDNs give the same bytes
	// an ETag or a time of change of their own.
	maxChanges = 2
)

// Copy copies the file at rawURL into an object whose key and content type name
// returns, from the first bytes of the file (4 KiB, or all where there are less)
// and the path of rawURL, unescaped. Where the copy is begun again, name is
// asked again. The first of several objects of one key stays: where the key
// holds an object of the source's length and first bytes, Copy describes that
// one, and what it sent of a put that S3 then refused changes nothing.
//
// After an error there is never a part of the file under the key, and no upload
// is left open, but where the error tells that the abort went wrong as well. The
// error is a *OutputRefused, *OutputTooLarge, *NoOutput, *OutputChanged, *OutputOccupied,
// *OutputUnavailable or *StorageUnavailable, the last two of which another call may
// not meet again; or the cause of ctx's end. Give Copy a context that ends a few
// seconds before the process does, so that an upload can be aborted. No error
// holds the query of an address.
func (c *Copier) Copy(ctx context.Context, rawURL string, name func(head []byte, path string) (key, contentType string)) (Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := parseSource(rawURL)
	if err != nil {
		return Object{}, err
	}
	p := defaultPace
	if c.pace != nil {
		p = *c.pace
	}
	transport := c.newTransport(p)
	// A function may be frozen for hours after it has returned: no connection
	// would be alive after that.
	defer transport.CloseIdleConnections()
	src := &source{given: u, origins: c.Origins, transport: transport, pace: p}

	how, changes := manner{ranged: true, flowing: true}, 0
	var changed error
	for run := 1; ; run++ {
		object, err := c.copyOnce(ctx, src, how, name)
		if err == nil {
			return object, nil
		}
		if ctx.Err() != nil {
			return Object{}, context.Cause(ctx)
		}
		if _, ok := errors.AsType[*OutputUnavailable](err); ok && changes == maxChanges {
			return Object{}, changed // what the runs before say explains more
		}
		var restart *restartError
		if !errors.As(err, &restart) {
			return Object{}, err
		}
		if _, ok := errors.AsType[*OutputChanged](err); ok {
			changes, changed = changes+1, restart.err
			if changes == maxChanges {
				how.ranged = false
			}
		}
		if run == maxRuns {
			return Object{}, restart.err
		}
		how = how.without(restart.without)
		runtime.GC() // the buffers of the run that went wrong, before the next has its own
		if err := sleep(ctx, p.backOffAfter(run)); err != nil {
			return Object{}, err
		}
	}
}
