package handler

import (
	"context"
	"errors"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Result is result.json, which is stored with the outputs of a take and written
// once. docs/result.md describes each member.
type Result struct {
	Name      string          `json:"name"`
	Take      string          `json:"take"`
	Model     string          `json:"model"`
	Options   map[string]any  `json:"options"`
	Inputs    []ledger.Input  `json:"inputs"`
	Outputs   []ledger.Output `json:"outputs"`
	RequestID string          `json:"requestId"`
	Times     ledger.Times    `json:"times"`

	ExpectedSeconds float64 `json:"expectedSeconds,omitempty"`

	EstimateUSD *float64 `json:"estimateUsd,omitempty"`
	CostUSD     *float64 `json:"costUsd,omitempty"`

	Warnings []string `json:"warnings,omitempty"`
}

// writeResult writes result.json. If an earlier run of the same take wrote it,
// writeResult leaves it unchanged.
func (h *Handler) writeResult(ctx context.Context, rec ledger.Record, ended time.Time) error {
	times := rec.Times
	times.Ended = ended
	body := bucket.JSON(Result{
		Name: rec.Name, Take: rec.Take, Model: rec.Model, Options: rec.Options,
		Inputs: rec.Inputs, Outputs: rec.Outputs, RequestID: rec.RequestID,
		Times: times, ExpectedSeconds: rec.ExpectedSeconds, EstimateUSD: rec.EstimateUSD, CostUSD: rec.CostUSD, Warnings: rec.Warnings,
	}, "  ")
	key := ledger.OutputPrefix(rec.Name, rec.Take) + "result.json"
	_, err := h.Ledger.Bucket.PutJSON(ctx, key, "", body, nil)
	if errors.Is(err, bucket.ErrConflict) {
		_, err = h.Ledger.Bucket.Head(ctx, key) // S3 also reports a conflict while another write is in progress
	}
	return err
}
