package world_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
)

// Jobs near their end need more calls of poll at the same time than Lambda runs. The state
// machine repeats the calls that Lambda refuses, and no job is lost.
func TestCrowd(t *testing.T) {
	const jobs, limit = 300, 20
	w := newWorld(t)
	w.Batch = 10
	running, refused := map[int]bool{}, 0
	w.Before = func(c world.Call) error {
		switch {
		case c.Service != "lambda":
		case len(running) == limit:
			refused++
			return world.ErrLambda
		default:
			running[c.Invocation] = true
		}
		return nil
	}
	w.After = func(c world.Call) error {
		if c.Service == "lambda" {
			delete(running, c.Invocation)
		}
		return nil
	}
	clip, voice := media(t)
	for i := range jobs {
		w.Drop(fmt.Sprintf("inbox/%d.mp4", i), clip)
		w.Drop(fmt.Sprintf("inbox/%d.wav", i), voice)
		w.Pass(25 * time.Millisecond)
	}
	rest(t, w)
	for i := range jobs {
		wantStatus(t, w, fmt.Sprint(i), ledger.Succeeded, "")
	}
	wantCharges(t, w, jobs)
	if refused == 0 || len(w.Errors)+len(w.Dead) > 0 {
		t.Errorf("Lambda refused %d calls, want some; errors %v, %d dead letters, want none", refused, w.Errors, len(w.Dead))
	}
}
