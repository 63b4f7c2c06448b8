package media_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/media"
)

// counted is a file that counts the calls of ReadRange and the bytes that they return.
type counted struct {
	media.Source
	calls, steps int // steps are calls of at most media.StepBytes
	bytes        int64
}

// count returns a file with the content of r. Reading a range that is not inside the
// file is an error.
func count(name string, size int64, r io.ReaderAt) *counted {
	c := &counted{}
	c.Source = media.Source{Name: name, Size: size, ReadRange: func(_ context.Context, off, n int64) ([]byte, error) {
		if off < 0 || n <= 0 || off+n > size {
			return nil, fmt.Errorf("%d bytes at %d are not inside a file of %d bytes", n, off, size)
		}
		if c.calls++; n <= media.StepBytes {
			c.steps++
		}
		c.bytes += n
		data := make([]byte, n)
		_, err := r.ReadAt(data, off)
		return data, err
	}}
	return c
}

// checkBudget fails the test if more was read than the budget allows.
func (c *counted) checkBudget(t *testing.T) {
	t.Helper()
	const calls, bytes = media.MaxCalls + media.MaxSteps, media.MaxBytes + media.MaxSteps*media.StepBytes
	if c.calls-c.steps > media.MaxCalls || c.calls > calls || c.bytes > bytes {
		t.Errorf("read %d bytes in %d calls, %d of them longer than a step; want at most %d bytes, %d calls and %d longer than a step", c.bytes, c.calls, c.calls-c.steps, bytes, calls, media.MaxCalls)
	}
}

// checkWarning fails the test unless there is exactly one warning for each line of want, in the same
// order, and each warning begins with its line.
func checkWarning(t *testing.T, warnings []string, want string) {
	t.Helper()
	beginnings := strings.FieldsFunc(want, func(r rune) bool { return r == '\n' })
	if !slices.EqualFunc(warnings, beginnings, strings.HasPrefix) {
		t.Errorf("got warnings %q, want warnings with these beginnings and no others: %q", warnings, beginnings)
	}
}

// inspectFile inspects a file on the disk under its own name.
func inspectFile(t *testing.T, path string) (media.Info, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return inspectData(t, filepath.Base(path), data)
}

// inspectData inspects a file with the given content.
func inspectData(t *testing.T, name string, data []byte) (media.Info, error) {
	t.Helper()
	src := count(name, int64(len(data)), bytes.NewReader(data))
	info, err := media.Inspect(t.Context(), src.Source)
	src.checkBudget(t)
	return info, err
}

// pieces is a file that keeps only some parts in memory. The rest reads as zeros.
type pieces map[int64][]byte

func (p pieces) ReadAt(data []byte, off int64) (int, error) {
	for at, piece := range p {
		from, to := max(at, off), min(at+int64(len(piece)), off+int64(len(data)))
		if from < to {
			copy(data[from-off:to-off], piece[from-at:])
		}
	}
	return len(data), nil
}

// sample returns the content of a file in testdata.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
