// Package notice sends an event to EventBridge when a drop or a take reaches a state that
// States lists. docs/notices.md describes the event.
//
// Package ledger decides when a notice is due, and calls Sender.Send after it has stored
// the state. A notice that cannot be sent is logged, and changes nothing about the job.
package notice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Source is the source of the events.
const Source = "lipdrop"

// DetailType returns the detail type of the event about a state.
func DetailType(state ledger.State) string { return "Job " + string(state) }

// States returns the states that have a notice.
func States() []ledger.State {
	return []ledger.State{ledger.Succeeded, ledger.Failed, ledger.Cancelled, ledger.Unknown, ledger.Rejected, ledger.Held}
}

// Detail is the detail of an event: the status, and where it comes from.
type Detail struct {
	// ID identifies a state of a drop or take. A notice that is sent again has the same ID.
	ID     string `json:"id"`
	Stack  string `json:"stack"`
	Bucket string `json:"bucket"`
	// Folder is the name without its last part, or "".
	Folder string `json:"folder"`
	// Summary says in one line what happened and what to do.
	Summary string `json:"summary"`
	// Link is the page of the AWS console that shows the outputs, or else the status.
	Link string `json:"link"`
	// StatusKey is the key of the status or, for a file that cannot belong to a job, of the
	// answer file.
	StatusKey string `json:"statusKey"`

	ledger.Status
}

const (
	// maxStatus and maxSummary limit the status and the summary in an event, in bytes. In JSON, a
	// byte of the summary may need six. An event with both stays below 256 KiB, which
	// was the limit of EventBridge until January 2026.
	maxStatus  = 160 << 10
	maxSummary = 12 << 10

	// timeout limits one call of Send.
	timeout = 3 * time.Second
	// silence is how long Send sends nothing after EventBridge did not respond in time.
	// Otherwise a function with many notices would spend its time waiting.
	silence = 30 * time.Second

	// tries limits how often an entry is sent if EventBridge accepts the request, but cannot
	// process the entry. The SDK repeats requests that fail as a whole.
	tries      = 3
	firstPause = 100 * time.Millisecond
)

// Client is the part of the EventBridge client that Sender uses.
type Client interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Sender sends notices to the default event bus. It is safe for concurrent use.
type Sender struct {
	Client     Client
	Bucket     string
	MachineARN string
	Now        func() time.Time
	Sleep      func(context.Context, time.Duration) error

	mu          sync.Mutex
	silentUntil time.Time
}

// For returns a Sender for a Lambda function that uses the given ledger.
func For(cfg aws.Config, store *ledger.Store) *Sender {
	return &Sender{
		Client: eventbridge.NewFromConfig(cfg), Bucket: store.Bucket.Name, MachineARN: store.MachineARN,
		Now: time.Now, Sleep: workflow.Sleep,
	}
}

// Send sends a notice and reports whether it was sent. If not, it logs why. It takes
// no longer than a few seconds.
func (s *Sender) Send(ctx context.Context, n ledger.Notice) bool {
	err := s.send(ctx, n)
	if err != nil {
		// A metric filter in template.yaml counts this line.
		slog.ErrorContext(ctx, "notice not sent", "name", n.Name, "take", n.Take, "state", n.State, "err", err)
	}
	return err == nil
}

func (s *Sender) send(ctx context.Context, n ledger.Notice) error {
	s.mu.Lock()
	silent := s.Now().Before(s.silentUntil)
	s.mu.Unlock()
	if silent {
		return errors.New("EventBridge did not respond to an earlier notice in time")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := s.put(ctx, s.entry(n))
	if errors.Is(err, context.DeadlineExceeded) {
		s.mu.Lock()
		s.silentUntil = s.Now().Add(silence)
		s.mu.Unlock()
	}
	return err
}

func (s *Sender) put(ctx context.Context, entry types.PutEventsRequestEntry) error {
	for try := 1; ; try++ {
		out, err := s.Client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{entry}})
		if err != nil {
			return err
		}
		// PutEvents returns no error for an entry that EventBridge could not process.
		if out.FailedEntryCount == 0 {
			return nil
		}
		failed := types.PutEventsResultEntry{}
		if len(out.Entries) > 0 {
			failed = out.Entries[0]
		}
		err = fmt.Errorf("EventBridge could not process the notice: %s: %s", aws.ToString(failed.ErrorCode), aws.ToString(failed.ErrorMessage))
		if try == tries || s.Sleep(ctx, firstPause<<(2*try-2)) != nil {
			return err
		}
	}
}

func (s *Sender) entry(n ledger.Notice) types.PutEventsRequestEntry {
	detail := strings.TrimSpace(string(bucket.JSON(s.detail(n), "")))
	return types.PutEventsRequestEntry{Source: aws.String(Source), DetailType: aws.String(DetailType(n.State)), Detail: &detail}
}

func (s *Sender) detail(n ledger.Notice) Detail {
	folder := path.Dir(n.Name)
	if folder == "." {
		folder = ""
	}
	st := n.Fit(maxStatus)
	return Detail{
		ID: ID(n), Stack: s.MachineARN[strings.LastIndex(s.MachineARN, ":")+1:], Bucket: s.Bucket, Folder: folder,
		Summary: summary(st), Link: s.link(n), StatusKey: n.Key, Status: st,
	}
}

// ID returns the id of a notice: a hash of its name, drop and state.
func ID(n ledger.Notice) string {
	sum := sha256.Sum256([]byte(n.Name + "\n" + n.Drop + "\n" + string(n.State)))
	return hex.EncodeToString(sum[:16])
}

// summary returns a status as one line of at most about maxSummary bytes.
func summary(st ledger.Status) string {
	verbs := map[ledger.State]string{
		ledger.Succeeded: "succeeded", ledger.Failed: "failed", ledger.Cancelled: "was cancelled",
		ledger.Unknown: "has an unknown outcome", ledger.Rejected: "was rejected", ledger.Held: "is held",
	}
	text := st.Name + " " + verbs[st.State]
	if st.Reason != "" {
		text += ": " + st.Reason
	}
	if st.Remedy != "" {
		text = strings.TrimRight(text, ".") + ". " + st.Remedy
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxSummary {
		text = strings.ToValidUTF8(text[:maxSummary], "") + " …"
	}
	return text
}

func (s *Sender) link(n ledger.Notice) string {
	host, region := ledger.Console(s.MachineARN)
	page, prefix := "object", n.Key
	if len(n.Outputs) > 0 {
		page, prefix = "buckets", ledger.OutputPrefix(n.Name, n.Take)
	}
	return "https://" + host + "/s3/" + page + "/" + s.Bucket + "?region=" + region + "&prefix=" + strings.ReplaceAll(url.QueryEscape(prefix), "+", "%20")
}
