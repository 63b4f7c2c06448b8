package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

// Result is result.json, which stands beside the outputs of a take. It is
// written once. docs/result.md describes it member by member.
type Result struct {
	Name      string          `json:"name"`
	Take      string          `json:"take"`
	Model     string          `json:"model"`
	Options   map[string]any  `json:"options"`
	Inputs    []ledger.Input  `json:"inputs"`
	Outputs   []ledger.Output `json:"outputs"`
	RequestID string          `json:"requestId"`
	Times     ledger.Times    `json:"times"`
	CostUSD   *float64        `json:"costUsd,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

// writeResult makes result.json. One that is there stays as it is: it is an
// earlier run's of the same take.
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
		Times: times, CostUSD: rec.CostUSD, Warnings: rec.Warnings,
	})
	if err != nil {
		return err
	}
	_, err = h.S3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &h.Bucket, Key: aws.String(ledger.OutputPrefix(rec.Name, rec.Take) + "result.json"),
		Body: bytes.NewReader(body.Bytes()), ContentType: aws.String("application/json"), IfNoneMatch: aws.String("*"),
	})
	var answered *awshttp.ResponseError
	if errors.As(err, &answered) && answered.HTTPStatusCode() == http.StatusPreconditionFailed {
		return nil
	}
	return err
}

// What an output's length may differ from the inputs' without a doubt: models
// cut, loop or pad to the shorter or the longer of them, and live-avatar makes
// whole clips of about 3 s.
const (
	slackShare = 0.1
	slackBelow = time.Second
	slackAbove = 3 * time.Second
)

// verdict inspects an archived output, fills in what it is, and returns what is
// doubtful about it. A doubt is for a person to judge: the output is paid for.
// When S3 fails it returns a *workflow.StorageUnavailable: that says nothing
// about the output.
func (h *Handler) verdict(ctx context.Context, rec ledger.Record, object transfer.Object, output *ledger.Output) ([]string, error) {
	base := output.Key[strings.LastIndexByte(output.Key, '/')+1:]
	file := bucket.File{Key: object.Key, ETag: strings.Trim(object.ETag, `"`), Size: object.Bytes}
	if _, ok := media.KindOf(base); !ok {
		return []string{base + " is no video or image that is known"}, nil
	}
	var readErr error
	info, err := media.Inspect(ctx, media.Source{
		Name: base, Size: object.Bytes,
		ReadRange: func(ctx context.Context, off, n int64) ([]byte, error) {
			part, err := h.Files.ReadRange(ctx, file, off, n)
			if err != nil {
				readErr = err
			}
			return part, err
		},
	})
	switch {
	case err != nil && readErr != nil:
		return nil, storage(fmt.Errorf("inspect the output: %w", readErr))
	case err != nil:
		return []string{"the output is doubtful: " + err.Error()}, nil
	}
	output.Width, output.Height = info.Width, info.Height
	output.DurationSeconds = info.Duration.Seconds()
	doubts := info.Warnings
	if info.Kind != media.Video || !info.HasDuration {
		return doubts, nil
	}
	var shortest, longest float64
	for _, in := range rec.Inputs {
		if d := in.DurationSeconds; d > 0 {
			if shortest == 0 || d < shortest {
				shortest = d
			}
			longest = max(longest, d)
		}
	}
	if longest == 0 {
		return doubts, nil
	}
	if d := output.DurationSeconds; d < shortest*(1-slackShare)-slackBelow.Seconds() || d > longest*(1+slackShare)+slackAbove.Seconds() {
		doubts = append(doubts, fmt.Sprintf("%s is %.1f s long; the inputs are %.1f to %.1f s", base, d, shortest, longest))
	}
	return doubts, nil
}
