package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// createTime limits the creation of a multipart upload, and abortTime its
	// abort. Neither ends with the copy's context: an upload can be aborted only
	// once its id is known.
	createTime = 10 * time.Second
	abortTime  = 5 * time.Second

	readTries = 3      // of an existing object
	maxParts  = 10_000 // S3's limit for one upload

	// sourceMetadata is the object metadata that holds hashOf the source.
	sourceMetadata = "lipdrop-source"
)

// An object is the destination of one attempt.
type object struct {
	s3          S3
	bucket, key string
	contentType string
	metadata    map[string]string
	pace        pace
}

// hashOf returns a hash of an address without its query, which may be a
// signature.
func hashOf(u *url.URL) string {
	sum := sha256.Sum256([]byte(originOf(u) + u.EscapedPath()))
	return hex.EncodeToString(sum[:16])
}

// put creates the object by one request that starts before the file is complete,
// unless the key is taken. S3 checks the length and the CRC32 that follows the
// body. The request cannot be retried, because the download cannot be read again.
func (o *object) put(ctx context.Context, d *download) (Object, error) {
	out, err := o.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.bucket, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata, IfNoneMatch: aws.String("*"),
		Body: d, ContentLength: &d.src.total, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}, o.withTimeout, func(options *s3.Options) { options.RetryMaxAttempts = 1 })
	if err != nil {
		return Object{}, cause(ctx, o.failed("PutObject", err))
	}
	return o.made(d, out.ETag, out.VersionId), nil
}

// upload creates the object in parts, or by one request if it is smaller than a
// part, unless the key is taken. S3 checks the length, and the CRC32 of each part
// and of the object. The object has at most maxBytes. If the upload fails, it is
// aborted.
func (o *object) upload(ctx context.Context, d *download, maxBytes int64) (Object, error) {
	u := &uploader{S3: o.s3, object: o, file: d}
	out, err := transfermanager.New(u).UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &o.bucket, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata, IfNoneMatch: aws.String("*"),
		Body: d, ChecksumAlgorithm: tmtypes.ChecksumAlgorithmCrc32, ChecksumType: tmtypes.ChecksumTypeFullObject,
	}, func(options *transfermanager.Options) {
		options.PartSizeBytes = max(o.pace.partSize, (maxBytes+maxParts-1)/maxParts)
		options.MultipartUploadThreshold = options.PartSizeBytes
		options.Concurrency, options.FailTimeout = o.pace.uploads, abortTime
	})
	if err != nil {
		err = cause(ctx, o.failed("UploadObject", err))
		if u.abortErr != nil {
			err = fmt.Errorf("%w; %w", err, u.abortErr)
		}
		return Object{}, err
	}
	return o.made(d, out.ETag, out.VersionID), nil
}

func (o *object) made(d *download, etag, version *string) Object {
	return Object{
		Key: o.key, ETag: aws.ToString(etag), VersionID: aws.ToString(version),
		Bytes: d.bytes, SHA256: hex.EncodeToString(d.sha.Sum(nil)), ContentType: o.contentType,
	}
}

// failed returns a *StorageUnavailable, without the query of the request's address. op
// is the call that failed, if err does not name it.
func (o *object) failed(op string, err error) error {
	if call, ok := errors.AsType[*smithy.OperationError](err); ok {
		op, err = call.OperationName, call.Err
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		request.URL, _, _ = strings.Cut(request.URL, "?")
	}
	return &StorageUnavailable{Op: op, Key: o.key, Err: err}
}

// An uploader is the S3 client that transfermanager uses.
type uploader struct {
	S3
	object   *object
	file     *download
	abortErr error
}

func (u *uploader) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, options ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTime)
	defer cancel()
	return u.S3.CreateMultipartUpload(ctx, in, options...)
}

func (u *uploader) UploadPart(ctx context.Context, in *s3.UploadPartInput, options ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	return u.S3.UploadPart(ctx, in, append(options, u.object.withTimeout)...)
}

// CompleteMultipartUpload adds the length and the CRC32 of the object, which are
// known only now.
func (u *uploader) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, options ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	in.MpuObjectSize = &u.file.bytes
	in.ChecksumCRC32 = aws.String(base64.StdEncoding.EncodeToString(u.file.crc.Sum(nil)))
	return u.S3.CompleteMultipartUpload(ctx, in, options...)
}

// AbortMultipartUpload stores its error, which transfermanager does not return.
func (u *uploader) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, options ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	out, err := u.S3.AbortMultipartUpload(ctx, in, options...)
	if err != nil && httpStatus(err) != http.StatusNotFound {
		u.abortErr = u.object.failed("AbortMultipartUpload", err)
	}
	return out, err
}

// withTimeout gives up a request if S3 accepts no bytes and sends no response for
// pace.upload. The time in which the source has no bytes does not count.
func (o *object) withTimeout(options *s3.Options) {
	options.HTTPClient = timeoutClient{options.HTTPClient, o.pace.upload}
}

type timeoutClient struct {
	s3.HTTPClient
	limit time.Duration
}

func (c timeoutClient) Do(r *http.Request) (*http.Response, error) {
	ctx, giveUp := context.WithCancel(r.Context())
	idle := time.AfterFunc(c.limit, giveUp)
	defer idle.Stop()
	r = r.WithContext(ctx)
	r.Body = &timedBody{r.Body, idle, c.limit}
	return c.HTTPClient.Do(r)
}

// A timedBody runs a timer while it is not read.
type timedBody struct {
	io.ReadCloser
	idle  *time.Timer
	limit time.Duration
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.idle.Stop()
	defer b.idle.Reset(b.limit)
	return b.ReadCloser.Read(p)
}

// find returns the object that has the key, or nil.
func (o *object) find(ctx context.Context) (*s3.HeadObjectOutput, error) {
	head, err := o.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
	if httpStatus(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, o.failed("HeadObject", err)
	}
	return head, nil
}

// existing describes an object that was found, by reading it: its SHA-256 is stored
// nowhere. It returns an *OutputOccupied if the object does not have the given
// length (-1: any) or does not start with the given bytes.
func (o *object) existing(ctx context.Context, found *s3.HeadObjectOutput, length int64, start []byte) (Object, error) {
	size := aws.ToInt64(found.ContentLength)
	if length >= 0 && size != length {
		return Object{}, &OutputOccupied{Key: o.key, Reason: fmt.Sprintf("%d bytes, the source has %d", size, length)}
	}
	for try := 1; ; try++ {
		head, sum, err := o.read(ctx, found.ETag)
		switch {
		case err != nil && try < readTries && ctx.Err() == nil:
			continue
		case err != nil:
			return Object{}, o.failed("GetObject", err)
		case !bytes.HasPrefix(head, start):
			return Object{}, &OutputOccupied{Key: o.key, Reason: "its first bytes differ"}
		}
		return Object{
			Key: o.key, ETag: aws.ToString(found.ETag), VersionID: aws.ToString(found.VersionId),
			Bytes: size, SHA256: sum, ContentType: aws.ToString(found.ContentType), Existed: true,
		}, nil
	}
}

// read returns the first bytes of the object, and its SHA-256.
func (o *object) read(ctx context.Context, etag *string) (head []byte, sum string, err error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	out, err := o.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key, IfMatch: etag})
	if err != nil {
		return nil, "", err
	}
	content := body{out.Body, ctx, giveUp, o.pace.stall}
	defer content.close()
	sha, buffer := sha256.New(), make([]byte, o.pace.pieceSize)
	for ended := false; !ended; {
		var n int
		if n, ended, err = content.read(buffer); err != nil {
			return nil, "", err
		}
		if head == nil {
			head = bytes.Clone(buffer[:min(n, headBytes)])
		}
		sha.Write(buffer[:n])
	}
	return head, hex.EncodeToString(sha.Sum(nil)), nil
}

// httpStatus returns the HTTP status of S3's response, or 0 if err holds none.
func httpStatus(err error) int {
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return resp.HTTPStatusCode()
	}
	return 0
}
