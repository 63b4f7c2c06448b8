package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Status is the answer for one job name, or for one file that can be no job's.
// docs/status.md describes it member by member.
type Status struct {
	Name      string    `json:"name"`
	State     State     `json:"state"`
	Code      Code      `json:"code,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Remedy    string    `json:"remedy,omitempty"`
	Warnings  []string  `json:"warnings,omitempty"`
	Take      string    `json:"take,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
	Model     string    `json:"model,omitempty"`
	UpdatedAt time.Time `json:"updatedAt"`
	Links     *Links    `json:"links,omitempty"`
	// Outputs are keys of the bucket.
	Outputs []string `json:"outputs,omitempty"`
	// Jobs are the names of the jobs that a file of state Used is part of.
	Jobs []string `json:"jobs,omitempty"`
}

// Links lead a person on from a status.
type Links struct {
	Execution string `json:"execution,omitempty"` // the AWS console's page
	RunComfy  string `json:"runcomfy,omitempty"`  // the model's page, which leads to the requests
	Outputs   string `json:"outputs,omitempty"`   // an s3:// URI for aws s3 cp --recursive
}

// Posted is a status as it stands in the bucket.
type Posted struct {
	Status
	// Order tells which drop the status is about: a take, or for a drop that
	// is no take yet the time of its newest file, in the form of a take's.
	// Empty when there is no status.
	Order string

	written
}

// orderMetadata is the object metadata that holds the Order of a status.
const orderMetadata = "lipdrop-order"

// Posted returns the status at a key, of a name (see StatusKey) or of a file
// below answers/. That there is none is no error.
func (s *Store) Posted(ctx context.Context, key string) (Posted, error) {
	var p Posted
	object, metadata, err := s.get(ctx, key, &p.Status)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Posted{}, err
	}
	p.written, p.Order = object, metadata[orderMetadata]
	return p, nil
}

// ErrStale is returned by Post when the status was changed since it was read.
var ErrStale = errors.New("the status has changed meanwhile")

// Post writes what was found out about a name from a look at the bucket that
// began after over was read: it takes the place of over, or fails as ErrStale
// when that is not the status any more, and the look must begin again. A post
// that says the same as over writes nothing.
func (s *Store) Post(ctx context.Context, key string, st Status, order string, over Posted) error {
	same := over.Status
	same.UpdatedAt = time.Time{}
	if slices.Equal(encode(same), encode(st)) && over.Order == order {
		return nil
	}
	st.UpdatedAt = s.Now().UTC().Truncate(time.Second)
	err := s.put(ctx, key, st, &over.written, map[string]string{orderMetadata: order})
	if errors.Is(err, errConflict) {
		return ErrStale
	}
	return err
}

// PostTake writes the status of a take from its record, unless the status is
// about a newer drop or says more of this take already.
func (s *Store) PostTake(ctx context.Context, rec Record, warnings ...string) error {
	for range maxRaces {
		over, err := s.Posted(ctx, StatusKey(rec.Name))
		if err != nil {
			return err
		}
		if over.Order > rec.Take || over.Order == rec.Take && over.State.rank() > rec.rank() {
			return nil
		}
		err = s.Post(ctx, StatusKey(rec.Name), s.TakeStatus(rec, warnings...), rec.Take, over)
		if !errors.Is(err, ErrStale) {
			return err
		}
	}
	return fmt.Errorf("status of %s: lost %d races", rec.Name, maxRaces)
}

// TakeStatus returns the status that a record amounts to, with warnings of the
// moment behind those of the record.
func (s *Store) TakeStatus(rec Record, warnings ...string) Status {
	st := Status{
		Name: rec.Name, State: rec.State, Code: rec.Code, Reason: rec.Reason,
		Warnings: append(slices.Clone(rec.Warnings), warnings...),
		Take:     rec.Take, RequestID: rec.RequestID, Model: rec.Model,
		Links: &Links{RunComfy: "https://www.runcomfy.com/models/" + rec.Model + "/api"},
	}
	if rec.Code != "" {
		st.Remedy = rec.Code.Remedy(rec.Name)
	}
	if rec.RequestID != "" {
		st.Links.Execution = consoleURL(s.MachineARN, workflow.ExecutionName(rec.Name, rec.Take))
	}
	for _, out := range rec.Outputs {
		st.Outputs = append(st.Outputs, out.Key)
	}
	if len(st.Outputs) > 0 {
		st.Links.Outputs = "s3://" + s.Bucket + "/" + OutputPrefix(rec.Name, rec.Take)
	}
	return st
}

// consoleURL returns the page of an execution in the AWS console.
func consoleURL(machineARN, execution string) string {
	parts := strings.Split(machineARN, ":")
	if len(parts) < 7 {
		return ""
	}
	host := "console.aws.amazon.com"
	switch parts[1] {
	case "aws-us-gov":
		host = "console.amazonaws-us-gov.com"
	case "aws-cn":
		host = "console.amazonaws.cn"
	}
	region := url.PathEscape(parts[3])
	return "https://" + host + "/states/home?region=" + region + "#/v2/executions/details/" +
		workflow.ExecutionARN(machineARN, execution)
}
