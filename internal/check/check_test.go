package check_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// bucketOf returns a bucket in which the content of each file is its key.
func bucketOf(keys ...string) *bucket.Bucket {
	b := &s3test.Bucket{}
	for _, key := range keys {
		b.Set(key, []byte(key))
	}
	return &bucket.Bucket{S3: b, Name: "b"}
}

// After AddDropped, a snapshot lists the same files as a bucket that holds the dropped files too.
func TestListings(t *testing.T) {
	key := rapid.Custom(func(t *rapid.T) string { return "inbox/" + rapid.StringMatching(`[ab./]{1,5}`).Draw(t, "key") })
	rapidtest.Check(t, func(t *rapid.T) {
		fresh, stored := rapid.SliceOf(key).Draw(t, "new"), rapid.SliceOf(key).Draw(t, "stored")
		all := bucketOf(slices.Concat(fresh, stored)...)
		dropped, _, err := bucketOf(fresh...).List(t.Context(), "", math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := check.NewSnapshot(t.Context(), bucketOf(stored...), check.Dropped(dropped, nil), "inbox/"+rapid.StringMatching(`[ab.]{0,2}`).Draw(t, "covered"), rapid.SampledFrom([]int{2, 1000}).Draw(t, "most"))
		if err != nil {
			t.Fatal(err)
		}
		snapshot.AddDropped()
		prefix, after, limit := rapid.SampledFrom([]string{"inbox/", "inbox/a", "inbox/b.", "x"}).Draw(t, "prefix"), rapid.SampledFrom([]string{"", "inbox/a.", "inbox/b"}).Draw(t, "after"), rapid.IntRange(1, 20).Draw(t, "limit")
		for range 2 { // the second time, the snapshot remembers the listings
			for _, list := range []func(drop.Files) ([]drop.File, bool, error){
				func(f drop.Files) ([]drop.File, bool, error) { return f.List(t.Context(), prefix, limit) },
				func(f drop.Files) ([]drop.File, bool, error) { return f.ListFolder(t.Context(), prefix, after, limit) },
			} {
				if diff := cmp.Diff(listed(list(all)), listed(list(snapshot))); diff != "" {
					t.Fatalf("prefix %q, after %q, limit %d (-want +got):\n%s", prefix, after, limit, diff)
				}
			}
		}
		for _, k := range append(slices.Concat(fresh, stored), "inbox/none") {
			_, want := all.Head(t.Context(), k)
			if _, got := snapshot.Head(t.Context(), k); (want == nil) != (got == nil) {
				t.Fatalf("Head of %s: error %v, want %v", k, got, want)
			}
		}
	})
}

// listed describes a listing: whether there are more files, the error and the keys.
func listed(files []drop.File, more bool, err error) []string {
	text := []string{fmt.Sprint(more, err)}
	for _, f := range files {
		text = append(text, f.Key)
	}
	return text
}

// A snapshot reads a dropped file instead of the bucket's file with the same key, before and
// after AddDropped.
func TestSnapshotReadsDroppedFiles(t *testing.T) {
	dropped := check.Dropped([]drop.File{{Key: "inbox/a", Size: 3}}, func(_ string, p []byte, off int64) (int, error) { return strings.NewReader("new").ReadAt(p, off) })
	s, err := check.NewSnapshot(t.Context(), bucketOf("inbox/a", "inbox/b"), dropped, "inbox/", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for key, want := range map[string]string{"inbox/a": "new", "inbox/b": "inbox/b"} {
			f, err := s.Head(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.ReadRange(t.Context(), f, 0, 10); err != nil || string(got) != want {
				t.Errorf("%s is %q, error %v; want %q", key, got, err, want)
			}
		}
		s.AddDropped()
	}
}

// A snapshot makes one request for all files below its prefix, and one for each listing outside
// the prefix, however often these are repeated.
func TestSnapshotMakesFewRequests(t *testing.T) {
	b := bucketOf("inbox/l/a.job/job.json", "inbox/l/b.job/job.json", "inbox/l.mp4")
	ctx := t.Context()
	s, err := check.NewSnapshot(ctx, b, check.Dropped(nil, nil), "inbox/l/", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for _, prefix := range []string{"inbox/l/a.", "inbox/l/b.job/", "inbox/l."} {
			if _, _, err := s.ListFolder(ctx, prefix, "", 1000); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Head(ctx, "inbox/l/a.job/job.json"); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Requests(); n != 2 {
		t.Errorf("%d requests, want 2, one for the prefix and one for the listing outside it", n)
	}
}

// Lengths have at most three decimals.
func TestDescribeLength(t *testing.T) {
	o := check.Outcome{State: check.Ready, Job: drop.Prepared{Expected: catalog.Expected{Length: 2388999 * time.Microsecond}}}
	if got := o.Describe().Expected; got != 2.389 {
		t.Errorf("the length is %v s, want 2.389 s", got)
	}
}
