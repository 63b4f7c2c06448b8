package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local"
)

// watched is a running watcher and its folder.
type watched struct {
	t      *testing.T
	folder string
	bucket *bucket.Bucket
	said   *lines
	stop   func() // ends the watcher
}

// watchFolder runs a watcher on a folder until the end of the test.
func watchFolder(t *testing.T, b *bucket.Bucket, folder string) *watched {
	t.Helper()
	said := &lines{}
	w, err := newWatcher(t.Context(), b, folder, said.say)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.run(ctx) })
	stop := func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return &watched{t, folder, b, said, stop}
}

// write writes files whose content is "1".
func (f *watched) write(names ...string) {
	f.t.Helper()
	for _, name := range names {
		path := filepath.Join(f.folder, name)
		f.do(errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("1"), 0o600)))
	}
}

func (f *watched) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// has waits until the bucket has these files below inbox/ and no others.
func (f *watched) has(names ...string) {
	f.t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		keys, err := keysBelow(f.t.Context(), f.bucket, "inbox/")
		if err != nil {
			f.t.Fatal(err)
		}
		got = nil
		for _, key := range keys {
			got = append(got, strings.TrimPrefix(key, "inbox/"))
		}
		if slices.Equal(got, names) {
			return
		}
	}
	f.t.Fatalf("the bucket has %q, want %q; the watcher said %q", got, names, f.said)
}

// failing is a transport that responds to uploads with HTTP status 500 while fails is true.
type failing struct {
	http.RoundTripper
	fails atomic.Bool
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.fails.Load() && r.Method == http.MethodPut {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
	}
	return f.RoundTripper.RoundTrip(r)
}

func TestWatcher(t *testing.T) {
	s := startStack(t, local.Options{Dir: t.TempDir(), Settle: time.Hour})
	newBucket := func(t *testing.T, change func(*s3.Options)) *bucket.Bucket {
		t.Helper()
		name := "row-" + strings.ToLower(rand.Text())
		if _, err := s.S3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
		return &bucket.Bucket{S3: s3.New(s.S3().Options(), change), Name: name}
	}
	tests := []struct {
		name string
		run  func(t *testing.T, f *watched)
	}{
		{"a folder that is moved out", func(t *testing.T, f *watched) {
			f.write("ads/a.txt", "ads/deep/b.txt", "adsense.txt")
			f.has("ads/a.txt", "ads/deep/b.txt", "adsense.txt")
			f.do(os.Rename(filepath.Join(f.folder, "ads"), filepath.Join(t.TempDir(), "ads")))
			f.has("adsense.txt")
		}},
		{"a folder that gets another name", func(t *testing.T, f *watched) {
			f.write("ads/a.txt")
			f.has("ads/a.txt")
			f.do(os.Rename(filepath.Join(f.folder, "ads"), filepath.Join(f.folder, "new")))
			f.has("new/a.txt")
			f.write("new/b.txt")
			f.has("new/a.txt", "new/b.txt")
		}},
		{"a folder that is deleted and made again", func(t *testing.T, f *watched) {
			f.write("ads/a.txt")
			f.has("ads/a.txt")
			f.do(os.RemoveAll(filepath.Join(f.folder, "ads")))
			f.write("ads/b.txt")
			f.has("ads/b.txt")
		}},
		{"the watched folder is moved away", func(t *testing.T, f *watched) {
			f.write("a.txt")
			f.has("a.txt")
			f.do(os.Rename(f.folder, filepath.Join(t.TempDir(), "drop")))
			f.has()
			soon(t, "the folder", func() bool { _, err := os.Stat(f.folder); return err == nil })
			f.write("b.txt")
			f.has("b.txt")
		}},
		{"folders that are removed as soon as they exist", func(t *testing.T, f *watched) {
			dir := filepath.Join(f.folder, "d", "e")
			for end := time.Now().Add(2 * lookEvery); time.Now().Before(end); {
				f.do(errors.Join(os.MkdirAll(dir, 0o700), os.RemoveAll(filepath.Dir(dir))))
			}
			if said := f.said.String(); said != "" {
				t.Errorf("the watcher said %q, want nothing", said)
			}
			f.write("a.txt")
			f.has("a.txt")
		}},
		{"deletions and drops while the watcher did not run", func(t *testing.T, f *watched) {
			f.write("ads/a.txt", "b.txt")
			f.has("ads/a.txt", "b.txt")
			f.do(upload(t.Context(), f.bucket, "inbox/other.wav", strings.NewReader("1"), nil)) // by another program
			f.stop()
			f.do(os.RemoveAll(filepath.Join(f.folder, "ads")))
			f.write("c.txt")
			watchFolder(t, f.bucket, f.folder)
			f.has("b.txt", "c.txt", "other.wav")
		}},
		{"a folder that cannot be read at the start", func(t *testing.T, f *watched) {
			f.write("ads/a.txt")
			f.has("ads/a.txt")
			f.stop()
			ads, away := filepath.Join(f.folder, "ads"), t.TempDir()
			f.do(os.Rename(filepath.Join(ads, "a.txt"), filepath.Join(away, "a.txt")))
			f.do(errors.Join(os.Remove(ads), os.Symlink("ads", ads)))
			again := watchFolder(t, f.bucket, f.folder)
			soon(t, "a line about the folder", func() bool { return again.said.count("ads is a link that leads to itself") == 1 })
			f.write("c.txt")
			f.has("ads/a.txt", "c.txt")
			f.do(errors.Join(os.Remove(ads), os.Rename(away, ads)))
			f.write("d.txt")
			f.has("ads/a.txt", "c.txt", "d.txt")
			if n := again.said.count("ads/a.txt"); n > 0 {
				t.Errorf("%d lines about ads/a.txt, want none", n)
			}
			f.do(os.RemoveAll(ads))
			f.has("c.txt", "d.txt")
		}},
		{"the watched folder is in a hidden folder, and cannot be read for a while", func(t *testing.T, f *watched) {
			f.stop()
			f.write("a.txt")
			hidden := filepath.Join(t.TempDir(), ".lipdrop")
			link, loop, good := filepath.Join(hidden, "drop"), filepath.Join(hidden, "loop"), filepath.Join(hidden, "good")
			f.do(errors.Join(os.Mkdir(hidden, 0o700), os.Symlink(f.folder, link), os.Symlink("drop", loop), os.Symlink(f.folder, good)))
			again := watchFolder(t, f.bucket, link)
			f.has("a.txt")
			f.do(os.Rename(loop, link))
			soon(t, "a line about the folder", func() bool { return again.said.count("drop is a link that leads to itself") == 1 })
			f.do(os.Rename(good, link))
			f.write("b.txt")
			f.has("a.txt", "b.txt")
		}},
		{"an older file of the same size replaces a file", func(t *testing.T, f *watched) {
			old := filepath.Join(t.TempDir(), "old")
			f.do(os.WriteFile(old, []byte("2"), 0o600))
			f.do(os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)))
			f.write("a.txt")
			f.has("a.txt")
			f.do(os.Rename(old, filepath.Join(f.folder, "a.txt")))
			soon(t, "the new content", func() bool {
				content, _, err := f.bucket.Get(t.Context(), "inbox/a.txt", 1<<10)
				if err != nil {
					t.Fatal(err)
				}
				return string(content) == "2"
			})
		}},
		{"links of the user", func(t *testing.T, f *watched) {
			out := t.TempDir()
			f.do(os.WriteFile(filepath.Join(out, "a.txt"), []byte("1"), 0o600))
			f.do(os.Symlink(filepath.Join(out, "a.txt"), filepath.Join(f.folder, "b.txt")))
			f.do(os.Symlink(out, filepath.Join(f.folder, "c")))
			f.do(os.Symlink("nowhere", filepath.Join(f.folder, "d.txt")))
			f.has("b.txt", "c/a.txt")
			soon(t, "a line about the link", func() bool { return f.said.count("d.txt is a link that leads nowhere") == 1 })
		}},
		{"a name that is too long", func(t *testing.T, f *watched) {
			f.write(strings.Repeat("n", 220), "a.txt")
			f.has("a.txt")
			soon(t, "a line about the name", func() bool { return f.said.count("has 220 bytes") == 1 })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, watchFolder(t, newBucket(t, func(*s3.Options) {}), filepath.Join(t.TempDir(), "drop")))
		})
	}

	t.Run("uploads that fail for a while", func(t *testing.T) {
		t.Parallel()
		broken := &failing{}
		broken.fails.Store(true)
		client := newBucket(t, func(o *s3.Options) {
			broken.RoundTripper = o.HTTPClient.(*http.Client).Transport
			o.HTTPClient, o.Retryer = &http.Client{Transport: broken}, aws.NopRetryer{}
		})
		f := watchFolder(t, client, filepath.Join(t.TempDir(), "drop"))
		f.write("a.txt")
		soon(t, "a line about the failure", func() bool { return f.said.count("a.txt cannot be dropped") == 1 })
		if f.said.count("https response error") != 0 {
			t.Errorf("the watcher said %q, want no raw error", f.said)
		}
		broken.fails.Store(false)
		f.has("a.txt")
	})
}
