package private_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lipdrop/lipdrop/internal/private"
)

func TestDir(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error // creates what is there before Dir runs
		says string
	}{
		{"nothing there", func(string) error { return nil }, ""},
		{"a folder that others may enter", func(path string) error { return os.Mkdir(path, 0o755) }, ""},
		{"a folder that others may write to", func(path string) error {
			return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o777))
		}, ""},
		{"a folder that only its owner can enter", func(path string) error { return os.Mkdir(path, 0o700) }, ""},
		{"a link to a folder", func(path string) error {
			return errors.Join(os.Mkdir(path+"-elsewhere", 0o755), os.Symlink(path+"-elsewhere", path))
		}, "is a symbolic link"},
		{"a file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, "not a directory: choose another folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			err := private.Dir(path)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("Dir returned %v, want an error with %q", err, tt.says)
				}
				return
			}
			info, statErr := os.Lstat(path)
			if err != nil || statErr != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("Dir returned %v, and left %v (%v), want a folder with the mode 0700", err, info, statErr)
			}
		})
	}
}

func TestDirOfAnotherUser(t *testing.T) {
	path := "/usr" // root's
	if os.Getuid() == 0 {
		path = t.TempDir()
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Skip("root may not change owners here:", err)
		}
	}
	if err := private.Dir(path); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("Dir returned %v, want an error that says that the folder belongs to another user", err)
	}
}

// Replace leaves no unfinished file on a full disk.
func TestReplaceOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.Symlink("/dev/full", path+".partial"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".partial"); err != nil {
		t.Skip(err) // macOS has no /dev/full
	}
	err := private.Replace(path, []byte("text"), 0o700)
	if _, statErr := os.Lstat(path + ".partial"); !errors.Is(err, syscall.ENOSPC) || !errors.Is(statErr, fs.ErrNotExist) {
		t.Errorf("Replace returned %v, want ENOSPC; the unfinished file: %v, want no such file", err, statErr)
	}
}

func TestCheckNoLinks(t *testing.T) {
	for _, tt := range []struct {
		name, link string
		ok         bool
	}{
		{"no link", "", true},
		{"a log file", "logs/submit.log", false},
		{"a folder", "queue", false},
		{"deep in the bucket", "s3/objects/lipdrop/inbox/talk.mp4", false},
		{"in the folder where a person drops files", "drop/ads/talk.mp4", true},
		{"below another folder with the name drop", "executions/drop/talk.mp4", false},
		{"in place of the folder drop", "drop", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tt.link)
			if tt.link != "" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink("/etc/passwd", path)); err != nil {
					t.Fatal(err)
				}
			}
			err := private.CheckNoLinks(dir, filepath.Join(dir, "drop"))
			if tt.ok != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), path+" is a symbolic link") {
				t.Errorf("CheckNoLinks returned %v; want an error that names %s: %t", err, path, !tt.ok)
			}
		})
	}
}

// The error about a state file that cannot be read names the file and says what to do.
func TestReadJSONThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	var value any
	if err := private.ReadJSON(path, &value); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "name another folder with --dir") {
		t.Errorf("ReadJSON returned %v, want an error that names %s and --dir", err, path)
	}
}
