package drop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// File is a file below inbox/ as it is now.
type File struct {
	Key          string
	ETag         string // without quotes
	VersionID    string // "" when not known or the bucket has no versions
	Size         int64  // bytes
	LastModified time.Time
}

// SameVersion reports whether the file has this ETag and time. S3 may round the
// time of a file up in one response and down in another.
func (f File) SameVersion(etag string, modified time.Time) bool {
	return f.ETag == etag && f.LastModified.Sub(modified).Abs() <= time.Second
}

// Files is where drops lie: a bucket, or a folder of one's own machine.
type Files interface {
	// List returns the files whose keys begin with prefix, in the order of
	// their keys and at most limit, and whether there are more.
	List(ctx context.Context, prefix string, limit int) ([]File, bool, error)

	// ListFolder is List of the keys that come after the given one, with a
	// folder in place of the files that have a slash behind the prefix: its
	// Key ends in a slash, and it has nothing else. The limit is at most 1,000.
	ListFolder(ctx context.Context, prefix, after string, limit int) ([]File, bool, error)

	// Head returns a file, ErrAbsent, or *RefusedError.
	Head(ctx context.Context, key string) (File, error)

	// ReadRange returns up to n bytes from off of a file that has not changed
	// since it was listed, ErrChanged, or *RefusedError.
	ReadRange(ctx context.Context, f File, off, n int64) ([]byte, error)
}

// ErrAbsent says that a file is not there.
var ErrAbsent = errors.New("no such file")

// ErrChanged says that a file was changed or deleted while it was looked at:
// the look must begin again.
var ErrChanged = errors.New("the file has changed meanwhile")

// RefusedError says that S3 does not give one file, whoever is to blame: the
// file's storage class, its key, a policy. It is a fact about that file, so
// that no other file waits for it.
type RefusedError struct {
	Key        string
	HTTPStatus int
	S3Code     string // S3's own code, or "" where it gave none
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("read %s: %s", e.Key, e.answer())
}

func (e *RefusedError) answer() string {
	if e.S3Code == "" {
		return fmt.Sprintf("S3 answered HTTP %d", e.HTTPStatus)
	}
	return fmt.Sprintf("S3 answered HTTP %d, %s", e.HTTPStatus, e.S3Code)
}

// problem returns what to tell about the file, which is called what.
func (e *RefusedError) problem(what string) Problem {
	code := problem.MediaForbidden
	if e.S3Code == "InvalidObjectState" {
		code = problem.MediaArchived
	}
	return Problem{Code: code, Reason: fmt.Sprintf("%s cannot be read: %s", what, e.answer())}
}

// readError returns *RefusedError for an error of S3 that is about the file at
// key, and any other error with its context.
func readError(key string, err error) error {
	status := httpStatus(err)
	var code string
	if api, ok := errors.AsType[smithy.APIError](err); ok && len(strings.Fields(api.ErrorCode())) == 1 {
		code = api.ErrorCode()
	}
	switch code {
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestTimeout":
		// These are about the function's own credentials and clock.
		return fmt.Errorf("read %s: %w", key, err)
	case "Forbidden", "BadRequest":
		code = "" // the SDK's words for an answer to a HEAD, which has no body
	}
	if status == http.StatusForbidden || status == http.StatusBadRequest {
		return &RefusedError{Key: key, HTTPStatus: status, S3Code: code}
	}
	return fmt.Errorf("read %s: %w", key, err)
}

// S3 is what a Bucket needs of the S3 client.
type S3 interface {
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
}

// Bucket is Files in S3.
type Bucket struct {
	S3   S3
	Name string
}

// List implements Files, with a request for each thousand files.
func (b *Bucket) List(ctx context.Context, prefix string, limit int) ([]File, bool, error) {
	return b.list(ctx, &s3.ListObjectsV2Input{Prefix: &prefix}, limit)
}

// ListFolder implements Files, with one request.
func (b *Bucket) ListFolder(ctx context.Context, prefix, after string, limit int) ([]File, bool, error) {
	in := &s3.ListObjectsV2Input{Prefix: &prefix, Delimiter: aws.String("/")}
	if after != "" {
		in.StartAfter = &after
	}
	return b.list(ctx, in, min(limit, listPage))
}

func (b *Bucket) list(ctx context.Context, in *s3.ListObjectsV2Input, limit int) ([]File, bool, error) {
	in.Bucket = &b.Name
	if limit < listPage {
		in.MaxKeys = aws.Int32(int32(limit))
	}
	var files []File
	for {
		page, err := b.S3.ListObjectsV2(ctx, in)
		var unreadable *smithy.DeserializationError
		if errors.As(err, &unreadable) && in.EncodingType == "" {
			// A key holds what XML cannot. The encoding is not asked for from
			// the beginning: there are servers that compare encoded keys with
			// a StartAfter that is not.
			in.EncodingType = types.EncodingTypeUrl
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", *in.Prefix, err)
		}
		for _, object := range page.Contents {
			files = append(files, File{
				Key: ledger.ListedKey(page, object.Key), ETag: strings.Trim(aws.ToString(object.ETag), `"`),
				Size: aws.ToInt64(object.Size), LastModified: seconds(object.LastModified),
			})
		}
		for _, folder := range page.CommonPrefixes {
			// A listing that begins behind a folder's own key repeats the folder.
			if key := ledger.ListedKey(page, folder.Prefix); key > aws.ToString(in.StartAfter) {
				files = append(files, File{Key: key})
			}
		}
		sorted(files)
		more := aws.ToBool(page.IsTruncated)
		if !more || len(files) >= limit || in.Delimiter != nil {
			return files[:min(len(files), limit)], more || len(files) > limit, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// Head implements Files.
func (b *Bucket) Head(ctx context.Context, key string) (File, error) {
	out, err := b.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		if httpStatus(err) == http.StatusNotFound {
			return File{}, ErrAbsent
		}
		return File{}, readError(key, err)
	}
	return File{
		Key: key, ETag: strings.Trim(aws.ToString(out.ETag), `"`), VersionID: aws.ToString(out.VersionId),
		Size: aws.ToInt64(out.ContentLength), LastModified: seconds(out.LastModified),
	}, nil
}

// ReadRange implements Files.
func (b *Bucket) ReadRange(ctx context.Context, f File, off, n int64) ([]byte, error) {
	n = min(n, f.Size-off)
	if n <= 0 {
		return nil, nil
	}
	out, err := b.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.Name, Key: &f.Key, IfMatch: aws.String(`"` + f.ETag + `"`),
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1)),
	})
	if err != nil {
		switch httpStatus(err) {
		case http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
			return nil, ErrChanged
		}
		return nil, readError(f.Key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(io.LimitReader(out.Body, n))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Key, err)
	}
	return body, nil
}

// seconds cuts a time as S3 itself does in some answers and not in others, so
// that one file has one time.
func seconds(t *time.Time) time.Time {
	return aws.ToTime(t).UTC().Truncate(time.Second)
}

// httpStatus returns the HTTP status of an error of the S3 client, or 0.
func httpStatus(err error) int {
	if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}
