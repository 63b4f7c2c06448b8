package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/origins"
)

// pattern is an endless file that needs little memory: it repeats a block of bytes.
type pattern []byte

func (p pattern) ReadAt(b []byte, at int64) (int, error) {
	for n := 0; n < len(b); {
		n += copy(b[n:], p[(at+int64(n))%int64(len(p)):])
	}
	return len(b), nil
}

// No part size is a multiple of the block's size, so each part of a file differs from the next one.
var block = pattern(random(1<<20+13, 1))

// patterns serves a file of the given size under every path, with ranges or without.
func patterns(t testing.TB, size int64, ranges bool) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ranges {
			_, _ = io.Copy(w, io.NewSectionReader(block, 0, size))
			return
		}
		w.Header().Set("ETag", `"v0"`)
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(block, 0, size))
	}))
	t.Cleanup(server.Close)
	return server
}

// inUse returns how many bytes of memory the Go runtime holds, without those that it has
// returned to the operating system.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// A copy of a GiB by ranges, or of 128 MiB without ranges, needs at most 96 MiB of memory,
// including the servers of the test.
func TestMemory(t *testing.T) {
	const limit = 96 << 20
	for _, tt := range []struct {
		size   int64
		ranges bool
	}{{1 << 30, true}, {128 << 20, false}} {
		server, b := patterns(t, tt.size, tt.ranges), newBucket(t)
		b.discard = true
		var mu sync.Mutex
		var most uint64
		b.fault = func(string, int, http.ResponseWriter, *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, inUse())
			return false
		}
		list, err := origins.Parse([]string{server.URL})
		if err != nil {
			t.Fatal(err)
		}
		c := &Copier{S3: b.client(), Bucket: "bucket", Origins: list, MaxBytes: tt.size}
		debug.FreeOSMemory()
		start := inUse()
		// The runtime gets a lower limit than the test, because it may exceed its limit for a moment.
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(start) + limit*3/4))
		got, err := c.Copy(t.Context(), server.URL+"/talk.mp4", toTestKey)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		_, _ = io.Copy(sum, io.NewSectionReader(block, 0, tt.size)) // returns no error
		if want := hex.EncodeToString(sum.Sum(nil)); got.Bytes != tt.size || got.SHA256 != want {
			t.Errorf("%d bytes with the SHA-256 %s, want %d with %s", got.Bytes, got.SHA256, tt.size, want)
		}
		mu.Lock()
		n := most
		mu.Unlock()
		if n > start+limit {
			t.Errorf("ranges %t: memory grew by %d MiB, want at most %d MiB", tt.ranges, (n-start)>>20, limit>>20)
		}
	}
}

// BenchmarkCopy copies over loopback, from a source in this process into
// a bucket in this process that keeps nothing.
func BenchmarkCopy(b *testing.B) {
	for _, ranges := range []bool{true, false} {
		for _, size := range []int64{1 << 20, 64 << 20, 512 << 20} {
			b.Run(fmt.Sprintf("ranges=%t/MiB=%d", ranges, size>>20), func(b *testing.B) {
				server, dst := patterns(b, size, ranges), newBucket(b)
				dst.discard = true
				list, err := origins.Parse([]string{server.URL})
				if err != nil {
					b.Fatal(err)
				}
				c := &Copier{S3: dst.client(), Bucket: "bucket", Origins: list, MaxBytes: size}
				b.SetBytes(size)
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					_, err := c.Copy(b.Context(), server.URL+"/talk.mp4", func([]byte) (string, string) { return fmt.Sprint(n), "" })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
