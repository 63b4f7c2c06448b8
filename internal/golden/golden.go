// Package golden compares what tests produce with files of the project: golden
// files, and tables and examples in documents. This command rewrites all these files:
//
//	UPDATE_GOLDEN=1 go test ./...
package golden

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Update reports whether tests rewrite the files that they compare with.
func Update() bool { return os.Getenv("UPDATE_GOLDEN") != "" }

// Compare fails a test if the text that the test produced is not what the file at path contains.
// If Update returns true, Compare writes the text to the file instead.
func Compare(t testing.TB, path, produced string) {
	t.Helper()
	old, err := os.ReadFile(path)
	switch {
	case err == nil && string(old) == produced:
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	case Update():
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(produced), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		diff := cmp.Diff(strings.Split(string(old), "\n"), strings.Split(produced, "\n"))
		t.Errorf("%s differs; UPDATE_GOLDEN=1 go test ./... rewrites it (-old +new):\n%s", path, diff)
	}
}

// CompareBetween is Compare for the part of a document between the two lines that consist of
// mark, such as <!-- parameters -->.
func CompareBetween(t testing.TB, path, mark, produced string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark += "\n"
	parts := strings.Split(string(text), mark)
	if len(parts) != 3 {
		t.Fatalf("%s has the line %s %d times, want 2", path, strings.TrimSpace(mark), len(parts)-1)
	}
	parts[1] = produced
	Compare(t, path, strings.Join(parts, mark))
}
