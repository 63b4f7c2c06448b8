package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// gatheredFiles holds files of this machine under the keys that they would get when they
// are dropped.
type gatheredFiles struct {
	folder   string // key of the folder that the arguments are dropped into
	byKey    map[string]*client.Upload
	paths    map[string]string // the real path of each file, by key
	problems []error           // one for each path that would be a drop but cannot be read
}

// newUpload returns the upload of a file of this machine. The path must have no links. Open returns
// *client.ChangedError if the file has changed since info was read: another program may still
// be writing the file.
func newUpload(key, path string, info fs.FileInfo) *client.Upload {
	return &client.Upload{
		File: drop.File{Key: key, Size: info.Size(), LastModified: info.ModTime().UTC().Truncate(time.Second), ETag: etagOf(info)},
		Open: func() (client.Content, error) {
			file, now, err := openRegular(path)
			if err == nil && etagOf(now) != etagOf(info) {
				err = errors.Join(&client.ChangedError{Key: key}, file.Close())
			}
			return file, err
		},
	}
}

// etagOf returns an ETag that changes with the file.
func etagOf(info fs.FileInfo) string { return fmt.Sprint(info.Size(), info.ModTime()) }

// gather returns the files that the arguments name, each under its key in the bucket's folder. An
// argument that is a folder of this machine stands for all files in it. The error names every
// argument that does not exist, and every two files that would get the same key. If ctx ends first,
// gather returns the error of ctx.
func gather(ctx context.Context, folder string, args []string) (*gatheredFiles, error) {
	d := &gatheredFiles{folder: folder, byKey: map[string]*client.Upload{}, paths: map[string]string{}}
	var errs []error
	for _, arg := range args {
		errs = append(errs, d.add(ctx, arg))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return d, errors.Join(errs...)
}

func (d *gatheredFiles) add(ctx context.Context, arg string) error {
	if _, err := os.Lstat(arg); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no such file; check the name and the folder", cmp.Or(arg, `""`))
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return err
	}
	var errs []error
	walk(ctx, arg, func(file string, info fs.FileInfo, err error) {
		if err == nil && info.IsDir() {
			return
		}
		below, relErr := filepath.Rel(arg, file)
		key := d.folder + filepath.ToSlash(filepath.Join(filepath.Base(abs), below))
		var target string
		if err == nil {
			var f *os.File
			if f, _, err = openFollowing(file); err == nil {
				target, err = f.Name(), f.Close() // the name is the real path
			}
		}
		if err = cmp.Or(relErr, err); err != nil {
			if drop.ParseKey(key).Role != drop.NoDrop {
				d.problems = append(d.problems, err)
			}
			return
		}
		if other := d.paths[key]; other != "" && other != target {
			errs = append(errs, fmt.Errorf("%s and %s would both be dropped as %s; rename one", other, file, key))
			return
		}
		d.byKey[key], d.paths[key] = newUpload(key, target, info), target
	})
	return errors.Join(errs...)
}

// nothingIn returns the error for arguments that have no file to drop.
func nothingIn(args []string) error {
	return fmt.Errorf("%s: there is no file to drop; files and folders whose names begin with a dot are left out", strings.Join(args, ", "))
}
