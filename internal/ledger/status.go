package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Status says what happened to one name, or to one file that cannot belong to a
// job. docs/status.md describes each member.
type Status struct {
	Name      string       `json:"name"`
	State     State        `json:"state"`
	Code      problem.Code `json:"code,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Remedy    string       `json:"remedy,omitempty"`
	Warnings  []string     `json:"warnings,omitempty"`
	Take      string       `json:"take,omitempty"`
	RequestID string       `json:"requestId,omitempty"`
	Model     string       `json:"model,omitempty"`
	UpdatedAt time.Time    `json:"updatedAt"`
	Links     *Links       `json:"links,omitempty"`
	// Outputs are keys in the bucket.
	Outputs []string `json:"outputs,omitempty"`
	// Jobs are the names of the jobs that use the drop.
	Jobs []string `json:"jobs,omitempty"`
	// QueuePosition is how many jobs are ahead in RunComfy's queue, if known.
	QueuePosition *int `json:"queuePosition,omitempty"`
	// ExpectedSeconds is how long the output of the take will be, if known.
	ExpectedSeconds float64 `json:"expectedSeconds,omitempty"`
	// EstimateUSD is what the take costs by RunComfy's base price. It is not a quote.
	EstimateUSD *float64 `json:"estimateUsd,omitempty"`
	// CostUSD is what the take cost, if RunComfy has reported the cost.
	CostUSD *float64 `json:"costUsd,omitempty"`
	// Verdict is the worst verdict of the outputs. The doubts are among the warnings.
	Verdict VerdictState `json:"verdict,omitempty"`
}

// Links are the places that a status refers a person to.
type Links struct {
	Execution string `json:"execution,omitempty"` // the AWS console's page
	RunComfy  string `json:"runcomfy,omitempty"`  // the model's page, which leads to the requests
	Outputs   string `json:"outputs,omitempty"`   // an s3:// URI for aws s3 cp --recursive
}

// Posted is a status that was read from the bucket.
type Posted struct {
	Status
	// Order says which drop the status is about. It is empty if there is no status.
	Order Order `json:"-"`

	// Rewrite makes Post write the status even if it has not changed, so that
	// UpdatedAt says when the name was assessed.
	Rewrite bool `json:"-"`

	due string // the value of dueMetadata; empty if no notice is due

	etag string // the object's ETag when it was last read or written; empty if there is no object
}

// Exists reports whether there is a status, readable or not.
func (p Posted) Exists() bool { return p.etag != "" }

// orderMetadata is the object metadata that holds the Order of a status.
const orderMetadata = "lipdrop-order"

const (
	// StampLayout is the form of the UTC time at the beginning of Record.Take.
	StampLayout = "20060102T150405Z"

	// claimLayout is the form of the second time in an Order: UTC, to the millisecond.
	claimLayout = "20060102T150405.000Z"
)

// Order says which drop a status is about. It begins with the drop's stamp: the time of the
// newest file of the drop. Record.Take begins with the same stamp. If the drop is complete, a
// second time follows: when the take was claimed or, if it was not claimed, last tried.
//
// An Order that is greater as a text counts as newer. So a drop with a large file may count as
// older than it is, because S3's time of the file is when its upload began. Of two takes with the
// same stamp, the take that was claimed later counts as newer.
type Order string

// OrderAt returns the Order, without a second time, of a drop whose newest file has the given time.
func OrderAt(newest time.Time) Order { return Order(newest.UTC().Format(StampLayout)) }

// OrderOf returns the Order of a take that was claimed, or last tried without a claim, at the given time.
func OrderOf(take string, at time.Time) Order {
	return Order(Order(take).Stamp() + "-" + at.UTC().Format(claimLayout))
}

// Stamp returns the stamp of the drop.
func (o Order) Stamp() string { return string(o[:min(len(o), len(StampLayout))]) }

// SameStamp reports whether two drops have the same stamp.
func (o Order) SameStamp(other Order) bool { return o.Stamp() == other.Stamp() }

// OlderThan reports whether the drop counts as older than another drop: its stamp is earlier.
func (o Order) OlderThan(other Order) bool { return o.Stamp() < other.Stamp() }

// order returns the Order of the take's status.
func (r Record) order() Order { return OrderOf(r.Take, r.Times.Claimed) }

// Posted returns the status at a key: the status of a name (see StatusKey), or an
// answer file. A missing status is not an error. An unreadable status is not an
// error either: Posted returns it without its content, so that Post can replace
// it.
func (s *Store) Posted(ctx context.Context, key string) (Posted, error) {
	var st Status
	file, err := s.Bucket.GetJSON(ctx, key, MaxObject, &st)
	if _, ok := errors.AsType[*bucket.UnreadableError](err); ok {
		st, err = Status{}, nil // a part may have been decoded
	}
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return Posted{}, err
	}
	return Posted{Status: st, Order: Order(file.Metadata[orderMetadata]), due: file.Metadata[dueMetadata], etag: file.ETag}, nil
}

// ErrStale is returned by Post if the status was changed after it was read.
var ErrStale = errors.New("the status was changed after it was read")

// Post writes the status that an assessment leads to. The assessment must have
// begun after prev was read. If prev is no longer the status, Post returns
// ErrStale, and the caller must assess again. Post writes nothing if the status and the stamp of
// its drop stay the same and prev.Rewrite is false. Whether it writes or not, Post sends a
// due notice about a rejected or held drop (see markDue).
func (s *Store) Post(ctx context.Context, key string, st Status, order Order, prev Posted) error {
	posted := Posted{Status: st.Fit(MaxObject - roomForMembers), Order: order, etag: prev.etag}
	send := s.markDue(prev, &posted)
	same := prev.Status
	same.UpdatedAt = time.Time{}
	if !prev.Rewrite && slices.Equal(encode(same), encode(posted.Status)) && prev.Order.SameStamp(order) {
		posted.UpdatedAt, posted.due = prev.UpdatedAt, prev.due
	} else {
		posted.UpdatedAt = s.Now().UTC().Truncate(time.Second)
		err := s.putStatus(ctx, key, &posted)
		if errors.Is(err, bucket.ErrConflict) {
			return ErrStale
		}
		if err != nil {
			return err
		}
	}
	if send {
		s.sendDue(ctx, key, posted)
	}
	return nil
}

// OnlyFirst begins each warning that a list in a status may be incomplete.
const OnlyFirst = "only the first "

// roomForMembers is the room, in bytes, for members that are added to a status after Fit.
const roomForMembers = 1 << 10

// Fit returns the status. If its JSON has more than the given number of bytes, Fit
// shortens its texts and lists. The number must be at least 128 KiB.
func (st Status) Fit(most int) Status {
	if len(encode(st)) <= most {
		return st
	}
	cut := func(text string) string {
		const longest = 2 << 10 // bytes; JSON needs up to six for each
		if len(text) <= longest {
			return text
		}
		return strings.ToValidUTF8(text[:longest], "") + " …"
	}
	upTo := func(list []string, room int) []string {
		for i, text := range list {
			if room -= len(encode(text)) + len("    ,"); room < 0 {
				return list[:i:i]
			}
		}
		return list
	}
	st.Reason, st.Remedy = cut(st.Reason), cut(st.Remedy)
	st.Warnings = upTo(st.Warnings, most/4)
	for what, list := range map[string]*[]string{"jobs": &st.Jobs, "outputs": &st.Outputs} { // a status has only one of these lists
		if named := upTo(*list, most/2); len(named) < len(*list) {
			st.Warnings = append(slices.Clone(st.Warnings), fmt.Sprintf(OnlyFirst+"%d of %d %s are named here", len(named), len(*list), what))
			*list = named
		}
	}
	return st
}

// PostTake writes the status of a take from its record, unless the stored status is about
// a newer drop or a later state of this take. Whether it writes or not, PostTake then sends
// the notice about the end of the take if the notice is due.
func (s *Store) PostTake(ctx context.Context, rec Record, warnings ...string) error {
	err := s.postTake(ctx, rec, warnings...)
	if err == nil {
		s.SendNotice(ctx, rec)
	}
	return err
}

// PostWarning posts the status of a job's take with a warning that is not in the record, unless the
// take has ended. It logs an error and does not return it, because the job goes on without
// the warning.
func (s *Store) PostWarning(ctx context.Context, job workflow.Job, warning string) {
	rec, err := s.Get(ctx, job.Name, job.Take)
	if err == nil && !rec.State.Ended() {
		err = s.PostTake(ctx, rec, warning)
	}
	if err != nil {
		slog.WarnContext(ctx, "status not written", "name", job.Name, "take", job.Take, "err", err)
	}
}

// warnUnreadable adds a warning to the status of a job, if the status is about the job's take and
// does not say that the take has ended. The warning says that the take's record cannot be read.
func (s *Store) warnUnreadable(ctx context.Context, job workflow.Job, cause error) {
	key := StatusKey(job.Name)
	prev, err := s.Posted(ctx, key)
	if err == nil && prev.Take == job.Take && !prev.State.Ended() {
		err = s.AddWarning(ctx, key, prev, cause.Error()+", so the state of this job is not recorded and its output is not archived. Restore an earlier version of the record. Then, if the execution has failed, redrive it.")
	}
	if err != nil {
		slog.WarnContext(ctx, "status not written", "name", job.Name, "take", job.Take, "err", err)
	}
}

// AddWarning is Post for a status that gets a warning and otherwise stays the same.
func (s *Store) AddWarning(ctx context.Context, key string, prev Posted, text string) error {
	st := prev.Status
	st.UpdatedAt = time.Time{}
	if !slices.Contains(st.Warnings, text) {
		st.Warnings = append(slices.Clone(st.Warnings), text)
	}
	return s.Post(ctx, key, st, prev.Order, prev)
}

// postTake is PostTake without the notice.
func (s *Store) postTake(ctx context.Context, rec Record, warnings ...string) error {
	for range maxRaces {
		prev, err := s.Posted(ctx, StatusKey(rec.Name))
		if err != nil {
			return err
		}
		sameTake := prev.Take == rec.Take
		prevIsNewer := prev.Order > rec.order()
		// If prev is about an unclaimed drop and was posted before rec was claimed, prev is older, even
		// with a greater Order: then that drop had a newer file, which was deleted.
		if !prev.State.Claimed() && prev.UpdatedAt.Before(rec.Times.Claimed.Truncate(time.Second)) {
			prevIsNewer = false
		}
		if sameTake && prev.State.rank() > rec.rank() || !sameTake && prevIsNewer {
			return nil
		}
		st := s.TakeStatus(rec, warnings...)
		isMissing := func(warning string) bool { return !slices.Contains(st.Warnings, warning) }
		if sameTake && slices.ContainsFunc(prev.Warnings, isMissing) {
			// Another invocation may have added a warning to the record, and posted it, since
			// rec was read.
			newest, err := s.Get(ctx, rec.Name, rec.Take)
			if err != nil {
				return err
			}
			rec, st = newest, s.TakeStatus(newest, warnings...)
		}
		err = s.Post(ctx, StatusKey(rec.Name), st, rec.order(), prev)
		if !errors.Is(err, ErrStale) {
			return err
		}
	}
	return fmt.Errorf("status of %s: lost %d races", rec.Name, maxRaces)
}

// TakeStatus returns the status of a take. Its warnings are those of the record,
// then the given ones.
func (s *Store) TakeStatus(rec Record, warnings ...string) Status {
	st := Status{
		Name: rec.Name, State: rec.State, Code: rec.Code, Reason: rec.Reason,
		Warnings: append(slices.Clone(rec.Warnings), warnings...),
		Take:     rec.Take, RequestID: rec.RequestID, Model: rec.Model,
		ExpectedSeconds: rec.ExpectedSeconds, EstimateUSD: rec.EstimateUSD, CostUSD: rec.CostUSD, Verdict: rec.verdict(),
		Links: &Links{RunComfy: "https://www.runcomfy.com/models/" + rec.Model + "/api"},
	}
	if rec.State == InQueue {
		st.QueuePosition = rec.QueuePosition
	}
	if rec.Code != "" {
		st.Remedy = rec.Code.RemedyFor(rec.Restart())
	}
	if rec.RequestID != "" {
		st.Links.Execution = consoleURL(s.ExecutionARN(rec.Name, rec.Take))
	}
	for _, out := range rec.Outputs {
		st.Outputs = append(st.Outputs, out.Key)
	}
	if len(st.Outputs) > 0 {
		st.Links.Outputs = "s3://" + s.Bucket.Name + "/" + OutputPrefix(rec.Name, rec.Take)
	}
	return st
}

// Restart says how the job of the take is started again.
func (r Record) Restart() problem.Restart {
	return problem.Restart{Name: r.Name, Bundle: r.Manifest != "", Match: r.Match, NotCharged: r.NotCharged}
}

// consoleURL returns the URL of an execution's page in the AWS console, or "" if executionARN
// is not an ARN.
func consoleURL(executionARN string) string {
	host, region := Console(executionARN)
	if host == "" {
		return ""
	}
	return "https://" + host + "/states/home?region=" + region + "#/v2/executions/details/" + executionARN
}

// Console returns the host of the AWS console for the partition of a state machine or an
// execution, and its region. Both are empty if arn is not an ARN.
func Console(arn string) (host, region string) {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 {
		return "", ""
	}
	host = "console.aws.amazon.com"
	switch parts[1] {
	case "aws-us-gov":
		host = "console.amazonaws-us-gov.com"
	case "aws-cn":
		host = "console.amazonaws.cn"
	}
	return host, url.PathEscape(parts[3])
}
