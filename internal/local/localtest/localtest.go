// Package localtest runs a local stack for tests.
package localtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// Patience is how long Until and Await wait for something that takes seconds on an idle machine.
const Patience = 5 * time.Minute

// Stack is a running local stack. If a method fails, the test ends.
type Stack struct {
	*local.Stack
	t     *testing.T
	files *bucket.Bucket
}

// Start runs a stack until the test ends. If o has no Dir, Start makes one. If the test
// fails, it logs what the functions logged.
func Start(t *testing.T, o local.Options) *Stack {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Say = func(text string) { t.Log(text) }
	s, err := local.Start(t.Context(), o)
	check(t, err)
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(o.Dir, "logs", "*.log"))
			for _, path := range logs {
				text, err := os.ReadFile(path)
				t.Logf("%s (%v):\n%s", path, err, text)
			}
		}
	})
	return &Stack{s, t, &bucket.Bucket{S3: s.S3(), Name: local.Bucket}}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Drop writes an object.
func (s *Stack) Drop(key string, body []byte) {
	s.t.Helper()
	_, err := s.S3().PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: aws.String(local.Bucket), Key: &key, Body: bytes.NewReader(body)})
	check(s.t, err)
}

// DropPair drops the pair with the given name: first the video, then the audio.
func (s *Stack) DropPair(name string) {
	s.t.Helper()
	clip, voice := sample.Files()
	s.Drop(ledger.InboxPrefix+name+".mp4", clip)
	s.Drop(ledger.InboxPrefix+name+".wav", voice)
}

// Remove deletes an object.
func (s *Stack) Remove(key string) {
	s.t.Helper()
	_, err := s.S3().DeleteObject(s.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
	check(s.t, err)
}

// Object returns the body of an object. It returns false if there is no such object.
func (s *Stack) Object(key string) ([]byte, bool) {
	s.t.Helper()
	body, _, err := s.files.Get(s.t.Context(), key, math.MaxInt64)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, false
	}
	check(s.t, err)
	return body, true
}

// List returns the keys that begin with a prefix, sorted.
func (s *Stack) List(prefix string) []string {
	s.t.Helper()
	files, _, err := s.files.List(s.t.Context(), prefix, math.MaxInt)
	check(s.t, err)
	keys := make([]string, 0, len(files))
	for _, f := range files {
		keys = append(keys, f.Key)
	}
	return keys
}

// Status returns the status of a name. If the name has none, Status returns an empty one.
func (s *Stack) Status(name string) (st ledger.Status) {
	s.t.Helper()
	if body, ok := s.Object(ledger.StatusKey(name)); ok {
		check(s.t, json.Unmarshal(body, &st))
	}
	return st
}

// Await waits until wanted returns true for the status of a name, and returns that status.
func (s *Stack) Await(name string, wanted func(ledger.Status) bool) (st ledger.Status) {
	s.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(50 * time.Millisecond) {
		if st = s.Status(name); wanted(st) {
			return st
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v, the status of %s is %+v, and not as wanted", Patience, name, st)
		}
	}
}

// Until waits until done returns true.
func Until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s, which did not come", Patience, what)
		}
	}
}
