package world_test

import (
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

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
		dropPair(t, w)
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
