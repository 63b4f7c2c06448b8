package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/token"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// A write that must not be lost is tried for retryTime. Each try gives up after writeTime. The
// pause between two tries begins with firstPause, and doubles.
const (
	retryTime  = 30 * time.Second
	writeTime  = 10 * time.Second
	firstPause = time.Second
)

// submitJob submits a job once, if its inputs are valid. A take that an earlier delivery
// claimed is not submitted again: submitJob starts its execution, or records that its
// outcome is unknown.
func (h *Handler) submitJob(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) error {
	rec, err := h.Ledger.Get(ctx, f.Job.Name, f.Job.Take)
	if err == nil {
		return h.resume(ctx, a, f, rec, prev)
	}
	if unreadable, ok := errors.AsType[*bucket.UnreadableError](err); ok {
		return h.holdUnreadable(ctx, a, f, prev, unreadable)
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	if skip, err := h.mustNotRun(ctx, a, f, prev); err != nil {
		return err
	} else if skip {
		return h.rewrite(ctx, f.Key, prev)
	}
	ready, problems, err := h.Resolver.Prepare(ctx, f.Job)
	if err != nil {
		return err
	}
	if problems != nil {
		f.State, f.Problems, f.Warnings = drop.StateOf(problems), problems, ready.Warnings
		return h.postFinding(ctx, a, f, prev)
	}
	return h.submitReady(ctx, a, f, ready, prev)
}

// submitReady claims the take of a valid job, reserves what the job needs of the day's caps,
// submits it and starts its execution.
func (h *Handler) submitReady(ctx context.Context, a *assessment, f drop.Finding, ready drop.Ready, prev ledger.Posted) error {
	input, err := h.presignInput(ctx, ready)
	if err != nil {
		return err
	}
	claim := h.newClaim(ctx, f.Job, ready)
	// Read the token now, so that nothing slow happens between the claim and the
	// POST.
	if err := h.API.CheckToken(ctx); err != nil {
		return h.postNotSubmitted(ctx, a, claim, prev, err)
	}
	h.estimate(ctx, &claim, ready.Expected.Length)
	if err := h.checkCaps(ctx, claim); err != nil {
		if _, state := classify(err); state == ledger.Held {
			return h.postNotSubmitted(ctx, a, claim, prev, err)
		}
		return err
	}
	if !h.hasTime(ctx, claimTime) {
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
		return h.resume(ctx, a, f, rec, prev)
	}
	reserved, err := h.reserve(ctx, rec)
	if err != nil {
		return h.handleReserveError(ctx, a, rec, prev, err)
	}
	if !h.hasTime(ctx, submitTime) { // the claim took too long
		return errors.Join(errNoTime, h.release(ctx, rec, reserved))
	}
	requestID, err := h.API.Submit(ctx, ready.Model, input)
	if err != nil {
		return h.handleSubmitError(ctx, a, rec, reserved, prev, err)
	}
	if rec, err = h.recordRequestID(ctx, rec, requestID); err != nil {
		return err
	}
	return h.ensureExecution(ctx, rec, prev)
}

// resume continues with a take that was claimed before.
func (h *Handler) resume(ctx context.Context, a *assessment, f drop.Finding, rec ledger.Record, prev ledger.Posted) error {
	if rec.State == ledger.Submitting {
		return h.endInterrupted(ctx, rec)
	}
	if err := h.ensureExecution(ctx, rec, prev); err != nil {
		return err
	}
	if _, bundle := f.Job.Manifest(); !bundle {
		return nil
	}
	// An upload of a bundle's media makes no new take, only a warning. If the status was
	// about another take when that upload was handled, the warning is still missing. So each
	// file is compared with the take's inputs.
	a.keep(rec.Name, rec.Take)
	for _, file := range f.Files() {
		if err := h.warnIfReplaced(ctx, rec, file); err != nil {
			return err
		}
	}
	return nil
}

// endInterrupted records that the invocation that claimed a take died before it
// recorded the outcome. It returns errBusy while that invocation may still run.
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

// holdUnreadable posts that the record of a take cannot be read. Without the record
// it is not known whether the take was paid for.
func (h *Handler) holdUnreadable(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted, cause *bucket.UnreadableError) error {
	st := ledger.Status{
		Name: f.Name, State: ledger.Held, Code: problem.RecordUnreadable, Reason: cause.Error(),
		Remedy: problem.RecordUnreadable.Remedy(f.Name), Take: f.Job.Take,
	}
	if a.isLast() {
		endRetries(&st, f.RemedyJob())
		// endRetries advises an upload. Here that could charge the job a second time.
		st.Remedy = problem.RecordUnreadable.Remedy(f.Name) + " Then redrive the dead-letter queue (see the stack's output DeadLetterQueueUrl)."
	}
	slog.ErrorContext(ctx, "not submitted", "name", f.Name, "take", f.Job.Take, "state", st.State, "code", st.Code, "err", cause)
	if err := h.Ledger.Post(ctx, f.Key, st, ledger.Order(f.Job.Take, h.timestamp()), prev); err != nil {
		return err
	}
	return &heldError{code: st.Code}
}

// mustNotRun reports whether a job without a record must not run, because the
// status is about a newer take, or because its files form a job only since another
// file was deleted.
func (h *Handler) mustNotRun(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) (bool, error) {
	if !prev.State.Claimed() {
		return false, nil
	}
	if ledger.Stamp(f.Job.Take) < ledger.Stamp(prev.Order) {
		slog.InfoContext(ctx, "older than the newest take", "name", f.Name, "take", f.Job.Take, "newest", prev.Take)
		a.keep(prev.Name, prev.Take)
		return true, nil
	}
	newest, gone, err := h.leftBy(ctx, a, f, prev)
	if gone == "" || err != nil {
		return false, err
	}
	file := "one of its files"
	if match := f.RemedyJob(); match.Match != "" {
		file = match.File()
	}
	text := fmt.Sprintf("%s was deleted. The files that are left form another job of this name. A deletion starts no job; to start this one, upload %s again.", gone, file)
	return true, h.warn(ctx, newest, text, func(r *ledger.Record) {
		if gone == a.change.deletedKey() && h.timeOf(a.change).After(r.Deleted) {
			r.Deleted = h.timeOf(a.change)
		}
	})
}

// leftBy returns the newest take of a name. If a file of the take was deleted, and no file
// of the finding was uploaded since, leftBy also returns the key of the deleted file: the
// finding must then start no job. The events of this batch, or the order of the finding,
// show whether a file was uploaded since.
//
// Another event may be assessed before the event of the deletion, so leftBy checks
// whether the files of the take still exist.
func (h *Handler) leftBy(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) (newest ledger.Record, gone string, err error) {
	newest, err = h.Ledger.Get(ctx, prev.Name, prev.Take)
	if errors.Is(err, bucket.ErrNotFound) {
		return newest, "", nil
	}
	if err != nil || a.uploadedSince(newest, f) {
		return newest, "", err
	}
	if !newest.Uses(a.change.deletedKey()) {
		gone, err = h.goneFrom(ctx, newest)
		return newest, gone, err
	}
	if ledger.Stamp(f.Order) > h.timeOf(a.change).UTC().Format(ledger.StampLayout) {
		return newest, "", nil // a file was uploaded after the deletion
	}
	return newest, a.change.deletedKey(), nil
}

// timeOf returns the time of a change. A change without a time happened now.
func (h *Handler) timeOf(c change) time.Time {
	if c.Time.IsZero() {
		return h.timestamp()
	}
	return c.Time
}

// uploadedSince reports whether an upload in this batch lets the finding start a job,
// although a file of the take was deleted. A version that the take uses does not count.
// Any other version of a file that has the finding's own name, or is in a bundle, counts.
// A file of another name is the video or image of an audio such as talk.de.wav. It counts
// if the time of its upload is unknown, or is not before the claim of the take and not
// before the last deletion that started no job. Times are compared in whole seconds, as
// EventBridge gives them.
func (a *assessment) uploadedSince(take ledger.Record, f drop.Finding) bool {
	since := latest(take.Times.Claimed, take.Deleted)
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool {
		at, uploaded := a.batch.uploads[file.Key]
		if !uploaded || usesVersion(take, file) {
			return false
		}
		key := drop.ParseKey(file.Key)
		return key.Name == f.Name || key.Bundle != "" || at.IsZero() || !at.Before(since.Truncate(time.Second))
	})
}

// usesVersion reports whether this version of a file is one of a take's inputs.
func usesVersion(take ledger.Record, file drop.File) bool {
	return slices.ContainsFunc(take.Inputs, func(in ledger.Input) bool {
		return in.Key == file.Key && file.SameVersion(in.ETag, in.LastModified)
	})
}

// goneFrom returns the key of an input of a take that no longer exists, or "". It
// checks only inputs whose deletion cancels the take.
func (h *Handler) goneFrom(ctx context.Context, rec ledger.Record) (string, error) {
	for _, in := range rec.Inputs {
		if owner, _ := drop.ParseKey(in.Key).Owns(); owner == "" {
			continue
		}
		exists, err := h.Ledger.Bucket.Exists(ctx, in.Key)
		if err != nil {
			return "", err
		}
		if !exists {
			return in.Key, nil
		}
	}
	return "", nil
}

// presignInput returns the whole input of a job, with a presigned URL for each
// file.
func (h *Handler) presignInput(ctx context.Context, ready drop.Ready) (map[string]any, error) {
	input := maps.Clone(ready.Input)
	for _, used := range ready.Media {
		url := used.URL
		if url == "" {
			var err error
			if url, err = h.Presign(ctx, used.File); err != nil {
				return nil, err
			}
		}
		input[used.Property] = url
	}
	return input, nil
}

// newClaim returns the record of a take that is about to be submitted.
func (h *Handler) newClaim(ctx context.Context, job *drop.Job, ready drop.Ready) ledger.Record {
	rec := ledger.Record{
		Name: job.Name, Take: job.Take, State: ledger.Submitting,
		Model: ready.Model, Options: ready.Input, Warnings: ready.Warnings,
		ExpectedSeconds: ledger.Seconds(ready.Expected.Length), ExpectedWithin: ledger.Seconds(ready.Expected.Within),
		Times: ledger.Times{Claimed: h.timestamp()},
	}
	if deadline, ok := ctx.Deadline(); ok {
		rec.HeldUntil = deadline.Add(returnTime + clockSkew).UTC().Truncate(time.Millisecond)
	}
	if model, ok := h.Resolver.Catalog.Model(ready.Model); ok {
		rec.UsualSeconds = int(model.Usual.Of(ready.Expected.Length).Seconds())
	}
	for _, used := range ready.Media {
		rec.Inputs = append(rec.Inputs, used.Input())
	}
	if file, ok := job.Manifest(); ok {
		rec.Inputs = append(rec.Inputs, drop.Used{File: file}.Input())
	}
	return rec
}

// recordRequestID records the request id of a job that RunComfy has accepted. The id
// is stored nowhere else, so the write is retried (see retry).
func (h *Handler) recordRequestID(ctx context.Context, rec ledger.Record, requestID string) (ledger.Record, error) {
	submitted := h.timestamp()
	err := h.retry(ctx, func(ctx context.Context) error {
		recorded, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) {
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

// release releases a claim and gives back what it has reserved. It retries the release,
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

// retry calls write until it succeeds. The last call is after retryTime, or earlier if the
// function has less time.
func (h *Handler) retry(ctx context.Context, write func(context.Context) error) error {
	until := h.Now().Add(retryTime)
	for pause := firstPause; ; pause *= 2 {
		writeCtx, cancel := context.WithTimeout(ctx, writeTime)
		err := write(writeCtx)
		cancel()
		pause = min(pause, until.Sub(h.Now()))
		if err == nil || pause <= 0 || !h.hasTime(ctx, pause) {
			return err
		}
		if sleepErr := h.sleep(ctx, pause); sleepErr != nil {
			return err
		}
	}
}

// ensureExecution starts the execution of a submitted take, unless it has one,
// and posts the take's status.
func (h *Handler) ensureExecution(ctx context.Context, rec ledger.Record, prev ledger.Posted) error {
	if !rec.State.Ended() {
		if err := h.startExecution(ctx, rec); err != nil {
			return err
		}
	}
	return h.postTake(ctx, rec, prev)
}

func (h *Handler) startExecution(ctx context.Context, rec ledger.Record) error {
	return workflow.Start(ctx, h.States, h.Ledger.MachineARN, rec.Job())
}

// postTake posts the status of a take. If prev is about a claimed take, that take may be
// newer, so ledger.PostTake decides which of the two the status is about.
func (h *Handler) postTake(ctx context.Context, rec ledger.Record, prev ledger.Posted) error {
	slog.InfoContext(ctx, "submitted", "name", rec.Name, "take", rec.Take, "state", rec.State, "request_id", rec.RequestID)
	if prev.Take == rec.Take {
		if err := h.rewrite(ctx, ledger.StatusKey(rec.Name), prev); err != nil {
			return err
		}
	}
	if prev.State.Claimed() {
		return h.Ledger.PostTake(ctx, rec)
	}
	err := h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), h.Ledger.TakeStatus(rec), ledger.Order(rec.Take, rec.Times.Claimed), prev)
	if err == nil {
		h.Ledger.SendNotice(ctx, rec)
	}
	return err
}

// handleSubmitError handles a POST that returned no request id. It releases the
// claim, and gives back what it has reserved, only if RunComfy certainly did not accept
// the job.
func (h *Handler) handleSubmitError(ctx context.Context, a *assessment, rec ledger.Record, reserved budget.Reservation, prev ledger.Posted, cause error) error {
	code, state := classify(cause)
	if state == ledger.Unknown {
		rec, err := h.recordUnknown(ctx, rec, code, "it is not known whether RunComfy accepted the job: "+describe(cause))
		if err != nil {
			return err
		}
		return h.postTake(ctx, rec, prev)
	}
	if err := h.release(ctx, rec, reserved); err != nil {
		return err
	}
	return h.postReleased(ctx, a, rec, prev, state, cause)
}

// postReleased posts the status of a take whose claim was released because of an error.
func (h *Handler) postReleased(ctx context.Context, a *assessment, rec ledger.Record, prev ledger.Posted, state ledger.State, cause error) error {
	if state == ledger.Rejected || a.isLast() {
		// The files may have changed during the POST, and no retry will correct this
		// status. Assess again if they have.
		if wanted, err := h.isWanted(ctx, a, rec); err != nil {
			return err
		} else if !wanted {
			return bucket.ErrChanged
		}
	}
	return h.postNotSubmitted(ctx, a, rec, prev, cause)
}

// isWanted reports whether the files in the bucket still form the same take.
func (h *Handler) isWanted(ctx context.Context, a *assessment, rec ledger.Record) (bool, error) {
	findings, err := h.Resolver.Find(ctx, a.subject)
	return slices.ContainsFunc(findings, func(f drop.Finding) bool {
		return f.Job != nil && f.Job.Name == rec.Name && f.Job.Take == rec.Take
	}), err
}

// recordUnknown records that it is not known whether RunComfy accepted the job. Such
// a take is never submitted again automatically.
func (h *Handler) recordUnknown(ctx context.Context, rec ledger.Record, code problem.Code, reason string) (ledger.Record, error) {
	slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", code, "reason", reason)
	return h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) {
		if r.State == ledger.Submitting {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Unknown, code, reason, h.timestamp()
		}
	})
}

// postNotSubmitted posts the status of a take that RunComfy certainly did not
// accept. If the take is held, it returns *heldError.
func (h *Handler) postNotSubmitted(ctx context.Context, a *assessment, rec ledger.Record, prev ledger.Posted, cause error) error {
	code, state := classify(cause)
	st := ledger.Status{
		Name: rec.Name, State: state, Code: code, Reason: describe(cause), Remedy: rec.Remedy(code),
		Warnings: rec.Warnings, Take: rec.Take, Model: rec.Model, ExpectedSeconds: rec.ExpectedSeconds, EstimateUSD: rec.EstimateUSD,
	}
	if state == ledger.Held && a.isLast() && code != problem.OverBudget {
		endRetries(&st, rec.RemedyJob())
	}
	slog.WarnContext(ctx, "not submitted", "name", rec.Name, "take", rec.Take, "state", state, "code", code, "err", cause)
	if err := h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), st, ledger.Order(rec.Take, h.timestamp()), prev); err != nil {
		return err
	}
	if state == ledger.Held {
		held := &heldError{code: code}
		if response, ok := errors.AsType[*runcomfy.Error](cause); ok && !a.isLast() {
			held.retryAfter = response.RetryAfter
		}
		return held
	}
	return nil
}

// describe returns a text for people about why a take was not submitted, or why its
// outcome is not known.
func describe(err error) string {
	response, ok := errors.AsType[*runcomfy.Error](err)
	if !ok {
		return err.Error()
	}
	text := fmt.Sprintf("RunComfy returned HTTP %d", response.HTTPStatus)
	if response.Code != 0 {
		text += fmt.Sprintf(", code %d", response.Code)
	}
	if response.Message != "" {
		text += ": " + response.Message
	}
	return text
}

// classify returns what an error of the token, the caps or the POST means for the take:
// held or rejected if RunComfy certainly did not accept the job, else unknown.
func classify(err error) (problem.Code, ledger.State) {
	var noToken *runcomfy.TokenError
	var response *runcomfy.Error
	var over *budget.OverError
	var unreadable *bucket.UnreadableError
	switch {
	case errors.As(err, &over):
		return problem.OverBudget, ledger.Held
	case errors.As(err, &unreadable):
		return problem.BudgetUnreadable, ledger.Held
	case errors.Is(err, token.ErrNone):
		return problem.TokenMissing, ledger.Held
	case errors.As(err, &noToken):
		return problem.TokenUnreadable, ledger.Held
	case runcomfy.NotSent(err):
		return problem.Unreachable, ledger.Held
	case !errors.As(err, &response):
		return problem.OutcomeUnknown, ledger.Unknown
	}
	switch response.Kind() {
	case runcomfy.KindThrottled:
		return problem.Throttled, ledger.Held
	case runcomfy.KindToken:
		return problem.TokenRefused, ledger.Held
	case runcomfy.KindBalance:
		return problem.NoBalance, ledger.Held
	case runcomfy.KindForeign:
		return problem.AccountRefused, ledger.Held
	case runcomfy.KindBadModel, runcomfy.KindBadInput, runcomfy.KindUnknownRequest:
		return problem.RefusedByRunComfy, ledger.Rejected
	default:
		return problem.OutcomeUnknown, ledger.Unknown
	}
}
