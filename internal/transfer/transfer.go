// Package transfer copies a file from an https URL into an S3 object. It uses
// bounded memory, verifies the copy and never overwrites an object. It uploads a
// file of at most 64 MiB by one PUT that starts before the download ends. If that PUT
// fails, or if the file is larger or of unknown length, the package uploads the file in
// parts, or by one request if it is smaller than a part. The caller lists the origins from
// which files may be fetched, and chooses the object's key.
package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// S3 is the client that a Copier needs; *s3.Client implements it. The required
// permissions are s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on the
// object, and s3:ListBucket on the bucket: without s3:ListBucket, S3 reports a
// missing key as forbidden.
type S3 = transfermanager.S3APIClient

// A Copier copies https URLs into objects of one bucket.
type Copier struct {
	S3       S3
	Bucket   string       // name
	Origins  origins.List // what may be fetched
	MaxBytes int64        // length of the largest source that is copied

	dialer origins.Dialer
	pace   pace // zero: defaultPace
}

// An Object describes a copy.
type Object struct {
	Key         string
	ETag        string // without quotes
	Bytes       int64
	SHA256      string // hexadecimal
	ContentType string
	Existed     bool // the object was there: another call made it, or this call made it and lost the response
}

// A pace sets the speed, the memory and the patience of a copy.
type pace struct {
	pieceSize int64 // bytes of one range
	window    int   // pieces that are fetched in parallel; one more is in memory
	putMax    int64 // bytes of the largest file that one PUT streams
	partSize  int64 // bytes of one part of an upload
	uploads   int   // parts that are sent in parallel; one more is in memory

	quick    time.Duration // if a piece takes longer, pieces are fetched in parallel
	response time.Duration // until the header of a response
	stall    time.Duration // stallBytes must arrive within this time
	backOff  time.Duration // before the second try; doubled before each further one
	tries    int           // the most tries of one request, and of the copy
}

// defaultPace keeps up to 42 MiB in memory: 17 pieces, and 5 parts of the smallest
// size that S3 accepts. The parts are larger if MaxBytes is more than 48 GiB. One PUT needs
// fewer requests than a multipart upload, but if its connection breaks, the whole upload is
// lost. For a file of more than 64 MiB, several connections are faster.
var defaultPace = pace{
	pieceSize: 1 << 20,
	window:    16,
	putMax:    64 << 20,
	partSize:  5 << 20,
	uploads:   4,
	quick:     25 * time.Millisecond,
	response:  15 * time.Second,
	stall:     5 * time.Second,
	backOff:   200 * time.Millisecond,
	tries:     6,
}

const (
	// headBytes is how many of a file's first bytes are read before its key is
	// chosen.
	headBytes = 4 << 10

	// maxChanges is how many attempts with ranges may end because the source changed.
	// The next attempt reads the source in one response, because the nodes of some CDNs
	// give the same file different ETags or times.
	maxChanges = 2

	maxBackOff = 5 * time.Second
)

// Copy copies the file at rawURL into an object. It calls keyOf with the first 4 KiB of the file,
// or with the whole file if it is shorter. keyOf returns the object's key and content type. If Copy
// reads the file again from its first byte, it calls keyOf again.
//
// If the key already holds a copy of the file, Copy returns a description of that object.
// An object counts as a copy if it begins with the first bytes of the file. The object's
// length must match too if the file's length is known, and the object's SHA-256 if the file
// was read to its end.
//
// The error is of package workflow: an OutputRefused, OutputTooLarge, NoOutput,
// OutputChanged, OutputOccupied, OutputUnavailable or StorageUnavailable; or it is
// context.Cause(ctx). The error contains no query of a URL. After an error the key does not
// hold an incomplete file. Copy aborts an upload that fails; if the abort fails too, the
// error says so. ctx should end some seconds before the process does, so that an upload
// can be aborted.
func (c *Copier) Copy(ctx context.Context, rawURL string, keyOf func(head []byte) (key, contentType string)) (Object, error) {
	u, err := origins.ParseURL(rawURL)
	if err != nil {
		return Object{}, err
	}
	a := c.newAttempts()
	transport := c.Origins.Transport(c.dialer, a.pace.window)
	// A Lambda function may be frozen for hours after it has returned.
	defer transport.CloseIdleConnections()
	a.src = &source{given: u, origins: c.Origins, transport: transport, pace: a.pace}
	a.keyOf = keyOf

	var changed error
	for try, changes := 1, 0; ; try++ {
		object, err := a.run(ctx)
		_, isChange := errors.AsType[*workflow.OutputChanged](err)
		switch {
		case err == nil:
			return object, nil
		case isChange:
			changes, changed = changes+1, err
			a.ranged = a.ranged && changes < maxChanges
			err = &temporaryError{error: err}
		case errors.Is(err, errRange) && a.ranged:
			a.ranged = false
			err = &temporaryError{error: err}
		}
		err = a.pace.waitToRetry(ctx, try, err)
		if _, ok := errors.AsType[*workflow.OutputUnavailable](err); ok && changes >= maxChanges {
			return Object{}, changed // the change explains the failure better
		}
		if err != nil {
			return Object{}, err
		}
	}
}

// Find returns the object with the key if an earlier Copy of the file at rawURL
// made it. It does not request the source. Its error is an OutputRefused, a
// StorageUnavailable or context.Cause(ctx).
func (c *Copier) Find(ctx context.Context, rawURL, key string) (Object, bool, error) {
	u, err := origins.ParseURL(rawURL)
	if err != nil {
		return Object{}, false, err
	}
	a := c.newAttempts()
	a.key = key
	stored, err := a.objects.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && stored.Metadata[sourceMetadata] != hashOf(u) {
		return Object{}, false, nil
	}
	if err != nil {
		return Object{}, false, a.storageError(err)
	}
	object, err := a.describe(ctx, stored, nil)
	return object, err == nil, err
}

// attempts are the attempts of one Copy. Each attempt copies the source from its first byte. Find
// makes no attempt, and sets neither src nor keyOf.
type attempts struct {
	*Copier
	objects *bucket.Bucket
	pace    pace
	src     *source
	keyOf   func([]byte) (string, string)
	ranged  bool // use ranges if the source has them
	stream  bool // use one PUT if the file is small

	key, contentType string // of the object
}

func (c *Copier) newAttempts() *attempts {
	return &attempts{Copier: c, objects: &bucket.Bucket{S3: c.S3, Name: c.Bucket}, pace: cmp.Or(c.pace, defaultPace), ranged: true, stream: true}
}

// run makes one attempt. After a *temporaryError, a *workflow.OutputChanged or errRange, Copy may make
// another attempt.
func (a *attempts) run(parent context.Context) (Object, error) {
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	src, size := a.src, int64(whole)
	if a.ranged {
		size = toEnd
	}
	first, err := src.request(ctx, src.given, 0, size)
	if err != nil {
		return Object{}, err
	}
	defer first.close()
	if src.total > a.MaxBytes {
		return Object{}, tooLarge(src.total, a.MaxBytes)
	}
	d := start(ctx, fail, src, first, a.MaxBytes)
	defer func() { fail(nil); d.done.Wait() }()
	head, err := d.unread()
	switch {
	case err == io.EOF: //nolint:errorlint // unread does not wrap it
		return Object{}, src.emptyError()
	case err != nil:
		return Object{}, err
	}
	head = bytes.Clone(head[:min(len(head), headBytes)])
	a.key, a.contentType = a.keyOf(head)
	return a.store(parent, d, head)
}

// store creates the object from a download whose first bytes are head. If the key already holds
// a copy of the file, store describes that object.
func (a *attempts) store(ctx context.Context, d *download, head []byte) (Object, error) {
	send := a.put
	stream := a.stream && d.src.total > 0 && d.src.total <= a.pace.putMax
	if !stream {
		if there, found, err := a.find(ctx, d, head); found || err != nil {
			return there, err
		}
		send = a.upload
	}
	etag, err := send(d)
	if err == nil {
		length, sum, _ := d.result()
		return Object{Key: a.key, ETag: strings.Trim(aws.ToString(etag), `"`), Bytes: length, SHA256: sum, ContentType: a.contentType}, nil
	}
	if d.ctx.Err() != nil {
		return Object{}, context.Cause(d.ctx)
	}
	// Somebody else may have created the object, or S3 created it and the response was lost.
	d.fail(nil)
	there, found, findErr := a.find(ctx, d, head)
	switch {
	case found:
		return there, findErr
	case findErr != nil:
		return Object{}, err
	case stream:
		a.stream = false // the next attempt uploads in parts
		return Object{}, &temporaryError{error: err}
	}
	switch bucket.HTTPStatus(err) {
	// 409: another write of the key was under way. 412: an object had the key, but somebody
	// has removed that object. 404: somebody removed the upload.
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusNotFound:
		return Object{}, &temporaryError{error: err}
	}
	return Object{}, err
}

// waitToRetry waits before the next try after err. If there should be no other try, it returns
// the error to report.
func (p pace) waitToRetry(ctx context.Context, try int, err error) error {
	temporary, ok := errors.AsType[*temporaryError](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !ok:
		return err
	case try >= p.tries:
		return temporary.error
	}
	// The wait is random, so that ranges that failed at the same time are not requested
	// again at the same time.
	wait := min(p.backOff<<(try-1), maxBackOff)
	wait = max(wait/2+rand.N(wait/2+1), temporary.after)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

func tooLarge(bytes, limit int64) error {
	return &workflow.OutputTooLarge{Failure: workflow.Failuref("the output has at least %d bytes; the limit is %d", bytes, limit)}
}
