package client

import (
	"context"
	"slices"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Job is everything that is known about one name.
type Job struct {
	Status ledger.Status `json:"status"`
	Takes  []Take        `json:"takes"` // newest first
}

// Take is the record of a take and its review, if there is one.
type Take struct {
	ledger.Record
	Review *Review `json:"review,omitempty"`
}

// Show returns everything that is known about a name. It returns *NoJobError if there
// is no such name.
func (c *Client) Show(ctx context.Context, name string) (Job, error) {
	st, err := c.Status(ctx, name)
	if err != nil {
		return Job{}, err
	}
	records, err := c.Takes(ctx, name)
	if err != nil {
		return Job{}, err
	}
	job := Job{Status: st.Status, Takes: []Take{}}
	for _, rec := range slices.Backward(records) {
		take := Take{Record: rec}
		if take.State == ledger.Succeeded {
			review, etag, err := c.ReadReview(ctx, name, take.Take)
			if err != nil {
				return Job{}, err
			}
			if etag != "" {
				take.Review = &review
			}
		}
		job.Takes = append(job.Takes, take)
	}
	return job, nil
}
