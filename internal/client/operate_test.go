package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func TestTakeToRedrive(t *testing.T) {
	takes := func(states ...ledger.State) []ledger.Record {
		var records []ledger.Record
		for i, state := range states {
			records = append(records, ledger.Record{Name: "talk", Take: fmt.Sprint("take", i), State: state})
		}
		return records
	}
	tests := []struct {
		name  string
		takes []ledger.Record
		named string // the take that the person names, or ""
		want  string
		ok    bool
	}{
		{"the only take", takes(ledger.Failed), "", "take0", true},
		{"an older take failed and a newer take succeeded", takes(ledger.Failed, ledger.Succeeded), "", "take0", true},
		{"an older take failed and a newer take runs", takes(ledger.Failed, ledger.InProgress), "", "take0", true},
		{"two takes failed", takes(ledger.Failed, ledger.Failed, ledger.Succeeded), "", "take1", true},
		{"no take failed", takes(ledger.Cancelled, ledger.Succeeded), "", "take1", true},
		{"the take that is named", takes(ledger.Failed, ledger.Failed), "take0", "take0", true},
		{"a take that does not exist", takes(ledger.Failed, ledger.Succeeded), "take7", "take1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if rec, ok := takeToRedrive(tt.takes, tt.named); rec.Take != tt.want || ok != tt.ok {
				t.Errorf("%s, %v; want %s, %v", rec.Take, ok, tt.want, tt.ok)
			}
		})
	}
}

// If a name has no record, the error depends on the name's status.
func TestNamesWithoutATake(t *testing.T) {
	storage := new(s3test.Bucket)
	setStatus(storage, ledger.Status{Name: "queued", State: ledger.InQueue, Take: take1})
	setStatus(storage, ledger.Status{Name: "lone", State: ledger.Waiting, Code: "waiting_for_audio", Reason: "the voice is missing", Remedy: "Upload it."})
	setStatus(storage, ledger.Status{Name: "cafe", State: ledger.Used, Jobs: []string{"cafe/de", "cafe/fr"}})
	setStatus(storage, ledger.Status{Name: "many", State: ledger.Used, Jobs: strings.Split(strings.Repeat("many/m,", 2000)+"many/m", ",")})
	for name, want := range map[string]string{
		"many":   "nothing was submitted for many: it is used by " + strings.Repeat("many/m, ", 10) + "and 1991 more",
		"cafe":   "nothing was submitted for cafe: it is used by cafe/de, cafe/fr",
		"queued": "queued is in_queue, but the record of its take, jobs/queued/" + take1 + ".json, is not in the bucket",
		"lone":   "nothing was submitted for lone: it is waiting (waiting_for_audio): the voice is missing. Upload it.",
		"none":   "there is no job named none. The name is the path below inbox/, without the suffix. Run: lipdrop jobs",
	} {
		if _, err := newClient(storage).SubmittedTakes(t.Context(), name); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// If Review refuses a note, the error says what is wrong with the note.
func TestRefusedNotes(t *testing.T) {
	for note, want := range map[string]string{"\xff": "is not text in UTF-8", strings.Repeat("é", 2001): "has 4002 bytes"} {
		_, err := (&Client{}).Review(t.Context(), "ads/talk", "", Approved, note, nil)
		if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a UsageError that contains %q", err, want)
		}
	}
}

// If the response to the write of a review is lost, the review counts as the person's own. The same
// decision of another call, in the same second, does not.
func TestReviewWhoseResponseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that both calls write the same time
		storage := new(s3test.Bucket)
		storage.Set(ledger.RecordKey("talk", take1), bucket.JSON(ledger.Record{Name: "talk", Take: take1, State: ledger.Succeeded}, ""))
		c := newClient(s3test.Retrying{Bucket: storage})
		c.Dir = "state"
		seen := ""
		storage.LoseNextPut()
		if _, err := c.Review(t.Context(), "talk", take1, Approved, "good", &seen); err != nil {
			t.Errorf("a review whose first response was lost: %v, want no error", err)
		}
		_, err := c.Review(t.Context(), "talk", take1, Approved, "good", &seen)
		if err == nil || !strings.Contains(err.Error(), "somebody else reviewed talk") {
			t.Errorf("the same review by another call: %v, want that somebody else reviewed talk", err)
		}
		_, seen, err = c.ReadReview(t.Context(), "talk", take1)
		if err != nil {
			t.Fatal(err)
		}
		storage.LoseNextPut()
		if _, err := c.Review(t.Context(), "talk", take1, Rejected, "", &seen); err != nil {
			t.Errorf("a review that replaces one, and whose first response was lost: %v, want no error", err)
		}
	})
}

// AWS does not redrive an execution that ended more than 14 days ago, so the error does not
// tell the person to redrive the job.
func TestTooLateToRedrive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type": "ExecutionNotRedrivable", "message": "Execution redrivable period exceeded."}`)
	}))
	defer server.Close()
	c := newClient(new(s3test.Bucket))
	c.States = sfn.New(sfn.Options{Region: "eu-west-1", BaseEndpoint: &server.URL, Credentials: aws.AnonymousCredentials{}})
	rec := ledger.Record{Name: "talk", Take: take1, State: ledger.Failed, Code: problem.NoOutput, Reason: "no output"}
	const want = "talk cannot be redriven: Execution redrivable period exceeded; it is failed (no_output): no output. " +
		"If RunComfy's page still shows the job's result, download it there. Otherwise upload the audio of the job again, which submits the job again and may charge again."
	if err := c.redriveTake(t.Context(), rec); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// It was too late to cancel a job, and another person has already redriven it. The error is not
// Idle, because a cancel of a whole folder ignores Idle errors.
func TestCancelTooLateAndAlreadyRedriven(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".StopExecution") {
			fmt.Fprint(w, "{}")
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type": "ExecutionNotRedrivable", "message": "Execution is RUNNING and cannot be redriven"}`)
	}))
	defer server.Close()
	c := newClient(new(s3test.Bucket))
	c.States = sfn.New(sfn.Options{Region: "eu-west-1", BaseEndpoint: &server.URL, Credentials: aws.AnonymousCredentials{}})
	err := c.cancelTake(t.Context(), func(string) {}, ledger.Record{Name: "talk", Take: take1, State: ledger.Failed, Code: problem.ExecutionStopped})
	if state, ok := errors.AsType[*StateError](err); !ok || state.Idle || !strings.HasPrefix(err.Error(), "it was too late to cancel talk") {
		t.Errorf("%v, want that it was too late, and Idle not set", err)
	}
}

// If the local stack is no longer running, the error says how to start it, and does not advise
// to check the network.
func TestRedriveAndCancelWithoutTheLocalStack(t *testing.T) {
	c := newClient(new(s3test.Bucket))
	c.Dir = ".lipdrop"
	c.States = sfn.New(sfn.Options{Region: "eu-west-1", BaseEndpoint: aws.String("http://127.0.0.1:1"), Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{}})
	rec := ledger.Record{Name: "talk", Take: take1, State: ledger.Failed}
	for _, err := range []error{c.redriveTake(t.Context(), rec), c.cancelTake(t.Context(), nil, rec)} {
		if err == nil || !strings.HasSuffix(err.Error(), ". The local stack in .lipdrop is no longer running. Start it with: lipdrop local") {
			t.Errorf("%v, want how to start the local stack", err)
		}
	}
}

// The cancel function settles a stopped execution. If the function fails, Lambda calls it again
// after one minute, and once more after two further minutes. So `lipdrop cancel` waits for
// four minutes.
func TestCancelWaits(t *testing.T) {
	tests := []struct {
		name     string
		settled  time.Duration // when the take's record becomes cancelled
		patience time.Duration // when the person ends the command
		err      string
		waits    time.Duration
	}{
		{"the take is settled by Lambda's third call", 3*time.Minute + 30*time.Second, time.Hour, "", 3*time.Minute + 30*time.Second},
		{"the take is not settled", time.Hour, 2 * time.Hour, "talk is still submitted after 4m0s; its status will say how it ended", 4 * time.Minute},
		{"the person ends the command", time.Hour, time.Minute + readEvery/2, context.DeadlineExceeded.Error(), time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // time.Now and the timers follow a virtual clock
				c := newClient(new(s3test.Bucket))
				rec, _, err := c.Ledger.Claim(t.Context(), ledger.Record{Name: "talk", Take: take1, State: ledger.Submitting})
				if err == nil {
					rec, err = c.Ledger.Update(t.Context(), rec, func(rec *ledger.Record) { rec.State = ledger.Submitted })
				}
				if err != nil {
					t.Fatal(err)
				}
				settle := time.AfterFunc(tt.settled, func() {
					_, err := c.Ledger.Update(context.Background(), rec, func(rec *ledger.Record) { rec.State = ledger.Cancelled })
					if err != nil {
						t.Error(err)
					}
				})
				defer settle.Stop()
				ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
				defer cancel()
				began := time.Now()
				got, err := c.waitUntilEnded(ctx, rec)
				if tt.err == "" && (err != nil || got.State != ledger.Cancelled) || tt.err != "" && (err == nil || err.Error() != tt.err) {
					t.Errorf("state %s, error %v; want the error %q (empty: no error, and the state cancelled)", got.State, err, tt.err)
				}
				if took := time.Since(began); took < tt.waits || took > tt.waits+2*readEvery {
					t.Errorf("waited %s, want %s", took, tt.waits)
				}
			})
		})
	}
}

func TestCancelNamesTheRecordThatItCannotRead(t *testing.T) {
	storage := &s3test.Bucket{Before: func(string, string) error { return s3test.Error(http.StatusForbidden, "AccessDenied") }}
	_, err := newClient(storage).waitUntilEnded(t.Context(), ledger.Record{Name: "talk", Take: take1, State: ledger.Submitted})
	denied, ok := errors.AsType[*DeniedError](err)
	if !ok || denied.Purpose != "read the record of talk" || denied.Resource != "arn:aws:s3:::drops/jobs/talk/"+take1+".json" {
		t.Errorf("got %v, want *DeniedError with the name and the key of the record", err)
	}
}

// Show leaves out a review that does not parse.
func TestShowWithABrokenReview(t *testing.T) {
	storage := new(s3test.Bucket)
	setStatus(storage, ledger.Status{Name: "talk", Take: take1, State: ledger.Succeeded})
	storage.Set(ledger.RecordKey("talk", take1), bucket.JSON(ledger.Record{Name: "talk", Take: take1, State: ledger.Succeeded}, ""))
	storage.Set(ReviewKey("talk", take1), []byte("{"))
	job, err := newClient(storage).Show(t.Context(), "talk")
	if err != nil || len(job.Takes) != 1 || job.Takes[0].Review != nil {
		t.Errorf("the takes are %+v, %v, want one without a review", job.Takes, err)
	}
}
