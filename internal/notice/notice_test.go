package notice_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const machineARN = "arn:aws:states:eu-central-1:123456789012:stateMachine:lipdrop"

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// client is a notice.Client whose responses the test sets.
type client struct {
	sent []types.PutEventsRequestEntry
	put  func(context.Context) (*eventbridge.PutEventsOutput, error)
}

func (c *client) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	c.sent = append(c.sent, in.Entries...)
	if c.put == nil {
		return &eventbridge.PutEventsOutput{}, nil
	}
	return c.put(ctx)
}

func newSender(c *client) *notice.Sender {
	return &notice.Sender{
		Client: c, Bucket: "drops", MachineARN: machineARN, Now: time.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// logLines collects the messages that are logged until the test ends.
func logLines(t *testing.T) *strings.Builder {
	t.Helper()
	var lines strings.Builder
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&lines, nil)))
	t.Cleanup(func() { slog.SetDefault(previous) })
	return &lines
}

// samples returns a notice of each of notice.States(), in the same order.
func samples() []ledger.Notice {
	const take = "20261121T115230Z-0123456789ab"
	rec := ledger.Record{Name: "ads/talk", Take: take, Model: "sync/react-1", RequestID: "8a1f0c3e-5d2b-4f6a-9e77-2b1c0d9e8f10"}
	ended := func(state ledger.State, code problem.Code, reason string) ledger.Notice {
		rec.State, rec.Code, rec.Reason = state, code, reason
		if state == ledger.Unknown {
			rec.RequestID = ""
		}
		st := (&ledger.Store{MachineARN: machineARN}).TakeStatus(rec)
		st.UpdatedAt = noon
		return ledger.Notice{Status: st, Key: ledger.StatusKey(rec.Name), Drop: take}
	}
	succeeded := ended(ledger.Succeeded, "", "")
	succeeded.Outputs, succeeded.Verdict, succeeded.ExpectedSeconds = []string{"outbox/ads/talk/" + take + "/talk.mp4"}, ledger.VerdictOK, 8.5
	succeeded.Links.Outputs = "s3://drops/outbox/ads/talk/" + take + "/"
	return []ledger.Notice{
		succeeded,
		ended(ledger.Failed, problem.JobFailed, "RunComfy reports: no face found"),
		ended(ledger.Cancelled, problem.CancelledByDeletion, "inbox/ads/talk.wav was deleted, and RunComfy cancelled the job before it started"),
		ended(ledger.Unknown, problem.OutcomeUnknown, "it is not known whether RunComfy accepted the job: RunComfy returned HTTP 502"),
		{
			Status: ledger.Status{
				Name: "ads/talk", State: ledger.Rejected, Code: problem.TooLong, UpdatedAt: noon,
				Reason: "talk.mp4 is 17.3 s long; sync/react-1 accepts at most 15 s", Remedy: problem.TooLong.Remedy("ads/talk"),
			},
			Key: ledger.StatusKey("ads/talk"), Drop: "20261121T115230Z",
		},
		{
			Status: ledger.Status{
				Name: "ads/talk", State: ledger.Held, Code: problem.NoBalance, UpdatedAt: noon, Take: take, Model: "sync/react-1",
				Reason: "RunComfy returned HTTP 402: insufficient balance", Remedy: problem.NoBalance.Remedy("ads/talk"),
			},
			Key: ledger.StatusKey("ads/talk"), Drop: take,
		},
	}
}

const document = "../../docs/notices.md"

// docs/notices.md shows an event of each of notice.States() as Send sends it.
func TestDocumentOfEvents(t *testing.T) {
	schema, status := schemaOf(t, document), schemaOf(t, "../../docs/status.md")
	c := &client{}
	var b strings.Builder
	for i, state := range notice.States() {
		n := samples()[i]
		if n.State != state {
			t.Fatalf("sample %d is %s, want %s", i, n.State, state)
		}
		if !newSender(c).Send(t.Context(), n) {
			t.Fatalf("%s was not sent", n.State)
		}
		sent := c.sent[i]
		if aws.ToString(sent.Source) != "lipdrop" || sent.EventBusName != nil {
			t.Errorf("source %q, bus %q; want lipdrop and no bus", aws.ToString(sent.Source), aws.ToString(sent.EventBusName))
		}
		event := bucket.JSON(struct {
			DetailType string          `json:"detail-type"`
			Source     string          `json:"source"`
			Detail     json.RawMessage `json:"detail"`
		}{*sent.DetailType, *sent.Source, json.RawMessage(*sent.Detail)}, "  ")
		checkForm(t, schema, status, event)
		b.WriteString("\n```json\n" + string(event) + "```\n")
	}
	b.WriteString("\n")
	golden.CompareBetween(t, document, "<!-- examples -->", b.String())
}

// schemaOf returns the schema in a document.
func schemaOf(t *testing.T, document string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json schema\n")
	body, _, _ := strings.Cut(rest, "```")
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Fatalf("schema of %s: %v", document, err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:form", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("urn:form")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// checkForm validates an event with the schema of events, and the status in the event's detail
// with the schema of statuses.
func checkForm(t *testing.T, schema, status *jsonschema.Schema, event []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("the event does not match the schema of events: %v\n%s", err, event)
	}
	detail := doc.(map[string]any)["detail"].(map[string]any)
	for _, own := range []string{"id", "stack", "bucket", "folder", "summary", "link", "statusKey"} {
		delete(detail, own)
	}
	if err := status.Validate(detail); err != nil {
		t.Errorf("the members that come from the status do not match the schema of statuses: %v\n%s", err, event)
	}
}

// A notice that is sent again keeps its id, and no other notice has this id.
func TestID(t *testing.T) {
	first := samples()[0]
	again := first
	again.Warnings, again.UpdatedAt = []string{"w"}, noon.Add(time.Hour)
	if notice.ID(first) != notice.ID(again) {
		t.Error("the same notice, sent again, has another id")
	}
	for name, change := range map[string]func(*ledger.Notice){
		"another name":  func(n *ledger.Notice) { n.Name = "ads/talk2" },
		"another take":  func(n *ledger.Notice) { n.Drop = "20261121T115231Z-0123456789ab" },
		"another state": func(n *ledger.Notice) { n.State = ledger.Failed },
		"a part of the name moved to the take": func(n *ledger.Notice) {
			n.Name, n.Drop = n.Name[:3], n.Name[3:]+n.Drop
		},
	} {
		t.Run(name, func(t *testing.T) {
			other := first
			if change(&other); notice.ID(other) == notice.ID(first) {
				t.Error("another notice has the same id")
			}
		})
	}
}

// A status may have a megabyte. Its event is cut to less than 256 KiB, but not to almost nothing.
func TestLargeStatus(t *testing.T) {
	many := func(n int, text string) []string { return slices.Repeat([]string{text}, n) }
	for name, change := range map[string]func(*ledger.Notice){
		"warnings": func(n *ledger.Notice) { n.Warnings = many(4000, strings.Repeat("w", 200)) },
		"outputs":  func(n *ledger.Notice) { n.Outputs = many(500, strings.Repeat("o", 1000)) },
		"both": func(n *ledger.Notice) {
			n.Warnings, n.Outputs = many(2000, strings.Repeat("w", 200)), many(500, strings.Repeat("o", 1000))
		},
		"a reason and a remedy that JSON escapes": func(n *ledger.Notice) {
			n.Reason, n.Remedy = strings.Repeat("\x01", 300<<10), strings.Repeat("\"", 300<<10)
		},
		"a reason and a remedy that stay whole": func(n *ledger.Notice) {
			n.Reason, n.Remedy = strings.Repeat("r", 75<<10), strings.Repeat("m", 75<<10)
		},
		"a reason of letters": func(n *ledger.Notice) { n.Reason = strings.Repeat("é", 200<<10) },
		"everything": func(n *ledger.Notice) {
			n.Reason, n.Remedy = strings.Repeat("\x01", 300<<10), strings.Repeat("\x01", 300<<10)
			n.Warnings, n.Outputs = many(4000, strings.Repeat("w", 200)), many(500, strings.Repeat("o", 1000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := samples()[0]
			change(&n)
			c := &client{}
			if !newSender(c).Send(t.Context(), n) {
				t.Fatal("the notice was not sent")
			}
			detail := aws.ToString(c.sent[0].Detail)
			size := len(detail) + len(notice.Source) + len(*c.sent[0].DetailType)
			if size >= 256<<10 || size < 4<<10 {
				t.Errorf("the event has %d bytes, want 4 KiB to 256 KiB", size)
			}
			var read notice.Detail
			if err := json.Unmarshal([]byte(detail), &read); err != nil || read.ID != notice.ID(n) || read.Name != n.Name {
				t.Errorf("error %v, id %q and name %q; want none, %q and %q", err, read.ID, read.Name, notice.ID(n), n.Name)
			}
			if len(n.Reason)+len(n.Remedy) <= 150<<10 && (read.Reason != n.Reason || read.Remedy != n.Remedy) {
				t.Error("the reason or the remedy was cut, want both whole")
			}
			if len(n.Outputs) > len(read.Outputs) && !strings.Contains(strings.Join(read.Warnings, " "), "of 500 outputs are named here") {
				t.Error("no warning says that outputs are left out")
			}
		})
	}
}

// PutEvents may return no error although EventBridge has not processed the event.
func TestEntryThatFails(t *testing.T) {
	failed := &eventbridge.PutEventsOutput{FailedEntryCount: 1, Entries: []types.PutEventsResultEntry{{ErrorCode: aws.String("ThrottlingException"), ErrorMessage: aws.String("slow down")}}}
	for _, tt := range []struct {
		name     string
		failures int
		sent     bool
		puts     int
	}{
		{"once", 1, true, 2},
		{"twice", 2, true, 3},
		{"each time", 99, false, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := logLines(t)
			c := &client{}
			c.put = func(context.Context) (*eventbridge.PutEventsOutput, error) {
				if len(c.sent) <= tt.failures {
					return failed, nil
				}
				return &eventbridge.PutEventsOutput{Entries: []types.PutEventsResultEntry{{EventId: aws.String("1")}}}, nil
			}
			if got := newSender(c).Send(t.Context(), samples()[1]); got != tt.sent || len(c.sent) != tt.puts {
				t.Errorf("sent: %v, after %d calls; want %v after %d", got, len(c.sent), tt.sent, tt.puts)
			}
			if n := strings.Count(lines.String(), "\n"); tt.sent && n != 0 || !tt.sent && n != 1 {
				t.Errorf("%d log lines, want one if the notice is not sent, and else none: %s", n, lines)
			}
			if !tt.sent && !strings.Contains(lines.String(), "ThrottlingException: slow down") {
				t.Errorf("the log is %s, want EventBridge's reason in it", lines)
			}
		})
	}
}

// A notice that cannot be sent is logged in one line, and Send returns false.
func TestFailureIsOneLine(t *testing.T) {
	lines := logLines(t)
	c := &client{put: func(context.Context) (*eventbridge.PutEventsOutput, error) { return nil, errors.New("not authorized") }}
	if newSender(c).Send(t.Context(), samples()[1]) {
		t.Error("Send says that the notice was sent")
	}
	want := `"msg":"notice not sent","name":"ads/talk","take":"20261121T115230Z-0123456789ab","state":"failed","err":"not authorized"`
	if n := strings.Count(lines.String(), "\n"); n != 1 || !strings.Contains(lines.String(), want) {
		t.Errorf("%d lines, want one with %s: %s", n, want, lines)
	}
}

// A function that has many notices to send does not spend its time on an EventBridge
// that does not respond.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logLines(t)
		c := &client{put: func(ctx context.Context) (*eventbridge.PutEventsOutput, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		s := newSender(c)
		began := time.Now()
		for range 100 {
			if s.Send(t.Context(), samples()[1]) {
				t.Fatal("Send says that the notice was sent, but EventBridge did not respond")
			}
		}
		if spent := time.Since(began); spent > 5*time.Second || len(c.sent) != 1 {
			t.Errorf("100 notices took %v and %d calls, want at most 5 s and 1 call", spent, len(c.sent))
		}
		c.put = nil
		time.Sleep(time.Minute)
		if !s.Send(t.Context(), samples()[1]) {
			t.Error("the notice after the silence was not sent")
		}
	})
}

// The SDK's client does not retry a call without a response. The next Send makes no call.
func TestSilenceOfTheService(t *testing.T) {
	logLines(t)
	var calls atomic.Int32
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		calls.Add(1)
		<-release
	}))
	defer server.Close()
	defer close(release)
	cfg := aws.Config{Region: "eu-central-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	s := newSender(nil)
	s.Client = eventbridge.NewFromConfig(cfg)
	for range 2 {
		if s.Send(t.Context(), samples()[1]) {
			t.Error("Send says that the notice was sent, but EventBridge did not respond")
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls, want 1: after the first one, Send must make no call for a while", n)
	}
}
