package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// The files of a folder are listed as a bucket lists them, so that a check
// finds what the function would.
func TestFolderListsAsABucket(t *testing.T) {
	names := []string{"a.mp4", "a.wav", "a.b/c.wav", "a/b.mp4", "a/b/c.png", "a!.wav", "b.job/job.json", "é.wav"}
	files := map[string]string{}
	bucket := &s3test.Bucket{}
	for _, name := range names {
		files["drops/"+name] = name
		bucket.Set("inbox/drops/"+name, []byte(name))
	}
	lay(t, files)
	folder, err := gather([]string{"drops"})
	if err != nil {
		t.Fatal(err)
	}
	describe := func(files []drop.File, more bool, err error) string {
		var keys []string
		for _, f := range files {
			keys = append(keys, fmt.Sprintf("%s %d", f.Key, f.Size))
		}
		return fmt.Sprint(keys, more, err)
	}
	// Where a page of the bucket is full, what it says to be more may be folders only.
	foldersFollow := func(prefix string, files []drop.File) bool {
		return slices.ContainsFunc(folder.keys, func(key string) bool {
			return key > files[len(files)-1].Key && strings.HasPrefix(key, prefix) && strings.Contains(key[len(prefix):], "/")
		})
	}
	s3 := &drop.Bucket{S3: bucket, Name: "b"}
	rapidtest.Check(t, func(rt *rapid.T) {
		key := rapid.SampledFrom(folder.keys)
		prefix := key.Draw(rt, "prefix")
		prefix = prefix[:rapid.IntRange(0, len(prefix)).Draw(rt, "its length")]
		after := rapid.OneOf(rapid.Just(""), key).Draw(rt, "after")
		limit := rapid.IntRange(1, len(names)).Draw(rt, "limit")
		if diff := cmp.Diff(describe(s3.List(t.Context(), prefix, limit)), describe(folder.List(t.Context(), prefix, limit))); diff != "" {
			rt.Errorf("files (-of a bucket +of a folder):\n%s", diff)
		}
		files, more, err := s3.ListFolder(t.Context(), prefix, after, limit)
		have, haveMore, haveErr := folder.ListFolder(t.Context(), prefix, after, limit)
		if more && !haveMore && len(files) == limit && foldersFollow(prefix, files) {
			more = false
		}
		if diff := cmp.Diff(describe(files, more, err), describe(have, haveMore, haveErr)); diff != "" {
			rt.Errorf("files of a folder (-of a bucket +of a folder):\n%s", diff)
		}
	})
	if !slices.IsSorted(folder.keys) || len(folder.keys) != len(names) {
		t.Errorf("keys %q", folder.keys)
	}
}
