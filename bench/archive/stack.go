package main

import (
	"bufio"
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
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/local/process"
	"github.com/lipdrop/lipdrop/internal/local/secrets"
)

// The credentials of the benchmark's S3 server.
const (
	accessKey = "lipdrop"
	secretKey = "lipdrop-benchmark"
)

const secretARN = "arn:aws:secretsmanager:" + local.Region + ":" + local.Account + ":secret:runcomfy-token-a1B2c3"

// A stack is what all tools copy from and to: the sources, the S3 server, and
// for the function a Secrets Manager and the one answer of RunComfy.
type stack struct {
	dir      string
	programs string // the cache of programs
	rclone   string // its program
	build    build.Source
	certs    certs.Files
	sources  map[string]string // addresses by name
	s3       *s3.Client
	s3URL    string
	apiURL   string // Secrets Manager and RunComfy

	mu     sync.Mutex
	output string               // the address in RunComfy's answer
	made   map[string]time.Time // when the S3 server told of each object

	closers []func()
}

func startStack(ctx context.Context, dir string) (*stack, error) {
	s := &stack{dir: dir, made: map[string]time.Time{}}
	if err := s.start(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stack) close() {
	for i := range s.closers {
		s.closers[len(s.closers)-1-i]()
	}
}

func (s *stack) start(ctx context.Context) (err error) {
	root, err := build.Root(".")
	if err != nil {
		return err
	}
	if s.programs, err = build.CacheDir(); err != nil {
		return err
	}
	s.build = build.Source{Root: root, Cache: s.programs, Say: say}
	if s.certs, err = certs.Ensure(filepath.Join(s.dir, "certs"), time.Now()); err != nil {
		return err
	}
	if err := s.startSources(); err != nil {
		return err
	}
	if err := s.startAPI(); err != nil {
		return err
	}
	if err := s.startGateway(ctx); err != nil {
		return err
	}
	return s.build.Functions(ctx, s.functions(), "archive")
}

func (s *stack) functions() string { return filepath.Join(s.dir, "functions") }

// startSources starts this program again, as the server of the sources.
func (s *stack) startSources() error {
	cmd, err := self("sources", s.certs.Cert, s.certs.Key)
	if err != nil {
		return err
	}
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

// startAPI serves what the function asks besides S3: its token, and how the job
// ended.
func (s *stack) startAPI() error {
	secret := &secrets.Server{}
	secret.Set(secretARN, "token")
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", secret)
	mux.HandleFunc("GET /v1/requests/{id}/result", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{ // a function that has gone shows by itself
			"request_id": r.PathValue("id"), "status": "succeeded",
			"output": map[string]string{"video": s.output},
		})
	})
	cert, err := tls.LoadX509KeyPair(s.certs.Cert, s.certs.Key)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	s.apiURL = "https://" + listener.Addr().String()
	s.serve(listener, mux)
	return nil
}

func (s *stack) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler}
	s.closers = append(s.closers, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
}

// startTime bounds the start of the S3 server.
const startTime = 30 * time.Second

// startGateway starts the S3 server, with a bucket that keeps no versions: what
// is deleted makes room. It stands alone, without what the local stack has in
// front of it.
func (s *stack) startGateway(ctx context.Context) error {
	program, err := s.build.Gateway(ctx)
	if err != nil {
		return err
	}
	hook, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.serve(hook, http.HandlerFunc(s.told))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "s3"), 0o700); err != nil {
		return err
	}
	cmd := exec.Command(program, "--quiet", "--port", address, "--cert", s.certs.Cert, "--key", s.certs.Key,
		"--region", local.Region, "--event-webhook-url", "http://"+hook.Addr().String(), "posix", filepath.Join(s.dir, "s3"))
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}
	server, err := process.Start(cmd)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, server.Kill)
	s.s3URL = "https://" + address
	roots, err := s.certs.Pool()
	if err != nil {
		return err
	}
	s.s3 = s3.New(s3.Options{
		Region: local.Region, BaseEndpoint: &s.s3URL,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
	})
	for late := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		_, err = s.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(local.Bucket)})
		if err == nil || time.Now().After(late) {
			return err
		}
	}
}

// told takes an event of the S3 server.
func (s *stack) told(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var event struct {
		Records []struct {
			EventName string
			S3        struct{ Object struct{ Key string } }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		return // it tests the address
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, record := range event.Records {
		if strings.HasPrefix(record.EventName, "s3:ObjectCreated:") {
			s.made[record.S3.Object.Key] = now
		}
	}
}

// eventTime is how long the event of an object may take.
const eventTime = 10 * time.Second

// copied returns how long a copy took as it is seen from outside: from its first
// request for the file until the object was there.
func (s *stack) copied(ctx context.Context, number int, key string) (time.Duration, error) {
	resp, err := get(ctx, s.sources[firstRequests], "")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var first map[int]int64
	if err := json.NewDecoder(resp.Body).Decode(&first); err != nil {
		return 0, err
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	late := time.After(eventTime)
	for {
		s.mu.Lock()
		made, ok := s.made[key]
		s.mu.Unlock()
		if ok && first[number] > 0 {
			return made.Sub(time.Unix(0, first[number])), nil
		}
		select {
		case <-poll.C:
		case <-late:
			return 0, fmt.Errorf("the S3 server told of no object %s", key)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// environment is the environment of every tool.
func (s *stack) environment() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID":     accessKey,
		"AWS_SECRET_ACCESS_KEY": secretKey,
		"AWS_REGION":            local.Region,
		"AWS_ENDPOINT_URL_S3":   s.s3URL,
		"AWS_CA_BUNDLE":         s.certs.CA,
		"SSL_CERT_FILE":         s.certs.CA,
		"HOME":                  s.dir, // no settings of the user's own
		"PATH":                  os.Getenv("PATH"),
	}
}

// object returns the file in which the S3 server keeps an object.
func (s *stack) object(key string) string {
	return filepath.Join(s.dir, "s3", local.Bucket, filepath.FromSlash(key))
}

// clear deletes every object.
func (s *stack) clear(ctx context.Context) error {
	pages := s3.NewListObjectsV2Paginator(s.s3, &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, object := range page.Contents {
			if _, err := s.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: object.Key}); err != nil {
				return err
			}
		}
	}
	return nil
}

// self returns a command that runs this program in another role.
func self(args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(program, args...), nil
}
