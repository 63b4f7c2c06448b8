package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// bucket is a bucket as a person uses it.
type bucket struct {
	s3   *s3.Client
	name string
}

// upload puts a file of this machine at a key.
func (b bucket) upload(ctx context.Context, path, key string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: file}
	if kind := mime.TypeByExtension(filepath.Ext(path)); kind != "" {
		in.ContentType = &kind
	}
	if _, err := b.s3.PutObject(ctx, in); err != nil {
		return fmt.Errorf("%s cannot be dropped: %w", path, plainly(err))
	}
	return nil
}

// download copies an object to a path of this machine.
func (b bucket) download(ctx context.Context, key, path string) error {
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return fmt.Errorf("%s cannot be copied: %w", key, plainly(err))
	}
	defer out.Body.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	partial := path + ".partial"
	file, err := os.Create(partial)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, out.Body)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s cannot be copied: %w", key, plainly(err)), os.Remove(partial))
	}
	return os.Rename(partial, path)
}

// status returns the status of a name; the zero one where there is none.
func (b bucket) status(ctx context.Context, name string) (ledger.Status, error) {
	var st ledger.Status
	key := ledger.StatusKey(name)
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("the status of %s cannot be read: %w", name, plainly(err))
	}
	defer out.Body.Close()
	if err := json.NewDecoder(out.Body).Decode(&st); err != nil {
		return st, fmt.Errorf("the status of %s cannot be read: %w", name, plainly(err))
	}
	return st, nil
}

// plainly returns an error of S3 as a person can read it: the server's own
// code and message, without the ids of the request.
func plainly(err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("the S3 server answered %s: %s", api.ErrorCode(), api.ErrorMessage())
	}
	return err
}
