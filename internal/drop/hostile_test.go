package drop

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// A wildcard whose only special character is * matches what path.Match matches.
func TestWildcardMatches(t *testing.T) {
	rapidtest.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*/]{0,12}`).Draw(t, "pattern")
		key := rapid.StringMatching(`[ab/]{0,12}`).Draw(t, "key")
		want, err := path.Match(pattern, key)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&wildcard{pattern: pattern}).matches(key); got != want {
			t.Errorf("the pattern %q matches the key %q: %t, want %t", pattern, key, got, want)
		}
	})
}

// If too few listings are left for the whole folder, listBelow returns errCrowded, and not a part
// of the folder.
func TestBelowIsWholeOrCrowded(t *testing.T) {
	storage := &s3test.Bucket{}
	for i := range bucket.PageSize + 1 {
		storage.Set(fmt.Sprintf("inbox/cafe.job/%d.wav", i), nil)
	}
	for left, want := range map[int]error{0: errCrowded, 1: errCrowded, 2: nil} {
		l := &lister{&Resolver{Files: &bucket.Bucket{S3: storage, Name: "b"}}, left}
		files, _, err := l.listBelow(t.Context(), "inbox/cafe.job/", maxMatches)
		if !errors.Is(err, want) || err == nil && len(files) != bucket.PageSize+1 {
			t.Errorf("with %d listings left: %d files, error %v; want error %v, and %d files if that error is nil", left, len(files), err, want, bucket.PageSize+1)
		}
	}
}

// listMatches compares at most maxMatches files of a bundle, and reports whether it compared
// all. If findPair has too few listings left, it adds a warning that not all files were checked.
func TestNotAllCompared(t *testing.T) {
	storage := &s3test.Bucket{}
	b := bundle{folder: "inbox/cafe.job/", wildcard: newWildcard("inbox/cafe.job/", ref{value: "*.wav", key: "inbox/cafe.job/*.wav"})}
	for i := range maxMatches - 1 {
		storage.Set(fmt.Sprintf("inbox/cafe.job/%d.wav", i), nil)
	}
	l := &lister{&Resolver{Files: &bucket.Bucket{S3: storage, Name: "b"}}, maxListings}
	for i, want := range []bool{true, false} {
		storage.Set(fmt.Sprintf("inbox/cafe.job/last%d.wav", i), nil)
		if _, all, err := l.listMatches(t.Context(), b, ""); all != want || err != nil {
			t.Errorf("with %d files, all files were checked: %t, error %v; want %t and no error", maxMatches+i, all, err, want)
		}
	}
	storage.Set("inbox/caf\u00e9.de.wav", nil)
	l.left = 1 // enough for one of the two Unicode forms
	f, err := l.findPair(t.Context(), newFinding("caf\u00e9"), "inbox/caf\u00e9", []File{{Key: "inbox/caf\u00e9.mp4"}})
	want := `not all files whose names begin with "café." were checked, because finding them takes more than 30 listings of the bucket`
	if err != nil || len(f.Jobs) != 1 || strings.Join(f.Warnings, "") != want {
		t.Errorf("the jobs %q, the warnings %q, error %v; want one job, the warning %q and no error", f.Jobs, f.Warnings, err, want)
	}
}

// The work for a hostile input does not grow with the square of the input's length: otherwise
// the first two tests would not end in time.
func TestExpensiveKeys(t *testing.T) {
	t.Run("a pattern that nearly matches everywhere", func(t *testing.T) {
		const n = 2 << 20
		w := &wildcard{pattern: "*" + strings.Repeat("a", n) + "b*"}
		if w.matches(strings.Repeat("a", 2*n)) {
			t.Error("the pattern matches, want no match")
		}
	})
	t.Run("matches of one name", func(t *testing.T) {
		const n = 300_000
		files := make([]File, n)
		for i := range files {
			files[i].Key = fmt.Sprintf("inbox/x.job/%06d/a.wav", i)
		}
		b := bundle{folder: "inbox/x.job/", wildcard: newWildcard("inbox/x.job/", ref{value: "*/a.wav", key: "inbox/x.job/*/a.wav"})}
		byName := b.matchesByName(append(files, files[:10]...))
		if got := len(byName["x/a"]); got != n {
			t.Errorf("%d files, want each of the %d files once", got, n)
		}
	})
	t.Run("a stem of many dots", func(t *testing.T) {
		if got := len(shorterStems("inbox/t" + strings.Repeat(".a", 500))); got > maxListings {
			t.Errorf("%d stems would be searched for, want at most %d", got, maxListings)
		}
	})
}
