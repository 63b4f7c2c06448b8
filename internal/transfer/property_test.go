package transfer

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Whichever requests fail, Copy returns. If it returns no error, the object is right; otherwise there
// is no object. No abort fails here, so no upload is left open.
func TestAnyFaults(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		data := random(rapid.IntRange(1, 200_000).Draw(rt, "size"), 1)
		source := newOrigin(t, data)
		b := rapid.SampledFrom([]func(testing.TB) *fakeS3{newBucket, newTLSBucket}).Draw(rt, "bucket")(t)
		b.server.Config.ErrorLog = quiet
		ofSource := rapid.MapOf(rapid.IntRange(1, 30), rapid.SampledFrom([]string{"cut", "reset", "503", "416", "range ignored", "404"})).Draw(rt, "faults of the source")
		ofStorage := rapid.MapOf(rapid.IntRange(1, 20), rapid.SampledFrom([]int{503, 409, 412, 403})).Draw(rt, "faults of S3")
		source.whole = rapid.Bool().Draw(rt, "no ranges")
		source.chunked = source.whole && rapid.Bool().Draw(rt, "no length")
		source.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
			switch ofSource[n] {
			case "":
				return false
			case "cut", "reset":
				source.cut(w, r, ofSource[n] == "reset")
			case "503":
				w.WriteHeader(503)
			case "416":
				w.WriteHeader(416)
			case "404":
				w.WriteHeader(404)
			case "range ignored":
				wholeOf(data)(w, r)
			}
			return true
		}
		calls := 0
		b.fault = func(call string, _ int, w http.ResponseWriter, _ *http.Request) bool {
			b.mu.Lock()
			calls++
			status := ofStorage[calls]
			b.mu.Unlock()
			if status != 0 && call != "AbortMultipartUpload" {
				fail(w, status, http.StatusText(status))
				return true
			}
			return false
		}
		c := source.copier(t, b)
		c.pace.window = rapid.IntRange(1, 8).Draw(rt, "window")
		c.pace.pieceSize = 1 << rapid.IntRange(12, 16).Draw(rt, "piece")
		c.pace.quick = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "quick")
		_, err := c.Copy(t.Context(), source.url(), toTestKey)
		want := data // a second variable, because the handler of a cancelled request may still read data
		var (
			unavailable *workflow.OutputUnavailable
			changed     *workflow.OutputChanged
			storage     *workflow.StorageUnavailable
		)
		if err != nil {
			if !errors.As(err, &unavailable) && !errors.As(err, &changed) && !errors.As(err, &storage) {
				rt.Errorf("error %v, want an OutputUnavailable, OutputChanged or StorageUnavailable", err)
			}
			want = nil
		}
		b.check(rt, testKey, want)
		source.server.Close()
		b.server.Close()
	})
}
