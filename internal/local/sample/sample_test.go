package sample_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// Somebody has put a symbolic link at the path of the sample. Write replaces the link, and a
// second Write replaces the files of the first.
func TestWriteFollowsNoLink(t *testing.T) {
	home := t.TempDir()
	dir, victim := filepath.Join(home, ".lipdrop", "sample"), filepath.Join(home, "precious")
	if err := errors.Join(
		os.WriteFile(victim, []byte("precious"), 0o600),
		os.MkdirAll(dir, 0o755),
		os.Symlink(victim, filepath.Join(dir, "sample.mp4")),
	); err != nil {
		t.Fatal(err)
	}
	clip, voice := sample.Files()
	for range 2 {
		if got, err := sample.Write(dir); err != nil || got != dir {
			t.Fatalf("Write() = %s, %v, want %s", got, err, dir)
		}
		for path, want := range map[string][]byte{
			victim: []byte("precious"), filepath.Join(dir, "sample.mp4"): clip, filepath.Join(dir, "sample.wav"): voice,
		} {
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has %d bytes, error %v; want the %d original bytes", path, len(got), err, len(want))
			}
		}
	}
}
