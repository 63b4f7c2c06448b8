package permissions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// The name of the job in the scenarios, and the keys of its files.
const name, video, audio = "ads/talk", "inbox/ads/talk.mp4", "inbox/ads/talk.wav"

// scenario is a use of the functions.
type scenario struct {
	name        string
	functions   string            // each of them loses one permission at a time
	run         func(*deployment) // panics with a failure if the result is wrong
	unversioned bool              // on a bucket without versions
	fault       func(*http.Request, []byte) *runcomfytest.Fault
}

var scenarios = []scenario{
	{name: "a job", functions: "submit poll archive", run: archived},
	{name: "a job in a bucket without versions", functions: "submit", run: archived, unversioned: true},
	// Scenarios in which a person deletes a status or a record have a bucket without versions:
	// unlike S3, versitygw treats a delete marker as an existing object.
	{name: "a job whose status is deleted again and again", functions: "poll archive", run: archivedWithoutStatus, unversioned: true},
	{name: "a job whose record is deleted again and again", functions: "poll archive", run: archivedWithoutRecord, unversioned: true},
	{name: "an answer file", functions: "submit", run: answered},
	{name: "a video of many jobs", functions: "submit", run: divided},
	{name: "a job that RunComfy refuses for now", functions: "submit", run: released, fault: throttled},
	{name: "a job that RunComfy refuses for now, in a bucket without versions", functions: "submit", run: released, fault: throttled, unversioned: true},
	{name: "a message whose job RunComfy refuses for now", functions: "submit", run: postponed, fault: throttled},
	{name: "an output whose key is occupied", functions: "archive", run: aborted, fault: longOutput},
	{name: "a deleted drop", functions: "cancel", run: deleted},
	{name: "a deleted drop whose status is deleted too", functions: "cancel", run: deletedWithoutStatus, unversioned: true},
	{name: "a stopped execution", functions: "cancel", run: stopped},
	{name: "a stopped execution that the sweep finds", functions: "cancel", run: swept},
	{name: "a paid job whose execution the sweep starts", functions: "cancel", run: recovered},
}

// dropPair drops the files of the job.
func (d *deployment) dropPair() {
	clip, voice := sample.Files()
	d.put(video, clip)
	d.put(audio, voice)
}

// submitPair drops a pair and calls submit. It returns the input of the execution.
func (d *deployment) submitPair() (job workflow.Job) {
	d.dropPair()
	must(d.submit.Handle(d.ctx, d.event("Object Created", audio)))
	d.wantRecord(ledger.Submitted)
	for _, taken := range d.fake.Submitted() {
		if taken.FetchError != "" {
			fail("%s", taken.FetchError)
		}
	}
	check(json.Unmarshal([]byte(*d.execution().Input), &job))
	return job
}

// execution returns the execution of the job.
func (d *deployment) execution() *sfn.DescribeExecutionOutput {
	rec := d.record()
	arn := workflow.ExecutionARN(machineARN, workflow.ExecutionName(rec.Name, rec.Take))
	return must(d.states.DescribeExecution(d.ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn}))
}

// wantExecution fails unless the execution of the job has the given status.
func (d *deployment) wantExecution(status types.ExecutionStatus) {
	if got := d.execution().Status; got != status {
		fail("the execution is %s, want %s", got, status)
	}
}

// pollJob calls poll and fails unless poll records the given state.
func (d *deployment) pollJob(job *workflow.Job, state ledger.State) {
	*job = must(d.poll.Handle(d.ctx, workflow.Turn{Job: *job}))
	if job.Troubles > 0 {
		fail("poll counted %d failures, want none", job.Troubles)
	}
	d.wantRecord(state)
}

// archived drops a pair and calls the functions until the job's output is archived.
func archived(d *deployment) {
	job := d.submitPair()
	d.pollJob(&job, ledger.InQueue)
	d.advance(queueTime)
	d.pollJob(&job, ledger.InProgress)
	d.advance(runTime)
	d.pollJob(&job, ledger.Archiving)
	d.archiveOutput(job)
	d.archiveOutput(job) // a second call has nothing left to do
}

// archiveOutput calls archive for a job that has ended at RunComfy, and checks the output.
func (d *deployment) archiveOutput(job workflow.Job) {
	must(d.archive.Handle(d.ctx, job))
	d.wantRecord(ledger.Succeeded)
	rec := d.record()
	clip, _ := sample.Files()
	got := d.object(ledger.OutputPrefix(rec.Name, rec.Take) + "talk.mp4")
	result := d.object(ledger.ResultKey(rec.Name, rec.Take))
	if !bytes.Equal(got, clip) || result == nil || rec.Outputs[0].Verdict.State != ledger.VerdictDoubtful || rec.Outputs[0].DurationSeconds == 0 {
		fail("the output has %d bytes, want the %d of the clip; result.json has %d bytes, want some; the record has the outputs %+v, want a doubtful verdict and a duration; warnings %v",
			len(got), len(clip), len(result), rec.Outputs, rec.Warnings)
	}
}

// archivedWithoutStatus is like archived, but a person deletes the status before poll and
// before archive. Both write the status again.
func archivedWithoutStatus(d *deployment) {
	job := d.submitPair()
	d.advance(queueTime + runTime)
	d.remove(ledger.StatusKey(name))
	d.pollJob(&job, ledger.Archiving)
	d.remove(ledger.StatusKey(name))
	d.archiveOutput(job)
}

// archivedWithoutRecord is like archivedWithoutStatus, but the person deletes the record.
func archivedWithoutRecord(d *deployment) {
	job := d.submitPair()
	d.advance(queueTime + runTime)
	d.remove(ledger.RecordKey(job.Name, job.Take))
	d.pollJob(&job, ledger.Archiving)
	d.remove(ledger.RecordKey(job.Name, job.Take))
	must(d.archive.Handle(d.ctx, job))
	d.wantRecord(ledger.Succeeded)
}

// answered drops a file that cannot belong to a job, then deletes the file.
func answered(d *deployment) {
	const key, answer = "inbox/notes.txt", "answers/notes.txt.json"
	d.put(key, []byte("notes"))
	must(d.submit.Handle(d.ctx, d.event("Object Created", key)))
	d.wantStatus(answer, ledger.Rejected)
	d.remove(key)
	must(d.submit.Handle(d.ctx, d.event("Object Deleted", key)))
	d.wantStatus(answer, ledger.Withdrawn)
}

// divided drops a video of several jobs. They need so many requests to S3 that submit sends
// messages for some of them.
func divided(d *deployment) {
	clip, voice := sample.Files()
	d.put(video, clip)
	for _, tag := range []string{"de", "en", "fr", "it"} {
		d.put("inbox/ads/talk."+tag+".wav", voice)
	}
	must(d.submit.Handle(d.ctx, d.event("Object Created", video)))
	if d.queue.Len() == 0 {
		fail("submit sent no message")
	}
}

// throttled returns a fault that makes RunComfy refuse each submit for now.
func throttled(r *http.Request, _ []byte) *runcomfytest.Fault {
	if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallSubmit {
		return &runcomfytest.Fault{Status: http.StatusTooManyRequests}
	}
	return nil
}

// released drops a pair that RunComfy does not accept. Submit releases the claim.
func released(d *deployment) {
	if attempt(func() { d.submitPair() }) == nil {
		fail("the job was submitted, although RunComfy did not accept it")
	}
	if rec := d.record(); rec.State != "" {
		fail("the record is %s, want a released one", rec.State)
	}
	d.wantStatus(ledger.StatusKey(name), ledger.Held)
}

// postponed delivers a message about a pair that RunComfy does not accept. Submit
// postpones the message.
func postponed(d *deployment) {
	d.dropPair()
	check(d.queue.Send(string(d.event("Object Created", video))))
	d.postponeErr = errors.New("submit did not postpone the message")
	deliver := queue.DeliverBatch(queueARN, func(ctx context.Context, payload []byte) ([]byte, error) {
		response, err := d.submit.Handle(ctx, payload)
		if err != nil {
			return nil, err
		}
		return json.Marshal(response)
	})
	if failed := must(deliver(d.ctx, d.queue.Receive(1))); len(failed) != 1 {
		fail("%d messages failed, want 1", len(failed))
	}
	check(d.postponeErr)
}

// deleted deletes a drop whose job is in RunComfy's queue.
func deleted(d *deployment) {
	d.submitPair()
	d.deleteAudio()
}

// deletedWithoutStatus is like deleted, but a person deletes the status first.
func deletedWithoutStatus(d *deployment) {
	d.submitPair()
	d.remove(ledger.StatusKey(name))
	d.deleteAudio()
}

// deleteAudio deletes a file of a job that is in RunComfy's queue, and fails unless the job is
// cancelled.
func (d *deployment) deleteAudio() {
	d.wantReserved(1)
	d.remove(audio)
	must(d.cancel.Handle(d.ctx, d.event("Object Deleted", audio)))
	d.wantRecord(ledger.Cancelled)
	d.wantReserved(0)
	d.wantExecution(types.ExecutionStatusAborted)
}

// stopExecution submits a job and stops its execution, as a person does.
func (d *deployment) stopExecution() (execution string) {
	d.submitPair()
	execution = *d.execution().ExecutionArn
	must(d.states.StopExecution(d.ctx, &sfn.StopExecutionInput{ExecutionArn: &execution}))
	return execution
}

// stopped calls cancel with the event of a stopped execution.
func stopped(d *deployment) {
	event := fmt.Sprintf(`{"detail-type": "Step Functions Execution Status Change", "detail": {"executionArn": %q}}`, d.stopExecution())
	must(d.cancel.Handle(d.ctx, json.RawMessage(event)))
	d.wantRecord(ledger.Cancelled)
}

// hourly is the event of the hourly schedule.
var hourly = json.RawMessage(`{"detail-type": "Scheduled Event"}`)

// swept calls cancel as the hourly schedule does, after the event of a stopped execution was
// lost.
func swept(d *deployment) {
	d.stopExecution()
	must(d.cancel.Handle(d.ctx, hourly))
	d.wantRecord(ledger.Cancelled)
}

// unreachable is a client of Step Functions during an outage.
type unreachable struct{}

func (unreachable) StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	return nil, errors.New("no route to host")
}

// recovered lets the sweep start an execution that submit could not start.
func recovered(d *deployment) {
	d.submit.States = unreachable{}
	if attempt(func() { d.submitPair() }) == nil {
		fail("the execution was started, although Step Functions is unreachable")
	}
	d.cancel.Now = func() time.Time { return time.Now().Add(20 * time.Minute) } // the sweep ignores younger records, which submit may still handle
	must(d.cancel.Handle(d.ctx, hourly))
	d.wantRecord(ledger.Submitted)
	d.wantExecution(types.ExecutionStatusRunning)
}

// longOutput returns a fault that serves long outputs without a Content-Length. Archive
// uploads such an output in parts.
func longOutput(r *http.Request, _ []byte) *runcomfytest.Fault {
	if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput {
		return &runcomfytest.Fault{Status: http.StatusOK, Body: make([]byte, 9<<20)}
	}
	return nil
}

// aborted archives an output while a person writes another object to the output's key.
// Archive must abort its multipart upload.
func aborted(d *deployment) {
	job := d.submitPair()
	d.advance(queueTime + runTime)
	d.occupant = []byte("another")
	_, err := d.archive.Handle(d.ctx, job)
	if _, ok := errors.AsType[*workflow.OutputOccupied](err); !ok {
		fail("archive returns %v, want an error that the key is occupied", err)
	}
	uploads := must(d.s3.ListMultipartUploads(d.ctx, &s3.ListMultipartUploadsInput{Bucket: &d.bucket})).Uploads
	if len(uploads) > 0 {
		fail("the multipart upload of %s is open, want none", *uploads[0].Key)
	}
}
