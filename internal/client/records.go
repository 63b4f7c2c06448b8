package client

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Records returns the records of takes whose names begin with prefix and which were
// claimed since then. It reads only records that were written after since, in parallel.
// A record that is not JSON is left out, and counted in unreadable.
func (c *Client) Records(ctx context.Context, prefix string, since time.Time) (recs []ledger.Record, unreadable int, err error) {
	takes, err := c.Ledger.Written(ctx, prefix, since)
	if err != nil {
		return nil, 0, c.Explain("list the records", "jobs/", err)
	}
	read := make([]*ledger.Record, len(takes))
	broken := make([]bool, len(takes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i, take := range takes {
		group.Go(func() error {
			rec, err := c.Ledger.Get(ctx, take.Name, take.Take)
			if _, broken[i] = errors.AsType[*ledger.UnreadableError](err); broken[i] || errors.Is(err, bucket.ErrNotFound) {
				return nil // gone: the claim was released
			}
			read[i] = &rec
			return c.Explain("read a record of "+take.Name, ledger.RecordKey(take.Name, take.Take), err)
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
	return recs, unreadable, nil
}
