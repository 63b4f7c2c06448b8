// Package sam tests the README's commands for the SAM CLI. `sam build` builds the
// functions, and `sam local` runs them in Docker against the local stack, with the sample
// events.
package sam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

func TestFunctionsInDocker(t *testing.T) {
	sam := findSAM(t)
	if out, err := sam.command(t.Context(), sam.build).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", sam.build, err, out)
	}
	t.Run("as the README says", func(t *testing.T) { testReadme(t, sam) })
	t.Run("sam local invoke", func(t *testing.T) { testInvoke(t, sam) })
	t.Run("sam local start-lambda", func(t *testing.T) { testStartLambda(t, sam) })
}

// The stack has no files and no jobs. So submit withdraws talk, and poll and archive do not find their job.
func testReadme(t *testing.T, sam *samCLI) {
	output := sam.background(t, sam.local)
	awaitText(t, output, "Press Ctrl-C to end the stack")
	sam.succeed(t, "SubmitFunction", nil)
	awaitText(t, output, "talk: withdrawn (files_gone)")
	var polled workflow.Job
	decode(t, sam.succeed(t, "PollFunction", nil), &polled)
	if polled.Ended || polled.WaitSeconds < 3 || polled.WaitSeconds > 5 {
		t.Errorf("poll returned %+v, want a wait of 3 to 5 s", polled)
	}
	if response := sam.call(t, "ArchiveFunction", nil); !bytes.Contains(response, []byte(`"errorType"`)) {
		t.Errorf("archive returned %s, want an error", response)
	}
	sam.succeed(t, "CancelFunction", nil)
}

// onlyTalkRuns lets the job of inbox/talk.mp4 end at once. All other jobs stay in the queue.
func onlyTalkRuns(_ string, input map[string]any) runcomfytest.Script {
	if strings.Contains(fmt.Sprint(input["video_url"]), "/inbox/talk.mp4?") {
		return runcomfytest.Script{}
	}
	return runcomfytest.Script{Queue: time.Hour}
}

// A person can invoke each function. Submit accepts each kind of event about an upload.
func testInvoke(t *testing.T, sam *samCLI) {
	// The stack's own calls of functions fail, so functions run only when this test invokes them.
	nobody := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(nobody.Close)
	s := start(t, sam, local.Options{LambdaEndpoint: nobody.URL, Visibility: time.Hour})
	s.Fake().Script = onlyTalkRuns
	clip, voice := sample.Files()

	s.DropPair("talk")
	sam.succeed(t, "SubmitFunction", sampleEvent(t, "submit/object-created.json"))
	s.wantCharges(1)
	rec := s.record("talk")
	if rec.State != ledger.Submitted || rec.RequestID != s.Fake().Submitted()[0].RequestID {
		t.Fatalf("after the submit of talk its record is %+v, want submitted", rec)
	}
	s.wantStatus("talk", ledger.Submitted, "")

	response := sam.succeed(t, "SubmitFunction", sampleEvent(t, "submit/sqs-batch.json"))
	var batch events.SQSEventResponse
	if decode(t, response, &batch); len(batch.BatchItemFailures) > 0 {
		t.Errorf("messages of the batch failed: %v", batch.BatchItemFailures)
	}
	s.wantCharges(1) // still the same take

	s.Drop("inbox/Grüße 1+1.mp4", clip)
	s.Drop("inbox/Grüße 1+1.wav", voice)
	sam.succeed(t, "SubmitFunction", sampleEvent(t, "submit/s3-notification.json"))
	s.wantCharges(2)
	queued := s.record("Grüße 1+1")
	if queued.State != ledger.Submitted || queued.RequestID != s.Fake().Submitted()[1].RequestID {
		t.Fatalf("after the submit of Grüße 1+1 its record is %+v, want submitted", queued)
	}

	polled := s.poll(sam, rec)
	if !polled.Ended {
		t.Fatalf("poll returned %+v for a job that has ended, want ended", polled)
	}
	stillQueued := s.poll(sam, queued)
	if stillQueued.Ended || stillQueued.WaitSeconds < 1 || s.record("Grüße 1+1").State != ledger.InQueue {
		t.Errorf("poll returned %+v for a queued job, want a wait and the state in_queue", stillQueued)
	}

	state, err := json.Marshal(polled)
	if err != nil {
		t.Fatal(err)
	}
	var archived workflow.Archived
	decode(t, sam.succeed(t, "ArchiveFunction", state), &archived)
	prefix := "outbox/talk/" + rec.Take + "/"
	want := workflow.Archived{Name: "talk", Take: rec.Take, Outputs: []string{prefix + "talk.mp4"}}
	if diff := cmp.Diff(want, archived); diff != "" {
		t.Errorf("archive returned (-want +got):\n%s", diff)
	}
	if got, ok := s.Object(prefix + "talk.mp4"); !ok || !bytes.Equal(got, clip) {
		t.Errorf("the output (%d bytes) is not what RunComfy served (%d bytes)", len(got), len(clip))
	}
	if _, ok := s.Object(ledger.ResultKey("talk", rec.Take)); !ok {
		t.Error("there is no result.json")
	}
	s.wantStatus("talk", ledger.Succeeded, "")

	s.Remove("inbox/Grüße 1+1.wav")
	deleted := bytes.Replace(sampleEvent(t, "cancel/object-deleted.json"), []byte("inbox/talk.wav"), []byte("inbox/Grüße 1+1.wav"), 1)
	sam.succeed(t, "CancelFunction", deleted)
	if got := s.Fake().Cancelled(); !slices.Equal(got, []string{queued.RequestID}) {
		t.Errorf("RunComfy has cancelled %v, want %s", got, queued.RequestID)
	}
	s.wantStatus("Grüße 1+1", ledger.Cancelled, problem.CancelledByDeletion)
	s.wantCharges(2)
}

// poll polls the job of a record. It adapts the sample state to the record.
func (s *stack) poll(sam *samCLI, rec ledger.Record) workflow.Job {
	s.t.Helper()
	var job workflow.Job
	decode(s.t, sampleEvent(s.t, "poll/job.json"), &job)
	job.Name, job.Take, job.RequestID, job.Model, job.SubmittedAt = rec.Name, rec.Take, rec.RequestID, rec.Model, rec.Times.Submitted
	state, err := json.Marshal(job)
	if err != nil {
		s.t.Fatal(err)
	}
	var next workflow.Job
	decode(s.t, sam.succeed(s.t, "PollFunction", state), &next)
	return next
}

// The stack's queue and state machine call the functions in containers.
func testStartLambda(t *testing.T, sam *samCLI) {
	port := freePort(t)
	s := start(t, sam, local.Options{LambdaEndpoint: "http://127.0.0.1:" + port, Settle: time.Second, Visibility: time.Second})
	s.Fake().Script = onlyTalkRuns
	sam.serve(t, port)
	clip, voice := sample.Files()

	s.DropPair("talk")
	s.Drop("inbox/late.wav", voice)
	s.Drop("inbox/late.mp4", clip)
	st := s.await("talk", ledger.Succeeded, "")
	if got, ok := s.Object("outbox/talk/" + st.Take + "/talk.mp4"); !ok || !bytes.Equal(got, clip) {
		t.Errorf("the output (%d bytes) is not what RunComfy served (%d bytes)", len(got), len(clip))
	}

	late := s.await("late", ledger.InQueue, "")
	execution := workflow.ExecutionARN(local.MachineARN, workflow.ExecutionName("late", late.Take))
	if _, err := s.StepFunctions().StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: &execution}); err != nil {
		t.Fatal(err)
	}
	s.await("late", ledger.Cancelled, problem.CancelledByStop)
	if got := s.Fake().Cancelled(); !slices.Equal(got, []string{late.RequestID}) {
		t.Errorf("RunComfy has cancelled %v, want %s", got, late.RequestID)
	}
	s.wantCharges(2)
}

// freePort returns a port of this machine at which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func decode(t *testing.T, text []byte, to any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
