// Package handler is the archive function. After a job has ended, it copies the job's
// outputs into the bucket, inspects them and records how the job ended. Package
// transfer makes the copies.
package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Handler archives jobs. Each step detects what an earlier run has already done, so
// Handle may be called again at any time.
type Handler struct {
	Ledger  *ledger.Store
	API     *runcomfy.Client
	Copier  Copier
	Catalog *catalog.Catalog

	MaxOutputs int // the most outputs that one job may have

	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Copier copies an output into the bucket. *transfer.Copier implements it.
type Copier interface {
	Copy(ctx context.Context, rawURL string, name func(head []byte) (key, contentType string)) (transfer.Object, error)
	Find(ctx context.Context, rawURL, key string) (transfer.Object, bool, error)
}

// cleanupTime is how much of the function's time must be left when copies stop, so that the
// function can abort the upload, write the status and return the error.
const cleanupTime = 15 * time.Second

// timeOverError is the cause that ends archive's context when the time for copies is over.
type timeOverError struct{ after time.Duration }

func (e *timeOverError) Error() string { return "the time for copies is over" }

// Handle archives the outputs of a job that has ended. It returns errors of package
// workflow and does not wrap them, because Step Functions recognizes them by their types.
func (h *Handler) Handle(ctx context.Context, job workflow.Job) (workflow.Archived, error) {
	limited := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		deadline = deadline.Add(-cleanupTime)
		limited, cancel = context.WithDeadlineCause(ctx, deadline, &timeOverError{deadline.Sub(h.Now())})
		defer cancel()
	}
	rec, err := h.archive(limited, job)
	if err != nil {
		if workflow.Bare(err) == nil { // an error of the ledger or its bucket
			err = &workflow.StorageUnavailable{Failure: workflow.Failure{Err: err}}
		}
		slog.ErrorContext(ctx, "not archived", "name", job.Name, "take", job.Take, "request_id", job.RequestID, "err", err)
		// Step Functions may call Handle again for hours, so the status says why this call failed.
		h.Ledger.PostWarning(ctx, job, fmt.Sprintf("the outputs are not archived; the last try ended at %s: %v", workflow.Clock(h.Now()), err))
		return workflow.Archived{}, err
	}
	archived := workflow.Archived{Name: rec.Name, Take: rec.Take}
	for _, output := range rec.Outputs {
		archived.Outputs = append(archived.Outputs, output.Key)
	}
	return archived, nil
}

// archive records how a job has ended, archives its outputs, and returns the record of the take.
// It returns an error of package workflow and does not wrap it, or an error of the ledger or its
// bucket.
func (h *Handler) archive(ctx context.Context, job workflow.Job) (ledger.Record, error) {
	rec, err := h.Ledger.Get(ctx, job.Name, job.Take)
	if errors.Is(err, bucket.ErrNotFound) { // a job that RunComfy does not know must get no new record
		if _, err := h.fetchResult(ctx, job); err != nil {
			return rec, err
		}
	}
	if err != nil { // GetOrRecreate also warns if the record is unreadable
		rec, err = h.Ledger.GetOrRecreate(ctx, job)
	}
	if err != nil {
		return rec, err
	}
	if rec.State == ledger.Succeeded {
		return rec, h.Ledger.PostTake(ctx, rec)
	}
	if len(rec.Outputs) > 0 { // an earlier run has copied all of them
		return h.finish(ctx, rec)
	}
	result, err := h.fetchResult(ctx, job)
	if err != nil {
		return rec, err
	}
	switch {
	case result.State == runcomfy.ResultFailed:
		return rec, cmp.Or[error](h.Ledger.RecordEnd(ctx, rec, result), &workflow.JobFailed{Failure: workflow.Failuref("%s", result.EndText())})
	case result.State == runcomfy.ResultCancelled && rec.State == ledger.Cancelled && rec.Code != problem.JobCancelled:
		return rec, h.Ledger.PostTake(ctx, rec) // the cancel function has recorded why
	case result.State == runcomfy.ResultCancelled:
		return rec, cmp.Or[error](h.Ledger.RecordEnd(ctx, rec, result), &workflow.JobCancelled{Failure: workflow.Failuref("%s", result.EndText())})
	}
	return h.archiveOutputs(ctx, rec, result)
}

// archiveOutputs archives the outputs of a job that has succeeded. It returns what archive
// returns.
func (h *Handler) archiveOutputs(ctx context.Context, rec ledger.Record, result runcomfy.Result) (ledger.Record, error) {
	rec, err := h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
		if r.State.CanBecome(ledger.Archiving) {
			r.State = ledger.Archiving
		}
		if r.Times.Archiving.IsZero() {
			r.Times.Archiving = ledger.Timestamp(h.Now())
		}
	})
	if err != nil {
		return rec, err
	}
	if len(result.Outputs) == 0 {
		reason := "RunComfy reports success without an output"
		if result.Failure != "" {
			reason += ", and the error: " + result.Failure
		}
		reason = strings.Join(append([]string{reason}, result.Warnings...), "; ")
		return rec, &workflow.NoOutput{Failure: workflow.Failuref("%s", reason)}
	}
	if n := len(result.Outputs); n > h.MaxOutputs {
		return rec, &workflow.OutputTooMany{Failure: workflow.Failuref(
			"RunComfy reports %d outputs of request %s; MaxOutputs allows %d", n, rec.RequestID, h.MaxOutputs)}
	}
	outputs, warnings, err := h.copyOutputs(ctx, rec, result.Outputs)
	if err != nil {
		return rec, err
	}
	rec, err = h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
		r.Outputs = outputs
		for _, text := range warnings {
			r.Warn(text)
		}
		r.AddResult(result)
	})
	if err != nil {
		return rec, err
	}
	return h.finish(ctx, rec)
}

// fetchResult asks RunComfy how the job ended: poll reports only that it has ended. While
// RunComfy does not know the request, fetchResult asks again until workflow.LostAfter
// has passed.
func (h *Handler) fetchResult(ctx context.Context, job workflow.Job) (runcomfy.Result, error) {
	var result runcomfy.Result
	var err error
	unknown := true
	for try := 0; unknown && try < workflow.LostResponses; try++ {
		if try > 0 {
			if err := h.Sleep(ctx, workflow.LostAfter/(workflow.LostResponses-1)); err != nil {
				return result, unavailable("%v", err)
			}
		}
		result, err = h.API.Result(ctx, job.RequestID)
		unknown = runcomfy.IsKind(err, runcomfy.KindUnknownRequest)
	}
	switch {
	case unknown:
		return result, &workflow.RequestLost{Failure: workflow.Failuref("RunComfy does not know request %s: %v", job.RequestID, err)}
	case err != nil:
		return result, unavailable("%v", err)
	case !result.State.Ended():
		return result, unavailable("RunComfy reports the result of request %s as %q, so the job has not ended", job.RequestID, result.State)
	}
	return result, nil
}

// copyOutputs copies the outputs into the bucket and inspects each. It returns the
// outputs, and a warning for everything that is unusual or doubtful about them. If it cannot
// copy an output, it copies the others while there is time, and returns the error of the first.
// If the time ends before this run has copied anything, it returns OutputTooSlow instead of an error
// that the state machine retries more often.
func (h *Handler) copyOutputs(ctx context.Context, rec ledger.Record, addresses []string) (outputs []ledger.Output, warnings []string, err error) {
	earlier, err := h.copiedEarlier(ctx, rec)
	if err != nil {
		return nil, nil, err
	}
	copied := false
	for i, address := range addresses {
		object, copyErr := h.copyOutput(ctx, rec, i, address, earlier)
		slow, isSlow := errors.AsType[*workflow.OutputTooSlow](copyErr)
		_, noOutput := errors.AsType[*workflow.OutputUnavailable](err)
		_, noStorage := errors.AsType[*workflow.StorageUnavailable](err)
		if isSlow && copied {
			// The next run need not copy what this run has copied, so it may have time for this output.
			copyErr = &workflow.OutputUnavailable{Failure: slow.Failure}
		} else if isSlow && (noOutput || noStorage) {
			err = slow // which the state machine retries less often
		}
		if copyErr != nil { // copy the other outputs, because RunComfy may delete them before the next run
			err = cmp.Or(err, copyErr)
			continue
		}
		copied = copied || !object.Existed
		output, unusual := h.inspectOutput(ctx, rec, object)
		outputs, warnings = append(outputs, output), append(warnings, unusual...)
		for _, doubt := range output.Verdict.Doubts {
			warnings = append(warnings, doubt.Reason)
		}
	}
	return outputs, warnings, err
}

// copiedEarlier lists the outputs that earlier runs copied. It returns a map from the key
// without its suffix (see outputStem) to the key.
func (h *Handler) copiedEarlier(ctx context.Context, rec ledger.Record) (map[string]string, error) {
	files, _, err := h.Ledger.Bucket.List(ctx, ledger.OutputPrefix(rec.Name, rec.Take), math.MaxInt)
	if err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for _, f := range files {
		keys[strings.TrimSuffix(f.Key, path.Ext(f.Key))] = f.Key
	}
	return keys, nil
}

// copyOutput copies one output into the bucket. It does not download an output that
// an earlier run has copied: RunComfy may have deleted that output since.
func (h *Handler) copyOutput(ctx context.Context, rec ledger.Record, index int, address string, earlier map[string]string) (transfer.Object, error) {
	stem := outputStem(rec, index)
	if key, ok := earlier[stem]; ok {
		object, found, err := h.Copier.Find(ctx, address, key)
		if err != nil {
			return transfer.Object{}, copyError(ctx, err)
		}
		if found {
			return object, nil
		}
	}
	object, err := h.Copier.Copy(ctx, address, func(head []byte) (string, string) {
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

// outputType returns the content type and the suffix of an output. If media.Sniff
// returns no suffix, the suffix is .bin, so that no browser opens the output as a page and no
// output is named result.json.
func outputType(head []byte) (contentType, suffix string) {
	if contentType, suffix = media.Sniff(head); suffix == "" {
		return "application/octet-stream", ".bin"
	}
	return contentType, suffix
}

// finish writes result.json, then the record, then the status.
func (h *Handler) finish(ctx context.Context, rec ledger.Record) (ledger.Record, error) {
	ended := ledger.Timestamp(h.Now())
	if err := h.writeResult(ctx, rec, ended); err != nil {
		return rec, err
	}
	rec, err := h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
		if r.State.CanBecome(ledger.Succeeded) && r.State != ledger.Succeeded {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Succeeded, "", "", ended
		}
	})
	if err != nil {
		return rec, err
	}
	slog.InfoContext(ctx, "archived", "name", rec.Name, "take", rec.Take, "request_id", rec.RequestID, "outputs", len(rec.Outputs), "cost_usd", rec.CostUSD)
	return rec, h.Ledger.PostTake(ctx, rec)
}

// writeResult writes result.json. If an earlier run of the same take wrote it,
// writeResult leaves it unchanged.
func (h *Handler) writeResult(ctx context.Context, rec ledger.Record, ended time.Time) error {
	times := rec.Times
	times.Ended = ended
	body := bucket.JSON(ledger.Result{
		Name: rec.Name, Take: rec.Take, Model: rec.Model, Options: rec.Options,
		Inputs: rec.Inputs, Outputs: rec.Outputs, RequestID: rec.RequestID,
		Times: times, ExpectedSeconds: rec.ExpectedSeconds, EstimateUSD: rec.EstimateUSD, CostUSD: rec.CostUSD, Warnings: rec.Warnings,
	}, "  ")
	key := ledger.ResultKey(rec.Name, rec.Take)
	_, err := h.Ledger.Bucket.PutJSON(ctx, key, "", body, nil)
	if errors.Is(err, bucket.ErrConflict) {
		_, err = h.Ledger.Bucket.Head(ctx, key) // S3 also reports a conflict while another write is under way, and that write may fail
	}
	return err
}

func unavailable(format string, args ...any) error {
	return &workflow.ResultUnavailable{Failure: workflow.Failuref(format, args...)}
}

// copyError converts an error of a copy into an error that Step Functions recognizes.
func copyError(ctx context.Context, err error) error {
	if over, ok := errors.AsType[*timeOverError](context.Cause(ctx)); ok {
		return &workflow.OutputTooSlow{Failure: workflow.Failuref(
			"the outputs could not be copied within %s, the time that one call of archive has for copies", over.after.Round(time.Second))}
	}
	if bare := workflow.Bare(err); bare != nil {
		return bare
	}
	return &workflow.OutputUnavailable{Failure: workflow.Failure{Err: err}}
}
