package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

func jobIn(name string, state ledger.State, change ...func(*followed)) *followed {
	job := &followed{Status: client.Status{Status: ledger.Status{Name: name, State: state}}}
	for _, c := range change {
		c(job)
	}
	return job
}

func TestSummary(t *testing.T) {
	estimated := func(j *followed) { j.ExpectedSeconds, j.EstimateUSD = 10, new(0.5) }
	charged := func(j *followed) { j.ExpectedSeconds, j.EstimateUSD, j.CostUSD = 10, new(0.5), new(0.25) }
	const want = "7 jobs: 1 rejected, 1 held, 1 in_progress, 1 succeeded, 2 failed, 1 cancelled; 20.0 s of output; $1.00" // the seconds of a and b; the costs of a and c, and the estimate of b
	if got := summary([]*followed{
		jobIn("a", ledger.Succeeded, charged), jobIn("b", ledger.InProgress, estimated), jobIn("c", ledger.Failed, charged),
		jobIn("d", ledger.Failed, estimated), jobIn("e", ledger.Cancelled, estimated), jobIn("f", ledger.Held, estimated), jobIn("g", ledger.Rejected, estimated),
	}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// watch draws one line for each job. If there are more jobs than lines, it draws a summary
// and the most urgent jobs.
func TestBoardOnATerminal(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	queued := func(j *followed) { j.QueuePosition, j.since = new(2), now.Add(-40*time.Second) }
	runs := func(j *followed) { j.since, j.usual = now.Add(-100*time.Second), 90*time.Second }
	failed := func(j *followed) {
		j.Code, j.Reason, j.Remedy = "job_failed", "no face was found", "Use another video."
	}
	priced := func(j *followed) { j.ExpectedSeconds, j.EstimateUSD = 10, new(0.8) }
	many := []*followed{jobIn("z", ledger.Unknown), jobIn("y", ledger.Failed, failed), jobIn("x", ledger.InQueue)}
	for i := range 10 {
		many = append(many, jobIn(fmt.Sprintf("ok%d", i), ledger.Succeeded, priced))
	}
	for _, tt := range []struct {
		name          string
		jobs          []*followed
		columns, rows int
		want          []string
		below         string // what close prints below the lines
	}{
		{"a queued job, a running job, and a job that has ended", []*followed{jobIn("a", ledger.InQueue, queued), jobIn("b", ledger.InProgress, runs), jobIn("c", ledger.Succeeded)}, 80, 24,
			[]string{"a: in_queue, 2 jobs ahead, 40s", "b: in_progress, 1m40s (usually runs for 1m30s)", "c: succeeded"}, ""},
		{"a job whose output is doubtful", []*followed{jobIn("a", ledger.Succeeded, func(j *followed) { j.Verdict = ledger.VerdictDoubtful })}, 80, 24, []string{"a: succeeded, doubtful"}, ""},
		{"a narrow terminal", []*followed{jobIn("ads/talk", ledger.Failed, failed)}, 30, 24, []string{"ads/talk: failed (job_failed…"},
			"\nads/talk: failed (job_failed): no face was found. Use another video.\n"},
		{"a name with control characters", []*followed{jobIn("a\x1b[2J", ledger.Succeeded)}, 80, 24, []string{`a\x1b[2J: succeeded`}, ""},
		{"more jobs than lines", many, 60, 6, []string{
			"13 jobs: 1 in_queue, 10 succeeded, 1 failed, 1 unknown; 10…", "y: failed (job_failed): no face was found. Use another vid…", "z: unknown", "x: in_queue",
		}, "\ny: failed (job_failed): no face was found. Use another video.\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			b := newBoard(&terminal{w: &out}, false)
			b.now, b.size = func() time.Time { return now }, func() (int, int) { return tt.columns, tt.rows }
			for _, job := range tt.jobs {
				if err := b.change(job); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, b.lines(tt.columns, tt.rows)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			out.Reset()
			b.draw()
			want := fmt.Sprintf("\x1b[%dA", len(tt.want))
			for _, line := range tt.want {
				want += "\r\x1b[2K" + line + "\n"
			}
			if diff := cmp.Diff(want+"\x1b[J", out.String()); diff != "" {
				t.Errorf("drawn again (-want +got):\n%s", diff)
			}
			out.Reset()
			b.close(false)
			if diff := cmp.Diff(want+"\x1b[J"+tt.below, out.String()); diff != "" {
				t.Errorf("drawn at the end (-want +got):\n%s", diff)
			}
		})
	}
}

// If some jobs have no line on the terminal, watch prints the most urgent problems when it ends, but
// no problem after Ctrl-C.
func TestBoardOfManyProblems(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		var out bytes.Buffer
		b := newBoard(&terminal{w: &out}, false)
		b.size = func() (int, int) { return 80, 24 }
		for i := range 400 {
			name, state := fmt.Sprintf("ads/%03d", i), ledger.Held
			if i == 399 {
				state = ledger.Failed
			}
			b.jobs[name] = jobIn(name, state, func(j *followed) { j.Code, j.Reason, j.Remedy = "c", "it is so", "Do this." })
		}
		b.close(interrupted)
		lines, below, _ := strings.Cut(out.String(), "\x1b[J")
		if !strings.Contains(lines, "400 jobs: 399 held, 1 failed") {
			t.Errorf("interrupted %t: drawn %q, want a summary", interrupted, lines)
		}
		const first, last = "\nads/399: failed (c): it is so. Do this.\n", "\nand 370 more problems; to list all jobs, run: lipdrop jobs\n"
		whole := strings.HasPrefix(below, first) && strings.HasSuffix(below, last) && strings.Count(below, "Do this.") == mostShown
		if interrupted && below != "" || !interrupted && !whole {
			t.Errorf("interrupted %t: printed %q, want nothing after an interrupt, or else %d problems from %q to %q", interrupted, below, mostShown, first, last)
		}
	}
}

// newFollower returns a follower of the statuses in storage, and the buffer that it prints to.
func newFollower(storage *s3test.Bucket, names []client.Pattern, timeout time.Duration) (*follower, *bytes.Buffer) {
	b, out := &bucket.Bucket{S3: storage, Name: "drops"}, new(bytes.Buffer)
	return &follower{
		stack: &client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b}}, board: newBoard(&terminal{w: out}, false),
		say: messages{&terminal{w: out}}, wanted: names, listed: names, timeout: timeout,
	}, out
}

// watch does not wait for ever for a name without a status, and follows a job whose
// status comes late.
func TestFollowOfNames(t *testing.T) {
	status := func(storage *s3test.Bucket, name string, state ledger.State) {
		storage.Set(ledger.StatusKey(name), bucket.JSON(ledger.Status{Name: name, State: state}, ""))
	}
	for _, tt := range []struct {
		name    string
		wanted  []client.Pattern
		timeout time.Duration
		play    func(*s3test.Bucket)
		out     string // what is printed, if the test compares it
		code    int    // the exit code for the states of the jobs
		err     string
		errCode int // the exit code for the error
	}{
		{name: "a status that comes after a minute", wanted: []client.Pattern{{Text: "talk"}}, out: "talk has no status yet; a drop gets one within about 20 seconds. If none comes, watch ends after 5m00s\n" +
			"The name is the path below inbox/, without the suffix. Run: lipdrop jobs\ntalk: waiting\ntalk: succeeded\n", play: func(b *s3test.Bucket) {
			time.AfterFunc(time.Minute, func() { status(b, "talk", ledger.Waiting) })
			time.AfterFunc(time.Hour, func() { status(b, "talk", ledger.Succeeded) })
		}},
		{name: "three names: each first status starts the wait for the others anew", wanted: []client.Pattern{{Text: "a"}, {Text: "b"}, {Text: "c"}}, play: func(b *s3test.Bucket) {
			for i, name := range []string{"a", "b", "c"} {
				time.AfterFunc(time.Duration(i+1)*missingTime*3/4, func() { status(b, name, ledger.Succeeded) })
			}
		}},
		{name: "a name that nobody dropped", wanted: []client.Pattern{{Text: "tolk"}}, play: func(*s3test.Bucket) {},
			err: "there is no job named tolk. No status came within 5m00s. Run: lipdrop doctor", errCode: exitFailed},
		{name: "a folder that nobody dropped", wanted: []client.Pattern{{Text: "ads/", Prefix: true}}, timeout: time.Minute, play: func(*s3test.Bucket) {},
			out: "no job that matches ads/ has a status yet; a drop gets one within about 20 seconds. If none comes, watch ends after 1m00s\nRun: lipdrop jobs\n",
			err: "time ran out after 1m0s; no job that matches ads/ has a status yet", errCode: exitTimeout},
		{name: "a folder with jobs that end in different ways", wanted: []client.Pattern{{Text: "ads/", Prefix: true}}, play: func(b *s3test.Bucket) {
			status(b, "ads/a", ledger.Unknown)
			status(b, "ads/b", ledger.InProgress)
			time.AfterFunc(time.Hour, func() { status(b, "ads/b", ledger.Failed) })
		}, code: exitFailed},
		{name: "a job that needs a person when the time runs out", wanted: []client.Pattern{{Text: "talk"}}, timeout: time.Hour, play: func(b *s3test.Bucket) {
			status(b, "talk", ledger.Held)
		}, err: "time ran out after 1h0m0s; 1 job continues", errCode: exitHeldOrUnknown},
		{name: "a job that needs a person, and one without a status, when the time runs out", wanted: []client.Pattern{{Text: "a"}, {Text: "b"}}, timeout: time.Minute, play: func(b *s3test.Bucket) {
			status(b, "a", ledger.Held)
		}, err: "time ran out after 1m0s; 1 job continues, and b has no status yet", errCode: exitTimeout},
		{name: "a job that needs a person, and one that is queued, when the time runs out", wanted: []client.Pattern{{Text: "ads/", Prefix: true}}, timeout: time.Hour, play: func(b *s3test.Bucket) {
			status(b, "ads/a", ledger.Held)
			status(b, "ads/b", ledger.InQueue)
		}, err: "time ran out after 1h0m0s; 2 jobs continue", errCode: exitTimeout},
		{name: "jobs that wait for files, and one that is queued, when the time runs out", wanted: []client.Pattern{{Text: "a"}, {Text: "b"}, {Text: "c"}}, timeout: time.Hour, play: func(b *s3test.Bucket) {
			status(b, "a", ledger.Waiting)
			status(b, "b", ledger.Waiting)
			status(b, "c", ledger.InQueue)
		}, err: "time ran out after 1h0m0s; 1 job continues, and 2 jobs wait for files", errCode: exitTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				storage := new(s3test.Bucket)
				tt.play(storage)
				f, out := newFollower(storage, tt.wanted, tt.timeout)
				code, err := f.untilEnd(t.Context())
				if code != tt.code || tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err || exitCode(t.Context(), err) != tt.errCode) {
					t.Errorf("code %d, error %v with exit code %d; want code %d, error %q with exit code %d", code, err, exitCode(t.Context(), err), tt.code, tt.err, tt.errCode)
				}
				if tt.out != "" && out.String() != tt.out {
					t.Errorf("printed %q, want %q", out.String(), tt.out)
				}
			})
		})
	}
}

// On a terminal, the hint about a name without a status is not overwritten when the lines are
// drawn again.
func TestHintAboveTheLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(s3test.Bucket)
		end := func(name string) {
			storage.Set(ledger.StatusKey(name), bucket.JSON(ledger.Status{Name: name, State: ledger.Succeeded}, ""))
		}
		end("a")
		time.AfterFunc(time.Minute, func() { end("b") })
		f, out := newFollower(storage, exactly([]string{"a", "b"}), 0)
		f.board.size = func() (int, int) { return 80, 24 }
		if _, err := f.untilEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		const a, both = "\r\x1b[2Ka: succeeded\n", "\r\x1b[2Ka: succeeded\n\r\x1b[2Kb: succeeded\n\x1b[J"
		want := a + "\x1b[J\x1b[1A\x1b[J" +
			"b has no status yet; a drop gets one within about 20 seconds. If none comes, watch ends after 5m00s\nThe name is the path below inbox/, without the suffix. Run: lipdrop jobs\n" +
			a + "\x1b[J\x1b[1A" + both + "\x1b[2A" + both
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("printed (-want +got):\n%s", diff)
		}
	})
}

// show says that a status cannot be read, and prints no time of its last change.
func TestShowUnreadableStatus(t *testing.T) {
	var out bytes.Buffer
	showJob(&terminal{w: &out}, client.Job{Status: ledger.Status{Name: "talk"}})
	if want := "talk: the status cannot be read\n"; out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
}

// A status that an earlier version of lipdrop wrote has no verdict.
func TestDetailWithoutAVerdict(t *testing.T) {
	if got, want := detail(ledger.Status{State: ledger.Succeeded, Outputs: []string{"outbox/a.mp4"}}), "1 output, unchecked"; got != want {
		t.Errorf("detail returned %q, want %q", got, want)
	}
}
