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
		if got, err := sample.Write(dir); err != nil || got != dir {
			t.Fatalf("Write() = %s, %v, want %s", got, err, dir)
		}
		for name, want := range map[string][]byte{"sample.mp4": clip, "sample.wav": voice} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has %d bytes, error %v; want the %d original bytes", name, len(got), err, len(want))
			}
		}
	}
}

// Somebody has put a symbolic link into the folder of the sample. Write refuses the folder, and
// writes nothing through the link.
func TestWriteFollowsNoLink(t *testing.T) {
	for _, name := range []string{"sample.mp4", "sample.mp4.partial"} {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "precious")
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		if _, err := sample.Write(dir); err == nil || !strings.Contains(err.Error(), name+" is a symbolic link") {
			t.Errorf("Write() = %v, want an error that names the symbolic link %s", err, name)
		}
		if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
			t.Errorf("the victim's file has %d bytes, error %v; want precious", len(got), err)
		}
	}
}
