package handler_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// A job with more outputs than MaxOutputs fails before anything is copied. After the
// parameter is raised, a redrive archives the outputs.
func TestTooManyOutputs(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return runcomfytest.Script{Outputs: 101} }
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	st := worldtest.WantStatus(t, w, "ads/talk", ledger.Failed, problem.OutputTooMany)
	if !strings.Contains(st.Reason, "101 outputs") || !strings.Contains(st.Reason, "MaxOutputs allows 100") {
		t.Errorf("reason %q, want the 101 outputs and the limit of 100", st.Reason)
	}
	for _, key := range w.Bucket.Keys() {
		if strings.HasPrefix(key, "outbox/") {
			t.Errorf("%s was copied, want no copy", key)
		}
	}
	w.MaxOutputs = 101
	w.Restart()
	worldtest.Redrive(t, w)
	worldtest.Rest(t, w)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, ""); len(st.Outputs) != 101 {
		t.Errorf("%d outputs, want 101", len(st.Outputs))
	}
}

// Archive leaves an impossible cost or time out of the record. It archives the job, and the
// status has a warning.
func TestImpossibleCostsAndTimes(t *testing.T) {
	for member, values := range map[string][]string{
		"cost":        {`1e308`, `-5`, `1e400`, `"NaN"`, `10000`}, // see maxCostUSD of package runcomfy
		"created_at":  {`"9999-12-31T23:59:59-01:00"`, `"0000-01-01T00:00:00+01:00"`},
		"finished_at": {`"9999-12-31T23:59:59-23:59"`},
	} {
		for _, value := range values {
			t.Run(member+" "+value, func(t *testing.T) {
				w := worldtest.New(t)
				w.RunComfy.Make = outputtest.Right.Make
				edit := runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) { m[member] = json.RawMessage(value) }}
				worldtest.Faulty(w, runcomfytest.CallResult, edit, 48*time.Hour)
				worldtest.DropPair(w)
				worldtest.Rest(t, w)
				worldtest.WantArchived(t, w)
				if st := w.Status("ads/talk"); len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "not recorded") {
					t.Errorf("warnings %q, want one that says \"not recorded\"", st.Warnings)
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
		w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
			switch call, _ := runcomfytest.CallOf(r); call {
			case runcomfytest.CallResult:
				return &runcomfytest.Fault{Accept: true, Edit: func(m map[string]any) {
					if output, ended := m["output"].(map[string]any); ended {
						m["output"] = strings.TrimSuffix(output["video"].(string), ".mp4") + suffix
					}
				}}
			case runcomfytest.CallOutput:
				return &runcomfytest.Fault{Status: 200, Body: []byte("<!doctype html><script>alert(1)</script>")}
			}
			return nil
		}
		worldtest.DropPairs(w, "ads/result")
		worldtest.Rest(t, w)
		st := worldtest.WantStatus(t, w, "ads/result", ledger.Succeeded, "")
		if want := "outbox/ads/result/" + st.Take + "/result.bin"; len(st.Outputs) != 1 || st.Outputs[0] != want {
			t.Errorf("%q: outputs %v, want %s", suffix, st.Outputs, want)
		}
		var result ledger.Result
		body, _ := w.Bucket.Object(ledger.ResultKey("ads/result", st.Take))
		if err := json.Unmarshal(body, &result); err != nil || result.RequestID == "" {
			t.Errorf("%q: result.json is %.100q, error %v; want JSON with a request id", suffix, body, err)
		}
	}
}

// Archive tries verdictTries (3) times to read an output, and the SDK sends each request up to
// three times. So the verdict is ok after six failed requests. If all requests fail, the job
// succeeds too, and its verdict is unchecked.
func TestVerdictWhileS3Throttles(t *testing.T) {
	for throttled, want := range map[int]ledger.VerdictState{6: ledger.VerdictOK, 1000: ledger.VerdictUnchecked} {
		w := worldtest.New(t)
		w.RunComfy.Make = outputtest.Right.Make
		failures := 0
		w.Before = func(c world.Call) error {
			if c.Function == "archive" && c.Op == "GetObject" && c.Key[:7] == "outbox/" && failures < throttled {
				failures++
				return world.Throttled
			}
			return nil
		}
		worldtest.DropPair(w)
		worldtest.Rest(t, w)
		if failures < 6 {
			t.Fatalf("S3 throttled %d requests, want at least 6", failures)
		}
		worldtest.WantArchived(t, w)
		if st := w.Status("ads/talk"); len(st.Warnings) > 0 || st.Verdict != want {
			t.Errorf("verdict %q, want %q; warnings %q, want none", st.Verdict, want, st.Warnings)
		}
	}
}

// The verdict on each output is in result.json, and the doubts of the verdict are warnings
// of the status. A doubtful output is archived like any other.
func TestVerdictOfAnOutput(t *testing.T) {
	const ownInput outputtest.Form = "own-input" // the job's own video: RunComfy's output if Make is not set
	for form, want := range map[outputtest.Form]string{
		outputtest.Right:     "",
		ownInput:             "the output talk.mp4 is 0.5 s longer than expected: it is 3.0 s long, not 2.5 s; the output talk.mp4 has the same frames as the input talk.mp4: nothing was lip-synced",
		outputtest.Short:     "the output talk.mp4 is 1.0 s shorter than expected: it is 1.5 s long, not 2.5 s",
		outputtest.Long:      "the output talk.mp4 is 1.0 s longer than expected: it is 3.5 s long, not 2.5 s",
		outputtest.NoSound:   "the output talk.mp4 has no sound",
		outputtest.Silent:    "the output talk.mp4 is silent: its sound has on average 6.0 bytes per coded frame",
		outputtest.Smaller:   "the output talk.mp4 has 160 × 120 pixels; the input talk.mp4 has 320 × 240",
		outputtest.Broken:    "the output cannot be played: talk.mp4 is damaged: it ends in the middle of its media data, so the export or the upload broke off",
		outputtest.WrongType: "the output talk.png is not a video, but an image",
	} {
		t.Run(string(form), func(t *testing.T) {
			w := worldtest.New(t)
			if form != ownInput {
				w.RunComfy.Make = form.Make
			}
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			st := w.Status("ads/talk")
			state := ledger.VerdictDoubtful
			if want == "" {
				state = ledger.VerdictOK
			}
			if got := strings.Join(st.Warnings, "; "); got != want || st.Verdict != state || st.ExpectedSeconds < 2.5 {
				t.Errorf("verdict %q, expected length %g s, warnings\n%s\nwant verdict %q, an expected length of at least 2.5 s, warnings\n%s", st.Verdict, st.ExpectedSeconds, got, state, want)
			}
			var result ledger.Result
			body, _ := w.Bucket.Object(ledger.ResultKey("ads/talk", st.Take))
			if err := json.Unmarshal(body, &result); err != nil {
				t.Fatal(err)
			}
			var reasons []string
			for _, doubt := range result.Outputs[0].Verdict.Doubts {
				reasons = append(reasons, doubt.Reason)
			}
			if in := result.Inputs[0]; strings.Join(reasons, "; ") != want || result.ExpectedSeconds != st.ExpectedSeconds || in.Width != 320 || in.Codecs[0] != "h264" {
				t.Errorf("result.json is %s\nwant the doubts %q, an expected length of %g s, and an input with a width of 320 and the codec h264", body, want, st.ExpectedSeconds)
			}
		})
	}
}

// An output without sound is noticed even if the voice is a URL without a suffix.
func TestNoSoundWithAVoiceURL(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Make = outputtest.NoSound.Make
	clip, voice := sample.Files()
	w.Web["https://example.com/voice"] = voice
	w.Drop("inbox/ads/talk.job/talk.mp4", clip)
	w.Drop("inbox/ads/talk.job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "https://example.com/voice"}}`))
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if st := w.Status("ads/talk"); !slices.Contains(st.Warnings, "the output talk.mp4 has no sound") {
		t.Errorf("warnings %q, want one that says that the output has no sound", st.Warnings)
	}
}

// An output that is a copy of the input is noticed by its ETag and its size, even if lipdrop
// cannot compare the frames.
func TestCopyOfTheInput(t *testing.T) {
	_, voice := sample.Files()
	for _, name := range []string{"fragmented.mp4", "small.webm"} {
		t.Run(name, func(t *testing.T) {
			clip, err := os.ReadFile("../../../internal/media/testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			w := worldtest.New(t)
			w.Drop("inbox/ads/talk"+path.Ext(name), clip)
			w.Drop("inbox/ads/talk.wav", voice)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if warnings := strings.Join(w.Status("ads/talk").Warnings, "; "); !strings.Contains(warnings, "has the same frames as the input talk"+path.Ext(name)) {
				t.Errorf("warnings %q, want one that says that the frames are the same", warnings)
			}
		})
	}
}

// An output whose tracks lipdrop cannot read is archived, and its verdict is unchecked.
func TestVerdictOfAnUnreadOutput(t *testing.T) {
	w := worldtest.New(t)
	windowsMedia := append([]byte("\x30\x26\xb2\x75\x8e\x66\xcf\x11"), make([]byte, 1000)...)
	worldtest.Faulty(w, runcomfytest.CallOutput, runcomfytest.Fault{Status: 200, Body: windowsMedia}, time.Hour)
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, ""); st.Verdict != ledger.VerdictUnchecked {
		t.Errorf("verdict %q, want %q", st.Verdict, ledger.VerdictUnchecked)
	}
}

// If archive dies after the copy, and RunComfy then no longer serves the output, the next
// run uses the copy in the bucket. If archive dies after it has recorded the outputs, the
// next run does not need RunComfy at all: RunComfy may have forgotten the job.
func TestSourceGoneAfterTheCopy(t *testing.T) {
	for _, tt := range []struct {
		name  string
		last  func(c world.Call) bool // the call after which archive dies
		call  runcomfytest.Call       // fails from then on, with the fault of the given name
		fault string
	}{
		{"the output", func(c world.Call) bool { return strings.HasPrefix(c.Key, "outbox/") }, runcomfytest.CallOutput, "404"},
		{"the result", func(c world.Call) bool { return strings.HasSuffix(c.Key, "/result.json") }, runcomfytest.CallResult, "unknown request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.After = func(c world.Call) error {
				if c.Function == "archive" && c.Op == "PutObject" && tt.last(c) {
					w.After = nil
					worldtest.Faulty(w, tt.call, runcomfytest.FaultNamed(tt.call, tt.fault), 24*time.Hour)
					panic(world.Crash{})
				}
				return nil
			}
			worldtest.DropPair(w)
			worldtest.Rest(t, w)
			if w.After != nil {
				t.Fatal("archive did not make the write after which it should have died")
			}
			worldtest.WantArchived(t, w)
		})
	}
}

// If archive cannot copy an output, the same call copies the job's other outputs. Here RunComfy
// serves output 1 only after an hour, and the others only before that.
func TestOtherOutputsAreCopied(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return runcomfytest.Script{Outputs: 3} }
	gone := runcomfytest.FaultNamed(runcomfytest.CallOutput, "404")
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		early, first := w.Now().Before(world.Begin.Add(time.Hour)), path.Base(r.URL.Path) == "1.mp4"
		if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput && early == first {
			return &gone
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Succeeded, ""); len(st.Outputs) != 3 {
		t.Errorf("outputs %q, want 3", st.Outputs)
	}
}

// S3 may refuse to write result.json during another write of the same key. If the other write
// then fails, archive writes result.json again before it records the success.
func TestResultIsWrittenAfterAConflict(t *testing.T) {
	w := worldtest.New(t)
	refused := false
	w.Before = func(c world.Call) error {
		if c.Op == "PutObject" && strings.HasSuffix(c.Key, "/result.json") && !refused {
			refused = true
			return world.Conflicting
		}
		return nil
	}
	worldtest.DropPair(w)
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
	if _, ok := w.Bucket.Object(ledger.ResultKey("ads/talk", w.Status("ads/talk").Take)); !refused || !ok {
		t.Errorf("a write of result.json was refused: %t; result.json exists: %t; want both", refused, ok)
	}
}
