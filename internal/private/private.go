// Package private protects the files of the local stack from other users of the machine. Such
// a user might replace the stack's folder with another folder or with a symbolic link.
package private

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// ownerOnly is the mode of a folder that only its owner can use.
const ownerOnly = 0o700

// Dir makes a folder that only this user can enter, or changes the mode of an existing folder.
// A folder of another user is an error, and so is a symbolic link.
func Dir(path string) error {
	if err := os.MkdirAll(path, ownerOnly); err != nil {
		return fmt.Errorf("%w: choose another folder", err)
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
	if info.Mode().Perm()&^ownerOnly == 0 {
		return nil
	}
	return os.Chmod(path, ownerOnly)
}

// Replace replaces a file in one step, or creates it. If the process is killed, the path still holds
// the whole old file or the whole new one. Nothing is synced to the disk, so a crash of the machine
// can lose the change. After an error, such as a full disk, Replace leaves no unfinished file.
func Replace(path string, text []byte, mode fs.FileMode) error {
	partial := path + ".partial"
	err := os.WriteFile(partial, text, mode)
	if err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		_ = os.Remove(partial) // err says what failed
	}
	return err
}

// ReplaceJSON is Replace with the JSON text of a value. Only the file's owner can read the
// file.
func ReplaceJSON(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return Replace(path, text, 0o600)
}

// ReadJSON reads the JSON value in a file of the local stack's state. If the file exists, but
// cannot be read or does not fit the value, the error says what to do.
func ReadJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	switch {
	case err == nil && json.Unmarshal(text, value) != nil:
		return fmt.Errorf("%s is damaged: delete it, and start the local stack again", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the local stack's state cannot be read: %w. Give yourself permission to read the file, or name another folder with --dir", err)
	}
	return err
}

// ReadAllJSON reads the values in the files *.json of a folder, in the order of the file
// names. If the folder does not exist, ReadAllJSON makes it.
func ReadAllJSON[Value any](dir string) ([]Value, error) {
	if err := os.MkdirAll(dir, ownerOnly); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var values []Value
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if filepath.Ext(path) != ".json" {
			continue
		}
		var value Value
		if err := ReadJSON(path, &value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// CheckNoLinks returns an error if there is a symbolic link below dir. It skips the folders at
// the given paths. If Dir was called for dir before, no other user can make a link there after the
// check.
func CheckNoLinks(dir string, skip ...string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a running stack has deleted the file since the listing
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skip, path):
			return fs.SkipDir
		case entry.Type() == fs.ModeSymlink:
			return fmt.Errorf("%s is a symbolic link: remove it, because the files of a local stack must stay in its folder", path)
		}
		return nil
	})
}

// Owned reports whether a file or folder belongs to the user of this process.
func Owned(info fs.FileInfo) bool {
	about, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(about.Uid) == os.Getuid()
}
