// Package bucket accesses the S3 bucket: conditional writes, reads, listings and
// presigned URLs.
package bucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// S3 is the part of the S3 client that a Bucket uses.
type S3 interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// patience is how long a request waits for S3 to accept more bytes, and then for S3's
// response. After that the SDK tries again.
const patience = time.Minute

// NewClient returns an S3 client that puts the bucket into the path of a URL,
// not into its host, in presigned URLs too. S3's certificate does not cover the
// host of a bucket whose name has dots, and a custom endpoint has no host for each bucket.
func NewClient(cfg aws.Config) *s3.Client { return newClient(cfg, patience) }

func newClient(cfg aws.Config, patience time.Duration) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = true
		if client, ok := o.HTTPClient.(*awshttp.BuildableClient); ok {
			o.HTTPClient = client.WithTransportOptions(func(t *http.Transport) {
				t.ResponseHeaderTimeout = patience
				dial := t.DialContext
				t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					return timedConn{conn, patience}, err
				}
			})
		}
		// Without this option, the SDK logs a line for each object that it reads without a
		// checksum, and that line is not JSON.
		o.DisableLogOutputChecksumValidationSkipped = true
	})
}

// A timedConn gives up a write that takes longer than limit.
type timedConn struct {
	net.Conn
	limit time.Duration
}

func (c timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Bucket is a bucket in S3.
type Bucket struct {
	S3   S3
	Name string

	requests atomic.Int64
}

// Requests returns the number of requests so far. Retries of a request do not count.
func (b *Bucket) Requests() int { return int(b.requests.Load()) }

// client returns the client for one request, and counts the request.
func (b *Bucket) client() S3 {
	b.requests.Add(1)
	return b.S3
}

// File is an object as S3 describes it.
type File struct {
	Key          string
	ETag         string // without quotes
	VersionID    string // empty if it is not known, or if the bucket has no versions
	Size         int64  // in bytes
	LastModified time.Time
	ContentType  string            // not known from a listing
	Metadata     map[string]string // not known from a listing
}

// Matches reports whether the file has this ETag and, within a second, this time: S3 may
// round the time of a file up in one response and down in another.
func (f File) Matches(etag string, modified time.Time) bool {
	return f.ETag == etag && f.LastModified.Sub(modified).Abs() <= time.Second
}

// ErrNotFound is returned for an object that does not exist.
var ErrNotFound = errors.New("not in the bucket")

// ErrConflict is returned by PutJSON if the object is not what the caller expects.
var ErrConflict = errors.New("the object was written or deleted meanwhile")

// ErrChanged says that a file was changed or deleted after it was found. If ReadRange returns
// it, the ranges that the caller has read before are of no use.
var ErrChanged = errors.New("the file was changed or deleted while it was read")

// RefusedError is returned if S3 refuses to return one object, because of the object's
// storage class, its KMS key or a policy. Other objects may be readable.
type RefusedError struct {
	Key        string
	HTTPStatus int
	S3Code     string // empty if S3 gave none
	S3Message  string // empty if S3 gave none
}

func (e *RefusedError) Error() string { return "read " + e.Key + ": " + e.Response() }

// Response describes S3's response.
func (e *RefusedError) Response() string {
	if e.S3Code == "" {
		return fmt.Sprintf("S3 returned HTTP %d", e.HTTPStatus)
	}
	return fmt.Sprintf("S3 returned HTTP %d, %s", e.HTTPStatus, e.S3Code)
}

// UnreadableError is returned for an object of lipdrop that is not JSON, is too large, does not
// belong to its key, or has a state that lipdrop does not know. Reading the object again does not help.
type UnreadableError struct {
	Key string
	Err error
}

func (e *UnreadableError) Error() string { return e.Key + " cannot be read: " + e.Err.Error() }

func (e *UnreadableError) Unwrap() error { return e.Err }

// Head returns the file at a key. It returns ErrNotFound if there is no file, and *RefusedError if
// S3 refuses to return it.
func (b *Bucket) Head(ctx context.Context, key string) (File, error) {
	out, err := b.client().HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		return File{}, readError(key, err)
	}
	return File{
		Key: key, ETag: unquoted(out.ETag), VersionID: aws.ToString(out.VersionId),
		Size: aws.ToInt64(out.ContentLength), LastModified: seconds(out.LastModified),
		ContentType: aws.ToString(out.ContentType), Metadata: out.Metadata,
	}, nil
}

// Listed returns the file at a key as a listing describes it, or ErrNotFound. S3 may refuse
// a HEAD of a file that it lists.
func (b *Bucket) Listed(ctx context.Context, key string) (File, error) {
	files, _, err := b.List(ctx, key, 1)
	if err == nil && (len(files) == 0 || files[0].Key != key) {
		err = ErrNotFound
	}
	if err != nil {
		return File{}, err
	}
	return files[0], nil
}

// Exists reports whether there is a file at a key. It lists the key, because S3's refusal
// of a HEAD does not say whether the file exists.
func (b *Bucket) Exists(ctx context.Context, key string) (bool, error) {
	_, err := b.Listed(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Get returns the first bytes of an object, at most limit. Its errors include those of Head.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, File, error) {
	out, err := b.client().GetObject(ctx, &s3.GetObjectInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		return nil, File{}, readError(key, err)
	}
	body, err := read(key, out.Body, limit)
	return body, File{
		Key: key, ETag: unquoted(out.ETag), VersionID: aws.ToString(out.VersionId),
		Size: aws.ToInt64(out.ContentLength), LastModified: seconds(out.LastModified),
		ContentType: aws.ToString(out.ContentType), Metadata: out.Metadata,
	}, err
}

// ReadRange returns up to n bytes of a file from an offset. It returns ErrChanged if the
// file is no longer the same, and *RefusedError if S3 refuses to return the file.
func (b *Bucket) ReadRange(ctx context.Context, f File, off, n int64) ([]byte, error) {
	n = min(n, f.Size-off)
	if n <= 0 {
		return nil, nil
	}
	out, err := b.client().GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.Name, Key: &f.Key, IfMatch: quoted(f.ETag),
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1)),
	})
	if err != nil {
		switch HTTPStatus(err) {
		case http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
			return nil, ErrChanged
		}
		return nil, readError(f.Key, err)
	}
	return read(f.Key, out.Body, n)
}

// GetJSON reads a JSON object of at most limit bytes into value. Its errors include those of Head.
// With an *UnreadableError, it also returns the File.
func (b *Bucket) GetJSON(ctx context.Context, key string, limit int64, value any) (File, error) {
	body, file, err := b.Get(ctx, key, limit+1)
	if err != nil {
		return File{}, err
	}
	if int64(len(body)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	} else {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber() // float64 does not hold every number that an option may have
		err = dec.Decode(value)
		if _, end := dec.Token(); err == nil && !errors.Is(end, io.EOF) {
			err = errors.New("there is more after the JSON value")
		}
	}
	if err != nil {
		return file, &UnreadableError{key, err}
	}
	return file, nil
}

// JSON returns the JSON of a value, with a newline at its end. It does not escape HTML, so that keys
// stay readable. It panics if the value cannot be encoded.
func JSON(value any, indent string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(value); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func read(key string, body io.ReadCloser, limit int64) ([]byte, error) {
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return text, nil
}

// PutJSON writes a JSON object and returns the new ETag. It writes only if the object at
// the key has the given ETag or, for an empty ETag, if no object is there. Otherwise it
// returns ErrConflict.
func (b *Bucket) PutJSON(ctx context.Context, key, etag string, body []byte, metadata map[string]string) (string, error) {
	in := &s3.PutObjectInput{
		Bucket: &b.Name, Key: &key, Body: bytes.NewReader(body),
		ContentType: aws.String("application/json"), Metadata: metadata,
	}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = quoted(etag)
	}
	out, err := b.client().PutObject(ctx, in)
	switch status := HTTPStatus(err); {
	case err == nil:
		return unquoted(out.ETag), nil
	case status == http.StatusPreconditionFailed, status == http.StatusConflict,
		status == http.StatusNotFound && etag != "": // deleted meanwhile
		return "", ErrConflict
	default:
		return "", fmt.Errorf("write %s: %w", key, err)
	}
}

// ContentType returns the MIME type for the suffix of a key, or nil if it is not known.
func ContentType(key string) *string {
	if kind := mime.TypeByExtension(path.Ext(key)); kind != "" {
		return &kind
	}
	return nil
}

// PageSize is the largest number of files that S3 lists in one request.
const PageSize = 1000

// List returns at most limit files whose keys begin with prefix, ordered by key, and
// reports whether there are more. It makes a request for each PageSize files.
func (b *Bucket) List(ctx context.Context, prefix string, limit int) ([]File, bool, error) {
	return b.list(ctx, &s3.ListObjectsV2Input{Prefix: &prefix}, limit)
}

// ListFolder returns the files and folders directly below prefix whose keys come after
// startAfter. It returns at most limit of them, and at most PageSize, because it lists one page.
// It reports whether there are more. A folder is a File that has only a Key, which ends in a slash.
func (b *Bucket) ListFolder(ctx context.Context, prefix, startAfter string, limit int) ([]File, bool, error) {
	in := &s3.ListObjectsV2Input{Prefix: &prefix, Delimiter: aws.String("/")}
	if startAfter != "" {
		in.StartAfter = &startAfter
	}
	return b.list(ctx, in, min(limit, PageSize))
}

func (b *Bucket) list(ctx context.Context, in *s3.ListObjectsV2Input, limit int) ([]File, bool, error) {
	in.Bucket = &b.Name
	if limit < PageSize {
		in.MaxKeys = aws.Int32(int32(limit))
	}
	var files []File
	for {
		page, err := b.client().ListObjectsV2(ctx, in)
		if _, unreadable := errors.AsType[*smithy.DeserializationError](err); unreadable && in.EncodingType == "" {
			// A key has characters that XML does not allow. The first request
			// does not ask for encoded keys, because some servers compare encoded
			// keys with an unencoded StartAfter.
			in.EncodingType = types.EncodingTypeUrl
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", *in.Prefix, err)
		}
		for _, object := range page.Contents {
			files = append(files, File{
				Key: listedKey(page, object.Key), ETag: unquoted(object.ETag),
				Size: aws.ToInt64(object.Size), LastModified: seconds(object.LastModified),
			})
		}
		for _, folder := range page.CommonPrefixes {
			// Some servers repeat a folder in a listing that starts after the folder's key.
			if key := listedKey(page, folder.Prefix); key > aws.ToString(in.StartAfter) {
				files = append(files, File{Key: key})
			}
		}
		more := aws.ToBool(page.IsTruncated)
		if !more || len(files) >= limit || in.Delimiter != nil {
			slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Key, b.Key) })
			return files[:min(len(files), limit)], more || len(files) > limit, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// listedKey returns a key of a listing, decoded if the server encoded it.
func listedKey(page *s3.ListObjectsV2Output, key *string) string {
	if page.EncodingType == types.EncodingTypeUrl {
		if decoded, err := url.QueryUnescape(aws.ToString(key)); err == nil {
			return decoded
		}
	}
	return aws.ToString(key)
}

// Presigner returns a function that presigns the download of a file. The URL is
// valid for the given time, but no longer than the client's credentials.
func Presigner(client *s3.Client, name string, valid time.Duration) func(context.Context, File) (string, error) {
	presigner := s3.NewPresignClient(client, s3.WithPresignExpires(valid))
	return func(ctx context.Context, f File) (string, error) {
		in := &s3.GetObjectInput{Bucket: &name, Key: &f.Key}
		if f.VersionID != "" {
			in.VersionId = &f.VersionID
		}
		req, err := presigner.PresignGetObject(ctx, in)
		if err != nil {
			return "", fmt.Errorf("presign %s: %w", f.Key, err)
		}
		return req.URL, nil
	}
}

// readError classifies an error of a request that reads the object at key.
func readError(key string, err error) error {
	status := HTTPStatus(err)
	if status == http.StatusNotFound {
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	var code, message string
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	switch code {
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestTimeout":
		// These codes say nothing about the object. They are about the request: its
		// credentials, its time or a slow connection.
		return fmt.Errorf("read %s: %w", key, err)
	case "Forbidden", "BadRequest":
		code, message = "", "" // the SDK makes up both for the response to a HEAD, which has no body
	}
	if status == http.StatusForbidden || status == http.StatusBadRequest {
		return &RefusedError{Key: key, HTTPStatus: status, S3Code: code, S3Message: message}
	}
	return fmt.Errorf("read %s: %w", key, err)
}

// HTTPStatus returns the HTTP status of an error of the S3 client, or 0.
func HTTPStatus(err error) int {
	if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}

func unquoted(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

func quoted(etag string) *string { return aws.String(`"` + etag + `"`) }

// seconds truncates a time to whole seconds, because only some of S3's responses
// have fractions of a second.
func seconds(t *time.Time) time.Time {
	return aws.ToTime(t).UTC().Truncate(time.Second)
}
