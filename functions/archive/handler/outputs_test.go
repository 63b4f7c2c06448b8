package handler_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// outputs returns a script for jobs that end with n outputs.
func outputs(n int) func(string, map[string]any) runcomfytest.Script {
	return func(string, map[string]any) runcomfytest.Script {
		return runcomfytest.Script{Run: time.Minute, Output: func(urls []string) any {
			var all []string
			for i := range n {
				all = append(all, fmt.Sprintf("%s?%d", urls[0], i))
			}
			return map[string]any{"videos": all}
		}}
	}
}

// A job with more outputs than MaxOutputs fails before anything is copied. After the
// parameter is raised, a redrive archives it.
func TestTooManyOutputs(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = outputs(101)
	worldtest.DropPair(t, w)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.OutputTooMany)
	if !strings.Contains(st.Reason, "101 outputs") || !strings.Contains(st.Reason, "MaxOutputs allows 100") {
		t.Errorf("reason %q", st.Reason)
	}
	for _, key := range w.Bucket.Keys() {
		if strings.HasPrefix(key, "outbox/") {
			t.Errorf("%s was copied", key)
		}
	}
	w.MaxOutputs = 101
	w.Restart()
	if err := w.Redrive("ads/talk", st.Take); err != nil {
		t.Fatal(err)
	}
	worldtest.Rest(t, w)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, ""); len(st.Outputs) != 101 {
		t.Errorf("%d outputs", len(st.Outputs))
	}
}

// If RunComfy returns a cost or a time that no record can hold, it is not recorded.
// The status has a warning, and the job is archived.
func TestImpossibleCostsAndTimes(t *testing.T) {
	for member, values := range map[string][]string{
		"cost":        {`1e308`, `-5`, `1e400`, `"NaN"`, `10000`},
		"created_at":  {`"9999-12-31T23:59:59-01:00"`, `"0000-01-01T00:00:00+01:00"`},
		"finished_at": {`"9999-12-31T23:59:59-23:59"`},
	} {
		for _, value := range values {
			t.Run(member+" "+value, func(t *testing.T) {
				w := worldtest.New(t)
				edit := runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m[member] = json.RawMessage(value) }}
				worldtest.Faulty(w, runcomfytest.CallResult, edit, 48*time.Hour)
				worldtest.DropPair(t, w)
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
				if st := w.Status("ads/talk"); len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "not recorded") {
					t.Errorf("warnings %q", st.Warnings)
				}
			})
		}
	}
}

// An output that is neither a video nor an image gets the suffix .bin, whatever its
// URL says. No output is stored as result.json.
func TestUnknownOutputIsBin(t *testing.T) {
	for _, suffix := range []string{".json", ".exe", ".html", ".svg", ""} {
		w := worldtest.New(t)
		w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
			return runcomfytest.Script{Run: time.Minute, Output: func(urls []string) any {
				return strings.TrimSuffix(urls[0], ".mp4") + suffix
			}}
		}
		w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
			if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput {
				return &runcomfytest.Fault{Status: 200, Body: []byte("<!doctype html><script>alert(1)</script>")}
			}
			return nil
		}
		clip, voice := worldtest.Media(t)
		w.Drop("inbox/ads/result.mp4", clip)
		w.Drop("inbox/ads/result.wav", voice)
		worldtest.Rest(t, w)
		st := worldtest.WantStatus(t, w, "ads/result", ledger.Succeeded, "")
		if want := "outbox/ads/result/" + st.Take + "/result.bin"; len(st.Outputs) != 1 || st.Outputs[0] != want {
			t.Errorf("%q: outputs %v, want %s", suffix, st.Outputs, want)
		}
		var result struct{ RequestID string }
		body, _ := w.Bucket.Object("outbox/ads/result/" + st.Take + "/result.json")
		if err := json.Unmarshal(body, &result); err != nil || result.RequestID == "" {
			t.Errorf("%q: result.json is %.100q (%v)", suffix, body, err)
		}
	}
}

// Archive reads the output for its verdict even if S3 throttles the first three
// reads. The status then has no warning.
func TestVerdictWhileS3Throttles(t *testing.T) {
	w := worldtest.New(t)
	failures := 0
	w.Before = func(c world.Call) error {
		if c.Function == "archive" && c.Op == "GetObject" && c.Key[:7] == "outbox/" && failures < 3 {
			failures++
			return world.Throttled
		}
		return nil
	}
	worldtest.DropPair(t, w)
	worldtest.Rest(t, w)
	if failures != 3 {
		t.Fatalf("%d failures", failures)
	}
	worldtest.WantArchived(t, w)
	if st := w.Status("ads/talk"); len(st.Warnings) > 0 {
		t.Errorf("warnings %q", st.Warnings)
	}
}

// Archive dies after the copy, and then RunComfy no longer serves the output. The
// copy in the bucket is used.
func TestSourceGoneAfterTheCopy(t *testing.T) {
	w := worldtest.New(t)
	copied := false
	w.After = func(c world.Call) error {
		if c.Function == "archive" && c.Op == "PutObject" && c.Key[:7] == "outbox/" && !copied {
			copied = true
			panic(world.Crash{})
		}
		return nil
	}
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput && copied {
			gone := worldtest.Fault(t, runcomfytest.CallOutput, "404")
			return &gone
		}
		return nil
	}
	worldtest.DropPair(t, w)
	worldtest.Rest(t, w)
	if !copied {
		t.Fatal("nothing was copied")
	}
	worldtest.WantArchived(t, w)
}
