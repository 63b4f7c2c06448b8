package drop_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func TestBucketLists(t *testing.T) {
	b := newInbox(t)
	for i := range 2100 {
		b.Set(fmt.Sprintf("inbox/a %04d+%%.wav", i), nil)
	}
	b.Set("inbox/a 1/b.wav", nil)
	files := b.Files.(*drop.Bucket)
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
		{name: "all, by a thousand", prefix: "inbox/", limit: 5000, n: 2101, first: "inbox/a 0000+%.wav", listings: 3},
		{name: "a page and no more", prefix: "inbox/", limit: 1000, n: 1000, first: "inbox/a 0000+%.wav", more: true, listings: 1},
		{name: "a few", prefix: "inbox/a 2", limit: 10, n: 10, first: "inbox/a 2000+%.wav", more: true, listings: 1},
		{name: "as many as there are", prefix: "inbox/a 1/", limit: 1, n: 1, first: "inbox/a 1/b.wav", listings: 1},
		{name: "none", prefix: "inbox/b", limit: 10, listings: 1},
		{name: "a folder alone", folder: true, prefix: "inbox/a 1", limit: 5000, n: 1000, first: "inbox/a 1/", more: true, listings: 1},
		{name: "a folder, from a key on", folder: true, prefix: "inbox/", after: "inbox/a 2097+%.wav", limit: 1000, n: 2, first: "inbox/a 2098+%.wav", listings: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := b.Calls()["ListObjectsV2"]
			got, more, err := files.List(t.Context(), tt.prefix, tt.limit)
			if tt.folder {
				before = b.Calls()["ListObjectsV2"]
				got, more, err = files.ListFolder(t.Context(), tt.prefix, tt.after, tt.limit)
			}
			if err != nil || len(got) != tt.n || more != tt.more {
				t.Fatalf("%d files, more: %v, error %v; want %d, %v", len(got), more, err, tt.n, tt.more)
			}
			if len(got) > 0 && got[0].Key != tt.first {
				t.Errorf("the first is %q, want %q", got[0].Key, tt.first)
			}
			if n := b.Calls()["ListObjectsV2"] - before; n != tt.listings {
				t.Errorf("%d listings, want %d", n, tt.listings)
			}
		})
	}
}

func TestBucketReads(t *testing.T) {
	b := newInbox(t)
	b.step(t, "a.txt = 0123456789")
	f, err := b.Files.Head(t.Context(), "inbox/a.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		off, n int64
		want   string
	}{{0, 4, "0123"}, {8, 4, "89"}, {9, 1, "9"}, {10, 4, ""}, {12, 4, ""}, {0, 0, ""}} {
		got, err := b.Files.ReadRange(t.Context(), f, tt.off, tt.n)
		if err != nil || string(got) != tt.want {
			t.Errorf("%d bytes from %d are %q, %v, want %q", tt.n, tt.off, got, err, tt.want)
		}
	}
}

func TestBucketErrors(t *testing.T) {
	tests := []struct {
		status          int
		absent, changed bool // what Head and ReadRange say
	}{
		{status: 404, absent: true, changed: true},
		{status: 412, changed: true},
		{status: 416, changed: true},
		{status: 403},
		{status: 503},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			b := newInbox(t)
			b.step(t, "a.txt")
			b.Before = func(op, _ string) error { return s3test.Error(tt.status, "Trouble") }
			_, head := b.Files.Head(t.Context(), "inbox/a.txt")
			_, read := b.Files.ReadRange(t.Context(), drop.File{Key: "inbox/a.txt", Size: 4}, 0, 4)
			_, _, list := b.Files.List(t.Context(), "inbox/", 1)
			if errors.Is(head, drop.ErrAbsent) != tt.absent || errors.Is(read, drop.ErrChanged) != tt.changed {
				t.Errorf("a head says %v and a read %v", head, read)
			}
			for op, err := range map[string]error{"head": head, "read": read, "list": list} {
				if err == nil || !errors.Is(err, drop.ErrAbsent) && !errors.Is(err, drop.ErrChanged) && !strings.Contains(err.Error(), "inbox/") {
					t.Errorf("a %s says %v, which names no key", op, err)
				}
			}
		})
	}
}

// versioned is a bucket with versions.
type versioned struct{ *s3test.Bucket }

func (b versioned) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	out, err := b.Bucket.HeadObject(ctx, in, opts...)
	if err == nil {
		out.VersionId = aws.String("v of " + *in.Key)
	}
	return out, err
}

func TestVersions(t *testing.T) {
	b := newInbox(t)
	b.Files = &drop.Bucket{S3: versioned{b.Bucket}, Name: "b"}
	b.step(t, "a.mp4")
	ready, problems := b.prepared(t, b.step(t, "a.wav"))
	if problems != nil || ready.Media[0].File.VersionID != "v of inbox/a.mp4" || ready.Media[1].Input().VersionID != "v of inbox/a.wav" {
		t.Errorf("media %+v; problems %v", ready.Media, problems)
	}
}
