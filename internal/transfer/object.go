package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
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

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// createTime limits the creation of a multipart upload, and abortTime its
	// abort. Neither ends with the copy's context: an upload can be aborted only
	// once its id is known.
	createTime = 10 * time.Second
	abortTime  = 5 * time.Second

	// rangeTime limits the request of a range of the object.
	rangeTime = time.Minute

	maxParts = 10_000 // S3's limit for one upload

	// sourceMetadata is the object metadata that holds hashOf the source.
	sourceMetadata = "lipdrop-source"
)

// An object is the destination of one attempt.
type object struct {
	s3          S3
	bucket      *bucket.Bucket
	key         string
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

// create creates the object from a download, unless the key is taken: by one
// request if stream is true, otherwise in parts.
func (o *object) create(ctx context.Context, d *download, stream bool) (Object, error) {
	send := o.upload
	if stream {
		send = o.put
	}
	etag, err := send(ctx, d)
	if err != nil {
		return Object{}, cmp.Or(context.Cause(ctx), err)
	}
	bytes, sum, _ := d.result()
	return Object{Key: o.key, ETag: strings.Trim(aws.ToString(etag), `"`), Bytes: bytes, SHA256: sum, ContentType: o.contentType}, nil
}

// put creates the object by one request that starts before the file is complete. S3
// checks the length and the CRC32 that follows the body. The request cannot be
// retried, because the download cannot be read again.
func (o *object) put(ctx context.Context, d *download) (etag *string, err error) {
	out, err := o.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.bucket.Name, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata, IfNoneMatch: aws.String("*"),
		Body: d, ContentLength: &d.src.total, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}, func(options *s3.Options) { options.RetryMaxAttempts = 1 })
	if err != nil {
		return nil, o.failed(err)
	}
	return out.ETag, nil
}

// upload creates the object in parts, or by one request if it is smaller than a
// part. S3 checks the length, and the CRC32 of each part and of the object. If the
// upload fails, it is aborted.
func (o *object) upload(ctx context.Context, d *download) (etag *string, err error) {
	u := &uploader{S3: o.s3, file: d}
	out, err := transfermanager.New(u).UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &o.bucket.Name, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata, IfNoneMatch: aws.String("*"),
		Body: d, ChecksumAlgorithm: tmtypes.ChecksumAlgorithmCrc32, ChecksumType: tmtypes.ChecksumTypeFullObject,
	}, func(options *transfermanager.Options) {
		options.PartSizeBytes = max(o.pace.partSize, d.limit/maxParts+1)
		options.MultipartUploadThreshold = options.PartSizeBytes
		options.Concurrency, options.FailTimeout = o.pace.uploads, abortTime
	})
	switch {
	case err != nil && u.abortErr != nil:
		return nil, &workflow.StorageUnavailable{Failure: workflow.Failuref("%w; %w", o.failed(err), o.failed(u.abortErr))}
	case err != nil:
		return nil, o.failed(err)
	}
	return out.ETag, nil
}

// failed returns a *workflow.StorageUnavailable, without the query of the request's address.
func (o *object) failed(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		request.URL, _, _ = strings.Cut(request.URL, "?")
	}
	if call, ok := errors.AsType[*smithy.OperationError](err); ok {
		err = fmt.Errorf("%s %s: %w", call.OperationName, o.key, call.Err)
	}
	return &workflow.StorageUnavailable{Failure: workflow.Failure{Err: err}}
}

// An uploader is the S3 client that transfermanager uses.
type uploader struct {
	S3
	file     *download
	abortErr error
}

func (u *uploader) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, options ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTime)
	defer cancel()
	return u.S3.CreateMultipartUpload(ctx, in, options...)
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
	if httpStatus(err) != http.StatusNotFound {
		u.abortErr = err
	}
	return out, err
}

// find returns the file that has the key, if there is one.
func (o *object) find(ctx context.Context) (file bucket.File, found bool, err error) {
	file, err = o.bucket.Head(ctx, o.key)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return file, false, nil
	case err != nil:
		return file, false, o.failed(err)
	}
	return file, true, nil
}

// findCopy returns the object that has the key, if there is one. It returns an
// *workflow.OutputOccupied if that is not a copy of the download, which starts with head.
func (o *object) findCopy(ctx context.Context, d *download, head []byte) (there Object, found bool, err error) {
	file, found, err := o.find(ctx)
	if err != nil || !found {
		return Object{}, found, err
	}
	occupied := func(reason string) (Object, bool, error) {
		return Object{}, true, &workflow.OutputOccupied{Failure: workflow.Failuref("%s holds another object: %s", o.key, reason)}
	}
	length, sum, complete := d.result()
	if !complete {
		length = d.src.total
	}
	if length >= 0 && file.Size != length {
		return occupied(fmt.Sprintf("%d bytes, the output has %d", file.Size, length))
	}
	start, err := o.readRange(ctx, file, 0, int64(len(head)))
	if err == nil && !bytes.Equal(start, head) {
		return occupied("its first bytes differ")
	}
	if err == nil {
		there, err = o.describe(ctx, file)
	}
	if err == nil && complete && there.SHA256 != sum {
		return occupied("its SHA-256 differs")
	}
	return there, true, err
}

// describe describes a file. It reads the whole file: the SHA-256 is stored nowhere.
func (o *object) describe(ctx context.Context, file bucket.File) (Object, error) {
	sha := sha256.New()
	for from := int64(0); from < file.Size; from += o.pace.partSize {
		part, err := o.readRange(ctx, file, from, o.pace.partSize)
		if err != nil {
			return Object{}, err
		}
		sha.Write(part)
	}
	sum := hex.EncodeToString(sha.Sum(nil))
	return Object{Key: o.key, ETag: file.ETag, Bytes: file.Size, SHA256: sum, ContentType: file.ContentType, Existed: true}, nil
}

// readRange reads up to size bytes of a file from an offset.
func (o *object) readRange(ctx context.Context, file bucket.File, from, size int64) ([]byte, error) {
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, rangeTime)
		part, err := o.bucket.ReadRange(limited, file, from, size)
		cancel()
		if err == nil {
			return part, nil
		}
		if err := o.pace.waitToRetry(ctx, try, &temporaryError{error: o.failed(err)}); err != nil {
			return nil, err
		}
	}
}

// httpStatus returns the HTTP status of S3's response, or 0 if err holds none.
func httpStatus(err error) int {
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return resp.HTTPStatusCode()
	}
	return 0
}
