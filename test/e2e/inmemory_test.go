package e2e

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// newWorld returns a World. Its clock is virtual and its random numbers have a fixed seed,
// so the functions write the same in each run.
func newWorld(t *testing.T) *world.World {
	t.Helper()
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(log) })
	return worldtest.New(t)
}

// runUntilIdle lets time pass until only the hourly sweep is left to do.
func runUntilIdle(t *testing.T, w *world.World) {
	t.Helper()
	if !w.Run(24 * time.Hour) {
		t.Fatal("after a day, more than the hourly sweep is left to do; want only the sweep")
	}
}

func mediaFile(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata/media", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// written returns the objects that the functions have written, by key.
func written(w *world.World) map[string]string {
	found := map[string]string{}
	for _, key := range w.Bucket.Keys() {
		if !strings.HasPrefix(key, "inbox/") {
			body, _ := w.Bucket.Object(key)
			found[key] = string(body)
		}
	}
	return found
}
