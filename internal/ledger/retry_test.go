package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/s3test"
)

// retryOnce repeats a PutObject whose response was lost, as the SDK's client does.
type retryOnce struct{ *s3test.Bucket }

func (r retryOnce) PutObject(ctx context.Context, in *s3.PutObjectInput, opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	in.Body = bytes.NewReader(body)
	out, err := r.Bucket.PutObject(ctx, in, opts...)
	if errors.Is(err, s3test.ErrLost) {
		in.Body = bytes.NewReader(body)
		return r.Bucket.PutObject(ctx, in, opts...)
	}
	return out, err
}
