package template

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

// machine is the part of statemachine.asl.json that these tests read.
type machine struct {
	TimeoutSeconds int
	States         map[string]struct {
		Type           string
		Resource       string
		Arguments      struct{ FunctionName string }
		TimeoutSeconds int
		Retry          []retrier
	}
}

type retrier struct {
	ErrorEquals                                   []string
	IntervalSeconds, MaxAttempts, MaxDelaySeconds int
	BackoffRate                                   float64
	JitterStrategy                                string
}

func shippedMachine(t *testing.T) machine {
	t.Helper()
	var m machine
	if err := json.Unmarshal(lipdrop.Machine, &m); err != nil {
		t.Fatalf("statemachine.asl.json with its ${…} placeholders is not JSON: %v", err)
	}
	return m
}

func timeoutOf(t *testing.T, s stack, id string) time.Duration {
	t.Helper()
	return time.Duration(properties[struct{ Timeout int }](t, s, id).Timeout) * time.Second
}

// A request to RunComfy times out before its function. A function times out before its task. The
// machine's timeout is longer than the longest job with all retries. So each caller receives the
// error of what it called.
func TestTimeoutsNest(t *testing.T) {
	m := shippedMachine(t)
	forBothForms(t, func(t *testing.T, s stack) {
		for _, id := range functions {
			if got := timeoutOf(t, s, id); got <= runcomfy.Timeout {
				t.Errorf("%s times out after %v, want more than the %v of a request to RunComfy", id, got, runcomfy.Timeout)
			}
		}
		longest := time.Duration(s.Parameters["QueueHours"].MaxValue+s.Parameters["MaxHours"].MaxValue) * time.Hour
		for _, task := range []struct{ state, function string }{{"Poll", "PollFunction"}, {"Archive", "ArchiveFunction"}} {
			state := m.States[task.state]
			limit := time.Duration(state.TimeoutSeconds) * time.Second
			if got := timeoutOf(t, s, task.function); got >= limit {
				t.Errorf("%s times out after %v, want less than the %v of its task", task.function, got, limit)
			}
			tries := 1
			for _, r := range state.Retry {
				tries += r.MaxAttempts
				longest += r.longest()
			}
			longest += time.Duration(tries) * limit
		}
		if limit := time.Duration(m.TimeoutSeconds) * time.Second; longest >= limit {
			t.Errorf("the longest job and all retries take %v, want less than the %v of the machine", longest, limit)
		}
	})
}

// longest returns how long a retrier waits in total if every attempt fails.
func (r retrier) longest() time.Duration {
	var sum float64
	for attempt := range r.MaxAttempts {
		sum += min(float64(r.IntervalSeconds)*math.Pow(r.BackoffRate, float64(attempt)), float64(r.MaxDelaySeconds))
	}
	return time.Duration(sum) * time.Second
}

// AWS recommends a visibility timeout of at least six times the function's timeout:
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
const visibilityOverTimeout = 6

func TestTheQueueTriesForADay(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		drops := properties[queue](t, s, "Queue")
		visible := time.Duration(drops.VisibilityTimeout) * time.Second
		if timeout := timeoutOf(t, s, "SubmitFunction"); visible < visibilityOverTimeout*timeout {
			t.Errorf("a message comes back after %v, want at least %d times the %v of SubmitFunction", visible, visibilityOverTimeout, timeout)
		}
		tried := time.Duration(drops.RedrivePolicy.MaxReceiveCount) * visible
		if tried < 24*time.Hour || tried > 30*time.Hour {
			t.Errorf("a message is tried for %v, want 24 to 30 hours", tried)
		}
		for _, id := range []string{"Queue", "DeadLetterQueue"} {
			// SQS does not reset the age of a message that it moves to DeadLetterQueue.
			if kept := time.Duration(properties[queue](t, s, id).MessageRetentionPeriod) * time.Second; kept < tried+7*24*time.Hour {
				t.Errorf("%s keeps a message for %v, want at least a week longer than the %v for which it is tried", id, kept, tried)
			}
		}
	})
}

// If submit dies on a message each time, OldestMessageAlarm goes off before the third try. From
// the third try on, SQS leaves the message out of the metric:
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
func TestAMessageThatAlwaysFailsRaisesAnAlarm(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		a := properties[struct{ Threshold int }](t, s, "OldestMessageAlarm")
		const margin = 120 // seconds
		least := int(s.Parameters["SettleSeconds"].MaxValue) + margin
		most := 2*properties[queue](t, s, "Queue").VisibilityTimeout - margin
		if a.Threshold < least || a.Threshold > most {
			t.Errorf("the alarm goes off after %d s, want %d s to %d s: at least %d s after the longest SettleSeconds, and at least %d s before the third try", a.Threshold, least, most, margin, margin)
		}
	})
}

// A deletion is tried for at least 12 hours. The pause between two tries is at most five
// minutes, because the job may start in the meantime.
func TestDeletionsAreTriedForHours(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		deletions := properties[queue](t, s, "DeletionQueue")
		pause := time.Duration(deletions.VisibilityTimeout) * time.Second
		if timeout := timeoutOf(t, s, "CancelFunction"); pause <= timeout || pause > 5*time.Minute {
			t.Errorf("a deletion comes back after %v, want more than the %v of CancelFunction and at most 5 minutes", pause, timeout)
		}
		if tried := time.Duration(deletions.RedrivePolicy.MaxReceiveCount) * pause; tried < 12*time.Hour {
			t.Errorf("a deletion is tried for %v, want at least 12 hours", tried)
		}
	})
	source := properties[eventSource](t, transformed(t), "CancelFunctionDeletions")
	if source.EventSourceArn != "DeletionQueue.Arn" || source.FunctionName != "CancelFunction" || source.BatchSize != 10 ||
		!slices.Equal(source.FunctionResponseTypes, []string{"ReportBatchItemFailures"}) || source.ScalingConfig.MaximumConcurrency != "2" {
		t.Errorf("deletions are read by %+v, want two batches of 10 at a time for CancelFunction, with ReportBatchItemFailures", source)
	}
}

// eventSource says how a function reads a queue.
type eventSource struct {
	EventSourceArn, FunctionName string
	BatchSize                    int
	FunctionResponseTypes        []string
	ScalingConfig                struct{ MaximumConcurrency json.Number }
}

// SQS delivers only failed messages again. At most SubmitConcurrency batches run at the same time.
func TestSubmitReportsWhatFailed(t *testing.T) {
	s := transformed(t)
	source := properties[eventSource](t, s, "SubmitFunctionDrops")
	if source.EventSourceArn != "Queue.Arn" || source.FunctionName != "SubmitFunction" {
		t.Errorf("%s is read by %s, want Queue.Arn by SubmitFunction", source.EventSourceArn, source.FunctionName)
	}
	if !slices.Equal(source.FunctionResponseTypes, []string{"ReportBatchItemFailures"}) {
		t.Errorf("the function's response is read as %v, want ReportBatchItemFailures", source.FunctionResponseTypes)
	}
	if got, want := source.ScalingConfig.MaximumConcurrency, s.Parameters["SubmitConcurrency"].Default; got != want {
		t.Errorf("%v batches at the same time, want the %v of SubmitConcurrency", got, want)
	}
}
