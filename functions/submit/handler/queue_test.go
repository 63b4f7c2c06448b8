package handler_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// A job that RunComfy does not accept for now is submitted once, soon, and not before
// the time in Retry-After has passed.
func TestHeldJobComesBackSoon(t *testing.T) {
	throttled := func(retryAfter string) runcomfytest.Fault {
		fault := runcomfytest.Fault{Name: "429", Status: http.StatusTooManyRequests}
		if retryAfter != "" {
			fault.Header = http.Header{"Retry-After": {retryAfter}}
		}
		return fault
	}
	tests := []struct {
		name          string
		fault         runcomfytest.Fault
		lasts         time.Duration // how long RunComfy refuses; 0: only the first POST
		least, within time.Duration // from the first POST to the accepted one
	}{
		{"a short Retry-After", throttled("2"), 0, 2 * time.Second, 10 * time.Second},
		{"a longer Retry-After", throttled("90"), 0, 90 * time.Second, 110 * time.Second},
		{"no Retry-After", throttled(""), 0, 0, 40 * time.Second},
		{"refused for 20 seconds without Retry-After", throttled(""), 20 * time.Second, 0, 2 * time.Minute},
		{"refused for ten minutes with a short Retry-After", throttled("2"), 10 * time.Minute, 0, 25 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10 // both files in one call
			worldtest.Faulty(w, runcomfytest.CallSubmit, tt.fault, tt.lasts)
			var first time.Time
			posts := func(c world.Call) bool { return c.Service == "runcomfy" && c.Op == "submit" }
			worldtest.BeforeFirst(t, w, posts, func() { first = w.Now() })
			worldtest.DropPair(w)
			w.Run(12 * time.Second)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if took := w.Takes("ads/talk")[0].Times.Submitted.Sub(first); took < tt.least || took > tt.within {
				t.Errorf("submitted after %v, want %v to %v", took, tt.least, tt.within)
			}
		})
	}
}

// A held job does not raise OldestMessageAlarm, even if a cap of the day holds it until midnight:
// SQS leaves a message out of the alarm's metric after three deliveries, and the message of a held
// job is delivered at least four times within two minutes.
func TestHeldJobIsDeliveredFourTimesInTwoMinutes(t *testing.T) {
	for _, code := range []problem.Code{problem.NoBalance, problem.OverBudget} {
		t.Run(string(code), func(t *testing.T) {
			w := worldtest.New(t)
			w.RunComfy.SetBalanceEmpty(true)
			if code == problem.OverBudget {
				setCaps(w, budget.Caps{USD: 0.01})
			}
			deliveries := 0
			w.Before = func(c world.Call) error {
				if c.Function == "submit" && c.Service == "lambda" {
					deliveries++
				}
				return nil
			}
			dropOnce(w)
			w.Run(2 * time.Minute)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Held, code)
			if deliveries < 4 {
				t.Errorf("delivered %d times in two minutes, want at least 4", deliveries)
			}
		})
	}
}

// Lambda detects endless loops by a header that the SDK adds to requests to SQS. Send leaves out
// this header if the message begins a new chain.
func TestNewChainHasNoHeader(t *testing.T) {
	t.Setenv("AWS_LAMBDA_FUNCTION_NAME", "submit")
	t.Setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=15:a87bd80c:0")
	var header []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Values("X-Amzn-Trace-Id")
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	queue := handler.SQS{URL: server.URL + "/queue", Client: sqs.New(sqs.Options{
		BaseEndpoint: &server.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, DisableMessageChecksumValidation: true,
	})}
	for _, newChain := range []bool{false, true} {
		if err := queue.Send(t.Context(), "{}", newChain); err != nil {
			t.Fatal(err)
		}
		if (len(header) == 0) != newChain {
			t.Errorf("new chain %t: the header is %q, want one only if the chain is not new", newChain, header)
		}
	}
}

// RunComfy accepts five jobs a second and refuses the others with 429. The jobs of
// 200 pairs that are dropped at once are submitted within two minutes, each once.
func TestBurst(t *testing.T) {
	if testing.Short() {
		t.Skip("so many jobs take long with the race detector")
	}
	const jobs, perSecond = 200, 5
	w := worldtest.New(t)
	w.Batch = 10
	accepted := map[int64]int{} // by second
	refusal := runcomfytest.Fault{Name: "429", Status: http.StatusTooManyRequests}
	w.RunComfy.Fault = func(r *http.Request, _ []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(r); call != runcomfytest.CallSubmit {
			return nil
		}
		second := w.Now().Unix()
		if accepted[second] == perSecond {
			return &refusal
		}
		accepted[second]++
		return nil
	}
	worldtest.DropMany(w, "%d/talk", jobs)
	worldtest.Rest(t, w)
	var last time.Duration
	for i := range jobs {
		takes := w.Takes(fmt.Sprintf("%d/talk", i))
		if len(takes) != 1 || takes[0].State != ledger.Succeeded {
			t.Fatalf("takes of job %d: %+v, want one that has succeeded", i, takes)
		}
		last = max(last, takes[0].Times.Submitted.Sub(world.Begin))
	}
	worldtest.WantCharges(t, w, jobs)
	if last > 2*time.Minute {
		t.Errorf("the last job was submitted %v after the drop, want at most 2 min", last)
	}
}

// RunComfy refuses a job and asks for pauses of five hours. When the job's messages are a day old,
// the job is tried once more, and the messages become dead letters. When they are put back into
// the queue, the job is submitted.
func TestMessageIsRetriedForADay(t *testing.T) {
	w := worldtest.New(t)
	w.Batch = 10
	refusal := runcomfytest.Fault{Name: "429", Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"18000"}}}
	posts := worldtest.Faulty(w, runcomfytest.CallSubmit, refusal, 48*time.Hour)
	worldtest.DropPair(w)
	w.Pass(24 * time.Hour)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled); strings.Contains(st.Reason, "no longer retries") {
		t.Errorf("after a day the reason is %q, want one without \"no longer retries\"", st.Reason)
	}
	before := *posts
	w.Pass(6*time.Hour + 10*time.Minute)
	if st := worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled); !strings.Contains(st.Reason, "no longer retries") {
		t.Errorf("after 30 hours the reason is %q, want \"no longer retries\"", st.Reason)
	}
	if *posts != before+1 || len(w.Dead) != 2 {
		t.Errorf("%d POSTs after a day and %d dead letters, want 1 and 2", *posts-before, len(w.Dead))
	}
	w.RunComfy.Fault = nil
	w.RedriveDeadLetters()
	worldtest.Rest(t, w)
	worldtest.WantArchived(t, w)
}

// If SQS refuses to postpone a message, or the function dies before it postpones the message, the
// message comes back after the visibility timeout of the queue.
func TestMessageThatIsNotPostponed(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func() error
	}{
		{"SQS refuses", func() error { return errors.New("throttled") }},
		{"the function dies", func() error { panic(world.Crash{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Batch = 10
			worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429 with Retry-After"), 0)
			w.Before = func(c world.Call) error {
				if c.Service == "sqs" {
					return tt.fail()
				}
				return nil
			}
			worldtest.DropPair(w)
			w.Run(11 * time.Minute)
			worldtest.WantStatus(t, w, "ads/talk", ledger.Held, problem.Throttled)
			worldtest.Rest(t, w)
			worldtest.WantArchived(t, w)
			if at := w.Takes("ads/talk")[0].Times.Submitted.Sub(world.Begin); at < 12*time.Minute || at > 13*time.Minute {
				t.Errorf("submitted after %v, want 12 to 13 min", at)
			}
		})
	}
}
