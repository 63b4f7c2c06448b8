package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// once serves a fault only to the third request, which requests a range if the
// source has ranges.
func once(fault http.HandlerFunc) func(int, http.ResponseWriter, *http.Request) bool {
	return at(3, fault)
}

// at serves a fault to the nth request.
func at(nth int, fault http.HandlerFunc) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == nth {
			fault(w, r)
		}
		return n == nth
	}
}

// from serves a fault to the nth request and to all later ones.
func from(nth int, fault http.HandlerFunc) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n >= nth {
			fault(w, r)
		}
		return n >= nth
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Whatever the source does, the object is right or does not exist, and no upload is
// left open.
func TestSourceFaults(t *testing.T) {
	data, later := random(300_000, 1), random(310_000, 2)
	modified := func(n int) map[string]string {
		return map[string]string{"ETag": "", "Last-Modified": fmt.Sprintf("Mon, 02 Jan 2006 15:04:%02d GMT", n%60)}
	}
	stallAfter := func(limit time.Duration) func(*pace) { return func(p *pace) { p.stall = limit } }
	for name, tt := range map[string]struct {
		set    func(*origin)
		pace   func(*pace)
		limit  int64
		want   any    // an error of the expected type, or nil if the copy succeeds
		text   string // in the error
		later  bool   // the object must hold the variable later, not the variable data
		single bool   // the source gets only one request
	}{
		"a range is cut off":                        {set: func(o *origin) { o.fault = once(cutting(o, false)) }},
		"every response after the first is cut off": {set: func(o *origin) { o.fault = from(2, cutting(o, false)) }, want: &workflow.OutputUnavailable{}, text: "unexpected EOF"},
		"the connection is reset within a range":    {set: func(o *origin) { o.fault = once(cutting(o, true)) }},
		"the first response is cut off":             {set: func(o *origin) { o.fault = at(1, cutting(o, true)) }},
		"a range is shorter than announced": {set: func(o *origin) {
			o.fault = once(func(w http.ResponseWriter, r *http.Request) { rangeOf(w, r, data, -1) })
		}},
		"a range is longer than announced": {set: func(o *origin) {
			o.fault = once(func(w http.ResponseWriter, r *http.Request) { rangeOf(w, r, data, +1) })
		}},
		"every response after the first is longer than announced": {set: func(o *origin) {
			o.fault = from(2, func(w http.ResponseWriter, r *http.Request) { rangeOf(w, r, data, +1) })
		}, want: &workflow.OutputUnavailable{}, text: "longer"},
		"every response is longer than announced": {set: func(o *origin) {
			o.fault = from(1, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "bytes=0-" {
					r.Header.Set("Range", fmt.Sprintf("bytes=0-%d", len(data)-1))
				}
				rangeOf(w, r, data, +1)
			})
		}, pace: func(p *pace) { p.quick = p.response }, want: &workflow.OutputUnavailable{}, text: "longer"}, // the first response is read to its end
		"another range than requested": {set: func(o *origin) {
			o.fault = once(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("Range", "bytes=5-10")
				o.serve(w, r)
			})
		}},
		"a range of the requested length that begins one byte earlier": {set: func(o *origin) {
			o.fault = once(func(w http.ResponseWriter, r *http.Request) {
				var begin, end int
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &begin, &end); err == nil {
					r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", begin-1, end-1))
				}
				o.serve(w, r)
			})
		}},
		"a whole file is cut off": {set: func(o *origin) {
			o.whole = true
			o.fault = at(1, cutting(o, false))
		}},
		"a whole file is cut off each time": {set: func(o *origin) {
			o.whole = true
			o.fault = from(1, cutting(o, false))
		}, want: &workflow.OutputUnavailable{}, text: "unexpected EOF"},
		"a file of unknown length is cut off": {set: func(o *origin) {
			o.whole, o.chunked = true, true
			o.fault = from(1, cutting(o, false))
		}, want: &workflow.OutputUnavailable{}, text: "unexpected EOF"},
		"a response announces neither its length nor its end": {set: func(o *origin) {
			o.fault = from(1, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s", data)
					_ = conn.Close()
				}
			})
		}, want: &workflow.OutputUnavailable{}, text: "neither its length nor its end", single: true},
		"the file changes once": {set: func(o *origin) {
			o.fault = once(func(w http.ResponseWriter, r *http.Request) {
				o.change(later)
				o.serve(w, r)
			})
		}, later: true},
		"the file keeps changing, and each response with the whole file is cut off": {set: func(o *origin) {
			o.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n%3 == 0 {
					o.change(random(300_000, byte(n)))
				}
				return cutWhole(o, w, r)
			}
		}, want: &workflow.OutputChanged{}, text: "ETag"},
		"the file keeps getting longer, and each response with the whole file is cut off": {set: func(o *origin) {
			o.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n%3 == 0 {
					o.change(random(300_000+n, 1))
				}
				return cutWhole(o, w, r)
			}
		}, want: &workflow.OutputChanged{}, text: "length"},
		"the file keeps getting longer with the same time of change, and each response with the whole file is cut off": {set: func(o *origin) {
			o.header = modified(0)
			o.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n%3 == 0 {
					o.change(random(300_000+n, 1))
				}
				return cutWhole(o, w, r)
			}
		}, want: &workflow.OutputChanged{}, text: "length"},
		"only the time of change changes": {set: func(o *origin) {
			o.header = modified(0)
			o.fault = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
				if n%3 == 0 {
					o.mu.Lock()
					o.header = modified(n)
					o.mu.Unlock()
				}
				return false
			}
		}},
		"without an ETag, the file keeps changing but keeps its length, and each response with the whole file is cut off": {set: func(o *origin) {
			o.header = modified(0)
			o.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n%3 == 0 {
					o.change(random(300_000, byte(n)))
					o.mu.Lock()
					o.header = modified(n)
					o.mu.Unlock()
				}
				return cutWhole(o, w, r)
			}
		}, want: &workflow.OutputChanged{}, text: "time of change"},
		"each response has its own ETag": {set: func(o *origin) {
			o.fault = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
				o.mu.Lock()
				o.header = map[string]string{"ETag": fmt.Sprintf(`"node %d"`, n)}
				o.mu.Unlock()
				return false
			}
		}},
		"a range is ignored": {set: func(o *origin) { o.fault = once(wholeOf(data)) }},
		"every range that begins later than the first byte is ignored": {set: func(o *origin) {
			o.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				first := strings.HasPrefix(r.Header.Get("Range"), "bytes=0-")
				if !first {
					wholeOf(data)(w, r)
				}
				return !first
			}
		}},
		"a range gets 416":                      {set: func(o *origin) { o.fault = once(status(416)) }},
		"every response after the first is 416": {set: func(o *origin) { o.fault = from(2, status(416)) }, want: &workflow.OutputUnavailable{}, text: "416"},
		"416 for every range": {set: func(o *origin) {
			o.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(416)
				}
				return r.Header.Get("Range") != ""
			}
		}},
		"416 for everything but a range from the first byte": {set: func(o *origin) {
			o.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				first := strings.HasPrefix(r.Header.Get("Range"), "bytes=0-")
				if !first {
					w.WriteHeader(416)
				}
				return !first
			}
		}, want: &workflow.OutputChanged{}, text: "a range that it had"},
		"a burst of 500":                        {set: func(o *origin) { o.fault = burst(500) }},
		"a burst of 408":                        {set: func(o *origin) { o.fault = burst(408) }},
		"a burst of 429":                        {set: func(o *origin) { o.fault = burst(429) }},
		"every response is 503":                 {set: func(o *origin) { o.fault = from(1, status(503)) }, want: &workflow.OutputUnavailable{}, text: "503"},
		"every response after the first is 503": {set: func(o *origin) { o.fault = from(2, status(503)) }, want: &workflow.OutputUnavailable{}, text: "503"},
		"every response is 404":                 {set: func(o *origin) { o.fault = from(1, status(404)) }, want: &workflow.OutputUnavailable{}, text: "404", single: true},
		"every response after the first is 410": {set: func(o *origin) { o.fault = from(2, status(410)) }, want: &workflow.OutputUnavailable{}, text: "410"},
		"a range gets no response": {set: func(o *origin) {
			o.fault = once(func(_ http.ResponseWriter, r *http.Request) { hang(r) })
		}, pace: func(p *pace) { p.response = time.Second }},
		"no request gets a response": {set: func(o *origin) {
			o.fault = from(1, func(_ http.ResponseWriter, r *http.Request) { hang(r) })
		}, pace: func(p *pace) { p.response = 20 * time.Millisecond }, want: &workflow.OutputUnavailable{}, text: "no response in time"},
		"a range stalls": {set: func(o *origin) { o.fault = once(stalling(data)) }, pace: stallAfter(time.Second)},
		"every response after the first stalls": {set: func(o *origin) { o.fault = from(2, stalling(data)) },
			pace: stallAfter(50 * time.Millisecond), want: &workflow.OutputUnavailable{}, text: "stalled"},
		"a slow drip":      {set: func(o *origin) { o.fault = once(dripping(data)) }, pace: stallAfter(time.Second)},
		"only a slow drip": {set: func(o *origin) { o.whole, o.fault = true, from(1, dripping(data)) }, pace: stallAfter(50 * time.Millisecond), want: &workflow.OutputUnavailable{}, text: "stalled"},
		"an endless body": {set: func(o *origin) {
			o.fault = from(1, func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := w.Write(data); err != nil {
						return
					}
				}
			})
		}, limit: 1_000_000, want: &workflow.OutputTooLarge{}, text: "the limit is 1000000", single: true},
		"too large":                                {limit: 299_999, want: &workflow.OutputTooLarge{}, text: "300000", single: true},
		"too large, without ranges":                {set: func(o *origin) { o.whole = true }, limit: 299_999, want: &workflow.OutputTooLarge{}, text: "300000", single: true},
		"as large as the limit":                    {limit: 300_000},
		"as large as the limit, of unknown length": {set: func(o *origin) { o.whole, o.chunked = true, true }, limit: 300_000},
		"one byte above the limit, of unknown length": {set: func(o *origin) { o.whole, o.chunked = true, true },
			limit: 299_999, want: &workflow.OutputTooLarge{}, text: "299999", single: true},
		"empty":                    {set: func(o *origin) { o.data = nil }, want: &workflow.NoOutput{}, text: "empty", single: true},
		"empty, of unknown length": {set: func(o *origin) { o.data, o.whole, o.chunked = nil, true, true }, want: &workflow.NoOutput{}, text: "empty", single: true},
		"empty, with status 416": {set: func(o *origin) {
			o.fault = from(1, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", "bytes */0")
				w.WriteHeader(416)
			})
		}, want: &workflow.NoOutput{}, text: "empty", single: true},
		"a content encoding": {set: func(o *origin) { o.header = map[string]string{"Content-Encoding": "gzip"} },
			want: &workflow.OutputUnavailable{}, text: "compressed", single: true},
		"two content encodings": {set: func(o *origin) { o.header = map[string]string{"Content-Encoding": "aws-chunked, X-GZIP"} },
			want: &workflow.OutputUnavailable{}, text: "compressed", single: true},
		"a content encoding that changes nothing": {set: func(o *origin) { o.header = map[string]string{"Content-Encoding": "aws-chunked"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachBucket(t, func(t *testing.T, newBucket func(testing.TB) *fakeS3) {
				o, b := newOrigin(t, data), newBucket(t)
				if tt.set != nil {
					tt.set(o)
				}
				c := o.copier(t, b)
				if tt.pace != nil {
					tt.pace(&c.pace)
				}
				if tt.limit > 0 {
					c.MaxBytes = tt.limit
				}
				_, err := c.Copy(t.Context(), o.url(), toTestKey)
				want := data
				switch {
				case tt.want != nil:
					want = nil
				case tt.later:
					want = later
				}
				b.check(t, testKey, want)
				checkError(t, err, tt.want, tt.text)
				if n := o.count(); tt.single && n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
			})
		})
	}
}

// checkError fails the test unless err has the type of want and contains text and no
// secret. If want is nil, err must be nil.
func checkError(t *testing.T, err error, want any, text string) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	target := reflect.New(reflect.TypeOf(want))
	if !errors.As(err, target.Interface()) {
		t.Fatalf("error %v, want a %T", err, want)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %q in it", err, text)
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "uploadId") {
		t.Errorf("error %v, want no query of a URL in it", err)
	}
}

// burst fails the first two requests, and two later ones.
func burst(code int) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n <= 2 || n == 5 || n == 6 {
			w.WriteHeader(code)
			return true
		}
		return false
	}
}

// wholeOf responds with the whole file to a request for a range.
func wholeOf(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v0"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data) // the client may have gone
	}
}

// rangeOf announces the requested range. The number of bytes that it sends differs from the length of
// the range by extra, which may be negative. The last byte of the range and those after it are 0.
func rangeOf(w http.ResponseWriter, r *http.Request, data []byte, extra int) {
	var begin, end int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &begin, &end); err != nil {
		w.WriteHeader(400)
		return
	}
	end = min(end, len(data)-1)
	w.Header().Set("ETag", `"v0"`)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", begin, end, len(data)))
	w.WriteHeader(http.StatusPartialContent)
	w.(http.Flusher).Flush() // so that the header has no length
	_, _ = w.Write(append(data[begin:end:end], make([]byte, 1+extra)...))
}

// cutting sends half of the right response (see origin.cut).
func cutting(o *origin, reset bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { o.cut(w, r, reset) }
}

// stalling sends the beginning of a range, then nothing.
func stalling(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v0"`)
		w.Header().Set("Content-Range", "bytes "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")+fmt.Sprintf("/%d", len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[:8<<10])
		w.(http.Flusher).Flush()
		hang(r)
	}
}

// dripping sends one byte at a time, without end.
func dripping(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v0"`)
		if want := r.Header.Get("Range"); want != "" && !strings.HasPrefix(want, "bytes=0-") {
			w.Header().Set("Content-Range", "bytes "+strings.TrimPrefix(want, "bytes=")+fmt.Sprintf("/%d", len(data)))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		}
		for r.Context().Err() == nil {
			_, _ = w.Write(data[:1])
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// cutWhole cuts off the response if the request is for the whole file, and reports whether it did.
func cutWhole(o *origin, w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Range") != "" {
		return false
	}
	o.cut(w, r, false)
	return true
}

// Find finds only a copy of the same address, whatever its query. It makes no request to the
// source.
func TestFind(t *testing.T) {
	eachBucket(t, func(t *testing.T, newBucket func(testing.TB) *fakeS3) {
		for _, size := range []int{1_000, 300_000} {
			o, b := newOrigin(t, random(size, 1)), newBucket(t)
			c := o.copier(t, b)
			if _, found, err := c.Find(t.Context(), o.url(), testKey); err != nil || found {
				t.Fatalf("before the copy: found %t, error %v; want false and none", found, err)
			}
			made, err := c.Copy(t.Context(), o.url()+"?signature=1", toTestKey)
			if err != nil {
				t.Fatal(err)
			}
			requests := o.count()
			made.Existed = true
			got, found, err := c.Find(t.Context(), o.url()+"?signature=2", testKey)
			if err != nil || !found || got != made {
				t.Errorf("%d bytes: found %t, %+v, error %v; want %+v", size, found, got, err, made)
			}
			if _, found, err := c.Find(t.Context(), o.server.URL+"/another.mp4", testKey); err != nil || found {
				t.Errorf("another source: found %t, error %v; want false and none", found, err)
			}
			if n := o.count() - requests; n != 0 {
				t.Errorf("%d bytes: Find made %d requests to the source, want none", size, n)
			}
			b.fault = func(_ string, _ int, w http.ResponseWriter, _ *http.Request) bool {
				fail(w, http.StatusServiceUnavailable, "SlowDown")
				return true
			}
			_, _, err = c.Find(t.Context(), o.url(), testKey)
			checkError(t, err, &workflow.StorageUnavailable{}, "HeadObject")
		}
	})
}
