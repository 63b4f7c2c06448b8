package sample_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/sample"
)

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".lipdrop", "sample")
	clip, voice := sample.Files()
	for range 2 { // a second Write replaces the files of the first
		if err := sample.Write(dir); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{"sample.mp4": clip, "sample.wav": voice} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has %d bytes, error %v; want the %d original bytes", name, len(got), err, len(want))
			}
		}
	}
}

// Somebody has put a symbolic link into the state folder, or in its place. Write refuses the
// folder, and writes nothing through the link.
func TestWriteFollowsNoLink(t *testing.T) {
	for link, target := range map[string]string{
		".lipdrop/sample/sample.mp4": "elsewhere/a.mp4", ".lipdrop/sample/sample.mp4.partial": "elsewhere/a.mp4",
		".lipdrop/sample": "elsewhere", ".lipdrop": "elsewhere",
	} {
		home := t.TempDir()
		path, elsewhere := filepath.Join(home, link), filepath.Join(home, "elsewhere")
		if err := errors.Join(os.Mkdir(elsewhere, 0o755), os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(filepath.Join(home, target), path)); err != nil {
			t.Fatal(err)
		}
		if err := sample.Write(filepath.Join(home, ".lipdrop", "sample")); err == nil || !strings.Contains(err.Error(), link+" is a symbolic link") {
			t.Errorf("Write() = %v, want an error that names the symbolic link %s", err, link)
		}
		if got, err := os.ReadDir(elsewhere); err != nil || len(got) > 0 {
			t.Errorf("through the link %s, Write wrote %v (%v), want nothing", link, got, err)
		}
	}
}
