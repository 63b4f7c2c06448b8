package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// openTime bounds the opening of an upload, and abortTime its abort: both go
	// on after a cancellation, the one to learn the upload's id, the other to end
	// it.
	openTime  = 10 * time.Second
	abortTime = 5 * time.Second

	// partTries is how often a part is sent that did not get through in time.
	partTries = 3

	// readTries is how often an object that was there already is read.
	readTries = 3
)

// An object is the destination of one run.
type object struct {
	s3          S3
	bucket, key string
	contentType string
	source      string // markOf the source
	pace        pace

	once     sync.Once
	uploadID string
	openErr  error

	mu    sync.Mutex
	parts []types.CompletedPart // by part number, from 1
}

// sourceMetadata is the metadata of an object that says which source it is a
// copy of. Only a whole copy becomes an object.
const sourceMetadata = "lipdrop-source"

// markOf returns what identifies a source in metadata: a hash of its address
// without the query, which may be a signature.
func markOf(u *url.URL) string {
	sum := sha256.Sum256([]byte(originOf(u) + u.EscapedPath()))
	return hex.EncodeToString(sum[:16])
}

func (o *object) metadata() map[string]string { return map[string]string{sourceMetadata: o.source} }

// Find returns the object at a key when an earlier Copy of the file at rawURL
// made it. It does not ask the source, which may be gone. Its error is a
// *OutputRefused or a *StorageUnavailable, or the cause of ctx's end.
func (c *Copier) Find(ctx context.Context, rawURL, key string) (Object, bool, error) {
	u, err := parseSource(rawURL)
	if err != nil {
		return Object{}, false, err
	}
	p := defaultPace
	if c.pace != nil {
		p = *c.pace
	}
	o := &object{s3: c.S3, bucket: c.Bucket, key: key, pace: p}
	head, err := o.find(ctx)
	if err != nil || head == nil || head.Metadata[sourceMetadata] != markOf(u) {
		return Object{}, false, err
	}
	found, err := o.existing(ctx, head, -1, nil)
	return found, err == nil, err
}

// failed wraps an error of the SDK, which may hold the address of its request:
// the query of that, an upload's id among it, is nobody's business.
func (o *object) failed(op string, err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		request.URL, _, _ = strings.Cut(request.URL, "?")
	}
	return &StorageUnavailable{Op: op, Key: o.key, Err: err}
}

// find returns the object that is there already, or nil.
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

// open starts the upload, once. It is not cut short by a cancellation, since an
// upload whose id was lost could not be aborted.
func (o *object) open(ctx context.Context) error {
	o.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
		defer cancel()
		out, err := o.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &o.bucket, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata(),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc32, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			o.openErr = o.failed("CreateMultipartUpload", err)
			return
		}
		o.uploadID = aws.ToString(out.UploadId)
	})
	return o.openErr
}

// send uploads one part, whose CRC32 S3 checks. A part that hangs is sent again.
func (o *object) send(ctx context.Context, number int32, data []byte) error {
	checksum := crc32Text(crc32.ChecksumIEEE(data))
	for try := 1; ; try++ {
		tryCtx, cancel := context.WithTimeout(ctx, o.pace.upload)
		out, err := o.s3.UploadPart(tryCtx, &s3.UploadPartInput{
			Bucket: &o.bucket, Key: &o.key, UploadId: &o.uploadID, PartNumber: &number,
			Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
			ChecksumCRC32: &checksum,
		})
		hung := tryCtx.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			for len(o.parts) < int(number) {
				o.parts = append(o.parts, types.CompletedPart{})
			}
			o.parts[number-1] = types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: &checksum}
			return nil
		}
		if !hung || try == partTries {
			return o.failed("UploadPart", err)
		}
	}
}

// complete makes the object of its parts, unless the key has been taken. S3
// checks the length and the CRC32 of the whole.
func (o *object) complete(ctx context.Context, bytes int64, crc uint32) put {
	out, err := o.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &o.bucket, Key: &o.key, UploadId: &o.uploadID, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: o.parts},
		MpuObjectSize:   &bytes,
		ChecksumCRC32:   aws.String(crc32Text(crc)), ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		return put{err: o.failed("CompleteMultipartUpload", err)}
	}
	return put{etag: aws.ToString(out.ETag), version: aws.ToString(out.VersionId)}
}

// put makes the object in one request, unless the key has been taken. S3 checks
// the CRC32.
func (o *object) put(ctx context.Context, data []byte) put {
	out, err := o.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.bucket, Key: &o.key, ContentType: &o.contentType, Metadata: o.metadata(), IfNoneMatch: aws.String("*"),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumCRC32: aws.String(crc32Text(crc32.ChecksumIEEE(data))),
	})
	if err != nil {
		return put{err: o.failed("PutObject", err)}
	}
	return put{etag: aws.ToString(out.ETag), version: aws.ToString(out.VersionId)}
}

// abort ends an upload that was opened, also after a cancellation. It returns
// nil where the upload is gone already.
func (o *object) abort(ctx context.Context) error {
	if o.uploadID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	_, err := o.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &o.bucket, Key: &o.key, UploadId: &o.uploadID,
	})
	if err == nil || httpStatus(err) == http.StatusNotFound {
		return nil
	}
	return o.failed("AbortMultipartUpload", err)
}

// existing describes the object that was found, by reading it: its SHA-256 is
// kept nowhere else. It returns an *OutputOccupied where the object has not the
// source's length (-1 where it is not known) or begins otherwise.
func (o *object) existing(ctx context.Context, found *s3.HeadObjectOutput, length int64, begin []byte) (Object, error) {
	got := aws.ToInt64(found.ContentLength)
	if length >= 0 && got != length {
		return Object{}, &OutputOccupied{Key: o.key, Reason: fmt.Sprintf("%d bytes, the source has %d", got, length)}
	}
	for try := 1; ; try++ {
		sum, err := o.read(ctx, found, begin)
		var occupied *OutputOccupied
		switch {
		case err == nil:
			return Object{
				Key: o.key, ETag: aws.ToString(found.ETag), VersionID: aws.ToString(found.VersionId),
				Bytes: got, SHA256: sum, ContentType: aws.ToString(found.ContentType), Existed: true,
			}, nil
		case errors.As(err, &occupied) || ctx.Err() != nil:
			return Object{}, err
		case try == readTries:
			return Object{}, o.failed("GetObject", err)
		}
	}
}

func (o *object) read(ctx context.Context, found *s3.HeadObjectOutput, begin []byte) (string, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	out, err := o.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key, IfMatch: found.ETag})
	if err != nil {
		return "", err
	}
	content := body{out.Body, ctx, giveUp, o.pace.stall}
	defer content.close()
	sum := sha256.New()
	buf := make([]byte, o.pace.pieceSize)
	for first := true; ; first = false {
		n, ended, err := content.read(buf)
		if err != nil {
			return "", err
		}
		if first && !bytes.HasPrefix(buf[:n], begin) {
			return "", &OutputOccupied{Key: o.key, Reason: "its first bytes differ"}
		}
		sum.Write(buf[:n])
		if ended {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
	}
}

// httpStatus returns the status of S3's answer, 0 where err holds none.
func httpStatus(err error) int {
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return resp.HTTPStatusCode()
	}
	return 0
}

func crc32Text(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}
