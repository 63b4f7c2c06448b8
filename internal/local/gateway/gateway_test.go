package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/local/gateway/gatewaytest"
)

// server is a running gateway with clients.
type server struct {
	*gateway.Gateway
	tls, plain *s3.Client
	url        string      // of plain
	events     chan string // the body of each webhook call, except s3:TestEvent
}

// start runs a gateway until the test ends. configure can edit its configuration.
func start(t *testing.T, configure func(*gateway.Config)) *server {
	t.Helper()
	srv := &server{events: make(chan string, 100)}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && !bytes.Contains(body, []byte("s3:TestEvent")) {
			srv.events <- string(body)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(hook.Close)
	srv.Gateway, srv.url = gatewaytest.Start(t, func(cfg *gateway.Config) {
		cfg.Webhook = hook.URL
		configure(cfg)
	})
	secure := httptest.NewTLSServer(srv)
	t.Cleanup(secure.Close)
	client := func(url string) *s3.Client {
		return s3.NewFromConfig(aws.Config{
			Region: gatewaytest.Region, BaseEndpoint: &url, HTTPClient: secure.Client(),
			Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.Access, gatewaytest.Secret, ""),
		})
	}
	srv.tls, srv.plain = client(secure.URL), client(srv.url)
	return srv
}

const bucket = "drops"

func TestServesS3(t *testing.T) {
	for _, tt := range []struct {
		name, below string
		inFolder    bool // the gateway keeps metadata in its folder sidecar if the folder exists
	}{
		{name: "metadata in attributes"},
		{name: "metadata in a folder", inFolder: true},
		{name: "a folder with a very long path", below: strings.Repeat("a long name/", 9)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), tt.below)
			sidecar := filepath.Join(dir, "sidecar")
			if tt.inFolder {
				if err := os.Mkdir(sidecar, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			srv := start(t, func(cfg *gateway.Config) { cfg.Dir = dir })
			for range 2 { // the second time, the bucket exists
				if err := gateway.EnsureBucket(t.Context(), srv.tls, bucket); err != nil {
					t.Fatal(err)
				}
			}
			const key = `inbox/a b/ü+100%"'.mp4`
			first := put(t, srv.tls, key, "one")
			second := put(t, srv.plain, key, "two, by the other port")
			if first == second || first == "" {
				t.Errorf("versions %q and %q, want two different ones", first, second)
			}
			if got := get(t, srv.plain, key, first); got != "one" {
				t.Errorf("first version = %q, want one", got)
			}
			if got := get(t, srv.tls, key, ""); got != "two, by the other port" {
				t.Errorf("newest version = %q, want two, by the other port", got)
			}
			_, err := srv.tls.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: aws.String(key), IfNoneMatch: aws.String("*"), Body: strings.NewReader("three"),
			})
			expectCode(t, "PreconditionFailed", err)
			for range 2 {
				select {
				case body := <-srv.events:
					if !strings.Contains(body, "s3:ObjectCreated:Put") {
						t.Errorf("event %s, want a Put", body)
					}
				case <-time.After(time.Minute):
					t.Fatal("the webhook was not called for each of the two puts")
				}
			}
			kept, err := os.ReadDir(sidecar)
			if inFolder := err == nil && len(kept) > 0; inFolder != tt.inFolder {
				t.Errorf("metadata in the folder sidecar: %t (%v), want %t", inFolder, err, tt.inFolder)
			}
		})
	}
}

func put(t *testing.T, client *s3.Client, key, body string) (version string) {
	t.Helper()
	out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.VersionId)
}

func get(t *testing.T, client *s3.Client, key, version string) string {
	t.Helper()
	in := &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	out, err := client.GetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Body.Close() }()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func expectCode(t *testing.T, code string, err error) {
	t.Helper()
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestStartSaysWhyItFails(t *testing.T) {
	t.Run("the webhook cannot be reached", func(t *testing.T) {
		_, err := gateway.Start(t.Context(), gateway.Config{
			Program: gatewaytest.Program(t), Dir: t.TempDir(), Region: "us-east-1",
			Webhook: "http://127.0.0.1:1", Access: "a", Secret: "b", Log: io.Discard,
		})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("Start() = %v, want the server's message \"connection refused\"", err)
		}
	})
	t.Run("the program does not exist", func(t *testing.T) {
		_, err := gateway.Start(t.Context(), gateway.Config{
			Program: "/no/such/versitygw", Dir: t.TempDir(), Log: io.Discard,
		})
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Start() = %v, want an error that is os.ErrNotExist", err)
		}
	})
}
