package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// archivedStack acts as AWS with one stack, lipdrop, whose bucket has one archived output.
type archivedStack struct {
	output  *os.File
	size    int64
	sha256  string
	objects map[string][]byte
	pauseAt int64 // when this many bytes of the output are sent, the response stops until the client has gone

	mu   sync.Mutex
	sent int64
}

const (
	archivedTake = "20261121T120000Z-0123456789ab"
	outputKey    = "outbox/talk/" + archivedTake + "/talk.mp4"
)

func newArchivedStack(t *testing.T, size int64) *archivedStack {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(file, sum), rand.NewChaCha8([32]byte{}), size); err != nil {
		t.Fatal(err)
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	return &archivedStack{
		output: file, size: size, sha256: digest, pauseAt: size / 2,
		objects: map[string][]byte{
			"status/talk.json":                     bucket.JSON(ledger.Status{Name: "talk", State: ledger.Succeeded, Take: archivedTake}, ""),
			ledger.ResultKey("talk", archivedTake): bucket.JSON(ledger.Result{Outputs: []ledger.Output{{Key: outputKey, Bytes: size, SHA256: digest}}}, ""),
		},
	}
}

func (s *archivedStack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/drops/")
	switch {
	case r.Method == http.MethodPost:
		new(stack).ServeHTTP(w, r)
	case r.URL.Query().Get("list-type") != "":
		fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>status/talk.json</Key><ETag>"s"</ETag><Size>1</Size><LastModified>2026-11-21T12:00:00.000Z</LastModified></Contents></ListBucketResult>`)
	case key == outputKey:
		w.Header().Set("ETag", `"o"`)
		http.ServeContent(&countedWriter{w, r, s}, r, "", time.Unix(0, 0), io.NewSectionReader(s.output, 0, s.size))
	default:
		w.Header().Set("ETag", `"x"`)
		_, _ = w.Write(s.objects[key])
	}
}

// countedWriter counts the bytes of the output that are sent, and stops the response at pauseAt.
type countedWriter struct {
	http.ResponseWriter
	r *http.Request
	s *archivedStack
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.s.mu.Lock()
	before := c.s.sent
	c.s.sent += int64(n)
	reached := before < c.s.pauseAt && c.s.sent >= c.s.pauseAt
	c.s.mu.Unlock()
	if reached {
		<-c.r.Context().Done()
	}
	return n, err
}

// If get is killed in the middle of 200 MiB, the same command continues the download. At
// most 8 MiB are sent twice.
func TestGetContinuesAfterAKill(t *testing.T) {
	const size, tolerance = 200 << 20, 8 << 20
	s := newArchivedStack(t, size)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	onAWS(t, server.URL)
	dir := t.TempDir()
	get := func() *exec.Cmd {
		cmd := startCommand(t, "get", "talk", dir, "--stack", "lipdrop")
		limit := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
		t.Cleanup(func() { limit.Stop() })
		return cmd
	}
	first := get()
	soon(t, "a response that stops after half of the output, and all but 4 MiB of this half in the partial file", func() bool {
		partial, err := filepath.Glob(filepath.Join(dir, ".*.partial"))
		if err != nil || len(partial) > 1 {
			t.Fatalf("partial files %v, %v; want at most one", partial, err)
		}
		if len(partial) == 0 {
			return false
		}
		s.mu.Lock()
		paused := s.sent >= s.pauseAt
		s.mu.Unlock()
		info, err := os.Stat(partial[0])
		return paused && err == nil && info.Size() >= s.pauseAt-tolerance/2
	})
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	if _, err := os.Stat(filepath.Join(dir, "talk.mp4")); err == nil {
		t.Error("talk.mp4 exists before the download is complete")
	}
	if err := get().Wait(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(contentOf(t, filepath.Join(dir, "talk.mp4"))))
	if got := hex.EncodeToString(sum[:]); got != s.sha256 {
		t.Errorf("the SHA-256 of talk.mp4 is %s, want %s", got, s.sha256)
	}
	server.Close() // waits for the last response
	if s.sent > size+tolerance {
		t.Errorf("%d bytes were sent, want at most %d", s.sent, size+tolerance)
	}
}
