package transfer

import (
	"bytes"
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

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// createTime limits the creation of a multipart upload, and abortTime its abort. Both
	// requests continue if the copy's context ends, so that no upload is left open: without the
	// creation's response, there is no id to abort.
	createTime = 10 * time.Second
	abortTime  = 5 * time.Second

	// rangeTime limits a request that reads a range of the object from S3.
	rangeTime = time.Minute

	maxParts = 10_000 // S3's limit for one upload

	// sourceMetadata names the object's metadata that holds the hash of the source's address (see hashOf).
	sourceMetadata = "lipdrop-source"
)

// hashOf returns a hash of an address without its query, because another address of the same file
// may have another signature in its query.
func hashOf(u *url.URL) string {
	sum := sha256.Sum256([]byte(origins.Of(u) + u.EscapedPath()))
	return hex.EncodeToString(sum[:16])
}

// put creates the object by one request that starts before the download ends. S3
// checks the length and the CRC32 that follows the body. The request cannot be
// retried, because the download cannot be read again.
func (a *attempts) put(d *download) (etag *string, err error) {
	out, err := a.S3.PutObject(d.ctx, &s3.PutObjectInput{
		Bucket: &a.objects.Name, Key: &a.key, ContentType: &a.contentType, IfNoneMatch: aws.String("*"),
		Metadata: map[string]string{sourceMetadata: hashOf(a.src.given)},
		Body:     d, ContentLength: &d.src.total, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}, func(options *s3.Options) { options.RetryMaxAttempts = 1 })
	if err != nil {
		return nil, a.storageError(err)
	}
	return out.ETag, nil
}

// upload creates the object in parts, or by one request if the file is smaller than a
// part. S3 checks the length, and the CRC32 of each part and of the object. A failed
// upload is aborted.
func (a *attempts) upload(d *download) (etag *string, err error) {
	u := &uploader{S3: a.S3, file: d}
	out, err := transfermanager.New(u).UploadObject(d.ctx, &transfermanager.UploadObjectInput{
		Bucket: &a.objects.Name, Key: &a.key, ContentType: &a.contentType, IfNoneMatch: aws.String("*"),
		Metadata: map[string]string{sourceMetadata: hashOf(a.src.given)},
		Body:     d, ChecksumAlgorithm: tmtypes.ChecksumAlgorithmCrc32, ChecksumType: tmtypes.ChecksumTypeFullObject,
	}, func(options *transfermanager.Options) {
		options.PartSizeBytes = max(a.pace.partSize, d.limit/maxParts+1)
		options.MultipartUploadThreshold = options.PartSizeBytes
		options.Concurrency, options.FailTimeout = a.pace.uploads, abortTime
	})
	switch {
	case err != nil && u.abortErr != nil:
		return nil, &workflow.StorageUnavailable{Failure: workflow.Failuref("%w; %w", a.storageError(err), a.storageError(u.abortErr))}
	case err != nil:
		return nil, a.storageError(err)
	}
	return out.ETag, nil
}

// storageError returns err as a *workflow.StorageUnavailable, without the query of the
// request's address.
func (a *attempts) storageError(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		request.URL, _, _ = strings.Cut(request.URL, "?")
	}
	if call, ok := errors.AsType[*smithy.OperationError](err); ok {
		err = fmt.Errorf("%s %s: %w", call.OperationName, a.key, call.Err)
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

// AbortMultipartUpload stores its error, which transfermanager does not return. HTTP 404 is not
// stored: the upload is gone.
func (u *uploader) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, options ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	out, err := u.S3.AbortMultipartUpload(ctx, in, options...)
	if bucket.HTTPStatus(err) != http.StatusNotFound {
		u.abortErr = err
	}
	return out, err
}

// find returns the object that has a.key, if there is one. It returns a *workflow.OutputOccupied
// if the object does not begin with head (the first bytes of the file that d downloads), or if its
// length or its SHA-256 is known to differ from that of the file.
func (a *attempts) find(ctx context.Context, d *download, head []byte) (there Object, found bool, err error) {
	stored, err := a.objects.Head(ctx, a.key)
	if errors.Is(err, bucket.ErrNotFound) {
		return Object{}, false, nil
	}
	if err != nil {
		return Object{}, false, a.storageError(err)
	}
	length, sum, complete := d.result()
	if !complete {
		length = d.src.total
	}
	if length >= 0 && stored.Size != length {
		return Object{}, true, a.occupied(fmt.Sprintf("it has %d bytes, and the output has %d", stored.Size, length))
	}
	there, err = a.describe(ctx, stored, head)
	if err == nil && complete && there.SHA256 != sum {
		err = a.occupied("its SHA-256 differs")
	}
	return there, true, err
}

func (a *attempts) occupied(reason string) error {
	return &workflow.OutputOccupied{Failure: workflow.Failuref("%s holds another object: %s", a.key, reason)}
}

// describe describes an object of the bucket. It reads the whole object, because S3 does
// not store the SHA-256. It returns a *workflow.OutputOccupied if the object does not begin
// with head.
func (a *attempts) describe(ctx context.Context, stored bucket.File, head []byte) (Object, error) {
	if stored.Size < int64(len(head)) {
		return Object{}, a.occupied("its first bytes differ")
	}
	sha := sha256.New()
	for from, try := int64(0), 1; from < stored.Size; {
		limited, cancel := context.WithTimeout(ctx, rangeTime)
		part, err := a.objects.ReadRange(limited, stored, from, a.pace.partSize)
		cancel()
		switch {
		case err != nil:
			if err := a.pace.waitToRetry(ctx, try, &temporaryError{error: a.storageError(err)}); err != nil {
				return Object{}, err
			}
			try++
			continue
		case from == 0 && !bytes.HasPrefix(part, head):
			return Object{}, a.occupied("its first bytes differ")
		}
		sha.Write(part)
		from += int64(len(part))
	}
	sum := hex.EncodeToString(sha.Sum(nil))
	return Object{Key: a.key, ETag: stored.ETag, Bytes: stored.Size, SHA256: sum, ContentType: stored.ContentType, Existed: true}, nil
}
