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

// After the client gave up a response, read returns the reason, even if the body ends without an
// error.
func TestEndAfterGivingUp(t *testing.T) {
	ctx, giveUp := context.WithCancelCause(t.Context())
	r := response{&http.Response{Body: endAfter(func() { giveUp(errStalled) })}, ctx, giveUp, time.Minute}
	if _, err := r.read(make([]byte, 10)); !errors.Is(err, errStalled) {
		t.Errorf("error %v, want %v", err, errStalled)
	}
}

// A response that sends less than stallBytes within the time for a stall is given up, even
// if each second brings some bytes.
func TestSlowResponse(t *testing.T) {
	for perSecond, want := range map[int]error{1: errStalled, stallBytes / 2: nil} {
		synctest.Test(t, func(t *testing.T) {
			ctx, giveUp := context.WithCancelCause(t.Context())
			defer giveUp(nil)
			begin := time.Now()
			r := response{&http.Response{Body: &slowBody{ctx, perSecond}}, ctx, giveUp, 5 * time.Second}
			if _, err := r.read(make([]byte, 10*stallBytes)); !errors.Is(err, want) {
				t.Errorf("%d bytes a second: error %v, want %v", perSecond, err, want)
			}
			if took := time.Since(begin); want != nil && took > 6*time.Second {
				t.Errorf("given up after %v, want 6 s at most", took)
			}
		})
	}
}

// slowBody is a body that sends some bytes each second until its context ends.
type slowBody struct {
	ctx       context.Context
	perSecond int
}

func (b *slowBody) Read(dst []byte) (int, error) {
	time.Sleep(time.Second)
	return min(b.perSecond, len(dst)), b.ctx.Err()
}

func (*slowBody) Close() error { return nil }

// The wait before another try is at least as long as the source asks for, and ends with
// the context.
func TestWaitToRetry(t *testing.T) {
	for _, tt := range []struct {
		ends, takes time.Duration // when the context ends, and how long the wait takes
		want        error
	}{
		{time.Minute, 7 * time.Second, nil},
		{2 * time.Second, 2 * time.Second, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tt.ends)
			defer cancel()
			begin := time.Now()
			err := defaultPace.waitToRetry(ctx, 1, &temporaryError{errNoResponse, 7 * time.Second})
			if took := time.Since(begin); !errors.Is(err, tt.want) || took != tt.takes {
				t.Errorf("error %v after %v, want %v after %v", err, took, tt.want, tt.takes)
			}
		})
	}
}

// A download that is cancelled before its last piece has arrived is not complete.
func TestDownloadIsCancelledBeforeItsLastPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := &download{ctx: ctx, queue: make(chan *piece, 1), sha: sha256.New(), crc: crc32.NewIEEE()}
		d.queue <- &piece{last: true, ready: make(chan struct{}, 1)}
		go func() {
			if n, err := d.Read(make([]byte, 1)); err == nil || err == io.EOF { //nolint:errorlint // callers of Read compare with ==
				t.Errorf("read %d bytes: error %v, want an error other than io.EOF", n, err)
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if _, _, complete := d.result(); complete {
			t.Error("the download counts as complete, want an incomplete one")
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
			time.Sleep(400 * time.Millisecond)
		}
		return true
	}
	c := o.copier(t, b)
	c.pace.pieceSize, c.pace.partSize, c.pace.stall = 256<<10, 1<<20, time.Second
	c.pace.window = 2 // so that most other ranges have been read when the slow one is requested
	if _, err := c.Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
	if asked != 2 {
		t.Errorf("the slow range was requested %d times, want 2", asked)
	}
}

func TestCancel(t *testing.T) { eachBucket(t, testCancel) }

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
				return false
			}
			b.fault = func(call string, _ int, _ http.ResponseWriter, r *http.Request) bool {
				if call == "PutObject" && nth > 1 && size < testPace.pieceSize { // a small file has no second request to the origin, so cancel during the upload
					cancel()
					hang(r)
				}
				return false
			}
			_, err := o.copier(t, b).Copy(ctx, o.url(), toTestKey)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%d bytes, request %d: error %v, want %v", size, nth, err, context.Canceled)
			}
			b.check(t, testKey, nil)
			cancel()
		}
	}
}
