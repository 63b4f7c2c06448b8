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
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// s3Client is the functions' client of S3.
type s3Client struct{ *World }

// call retries as the SDK does: after an error that may be temporary, it repeats the call, up to
// w.Attempts calls in all.
func call[Out any](ctx context.Context, w *World, service, op, key string, do func() (Out, error)) (out Out, err error) {
	for range w.Attempts {
		out, err = once(ctx, w, service, op, key, do)
		if errors.Is(err, ErrSilent) {
			const timeout = time.Minute // of the client that package bucket makes
			wait := patience(ctx, timeout)
			w.Spend(wait)
			if wait < timeout {
				return out, context.DeadlineExceeded
			}
		}
		if err == nil || !isTemporary(err) {
			break
		}
	}
	return out, err
}

// isTemporary reports whether the SDK retries after an error. The SDK retries if the HTTP status
// is 500 or more, if Step Functions throttles, or if there was no response. ErrThrottledStates and
// the errors for no response have no ErrorCode method. With ErrEntry there was a response with the
// HTTP status 200, so the SDK does not retry.
func isTemporary(err error) bool {
	if errors.Is(err, ErrEntry) {
		return false
	}
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return resp.HTTPStatusCode() >= http.StatusInternalServerError
	}
	var coded interface{ ErrorCode() string }
	return !errors.As(err, &coded)
}

// ErrSilent lets World.Before simulate that S3 sends no response. Each try then lasts until the
// timeout of the client or the deadline of the context, whichever is earlier.
var ErrSilent = errors.New("no response")

// Throttled and Conflicting are errors of S3 that World.Before may return. S3 returns
// Throttled for too many requests, and Conflicting if another conditional write to the
// same key runs at the same time.
var (
	Throttled   = s3test.Error(http.StatusServiceUnavailable, "SlowDown")
	Conflicting = s3test.Error(http.StatusConflict, "ConditionalRequestConflict")
)

func (w s3Client) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return call(ctx, w.World, "s3", "GetObject", *in.Key, func() (*s3.GetObjectOutput, error) { return w.Bucket.GetObject(ctx, in) })
}

func (w s3Client) HeadObject(ctx context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return call(ctx, w.World, "s3", "HeadObject", *in.Key, func() (*s3.HeadObjectOutput, error) { return w.Bucket.HeadObject(ctx, in) })
}

func (w s3Client) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return call(ctx, w.World, "s3", "ListObjectsV2", *in.Prefix, func() (*s3.ListObjectsV2Output, error) { return w.Bucket.ListObjectsV2(ctx, in) })
}

func (w s3Client) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	return call(ctx, w.World, "s3", "PutObject", *in.Key, func() (*s3.PutObjectOutput, error) {
		in.Body = bytes.NewReader(body)
		out, err := w.Bucket.PutObject(ctx, in)
		if err == nil {
			w.remember(*in.Key, body)
		}
		return out, err
	})
}

// remember adds the outcome in a status, an answer file or a record to w.outcomes.
func (w *World) remember(key string, body []byte) {
	prefix, _, _ := strings.Cut(key, "/")
	if prefix != "status" && prefix != "answers" && prefix != "jobs" {
		return
	}
	var o outcome
	if err := json.Unmarshal(body, &o); err != nil {
		panic(err) // the functions write only JSON there
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes[o] = true
}

// outcome is what a status, an answer file, a record or a notice says.
type outcome struct {
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
