package media

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// TestReaderStopsAtTheBudget reads a file until the budget is used. Backwards from the end, each
// call reads few bytes, so the calls are used up first.
func TestReaderStopsAtTheBudget(t *testing.T) {
	const size = 10 * MaxBytes
	for name, at := range map[string]func(i int64) int64{
		"backwards from the end": func(i int64) int64 { return size - 1 - i },
		"forwards, byte by byte": func(i int64) int64 { return i },
		"forwards, with gaps":    func(i int64) int64 { return i * 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			calls, bytes := 0, int64(0)
			r := newReader(t.Context(), Source{Size: size, ReadRange: func(_ context.Context, _, n int64) ([]byte, error) {
				calls++
				bytes += n
				return make([]byte, n), nil
			}})
			err := try(func() {
				for i := range int64(size) {
					r.bytes(at(i), 1)
				}
			})
			if !errors.Is(err, errBudget) {
				t.Errorf("got error %v, want %v", err, errBudget)
			}
			if calls > MaxCalls || bytes > MaxBytes || calls < MaxCalls && bytes < MaxBytes {
				t.Errorf("stopped after %d calls and %d bytes, want to reach %d calls or %d bytes and exceed neither", calls, bytes, MaxCalls, MaxBytes)
			}
		})
	}
}

// TestReaderKeepsWhatItHasRead reads the same parts more than once. It also checks that the reader
// does not write after the bytes that ReadRange returned.
func TestReaderKeepsWhatItHasRead(t *testing.T) {
	calls := 0
	var after []*byte // the byte after each range
	content := func(off int64) byte { return byte(off * 7) }
	r := newReader(t.Context(), Source{Size: 5 * MaxBytes, ReadRange: func(_ context.Context, off, n int64) ([]byte, error) {
		calls++
		data := make([]byte, 4*n)
		for i := range n {
			data[i] = content(off + i)
		}
		after = append(after, &data[n])
		return data[:n], nil
	}})
	for _, part := range []struct{ off, n int64 }{{0, 10}, {5, 3}, {0, 30000}, {1 << 20, 9}, {1<<20 + 4, 5}, {42000, 9000}, {0, 51000}, {1 << 20, 1}} {
		data := r.bytes(part.off, part.n)
		if int64(len(data)) != part.n {
			t.Fatalf("%d bytes at %d: got %d bytes, want %d", part.n, part.off, len(data), part.n)
		}
		for i, b := range data {
			if b != content(part.off+int64(i)) {
				t.Fatalf("%d bytes at %d: byte %d is %d, want %d", part.n, part.off, i, b, content(part.off+int64(i)))
			}
		}
	}
	const want = 3 // one for each of two places, and one for more bytes at the first place
	if calls != want {
		t.Errorf("made %d calls, want %d", calls, want)
	}
	for _, b := range after {
		if *b != 0 {
			t.Errorf("the byte after a range is now %d, want 0", *b)
		}
	}
	for _, outside := range []struct{ off, n int64 }{{-1, 5}, {5 * MaxBytes, 1}, {0, 5*MaxBytes + 1}, {1 << 62, 1 << 62}, {3, -1}} {
		if err := try(func() { r.bytes(outside.off, outside.n) }); !errors.Is(err, errEnd) {
			t.Errorf("%d bytes at %d: got error %v, want %v", outside.n, outside.off, err, errEnd)
		}
	}
}

// TestTryPassesOtherPanicsOn checks that a mistake in this package does not look like a
// damaged file.
func TestTryPassesOtherPanicsOn(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("try caught the panic of an index out of range, want it to pass the panic on")
		}
	}()
	var none []byte
	_ = try(func() { _ = none[len(t.Name())] })
}

// TestMeasureWithTheRestOfTheBudget measures a stream after long tags have used almost all of the
// budget: two calls are left, and each call's share of the bytes is less than a frame of 417 bytes.
func TestMeasureWithTheRestOfTheBudget(t *testing.T) {
	sound := bytes.Repeat(append([]byte("\xff\xfb\x90\x64"), make([]byte, 413)...), 1000)
	first, _ := mpegFraming.at(sound)
	for _, left := range []int64{1, 3, 100, 800} {
		r := newReader(t.Context(), Source{Size: int64(len(sound)), ReadRange: func(_ context.Context, off, n int64) ([]byte, error) {
			return sound[off:][:n], nil
		}})
		r.callsLeft, r.bytesLeft = 2, left
		s := &stream{framing: mpegFraming, r: r, first: first, limit: int64(len(sound))}
		if err := try(func() { s.measure() }); !errors.Is(err, errBudget) {
			t.Errorf("with %d bytes left: got error %v, want %v", left, err, errBudget)
		}
	}
}
