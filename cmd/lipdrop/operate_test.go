package main

import (
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const samples = "../../internal/local/sample/"

// running is a local stack that was started, with helpers that run the command on it.
type running struct {
	*local.Stack
	t      *testing.T
	dir    string
	bucket *bucket.Bucket
}

func startStack(t *testing.T, o local.Options) *running {
	t.Helper()
	o.Visibility = time.Second
	stack, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.Close)
	return &running{stack, t, o.Dir, &bucket.Bucket{S3: stack.S3(), Name: local.Bucket}}
}

func (r *running) put(key, body string) {
	r.t.Helper()
	if err := upload(r.t.Context(), r.bucket, key, strings.NewReader(body), nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) dropPair(name string) {
	r.t.Helper()
	r.put("inbox/"+name+".mp4", contentOf(r.t, samples+"clip.mp4"))
	r.put("inbox/"+name+".wav", contentOf(r.t, samples+"voice.wav"))
}

// patience is how long a test waits for something that takes seconds.
const patience = time.Minute

// await waits until the status of a name has one of the states.
func (r *running) await(name string, states ...ledger.State) ledger.Status {
	r.t.Helper()
	st, err := awaitState(r.bucket, name, states...)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// lipdrop runs a command on the stack's folder. It checks the exit code, and that each
// wanted text is printed, on stdout or stderr.
func (r *running) lipdrop(code int, verb, name string, want ...string) {
	r.t.Helper()
	out, errs := command(r.t, code, verb, "--dir", r.dir, name)
	contains(r.t, out+errs, want...)
}

// charged checks how many jobs the fake accepted and cancelled, and that it made one charge for
// each accepted job.
func (r *running) charged(jobs, cancelled int) {
	r.t.Helper()
	if got, took := r.Fake().Charges(), len(r.Fake().Submitted()); got != jobs || took != jobs {
		r.t.Errorf("%d charges for %d jobs, want %d of each", got, took, jobs)
	}
	if got := len(r.Fake().Cancelled()); got != cancelled {
		r.t.Errorf("%d jobs cancelled at RunComfy, want %d", got, cancelled)
	}
}

// The status is about the newest drop, which is rejected here. The take of the earlier drop
// is the one that costs money, so cancel must find that take.
func TestCancelCommandFindsAnEarlierTake(t *testing.T) {
	s := startStack(t, local.Options{Dir: t.TempDir(), QueueTime: time.Hour})
	s.dropPair("talk")
	s.await("talk", ledger.InQueue)
	s.put("inbox/talk.wav", "")
	s.await("talk", ledger.Rejected)
	s.lipdrop(0, "cancel", "talk", "talk: cancelled (cancelled_by_stop)")
	s.charged(1, 1)
	s.await("talk", ledger.Rejected)
}

// A job whose output cannot be archived fails. Once the cause is fixed, a redrive archives
// the output, and nothing is submitted or charged again. Cancel refuses a job that runs or has ended.
func TestRedriveCommand(t *testing.T) {
	dir := t.TempDir()
	broken := startStack(t, local.Options{Dir: dir, Variables: map[string]string{"OUTPUT_ORIGINS": "https://elsewhere.example"}})
	broken.dropPair("talk")
	if st := broken.await("talk", ledger.Failed, ledger.Succeeded); st.Code != problem.OutputRefused || !strings.Contains(st.Remedy, "lipdrop redrive talk") {
		t.Fatalf("status %s, want output_refused and a remedy that names lipdrop redrive", client.Describe(st))
	}
	broken.lipdrop(1, "cancel", "talk", "talk has already ended: it is failed (output_refused)")
	broken.Close()
	broken.lipdrop(1, "redrive", "talk", "the local stack in "+dir+" is not running. Start the local stack with: lipdrop local --dir "+dir)

	s := startStack(t, local.Options{Dir: dir, RunTime: 5 * time.Second}) // poll makes its second turn after 6 s or more, when the job has ended
	s.lipdrop(0, "redrive", "talk", "of talk continues where it failed; status/talk.json shows the outcome")
	st := s.await("talk", ledger.Succeeded)
	if len(st.Outputs) != 1 || st.Code != "" {
		t.Errorf("status %+v, want one output and no code", st)
	}
	s.charged(1, 0)
	s.lipdrop(1, "redrive", "talk", "talk has not failed: it is succeeded")
	s.lipdrop(1, "cancel", "talk", "talk has already ended: it is succeeded")

	s.dropPair("late")
	s.await("late", ledger.InProgress)
	s.lipdrop(1, "cancel", "late", "it was too late to cancel late: the job is paid for, so its execution continues and the output will be archived. Until then, its status may say failed")
	s.await("late", ledger.Succeeded)
	s.charged(2, 0)
	if dead := s.DeadLetters(); len(dead) > 0 {
		t.Errorf("dead letters: %v, want none", dead)
	}
}
