package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Decision is what a person decided about the outputs of a take.
type Decision string

// The decisions.
const (
	Approved Decision = "approved"
	Rejected Decision = "rejected"
)

// Review is what a person decided about the outputs of a take. It is stored under
// ReviewKey.
type Review struct {
	Name     string    `json:"name"`
	Take     string    `json:"take"`
	Decision Decision  `json:"decision"`
	By       string    `json:"by"` // ARN of the person
	At       time.Time `json:"at"`
	Note     string    `json:"note,omitempty"`
}

// ReviewKey returns the key of a take's review.
func ReviewKey(name, take string) string { return "review/" + name + "/" + take + ".json" }

// maxNote is the largest length of a note, in bytes.
const maxNote = 4000

// Review stores a decision about the newest take of a name that has succeeded, or about
// the take that is given, in place of an earlier decision. It returns *StateError if
// there is no such take, and if somebody else decides at the same time.
func (c *Client) Review(ctx context.Context, name, take string, decision Decision, note string) (Review, error) {
	rec, err := c.finished(ctx, name, take)
	if err != nil {
		return Review{}, err
	}
	_, etag, err := c.ReadReview(ctx, rec.Name, rec.Take)
	if err != nil {
		return Review{}, err
	}
	return c.storeReview(ctx, rec, decision, note, etag)
}

// ReviewFrom is Review for a person who has seen the review with an ETag, or none with
// an empty one. It returns *StateError if that is no longer the take's review.
func (c *Client) ReviewFrom(ctx context.Context, name, take string, decision Decision, note, etag string) (Review, error) {
	rec, err := c.finished(ctx, name, take)
	if err != nil {
		return Review{}, err
	}
	return c.storeReview(ctx, rec, decision, note, etag)
}

// storeReview checks the note, and writes a review if the one that is stored still has
// the ETag.
func (c *Client) storeReview(ctx context.Context, rec ledger.Record, decision Decision, note, etag string) (Review, error) {
	if len(note) > maxNote || !utf8.ValidString(note) {
		return Review{}, &StateError{Reason: fmt.Sprintf("the note has %d bytes; at most %d bytes of UTF-8 are accepted. Shorten it", len(note), maxNote)}
	}
	by, err := c.Caller(ctx)
	if err != nil {
		return Review{}, err
	}
	review := Review{Name: rec.Name, Take: rec.Take, Decision: decision, By: by, At: time.Now().UTC().Truncate(time.Second), Note: note}
	body, err := json.MarshalIndent(review, "", "  ")
	if err != nil {
		return Review{}, err
	}
	_, err = c.Bucket.PutJSON(ctx, ReviewKey(rec.Name, rec.Take), etag, body, nil)
	if errors.Is(err, bucket.ErrConflict) {
		return Review{}, &StateError{Reason: fmt.Sprintf("somebody else reviewed %s in the meantime; look at it again, then decide", rec.Name)}
	}
	return review, c.Explain("store a review of "+rec.Name, ReviewKey(rec.Name, rec.Take), err)
}

// ReadReview returns the review of a take and its ETag. Both are empty if there is none.
func (c *Client) ReadReview(ctx context.Context, name, take string) (Review, string, error) {
	key := ReviewKey(name, take)
	body, file, err := c.Bucket.Get(ctx, key, ledger.MaxObject)
	if errors.Is(err, bucket.ErrNotFound) {
		return Review{}, "", nil
	}
	if err != nil {
		return Review{}, "", c.Explain("read the review of "+name, key, err)
	}
	var review Review
	if json.Unmarshal(body, &review) != nil {
		review = Review{} // a broken review counts as none and is replaced
	}
	return review, file.ETag, nil
}

// finished returns the newest take of a name that has succeeded, or the given one.
func (c *Client) finished(ctx context.Context, name, take string) (ledger.Record, error) {
	takes, err := c.Submitted(ctx, name)
	if err != nil {
		return ledger.Record{}, err
	}
	newest := takes[len(takes)-1]
	for _, rec := range slices.Backward(takes) {
		if rec.State == ledger.Succeeded && (take == "" || rec.Take == take) {
			return rec, nil
		}
	}
	if take != "" {
		return newest, &StateError{Reason: fmt.Sprintf("%s has no take %s with an output; see its takes with lipdrop show", name, take)}
	}
	return newest, &StateError{Reason: fmt.Sprintf("%s has no output: it is %s", name, c.DescribeTake(newest))}
}
