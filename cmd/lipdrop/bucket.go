package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// keysBelow returns every key below a prefix, in order.
func keysBelow(ctx context.Context, b *bucket.Bucket, prefix string) ([]string, error) {
	files, _, err := b.List(ctx, prefix, math.MaxInt)
	var keys []string
	for _, f := range files {
		keys = append(keys, f.Key)
	}
	return keys, plainly(err)
}

// upload writes a file to a key, even if an object is there. Package bucket has no method for
// this, because the Lambda functions write only under a condition.
func upload(ctx context.Context, b *bucket.Bucket, key string, file io.ReadSeeker, metadata map[string]string) error {
	in := &s3.PutObjectInput{Bucket: &b.Name, Key: &key, Body: file, Metadata: metadata, ContentType: bucket.ContentType(key)}
	if _, err := b.S3.PutObject(ctx, in); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// remove deletes an object. Package bucket has no method for this, because the Lambda
// functions delete nothing.
func remove(ctx context.Context, b *bucket.Bucket, key string) error {
	client := b.S3.(*s3.Client) // the command uses no other client
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &key}); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// maxPart is how many bytes a part of a key in the local bucket may have. The local
// S3 server cannot replace an object whose key has a longer part.
const maxPart = 215

// checkLocalKey returns an error if a part of a key is too long for the local bucket.
func checkLocalKey(key string) error {
	for part := range strings.SplitSeq(key, "/") {
		if len(part) > maxPart {
			return fmt.Errorf("the name %s has %d bytes; the local S3 server accepts at most %d. Shorten the name", part, len(part), maxPart)
		}
	}
	return nil
}

// plainly shortens an error of the S3 server: what remains is the action, the key, and the server's
// code and message. It does not change other errors.
func plainly(err error) error {
	sdk, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return err
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	action, _, _ := strings.Cut(err.Error(), sdk.Error())
	return fmt.Errorf("%sthe S3 server responded %s: %s", action, api.ErrorCode(), strings.TrimSuffix(api.ErrorMessage(), "."))
}
