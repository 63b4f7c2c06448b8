package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	s3bucket "github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

// client has every call that the project makes to S3.
type client interface {
	s3bucket.S3
	transfer.S3
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
}

// The bucket in memory, which the simulation uses, responds as the real server does.
func TestStandInAnswersAsTheServer(t *testing.T) {
	server := start(t, program(t), t.TempDir())
	if err := gateway.EnsureBucket(t.Context(), server.tls, "with-versions"); err != nil {
		t.Fatal(err)
	}
	makeBucket(t, server.tls, "without")
	for _, bucket := range []string{"with-versions", "without"} {
		t.Run(bucket, func(t *testing.T) {
			want, got := conditions(t.Context(), server.tls, bucket), conditions(t.Context(), &s3test.Bucket{}, bucket)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("server (-) and stand-in (+):\n%s", diff)
			}
			if len(want) < 20 {
				t.Errorf("only %d answers were compared", len(want))
			}
		})
	}
}

// S3 refuses to delete a missing key under If-Match with 404, and so does the bucket in
// memory. The server responds with success. A claim is released in both cases.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
func TestDeletionOfNothingUnderItsETag(t *testing.T) {
	server := start(t, program(t), t.TempDir())
	makeBucket(t, server.tls, "bkt")
	for name, tt := range map[string]struct {
		client client
		status int
	}{
		"server":   {server.tls, 0},
		"stand-in": {&s3test.Bucket{}, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			records := &ledger.Store{Bucket: &s3bucket.Bucket{S3: tt.client, Name: "bkt"}, Now: time.Now}
			open := ledger.Record{Name: "n", Take: "t", State: ledger.Submitting}
			rec, claimed, err := records.Claim(t.Context(), open)
			if err != nil || !claimed {
				t.Fatalf("claim: %v, %v", claimed, err)
			}
			for range 2 {
				if err := records.Release(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
			if _, claimed, err = records.Claim(t.Context(), open); err != nil || !claimed {
				t.Errorf("claim of what was released: %v, %v", claimed, err)
			}
			_, err = tt.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{
				Bucket: aws.String("bkt"), Key: aws.String("none"), IfMatch: aws.String(`"d41d8cd98f00b204e9800998ecf8427e"`),
			})
			status := 0
			if answered, ok := errors.AsType[*awshttp.ResponseError](err); ok {
				status = answered.HTTPStatusCode()
			}
			if status != tt.status || (err != nil) != (tt.status != 0) {
				t.Errorf("deletion of nothing: %v, want status %d", err, tt.status)
			}
		})
	}
}

// makeBucket makes a bucket without versions.
func makeBucket(t *testing.T, c *s3.Client, name string) {
	t.Helper()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

// conditions makes calls whose responses depend on conditions. It returns each call with
// its response in words.
func conditions(ctx context.Context, c client, name string) []string {
	var got []string
	tell := func(what string, answer any, err error) {
		var re *awshttp.ResponseError
		switch {
		case errors.As(err, &re):
			got = append(got, fmt.Sprintf("%s: %d", what, re.HTTPStatusCode()))
		case err != nil:
			got = append(got, fmt.Sprintf("%s: %v", what, err))
		default:
			got = append(got, fmt.Sprintf("%s: ok %v", what, answer))
		}
	}
	bucket := &name
	var version *string // of the last write
	put := func(what, key, body string, ifMatch, ifNone *string) *string {
		out, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: &key, Body: strings.NewReader(body), IfMatch: ifMatch, IfNoneMatch: ifNone,
			Metadata: map[string]string{"lipdrop-order": body},
		})
		tell(what, "", err)
		if err != nil {
			return nil
		}
		version = out.VersionId
		return out.ETag
	}
	get := func(what, key string, in s3.GetObjectInput) {
		in.Bucket, in.Key = bucket, &key
		out, err := c.GetObject(ctx, &in)
		if err != nil {
			tell(what, nil, err)
			return
		}
		body, err := io.ReadAll(out.Body)
		tell(what, []any{string(body), aws.ToString(out.ETag), out.Metadata}, err)
	}
	list := func(what, prefix, delimiter string, most int32) {
		in := &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &prefix, MaxKeys: &most, EncodingType: types.EncodingTypeUrl}
		if delimiter != "" {
			in.Delimiter = &delimiter
		}
		var seen []string
		for pages := s3.NewListObjectsV2Paginator(c, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				tell(what, nil, err)
				return
			}
			for _, o := range page.Contents {
				seen = append(seen, fmt.Sprint(decode(page, *o.Key), " ", *o.Size, " ", *o.ETag))
			}
			for _, p := range page.CommonPrefixes {
				seen = append(seen, decode(page, *p.Prefix))
			}
		}
		tell(what, seen, nil)
	}

	always := aws.String("*")
	etag := put("create", "a/one.json", "1", nil, always)
	put("create again", "a/one.json", "2", nil, always)
	put("change what is there", "a/one.json", "3", etag, nil)
	put("change what is not there any more", "a/one.json", "4", etag, nil)
	put("change what never was", "a/two.json", "5", etag, nil)
	get("read", "a/one.json", s3.GetObjectInput{})
	get("read what never was", "a/none.json", s3.GetObjectInput{})
	get("read a changed one", "a/one.json", s3.GetObjectInput{IfMatch: etag})
	put("overwrite", "a/long.txt", "0123456789", nil, nil)
	get("read a range", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=2-4")})
	get("read a range past the end", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=8-20")})
	get("read a range behind the end", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=20-30")})
	for _, key := range []string{"a/ü +%&'\"é.json", "a/日本/x.json", "a/日本/y.json", "ab.json"} {
		put("put "+key, key, "x", nil, nil)
	}
	list("list", "a/", "", 1000)
	list("list by pages", "a", "", 2)
	list("list folders", "a/", "/", 1000)
	list("list nothing", "nothing/", "", 1000)

	key := aws.String("a/claim.json")
	etag = put("claim", *key, "6", nil, always)
	for _, what := range []string{"release", "release again"} {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key, VersionId: version})
		tell(what, "", err)
	}
	_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	tell("look at a released one", "", err)
	put("change a released one", *key, "7", etag, nil)
	put("claim a released one", *key, "8", nil, always)

	key = aws.String("a/changed.json")
	before := put("create another", *key, "9", nil, always)
	after := put("change it", *key, "10", before, nil)
	remove := func(what string, etag *string) {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key, IfMatch: etag})
		tell(what, "", err)
	}
	remove("delete what has changed", before)
	get("read what was not deleted", *key, s3.GetObjectInput{})
	remove("delete what has not changed", after)
	get("read what was deleted", *key, s3.GetObjectInput{})

	upload := func(what string) {
		made, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("out/v.mp4")})
		if err != nil {
			tell(what, nil, err)
			return
		}
		part, err := c.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: bucket, Key: aws.String("out/v.mp4"), UploadId: made.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("video"),
		})
		if err != nil {
			tell(what, nil, err)
			return
		}
		_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: bucket, Key: aws.String("out/v.mp4"), UploadId: made.UploadId, IfNoneMatch: always,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
		})
		tell(what, "", err)
		_, err = c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: aws.String("out/v.mp4"), UploadId: made.UploadId})
		tell(what+", then abort", "", err)
	}
	upload("upload in parts")
	upload("upload in parts to a key that is taken")
	return got
}

// decode returns a key of a listing without its encoding. Not every server encodes keys
// when it is asked to.
func decode(page *s3.ListObjectsV2Output, key string) string {
	if page.EncodingType != types.EncodingTypeUrl {
		return key
	}
	decoded, err := url.QueryUnescape(key)
	if err != nil {
		return err.Error()
	}
	return decoded
}
