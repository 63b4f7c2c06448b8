package client

import (
	"context"
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Records returns the records of takes whose names begin with prefix and which were
// claimed since then. It reads only records that were written after since, in parallel.
// A record that is not JSON is left out, and counted in unreadable.
func (c *Client) Records(ctx context.Context, prefix string, since time.Time) (recs []ledger.Record, unreadable int, err error) {
	files, _, err := c.Bucket.List(ctx, "jobs/"+prefix, math.MaxInt)
	if err != nil {
		return nil, 0, c.Explain("list the records", "jobs/", err)
	}
	read := make([]*ledger.Record, len(files))
	broken := make([]bool, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i, f := range files {
		name, take := path.Split(strings.TrimSuffix(strings.TrimPrefix(f.Key, "jobs/"), ".json"))
		if name == "" || !f.LastModified.After(since) {
			continue
		}
		name = strings.TrimSuffix(name, "/")
		group.Go(func() error {
			rec, err := c.Ledger.Get(ctx, name, take)
			if _, broken[i] = errors.AsType[*ledger.UnreadableError](err); broken[i] || errors.Is(err, bucket.ErrNotFound) {
				return nil // gone: the claim was released
			}
			read[i] = &rec
			return c.Explain("read a record of "+name, f.Key, err)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	for i, rec := range read {
		switch {
		case broken[i]:
			unreadable++
		case rec != nil && !rec.Times.Claimed.Before(since):
			recs = append(recs, *rec)
		}
	}
	slices.SortStableFunc(recs, func(a, b ledger.Record) int { return a.Times.Claimed.Compare(b.Times.Claimed) })
	return recs, unreadable, nil
}
