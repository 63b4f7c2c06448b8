package permissions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

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

// scenario is a use of the functions. run returns an error if the result is wrong.
type scenario struct {
	name        string
	tries       string // the functions whose permissions are removed one by one
	run         func(*deployment) error
	unversioned bool // on a bucket without versions
	fault       func(*http.Request, []byte) *runcomfytest.Fault
}

var scenarios = []scenario{
	{name: "a job", tries: "submit poll archive", run: archived},
	{name: "a job in a bucket without versions", tries: "submit", run: archived, unversioned: true},
	// Scenarios in which a person deletes a status or a record have a bucket without versions:
	// unlike S3, versitygw treats a delete marker as an existing object.
	{name: "a job whose status is deleted again and again", tries: "poll archive", run: archivedWithoutStatus, unversioned: true},
	{name: "a job whose record is deleted", tries: "poll", run: polledWithoutRecord, unversioned: true},
	{name: "an answer file", tries: "submit", run: answered},
	{name: "a video of many jobs", tries: "submit", run: divided},
	{name: "a job that RunComfy refuses for now", tries: "submit", run: released, fault: throttled},
	{name: "a job that RunComfy refuses for now, in a bucket without versions", tries: "submit", run: released, fault: throttled, unversioned: true},
	{name: "a message whose job RunComfy refuses for now", tries: "submit", run: postponed, fault: throttled},
	{name: "an output whose key is occupied", tries: "archive", run: aborted, fault: longOutput},
	{name: "a deleted drop", tries: "cancel", run: deleted},
	{name: "a deleted drop whose status is deleted too", tries: "cancel", run: deletedWithoutStatus, unversioned: true},
	{name: "a stopped execution", tries: "cancel", run: stopped},
	{name: "a stopped execution that the sweep finds", tries: "cancel", run: swept},
	{name: "a paid job whose execution the sweep starts", tries: "cancel", run: recovered},
}

// fails calls functions in order until one fails, and returns the error of that function.
func fails(calls ...func() error) error {
	for _, call := range calls {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// submitted drops a pair and calls submit. It returns the input of the execution.
func (d *deployment) submitted() (workflow.Job, error) {
	var job workflow.Job
	clip, voice := sample.Files()
	if err := errors.Join(d.put(video, clip), d.put(audio, voice)); err != nil {
		return job, err
	}
	if _, err := d.submit.Handle(d.ctx, d.event("Object Created", audio)); err != nil {
		return job, err
	}
	if err := d.wantRecord(ledger.Submitted); err != nil {
		return job, err
	}
	for _, taken := range d.fake.Submitted() {
		if taken.FetchError != "" {
			return job, errors.New(taken.FetchError)
		}
	}
	rec, err := d.record(name)
	if err != nil {
		return job, err
	}
	execution := d.execution(rec)
	out, err := d.states.DescribeExecution(d.ctx, &sfn.DescribeExecutionInput{ExecutionArn: &execution})
	if err != nil {
		return job, err
	}
	return job, json.Unmarshal([]byte(*out.Input), &job)
}

func (d *deployment) execution(rec ledger.Record) string {
	return workflow.ExecutionARN(machineARN, workflow.ExecutionName(rec.Name, rec.Take))
}

// polled calls poll and returns an error unless poll records the given state.
func (d *deployment) polled(job *workflow.Job, state ledger.State) error {
	next, err := d.poll.Handle(d.ctx, workflow.Turn{Job: *job})
	if err != nil {
		return err
	}
	*job = next
	if job.Troubles > 0 {
		return fmt.Errorf("poll counted %d failures, want none", job.Troubles)
	}
	return d.wantRecord(state)
}

// archived drops a pair and calls the functions until the job's output is archived.
func archived(d *deployment) error {
	job, err := d.submitted()
	if err != nil {
		return err
	}
	return fails(
		func() error { return d.polled(&job, ledger.InQueue) },
		func() error { d.passes(queueTime); return d.polled(&job, ledger.InProgress) },
		func() error { d.passes(runTime); return d.polled(&job, ledger.Archiving) },
		func() error { return d.archives(job) },
		func() error { return d.archives(job) }, // a second call has nothing left to do
	)
}

// archives calls archive for a job that has ended at RunComfy, and checks the output.
func (d *deployment) archives(job workflow.Job) error {
	if _, err := d.archive.Handle(d.ctx, job); err != nil {
		return err
	}
	if err := d.wantRecord(ledger.Succeeded); err != nil {
		return err
	}
	rec, err := d.record(name)
	if err != nil {
		return err
	}
	clip, _ := sample.Files()
	got, err := d.object(ledger.OutputPrefix(rec.Name, rec.Take) + "talk.mp4")
	if err != nil {
		return err
	}
	result, err := d.object(ledger.OutputPrefix(rec.Name, rec.Take) + "result.json")
	if err != nil {
		return err
	}
	if !bytes.Equal(got, clip) || result == nil || rec.Outputs[0].Verdict.State != ledger.VerdictDoubtful || rec.Outputs[0].DurationSeconds == 0 {
		return fmt.Errorf("the output has %d bytes, want the %d of the clip; result.json has %d bytes, want some; the record has the outputs %+v, want a doubtful verdict and a duration; warnings %v",
			len(got), len(clip), len(result), rec.Outputs, rec.Warnings)
	}
	return nil
}

// archivedWithoutStatus is like archived, but a person deletes the status before poll and
// before archive. Both write the status again.
func archivedWithoutStatus(d *deployment) error {
	job, err := d.submitted()
	if err != nil {
		return err
	}
	d.passes(queueTime + runTime)
	return fails(
		func() error { return d.remove(ledger.StatusKey(name)) },
		func() error { return d.polled(&job, ledger.Archiving) },
		func() error { return d.remove(ledger.StatusKey(name)) },
		func() error { return d.archives(job) },
	)
}

// polledWithoutRecord deletes the record of a submitted job. Poll writes a new record.
func polledWithoutRecord(d *deployment) error {
	job, err := d.submitted()
	if err != nil {
		return err
	}
	d.passes(queueTime + runTime)
	return fails(
		func() error { return d.remove(ledger.RecordKey(job.Name, job.Take)) },
		func() error { return d.polled(&job, ledger.Archiving) },
	)
}

// answered drops a file that cannot belong to a job, then deletes the file.
func answered(d *deployment) error {
	const key, answer = "inbox/notes.txt", "answers/notes.txt.json"
	assess := func(kind string) error {
		_, err := d.submit.Handle(d.ctx, d.event(kind, key))
		return err
	}
	return fails(
		func() error { return d.put(key, []byte("notes")) },
		func() error { return assess("Object Created") },
		func() error { return d.wantStatus(answer, ledger.Rejected) },
		func() error { return d.remove(key) },
		func() error { return assess("Object Deleted") },
		func() error { return d.wantStatus(answer, ledger.Withdrawn) },
	)
}

// divided drops a video with so many tagged audios that submit sends messages for most
// of the jobs.
func divided(d *deployment) error {
	clip, voice := sample.Files()
	err := d.put(video, clip)
	for _, tag := range []string{"de", "en", "fr", "it"} {
		err = errors.Join(err, d.put("inbox/ads/talk."+tag+".wav", voice))
	}
	if err != nil {
		return err
	}
	if _, err := d.submit.Handle(d.ctx, d.event("Object Created", video)); err != nil {
		return err
	}
	if d.queue.Len() == 0 {
		return errors.New("submit sent no message")
	}
	return nil
}

// throttled returns a fault that makes RunComfy refuse each submit for now.
func throttled(r *http.Request, _ []byte) *runcomfytest.Fault {
	if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallSubmit {
		return &runcomfytest.Fault{Status: http.StatusTooManyRequests}
	}
	return nil
}

// released drops a pair that RunComfy does not accept. Submit releases the claim.
func released(d *deployment) error {
	if _, err := d.submitted(); err == nil {
		return errors.New("the job was submitted, although RunComfy did not accept it")
	}
	rec, err := d.record(name)
	if err != nil {
		return err
	}
	if rec.State != "" {
		return fmt.Errorf("the record is %s, want a released one", rec.State)
	}
	return d.wantStatus(ledger.StatusKey(name), ledger.Held)
}

// postponed delivers a message about a pair that RunComfy does not accept. Submit sets
// when the message is delivered again.
func postponed(d *deployment) error {
	clip, voice := sample.Files()
	if err := errors.Join(d.put(video, clip), d.put(audio, voice), d.queue.Send(string(d.event("Object Created", video)))); err != nil {
		return err
	}
	batch := d.queue.Receive(1)
	d.postponed = errors.New("submit did not postpone the message")
	deliver := queue.SQS(queueARN, func(ctx context.Context, payload []byte) ([]byte, error) {
		response, err := d.submit.Handle(ctx, payload)
		if err != nil {
			return nil, err
		}
		return json.Marshal(response)
	})
	failed, err := deliver(d.ctx, batch)
	if err != nil {
		return err
	}
	if len(failed) != 1 {
		return fmt.Errorf("%d messages failed, want 1", len(failed))
	}
	return d.postponed
}

// deleted deletes a drop whose job is in RunComfy's queue.
func deleted(d *deployment) error {
	if _, err := d.submitted(); err != nil {
		return err
	}
	return d.withdraws()
}

// deletedWithoutStatus is like deleted, but a person deletes the status first.
func deletedWithoutStatus(d *deployment) error {
	if _, err := d.submitted(); err != nil {
		return err
	}
	if err := d.remove(ledger.StatusKey(name)); err != nil {
		return err
	}
	return d.withdraws()
}

// withdraws deletes a file of a job that is in RunComfy's queue, and returns an error unless
// the job is cancelled.
func (d *deployment) withdraws() error {
	rec, err := d.record(name)
	if err != nil {
		return err
	}
	execution := d.execution(rec)
	return fails(
		func() error { return d.wantReserved(1) },
		func() error { return d.remove(audio) },
		func() error {
			_, err := d.cancel.Handle(d.ctx, d.event("Object Deleted", audio))
			return err
		},
		func() error { return d.wantRecord(ledger.Cancelled) },
		func() error { return d.wantReserved(0) },
		func() error {
			out, err := d.states.DescribeExecution(d.ctx, &sfn.DescribeExecutionInput{ExecutionArn: &execution})
			if err == nil && out.Status != types.ExecutionStatusAborted {
				err = fmt.Errorf("the execution of the cancelled job is %s, want ABORTED", out.Status)
			}
			return err
		},
	)
}

// stops submits a job and stops its execution, as a person does.
func (d *deployment) stops() (execution string, err error) {
	if _, err := d.submitted(); err != nil {
		return "", err
	}
	rec, err := d.record(name)
	if err != nil {
		return "", err
	}
	execution = d.execution(rec)
	_, err = d.states.StopExecution(d.ctx, &sfn.StopExecutionInput{ExecutionArn: &execution})
	return execution, err
}

// stopped calls cancel with the event of a stopped execution.
func stopped(d *deployment) error {
	execution, err := d.stops()
	if err != nil {
		return err
	}
	event := fmt.Sprintf(`{"detail-type": "Step Functions Execution Status Change", "detail": {"executionArn": %q}}`, execution)
	if _, err := d.cancel.Handle(d.ctx, json.RawMessage(event)); err != nil {
		return err
	}
	return d.wantRecord(ledger.Cancelled)
}

// swept calls cancel as the hourly schedule does, after the event of a stopped execution was
// lost.
func swept(d *deployment) error {
	if _, err := d.stops(); err != nil {
		return err
	}
	if _, err := d.cancel.Handle(d.ctx, json.RawMessage(`{"detail-type": "Scheduled Event"}`)); err != nil {
		return err
	}
	return d.wantRecord(ledger.Cancelled)
}

// unreachable is a client of Step Functions during an outage.
type unreachable struct{}

func (unreachable) StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	return nil, errors.New("no route to host")
}

// recovered lets the sweep start an execution that submit could not start. Submit has
// recorded the take.
func recovered(d *deployment) error {
	d.submit.States = unreachable{}
	if _, err := d.submitted(); err == nil {
		return errors.New("the execution was started, although Step Functions is unreachable")
	}
	d.cancel.Now = func() time.Time { return time.Now().Add(20 * time.Minute) } // the sweep ignores younger records, which submit may still handle
	if _, err := d.cancel.Handle(d.ctx, json.RawMessage(`{"detail-type": "Scheduled Event"}`)); err != nil {
		return err
	}
	if err := d.wantRecord(ledger.Submitted); err != nil {
		return err
	}
	rec, err := d.record(name)
	if err != nil {
		return err
	}
	execution := d.execution(rec)
	out, err := d.states.DescribeExecution(d.ctx, &sfn.DescribeExecutionInput{ExecutionArn: &execution})
	if err == nil && out.Status != types.ExecutionStatusRunning {
		err = fmt.Errorf("the execution is %s, want RUNNING", out.Status)
	}
	return err
}

// longOutput returns a fault that makes outputs so long that archive uploads them in
// parts.
func longOutput(r *http.Request, _ []byte) *runcomfytest.Fault {
	if call, _ := runcomfytest.CallOf(r); call == runcomfytest.CallOutput {
		return &runcomfytest.Fault{Status: http.StatusOK, Body: make([]byte, 9<<20)}
	}
	return nil
}

// aborted archives an output while a person writes another object to the output's key.
// Archive must abort its multipart upload.
func aborted(d *deployment) error {
	job, err := d.submitted()
	if err != nil {
		return err
	}
	d.passes(queueTime + runTime)
	d.taken = []byte("another")
	_, err = d.archive.Handle(d.ctx, job)
	if _, ok := errors.AsType[*workflow.OutputOccupied](err); !ok {
		return errors.Join(errors.New("archive does not report that the key is occupied"), err)
	}
	return d.wantNoUpload()
}
