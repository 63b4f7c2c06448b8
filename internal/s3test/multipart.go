package s3test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

var errNoUpload = Error(http.StatusNotFound, "NoSuchUpload")

// CreateMultipartUpload implements the client's method.
func (b *Bucket) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	return operate(ctx, b, "CreateMultipartUpload", *in.Key, func() (*s3.CreateMultipartUploadOutput, error) {
		b.sequence++
		id := strconv.Itoa(b.sequence)
		if b.uploads == nil {
			b.uploads = map[string]*upload{}
		}
		b.uploads[id] = &upload{key: *in.Key, in: in, parts: map[int32][]byte{}, initiated: b.now()}
		return &s3.CreateMultipartUploadOutput{UploadId: &id}, nil
	})
}

// UploadPart implements the client's method.
func (b *Bucket) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	return operate(ctx, b, "UploadPart", *in.Key, func() (*s3.UploadPartOutput, error) {
		u, ok := b.uploads[*in.UploadId]
		if !ok {
			return nil, errNoUpload
		}
		u.parts[*in.PartNumber] = body
		return &s3.UploadPartOutput{ETag: aws.String(fmt.Sprintf(`"part-%d"`, *in.PartNumber))}, nil
	})
}

// CompleteMultipartUpload implements the client's method. As in S3, the LastModified
// of the object is the time at which the upload was initiated.
func (b *Bucket) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	return operate(ctx, b, "CompleteMultipartUpload", *in.Key, func() (*s3.CompleteMultipartUploadOutput, error) {
		u, ok := b.uploads[*in.UploadId]
		if !ok {
			return nil, errNoUpload
		}
		if err := b.allowed(*in.Key, in.IfMatch, in.IfNoneMatch); err != nil {
			return nil, err
		}
		var body []byte
		for _, part := range in.MultipartUpload.Parts {
			data, ok := u.parts[*part.PartNumber]
			if !ok {
				return nil, Error(http.StatusBadRequest, "InvalidPart")
			}
			body = append(body, data...)
		}
		delete(b.uploads, *in.UploadId)
		o := b.store(u.key, body, aws.ToString(u.in.ContentType), u.in.Metadata, u.initiated)
		return &s3.CompleteMultipartUploadOutput{ETag: &o.etag}, nil
	})
}

// AbortMultipartUpload implements the client's method.
func (b *Bucket) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	return operate(ctx, b, "AbortMultipartUpload", *in.Key, func() (*s3.AbortMultipartUploadOutput, error) {
		if _, ok := b.uploads[*in.UploadId]; !ok {
			return nil, errNoUpload
		}
		delete(b.uploads, *in.UploadId)
		return &s3.AbortMultipartUploadOutput{}, nil
	})
}
