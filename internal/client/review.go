package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Decision says whether the outputs of a take may be used.
type Decision string

// The decisions.
const (
	Approved Decision = "approved"
	Rejected Decision = "rejected"
)

// Review is a person's decision about the outputs of a take. It is stored under
// ReviewKey.
type Review struct {
	Name     string    `json:"name"`
	Take     string    `json:"take"`
	Decision Decision  `json:"decision"`
	By       string    `json:"by"` // ARN of the person
	At       time.Time `json:"at"`
	Note     string    `json:"note,omitempty"`
}

// ReviewPrefix is the prefix of all reviews.
const ReviewPrefix = "review/"

// ReviewKey returns the key of a take's review.
func ReviewKey(name, take string) string { return ReviewPrefix + name + "/" + take + ".json" }

// ReviewedTake returns the name and the take that a ReviewKey was made from.
func ReviewedTake(key string) (name, take string) {
	name, take = path.Split(strings.TrimSuffix(strings.TrimPrefix(key, ReviewPrefix), ".json"))
	return strings.TrimSuffix(name, "/"), take
}

// writerMetadata is the metadata key for the random text that each call of Review stores with
// its review.
const writerMetadata = "lipdrop-writer"

// maxNote is the largest length of a note, in bytes.
const maxNote = 4000

// Review stores a decision about the given take or, if take is empty, about the newest take that
// has succeeded. The decision replaces an earlier decision. If seen is not nil, it is the ETag of
// the review that the person has seen, or empty if there was none. Review returns *NoJobError if
// there is no job of the name, and *UsageError if the note is too long or is not UTF-8. It returns
// *StateError if no such take has succeeded, or if somebody else has reviewed the take in the
// meantime.
func (c *Client) Review(ctx context.Context, name, take string, decision Decision, note string, seen *string) (Review, error) {
	switch {
	case !utf8.ValidString(note):
		return Review{}, &UsageError{"the note is not text in UTF-8. Write it in UTF-8"}
	case len(note) > maxNote:
		return Review{}, &UsageError{fmt.Sprintf("the note has %d bytes; at most %d are accepted. Shorten it", len(note), maxNote)}
	}
	takes, err := c.succeededTakes(ctx, name, take)
	if err != nil {
		return Review{}, err
	}
	take = takes[len(takes)-1].Take
	if seen == nil {
		_, etag, err := c.ReadReview(ctx, name, take)
		if err != nil {
			return Review{}, err
		}
		seen = &etag
	}
	by, err := c.Caller(ctx)
	if err != nil {
		return Review{}, err
	}
	review := Review{Name: name, Take: take, Decision: decision, By: by, At: time.Now().UTC().Truncate(time.Second), Note: note}
	key, writer := ReviewKey(name, take), rand.Text()
	_, err = c.Bucket.PutJSON(ctx, key, *seen, bucket.JSON(review, "  "), map[string]string{writerMetadata: writer})
	if errors.Is(err, bucket.ErrConflict) {
		// If the response to the first request was lost, the SDK's second request
		// conflicts with the review that the first request stored.
		if stored, err := c.Bucket.Head(ctx, key); err == nil && stored.Metadata[writerMetadata] == writer {
			return review, nil
		}
		return Review{}, &StateError{Reason: fmt.Sprintf("somebody else reviewed %s in the meantime; read that review, then decide again", name)}
	}
	return review, c.Explain("store a review of "+name, key, err)
}

// ReadReview returns the review of a take, and the ETag of the stored review. Both are empty
// if there is no review. The returned review is also empty if the stored review does not parse.
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
		review = Review{} // the next decision replaces a broken review
	}
	return review, file.ETag, nil
}

// Reviews returns all reviews, ordered by key. It leaves out broken reviews.
func (c *Client) Reviews(ctx context.Context) ([]Review, error) {
	files, _, err := c.Bucket.List(ctx, ReviewPrefix, math.MaxInt)
	if err != nil {
		return nil, c.Explain("list the reviews", ReviewPrefix, err)
	}
	return InParallel(ctx, ReadsAtOnce, files, func(ctx context.Context, f bucket.File) ([]Review, error) {
		name, take := ReviewedTake(f.Key)
		review, _, err := c.ReadReview(ctx, name, take)
		if err != nil || review.Name == "" {
			return nil, err
		}
		return []Review{review}, nil
	})
}

// succeededTakes returns the takes of a name that have succeeded, oldest first. If take is not
// empty, it returns only that take. It returns *NoJobError if there is no job of the name, and
// *StateError if no such take has succeeded.
func (c *Client) succeededTakes(ctx context.Context, name, take string) ([]ledger.Record, error) {
	takes, err := c.SubmittedTakes(ctx, name)
	if err != nil {
		return nil, err
	}
	newest := takes[len(takes)-1]
	found := slices.DeleteFunc(takes, func(rec ledger.Record) bool {
		return rec.State != ledger.Succeeded || take != "" && rec.Take != take
	})
	switch {
	case len(found) > 0:
		return found, nil
	case take != "":
		return nil, &StateError{Reason: fmt.Sprintf("%s has no take %s with an output; see its takes with lipdrop show", name, take)}
	}
	return nil, &StateError{Reason: fmt.Sprintf("%s has no output: it is %s", name, c.describeTake(newest))}
}

// formula matches what a spreadsheet would read as the beginning of a formula. A formula may
// follow a semicolon, because in many countries semicolons separate the cells. Some spreadsheets
// accept full-width signs too.
var formula = regexp.MustCompile(`(^|;"*)([=+@\t\r\n＝＋－＠-])`)

// ForSheet returns a text for a cell of a CSV file. It puts an apostrophe before each formula.
func ForSheet(text string) string { return formula.ReplaceAllString(text, "$1'$2") }
