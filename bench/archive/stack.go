package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/local/process"
)

const (
	accessKey  = "lipdrop"
	secretKey  = "lipdrop-benchmark"
	region     = "us-east-1"
	bucketName = "bench"

	startLimit = 30 * time.Second // how long the S3 server may take to start
	copyLimit  = 5 * time.Minute  // how long one copy may take: 5 GiB at 20 MB/s
)

// A stack is the sources and the S3 server.
type stack struct {
	dir     string
	certs   certs.Files
	sources map[string]string // addresses by name
	s3      *s3.Client
	s3URL   string
	copies  int
	closers []func()
}

func (s *stack) close() {
	for _, closer := range s.closers {
		closer()
	}
}

func startStack(ctx context.Context, dir string) (*stack, error) {
	s := &stack{dir: dir}
	err := s.start(ctx)
	if err != nil {
		s.close()
	}
	return s, err
}

func (s *stack) start(ctx context.Context) (err error) {
	if s.certs, err = certs.Ensure(filepath.Join(s.dir, "certs"), time.Now()); err != nil {
		return err
	}
	if err := s.startSources(); err != nil {
		return err
	}
	return s.startGateway(ctx)
}

// startSources starts this program again, as the server of the sources.
func (s *stack) startSources() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "sources", s.certs.CA, s.certs.Key)
	out, addresses := io.Pipe()
	cmd.Stdout, cmd.Stderr = addresses, os.Stderr
	child, err := process.Start(cmd)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, child.Kill)
	go func() {
		<-child.Done()
		_ = addresses.CloseWithError(fmt.Errorf("the server of the sources ended: %w", child.Err()))
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, &s.sources)
}

// startGateway starts the S3 server and makes a bucket. The bucket has no versions, so
// that a deletion frees the space of an object.
func (s *stack) startGateway(ctx context.Context) error {
	root, err := build.Root(".")
	if err != nil {
		return err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return err
	}
	source := build.Source{Root: root, Cache: cache, Say: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	program, err := source.Gateway(ctx)
	if err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "s3")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	cmd := exec.Command(program, "--quiet", "--port", address, "--cert", s.certs.CA, "--key", s.certs.Key, "--region", region, "posix", data)
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}
	server, err := process.Start(cmd)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, server.Kill)
	roots, err := s.certs.Pool()
	if err != nil {
		return err
	}
	s.s3URL = "https://" + address
	s.s3 = s3.New(s3.Options{
		Region: region, BaseEndpoint: &s.s3URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
	})
	for late := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		_, err = s.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucketName)})
		if err == nil || ctx.Err() != nil || time.Now().After(late) {
			return err
		}
	}
}

// copy makes one copy, compares it with what was served, and deletes it.
func (s *stack) copy(ctx context.Context, t tool, from source, size int64) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	s.copies++
	key := fmt.Sprintf("out/%d.mp4", s.copies)
	cmd := exec.CommandContext(ctx, t.program, t.role, fmt.Sprintf("%s/%d", s.sources[from.name], size), bucketName, key)
	cmd.Env = []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_REGION=" + region, "AWS_ENDPOINT_URL_S3=" + s.s3URL,
		"AWS_CA_BUNDLE=" + s.certs.CA, "SSL_CERT_FILE=" + s.certs.CA, "HOME=" + s.dir,
	}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return cost{}, fmt.Errorf("%w: %s", err, errors.String())
	}
	var c cost
	if err := json.Unmarshal(out, &c); err != nil {
		return c, err
	}
	if err := compare(filepath.Join(s.dir, "s3", bucketName, key), size); err != nil {
		return c, err
	}
	_, err = s.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucketName), Key: &key})
	return c, err
}

// compare returns an error unless a file holds what the sources serve.
func compare(path string, size int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	got := make([]byte, blockSize)
	for left := size; ; left -= blockSize {
		n, err := io.ReadFull(file, got)
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		switch {
		case err != nil && !ended:
			return err
		case int64(n) != min(left, blockSize) || !bytes.Equal(got[:n], block()[:n]):
			return fmt.Errorf("%s is not what was served", path)
		case ended:
			return nil
		}
	}
}
