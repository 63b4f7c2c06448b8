package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	s3bucket "github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// Many tests use s3test.Bucket, a bucket in memory, instead of an S3 server. s3test.Bucket
// responds as the S3 server of the local stack does.
func TestStandInRespondsLikeTheServer(t *testing.T) {
	server := start(t, func(*gateway.Config) {})
	if err := gateway.EnsureBucket(t.Context(), server.tls, "with-versions"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.tls.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("without")}); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"with-versions", "without"} {
		t.Run(bucket, func(t *testing.T) {
			want, got := conditions(t.Context(), server.tls, bucket), conditions(t.Context(), &s3test.Bucket{}, bucket)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("responses (-server +stand-in):\n%s", diff)
			}
		})
	}
}

// conditions reads, writes and lists objects, with and without conditions. It returns a line
// for each operation.
func conditions(ctx context.Context, c s3bucket.S3, bucket string) []string {
	var got []string
	note := func(what string, response any, err error) {
		var re *awshttp.ResponseError
		switch {
		case errors.As(err, &re):
			got = append(got, fmt.Sprintf("%s: %d", what, re.HTTPStatusCode()))
		case err != nil:
			got = append(got, fmt.Sprintf("%s: %v", what, err))
		default:
			got = append(got, fmt.Sprintf("%s: ok %v", what, response))
		}
	}
	put := func(what, key, body string, ifMatch, ifNone *string) *string {
		out, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: strings.NewReader(body), IfMatch: ifMatch, IfNoneMatch: ifNone,
			Metadata: map[string]string{"lipdrop-order": body},
		})
		note(what, "", err)
		if err != nil {
			return nil
		}
		return out.ETag
	}
	get := func(what, key string, in s3.GetObjectInput) {
		in.Bucket, in.Key = &bucket, &key
		out, err := c.GetObject(ctx, &in)
		if err != nil {
			note(what, nil, err)
			return
		}
		body, err := io.ReadAll(out.Body)
		note(what, []any{string(body), aws.ToString(out.ETag), out.Metadata}, err)
	}
	list := func(what, prefix, delimiter, after string, most int32) {
		in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, StartAfter: &after, MaxKeys: &most, EncodingType: types.EncodingTypeUrl}
		if delimiter != "" {
			in.Delimiter = &delimiter
		}
		var seen []string
		for pages := s3.NewListObjectsV2Paginator(c, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				note(what, nil, err)
				return
			}
			for _, o := range page.Contents {
				seen = append(seen, fmt.Sprint(decode(page, *o.Key), " ", *o.Size, " ", *o.ETag))
			}
			for _, p := range page.CommonPrefixes {
				seen = append(seen, decode(page, *p.Prefix))
			}
		}
		note(what, seen, nil)
	}

	anyETag := aws.String("*")
	etag := put("create", "a/one.json", "1", nil, anyETag)
	put("create again", "a/one.json", "2", nil, anyETag)
	put("change an object", "a/one.json", "3", etag, nil)
	put("change an object that has changed", "a/one.json", "4", etag, nil)
	put("change a missing object", "a/two.json", "5", etag, nil)
	get("read", "a/one.json", s3.GetObjectInput{})
	get("read a missing object", "a/none.json", s3.GetObjectInput{})
	_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("a/none.json")})
	note("HEAD of a missing object", "", err)
	get("read an object that has changed", "a/one.json", s3.GetObjectInput{IfMatch: etag})
	put("put without a condition", "a/long.txt", "0123456789", nil, nil)
	get("read a range", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=2-4")})
	get("read a range across the end", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=8-20")})
	get("read a range after the end", "a/long.txt", s3.GetObjectInput{Range: aws.String("bytes=20-30")})
	for _, key := range []string{"a/ü +%&'\"é.json", "a/日本/x.json", "a/日本/y.json", "ab.json"} {
		put("put "+key, key, "x", nil, nil)
	}
	list("list", "a/", "", "", 1000)
	list("list by pages", "a", "", "", 2)
	list("list folders", "a/", "/", "", 1000)
	list("list folders after a folder", "", "/", "a/", 1000)
	list("list folders after a key in a folder", "", "/", "a/one.json", 1000)
	list("list folders by pages", "", "/", "", 1)
	list("list nothing", "nothing/", "", "", 1000)
	return got
}

// decode returns a key of a listing without its encoding. Some servers do not encode the
// keys, although the request asks for encoded keys.
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
