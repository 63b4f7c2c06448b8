package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// walk calls the function visit with a path and, if the path is a folder, with each path below it.
// It follows symbolic links; info describes a link's target. For a path that cannot be read, and for
// a link to a folder that contains it, walk calls visit with an error. When ctx ends, walk returns
// without visiting the other paths.
func walk(ctx context.Context, path string, visit func(path string, info fs.FileInfo, err error)) {
	walkBelow(ctx, path, nil, visit)
}

// walkBelow does the same as walk. ancestors has the real paths of the folders that contain path.
// walkBelow does not follow a link to one of these folders, or to a folder that contains one,
// because that would never end.
func walkBelow(ctx context.Context, path string, ancestors []string, visit func(path string, info fs.FileInfo, err error)) {
	if ctx.Err() != nil {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		visit(path, nil, inPlainWords(path, err))
		return
	}
	if !info.IsDir() {
		visit(path, info, nil)
		return
	}
	target, err := filepath.Abs(path)
	if err == nil {
		target, err = filepath.EvalSymlinks(target)
	}
	if err != nil {
		visit(path, nil, inPlainWords(path, err))
		return
	}
	inTarget := func(folder string) bool {
		below, err := filepath.Rel(target, folder)
		return err == nil && filepath.IsLocal(below)
	}
	if slices.ContainsFunc(ancestors, inTarget) {
		visit(path, nil, fmt.Errorf("%s is a link to a folder that contains it", path))
		return
	}
	visit(path, info, nil)
	entries, err := os.ReadDir(path)
	if err != nil {
		visit(path, nil, inPlainWords(path, err))
	}
	for _, entry := range entries {
		walkBelow(ctx, filepath.Join(path, entry.Name()), append(slices.Clip(ancestors), target), visit)
	}
}

// inPlainWords returns an error that says why a path cannot be read. If nothing is at the
// path, not even a link, the error wraps fs.ErrNotExist.
func inPlainWords(path string, err error) error {
	link, linkErr := os.Lstat(path)
	isLink := linkErr == nil && link.Mode()&fs.ModeSymlink != 0
	switch {
	case isLink && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is a link that leads nowhere", path)
	case errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%s is a link that leads to itself", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such file (%w)", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read: you have no permission", path)
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// openRegular opens a regular file at a path without links. If the file has become a link or a named
// pipe, openRegular returns an error: it neither follows the link nor waits for a writer.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("%s has become a symbolic link", path)
	}
	if err != nil {
		return nil, nil, inPlainWords(path, err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a folder", path)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is neither a file nor a folder", path)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// openFollowing does the same as openRegular for a path that may be a link. The method Name
// of the returned file returns the path without links.
func openFollowing(path string) (*os.File, fs.FileInfo, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		if _, statErr := os.Stat(path); statErr != nil {
			err = statErr // for a link that leads to itself, only os.Stat returns ELOOP
		}
		return nil, nil, inPlainWords(path, err)
	}
	return openRegular(target)
}
