// Package e2e tests the whole local stack from outside: the programs of the functions, a
// real S3 server, and the fake RunComfy over TLS. Some tests use a world.World instead, which runs
// the functions in memory.
package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/localtest"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// patience is how long a test waits for something that takes seconds.
const patience = localtest.Patience

// stack is a running local stack, with helpers for a test.
type stack struct {
	*localtest.Stack
	t *testing.T
}

func start(t *testing.T, o local.Options) *stack {
	t.Helper()
	return &stack{localtest.Start(t, o), t}
}

func ended(st ledger.Status) bool { return st.State.Ended() || st.State == ledger.Rejected }

// Jobs succeed, also those with unusual names. The S3 server of the stack stores objects as files, so
// names that are not clean paths are left out.
func TestPairsBecomeOutputs(t *testing.T) {
	s := start(t, local.Options{RunTime: time.Second, Visibility: time.Second})
	clip, voice := sample.Files()
	unclean := func(name string) bool { return path.Clean(name) != name }
	names := append([]string{"ads/talk"}, slices.DeleteFunc(keyNames(), unclean)...)
	for i, name := range names {
		if i%2 == 0 {
			s.DropPair(name)
		} else {
			s.Drop("inbox/"+name+".wav", voice)
			s.Drop("inbox/"+name+".MP4", clip)
		}
	}
	for _, name := range names {
		st := s.Await(name, ended)
		if st.State != ledger.Succeeded {
			t.Fatalf("%s is %s (%s), want succeeded", name, st.State, st.Reason)
		}
		s.checkOutputs(name, st)
	}
	// Events that are repeated, late or out of order change nothing.
	before := s.List("")
	charges := s.Fake().Charges()
	for range 10 {
		for _, suffix := range []string{".wav", ".mp4"} {
			event := events.Object(time.Now(), events.ObjectCreated, local.Bucket, "inbox/ads/talk"+suffix, "PutObject")
			if err := s.Forward(event); err != nil {
				t.Fatal(err)
			}
		}
	}
	// If this later file has an answer file and the queue is empty, submit has handled the events.
	s.Drop("inbox/last.txt", []byte("no media"))
	localtest.Until(t, "the answer file of last.txt and an empty queue", func() bool {
		_, ok := s.Object("answers/last.txt.json")
		return ok && s.Pending() == 0
	})
	if got := s.Fake().Charges(); got != charges || charges != len(names) {
		t.Errorf("%d charges before the events and %d after them, want %d", charges, got, len(names))
	}
	if diff := cmp.Diff(append(before, "answers/last.txt.json", "inbox/last.txt"), s.List(""), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("keys of the bucket after the events (-want +got):\n%s", diff)
	}
}

// checkOutputs checks the outputs, the execution, the status and the result.json of a job that
// succeeded.
func (s *stack) checkOutputs(name string, st ledger.Status) {
	t := s.t
	t.Helper()
	clip, voice := sample.Files()
	prefix := "outbox/" + name + "/" + st.Take + "/"
	output := prefix + path.Base(name) + ".mp4"
	if diff := cmp.Diff([]string{output, prefix + "result.json"}, s.List(prefix), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("outputs of %s (-want +got):\n%s", name, diff)
	}
	got, _ := s.Object(output)
	if !bytes.Equal(got, clip) {
		t.Errorf("the output of %s is not the input video", name)
	}
	execution := s.States().Path(st.Links.Execution[strings.LastIndexByte(st.Links.Execution, ':')+1:])
	if len(execution) < 4 || execution[len(execution)-1] != "Archive" || strings.Join(execution[:3], " ") != "Wait Poll Ended?" {
		t.Errorf("the execution of %s went through %v, want Wait, Poll, Ended? …, Archive", name, execution)
	}
	const seconds, estimate = 2.531, 0.20248 // at the fake's price
	wantStatus := ledger.Status{
		Name: name, State: ledger.Succeeded, Take: st.Take, RequestID: st.RequestID, Model: "sync/sync/lipsync/v2/pro", UpdatedAt: st.UpdatedAt,
		Outputs: []string{output}, Warnings: st.Warnings, ExpectedSeconds: seconds, EstimateUSD: new(estimate), Verdict: ledger.VerdictDoubtful,
		Links: &ledger.Links{
			Execution: st.Links.Execution, RunComfy: "https://www.runcomfy.com/models/sync/sync/lipsync/v2/pro/api",
			Outputs: "s3://lipdrop/" + prefix,
		},
	}
	if diff := cmp.Diff(wantStatus, st); diff != "" {
		t.Errorf("status of %s (-want +got):\n%s", name, diff)
	}
	if !strings.Contains(strings.Join(st.Warnings, "; "), "has the same frames as the input") {
		t.Errorf("the warnings of %s are %q, want one about the same frames", name, st.Warnings)
	}
	body, _ := s.Object(ledger.ResultKey(name, st.Take))
	var result ledger.Result
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&result); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(clip)
	want := ledger.Result{
		Name: name, Take: st.Take, Model: st.Model, Options: map[string]any{}, RequestID: st.RequestID, ExpectedSeconds: seconds, EstimateUSD: new(estimate), Warnings: st.Warnings,
		Inputs: []ledger.Input{
			{Property: "video_url", Key: "inbox/" + name + ".mp4", Bytes: int64(len(clip)), DurationSeconds: 3, Width: 320, Height: 240, Codecs: []string{"h264", "aac"}},
			{Property: "audio_url", Key: "inbox/" + name + ".wav", Bytes: int64(len(voice)), DurationSeconds: 2.5, Codecs: []string{"pcm"}},
		},
		Outputs: []ledger.Output{{
			Key: output, Bytes: int64(len(clip)), SHA256: hex.EncodeToString(sum[:]), Type: "video/mp4",
			DurationSeconds: 3, Width: 320, Height: 240, Codecs: []string{"h264", "aac"},
		}},
	}
	opts := cmp.Options{
		cmpopts.IgnoreFields(ledger.Result{}, "Times"),
		cmpopts.IgnoreFields(ledger.Input{}, "ETag", "VersionID", "LastModified", "PictureHash"),
		cmpopts.IgnoreFields(ledger.Output{}, "Verdict"),
		cmpopts.EquateApprox(0, 0.05),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Key" }, cmp.Comparer(strings.EqualFold)), // one video ends in .MP4
	}
	if diff := cmp.Diff(want, result, opts); diff != "" {
		t.Errorf("result.json of %s (-want +got):\n%s", name, diff)
	}
	times := result.Times
	if times.Claimed.IsZero() || times.Submitted.Before(times.Claimed) || times.Archiving.Before(times.Submitted) || times.Ended.Before(times.Archiving) || times.Finished.IsZero() {
		t.Errorf("the times of %s are incomplete or out of order: %+v", name, times)
	}
	for _, in := range result.Inputs {
		if in.ETag == "" || in.VersionID == "" || in.LastModified.IsZero() {
			t.Errorf("the input %+v has no ETag, no version or no time", in)
		}
	}
}
