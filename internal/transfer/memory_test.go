package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

// pattern is a file of any length without memory: a block of random bytes, again
// and again.
type pattern struct {
	block []byte
	size  int64
	at    int64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.size-p.at)], p.block[p.at%int64(len(p.block)):])
	p.at += int64(n)
	return n, nil
}

func (p *pattern) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.size
	}
	p.at = offset
	return offset, nil
}

// patterns serves files of one length, with ranges or without.
func patterns(t testing.TB, size int64, ranges bool) *httptest.Server {
	block := random(1<<20+13, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ranges {
			_, _ = io.Copy(w, &pattern{block: block, size: size})
			return
		}
		w.Header().Set("ETag", `"v0"`)
		http.ServeContent(w, r, "", time.Time{}, &pattern{block: block, size: size})
	}))
	t.Cleanup(server.Close)
	return server
}

// inUse returns the bytes that the process has taken for its heap and its stacks
// and not given back.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// A GiB is copied within 64 MiB, the servers of the test included, under a limit
// for the collector that is far below the file.
func TestMemory(t *testing.T) {
	const size, limit = 1 << 30, 64 << 20
	var want string
	for _, ranges := range []bool{true, false} {
		server, b := patterns(t, size, ranges), newBucket(t)
		b.discard = true
		var most atomic.Uint64
		b.fault = func(_ string, _ int, w http.ResponseWriter, _ *http.Request) bool {
			n := inUse()
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return false
		}
		origins, err := ParseOrigins([]string{server.URL})
		if err != nil {
			t.Fatal(err)
		}
		c := &Copier{S3: b.client(), Bucket: "bucket", Origins: origins, MaxBytes: size}
		runtime.GC()
		debug.FreeOSMemory()
		start := inUse()
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(start) + limit))
		got, err := c.Copy(t.Context(), server.URL+"/talk.mp4", named)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			sum := sha256.New()
			_, _ = io.Copy(sum, &pattern{block: random(1<<20+13, 1), size: size})
			want = hex.EncodeToString(sum.Sum(nil))
		}
		if got.Bytes != size || got.SHA256 != want {
			t.Errorf("%d bytes, SHA-256 %s", got.Bytes, got.SHA256)
		}
		if grown := most.Load() - start; grown > limit {
			t.Errorf("ranges %t: memory grew by %d MiB", ranges, grown>>20)
		}
		t.Logf("ranges %t: memory grew by %d MiB", ranges, (most.Load()-start)>>20)
	}
}
