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
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

const (
	// retryPause is the first pause before a write that must not be lost is
	// tried again. The pause doubles up to longestPause.
	retryPause   = time.Second
	longestPause = 16 * time.Second

	// stampLayout is the form of a take's stamp.
	stampLayout = "20060102T150405Z"
)

// run brings a job on its way: it claims the take, submits it once and starts
// its execution. What an earlier delivery did is not done again.
func (h *Handler) run(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) error {
	rec, err := h.Ledger.Get(ctx, f.Job.Name, f.Job.Take)
	if err == nil {
		return h.resume(ctx, a, rec, prev)
	}
	if unreadable, ok := errors.AsType[*ledger.UnreadableError](err); ok {
		return h.holdUnreadable(ctx, f, prev, unreadable)
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	if stays, err := h.stays(ctx, a, f, prev); stays || err != nil {
		return err
	}
	ready, problems, err := h.Resolver.Prepare(ctx, f.Job)
	if err != nil {
		return err
	}
	if problems != nil {
		f.State, f.Problems, f.Warnings = drop.StateOf(problems), problems, ready.Warnings
		return h.answer(ctx, a, f, prev)
	}
	input, err := h.presigned(ctx, ready)
	if err != nil {
		return err
	}
	claim := h.claimOf(f.Job, ready)
	// The token is read before the claim: nothing slow comes between the claim
	// and the POST.
	if err := h.API.CheckToken(ctx); err != nil {
		return h.postNotSubmitted(ctx, a, claim, prev, err)
	}
	if !h.timeFor(ctx, claimTime) {
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
		return h.resume(ctx, a, rec, prev)
	}
	if !h.timeFor(ctx, submitTime) {
		return errors.Join(errNoTime, h.release(ctx, rec)) // the claim was slow
	}
	requestID, err := h.API.Submit(ctx, ready.Model, input)
	if err != nil {
		return h.handleSubmitError(ctx, a, rec, prev, err)
	}
	if rec, err = h.recordRequestID(ctx, rec, requestID); err != nil {
		return err
	}
	return h.ensureExecution(ctx, rec, prev)
}

// stays reports whether a job that has no record is not to be run, because the
// status is about a newer take, or because only a deletion made it a job.
func (h *Handler) stays(ctx context.Context, a *assessment, f drop.Finding, prev ledger.Posted) (bool, error) {
	if !prev.State.Claimed() {
		return false, nil
	}
	stamp := ledger.Stamp(f.Job.Take)
	if stamp < ledger.Stamp(prev.Order) {
		slog.InfoContext(ctx, "older than the newest take", "name", f.Name, "take", f.Job.Take, "newest", prev.Take)
		a.standing = append(a.standing, standing{prev.Name, prev.Take})
		return true, nil
	}
	newest, err := h.Ledger.Get(ctx, prev.Name, prev.Take)
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if slices.Contains(newest.NotRun, f.Job.Take) {
		return true, nil
	}
	if a.deleted.key == "" || !newest.Uses(a.deleted.key) {
		return false, nil
	}
	switch deleted := a.deleted.at.UTC().Format(stampLayout); {
	case a.deleted.at.IsZero() || stamp < deleted:
	case stamp == deleted:
		return true, nil // an upload in the same second has an event of its own
	default:
		return false, nil // a file was uploaded after the deletion
	}
	text := fmt.Sprintf("%s was deleted. The files that are left would be another job of this name, which a deletion does not start. Upload one of them again to start it.", a.deleted.key)
	return true, h.warn(ctx, newest, text, func(r *ledger.Record) {
		if !slices.Contains(r.NotRun, f.Job.Take) {
			r.NotRun = append(slices.Clone(r.NotRun), f.Job.Take)
		}
	})
}

// holdUnreadable posts that the record of a take cannot be read. Whether the
// take was paid for is not known until a person has looked at the record.
func (h *Handler) holdUnreadable(ctx context.Context, f drop.Finding, prev ledger.Posted, cause *ledger.UnreadableError) error {
	st := ledger.Status{
		Name: f.Name, State: ledger.Held, Code: problem.RecordUnreadable, Reason: cause.Error(),
		Remedy: problem.RecordUnreadable.Remedy(f.Name), Take: f.Job.Take,
	}
	slog.ErrorContext(ctx, "not submitted", "name", f.Name, "take", f.Job.Take, "state", st.State, "code", st.Code, "err", cause)
	if err := h.Ledger.Post(ctx, f.Key, st, ledger.Order(f.Job.Take, h.clock()), prev); err != nil {
		return err
	}
	return &heldError{st.Code}
}

// recordRequestID records the request id of a job that RunComfy has accepted.
// Nothing comes between RunComfy's response and the record, and nothing else
// can bring the id back, so it is tried as long as the function's time allows.
func (h *Handler) recordRequestID(ctx context.Context, rec ledger.Record, requestID string) (ledger.Record, error) {
	submitted := h.clock()
	err := h.insist(ctx, func() (err error) {
		recorded, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
			r.State, r.RequestID, r.Times.Submitted = ledger.Submitted, requestID, submitted
			return nil
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

// release releases a claim, and tries that as long as the function's time
// allows: a claim that stays looks as if the job may have been charged.
func (h *Handler) release(ctx context.Context, rec ledger.Record) error {
	return h.insist(ctx, func() error {
		err := h.Ledger.Release(ctx, rec)
		if err != nil {
			slog.WarnContext(ctx, "claim not released", "name", rec.Name, "take", rec.Take, "err", err)
		}
		return err
	})
}

// insist does something until it succeeds or the function's time is short.
func (h *Handler) insist(ctx context.Context, do func() error) error {
	for pause := retryPause; ; pause *= 2 {
		err := do()
		if err == nil || pause > longestPause || !h.timeFor(ctx, 2*pause) {
			return err
		}
		if sleepErr := h.sleep(ctx, pause); sleepErr != nil {
			return err
		}
	}
}

func (h *Handler) sleep(ctx context.Context, d time.Duration) error {
	if h.Sleep != nil {
		return h.Sleep(ctx, d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// claimOf returns the record of a take that is about to be submitted.
func (h *Handler) claimOf(job *drop.Job, ready drop.Ready) ledger.Record {
	rec := ledger.Record{
		Name: job.Name, Take: job.Take, State: ledger.Submitting,
		Model: ready.Model, Options: ready.Input, Warnings: ready.Warnings,
		Times: ledger.Times{Claimed: h.clock()},
	}
	for _, used := range ready.Media {
		rec.Inputs = append(rec.Inputs, used.Input())
	}
	if file, ok := job.Manifest(); ok {
		rec.Inputs = append(rec.Inputs, drop.Used{File: file}.Input())
	}
	return rec
}

// presigned returns the whole input of a job, with a presigned URL for each
// file.
func (h *Handler) presigned(ctx context.Context, ready drop.Ready) (map[string]any, error) {
	input := maps.Clone(ready.Input)
	for _, used := range ready.Media {
		input[used.Property] = used.URL
		if used.URL != "" {
			continue
		}
		url, err := h.Presign(ctx, used.File)
		if err != nil {
			return nil, err
		}
		input[used.Property] = url
	}
	return input, nil
}

// resume goes on with a take that was claimed before.
func (h *Handler) resume(ctx context.Context, a *assessment, rec ledger.Record, prev ledger.Posted) error {
	if rec.State == ledger.Submitting {
		return h.endInterrupted(ctx, rec)
	}
	if len(rec.Inputs) > 0 && ofBundle(rec.Inputs[len(rec.Inputs)-1].Key) {
		// The take of a bundle is the same whichever of its media were uploaded
		// again.
		a.standing = append(a.standing, standing{rec.Name, rec.Take})
	}
	return h.ensureExecution(ctx, rec, prev)
}

// recoverTakes finishes what an earlier delivery may have left undone for a
// name: a claim whose invocation ended, and a take that was submitted and has no
// execution. The files may have changed since, so that no assessment leads to
// such a take. It reports whether there was one. If again is false, no earlier
// delivery failed, and what may belong to a running invocation is left to it.
func (h *Handler) recoverTakes(ctx context.Context, name string, again bool) (some bool, err error) {
	takes, err := h.Ledger.NewestTakes(ctx, name, recoverMost)
	if _, ok := errors.AsType[*ledger.UnreadableError](err); ok {
		// Other takes of the name are not held up by it.
		slog.ErrorContext(ctx, "record unreadable", "name", name, "err", err)
		err = nil
	}
	errs := []error{err}
	for _, rec := range takes {
		if !again && h.Now().Sub(rec.Times.Claimed) < lifetime+clockSkew {
			continue
		}
		switch rec.State {
		case ledger.Submitting:
			some = true
			errs = append(errs, h.endInterrupted(ctx, rec))
		case ledger.Submitted:
			some = true
			errs = append(errs, h.start(ctx, rec), h.Ledger.PostTake(ctx, rec))
		}
	}
	return some, errors.Join(errs...)
}

// endInterrupted records that the submit of a claim was never finished. It
// returns errBusy while an invocation may still be working on the claim.
func (h *Handler) endInterrupted(ctx context.Context, rec ledger.Record) error {
	if h.Now().Sub(rec.Times.Claimed) < lifetime+clockSkew {
		return errBusy
	}
	rec, err := h.recordUnknown(ctx, rec, problem.SubmitInterrupted, problem.InterruptedReason)
	if err != nil {
		return err
	}
	return h.Ledger.PostTake(ctx, rec)
}

// ensureExecution makes sure that the execution of a submitted take runs, and
// that its status says so.
func (h *Handler) ensureExecution(ctx context.Context, rec ledger.Record, prev ledger.Posted) error {
	if !rec.State.Ended() {
		if err := h.start(ctx, rec); err != nil {
			return err
		}
	}
	return h.post(ctx, rec, prev)
}

func (h *Handler) start(ctx context.Context, rec ledger.Record) error {
	return workflow.Start(ctx, h.States, h.MachineARN, rec.Name, rec.Take, rec.RequestID, rec.Model, rec.Times.Submitted)
}

// post writes the status of a take. If prev is about a take, PostTake decides
// which of them is the newer one.
func (h *Handler) post(ctx context.Context, rec ledger.Record, prev ledger.Posted) error {
	slog.InfoContext(ctx, "submitted", "name", rec.Name, "take", rec.Take, "state", rec.State, "request_id", rec.RequestID)
	if prev.State.Claimed() {
		return h.Ledger.PostTake(ctx, rec)
	}
	return h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), h.Ledger.TakeStatus(rec), ledger.Order(rec.Take, rec.Times.Claimed), prev)
}

// recordUnknown records that nobody can say whether RunComfy accepted the job.
// Such a take is never submitted again automatically.
func (h *Handler) recordUnknown(ctx context.Context, rec ledger.Record, code problem.Code, reason string) (ledger.Record, error) {
	slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", code, "reason", reason)
	return h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		if r.State == ledger.Submitting {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Unknown, code, reason, h.clock()
		}
		return nil
	})
}

// handleSubmitError acts on a POST that brought no request id. It releases the
// claim only if RunComfy certainly did not accept the job.
func (h *Handler) handleSubmitError(ctx context.Context, a *assessment, rec ledger.Record, prev ledger.Posted, cause error) error {
	code, state := classify(cause)
	if state == ledger.Unknown {
		rec, err := h.recordUnknown(ctx, rec, code, "RunComfy's response does not say whether it accepted the job: "+describe(cause))
		if err != nil {
			return err
		}
		return h.post(ctx, rec, prev)
	}
	if err := h.release(ctx, rec); err != nil {
		return err
	}
	if state == ledger.Rejected || a.last {
		// The POST took time, and no further try corrects this status: it must
		// be about what is in the bucket now.
		if there, err := h.stillAsked(ctx, a, rec); err != nil {
			return err
		} else if !there {
			return bucket.ErrChanged
		}
	}
	return h.postNotSubmitted(ctx, a, rec, prev, cause)
}

// stillAsked reports whether an assessment of now finds the same take.
func (h *Handler) stillAsked(ctx context.Context, a *assessment, rec ledger.Record) (bool, error) {
	findings, err := h.Resolver.Find(ctx, a.subject)
	return slices.ContainsFunc(findings, func(f drop.Finding) bool {
		return f.Job != nil && f.Job.Name == rec.Name && f.Job.Take == rec.Take
	}), err
}

// postNotSubmitted posts the status of a take that RunComfy certainly did not
// accept. For a held one it returns an error, so that the queue tries it again.
func (h *Handler) postNotSubmitted(ctx context.Context, a *assessment, rec ledger.Record, prev ledger.Posted, cause error) error {
	code, state := classify(cause)
	st := ledger.Status{
		Name: rec.Name, State: state, Code: code, Reason: describe(cause), Remedy: code.Remedy(rec.Name),
		Warnings: rec.Warnings, Take: rec.Take, Model: rec.Model,
	}
	if state == ledger.Held && a.last {
		endRetries(&st)
	}
	slog.WarnContext(ctx, "not submitted", "name", rec.Name, "take", rec.Take, "state", state, "code", code, "err", cause)
	if err := h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), st, ledger.Order(rec.Take, h.clock()), prev); err != nil {
		return err
	}
	if state == ledger.Held {
		return &heldError{code}
	}
	return nil
}

// endRetries completes the status of a held job whose message was delivered for
// the last time.
func endRetries(st *ledger.Status) {
	st.Reason += "; it was tried again for about a day, and is no longer retried"
	st.Remedy = "Fix the cause, then redrive the dead-letter queue (see the stack's output DeadLetterQueueUrl), or upload a file of the job again."
}

// describe returns an error of Submit in words for a person: what RunComfy
// responded, or why it did not.
func describe(err error) string {
	answered, ok := errors.AsType[*runcomfy.Error](err)
	if !ok {
		return err.Error()
	}
	text := fmt.Sprintf("RunComfy answered HTTP %d", answered.HTTPStatus)
	if answered.Code != 0 {
		text += fmt.Sprintf(", code %d", answered.Code)
	}
	if answered.Message != "" {
		text += ": " + answered.Message
	}
	return text
}

// classify returns what an error of Submit means for the take: held or rejected
// if RunComfy certainly did not accept the job, else unknown.
func classify(err error) (problem.Code, ledger.State) {
	var noToken *runcomfy.TokenError
	var answered *runcomfy.Error
	switch {
	case errors.Is(err, config.ErrNoToken):
		return problem.TokenMissing, ledger.Held
	case errors.As(err, &noToken):
		return problem.TokenUnreadable, ledger.Held
	case runcomfy.NotSent(err):
		return problem.Unreachable, ledger.Held
	case !errors.As(err, &answered):
		return problem.OutcomeUnknown, ledger.Unknown
	}
	switch answered.Kind() {
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

// clock returns the time as it is recorded: UTC, to the millisecond.
func (h *Handler) clock() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }
