package handler

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// claimTime is how much of the function's time must be left before the claim, and
	// submitTime before the POST. submitTime covers the POST and the tries to record the response.
	claimTime  = submitTime + 5*time.Second
	submitTime = runcomfy.Timeout + retryTime + writeTime

	// A write that must not be lost is tried for retryTime. The pauses between the tries double,
	// beginning with firstPause. Each try gives up after writeTime, and so does the status request
	// of isRefused.
	retryTime  = 30 * time.Second
	writeTime  = 10 * time.Second
	firstPause = time.Second

	// clockSkew is by how much two clocks may differ.
	clockSkew = time.Minute
)

// submitJob submits a job once, if its inputs are valid. A take that an earlier delivery
// claimed is not submitted again: submitJob starts its execution, or records that its
// outcome is unknown.
func (h *Handler) submitJob(ctx context.Context, f finding) error {
	rec, err := h.Ledger.Get(ctx, f.Job.Name, f.Job.Take)
	if err == nil {
		return h.resume(ctx, f, rec)
	}
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable { // an earlier try may have paid for the take
		manifest, _ := f.Job.Manifest()
		return h.postNotSubmitted(ctx, f, ledger.Record{Name: f.Job.Name, Take: f.Job.Take, Manifest: manifest.Key, Match: f.Job.Restart().Match}, err)
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	if skip, err := h.mustNotRun(ctx, f); err != nil {
		return err
	} else if skip {
		return h.rewrite(ctx, f)
	}
	ready, problems, err := h.Resolver.Prepare(ctx, f.Job)
	if err != nil {
		return err
	}
	if problems != nil {
		f.State, f.Problems, f.Warnings = drop.StateOf(problems), problems, ready.Warnings
		return h.postFinding(ctx, f)
	}
	return h.submitReady(ctx, f, ready)
}

// submitReady claims the take of a valid job, reserves what the job needs of the day's caps,
// submits the job and starts its execution.
func (h *Handler) submitReady(ctx context.Context, f finding, ready drop.Prepared) error {
	input, err := h.presignInput(ctx, ready)
	if err != nil {
		return err
	}
	claim := h.newClaim(ctx, f.Job, ready)
	// Read the token now, so that reading the secret takes no time between the claim and
	// the POST.
	if err := h.API.CheckToken(ctx); err != nil {
		return h.postNotSubmitted(ctx, f, claim, err)
	}
	h.estimate(ctx, &claim, ready.Expected.Length)
	if err := h.checkCaps(ctx, claim); err != nil {
		return h.postNotSubmitted(ctx, f, claim, err)
	}
	if !workflow.HasTime(ctx, h.Now(), claimTime) {
		return errNoTime
	}
	if h.sessionEnds() {
		return errOldSession
	}
	rec, claimed, err := h.Ledger.Claim(ctx, claim)
	if err != nil {
		return err
	}
	if !claimed {
		return h.resume(ctx, f, rec)
	}
	// If a file is deleted from now on, cancel finds the record. checkInputs notices a file that
	// was deleted or replaced earlier.
	if err := h.checkInputs(ctx, rec); err != nil {
		return errors.Join(err, h.release(ctx, rec, budget.Reservation{}))
	}
	reserved, err := h.reserve(ctx, rec)
	if err != nil {
		return h.handleSubmitError(ctx, f, rec, reserved, err)
	}
	if !workflow.HasTime(ctx, h.Now(), submitTime) { // the steps since the claim took too long
		return errors.Join(errNoTime, h.release(ctx, rec, reserved))
	}
	requestID, err := h.API.Submit(ctx, ready.Model, input)
	if requestID == "" || err != nil && h.isRefused(ctx, requestID, err) {
		return h.handleSubmitError(ctx, f, rec, reserved, err)
	}
	if err != nil {
		rec.Warn("RunComfy returned a request id together with an error, so the job may run; " + describe(err))
	}
	if rec, err = h.recordRequestID(ctx, rec, requestID); err != nil {
		return err
	}
	slog.InfoContext(ctx, "submitted", "name", rec.Name, "take", rec.Take, "state", rec.State, "request_id", rec.RequestID)
	return h.ensureExecution(ctx, f, rec)
}

// isRefused reports whether RunComfy certainly did not accept a job, although Submit returned both
// requestID and submitErr. If only the status request fails with KindToken or KindForeign, the job
// may run: a person may have set the token of another account since the POST. An error without a
// code may come from a proxy, which does not know the job.
func (h *Handler) isRefused(ctx context.Context, requestID string, submitErr error) bool {
	if runcomfy.IsKind(submitErr, runcomfy.KindUnavailable) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	_, err := h.API.Status(ctx, requestID)
	if response, ok := errors.AsType[*runcomfy.Error](err); !ok || response.Code == 0 {
		return false
	}
	return runcomfy.IsKind(err, runcomfy.KindUnknownRequest) ||
		runcomfy.IsKind(submitErr, runcomfy.KindToken, runcomfy.KindForeign) && runcomfy.IsKind(err, runcomfy.KindToken, runcomfy.KindForeign)
}

// resume continues with a take that was claimed before.
func (h *Handler) resume(ctx context.Context, f finding, rec ledger.Record) error {
	if rec.State == ledger.Submitting {
		return h.endInterrupted(ctx, rec)
	}
	if err := h.ensureExecution(ctx, f, rec); err != nil {
		return err
	}
	if _, bundle := f.Job.Manifest(); !bundle {
		return nil
	}
	// warnUnused then warns about files that were just uploaded. The loop warns about files of the
	// bundle that were replaced earlier, while the name's status was not about this take.
	f.warnLater(rec.Name, rec.Take)
	for _, file := range f.Files() {
		if err := h.warnIfReplaced(ctx, rec, file); err != nil {
			return err
		}
	}
	return nil
}

// endInterrupted records a take as unknown if the invocation that claimed it died before
// recording an outcome. It returns errBusy while that invocation may still run.
func (h *Handler) endInterrupted(ctx context.Context, rec ledger.Record) error {
	if !rec.ClaimEnded(h.Now()) {
		return errBusy
	}
	rec, err := h.recordUnknown(ctx, rec, problem.SubmitInterrupted, problem.InterruptedReason)
	if err != nil {
		return err
	}
	return h.Ledger.PostTake(ctx, rec)
}

// presignInput returns the whole input of a job, with a presigned URL for each
// file.
func (h *Handler) presignInput(ctx context.Context, ready drop.Prepared) (map[string]any, error) {
	input := maps.Clone(ready.Input)
	for _, medium := range ready.Media {
		url := medium.URL
		if url == "" {
			var err error
			if url, err = h.Presign(ctx, medium.File); err != nil {
				return nil, err
			}
		}
		input[medium.Property] = url
	}
	return input, nil
}

// newClaim returns the record of a take that is about to be submitted.
func (h *Handler) newClaim(ctx context.Context, job *drop.Job, ready drop.Prepared) ledger.Record {
	rec := ledger.Record{
		Name: job.Name, Take: job.Take, State: ledger.Submitting,
		Model: ready.Model, Options: ready.Input, Warnings: ready.Warnings,
		ExpectedSeconds: ledger.Seconds(ready.Expected.Length), ExpectedWithin: ledger.Seconds(ready.Expected.Within),
		Times: ledger.Times{Claimed: ledger.Timestamp(h.Now())},
	}
	if deadline, ok := ctx.Deadline(); ok {
		rec.ClaimEnds = ledger.Timestamp(deadline.Add(returnTime + clockSkew))
	}
	if model, ok := h.Resolver.Catalog.Model(ready.Model); ok {
		rec.UsualSeconds = int(model.Usual.Of(ready.Expected.Length).Seconds())
	}
	for _, medium := range ready.Media {
		rec.Inputs = append(rec.Inputs, medium.Input())
	}
	if file, ok := job.Manifest(); ok {
		rec.Manifest, rec.Match = file.Key, job.Restart().Match
		rec.Inputs = append(rec.Inputs, drop.Medium{File: file}.Input())
	}
	return rec
}

// checkInputs returns bucket.ErrChanged if a file of a take was deleted or replaced.
func (h *Handler) checkInputs(ctx context.Context, rec ledger.Record) error {
	for _, in := range rec.Inputs {
		if in.Key == "" {
			continue
		}
		file, err := h.Ledger.Bucket.Head(ctx, in.Key)
		if errors.Is(err, bucket.ErrNotFound) || err == nil && !file.Matches(in.ETag, in.LastModified) {
			return bucket.ErrChanged
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordRequestID records the request id of a job that RunComfy has accepted. The id
// is stored nowhere else, so the write is retried (see retry).
func (h *Handler) recordRequestID(ctx context.Context, rec ledger.Record, requestID string) (ledger.Record, error) {
	submitted := ledger.Timestamp(h.Now())
	err := h.retry(ctx, func(ctx context.Context) error {
		recorded, err := h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
			if r.RequestID == requestID {
				return // an earlier try wrote the record, and the take may have a later state by now
			}
			r.State, r.RequestID, r.Times.Submitted = ledger.Submitted, requestID, submitted
		})
		if err != nil {
			slog.ErrorContext(ctx, "paid, but not recorded", "name", rec.Name, "take", rec.Take, "request_id", requestID, "err", err)
			return err
		}
		rec = recorded
		return nil
	})
	return rec, err
}

// release releases a claim and gives back the take's reservation. It retries the release,
// because a claim that remains looks like a job that may have been charged.
func (h *Handler) release(ctx context.Context, rec ledger.Record, reserved budget.Reservation) error {
	err := h.retry(ctx, func(ctx context.Context) error {
		err := h.Ledger.Release(ctx, rec)
		if err != nil {
			slog.WarnContext(ctx, "claim not released", "name", rec.Name, "take", rec.Take, "err", err)
		}
		return err
	})
	if err == nil {
		h.giveBack(ctx, reserved)
	}
	return err
}

// retry calls the function write until a call succeeds. No call begins later than retryTime after
// the first. Before a pause in which the Lambda function's time would end, retry gives up.
func (h *Handler) retry(ctx context.Context, write func(context.Context) error) error {
	until := h.Now().Add(retryTime)
	for pause := firstPause; ; pause *= 2 {
		writeCtx, cancel := context.WithTimeout(ctx, writeTime)
		err := write(writeCtx)
		cancel()
		pause = min(pause, until.Sub(h.Now()))
		if err == nil || pause <= 0 || !workflow.HasTime(ctx, h.Now(), pause) || h.Sleep(ctx, pause) != nil {
			return err
		}
	}
}

// ensureExecution starts the execution of a submitted take, unless the take has an execution
// or has ended, and posts the take's status.
func (h *Handler) ensureExecution(ctx context.Context, f finding, rec ledger.Record) error {
	if !rec.State.Ended() {
		if err := h.startExecution(ctx, rec); err != nil {
			return err
		}
	}
	return h.postTake(ctx, f, rec)
}

// startExecution starts the execution of a submitted take. If this fails and the take may have
// no execution yet, startExecution posts a status that says so.
func (h *Handler) startExecution(ctx context.Context, rec ledger.Record) error {
	err := workflow.Start(ctx, h.States, h.Ledger.MachineARN, rec.Job())
	if err != nil && rec.State == ledger.Submitted { // only an execution records a later state
		err = errors.Join(err, h.Ledger.PostTake(ctx, rec, "the job is submitted, but nothing waits for its end yet: "+err.Error()+"; lipdrop tries again"))
	}
	return err
}

// postTake posts the status of a finding's take. If the previous status is about a claimed
// take, that take may be newer, so ledger.PostTake decides which of the two takes the status is
// about.
func (h *Handler) postTake(ctx context.Context, f finding, rec ledger.Record) error {
	if f.prev.Take == rec.Take {
		if err := h.rewrite(ctx, f); err != nil {
			return err
		}
		if f.prev.State == rec.State && rec.State != ledger.Submitted && !rec.State.Ended() {
			return nil // keep the status: it may have a warning that is not in the record
		}
	}
	if f.prev.State.Claimed() {
		return h.Ledger.PostTake(ctx, rec)
	}
	err := h.Ledger.Post(ctx, f.Key, h.Ledger.TakeStatus(rec), ledger.OrderOf(rec.Take, rec.Times.Claimed), f.prev)
	if err == nil {
		h.Ledger.SendNotice(ctx, rec)
	}
	return err
}
