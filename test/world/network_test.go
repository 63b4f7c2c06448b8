package world

import (
	"net/http"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/s3test"
)

// Like transfer.Copier.Find, copier.Find returns false if the object does not exist, and an error if
// S3 refuses the call.
func TestFindWithoutAnObject(t *testing.T) {
	w, err := New(func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	ctx := invocation{Context: t.Context(), deadline: Begin.Add(time.Hour)}
	find := func() (bool, error) {
		_, found, err := copier{w}.Find(ctx, "https://files.example.com/a.mp4", "outbox/a/t/a.mp4")
		return found, err
	}
	if found, err := find(); found || err != nil {
		t.Errorf("Find returned %v and the error %v, want false and no error", found, err)
	}
	w.Before = func(Call) error { return s3test.Error(http.StatusForbidden, "Forbidden") }
	if _, err := find(); err == nil {
		t.Error("Find returned no error although S3 refused the call")
	}
}
