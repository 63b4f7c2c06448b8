package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// dropped holds files of this machine under the keys that they would get when they
// are dropped. It implements drop.Files, so that check runs the same code as submit.
type dropped struct {
	folder   string            // key of the folder that the arguments are dropped into
	paths    map[string]string // by key: the real path, without links
	texts    map[string][]byte // by key: the content of a file that is not on this machine
	inFolder map[string]bool   // keys of files that no argument names, only their folders
	keys     []string          // sorted
	unread   []drop.File       // the same, without what stat knows
	problems []error           // one for each file that cannot be read
}

// gather gives each file a key directly below inbox/, and each folder with all its
// files too. The error names every argument that does not exist.
func gather(args []string) (*dropped, error) { return gatherInto(ledger.InboxPrefix, args) }

// gatherInto is gather for a folder below inbox/.
func gatherInto(folder string, args []string) (*dropped, error) {
	d := &dropped{folder: folder, paths: map[string]string{}, texts: map[string][]byte{}, inFolder: map[string]bool{}}
	var errs []error
	for _, arg := range args {
		errs = append(errs, d.add(arg))
	}
	d.sort()
	return d, errors.Join(errs...)
}

// sort updates keys.
func (d *dropped) sort() {
	d.keys = slices.Concat(slices.Collect(maps.Keys(d.paths)), slices.Collect(maps.Keys(d.texts)))
	slices.Sort(d.keys)
	d.unread = nil
	for _, key := range d.keys {
		d.unread = append(d.unread, drop.File{Key: key})
	}
}

// remove removes a file.
func (d *dropped) remove(key string) {
	delete(d.paths, key)
	delete(d.texts, key)
}

func (d *dropped) add(arg string) error {
	if _, err := os.Lstat(arg); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no such file; check its name and folder", arg)
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return err
	}
	var errs []error
	walk(arg, func(file string, info fs.FileInfo, err error) {
		if err == nil && info.IsDir() {
			return
		}
		target := ""
		if err == nil {
			target, err = filepath.EvalSymlinks(file)
		}
		if err == nil {
			err = readable(target)
		}
		below := ""
		if err == nil {
			below, err = filepath.Rel(arg, file)
		}
		if err != nil {
			if !strings.HasPrefix(filepath.Base(file), ".") { // such a file is not a drop
				d.problems = append(d.problems, err)
			}
			return
		}
		key := d.folder + filepath.ToSlash(filepath.Join(filepath.Base(abs), below))
		if other, ok := d.paths[key]; ok && other != target {
			errs = append(errs, fmt.Errorf("%s and %s would both be dropped as %s; rename one", other, file, key))
			return
		}
		d.paths[key], d.inFolder[key] = target, below != "."
	})
	return errors.Join(errs...)
}

// readable returns an error if a file cannot be read.
func readable(path string) error {
	file, _, err := openRegular(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// List implements drop.Files.
func (d *dropped) List(_ context.Context, prefix string, limit int) ([]drop.File, bool, error) {
	return d.list(prefix, "", "", limit)
}

// ListFolder implements drop.Files.
func (d *dropped) ListFolder(_ context.Context, prefix, after string, limit int) ([]drop.File, bool, error) {
	return d.list(prefix, after, "/", limit)
}

// list lists files as S3 does, with a delimiter or "".
func (d *dropped) list(prefix, after, delimiter string, limit int) (files []drop.File, more bool, err error) {
	files, more = check.ListFiles(d.unread, prefix, after, delimiter, limit)
	for i, f := range files {
		if strings.HasSuffix(f.Key, "/") {
			continue
		}
		if files[i], err = d.stat(f.Key); err != nil {
			return nil, false, err
		}
	}
	return files, more, nil
}

// Head implements drop.Files.
func (d *dropped) Head(_ context.Context, key string) (drop.File, error) {
	if _, ok := d.paths[key]; !ok && d.texts[key] == nil {
		return drop.File{}, bucket.ErrNotFound
	}
	return d.stat(key)
}

func (d *dropped) stat(key string) (drop.File, error) {
	if text := d.texts[key]; text != nil {
		sum := md5.Sum(text)
		return drop.File{Key: key, Size: int64(len(text)), ETag: hex.EncodeToString(sum[:])}, nil
	}
	info, err := os.Lstat(d.paths[key])
	if err != nil {
		return drop.File{}, err
	}
	sum := md5.Sum([]byte(fmt.Sprint(key, info.Size(), info.ModTime())))
	return drop.File{
		Key: key, Size: info.Size(), LastModified: info.ModTime().UTC().Truncate(time.Second),
		ETag: hex.EncodeToString(sum[:]), // it only needs to change with the content
	}, nil
}

// ReadRange implements drop.Files.
func (d *dropped) ReadRange(_ context.Context, f drop.File, off, n int64) ([]byte, error) {
	if text := d.texts[f.Key]; text != nil {
		return text[min(off, int64(len(text))):min(off+n, int64(len(text)))], nil
	}
	file, _, err := openRegular(d.paths[f.Key])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, off, min(n, max(f.Size-off, 0))))
}
