package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"os"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	s3bucket "github.com/lipdrop/lipdrop/internal/bucket"
)

// bucket is an S3 bucket with the operations that the command needs.
type bucket struct {
	s3   *s3.Client
	name string
}

// upload uploads a file of this machine to a key.
func (b bucket) upload(ctx context.Context, path, key string) error {
	file, _, err := openRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return b.put(ctx, file, key, nil)
}

// put uploads an open file.
func (b bucket) put(ctx context.Context, file *os.File, key string, metadata map[string]string) error {
	in := &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: file, Metadata: metadata}
	if kind := mime.TypeByExtension(path.Ext(key)); kind != "" {
		in.ContentType = &kind
	}
	if _, err := b.s3.PutObject(ctx, in); err != nil {
		return fmt.Errorf("%s cannot be dropped: %w", file.Name(), plainly(err))
	}
	return nil
}

// open returns the content of an object.
func (b bucket) open(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", key, plainly(err))
	}
	return out.Body, nil
}

// list returns the objects below a prefix, ordered by key.
func (b bucket) list(ctx context.Context, prefix string) ([]s3bucket.File, error) {
	files, _, err := (&s3bucket.Bucket{S3: b.s3, Name: b.name}).List(ctx, prefix, math.MaxInt)
	if err != nil {
		return nil, fmt.Errorf("the keys below %s cannot be listed: %w", prefix, plainly(err))
	}
	return files, nil
}

// keys returns every key below a prefix, in order.
func (b bucket) keys(ctx context.Context, prefix string) ([]string, error) {
	files, err := b.list(ctx, prefix)
	var keys []string
	for _, f := range files {
		keys = append(keys, f.Key)
	}
	return keys, err
}

// remove deletes an object.
func (b bucket) remove(ctx context.Context, key string) error {
	if _, err := b.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key}); err != nil {
		return fmt.Errorf("%s cannot be deleted: %w", key, plainly(err))
	}
	return nil
}

// longestName is the longest part of a path in the local bucket, in bytes. The
// local S3 server cannot replace an object whose name has a longer part.
const longestName = 215

// tooLong returns an error if a key is too long for the local bucket.
func tooLong(key string) error {
	for part := range strings.SplitSeq(key, "/") {
		if len(part) > longestName {
			return fmt.Errorf("the name %s has %d bytes; the local S3 server accepts at most %d. Rename it", part, len(part), longestName)
		}
	}
	return nil
}

// plainly shortens an error of S3 to the server's code and message.
func plainly(err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("the S3 server responded %s: %s", api.ErrorCode(), api.ErrorMessage())
	}
	return err
}
