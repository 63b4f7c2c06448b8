package sam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// stack is a running local stack, in the folder that the README's commands use.
type stack struct {
	*local.Stack
	t *testing.T
}

func start(t *testing.T, sam *samCLI, o local.Options) *stack {
	t.Helper()
	o.Dir = filepath.Join(sam.dir, ".lipdrop")
	o.Containers = true
	o.Say = func(text string) { t.Log(text) }
	running, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.Close()
		if err := os.RemoveAll(o.Dir); err != nil {
			t.Error(err)
		}
	})
	err = errors.Join(running.WriteEnv(filepath.Join(o.Dir, "env.json")), os.WriteFile(filepath.Join(o.Dir, "credentials.sh"), []byte(running.Credentials()), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return &stack{running, t}
}

func (s *stack) drop(key string, body []byte) {
	s.t.Helper()
	_, err := s.S3().PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: aws.String(local.Bucket), Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) remove(key string) {
	s.t.Helper()
	if _, err := s.S3().DeleteObject(s.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: &key}); err != nil {
		s.t.Fatal(err)
	}
}

// object returns an object. It returns false if the object does not exist.
func (s *stack) object(key string) ([]byte, bool) {
	s.t.Helper()
	out, err := s.S3().GetObject(s.t.Context(), &s3.GetObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
	if _, absent := errors.AsType[*types.NoSuchKey](err); absent {
		return nil, false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return body, true
}

// record returns the only record of a name.
func (s *stack) record(name string) ledger.Record {
	s.t.Helper()
	list, err := s.S3().ListObjectsV2(s.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket), Prefix: aws.String("jobs/" + name + "/")})
	if err != nil {
		s.t.Fatal(err)
	}
	var body []byte
	var records []string
	for _, object := range list.Contents {
		body, _ = s.object(*object.Key)
		records = append(records, *object.Key+": "+string(body))
	}
	if len(records) != 1 {
		s.t.Fatalf("%s has the records %q, want one", name, records)
	}
	var rec ledger.Record
	if err := json.Unmarshal(body, &rec); err != nil {
		s.t.Fatal(err)
	}
	return rec
}

func (s *stack) status(name string) ledger.Status {
	s.t.Helper()
	var st ledger.Status
	if body, ok := s.object(ledger.StatusKey(name)); ok {
		if err := json.Unmarshal(body, &st); err != nil {
			s.t.Fatal(err)
		}
	}
	return st
}

func (s *stack) wantStatus(name string, state ledger.State, code problem.Code) {
	s.t.Helper()
	if st := s.status(name); st.State != state || st.Code != code {
		s.t.Errorf("the status of %s is %+v, want %s %s", name, st, state, code)
	}
}

// await waits until the status of a name has the given state and code.
func (s *stack) await(name string, state ledger.State, code problem.Code) (st ledger.Status) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("the status of %s to be %s %s", name, state, code), func() bool {
		st = s.status(name)
		return st.State == state && st.Code == code
	})
	return st
}

// wantCharges checks how many jobs the fake RunComfy has charged. It also checks that RunComfy
// could fetch each input of these jobs by the URL that a container presigned.
func (s *stack) wantCharges(want int) {
	s.t.Helper()
	if got := s.Fake().Charges(); got != want {
		s.t.Fatalf("%d jobs were charged, want %d", got, want)
	}
	for _, job := range s.Fake().Submitted() {
		if job.FetchError != "" {
			s.t.Errorf("RunComfy could not fetch an input of %s: %s", job.RequestID, job.FetchError)
		}
	}
}
