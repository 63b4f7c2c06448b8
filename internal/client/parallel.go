package client

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// ReadsAtOnce is how many objects are read at the same time.
const ReadsAtOnce = 32

// InParallel calls do with each item, and with at most atOnce items at the same time. It
// returns all results in the order of the items.
func InParallel[In, Out any](ctx context.Context, atOnce int, items []In, do func(context.Context, In) ([]Out, error)) ([]Out, error) {
	results := make([][]Out, len(items))
	err := each(ctx, atOnce, items, func(ctx context.Context, i int, item In) (err error) {
		results[i], err = do(ctx, item)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

// each calls do with the index of each item and the item, and with at most atOnce items at the
// same time. It returns the first error, after which the context of the other calls ends.
func each[T any](ctx context.Context, atOnce int, items []T, do func(ctx context.Context, i int, item T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, item := range items {
		group.Go(func() error { return do(ctx, i, item) })
	}
	return group.Wait()
}
