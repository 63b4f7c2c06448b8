// Package private keeps what the local stack stores, and what it runs, out of
// the reach of other users of the machine, and keeps it from following symbolic
// links that were put there before it began.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// mode lets the owner do everything and others nothing.
const mode = 0o700

// Dir makes a folder that only this user may enter, or makes an existing folder
// of this user such a one. A symbolic link and a folder of another user are
// errors: what is stored below would go where somebody else has decided.
func Dir(path string) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return fmt.Errorf("%s is a symbolic link: remove it, or name the folder itself", path)
	}
	if !Owned(info) {
		return fmt.Errorf("%s belongs to another user of this machine: choose another folder", path)
	}
	if info.Mode().Perm()&^mode == 0 {
		return nil
	}
	return os.Chmod(path, mode)
}

// WithoutLinks returns an error if there is a symbolic link below a folder,
// other than below the folders in it that are named. Once Dir has returned, no
// other user can put one there.
func WithoutLinks(dir string, except ...string) error {
	skip := map[string]bool{}
	for _, name := range except {
		skip[filepath.Join(dir, name)] = true
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone since its folder was read: a stack is using it
		case err != nil:
			return err
		case skip[path] && entry.IsDir():
			return fs.SkipDir
		case entry.Type() == fs.ModeSymlink:
			return fmt.Errorf("%s is a symbolic link: remove it, since the files of a local stack must not lead out of its folder", path)
		}
		return nil
	})
}

// Owned reports whether a file or folder belongs to the user of this process.
func Owned(info fs.FileInfo) bool {
	about, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(about.Uid) == os.Getuid()
}
