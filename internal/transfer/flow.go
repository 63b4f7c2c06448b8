package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// A flow is the body of the one request that puts a file while it is still
// coming.
type flow struct {
	parts   chan *part // hashed, in order; closed after the last
	release func(*part)

	ctx  context.Context
	idle *time.Timer // ends the request where S3 takes nothing of what is there
	hung time.Duration

	now  *part
	left []byte // of now
}

// A flowError ends a run whose put went wrong.
type flowError struct{ err error }

func (e *flowError) Error() string { return e.err.Error() }
func (e *flowError) Unwrap() error { return e.err }

var errHung = errors.New("S3 took nothing for too long")

// Read takes from the part that is next. The time for which there is none does
// not count as S3's.
func (f *flow) Read(b []byte) (int, error) {
	f.idle.Stop()
	defer f.idle.Reset(f.hung)
	for len(f.left) == 0 {
		if f.now != nil {
			f.release(f.now)
			f.now = nil
		}
		select {
		case f.now = <-f.parts:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
		if f.now == nil {
			return 0, io.EOF
		}
		f.left = f.now.data
	}
	n := copy(b, f.left)
	f.left = f.left[n:]
	return n, nil
}

// putFlow makes the object in one request, unless the key has been taken. S3
// checks the length, and the CRC32 that follows the body; the SDK takes no answer
// before the body's end for a success. The request is made once: what has gone
// through the flow cannot be sent again. Its error is a *flowError.
func (o *object) putFlow(ctx context.Context, f *flow, length int64) put {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	f.ctx, f.hung = ctx, o.pace.upload
	f.idle = time.AfterFunc(f.hung, func() { giveUp(errHung) })
	defer f.idle.Stop()
	out, err := o.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.bucket, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata(), IfNoneMatch: aws.String("*"),
		Body: f, ContentLength: &length, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}, func(options *s3.Options) { options.RetryMaxAttempts = 1 })
	if err != nil {
		return put{err: &flowError{o.failed("PutObject", cause(ctx, err))}}
	}
	return put{etag: aws.ToString(out.ETag), version: aws.ToString(out.VersionId)}
}
