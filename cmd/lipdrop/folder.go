package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// dropped is files of this machine in the places of the bucket where dropping
// them would put them. It implements drop.Files, so that a check runs the code
// of the real thing.
type dropped struct {
	paths map[string]string // by key
	keys  []string          // sorted
}

// gather puts each file directly below inbox/, and each folder there with all
// that is in it. The error names every argument that is not there.
func gather(args []string) (*dropped, error) {
	d := &dropped{paths: map[string]string{}}
	var errs []error
	for _, arg := range args {
		errs = append(errs, d.add(arg))
	}
	for key := range d.paths {
		d.keys = append(d.keys, key)
	}
	slices.Sort(d.keys)
	return d, errors.Join(errs...)
}

func (d *dropped) add(arg string) error {
	abs, err := filepath.Abs(arg)
	if err != nil {
		return err
	}
	return filepath.WalkDir(abs, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: there is no such file", arg)
		}
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		below, err := filepath.Rel(filepath.Dir(abs), file)
		if err != nil {
			return err
		}
		key := ledger.InboxPrefix + filepath.ToSlash(below)
		if other, ok := d.paths[key]; ok && other != file {
			return fmt.Errorf("%s and %s would both be dropped as %s; rename one", other, file, key)
		}
		d.paths[key] = file
		return nil
	})
}

// List implements drop.Files.
func (d *dropped) List(_ context.Context, prefix string, limit int) ([]drop.File, bool, error) {
	return d.list(prefix, limit, func(string) bool { return true })
}

// ListFolder implements drop.Files.
func (d *dropped) ListFolder(_ context.Context, prefix, after string, limit int) ([]drop.File, bool, error) {
	return d.list(prefix, limit, func(key string) bool { return key > after && !strings.Contains(key[len(prefix):], "/") })
}

func (d *dropped) list(prefix string, limit int, wanted func(key string) bool) (files []drop.File, more bool, err error) {
	from, _ := slices.BinarySearch(d.keys, prefix)
	for _, key := range d.keys[from:] {
		switch {
		case !strings.HasPrefix(key, prefix):
			return files, false, nil
		case !wanted(key):
			continue
		case len(files) == limit:
			return files, true, nil
		}
		f, err := d.stat(key)
		if err != nil {
			return nil, false, err
		}
		files = append(files, f)
	}
	return files, false, nil
}

// Head implements drop.Files.
func (d *dropped) Head(_ context.Context, key string) (drop.File, error) {
	if _, ok := d.paths[key]; !ok {
		return drop.File{}, drop.ErrAbsent
	}
	return d.stat(key)
}

func (d *dropped) stat(key string) (drop.File, error) {
	info, err := os.Stat(d.paths[key])
	if err != nil {
		return drop.File{}, err
	}
	sum := md5.Sum([]byte(fmt.Sprint(key, info.Size(), info.ModTime())))
	return drop.File{
		Key: key, Size: info.Size(), LastModified: info.ModTime().UTC().Truncate(time.Second),
		ETag: hex.EncodeToString(sum[:]), // of the bucket's own only its change counts
	}, nil
}

// ReadRange implements drop.Files.
func (d *dropped) ReadRange(_ context.Context, f drop.File, off, n int64) ([]byte, error) {
	file, err := os.Open(d.paths[f.Key])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, off, min(n, max(f.Size-off, 0))))
}

// show returns a key as the person named it: below inbox/.
func show(key string) string { return path.Clean(strings.TrimPrefix(key, ledger.InboxPrefix)) }
