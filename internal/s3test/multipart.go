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
	var id string
	err := b.operate(ctx, "CreateMultipartUpload", *in.Key, func() error {
		b.sequence++
		id = strconv.Itoa(b.sequence)
		if b.uploads == nil {
			b.uploads = map[string]*upload{}
		}
		b.uploads[id] = &upload{key: *in.Key, in: in, parts: map[int32][]byte{}, initiated: b.now()}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &s3.CreateMultipartUploadOutput{UploadId: &id}, nil
}

// UploadPart implements the client's method.
func (b *Bucket) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	err = b.operate(ctx, "UploadPart", *in.Key, func() error {
		u, ok := b.uploads[*in.UploadId]
		if !ok {
			return errNoUpload
		}
		u.parts[*in.PartNumber] = body
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &s3.UploadPartOutput{ETag: aws.String(fmt.Sprintf(`"part-%d"`, *in.PartNumber))}, nil
}

// CompleteMultipartUpload implements the client's method. As in S3, the LastModified
// of the object is the time at which the upload was initiated.
func (b *Bucket) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	out := &s3.CompleteMultipartUploadOutput{}
	err := b.operate(ctx, "CompleteMultipartUpload", *in.Key, func() error {
		u, ok := b.uploads[*in.UploadId]
		if !ok {
			return errNoUpload
		}
		if err := b.allowed(*in.Key, in.IfMatch, in.IfNoneMatch); err != nil {
			return err
		}
		var body []byte
		for _, part := range in.MultipartUpload.Parts {
			data, ok := u.parts[*part.PartNumber]
			if !ok {
				return Error(http.StatusBadRequest, "InvalidPart")
			}
			body = append(body, data...)
		}
		delete(b.uploads, *in.UploadId)
		out.ETag = aws.String(b.store(u.key, body, aws.ToString(u.in.ContentType), u.in.Metadata, u.initiated).etag)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AbortMultipartUpload implements the client's method.
func (b *Bucket) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	err := b.operate(ctx, "AbortMultipartUpload", *in.Key, func() error {
		if _, ok := b.uploads[*in.UploadId]; !ok {
			return errNoUpload
		}
		delete(b.uploads, *in.UploadId)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &s3.AbortMultipartUploadOutput{}, nil
}
