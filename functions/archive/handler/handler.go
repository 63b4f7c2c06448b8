// Package handler copies the outputs of an ended job into the bucket, looks at
// them and writes down how the job ended. The copy is package transfer's.
package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler archives an ended job. Every step finds what an earlier run of it
// has done, so that it may be run again at any time.
type Handler struct {
	Bucket string
	Ledger *ledger.Store
	Files  *bucket.Bucket
	S3     bucket.S3
	API    *runcomfy.Client
	Copier Copier

	MaxOutputs int // of one job

	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Copier copies an output into the bucket; *transfer.Copier does.
type Copier interface {
	Copy(ctx context.Context, rawURL string, name func(head []byte, path string) (key, contentType string)) (transfer.Object, error)
	Find(ctx context.Context, rawURL, key string) (transfer.Object, bool, error)
}

// timeOverError ends a run so early that there is time to abort an upload.
type timeOverError struct{ after time.Duration }

func (e *timeOverError) Error() string { return "the function's time is over" }

const (
	// lostAnswers and lostPause: a request that RunComfy does not know is lost
	// after three such answers in a row over a minute.
	lostAnswers = 3
	lostPause   = 30 * time.Second

	// reserve is kept of the function's time to abort an upload and to say why.
	reserve = 15 * time.Second

	// maxFailure bounds what is kept of RunComfy's own words, in runes.
	maxFailure = 500
)

// Handle archives the outputs of a job that has ended. Its errors are those of
// packages workflow and transfer, unwrapped.
func (h *Handler) Handle(ctx context.Context, job workflow.Job) (workflow.Archived, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline.Add(-reserve), &timeOverError{deadline.Add(-reserve).Sub(h.Now())})
		defer cancel()
	}
	archived, err := h.archive(ctx, job)
	if err != nil {
		slog.ErrorContext(ctx, "not archived", "name", job.Name, "take", job.Take, "request_id", job.RequestID, "err", err)
	}
	return archived, err
}

func (h *Handler) archive(ctx context.Context, job workflow.Job) (workflow.Archived, error) {
	rec, err := h.Ledger.Get(ctx, job.Name, job.Take)
	if err != nil {
		return workflow.Archived{}, storage(err)
	}
	if rec.State == ledger.Succeeded {
		return h.done(ctx, rec)
	}
	if len(rec.Outputs) > 0 { // an earlier run has copied them all, and RunComfy may have them no more
		return h.finish(ctx, rec)
	}
	result, err := h.result(ctx, job)
	if err != nil {
		return workflow.Archived{}, err
	}
	switch result.State {
	case runcomfy.ResultFailed:
		ended := &workflow.JobFailed{Failure: workflow.Failuref("RunComfy reports: %s", failure(result))}
		if err := h.end(ctx, job, result, ledger.Failed, problem.JobFailed, ended.Message); err != nil {
			return workflow.Archived{}, err
		}
		return workflow.Archived{}, ended
	case runcomfy.ResultCancelled:
		if rec.State == ledger.Cancelled {
			// Cancel did it, and has said why. The execution ends as it should.
			return h.done(ctx, rec)
		}
		ended := &workflow.JobCancelled{Failure: workflow.Failure{Message: "RunComfy reports that the job was cancelled"}}
		if err := h.end(ctx, job, result, ledger.Cancelled, problem.JobCancelled, ended.Message); err != nil {
			return workflow.Archived{}, err
		}
		return workflow.Archived{}, ended
	}
	rec, err = h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		if r.State.CanBecome(ledger.Archiving) {
			r.State = ledger.Archiving
		}
		if r.Times.Archiving.IsZero() {
			r.Times.Archiving = h.clock()
		}
		return nil
	})
	if err != nil {
		return workflow.Archived{}, storage(err)
	}
	if len(result.Outputs) == 0 {
		return workflow.Archived{}, &transfer.NoOutput{}
	}
	if n := len(result.Outputs); n > h.MaxOutputs {
		return workflow.Archived{}, &workflow.OutputTooMany{Failure: workflow.Failuref(
			"RunComfy reports %d outputs of request %s; MaxOutputs allows %d", n, job.RequestID, h.MaxOutputs)}
	}
	outputs, warnings, err := h.copyAll(ctx, rec, result.Outputs)
	if err != nil {
		return workflow.Archived{}, err
	}
	return h.succeed(ctx, rec, result, outputs, warnings)
}

// result asks RunComfy how the job ended. That alone is definitive.
func (h *Handler) result(ctx context.Context, job workflow.Job) (runcomfy.Result, error) {
	var result runcomfy.Result
	var err error
	for answer := range lostAnswers {
		if answer > 0 {
			if err := h.Sleep(ctx, lostPause); err != nil {
				return result, unavailable(err)
			}
		}
		result, err = h.API.Result(ctx, job.RequestID)
		if kind(err) != runcomfy.KindUnknownRequest {
			break
		}
	}
	if kind(err) == runcomfy.KindUnknownRequest {
		return result, &workflow.RequestLost{Failure: workflow.Failuref("RunComfy does not know request %s: %v", job.RequestID, err)}
	}
	if err != nil {
		return result, unavailable(err)
	}
	if !result.State.Ended() {
		return result, unavailable(fmt.Errorf("the result of request %s is %q, not an end", job.RequestID, result.State))
	}
	return result, nil
}

// kind returns what an error of the API is, or "".
func kind(err error) runcomfy.Kind {
	if answered, ok := errors.AsType[*runcomfy.Error](err); ok {
		return answered.Kind()
	}
	return ""
}

// failure returns what a failed job says of itself.
func failure(result runcomfy.Result) string {
	text := result.Failure
	if text == "" {
		text = string(result.FailureRaw)
	}
	if text == "" {
		return "the job failed, without a reason"
	}
	if runes := []rune(text); len(runes) > maxFailure {
		return string(runes[:maxFailure]) + "…"
	}
	return text
}

// end records a job that RunComfy ended without an output. A redriven execution
// tells so in place of why it failed before.
func (h *Handler) end(ctx context.Context, job workflow.Job, result runcomfy.Result, state ledger.State, code problem.Code, reason string) error {
	rec, err := h.Ledger.Update(ctx, job.Name, job.Take, func(r *ledger.Record) error {
		if r.State == state && r.Code == code || r.State == ledger.Cancelled || !r.State.CanBecome(state) {
			return nil
		}
		r.State, r.Code, r.Reason = state, code, reason
		h.told(r, result)
		return nil
	})
	if err == nil {
		err = h.Ledger.PostTake(ctx, rec)
	}
	if err != nil {
		return storage(err)
	}
	return nil
}

// told writes what RunComfy tells of an ended job into its record.
func (h *Handler) told(r *ledger.Record, result runcomfy.Result) {
	r.CostUSD = result.CostUSD
	r.Times.Created, r.Times.Finished = result.CreatedAt, result.FinishedAt
	r.Times.Ended = h.clock()
	warn(r, result.Warnings)
}

// warn adds warnings to a record that it does not have yet.
func warn(r *ledger.Record, warnings []string) {
	for _, w := range warnings {
		if !slices.Contains(r.Warnings, w) {
			r.Warnings = append(r.Warnings, w)
		}
	}
}

// copyAll copies the outputs into the bucket and inspects each. It returns what
// is doubtful about them beside them.
func (h *Handler) copyAll(ctx context.Context, rec ledger.Record, addresses []string) (outputs []ledger.Output, doubts []string, err error) {
	there, err := h.archived(ctx, rec)
	if err != nil {
		return nil, nil, err
	}
	copied := false
	for i, address := range addresses {
		object, err := h.copy(ctx, rec, i, address, there)
		if slow, ok := errors.AsType[*workflow.OutputTooSlow](err); ok && copied {
			// The next run finds what this one has copied, so it gets further.
			return nil, nil, &transfer.OutputUnavailable{Err: slow}
		}
		if err != nil {
			return nil, nil, err
		}
		copied = copied || !object.Existed
		output := ledger.Output{Key: object.Key, Bytes: object.Bytes, SHA256: object.SHA256, Type: object.ContentType}
		doubtful, err := h.verdict(ctx, rec, object, &output)
		if err != nil {
			return nil, nil, err
		}
		outputs, doubts = append(outputs, output), append(doubts, doubtful...)
	}
	return outputs, doubts, nil
}

// archived returns the keys of the outputs that earlier runs have copied, each
// by its key without the suffix.
func (h *Handler) archived(ctx context.Context, rec ledger.Record) (map[string]string, error) {
	files, _, err := h.Files.List(ctx, ledger.OutputPrefix(rec.Name, rec.Take), math.MaxInt)
	if err != nil {
		return nil, storage(err)
	}
	keys := map[string]string{}
	for _, f := range files {
		keys[strings.TrimSuffix(f.Key, path.Ext(f.Key))] = f.Key
	}
	return keys, nil
}

// copy copies one output into the bucket, unless an earlier run has: RunComfy
// may no longer have the output.
func (h *Handler) copy(ctx context.Context, rec ledger.Record, index int, address string, there map[string]string) (transfer.Object, error) {
	stem := outputStem(rec, index)
	if key, ok := there[stem]; ok {
		object, found, err := h.Copier.Find(ctx, address, key)
		if err != nil {
			return transfer.Object{}, copyError(ctx, err)
		}
		if found {
			return object, nil
		}
	}
	object, err := h.Copier.Copy(ctx, address, func(head []byte, _ string) (string, string) {
		contentType, suffix := outputType(head)
		return stem + suffix, contentType
	})
	if err != nil {
		return transfer.Object{}, copyError(ctx, err)
	}
	slog.InfoContext(ctx, "copied", "name", rec.Name, "take", rec.Take, "key", object.Key, "bytes", object.Bytes, "existed", object.Existed)
	return object, nil
}

// outputStem returns the key of an output without its suffix. Outputs are named
// after the job: talk, then talk-2.
func outputStem(rec ledger.Record, index int) string {
	stem := ledger.OutputPrefix(rec.Name, rec.Take) + path.Base(rec.Name)
	if index > 0 {
		stem += "-" + strconv.Itoa(index+1)
	}
	return stem
}

// outputType returns the type and the suffix of an output by its first bytes,
// never by its URL: a file of another kind than a video or an image is .bin, so
// that nothing opens it as a page or a program, and none is named result.json.
func outputType(head []byte) (contentType, suffix string) {
	if contentType, suffix = media.Sniff(head); suffix == "" {
		return "application/octet-stream", ".bin"
	}
	return contentType, suffix
}

// done is a run after the one that succeeded: it makes sure of what comes after
// the record.
func (h *Handler) done(ctx context.Context, rec ledger.Record) (workflow.Archived, error) {
	if err := h.Ledger.PostTake(ctx, rec); err != nil {
		return workflow.Archived{}, storage(err)
	}
	archived := workflow.Archived{Name: rec.Name, Take: rec.Take}
	for _, output := range rec.Outputs {
		archived.Outputs = append(archived.Outputs, output.Key)
	}
	return archived, nil
}

// succeed records the outputs, all of which are copied.
func (h *Handler) succeed(ctx context.Context, rec ledger.Record, result runcomfy.Result, outputs []ledger.Output, warnings []string) (workflow.Archived, error) {
	rec, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		r.Outputs = outputs
		warn(r, warnings)
		warn(r, result.Warnings)
		r.CostUSD = result.CostUSD
		r.Times.Created, r.Times.Finished = result.CreatedAt, result.FinishedAt
		return nil
	})
	if err != nil {
		return workflow.Archived{}, storage(err)
	}
	return h.finish(ctx, rec)
}

// finish writes result.json, then the state, then the status.
func (h *Handler) finish(ctx context.Context, rec ledger.Record) (workflow.Archived, error) {
	ended := h.clock()
	if err := h.writeResult(ctx, rec, ended); err != nil {
		return workflow.Archived{}, storage(err)
	}
	rec, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		if r.State.CanBecome(ledger.Succeeded) && r.State != ledger.Succeeded {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Succeeded, "", "", ended
		}
		return nil
	})
	if err != nil {
		return workflow.Archived{}, storage(err)
	}
	slog.InfoContext(ctx, "archived", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID, "outputs", len(rec.Outputs), "cost_usd", rec.CostUSD)
	return h.done(ctx, rec)
}

func (h *Handler) clock() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }

func storage(err error) error { return &transfer.StorageUnavailable{Err: err} }

func unavailable(err error) error {
	return &workflow.ResultUnavailable{Failure: workflow.Failure{Message: err.Error()}}
}

// copyError returns the error of a copy as Step Functions must see it.
func copyError(ctx context.Context, err error) error {
	if over, ok := errors.AsType[*timeOverError](context.Cause(ctx)); ok {
		return &workflow.OutputTooSlow{Failure: workflow.Failuref(
			"the output could not be copied within the %s that one call of archive has", over.after.Round(time.Second))}
	}
	if bare := workflow.Bare(err); bare != nil {
		return bare
	}
	return &transfer.OutputUnavailable{Err: err}
}
