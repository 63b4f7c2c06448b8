package world

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// client is the functions' client of S3.
type client World

// attempt makes a call as the SDK does. It repeats the call after an error that may
// be temporary.
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

// passing reports whether the SDK retries after an error. It retries if the server
// returned an HTTP status of 500 or more, and if there was no response.
func passing(err error) bool {
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return resp.HTTPStatusCode() >= http.StatusInternalServerError
	}
	var coded interface{ ErrorCode() string }
	return !errors.As(err, &coded)
}

// Throttled and Conflicting are errors of S3, for Before. S3 returns Throttled for
// too many requests, and Conflicting if another conditional write of the same key
// runs at the same time.
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
		if out, err = w.Bucket.PutObject(ctx, in); err == nil {
			w.remember(*in.Key, body)
		}
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

// remember notes what a status or a record says.
func (w *World) remember(key string, body []byte) {
	prefix, _, _ := strings.Cut(key, "/")
	if prefix != "status" && prefix != "answers" && prefix != "jobs" {
		return
	}
	var s saying
	if err := json.Unmarshal(body, &s); err != nil {
		panic(err) // the functions write only JSON there
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[s] = true
}

// saying is what a status, a record or a notice says.
type saying struct {
	Name   string
	State  ledger.State
	Code   problem.Code
	Take   string
	Reason string
}

// version returns the key of World.versions for one version of a dropped file.
func version(key, etag string) string { return etag + " " + key }

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}
