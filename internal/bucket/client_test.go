package bucket

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A put whose first connection hangs is sent again, whether S3 accepts no byte of the
// put, or accepts all bytes and does not respond.
func TestPutOnAConnectionThatHangs(t *testing.T) {
	for name, accept := range map[string]int64{"no bytes are accepted": 0, "no response": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			ctx := t.Context()
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					_, _ = io.CopyN(io.Discard, r.Body, accept)
					<-ctx.Done()
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			t.Cleanup(server.Close)
			client := newClient(aws.Config{
				Region: "us-east-1", BaseEndpoint: &server.URL,
				Credentials:      credentials.NewStaticCredentialsProvider("id", "key", ""),
				RetryMaxAttempts: 10, // on a slow machine, a later connection may seem to hang too
			}, time.Second)
			_, err := client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: aws.String("b"), Key: aws.String("k"), Body: bytes.NewReader(make([]byte, 16<<20)),
			})
			if n := requests.Load(); err != nil || n < 2 {
				t.Errorf("%d requests, error %v; want at least 2 requests and no error", n, err)
			}
		})
	}
}

// The response to a HEAD has no body, so the RefusedError has no code and no message.
func TestRefusedHead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(server.Close)
	client := NewClient(aws.Config{Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "key", "")})
	_, err := (&Bucket{S3: client, Name: "b"}).Head(t.Context(), "k")
	if got, ok := errors.AsType[*RefusedError](err); !ok || *got != (RefusedError{Key: "k", HTTPStatus: http.StatusBadRequest}) {
		t.Errorf("got %#v, want a RefusedError without a code and a message", err)
	}
}
