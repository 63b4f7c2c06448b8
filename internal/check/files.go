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

// merge returns the files of two lists, sorted. If both lists have a file with the same key, merge
// returns the file of the first list.
func merge(first, second []drop.File) []drop.File {
	merged := slices.Concat(first, second)
	slices.SortStableFunc(merged, byKey)
	return slices.CompactFunc(merged, func(a, b drop.File) bool { return a.Key == b.Key })
}

func byKey(a, b drop.File) int { return strings.Compare(a.Key, b.Key) }

// Snapshot is a bucket whose listings are read once: it knows the files below a prefix,
// and remembers other listings. So a check of many drops makes few requests. Snapshot
// implements drop.Files. Its methods, except AddDropped, are safe for concurrent use.
type Snapshot struct {
	prefix string
	known  []drop.File // sorted; if whole is true, all files below prefix
	whole  bool
	bucket drop.Files // for what is not known; nil if Dropped made the snapshot
	read   func(ctx context.Context, f drop.File, off, n int64) ([]byte, error)

	dropped []drop.File // sorted
	added   []drop.File // nil until AddDropped sets it to dropped

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
// there are at most the given number. For other files it asks the bucket: once for each listing, and
// at every Head. It reads the content of a file from dropped if dropped has the file's key.
func NewSnapshot(ctx context.Context, files drop.Files, dropped *Snapshot, prefix string, most int) (*Snapshot, error) {
	known, more, err := files.List(ctx, prefix, most)
	read := func(ctx context.Context, f drop.File, off, n int64) ([]byte, error) {
		if _, ok := find(dropped.known, f.Key); ok {
			return dropped.read(ctx, f, off, n)
		}
		return files.ReadRange(ctx, f, off, n)
	}
	return &Snapshot{prefix: prefix, known: known, whole: !more, bucket: files, read: read, dropped: dropped.known, listed: map[listing]page{}}, err
}

// AddDropped makes the snapshot show the bucket as it will be after the drop. A dropped file
// replaces the file of the bucket that has the same key. No other method may run at the same time.
func (s *Snapshot) AddDropped() { s.known, s.added = merge(s.dropped, s.known), s.dropped }

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
		files, more := listSorted(s.known, l)
		return files, more, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, ok := s.listed[l]
	if !ok {
		files, more, err := ask()
		if err != nil {
			return nil, false, err
		}
		stored = page{files, more}
		s.listed[l] = stored
	}
	added, moreAdded := listSorted(s.added, l)
	if stored.more {
		l.limit = len(stored.files) // the bucket's files after these are not known
	}
	files, more := listSorted(merge(added, stored.files), l)
	return files, more || stored.more || moreAdded, nil
}

// Head implements drop.Files.
func (s *Snapshot) Head(ctx context.Context, key string) (drop.File, error) {
	if file, ok := find(s.added, key); ok {
		return file, nil
	}
	if !s.Knows(key) {
		return s.bucket.Head(ctx, key)
	}
	file, ok := find(s.known, key)
	if !ok {
		return drop.File{}, bucket.ErrNotFound
	}
	return file, nil
}

// ReadRange implements drop.Files.
func (s *Snapshot) ReadRange(ctx context.Context, f drop.File, off, n int64) ([]byte, error) {
	return s.read(ctx, f, off, n)
}

func find(sorted []drop.File, key string) (drop.File, bool) {
	i, ok := slices.BinarySearchFunc(sorted, drop.File{Key: key}, byKey)
	if !ok {
		return drop.File{}, false
	}
	return sorted[i], true
}

// listSorted lists sorted files as S3 does.
func listSorted(sorted []drop.File, l listing) (files []drop.File, more bool) {
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
