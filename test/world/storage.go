package world

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/s3test"
)

// client is the world as the functions' client of S3.
type client World

// attempt makes a call as the SDK does: once more after an error that may pass.
func (w *World) attempt(ctx context.Context, service, op, key string, do func() error) error {
	var err error
	for range w.Attempts {
		call := callOf(ctx, service, op, key)
		if err = w.before(call); err == nil {
			if err = do(); err == nil {
				err = w.after(call)
			}
		}
		if err == nil || !passing(err) {
			return err
		}
	}
	return err
}

// passing reports whether the SDK tries again after an error: those of a
// server's, and those without any answer.
func passing(err error) bool {
	if answered, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answered.HTTPStatusCode() >= http.StatusInternalServerError
	}
	var told interface{ ErrorCode() string }
	return !errors.As(err, &told)
}

// Throttled and Conflicting are answers of S3, for Before: too many requests,
// and another conditional write of the same key at the same moment.
var (
	Throttled   = s3test.Error(http.StatusServiceUnavailable, "SlowDown")
	Conflicting = s3test.Error(http.StatusConflict, "ConditionalRequestConflict")
)

func (c *client) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (out *s3.GetObjectOutput, err error) {
	w := (*World)(c)
	err = w.attempt(ctx, "s3", "GetObject", *in.Key, func() (err error) {
		out, err = w.Bucket.GetObject(ctx, in)
		return err
	})
	return out, err
}

func (c *client) HeadObject(ctx context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (out *s3.HeadObjectOutput, err error) {
	w := (*World)(c)
	err = w.attempt(ctx, "s3", "HeadObject", *in.Key, func() (err error) {
		out, err = w.Bucket.HeadObject(ctx, in)
		return err
	})
	return out, err
}

func (c *client) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (out *s3.ListObjectsV2Output, err error) {
	w := (*World)(c)
	err = w.attempt(ctx, "s3", "ListObjectsV2", *in.Prefix, func() (err error) {
		out, err = w.Bucket.ListObjectsV2(ctx, in)
		return err
	})
	return out, err
}

func (c *client) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (out *s3.PutObjectOutput, err error) {
	w := (*World)(c)
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	err = w.attempt(ctx, "s3", "PutObject", *in.Key, func() (err error) {
		in.Body = bytes.NewReader(body)
		out, err = w.Bucket.PutObject(ctx, in)
		return err
	})
	return out, err
}

func (c *client) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (out *s3.DeleteObjectOutput, err error) {
	w := (*World)(c)
	err = w.attempt(ctx, "s3", "DeleteObject", *in.Key, func() (err error) {
		out, err = w.Bucket.DeleteObject(ctx, in)
		return err
	})
	return out, err
}

// version is what one version of a dropped file is kept under.
func version(key, etag string) string { return etag + " " + key }

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}
