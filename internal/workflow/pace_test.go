package workflow_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// At each turn, an execution enters three states: Wait, Poll and Ended?.
const transitionsPerTurn = 3

const (
	// responseTime is how long RunComfy takes to respond, and callTime is how long a
	// call of poll takes besides that.
	responseTime = 200 * time.Millisecond
	callTime     = 300 * time.Millisecond
)

// loop is what the loop of one execution did.
type loop struct {
	turns, questions int
	busy             time.Duration // how long all calls of poll took together
	late             time.Duration // from the end of the job to the response that reports it
}

// cost returns the list price of the loop in USD: the transitions, and poll with 128
// MB on arm64.
func (l loop) cost() float64 {
	return float64(transitionsPerTurn*l.turns)*0.025/1000 + l.busy.Seconds()*0.125*0.0000133334 + float64(l.turns)*0.20/1_000_000
}

// simulate runs the loop of the state machine and the poll function. The parameters are how
// long the job is queued, how long it runs, and how long a job of its model usually runs.
func simulate(t *testing.T, queue, run, usual time.Duration) loop {
	t.Helper()
	job := workflow.Job{SubmittedAt: submitted, UsualSeconds: int(usual.Seconds()), WaitSeconds: workflow.FirstWait}
	var did loop
	now, end := time.Duration(0), queue+run
	for !job.Ended {
		now += time.Duration(job.WaitSeconds) * time.Second
		did.turns++
		for began := now; ; now += workflow.AskEvery {
			now += responseTime
			status := runcomfy.Status{State: runcomfy.InProgress}
			switch {
			case now >= end:
				status.State = runcomfy.Completed
			case now < queue:
				status.State = runcomfy.InQueue
			}
			did.questions++
			nearEnd, err := job.Answered(status, after(now), workflow.Limits{Queue: 24 * time.Hour, Run: 48 * time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if !nearEnd || now+workflow.AskEvery-began > workflow.AskFor {
				did.late = now - end
				now += callTime
				did.busy += now - began
				break
			}
		}
	}
	return did
}

// The pace is as docs/reliability.md says: how late an end is found, and what the loop
// costs. Each row simulates 200 jobs that take about the time of the row. They are
// queued for 5 to 35 % of their time.
func TestPace(t *testing.T) {
	const jobs = 200
	var b strings.Builder
	b.WriteString("\n| the job takes | the model's usual time is | turns | questions | USD | mean delay | worst delay |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	sum, rows := 0.0, 0
	for _, takes := range []time.Duration{30 * time.Second, 100 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 24 * time.Hour} {
		for _, usual := range []struct {
			name   string
			factor float64
		}{{"right", 1}, {"half of it", 0.5}, {"twice as long", 2}} {
			var all loop
			var cost, share float64
			var worst time.Duration
			for i := range jobs {
				total := time.Duration(float64(takes) * math.Exp(0.25*(float64(i)/(jobs-1)-0.5)))
				queue := time.Duration(float64(total) * (0.05 + 0.3*math.Mod(float64(i)*math.Phi, 1)))
				did := simulate(t, queue, total-queue, time.Duration(usual.factor*float64(total-queue)))
				all.turns, all.questions, all.late = all.turns+did.turns, all.questions+did.questions, all.late+did.late
				cost, share, worst = cost+did.cost()/jobs, share+float64(did.late)/float64(total)/jobs, max(worst, did.late)
			}
			mean := all.late / jobs
			fmt.Fprintf(&b, "| %v | %s | %.1f | %.1f | %.5f | %.1f s | %.1f s |\n", takes, usual.name, float64(all.turns)/jobs, float64(all.questions)/jobs, cost, mean.Seconds(), worst.Seconds())
			if takes <= 5*time.Minute && mean > 4*time.Second {
				t.Errorf("%v, %s: found %v late on average, want at most 4 s", takes, usual.name, mean)
			}
			if takes > 5*time.Minute && share > 0.03 {
				t.Errorf("%v, %s: found %.1f %% of the job's time late on average, want at most 3 %%", takes, usual.name, 100*share)
			}
			if takes <= 2*time.Hour {
				sum, rows = sum+share, rows+1
			}
		}
	}
	if mean := sum / float64(rows); mean > 0.03 {
		t.Errorf("over all rows up to 2 h: %.1f %% of the job's time late on average, want at most 3 %%", 100*mean)
	}
	golden.CompareBetween(t, "../../docs/reliability.md", "<!-- pace -->", b.String()+"\n")
}

// A job that is queued for 20 s and runs for 80 s takes at most 20 transitions, and
// its end is found at most 4 s late.
func TestPaceOfATypicalJob(t *testing.T) {
	for _, usual := range []time.Duration{40 * time.Second, 80 * time.Second, 111 * time.Second, 160 * time.Second} {
		did := simulate(t, 20*time.Second, 80*time.Second, usual)
		const startAndArchive = 2
		if transitions := transitionsPerTurn*did.turns + startAndArchive; transitions > 20 || did.late > 4*time.Second {
			t.Errorf("usually %v: %d transitions, found %v late, want at most 20 and 4 s", usual, transitions, did.late)
		}
	}
}

// A job of 23 h makes fewer than 2,000 turns. A turn makes 9 events, so these turns fit into
// the 25,000 events that the history of an execution can hold.
func TestPaceOfADay(t *testing.T) {
	for _, usual := range []time.Duration{0, 90 * time.Second, time.Hour, 24 * time.Hour} {
		did := simulate(t, 5*time.Hour, 18*time.Hour, usual)
		t.Logf("usually %v: %d turns", usual, did.turns)
		if did.turns >= 2000 {
			t.Errorf("usually %v: %d turns, want under 2,000", usual, did.turns)
		}
	}
}

// While a job is queued, each call of the poll function asks RunComfy only once.
func TestQueuedJobIsAskedOncePerTurn(t *testing.T) {
	job := workflow.Job{SubmittedAt: submitted, UsualSeconds: 90}
	for now := time.Second; now < 5*time.Hour; now += time.Duration(job.WaitSeconds) * time.Second {
		nearEnd, err := job.Answered(runcomfy.Status{State: runcomfy.InQueue}, after(now), limits)
		if nearEnd || err != nil {
			t.Fatalf("after %v: near the end: %t, err %v, want false and none", now, nearEnd, err)
		}
	}
}
