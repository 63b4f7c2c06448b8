// Package s3test is an S3 bucket in memory. It has some of the methods of the SDK's client, and
// returns the client's errors. Conditional writes, ranges such as bytes=0-9, and listings behave as
// in the local stack's S3 server: a test of package gateway compares the two.
package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Bucket is one bucket. It ignores bucket names. The zero value is empty and ready to use. Its
// methods are safe for concurrent use, but no field may be set during a call.
type Bucket struct {
	// Now returns the time for LastModified. Defaults to time.Now.
	Now func() time.Time

	// Before is called before each operation. If it returns an error, the
	// operation returns that error and has no effect. After is called after the
	// operation has taken effect. If After returns an error, the operation returns
	// that error instead of its response, as if the response were lost.
	Before, After func(op, key string) error

	mu      sync.Mutex
	objects map[string]*object
	keys    []string // the keys of objects, sorted, so that a listing can begin anywhere
	calls   map[string]int
}

type object struct {
	body         []byte
	etag         string // in quotes
	contentType  string
	metadata     map[string]string
	lastModified time.Time // to the millisecond, as in a listing; GetObject and HeadObject return it to the second
}

// Error returns the client's error for an HTTP status and an error code of S3.
func Error(status int, code string) error {
	return &smithy.OperationError{ServiceID: "S3", Err: &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      &smithy.GenericAPIError{Code: code, Message: code},
		},
	}}
}

// ErrLost is an error that After may return: the response was lost.
var ErrLost = errors.New("the connection broke before the response arrived")

// LoseNextPut sets After so that the response to the next PutObject is lost.
func (b *Bucket) LoseNextPut() {
	b.After = func(op, _ string) error {
		if op != "PutObject" {
			return nil
		}
		b.After = nil
		return ErrLost
	}
}

// Retrying repeats a PutObject whose response was lost, as the SDK's client does.
type Retrying struct{ *Bucket }

// PutObject calls Bucket.PutObject, and calls it once more after ErrLost.
func (r Retrying) PutObject(ctx context.Context, in *s3.PutObjectInput, opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	in.Body = bytes.NewReader(body)
	out, err := r.Bucket.PutObject(ctx, in, opts...)
	if errors.Is(err, ErrLost) {
		in.Body = bytes.NewReader(body)
		return r.Bucket.PutObject(ctx, in, opts...)
	}
	return out, err
}

// Calls returns how often each operation was called, without the calls that Before
// refused.
func (b *Bucket) Calls() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.calls)
}

// Keys returns every key, sorted.
func (b *Bucket) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys)
}

// Object returns the body of an object. It returns false if there is none.
func (b *Bucket) Object(key string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.objects[key]; ok {
		return slices.Clone(o.body), true
	}
	return nil, false
}

// Set writes an object, without conditions, and without calling Before and After.
func (b *Bucket) Set(key string, body []byte) { b.SetMultipart(key, body, b.now()) }

// SetMultipart is Set for an object whose multipart upload completes now. The object's
// LastModified is the time at which the upload was initiated.
func (b *Bucket) SetMultipart(key string, body []byte, initiated time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store(key, body, "", nil, initiated)
}

func (b *Bucket) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// Remove deletes an object, without calling Before and After.
func (b *Bucket) Remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i, ok := slices.BinarySearch(b.keys, key); ok {
		b.keys = slices.Delete(b.keys, i, i+1)
		delete(b.objects, key)
	}
}

// operate calls Before, runs an operation under the lock and calls After.
func operate[Out any](ctx context.Context, b *Bucket, op, key string, effect func() (*Out, error)) (*Out, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.Before != nil {
		if err := b.Before(op, key); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	if b.calls == nil {
		b.calls = map[string]int{}
	}
	b.calls[op]++
	out, err := effect()
	b.mu.Unlock()
	if err == nil && b.After != nil {
		err = b.After(op, key)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (b *Bucket) store(key string, body []byte, contentType string, metadata map[string]string, modified time.Time) *object {
	if b.objects == nil {
		b.objects = map[string]*object{}
	}
	sum := md5.Sum(body)
	o := &object{
		body: body, etag: `"` + hex.EncodeToString(sum[:]) + `"`, contentType: contentType,
		metadata: maps.Clone(metadata), lastModified: modified.UTC().Truncate(time.Millisecond),
	}
	if i, ok := slices.BinarySearch(b.keys, key); !ok {
		b.keys = slices.Insert(b.keys, i, key)
	}
	b.objects[key] = o
	return o
}

// allowed returns an error if a condition of a write or a read is not met.
func (b *Bucket) allowed(key string, ifMatch, ifNoneMatch *string) error {
	o, ok := b.objects[key]
	switch {
	case ifNoneMatch != nil && ok:
		return Error(http.StatusPreconditionFailed, "PreconditionFailed")
	case ifMatch != nil && !ok:
		return Error(http.StatusNotFound, "NoSuchKey")
	case ifMatch != nil && *ifMatch != o.etag:
		return Error(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	return nil
}

// PutObject implements the client's method.
func (b *Bucket) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	return operate(ctx, b, "PutObject", *in.Key, func() (*s3.PutObjectOutput, error) {
		if err := b.allowed(*in.Key, in.IfMatch, in.IfNoneMatch); err != nil {
			return nil, err
		}
		o := b.store(*in.Key, body, aws.ToString(in.ContentType), in.Metadata, b.now())
		return &s3.PutObjectOutput{ETag: &o.etag}, nil
	})
}

// GetObject implements the client's method.
func (b *Bucket) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return operate(ctx, b, "GetObject", *in.Key, func() (*s3.GetObjectOutput, error) {
		o, ok := b.objects[*in.Key]
		if !ok {
			return nil, Error(http.StatusNotFound, "NoSuchKey")
		}
		if err := b.allowed(*in.Key, in.IfMatch, nil); err != nil {
			return nil, err
		}
		body := o.body
		if in.Range != nil {
			var first, last int
			if _, err := fmt.Sscanf(*in.Range, "bytes=%d-%d", &first, &last); err != nil || first >= len(body) {
				return nil, Error(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			}
			body = body[first:min(last+1, len(body))]
		}
		return &s3.GetObjectOutput{
			Body: io.NopCloser(bytes.NewReader(body)), ETag: aws.String(o.etag), Metadata: maps.Clone(o.metadata),
			ContentLength: aws.Int64(int64(len(body))), LastModified: aws.Time(o.lastModified.Truncate(time.Second)), ContentType: aws.String(o.contentType),
		}, nil
	})
}

// HeadObject implements the client's method.
func (b *Bucket) HeadObject(ctx context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return operate(ctx, b, "HeadObject", *in.Key, func() (*s3.HeadObjectOutput, error) {
		o, ok := b.objects[*in.Key]
		if !ok {
			return nil, Error(http.StatusNotFound, "NotFound")
		}
		return &s3.HeadObjectOutput{
			ETag: aws.String(o.etag), Metadata: maps.Clone(o.metadata), ContentType: aws.String(o.contentType),
			ContentLength: aws.Int64(int64(len(o.body))), LastModified: aws.Time(o.lastModified.Truncate(time.Second)),
		}, nil
	})
}

// maxKeys is how many keys and common prefixes a page of a listing has at most.
const maxKeys = 1000

// ListObjectsV2 implements the client's method.
func (b *Bucket) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	prefix, delimiter := aws.ToString(in.Prefix), aws.ToString(in.Delimiter)
	after := max(aws.ToString(in.ContinuationToken), aws.ToString(in.StartAfter))
	limit := maxKeys
	if in.MaxKeys != nil {
		limit = min(limit, int(*in.MaxKeys))
	}
	encode := func(key string) *string {
		if in.EncodingType == types.EncodingTypeUrl {
			key = strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
		}
		return &key
	}
	return operate(ctx, b, "ListObjectsV2", prefix, func() (*s3.ListObjectsV2Output, error) {
		out := &s3.ListObjectsV2Output{IsTruncated: aws.Bool(false), EncodingType: in.EncodingType}
		last := ""
		from, _ := slices.BinarySearch(b.keys, max(prefix, after))
		for _, key := range b.keys[from:] {
			if !strings.HasPrefix(key, prefix) {
				break
			}
			shown, folder := key, false
			if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
				shown, folder = key[:len(prefix)+i+len(delimiter)], true
			}
			if shown <= after || shown == last {
				continue
			}
			if len(out.Contents)+len(out.CommonPrefixes) == limit {
				out.IsTruncated, out.NextContinuationToken = aws.Bool(true), aws.String(last)
				break
			}
			last = shown
			if folder {
				out.CommonPrefixes = append(out.CommonPrefixes, types.CommonPrefix{Prefix: encode(shown)})
				continue
			}
			o := b.objects[key]
			out.Contents = append(out.Contents, types.Object{
				Key: encode(key), ETag: aws.String(o.etag), Size: aws.Int64(int64(len(o.body))), LastModified: aws.Time(o.lastModified),
			})
		}
		return out, nil
	})
}
