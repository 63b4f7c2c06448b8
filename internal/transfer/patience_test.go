package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// If the client gave up a response, its end is not the end of the file, even if the
// server ended it without an error.
func TestEndAfterGivingUp(t *testing.T) {
	ctx, giveUp := context.WithCancelCause(t.Context())
	r := response{&http.Response{Body: endAfter(func() { giveUp(errStalled) })}, ctx, giveUp, time.Minute}
	if _, err := r.read(make([]byte, 10)); !errors.Is(err, errStalled) {
		t.Errorf("error %v, want %v", err, errStalled)
	}
}

// A download that ends while its last piece is on the way is not complete.
func TestDownloadEndsBeforeItsLastPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := &download{ctx: ctx, queue: make(chan *piece, 1), sha: sha256.New(), crc: crc32.NewIEEE()}
		d.queue <- &piece{last: true, ready: make(chan struct{}, 1)}
		go func() {
			if n, err := d.Read(make([]byte, 1)); err == nil || err == io.EOF { //nolint:errorlint // as readers compare it
				t.Errorf("read %d bytes: %v", n, err)
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if _, _, complete := d.result(); complete {
			t.Error("the download counts as complete")
		}
	})
}

// endAfter is a body that calls a function when it is read, and then ends.
type endAfter func()

func (f endAfter) Read([]byte) (int, error) { f(); return 0, io.EOF }
func (endAfter) Close() error               { return nil }

// A range that is much slower than the others is requested again, even if it never
// stalls.
func TestStragglerIsFetchedAgain(t *testing.T) {
	const slow = 15
	data := random(20*256<<10, 1)
	o, b := newOrigin(t, data), newBucket(t)
	begin := fmt.Sprintf("bytes=%d-", slow*256<<10)
	asked := 0
	o.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Header.Get("Range"), begin) {
			return false
		}
		if asked++; asked > 1 {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", slow*256<<10, (slow+1)*256<<10-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		for sent := 0; r.Context().Err() == nil && sent < 256<<10; sent += stallBytes {
			_, _ = w.Write(data[slow*256<<10+sent:][:min(stallBytes, 256<<10-sent)])
			w.(http.Flusher).Flush()
			time.Sleep(200 * time.Millisecond)
		}
		return true
	}
	c := o.copier(t, b)
	c.pace.pieceSize, c.pace.partSize, c.pace.stall = 256<<10, 1<<20, time.Second
	c.pace.window = 2 // so that the others have been read by then
	if _, err := c.Copy(t.Context(), o.url(), named); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
	if asked != 2 {
		t.Errorf("the slow range was requested %d times, want 2", asked)
	}
}

func TestCancel(t *testing.T) { eachWay(t, testCancel) }

func testCancel(t *testing.T, newBucket func(testing.TB) *fakeS3) {
	for _, size := range []int64{10_000, 300_000} {
		for nth := 1; nth <= 4; nth++ {
			o, b := newOrigin(t, random(int(size), 1)), newBucket(t)
			ctx, cancel := context.WithCancel(t.Context())
			o.fault = func(n int, _ http.ResponseWriter, r *http.Request) bool {
				if n == nth {
					cancel()
					hang(r)
				}
				return n == nth
			}
			b.fault = func(call string, _ int, _ http.ResponseWriter, r *http.Request) bool {
				last := call == "PutObject" && nth > 1 && size < testPace.pieceSize // a small file needs no other request
				if last {
					cancel()
					hang(r)
				}
				return last
			}
			_, err := o.copier(t, b).Copy(ctx, o.url(), named)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%d bytes, request %d: error %v, want %v", size, nth, err, context.Canceled)
			}
			b.check(t, testKey, nil)
			cancel()
		}
	}
}
