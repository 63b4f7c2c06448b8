package bucket_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func TestList(t *testing.T) {
	storage := &s3test.Bucket{}
	b := &bucket.Bucket{S3: storage, Name: "b"}
	for i := range 2100 {
		storage.Set(fmt.Sprintf("inbox/a %04d+%%.wav", i), nil)
	}
	storage.Set("inbox/a 1/b.wav", nil)
	tests := []struct {
		name     string
		folder   bool
		prefix   string
		after    string
		limit    int
		n        int
		first    string
		more     bool
		listings int
	}{
		{name: "all, in pages of a thousand", prefix: "inbox/", limit: 5000, n: 2101, first: "inbox/a 0000+%.wav", listings: 3},
		{name: "one page of three", prefix: "inbox/", limit: 1000, n: 1000, first: "inbox/a 0000+%.wav", more: true, listings: 1},
		{name: "a few", prefix: "inbox/a 2", limit: 10, n: 10, first: "inbox/a 2000+%.wav", more: true, listings: 1},
		{name: "as many as there are", prefix: "inbox/a 1/", limit: 1, n: 1, first: "inbox/a 1/b.wav", listings: 1},
		{name: "none", prefix: "inbox/b", limit: 10, listings: 1},
		{name: "files and folders directly below a prefix, at most one page", folder: true, prefix: "inbox/a 1", limit: 5000, n: 1000, first: "inbox/a 1/", more: true, listings: 1},
		{name: "a folder, after a key", folder: true, prefix: "inbox/", after: "inbox/a 2097+%.wav", limit: 1000, n: 2, first: "inbox/a 2098+%.wav", listings: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := func() ([]bucket.File, bool, error) { return b.List(t.Context(), tt.prefix, tt.limit) }
			if tt.folder {
				list = func() ([]bucket.File, bool, error) { return b.ListFolder(t.Context(), tt.prefix, tt.after, tt.limit) }
			}
			before := storage.Calls()["ListObjectsV2"]
			got, more, err := list()
			if err != nil || len(got) != tt.n || more != tt.more {
				t.Fatalf("%d files, more: %v, error %v; want %d, more: %v", len(got), more, err, tt.n, tt.more)
			}
			if len(got) > 0 && got[0].Key != tt.first {
				t.Errorf("the first file is %q, want %q", got[0].Key, tt.first)
			}
			if n := storage.Calls()["ListObjectsV2"] - before; n != tt.listings {
				t.Errorf("%d listings, want %d", n, tt.listings)
			}
		})
	}
}

func TestReadRange(t *testing.T) {
	storage := &s3test.Bucket{}
	b := &bucket.Bucket{S3: storage, Name: "b"}
	storage.Set("inbox/a.txt", []byte("0123456789"))
	f, err := b.Head(t.Context(), "inbox/a.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		off, n int64
		want   string
	}{{0, 4, "0123"}, {8, 4, "89"}, {9, 1, "9"}, {10, 4, ""}, {12, 4, ""}, {0, 0, ""}} {
		got, err := b.ReadRange(t.Context(), f, tt.off, tt.n)
		if err != nil || string(got) != tt.want {
			t.Errorf("%d bytes from offset %d are %q, error %v; want %q", tt.n, tt.off, got, err, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		status          int
		absent, changed bool // Head returns ErrNotFound, ReadRange returns ErrChanged
	}{
		{status: 404, absent: true, changed: true},
		{status: 412, changed: true},
		{status: 416, changed: true},
		{status: 403},
		{status: 503},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			storage := &s3test.Bucket{}
			b := &bucket.Bucket{S3: storage, Name: "b"}
			storage.Before = func(op, _ string) error { return s3test.Error(tt.status, "Trouble") }
			_, head := b.Head(t.Context(), "inbox/a.txt")
			_, read := b.ReadRange(t.Context(), bucket.File{Key: "inbox/a.txt", Size: 4}, 0, 4)
			_, _, list := b.List(t.Context(), "inbox/", 1)
			if errors.Is(head, bucket.ErrNotFound) != tt.absent || errors.Is(read, bucket.ErrChanged) != tt.changed {
				t.Errorf("Head returned %v and ReadRange %v; want not found: %v, changed: %v", head, read, tt.absent, tt.changed)
			}
			for op, err := range map[string]error{"head": head, "read": read, "list": list} {
				if err == nil || !errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrChanged) && !strings.Contains(err.Error(), "inbox/") {
					t.Errorf("a %s returned %v, want ErrNotFound, ErrChanged or an error with the key or the prefix", op, err)
				}
			}
		})
	}
}

func TestPutJSON(t *testing.T) {
	storage := &s3test.Bucket{}
	b := &bucket.Bucket{S3: storage, Name: "b"}
	put := func(what, etag, body string, want error) string {
		t.Helper()
		etag, err := b.PutJSON(t.Context(), "a.json", etag, []byte(body), map[string]string{"m": body})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		return etag
	}
	first := put("a new object", "", "{}", nil)
	put("an object that exists", "", "[]", bucket.ErrConflict)
	second := put("the expected object", first, "[1]", nil)
	put("an object that was changed", first, "[2]", bucket.ErrConflict)
	body, file, err := b.Get(t.Context(), "a.json", 2)
	if string(body) != "[1" || file.ETag != second || file.Metadata["m"] != "[1]" || err != nil {
		t.Errorf("the first two bytes of %+v are %q, error %v; want %q with the ETag %s and m %q", file, body, err, "[1", second, "[1]")
	}
	storage.Remove("a.json")
	put("an object that was deleted", second, "{}", bucket.ErrConflict)
	if _, _, err := b.Get(t.Context(), "a.json", 2); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("a missing object: %v, want %v", err, bucket.ErrNotFound)
	}
}
