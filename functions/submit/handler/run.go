package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// run brings a job on its way: it claims the take, submits it once and starts
// its execution. Whatever was done by an earlier delivery is not done again.
func (h *Handler) run(ctx context.Context, look *drop.Look, f drop.Finding, over ledger.Posted, last bool) error {
	if over.State.Claimed() && over.Order > f.Order {
		return nil // what a deletion brought to light is older than what ran
	}
	rec, err := h.Ledger.Get(ctx, f.Job.Name, f.Job.Take)
	if err == nil {
		return h.resume(ctx, rec, over)
	}
	if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	ready, problems, err := look.Prepare(ctx, f.Job)
	if err != nil {
		return err
	}
	if problems != nil {
		f.State, f.Problems, f.Warnings = drop.StateOf(problems), problems, ready.Warnings
		return h.answer(ctx, f, over, last)
	}
	input, err := h.presigned(ctx, ready)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(h.Now()) < enoughTime {
		return errNoTime
	}
	rec, claimed, err := h.Ledger.Claim(ctx, h.claimOf(f.Job, ready))
	if err != nil {
		return err
	}
	if !claimed {
		return h.resume(ctx, rec, over)
	}
	requestID, err := h.API.Submit(ctx, ready.Model, input)
	if err != nil {
		return h.refused(ctx, rec, over, err, last)
	}
	if rec, err = h.paid(ctx, rec, requestID); err != nil {
		return err
	}
	return h.follow(ctx, rec, over)
}

// paid records the request id of a job that RunComfy has taken. Nothing comes
// between the answer and its record, and nothing else can bring the id back:
// it is tried for as long as the function's time allows.
func (h *Handler) paid(ctx context.Context, rec ledger.Record, requestID string) (ledger.Record, error) {
	submitted := h.clock()
	for pause := recordPause; ; pause *= 2 {
		there, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
			r.State, r.RequestID, r.Times.Submitted = ledger.Submitted, requestID, submitted
			return nil
		})
		if err == nil {
			return there, nil
		}
		slog.ErrorContext(ctx, "paid, but not recorded", "name", rec.Name, "take", rec.Take, "request_id", requestID, "err", err)
		if deadline, ok := ctx.Deadline(); pause > longestPause || ok && deadline.Sub(h.Now()) < 2*pause {
			return rec, err
		}
		if err := h.sleep(ctx, pause); err != nil {
			return rec, err
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

// presigned returns the whole input of a job, each file as a URL that RunComfy
// may fetch it from.
func (h *Handler) presigned(ctx context.Context, ready drop.Ready) (map[string]any, error) {
	input := maps.Clone(ready.Input)
	for _, used := range ready.Media {
		input[used.Property] = used.URL
		if used.URL != "" {
			continue
		}
		url, err := h.Presign(ctx, used.File)
		if err != nil {
			return nil, fmt.Errorf("presign %s: %w", used.File.Key, err)
		}
		input[used.Property] = url
	}
	return input, nil
}

// resume goes on with a take that was claimed before.
func (h *Handler) resume(ctx context.Context, rec ledger.Record, over ledger.Posted) error {
	if rec.State == ledger.Submitting {
		return h.interrupted(ctx, rec)
	}
	return h.follow(ctx, rec, over)
}

// orphans settles what an earlier delivery of a message may have left of a
// name, or of a tagged or matched one: a claim that nobody works on, and a take
// that was submitted and has no execution. The files may have changed since, so
// that no look at them leads to it any more.
func (h *Handler) orphans(ctx context.Context, name string) error {
	names := []string{name}
	for _, further := range []string{name + ".", name + "/"} {
		more, err := h.Ledger.Names(ctx, further)
		if err != nil {
			return err
		}
		names = append(names, more...)
	}
	var errs []error
	for _, name := range names {
		takes, err := h.Ledger.Takes(ctx, name)
		errs = append(errs, err)
		for _, rec := range takes {
			switch rec.State {
			case ledger.Submitting:
				errs = append(errs, h.interrupted(ctx, rec))
			case ledger.Submitted:
				errs = append(errs, h.start(ctx, rec), h.Ledger.PostTake(ctx, rec))
			}
		}
	}
	return errors.Join(errs...)
}

// interrupted records that the submit of a claim was never finished, once
// nobody can be working on it any more.
func (h *Handler) interrupted(ctx context.Context, rec ledger.Record) error {
	if h.Now().Sub(rec.Times.Claimed) < lifetime+clockSkew {
		return errBusy
	}
	rec, err := h.unknown(ctx, rec, ledger.SubmitInterrupted,
		"the submit function stopped before it had recorded RunComfy's answer, so the job may have been taken and charged")
	if err != nil {
		return err
	}
	return h.Ledger.PostTake(ctx, rec)
}

// follow makes sure that the execution of a submitted take runs, and that its
// status says so.
func (h *Handler) follow(ctx context.Context, rec ledger.Record, over ledger.Posted) error {
	if !rec.State.Ended() {
		if err := h.start(ctx, rec); err != nil {
			return err
		}
	}
	return h.post(ctx, rec, over)
}

// start starts the execution of a submitted take. Starting it again with the
// same name and input starts nothing.
func (h *Handler) start(ctx context.Context, rec ledger.Record) error {
	input, err := json.Marshal(workflow.Job{
		Name: rec.Name, Take: rec.Take, RequestID: rec.RequestID, Model: rec.Model,
		SubmittedAt: rec.Times.Submitted, WaitSeconds: workflow.FirstWait,
	})
	if err != nil {
		return err
	}
	_, err = h.States.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &h.MachineARN,
		Name:            aws.String(workflow.ExecutionName(rec.Name, rec.Take)),
		Input:           aws.String(string(input)),
	})
	var exists *types.ExecutionAlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("start the execution of take %s: %w", rec.Take, err)
	}
	return nil
}

// post writes the status of a take over what stood there before the look, or
// as any writer of a take's status where that is about the take already.
func (h *Handler) post(ctx context.Context, rec ledger.Record, over ledger.Posted) error {
	slog.InfoContext(ctx, "submitted", "name", rec.Name, "take", rec.Take, "state", rec.State, "request_id", rec.RequestID)
	if over.State.Claimed() {
		return h.Ledger.PostTake(ctx, rec)
	}
	return h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), h.Ledger.TakeStatus(rec), rec.Take, over)
}

// unknown records that nobody can tell whether RunComfy took the job. Such a
// take is never submitted again by itself.
func (h *Handler) unknown(ctx context.Context, rec ledger.Record, code ledger.Code, reason string) (ledger.Record, error) {
	slog.ErrorContext(ctx, "outcome unknown", "name", rec.Name, "take", rec.Take, "code", code, "reason", reason)
	return h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) error {
		if r.State == ledger.Submitting {
			r.State, r.Code, r.Reason, r.Times.Ended = ledger.Unknown, code, reason, h.clock()
		}
		return nil
	})
}

// refused acts on a submit that brought no request id: it gives the claim back
// where RunComfy certainly did not take the job, and nowhere else.
func (h *Handler) refused(ctx context.Context, rec ledger.Record, over ledger.Posted, cause error, last bool) error {
	code, state := judge(cause)
	if state == ledger.Unknown {
		rec, err := h.unknown(ctx, rec, code, "RunComfy's answer does not tell whether it took the job: "+said(cause))
		if err != nil {
			return err
		}
		return h.post(ctx, rec, over)
	}
	if code == ledger.TokenRefused {
		h.Token.Refused()
	}
	if err := h.Ledger.Release(ctx, rec); err != nil {
		return err
	}
	st := ledger.Status{
		Name: rec.Name, State: state, Code: code, Reason: said(cause), Remedy: code.Remedy(rec.Name),
		Warnings: rec.Warnings, Take: rec.Take, Model: rec.Model,
	}
	if state == ledger.Held && last {
		heldForGood(&st)
	}
	slog.WarnContext(ctx, "not submitted", "name", rec.Name, "take", rec.Take, "state", state, "code", code, "err", cause)
	if err := h.Ledger.Post(ctx, ledger.StatusKey(rec.Name), st, rec.Take, over); err != nil {
		return err
	}
	if state == ledger.Held {
		return &heldError{code}
	}
	return nil
}

// heldForGood completes the status of what is held when its message was
// delivered for the last time.
func heldForGood(st *ledger.Status) {
	st.Reason += "; it was tried again for about a day, and is not any more"
	st.Remedy = "Mend the cause, then redrive the dead-letter queue (see the stack's output DeadLetterQueueUrl), or drop a file of the job again."
}

// said returns an error of Submit in a person's words: what RunComfy answered,
// or why it did not.
func said(err error) string {
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

// judge tells what an error of Submit means for the take: held and rejected
// where it is certain that RunComfy did not take the job, else unknown.
func judge(err error) (ledger.Code, ledger.State) {
	var noToken *runcomfy.TokenError
	var answered *runcomfy.Error
	switch {
	case errors.Is(err, config.ErrNoToken):
		return ledger.TokenMissing, ledger.Held
	case errors.As(err, &noToken):
		return ledger.TokenUnreadable, ledger.Held
	case runcomfy.NotSent(err):
		return ledger.Unreachable, ledger.Held
	case !errors.As(err, &answered):
		return ledger.OutcomeUnknown, ledger.Unknown
	}
	switch answered.Kind() {
	case runcomfy.KindThrottled:
		return ledger.Throttled, ledger.Held
	case runcomfy.KindToken:
		return ledger.TokenRefused, ledger.Held
	case runcomfy.KindBalance:
		return ledger.NoBalance, ledger.Held
	case runcomfy.KindForeign:
		return ledger.AccountRefused, ledger.Held
	case runcomfy.KindBadModel, runcomfy.KindBadInput, runcomfy.KindUnknownRequest:
		return ledger.RefusedByRunComfy, ledger.Rejected
	default:
		return ledger.OutcomeUnknown, ledger.Unknown
	}
}

// clock returns the time as it is recorded: UTC, to the millisecond.
func (h *Handler) clock() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }
