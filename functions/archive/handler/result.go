package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/transfer"
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

	CostUSD   *float64        `json:"costUsd,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

// writeResult writes result.json. If an earlier run of the same take wrote it,
// writeResult leaves it unchanged.
func (h *Handler) writeResult(ctx context.Context, rec ledger.Record, ended time.Time) error {
	times := rec.Times
	times.Ended = ended
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(Result{
		Name: rec.Name, Take: rec.Take, Model: rec.Model, Options: rec.Options,
		Inputs: rec.Inputs, Outputs: rec.Outputs, RequestID: rec.RequestID,
		Times: times, ExpectedSeconds: rec.ExpectedSeconds, CostUSD: rec.CostUSD, Warnings: rec.Warnings,
	})
	if err != nil {
		return err
	}
	key := ledger.OutputPrefix(rec.Name, rec.Take) + "result.json"
	if _, err = h.Bucket.PutJSON(ctx, key, "", body.Bytes(), nil); errors.Is(err, bucket.ErrConflict) {
		_, err = h.Bucket.Head(ctx, key) // S3 also reports a conflict while another write is in progress
	}
	return err
}

// An output that is longer or shorter than the inputs by more than this is doubtful.
// Models cut, loop or pad to the shorter or the longer input, and live-avatar makes
// whole clips of about 3 s.
const (
	slackShare = 0.1
	slackBelow = time.Second
	slackAbove = 3 * time.Second
)

// inspect reads the headers of an archived output. It returns the output's entry in
// the record, and the doubts about the output. A doubtful output is kept, because it
// is paid for. A person decides whether it is usable. If S3 fails, inspect returns a
// *workflow.StorageUnavailable.
func (h *Handler) inspect(ctx context.Context, rec ledger.Record, object transfer.Object) (ledger.Output, []string, error) {
	output := ledger.Output{Key: object.Key, Bytes: object.Bytes, SHA256: object.SHA256, Type: object.ContentType}
	file := path.Base(object.Key)
	if _, ok := media.KindOf(file); !ok {
		return output, []string{file + " is neither a video nor an image of a known format"}, nil
	}
	var readErr error
	info, err := media.Inspect(ctx, media.Source{
		Name: file, Size: object.Bytes,
		ReadRange: func(ctx context.Context, off, n int64) ([]byte, error) {
			part, err := h.Bucket.ReadRange(ctx, bucket.File{Key: object.Key, ETag: object.ETag, Size: object.Bytes}, off, n)
			if err != nil {
				readErr = err
			}
			return part, err
		},
	})
	if err != nil && readErr != nil {
		return output, nil, storage(fmt.Errorf("inspect the output: %w", readErr))
	}
	doubts := info.Warnings
	if err != nil {
		doubts = []string{"the output is doubtful: " + err.Error()}
	} else {
		output.Width, output.Height, output.DurationSeconds = info.Width, info.Height, info.Length().D.Seconds()
		if info.Kind == media.Video && info.Length().Exact {
			doubts = append(doubts, compareLengths(file, output, rec.Inputs)...)
		}
	}
	return output, doubts, nil
}

// compareLengths returns a doubt if an output is much shorter or longer than all
// inputs whose length is known.
func compareLengths(file string, output ledger.Output, inputs []ledger.Input) []string {
	var shortest, longest float64
	for _, in := range inputs {
		if d := in.DurationSeconds; d > 0 {
			if shortest == 0 || d < shortest {
				shortest = d
			}
			longest = max(longest, d)
		}
	}
	d := output.DurationSeconds
	tooShort := d < shortest*(1-slackShare)-slackBelow.Seconds()
	tooLong := d > longest*(1+slackShare)+slackAbove.Seconds()
	if longest == 0 || !tooShort && !tooLong {
		return nil
	}
	return []string{fmt.Sprintf("%s is %.1f s long; the inputs are %.1f to %.1f s", file, d, shortest, longest)}
}
