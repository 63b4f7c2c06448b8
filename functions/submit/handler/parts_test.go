package handler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// manyJobs are changes that ask for many jobs. Submit divides such a change: it sends itself
// several messages, each about some of the jobs.
var manyJobs = []struct {
	name string
	drop func(t *testing.T, w *world.World, jobs int) // causes one event
	root string                                       // the name whose status lists the jobs
	job  string                                       // the format of the name of a job with a given number
}{
	{"tagged audios of a video", func(t *testing.T, w *world.World, jobs int) {
		clip, voice := sample.Files()
		for i := range jobs {
			w.Put(fmt.Sprintf("inbox/ads/talk.%02d.wav", i), voice)
		}
		w.Drop("inbox/ads/talk.mp4", clip)
	}, "ads/talk", "ads/talk.%02d"},
	{"matches of a wildcard", func(t *testing.T, w *world.World, jobs int) {
		clip, voice := sample.Files()
		for i := range jobs {
			w.Put(fmt.Sprintf("inbox/ads/x.job/%02d.wav", i), voice)
		}
		w.Put("inbox/ads/x.job/v.mp4", clip)
		w.Drop("inbox/ads/x.job/job.json", react("v.mp4", "*.wav"))
	}, "ads/x", "ads/x/%02d"},
}

// Submit submits a job of a divided change but cannot start its execution, and the job's voice is
// replaced. A later message submits the new take. Both executions start within 20 minutes, before
// the hourly sweep.
func TestDividedChangeWhileAVoiceIsReplaced(t *testing.T) {
	w := worldtest.New(t)
	clip, voice := sample.Files()
	for i := range 40 {
		w.Put(fmt.Sprintf("inbox/ads/talk.%02d.wav", i), voice)
	}
	replaced := false
	w.Before = func(c world.Call) error {
		if c.Op != "StartExecution" || len(w.RunComfy.Submitted()) > 1 {
			return nil
		}
		if !replaced {
			w.Put("inbox/ads/talk.00.wav", append(slices.Clone(voice), 0, 0))
			replaced = true
		}
		return world.ErrThrottledStates
	}
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Run(20 * time.Minute)
	takes := w.Takes("ads/talk.00")
	for _, rec := range takes {
		if _, ok := w.Execution(rec.Name, rec.Take); !ok {
			t.Errorf("take %s has no execution, want one", rec.Take)
		}
	}
	if len(takes) != 2 {
		t.Errorf("%d takes, want 2", len(takes))
	}
}

// If SQS accepts no message for a while, every job of a divided change still runs once.
func TestDividedChangeWhileSQSIsBusy(t *testing.T) {
	for _, many := range manyJobs {
		t.Run(many.name, func(t *testing.T) {
			w := worldtest.New(t)
			refused := 0
			w.Before = func(c world.Call) error {
				if c.Op == "SendMessage" && w.Now().Before(world.Begin.Add(time.Minute)) {
					refused++
					return world.Throttled
				}
				return nil
			}
			many.drop(t, w, 12)
			worldtest.Rest(t, w)
			if refused == 0 {
				t.Error("SQS refused no message, want one or more")
			}
			worldtest.WantCharges(t, w, 12)
		})
	}
}

// Every job of a divided change runs once, even if submit dies, or if the queue does not respond.
// If submit dies just before or after the POST of a job, this job may end as unknown.
func TestDividedChange(t *testing.T) {
	// n chooses the request at which submit dies, which messages get no response, or the minutes without a queue.
	faults := map[string]func(w *world.World, n *int, c world.Call, after bool) error{
		"submit dies before a request": func(_ *world.World, n *int, _ world.Call, after bool) error {
			if !after {
				if *n--; *n == 0 {
					panic(world.Crash{})
				}
			}
			return nil
		},
		"submit dies after a request": func(_ *world.World, n *int, _ world.Call, after bool) error {
			if after {
				if *n--; *n == 0 {
					panic(world.Crash{})
				}
			}
			return nil
		},
		"the queue accepts a message and does not respond": func(_ *world.World, n *int, c world.Call, after bool) error {
			if c.Service == "sqs" && after {
				if *n--; *n%3 == 0 {
					return world.ErrBroken
				}
			}
			return nil
		},
		"the queue is out of reach for a while": func(w *world.World, n *int, c world.Call, after bool) error {
			if c.Service == "sqs" && !after && w.Now().Before(world.Begin.Add(time.Duration(*n)*time.Minute)) {
				return world.ErrBroken
			}
			return nil
		},
	}
	step := 13
	if testing.Short() { // as in the run with the race detector
		step *= 4
	}
	for _, change := range manyJobs {
		for what, fault := range faults {
			for n := 1; n < 150; n += step {
				t.Run(fmt.Sprintf("%s, %s, %d", change.name, what, n), func(t *testing.T) {
					w := worldtest.New(t)
					w.Batch = 1 + n%10
					left := n
					hook := func(c world.Call, after bool) error {
						if c.Function != "submit" || c.Service == "lambda" || c.Service == "runcomfy" {
							return nil
						}
						return fault(w, &left, c, after)
					}
					w.Before = func(c world.Call) error { return hook(c, false) }
					w.After = func(c world.Call) error { return hook(c, true) }
					change.drop(t, w, 12)
					worldtest.Rest(t, w)
					unknown := 0
					for i := range 12 {
						st := w.Status(fmt.Sprintf(change.job, i))
						if st.State == ledger.Unknown {
							unknown++
						} else if st.State != ledger.Succeeded {
							t.Errorf("job %d is %s, %s: %s; want succeeded or unknown", i, st.State, st.Code, st.Reason)
						}
					}
					if charges := w.RunComfy.Charges(); unknown > 1 || charges > 12 || charges < 12-unknown || len(w.Dead) > 0 {
						t.Errorf("%d charges, %d unknown, %d dead letters; want 12 charges, or 11 if a job is unknown, at most 1 unknown, and no dead letter", charges, unknown, len(w.Dead))
					}
					if st := w.Status(change.root); st.State != ledger.Used || len(st.Jobs) != 12 {
						t.Errorf("%s is %s, %s, used by %s; want used by 12 jobs", change.root, st.State, st.Reason, st.Jobs)
					}
				})
			}
		}
	}
}

// One batch has a message about several jobs, and reports a new audio for one of them. Submit
// divides the message. The job gets a new take, although the new audio has an
// earlier LastModified than the old one.
func TestUploadBesideADividedChange(t *testing.T) {
	part := func(fields string) events.SQSMessage {
		m := world.Message("")
		m.Body = `{"lipdrop": {"key": "inbox/ads/talk.mp4", "subjects": [{"stem": "inbox/ads/talk.10"}, {"stem": "inbox/ads/talk.11"}]` + fields + `}}`
		return m
	}
	event, upload := world.Message("inbox/ads/talk.mp4"), world.Message("inbox/ads/talk.11.wav")
	for name, batch := range map[string][]events.SQSMessage{
		"an event":                             {event, upload},
		"a message of submit":                  {part(""), upload},
		"the upload is in a message of submit": {event, part(`, "uploads": {"inbox/ads/talk.11.wav": "` + world.Begin.Format(time.RFC3339) + `"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			w := worldtest.New(t)
			manyJobs[0].drop(t, w, 12)
			worldtest.Rest(t, w)
			_, voice := sample.Files()
			w.PutLarge("inbox/ads/talk.11.wav", voice, world.Begin.Add(-time.Minute))
			submit(t, w, batch...)
			worldtest.Rest(t, w)
			worldtest.WantCharges(t, w, 13)
		})
	}
}

// One batch has a late event about many jobs, and the upload of the audio of one of these jobs.
// Submit divides the event into messages, one of which assesses that job. The job's status does not
// change, but submit writes it again, so that an assessment that began before the upload cannot
// overwrite it.
func TestOlderAssessmentBesideADividedChange(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 2
	w.Notify("Object Created", "inbox/ads/talk.mp4", 10*time.Minute)
	w.Pass(time.Minute)
	manyJobs[0].drop(t, w, 12)
	w.Drop("inbox/ads/talk.11.wav", nil)
	w.Pass(9*time.Minute - time.Second)
	w.Delete("inbox/ads/talk.11.wav")
	worldtest.BeforeFirst(t, w, func(c world.Call) bool {
		return c.Function == "submit" && c.Op == "PutObject" && c.Key == ledger.StatusKey("ads/talk.11")
	}, func() {
		w.DropLarge("inbox/ads/talk.11.wav", nil, world.Begin)
		w.Spend(20 * time.Second) // until both events are due
		w.Run(15 * time.Second)
	})
	worldtest.Rest(t, w)
	worldtest.WantStatus(t, w, "ads/talk.11", ledger.Rejected, problem.FileEmpty)
}

// The events of a wildcard's matches come in one batch, and submit dies while it submits the job of
// one match. The retry does not warn that this job does not use the other matches, because each match
// has a job of its own.
func TestRetriedMatchBesideOtherMatches(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 10
	w.RunComfy.Make = outputtest.Right.Make
	clip, voice := sample.Files()
	worldtest.BeforeFirst(t, w, func(c world.Call) bool { return c.Op == "StartExecution" && strings.Contains(c.Key, "x-2") }, func() {
		panic(world.Crash{})
	})
	w.Drop("inbox/ads/x.job/v.mp4", clip)
	for i := range 4 {
		w.Drop(fmt.Sprintf("inbox/ads/x.job/%d.wav", i), voice)
	}
	w.Drop("inbox/ads/x.job/job.json", react("v.mp4", "*.wav"))
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 4)
	for i := range 4 {
		if st := worldtest.WantStatus(t, w, fmt.Sprintf("ads/x/%d", i), ledger.Succeeded, ""); len(st.Warnings) > 0 {
			t.Errorf("the warnings of match %d are %q, want none", i, st.Warnings)
		}
	}
}

// A held job of a divided change keeps a message of its own. The deliveries of this message
// concern no other job.
func TestHeldJobsOfADividedChange(t *testing.T) {
	for _, change := range manyJobs {
		t.Run(change.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.SetBalanceEmpty(true)
			change.drop(t, w, 12)
			w.Pass(11 * time.Minute)
			sent, requests := 0, map[int]int{} // by invocation
			w.Before = func(c world.Call) error {
				switch {
				case c.Op == "SendMessage":
					sent++
				case c.Service == "s3" && c.Function == "submit":
					requests[c.Invocation]++
				}
				return nil
			}
			w.Pass(time.Hour)
			if most := slices.Max(slices.Collect(maps.Values(requests))); sent > 0 || len(requests) < 5*12 || len(requests) > 6*12 || most > 30 {
				t.Errorf("%d messages sent, and up to %d requests in each of %d deliveries; want no message, at most 30 requests, and 5 or 6 deliveries for each job", sent, most, len(requests))
			}
			for i := range 12 {
				worldtest.WantStatus(t, w, fmt.Sprintf(change.job, i), ledger.Held, problem.NoBalance)
			}
			w.RunComfy.SetBalanceEmpty(false)
			worldtest.Rest(t, w)
			worldtest.WantCharges(t, w, 12)
		})
	}
}

// The video of many jobs is deleted, and a new job.json no longer names many matches. Each of
// these two changes concerns many names, but no invocation makes more than mostRequests requests.
func TestManyJobsWithoutTheirFile(t *testing.T) {
	w := worldtest.New(t)
	w.RunComfy.SetBalanceEmpty(true)
	for _, change := range manyJobs {
		change.drop(t, w, 12)
	}
	w.Pass(5 * time.Minute)
	w.Delete("inbox/ads/talk.mp4")
	w.Drop("inbox/ads/x.job/job.json", react("v.mp4", "no*.wav"))
	count := map[int]int{}
	w.Before = func(c world.Call) error {
		if c.Function == "submit" && c.Service != "lambda" && c.Service != "runcomfy" {
			if count[c.Invocation]++; count[c.Invocation] == mostRequests+1 {
				t.Errorf("one invocation made %d requests, want at most %d", count[c.Invocation], mostRequests)
			}
		}
		return nil
	}
	worldtest.Rest(t, w)
	for i := range 12 {
		worldtest.WantStatus(t, w, fmt.Sprintf("ads/talk.%02d", i), ledger.Waiting, problem.WaitingForVisual)
		worldtest.WantStatus(t, w, fmt.Sprintf("ads/x/%02d", i), ledger.Withdrawn, problem.NoLongerNamed)
	}
	worldtest.WantCharges(t, w, 0)
}

// Only submit sends messages of this form, so a message that submit would not send is an error.
func TestMessagesOfSubmitAreParsedStrictly(t *testing.T) {
	const cause = `{"lipdrop": {"key": "inbox/talk.mp4", `
	const valid = "a message as submit sends it"
	tests := map[string]string{
		valid:                          cause + `"subjects": [{"stem": "inbox/talk.de"}]}}`,
		"another member":               cause + `"subjects": [{"stem": "inbox/talk.de"}], "x": 1}}`,
		"another member of a subject":  cause + `"subjects": [{"stem": "inbox/talk.de", "x": 1}]}}`,
		"a member beside lipdrop":      cause + `"subjects": [{"stem": "inbox/talk.de"}]}, "detail-type": "Object Created"}`,
		"neither subjects nor a limit": cause + `"last": true}}`,
		"subjects and a limit":         cause + `"subjects": [{"stem": "inbox/talk.de"}], "mostJobs": 5}}`,
		"a key outside inbox/":         `{"lipdrop": {"key": "outbox/talk.mp4", "subjects": [{"stem": "inbox/talk.de"}]}}`,
		"a stem outside inbox/":        cause + `"subjects": [{"stem": "status/talk.de"}]}}`,
		"an empty stem":                cause + `"subjects": [{"stem": "inbox/"}]}}`,
		"a file that is not a match":   cause + `"subjects": [{"stem": "inbox/x", "key": "inbox/talk.de.wav"}]}}`,
		"a match of another bundle":    cause + `"subjects": [{"stem": "inbox/x", "key": "inbox/y.job/a.wav"}]}}`,
		"a file that can have a job":   cause + `"subjects": [{"key": "inbox/talk.wav"}]}}`,
		"a hidden file":                cause + `"subjects": [{"key": "inbox/.txt"}]}}`,
		"a negative number":            cause + `"subjects": [{"stem": "inbox/talk.de", "beyond": -1}]}}`,
		"nothing":                      `{"lipdrop": {}}`,
		"a text":                       `{"lipdrop": "talk"}`,
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			w := worldtest.New(t)
			failed, err := w.Submit(events.SQSMessage{MessageId: "1", EventSource: "aws:sqs", Body: body})
			if err != nil || (len(failed) == 0) != (name == valid) {
				t.Errorf("failed messages %v, error %v; want a failed message: %t, and no error", failed, err, name != valid)
			}
			if st := w.Status("talk.de"); name != valid && st.State != "" {
				t.Errorf("talk.de is %s, want no status", st.State)
			}
		})
	}
}

// Even with the longest names, a message has at most 256 KiB: the queue of the world refuses a
// longer one. The messages leave out uploads that cannot belong to a job: the keys of such uploads
// may have control characters, which JSON makes six times as long.
func TestMessagesFitTheQueue(t *testing.T) {
	w := worldtest.New(t)
	setMaxJobs(w, 1000)
	stem := "inbox/" + strings.Repeat(`&/`, 300) + strings.Repeat(`&`, 350)
	for i := range 1000 {
		w.Put(fmt.Sprintf(`%s.%s%04d.wav`, stem, strings.Repeat(`&`, 50), i), nil)
	}
	clip, _ := sample.Files()
	w.Put(stem+".mp4", clip)
	batch := []events.SQSMessage{world.Message(stem + ".mp4")}
	for i := range 9 {
		batch = append(batch, world.Message(fmt.Sprintf("inbox/%d%s.wav", i, strings.Repeat("\x01", 1000))))
	}
	submit(t, w, batch...)
}
