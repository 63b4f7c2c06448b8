package world_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

var (
	newWorld    = worldtest.New
	dropPair    = worldtest.DropPair
	faulty      = worldtest.Faulty
	rest        = worldtest.Rest
	wantStatus  = worldtest.WantStatus
	wantCharges = worldtest.WantCharges
)

// queuePair drops the pair ads/talk, and waits until its job is in RunComfy's queue. The job stays
// there for an hour.
func queuePair(w *world.World) {
	w.RunComfy.Queue = time.Hour
	dropPair(w)
	w.Pass(2 * time.Minute)
}

// holdPair drops the pair ads/talk, and makes RunComfy refuse it with HTTP 402 for the given time.
func holdPair(w *world.World, lasts time.Duration) {
	faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "402"), lasts)
	dropPair(w)
}

// Near the end of a job, one call of the poll function takes up to 20 s. Here, so many jobs are
// near their end at the same time that Lambda refuses calls. The state machine repeats these
// calls, and no job is lost.
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
	for i := range jobs {
		worldtest.DropPairs(w, fmt.Sprint(i))
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

// Whatever RunComfy responds, no function panics, and the status and the records can
// still be read.
func FuzzResponses(f *testing.F) {
	calls := []runcomfytest.Call{runcomfytest.CallSubmit, runcomfytest.CallStatus, runcomfytest.CallResult, runcomfytest.CallCancel}
	for i := range calls {
		for _, body := range []string{
			``, `null`, `{}`, `{"request_id":"r"}`, `{"status":"completed"}`, `{"outcome":"cancelled"}`, `{"error_code":404001}`,
			`{"status":"succeeded","output":"https://files.runcomfy.net/%00","created_at":"9999-12-31T23:59:59-01:00","cost":1e308}`,
			`{"status":"succeeded","output":{"videos":["https://files.runcomfy.net/a.json","://","https://[::1"]},"finished_at":"0000-01-01T00:00:00+23:59"}`,
			`{"status":"failed","error":[[[{"a":1e999}]]],"cost":-1}`, `{"status":"in_queue","queue_position":1e300}`, "\xff<title>x-amz-",
		} {
			f.Add(uint8(i), uint16(200), body)
		}
		f.Add(uint8(i), uint16(503), `{"error":"x"}`)
	}
	f.Fuzz(func(t *testing.T, call uint8, status uint16, body string) {
		w := newWorld(t)
		w.RunComfy.Queue = 10 * time.Minute
		made := calls[int(call)%len(calls)]
		faulty(w, made, runcomfytest.Fault{Status: 100 + (int(status)+400)%500, Body: []byte(body)}, 3*time.Hour)
		dropPair(w)
		w.Run(time.Minute)
		if made == runcomfytest.CallCancel {
			w.Delete("inbox/ads/talk.wav")
		}
		w.Pass(2 * time.Hour)
		w.Takes("ads/talk") // panics if a record cannot be read
		if st := w.Status("ads/talk"); st.State == "" {
			t.Error("ads/talk has no status, want one")
		}
	})
}
