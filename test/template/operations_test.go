package template

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

const operations = "docs/operations.md"

// docs/operations.md describes each alarm of the template, and no others.
func TestDocumentOfAlarms(t *testing.T) {
	missing := ofType(written(t, nil), "AWS::CloudWatch::Alarm")
	_, section, _ := strings.Cut(string(read(t, operations)), "\n## Alarms\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		id, ok := strings.CutPrefix(line, "| **")
		id, _, found := strings.Cut(id, "** |")
		if !ok || !found {
			continue
		}
		if !missing[id] {
			t.Errorf("%s describes %s, which is not an alarm, or describes it twice", operations, id)
		}
		delete(missing, id)
	}
	for id := range missing {
		t.Errorf("%s does not describe %s", operations, id)
	}
}

// docs/operations.md has the number of alarms and of metrics, and what they cost a month.
func TestDocumentOfAMonth(t *testing.T) {
	s := written(t, nil)
	metrics := map[string]bool{}
	for id := range ofType(s, "AWS::Logs::MetricFilter") {
		for _, tr := range properties[metricFilter](t, s, id).MetricTransformations {
			metrics[tr.MetricName] = true
		}
	}
	alarms := len(ofType(s, "AWS::CloudWatch::Alarm"))
	text := string(read(t, operations))
	for _, row := range []string{
		fmt.Sprintf("| the %d alarms, at 0.10 | %.2f |", alarms, float64(alarms)*0.10),
		fmt.Sprintf("| the %d metrics of the log filters, at 0.30,", len(metrics)),
		fmt.Sprintf("ten are free | %.2f |", float64(len(metrics))*0.30),
	} {
		if !strings.Contains(text, row) {
			t.Errorf("%s does not have %q", operations, row)
		}
	}
}

// countedQueue and countedRun are how long the counted job is queued and runs.
const (
	countedQueue = 20 * time.Second
	countedRun   = 80 * time.Second
)

// assumedSeconds is how many seconds an invocation is assumed to take, without its pauses. With
// small media it takes less.
var assumedSeconds = map[string]float64{"submit": 2, "poll": 0.5, "archive": 5}

// mostUSD is the most that the counted job may cost in AWS, and mostLate is how late poll
// may notice the end of the job.
const (
	mostUSD  = 0.0010
	mostLate = 4 * time.Second
)

const (
	// assumedLine is how many bytes a line of a log has, with what CloudWatch adds.
	assumedLine = 500
	// lambdaLines is how many lines Lambda itself logs for a call: the start and the report.
	lambdaLines = 2
)

// requests holds, by function and operation such as "s3 PutObject", how many calls the function makes
// for one job. The number for "lambda Invoke" is how often the function itself is invoked.
type requests map[string]map[string]int

// of returns how many calls of some operations a function made. If function is empty, it
// returns the number for all functions.
func (r requests) of(function string, operations ...string) int {
	sum := 0
	for name, calls := range r {
		for _, operation := range operations {
			if function == "" || function == name {
				sum += calls[operation]
			}
		}
	}
	return sum
}

// counted is what one job took.
type counted struct {
	requests
	entered int           // how many states the execution entered
	paused  time.Duration // the sum of the pauses between requests for the status in the same invocation of poll
	lines   int           // how many lines the functions logged
	expired int           // versions of objects that the functions replaced; a lifecycle rule removes them later
}

type lineCounter int

func (n *lineCounter) Write(line []byte) (int, error) {
	*n++ // a slog.Handler makes one Write for each record
	return len(line), nil
}

// count runs the job of a pair in a world and counts what it takes.
func count(t *testing.T) counted {
	t.Helper()
	var lines lineCounter
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&lines, nil)))
	t.Cleanup(func() { slog.SetDefault(previous) })
	w := worldtest.New(t)
	w.RunComfy.Queue, w.RunComfy.Run = countedQueue, countedRun
	made, written, expired := requests{}, map[string]bool{}, 0
	var paused time.Duration
	asked := map[int]time.Time{} // when each call of poll last asked for the status
	w.Before = func(c world.Call) error {
		if c.Service == "runcomfy" && c.Op == "status" {
			if last, ok := asked[c.Invocation]; ok {
				paused += w.Now().Sub(last)
			}
			asked[c.Invocation] = w.Now()
		}
		if c.Op == "PutObject" {
			if written[c.Key] {
				expired++
			}
			written[c.Key] = true
		}
		if made[c.Function] == nil {
			made[c.Function] = map[string]int{}
		}
		made[c.Function][c.Service+" "+c.Op]++
		return nil
	}
	worldtest.DropPairs(w, "talk")
	for w.Status("talk").State != ledger.Succeeded {
		if !w.Step(time.Hour) {
			t.Fatalf("the job does not end: %+v", w.Status("talk"))
		}
	}
	rec := w.Takes("talk")[0]
	late := rec.Times.Archiving.Sub(rec.Times.Submitted) - countedQueue - countedRun
	if late > mostLate {
		t.Errorf("the end was noticed %v late, want at most %v", late, mostLate)
	}
	return counted{made, len(w.Path("talk", w.Status("talk").Take)), paused, int(lines), expired}
}

// The operations of S3 by what they cost. An output of more than 64 MiB would
// add a call for each part of 5 MiB. Such a call costs as much as a PUT.
var (
	costly = []string{"s3 PutObject", "s3 ListObjectsV2", "s3 CreateMultipartUpload", "s3 UploadPart", "s3 CompleteMultipartUpload"}
	cheap  = []string{"s3 GetObject", "s3 HeadObject"}
)

// docs/operations.md lists the calls of AWS and RunComfy for one job, and what AWS charges for them.
func TestDocumentOfCosts(t *testing.T) {
	made := count(t)
	s := written(t, nil)
	var b strings.Builder
	b.WriteString("\n| | calls | S3 PUT, LIST | S3 GET, HEAD | Secrets Manager | Step Functions | RunComfy |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	gigabyteSeconds := 0.0
	var compute []string
	for _, name := range []string{"submit", "poll", "archive"} {
		calls := made.of(name, "lambda Invoke")
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", name, calls, made.of(name, costly...), made.of(name, cheap...),
			made.of(name, "secretsmanager GetSecretValue"), made.of(name, "states StartExecution"),
			made.of(name, "runcomfy submit", "runcomfy status", "runcomfy result"))
		memory := properties[struct{ MemorySize float64 }](t, s, strings.ToUpper(name[:1])+name[1:]+"Function").MemorySize / 1024
		gigabyteSeconds += float64(calls) * assumedSeconds[name] * memory
		compute = append(compute, fmt.Sprintf("%s %d × %g s × %g GB", name, calls, assumedSeconds[name], memory))
		if name == "poll" {
			gigabyteSeconds += made.paused.Seconds() * memory
			compute = append(compute, fmt.Sprintf("poll's pauses between requests %g s × %g GB", made.paused.Seconds(), memory))
		}
	}
	b.WriteString("\n| what | how many | USD each | USD |\n| --- | --- | --- | --- |\n")
	const dropped = 2 // files: put by a person, fetched by RunComfy
	puts := made.of("", costly...) + dropped
	logged := made.lines + lambdaLines*made.of("", "lambda Invoke")
	total := 0.0
	for _, row := range []struct {
		what string
		many float64
		how  string
		each float64
	}{
		{"Step Functions: state transitions", float64(made.entered + 1), fmt.Sprintf("the start, and %d states entered", made.entered), 0.025 / 1000},
		{"S3: PUT, LIST", float64(puts), "the above and your two uploads", 0.005 / 1000},
		{"S3: GET, HEAD", float64(made.of("", cheap...) + dropped), "the above and RunComfy's two downloads", 0.0004 / 1000},
		{"Lambda: GB-seconds on arm64", gigabyteSeconds, strings.Join(compute, ", "), 0.0000133334},
		{"Lambda: calls", float64(made.of("", "lambda Invoke")), "the above", 0.20 / 1_000_000},
		{"EventBridge: events of S3", float64(made.of("", "s3 PutObject") + dropped + made.expired),
			fmt.Sprintf("one for every PUT into the bucket, not only for drops; and %d for versions that expire a month later", made.expired), 1.00 / 1_000_000},
		{"EventBridge: notices", float64(made.of("", "events PutEvents")), "that the job succeeded", 1.00 / 1_000_000},
		{"SQS: requests", 3 * dropped, "each drop is sent, received and deleted", 0.40 / 1_000_000},
		{"Secrets Manager: calls", float64(made.of("", "secretsmanager GetSecretValue")), "one for each cold start", 0.05 / 10_000},
		{"CloudWatch Logs: MB ingested", float64(logged*assumedLine) / 1e6,
			fmt.Sprintf("%d lines of %d bytes: %d of the functions, and %d of Lambda for each call", logged, assumedLine, made.lines, lambdaLines), 0.50 / 1000},
		{"X-Ray: traces", 1, "the execution's; X-Ray records fewer when many start at once", 5.00 / 1_000_000},
	} {
		total += row.many * row.each
		fmt.Fprintf(&b, "| %s | %.4g (%s) | %s | %.6f |\n", row.what, row.many, row.how, strconv.FormatFloat(row.each, 'f', -1, 64), row.many*row.each)
	}
	fmt.Fprintf(&b, "| **together** | | | **%.4f** |\n\n", total)
	if total > mostUSD {
		t.Errorf("the job costs %.4f USD, want at most %.4f", total, mostUSD)
	}
	golden.CompareBetween(t, root+"/"+operations, "<!-- counts -->", b.String())
}
