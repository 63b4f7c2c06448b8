package check

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// Dropped returns a Snapshot of the files of a drop. readAt reads the content of the file at
// key, as an io.ReaderAt does.
func Dropped(files []drop.File, readAt func(key string, p []byte, off int64) (int, error)) *Snapshot {
	readRange := func(_ context.Context, f drop.File, off, n int64) ([]byte, error) {
		part := make([]byte, max(min(n, f.Size-off), 0))
		read, err := readAt(f.Key, part, off)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return part[:read], err
	}
	return &Snapshot{known: slices.SortedFunc(slices.Values(files), byKey), whole: true, read: readRange}
}

// Overlay is the bucket as it will be after the files of New are dropped. A file of New
// replaces the file of Bucket that has the same key. Overlay implements drop.Files.
type Overlay struct{ New, Bucket drop.Files }

// List implements drop.Files.
func (o Overlay) List(ctx context.Context, prefix string, limit int) ([]drop.File, bool, error) {
	return o.merge(func(files drop.Files) ([]drop.File, bool, error) { return files.List(ctx, prefix, limit) }, limit)
}

// ListFolder implements drop.Files.
func (o Overlay) ListFolder(ctx context.Context, prefix, after string, limit int) ([]drop.File, bool, error) {
	return o.merge(func(files drop.Files) ([]drop.File, bool, error) { return files.ListFolder(ctx, prefix, after, limit) }, limit)
}

// merge merges two listings. The result ends at the smallest last key of the listings that are
// cut off.
func (o Overlay) merge(list func(drop.Files) ([]drop.File, bool, error), limit int) ([]drop.File, bool, error) {
	var merged []drop.File
	more, end := false, ""
	for _, files := range []drop.Files{o.New, o.Bucket} {
		listed, cut, err := list(files)
		if err != nil {
			return nil, false, err
		}
		if cut && len(listed) > 0 {
			if last := listed[len(listed)-1].Key; end == "" || last < end {
				end = last
			}
		}
		merged, more = append(merged, listed...), more || cut
	}
	slices.SortStableFunc(merged, byKey)
	merged = slices.CompactFunc(merged, func(a, b drop.File) bool { return a.Key == b.Key })
	if end != "" {
		merged = slices.DeleteFunc(merged, func(f drop.File) bool { return f.Key > end })
	}
	return merged[:min(len(merged), limit)], more || len(merged) > limit, nil
}

func byKey(a, b drop.File) int { return strings.Compare(a.Key, b.Key) }

// Head implements drop.Files.
func (o Overlay) Head(ctx context.Context, key string) (drop.File, error) {
	file, err := o.New.Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return o.Bucket.Head(ctx, key)
	}
	return file, err
}

// ReadRange implements drop.Files.
func (o Overlay) ReadRange(ctx context.Context, f drop.File, off, n int64) ([]byte, error) {
	if _, err := o.New.Head(ctx, f.Key); errors.Is(err, bucket.ErrNotFound) {
		return o.Bucket.ReadRange(ctx, f, off, n)
	}
	return o.New.ReadRange(ctx, f, off, n)
}

// Snapshot is a bucket whose listings are read once: it knows the files below a prefix,
// and remembers other listings. So a check of many drops makes few requests. Snapshot
// implements drop.Files, and is safe for concurrent use.
type Snapshot struct {
	prefix string
	known  []drop.File // sorted; all files below prefix, if whole
	whole  bool
	bucket drop.Files // for what is not known; nil if Dropped made the snapshot
	read   func(ctx context.Context, f drop.File, off, n int64) ([]byte, error)

	mu     sync.Mutex
	listed map[listing]page
}

// listing has the parameters of List or ListFolder.
type listing struct {
	prefix, after string
	folder        bool // not deeper than the next slash
	limit         int
}

type page struct {
	files []drop.File
	more  bool
}

// NewSnapshot returns a Snapshot of a bucket. The Snapshot knows the files below a prefix, if
// there are at most the given number. Otherwise it asks the bucket for each listing, once.
func NewSnapshot(ctx context.Context, files drop.Files, prefix string, most int) (*Snapshot, error) {
	known, more, err := files.List(ctx, prefix, most)
	return &Snapshot{prefix: prefix, known: known, whole: !more, bucket: files, read: files.ReadRange, listed: map[listing]page{}}, err
}

// Knows reports whether the snapshot has all keys that begin with a text.
func (s *Snapshot) Knows(text string) bool { return s.whole && strings.HasPrefix(text, s.prefix) }

// List implements drop.Files.
func (s *Snapshot) List(ctx context.Context, prefix string, limit int) ([]drop.File, bool, error) {
	return s.list(listing{prefix: prefix, limit: limit}, func() ([]drop.File, bool, error) { return s.bucket.List(ctx, prefix, limit) })
}

// ListFolder implements drop.Files.
func (s *Snapshot) ListFolder(ctx context.Context, prefix, after string, limit int) ([]drop.File, bool, error) {
	return s.list(listing{prefix, after, true, limit}, func() ([]drop.File, bool, error) { return s.bucket.ListFolder(ctx, prefix, after, limit) })
}

func (s *Snapshot) list(l listing, ask func() ([]drop.File, bool, error)) ([]drop.File, bool, error) {
	if s.Knows(l.prefix) {
		files, more := list(s.known, l)
		return files, more, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.listed[l]
	if !ok {
		files, more, err := ask()
		if err != nil {
			return nil, false, err
		}
		known = page{files, more}
		s.listed[l] = known
	}
	return slices.Clone(known.files), known.more, nil
}

// Head implements drop.Files.
func (s *Snapshot) Head(ctx context.Context, key string) (drop.File, error) {
	if !s.Knows(key) {
		return s.bucket.Head(ctx, key)
	}
	i, ok := slices.BinarySearchFunc(s.known, drop.File{Key: key}, byKey)
	if !ok {
		return drop.File{}, bucket.ErrNotFound
	}
	return s.known[i], nil
}

// ReadRange implements drop.Files.
func (s *Snapshot) ReadRange(ctx context.Context, f drop.File, off, n int64) ([]byte, error) {
	return s.read(ctx, f, off, n)
}

// list lists sorted files as S3 does.
func list(sorted []drop.File, l listing) (files []drop.File, more bool) {
	from, _ := slices.BinarySearchFunc(sorted, drop.File{Key: max(l.prefix, l.after)}, byKey)
	for _, f := range sorted[from:] {
		below, ok := strings.CutPrefix(f.Key, l.prefix)
		if !ok {
			break
		}
		if first, _, deeper := strings.Cut(below, "/"); l.folder && deeper {
			f = drop.File{Key: l.prefix + first + "/"}
		}
		if f.Key <= l.after || len(files) > 0 && files[len(files)-1].Key == f.Key {
			continue
		}
		if len(files) == l.limit {
			return files, true
		}
		files = append(files, f)
	}
	return files, false
}
