package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/local/gateway/gatewaytest"
)

const (
	testBucket = "drops"
	partBytes  = 16 << 20
)

func clientOf(endpoint string) *client.Client {
	return client.New(aws.Config{
		Region: gatewaytest.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.Access, gatewaytest.Secret, ""),
	}, testBucket, "arn:aws:states:us-east-1:000000000000:stateMachine:m")
}

func fileUpload(t *testing.T, key, path string) *client.Upload {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := client.SumOf(t.Context(), key, file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return &client.Upload{File: bucket.File{Key: key}, Sum: sum, Open: func() (client.Content, error) { return os.Open(path) }}
}

func uploadOfText(t *testing.T, key, text string) *client.Upload {
	t.Helper()
	sum, err := client.SumOf(t.Context(), key, strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return &client.Upload{File: bucket.File{Key: key}, Sum: sum, Open: client.Bytes([]byte(text))}
}

// An s3Server is a real S3 server behind a proxy that records requests.
type s3Server struct {
	url    string     // of the proxy
	dir    string     // of the gateway
	direct *s3.Client // does not use the proxy
	proxy  http.Handler

	mu       sync.Mutex
	requests []string       // method and key of each request since the last setHandler
	stored   map[string]int // how often each part was stored, by its number
	begun    map[string]int // how often a request for each part began
	handle   func(w http.ResponseWriter, r *http.Request) bool
	refused  int // how many requests failed because of their condition
}

func startServer(t *testing.T) *s3Server {
	t.Helper()
	dir := t.TempDir()
	_, address := gatewaytest.Start(t, func(c *gateway.Config) { c.Dir = dir })
	s := &s3Server{dir: dir, stored: map[string]int{}, begun: map[string]int{}}
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	s.direct = clientOf(address).S3
	if err := gateway.EnsureBucket(t.Context(), s.direct, testBucket); err != nil {
		t.Fatal(err)
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, // the signature covers the host
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ModifyResponse: func(r *http.Response) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if number := r.Request.URL.Query().Get("partNumber"); number != "" && r.StatusCode == http.StatusOK {
				s.stored[number]++
			}
			if r.StatusCode == http.StatusPreconditionFailed {
				s.refused++
			}
			return nil
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/"+testBucket+"/"))
		if number := r.URL.Query().Get("partNumber"); number != "" {
			s.begun[number]++
		}
		handle := s.handle
		s.mu.Unlock()
		if handle == nil || !handle(w, r) {
			s.proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	s.url = front.URL
	return s
}

func (s *s3Server) setHandler(handle func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle, s.requests = handle, nil
}

// sum returns the SHA-256 of an object.
func (s *s3Server) sum(t *testing.T, key string) [sha256.Size]byte {
	t.Helper()
	body, _, err := (&bucket.Bucket{S3: s.direct, Name: testBucket}).Get(t.Context(), key, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(body)
}

// send uploads files through the proxy, and returns how many bytes were reported.
func (s *s3Server) send(t *testing.T, uploads ...*client.Upload) (int64, error) {
	t.Helper()
	var sent atomic.Int64
	err := clientOf(s.url).Send(t.Context(), uploads, func(n int64) { sent.Add(n) })
	return sent.Load(), err
}

// mustSend is send for uploads that must succeed.
func (s *s3Server) mustSend(t *testing.T, uploads ...*client.Upload) int64 {
	t.Helper()
	sent, err := s.send(t, uploads...)
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// age makes an object look as if it was stored an hour ago.
func (s *s3Server) age(t *testing.T, key string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.path(key), old, old); err != nil {
		t.Fatal(err)
	}
}

// path returns the path of the file in which the gateway keeps an object.
func (s *s3Server) path(key string) string { return filepath.Join(s.dir, "objects", testBucket, key) }

// openUploads returns how many uploads are unfinished.
func (s *s3Server) openUploads(t *testing.T) int {
	t.Helper()
	out, err := s.direct.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(testBucket)})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

// finishes reports whether a request makes an object appear: it sends a whole file, or completes a
// multipart upload.
func finishes(r *http.Request) bool {
	query := r.URL.Query()
	return r.Method == http.MethodPut && !query.Has("partNumber") || r.Method == http.MethodPost && query.Has("uploadId")
}

// randomFile writes a file of the given size, and returns its path.
func randomFile(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big.mp4")
	file, err := os.Create(path)
	if err == nil {
		_, err = io.CopyN(file, rand.NewChaCha8([32]byte{1}), int64(size))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// An upload that is interrupted in the middle of a part is continued later: only the missing parts are
// sent, and only the part that was interrupted is sent a second time.
func TestUploadIsResumed(t *testing.T) {
	server := startServer(t)
	u := fileUpload(t, "inbox/big.mp4", randomFile(t, 3*partBytes+12345))
	ctx, interrupt := context.WithCancel(t.Context())
	server.setHandler(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "3" {
			return false
		}
		if _, err := io.CopyN(io.Discard, r.Body, partBytes/2); err != nil {
			t.Error(err)
		}
		interrupt()
		_, _ = io.Copy(io.Discard, r.Body) // until the connection breaks
		return true
	})
	var sent atomic.Int64
	if err := clientOf(server.url).Send(ctx, []*client.Upload{u}, func(n int64) { sent.Add(n) }); !errors.Is(err, context.Canceled) || sent.Load() != 2*partBytes {
		t.Fatalf("the upload that is interrupted: %v, %d bytes; want context.Canceled and the bytes of the two stored parts", err, sent.Load())
	}
	server.setHandler(nil)
	server.mustSend(t, u)
	if server.sum(t, u.Key) != u.Sum.SHA256 {
		t.Error("the object has other bytes than the file")
	}
	if diff := cmp.Diff(map[string]int{"1": 1, "2": 1, "3": 2, "4": 1}, server.begun); diff != "" {
		t.Errorf("how often each part was begun (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"1": 1, "2": 1, "3": 1, "4": 1}, server.stored); diff != "" {
		t.Errorf("how often each part was stored (-want +got):\n%s", diff)
	}
	if n := server.openUploads(t); n != 0 {
		t.Errorf("%d unfinished uploads are left, want none", n)
	}
}

// Send does not touch the unfinished uploads of other programs: an upload of other content to
// the same key, one with parts of another size, one without parts, and one to a longer
// key that begins with this key.
func TestOtherUnfinishedUploadsAreLeft(t *testing.T) {
	path := randomFile(t, partBytes+1)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t)
	other := bytes.Repeat([]byte{7}, partBytes)
	begin := func(key string, part []byte) {
		created, err := server.direct.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
			Bucket: aws.String(testBucket), Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			t.Fatal(err)
		}
		if part == nil {
			return
		}
		if _, err := server.direct.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(testBucket), Key: &key, UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(part), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		}); err != nil {
			t.Fatal(err)
		}
	}
	begin("inbox/big.mp4", other)
	begin("inbox/big.mp4", text[:8<<20])
	begin("inbox/big.mp4", nil)
	begin("inbox/big.mp4.mp4", text[:partBytes])
	u := fileUpload(t, "inbox/big.mp4", path)
	server.mustSend(t, u)
	if n := server.openUploads(t); n != 4 {
		t.Errorf("%d unfinished uploads, want 4", n)
	}
	if server.sum(t, "inbox/big.mp4") != u.Sum.SHA256 {
		t.Error("the object has other bytes than the file")
	}
}

// At the end of Send, every byte was counted once. The count never exceeds the size of the
// files, even if a request is tried again.
func TestProgress(t *testing.T) {
	server := startServer(t)
	var failed atomic.Int32
	server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "2" || failed.Add(1) > 2 {
			return false
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	u := fileUpload(t, "inbox/big.mp4", randomFile(t, 2*partBytes+99))
	small := uploadOfText(t, "inbox/small.mp4", "small")
	var mu sync.Mutex
	sent, most := int64(0), int64(0)
	err := clientOf(server.url).Send(t.Context(), []*client.Upload{u, small}, func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		sent += n
		most = max(most, sent)
	})
	if err != nil {
		t.Fatal(err)
	}
	if total := u.Sum.Size + small.Sum.Size; sent != total || most > total {
		t.Errorf("the count ended at %d bytes, and its maximum was %d; want %d for both", sent, most, total)
	}
}

// All presets are stored before the first video is sent, all videos before the first voice, and
// all voices before the first job.json.
func TestOrderOfUploads(t *testing.T) {
	server := startServer(t)
	files := []string{"preset.json", "v.mp4", "a.wav", "job.json"}
	var uploads []*client.Upload
	for i := range 4 * len(files) {
		for _, file := range slices.Backward(files) {
			uploads = append(uploads, uploadOfText(t, fmt.Sprintf("inbox/%d/%s", i, file), file))
		}
	}
	var mu sync.Mutex
	var ranks []int // indexes in files: one when a request begins, and one when it ends
	server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
		note := func() {
			mu.Lock()
			defer mu.Unlock()
			ranks = append(ranks, slices.Index(files, path.Base(r.URL.Path)))
		}
		response := httptest.NewRecorder()
		note()
		server.proxy.ServeHTTP(response, r)
		note()
		maps.Copy(w.Header(), response.Header())
		w.WriteHeader(response.Code)
		return true
	})
	server.mustSend(t, uploads...)
	if len(ranks) != 2*len(uploads) || !slices.IsSorted(ranks) {
		t.Errorf("the requests began and ended in the order %v (indexes in %q), want two for each file, sorted", ranks, files)
	}
}

// If a file of a pair is replaced, both files appear in the bucket one right after the other.
// Otherwise a job of the new video and the old voice would also be charged.
func TestReplacedPairsAppearTogether(t *testing.T) {
	server := startServer(t)
	var uploads []*client.Upload
	for i := range 40 {
		for _, file := range []string{"talk.de.wav", "talk.mp4", "talk.wav"} {
			u := uploadOfText(t, fmt.Sprintf("inbox/%d/%s", i, file), file)
			u.Exists = true
			uploads = append(uploads, u)
		}
	}
	for _, file := range []string{"large.mp4", "large.wav"} {
		u := fileUpload(t, "inbox/large/"+file, randomFile(t, 33<<20))
		u.Exists = true
		uploads = append(uploads, u)
	}
	// A voice that replaces another does not wait for slow.mp4, which is not of its pair.
	voice, slow := uploadOfText(t, "inbox/first/talk.wav", "voice"), uploadOfText(t, "inbox/slow/slow.mp4", "slow")
	voice.Exists = true
	uploads = append(uploads, voice, uploadOfText(t, "inbox/first/talk.mp4", "video"), slow)
	appeared := make(chan struct{})
	var mu sync.Mutex
	left := map[string]int{} // by folder: how many voices must still appear after their video
	parts := 0
	server.setHandler(func(_ http.ResponseWriter, r *http.Request) bool {
		if path.Base(r.URL.Path) == "slow.mp4" {
			select {
			case <-appeared:
			case <-time.After(time.Minute):
				t.Error("a voice waits for the video of another pair")
			}
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		folder, file := path.Split(r.URL.Path)
		switch {
		case r.URL.Query().Has("partNumber"):
			if path.Base(folder) == "large" {
				parts++
			}
			if left[folder] != 0 {
				t.Errorf("%s is sent after the video of its pair appeared", r.URL.Path)
			}
		case finishes(r):
			if path.Ext(file) != ".mp4" {
				left[folder]--
				if r.Method == http.MethodPut {
					t.Errorf("%s is sent after the video of its pair appeared", r.URL.Path)
				}
				if path.Base(folder) == "first" {
					close(appeared)
				}
				break
			}
			left[folder] = 1
			if path.Base(folder) != "large" && path.Base(folder) != "first" {
				left[folder] = 2
			}
			if path.Base(folder) == "large" && parts < 6 {
				t.Errorf("%s appeared before all parts of both files were sent", file)
			}
		}
		incomplete := 0
		for folder, n := range left {
			if n < 0 {
				t.Errorf("a voice of %s appeared before its video", folder)
			} else if n > 0 {
				incomplete++
			}
		}
		if incomplete > 16 {
			t.Errorf("%d videos wait for their voices, want at most 16, which is how many pairs Send uploads at once", incomplete)
		}
		return false
	})
	server.mustSend(t, uploads...)
	for folder, n := range left {
		if n != 0 {
			t.Errorf("%d voices of %s did not appear", n, folder)
		}
	}
	if len(left) != 42 {
		t.Errorf("videos in %d folders, want 42", len(left))
	}
}

// talk.de.wav pairs with talk.de.mp4, and with talk.mp4 only if there is no talk.de.mp4. So if Send
// uploads all three, it sends talk.de.wav last, even if talk.mp4 replaces an object.
func TestVoiceOfANewVideo(t *testing.T) {
	server := startServer(t)
	talk, voice := uploadOfText(t, "inbox/talk.mp4", "video"), uploadOfText(t, "inbox/talk.de.wav", "voice")
	talk.Exists = true
	talkDE := fileUpload(t, "inbox/talk.de.mp4", randomFile(t, partBytes+1))
	var mu sync.Mutex
	var last string
	server.setHandler(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		last = path.Base(r.URL.Path)
		return false
	})
	server.mustSend(t, voice, talk, talkDE)
	if last != "talk.de.wav" {
		t.Errorf("%s was sent last, want talk.de.wav", last)
	}
}

// If another program aborts the upload of a file, the parts of the file are sent again.
func TestUploadEndsMeanwhile(t *testing.T) {
	for name, abortsBefore := range map[string]func(r *http.Request) bool{
		"a part":         func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" },
		"the completion": finishes,
	} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t)
			u := fileUpload(t, "inbox/big.mp4", randomFile(t, partBytes+1))
			var once sync.Once
			server.setHandler(func(_ http.ResponseWriter, r *http.Request) bool {
				if abortsBefore(r) {
					once.Do(func() {
						_, err := server.direct.AbortMultipartUpload(r.Context(), &s3.AbortMultipartUploadInput{
							Bucket: aws.String(testBucket), Key: &u.Key, UploadId: aws.String(r.URL.Query().Get("uploadId")),
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				return false
			})
			if sent := server.mustSend(t, u); sent != u.Sum.Size {
				t.Errorf("%d bytes were reported, want %d", sent, u.Sum.Size)
			}
			if server.sum(t, u.Key) != u.Sum.SHA256 {
				t.Error("the object has other bytes than the file")
			}
		})
	}
}

// Choose finds out by checksums, with few requests, which files the bucket already holds.
func TestChoose(t *testing.T) {
	server := startServer(t)
	big := fileUpload(t, "inbox/ads/big.mp4", randomFile(t, partBytes+5))
	server.mustSend(t, big, uploadOfText(t, "inbox/ads/same.wav", "same"), uploadOfText(t, "inbox/ads/changed.wav", "before"), uploadOfText(t, "inbox/ads/longer.wav", "a"))
	server.setHandler(nil)
	uploads := []*client.Upload{
		big, uploadOfText(t, "inbox/ads/same.wav", "same"), uploadOfText(t, "inbox/ads/changed.wav", "after!"),
		uploadOfText(t, "inbox/ads/longer.wav", "aa"), uploadOfText(t, "inbox/ads/new.wav", "new"),
	}
	for range 500 {
		uploads = append(uploads, uploadOfText(t, fmt.Sprintf("inbox/ads/%d.job/job.json", len(uploads)), "{}"))
	}
	d := &client.Drop{Client: clientOf(server.url), Uploads: map[string]*client.Upload{}}
	for _, u := range uploads {
		d.Uploads[u.Key] = u
	}
	if err := d.Choose(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ exists, same bool }{{true, true}, {true, true}, {true, false}, {true, false}, {false, false}, {false, false}} {
		if got := uploads[i]; got.Exists != want.exists || got.Same != want.same {
			t.Errorf("%s: exists %t and same %t, want %t and %t", got.Key, got.Exists, got.Same, want.exists, want.same)
		}
	}
	if n := len(server.requests); n > 3 { // one listing, and the checksums of two files
		t.Errorf("%d requests, want at most 3: %v", n, server.requests)
	}
}

// A file that changes after its sum was calculated is not uploaded.
func TestChangedFile(t *testing.T) {
	server := startServer(t)
	overwrite := func(path string, at int64) error {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteAt([]byte("changed"), at)
		return errors.Join(err, file.Close())
	}
	for name, change := range map[string]func(path string, at int64) error{"7 bytes overwritten": overwrite, "the last 50 bytes cut off": os.Truncate} {
		for _, size := range []int{100, 2 * partBytes} {
			path := randomFile(t, size)
			u := fileUpload(t, "inbox/big.mp4", path)
			if err := change(path, int64(size-50)); err != nil {
				t.Fatal(err)
			}
			_, err := server.send(t, u)
			if _, ok := errors.AsType[*client.ChangedError](err); !ok || !strings.Contains(err.Error(), "big.mp4 changed while it was read. Wait until the file is complete") {
				t.Errorf("%d bytes, %s: %v, want a ChangedError with the file name big.mp4 and what to do", size, name, err)
			}
		}
	}
	if _, err := (&bucket.Bucket{S3: server.direct, Name: testBucket}).Head(t.Context(), "inbox/big.mp4"); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("the object of the changed file: %v, want %v", err, bucket.ErrNotFound)
	}
	_, err := client.SumOf(t.Context(), "inbox/big.mp4", strings.NewReader("short"), 100)
	if _, ok := errors.AsType[*client.ChangedError](err); !ok {
		t.Errorf("a file that became shorter: %v, want a ChangedError", err)
	}
}

func put(t *testing.T, server *s3Server, key, text string) {
	t.Helper()
	_, err := server.direct.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(testBucket), Key: &key, Body: strings.NewReader(text)})
	if err != nil {
		t.Error(err)
	}
}

// choose calls Choose for each upload, as drops that begin at the same time do.
func choose(t *testing.T, server *s3Server, uploads ...*client.Upload) {
	t.Helper()
	for _, u := range uploads {
		d := &client.Drop{Client: clientOf(server.url), Uploads: map[string]*client.Upload{u.Key: u}}
		if err := d.Choose(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}

// If two drops send the same file at the same time, the file is stored once, so that it starts
// one take. If the second drop has other content, it does not replace the object that the first
// drop has stored. If that object is deleted after Choose, the second drop stores its file. All
// this is true whether the file is new or replaces an object.
func TestSendAtTheSameTime(t *testing.T) {
	server := startServer(t)
	for _, size := range []int{100, partBytes + 1} {
		for _, replaces := range []bool{false, true} {
			ours := fileUpload(t, fmt.Sprintf("inbox/%d.mp4", size), randomFile(t, size))
			theirs := uploadOfText(t, ours.Key, "another video")
			if replaces {
				put(t, server, ours.Key, "an old video")
			}
			second := *ours
			choose(t, server, ours, &second, theirs)
			server.mustSend(t, ours)
			server.refused = 0
			if sent, err := server.send(t, &second); err != nil || server.refused != 1 || sent != ours.Sum.Size {
				t.Errorf("the same %d bytes, replaces %t: %v, S3 refused %d requests, and %d bytes were reported; want 1 refused request and all bytes", size, replaces, err, server.refused, sent)
			}
			_, err := server.send(t, theirs)
			if err == nil || !strings.Contains(err.Error(), "another program uploaded "+ours.Key+" at the same time") || server.sum(t, ours.Key) != ours.Sum.SHA256 {
				t.Errorf("another video in place of %d bytes, replaces %t: %v, want an error and the first video", size, replaces, err)
			}
			choose(t, server, theirs)
			if _, err := server.direct.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(testBucket), Key: &ours.Key}); err != nil {
				t.Fatal(err)
			}
			if _, err := server.send(t, theirs); err != nil || server.sum(t, ours.Key) != theirs.Sum.SHA256 {
				t.Errorf("a video in place of a deleted one of %d bytes, replaces %t: %v, want the video", size, replaces, err)
			}
		}
	}
}

// Two drops send the same file again at the same time, although it has not changed. The file is
// stored once. A later drop stores it again. If the file has one part, the later drop sends it in a
// new upload, because S3's LastModified is the time when an upload began. If the later drop completed
// the second drop's unfinished upload, the object could have the LastModified of the first drop's
// object, and start no take.
func TestSendAgainAtTheSameTime(t *testing.T) {
	server := startServer(t)
	for _, size := range []int{100, partBytes + 1} {
		u := fileUpload(t, fmt.Sprintf("inbox/%d.mp4", size), randomFile(t, size))
		first, second, later := *u, *u, *u
		for _, row := range []struct {
			name     string
			chosen   []*client.Upload // passed to choose before u is sent
			u        *client.Upload
			isStored bool
		}{
			{"a new file", nil, u, true},
			{"the first of two drops", []*client.Upload{&first, &second}, &first, true},
			{"the second drop", nil, &second, false},
			{"a later drop", []*client.Upload{&later}, &later, true},
		} {
			object := server.path(u.Key)
			if row.chosen != nil {
				server.age(t, u.Key)
				choose(t, server, row.chosen...)
			}
			before, _ := os.Stat(object)
			clear(server.begun)
			if sent, err := server.send(t, row.u); err != nil || sent != int64(size) {
				t.Fatalf("%s of %d bytes: %v, and %d bytes were reported; want all bytes", row.name, size, err, sent)
			}
			if row.chosen != nil && size < partBytes && server.begun["1"] != 1 {
				t.Errorf("%s of %d bytes: the part was sent %d times, want once", row.name, size, server.begun["1"])
			}
			after, err := os.Stat(object)
			if err != nil {
				t.Fatal(err)
			}
			if stored := before == nil || !before.ModTime().Equal(after.ModTime()); stored != row.isStored {
				t.Errorf("%s of %d bytes: stored %t, want %t", row.name, size, stored, row.isStored)
			}
		}
	}
}

// If Send cannot learn whether another drop has sent a file again since Choose, it does not store
// the file, because otherwise both drops might start a take.
func TestSendAgainWithoutComparison(t *testing.T) {
	server := startServer(t)
	u := fileUpload(t, "inbox/small.mp4", randomFile(t, 100))
	server.mustSend(t, u)
	server.age(t, u.Key)
	choose(t, server, u)
	before, _ := os.Stat(server.path(u.Key))
	server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	_, err := server.send(t, u)
	after, statErr := os.Stat(server.path(u.Key))
	if statErr != nil {
		t.Fatal(statErr)
	}
	if denied, ok := errors.AsType[*client.DeniedError](err); !ok || denied.Permission != "s3:GetObject" || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("error %v, and the file is from %v; want a DeniedError about s3:GetObject and the file from %v", err, after.ModTime(), before.ModTime())
	}
}

// If S3 returns a conflict, and then the object of another drop appears, Send tries again and does
// not replace that object.
func TestConflict(t *testing.T) {
	server := startServer(t)
	for _, size := range []int{100, partBytes + 1} {
		for _, replaces := range []bool{false, true} {
			ours := fileUpload(t, fmt.Sprintf("inbox/%d.mp4", size), randomFile(t, size))
			if replaces {
				put(t, server, ours.Key, "an old video")
				choose(t, server, ours)
			}
			tries := 0
			server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
				if !finishes(r) {
					return false
				}
				if tries++; tries == 1 {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusConflict)
					_, _ = io.WriteString(w, "<Error><Code>ConditionalRequestConflict</Code></Error>")
					return true
				}
				put(t, server, ours.Key, "another video")
				return false
			})
			_, err := server.send(t, ours)
			if err == nil || !strings.Contains(err.Error(), "another program uploaded "+ours.Key+" at the same time") {
				t.Errorf("%d bytes, replaces %t: %v, want an error that another program uploaded the file", size, replaces, err)
			}
			if replaced := server.sum(t, ours.Key) != sha256.Sum256([]byte("another video")); tries != 2 || replaced {
				t.Errorf("%d bytes, replaces %t: %d tries, and the object of the other drop was replaced: %t; want 2 and false", size, replaces, tries, replaced)
			}
		}
	}
}

// If the object of a key is deleted while a multipart upload is open, S3 returns a conflict each
// time Send tries to complete this upload. Send then sends the parts again, in a new upload.
func TestUploadThatS3DoesNotComplete(t *testing.T) {
	server := startServer(t)
	u := fileUpload(t, "inbox/big.mp4", randomFile(t, partBytes+1))
	refused := ""
	server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
		id := r.URL.Query().Get("uploadId")
		if r.Method != http.MethodPost || id == "" || refused != "" && refused != id {
			return false
		}
		refused = id
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, "<Error><Code>ConditionalRequestConflict</Code></Error>")
		return true
	})
	if sent := server.mustSend(t, u); sent != u.Sum.Size {
		t.Errorf("%d bytes were reported, want %d", sent, u.Sum.Size)
	}
	if server.sum(t, u.Key) != u.Sum.SHA256 {
		t.Error("the object has other bytes than the file")
	}
}

// If a response breaks off, the error says that the file cannot be uploaded, not that it has changed.
func TestCutResponse(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = connection.Write([]byte("HTTP/1.1 200 OK\r\n"))
		_ = connection.Close()
	}))
	defer cut.Close()
	u := fileUpload(t, "inbox/big.mp4", randomFile(t, 100))
	err := clientOf(cut.URL).Send(t.Context(), []*client.Upload{u}, func(int64) {})
	if err == nil || !strings.Contains(err.Error(), "cannot upload inbox/big.mp4") {
		t.Errorf("a response that breaks off: %v, want the error that big.mp4 cannot be uploaded", err)
	}
}

// If the response to the request that makes a file appear is lost, the SDK sends the request
// again. The file is still stored once, so that it starts one take, and no part is sent again.
// This is true for a new file, for a file that replaces another, and for a file that is sent
// again although it has not changed.
func TestLostResponse(t *testing.T) {
	server := startServer(t)
	for _, size := range []int{100, partBytes + 1} {
		for _, old := range []string{"", "another video", "the same video"} {
			u := fileUpload(t, fmt.Sprintf("inbox/%d/%s.mp4", size, old), randomFile(t, size))
			want := 1 // versions of the object
			switch old {
			case "another video":
				put(t, server, u.Key, old)
				want++
			case "the same video":
				server.setHandler(nil)
				server.mustSend(t, u)
				server.age(t, u.Key)
				want++
			}
			choose(t, server, u)
			clear(server.begun)
			var tries atomic.Int32
			server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
				if !finishes(r) || tries.Add(1) > 1 {
					return false
				}
				response := httptest.NewRecorder()
				if server.proxy.ServeHTTP(response, r); response.Code != http.StatusOK {
					t.Errorf("the first try: HTTP status %d, want 200", response.Code)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			})
			sent := server.mustSend(t, u)
			out, err := server.direct.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: aws.String(testBucket), Prefix: &u.Key})
			if err != nil {
				t.Fatal(err)
			}
			if tries.Load() != 2 || sent != u.Sum.Size || len(out.Versions) != want {
				t.Errorf("%d bytes in place of %q: %d tries, %d bytes were reported, and there are %d versions; want 2 tries, all bytes and %d versions", size, old, tries.Load(), sent, len(out.Versions), want)
			}
			for number, n := range server.begun {
				if n != 1 {
					t.Errorf("%d bytes in place of %q: part %s was sent %d times, want once", size, old, number, n)
				}
			}
		}
	}
}

// Uploading needs little memory, whatever the size of the files.
func TestUploadMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a large file")
	}
	server := startServer(t)
	u := fileUpload(t, "inbox/big.mp4", randomFile(t, 128<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	server.mustSend(t, u)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
		t.Errorf("%d bytes were allocated, want at most 32 MiB", n)
	}
}

// If a person may read but not write, the error names the missing permission.
func TestUploadWithoutPermission(t *testing.T) {
	server := startServer(t)
	server.setHandler(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
		return true
	})
	big := fileUpload(t, "inbox/big.mp4", randomFile(t, partBytes+1))
	for _, u := range []*client.Upload{uploadOfText(t, "inbox/a.mp4", "a"), big} {
		_, err := server.send(t, u)
		denied, ok := errors.AsType[*client.DeniedError](err)
		if !ok || denied.Permission != "s3:PutObject" || denied.Resource != "arn:aws:s3:::drops/"+u.Key {
			t.Errorf("%s: %v, want a DeniedError about s3:PutObject on the object", u.Key, err)
		}
	}
}
