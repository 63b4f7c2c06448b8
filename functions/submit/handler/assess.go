package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const (
	// maxAssessments bounds how often a subject is assessed if something changes during
	// each assessment. After that, the queue delivers the message again.
	maxAssessments = 5

	// maxRecovered bounds how many takes of a name are read to recover them. The
	// hourly sweep of the cancel function recovers the others.
	maxRecovered = 10
	// A take is recovered only if its newest file was uploaded at most recoverBack ago. The queue
	// delivers a message for at most 14 days.
	recoverBack = 15 * 24 * time.Hour

	// If the status of a bundle does not list every match, sendUnnamed checks at most maxFurther of
	// the other matches (see mayLoseMatches).
	maxFurther = 2 * bucket.PageSize
)

type assessment struct {
	subject drop.Subject
	change  change // the first change of the batch that needs this assessment; later changes may share the assessment
	batch   *batch
	// lastTrySince is when the last try of a held job became due; zero if it is not due. If the
	// job was held again after that time, an earlier delivery has made the last try.
	lastTrySince time.Time

	recovered bool    // whether recoverTakes was called for the subject
	recovery  outcome // what recoverTakes returned
	outcome   outcome // of the whole assessment; includes recovery
	// toWarn are the takes to which warnUnused adds a warning for each uploaded file that the
	// take does not use.
	toWarn []ledger.TakeID
	// matches are further subjects to assess: all matches of a bundle.
	matches []drop.Subject
}

// finding is what an assessment found about a name or a file.
type finding struct {
	*assessment
	drop.Finding
	prev ledger.Posted // the status at Key before the assessment
}

// assess decides what a subject needs, and does it. If something changes meanwhile,
// assess starts again.
func (h *Handler) assess(ctx context.Context, a *assessment) outcome {
	for range maxAssessments {
		a.toWarn = nil
		out, err := h.assessOnce(ctx, a)
		if !mustAssessAgain(err) {
			out.add(err)
			return append(out, a.recovery...)
		}
	}
	return append(a.recovery, fmt.Errorf("%s: %w", a.subject.Name, errChanging))
}

func mustAssessAgain(err error) bool {
	return errors.Is(err, ledger.ErrStale) || errors.Is(err, bucket.ErrChanged)
}

func (h *Handler) assessOnce(ctx context.Context, a *assessment) (out outcome, err error) {
	findings, err := h.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		err := h.handleFinding(ctx, f)
		if mustAssessAgain(err) {
			return nil, err
		}
		out.add(err)
	}
	return out, nil
}

// find returns the findings about a subject. It also recovers takes, and sends messages for the
// matches that job.json no longer names.
func (h *Handler) find(ctx context.Context, a *assessment) ([]finding, error) {
	// Read the statuses before the dropped files: if another assessment then posts a status,
	// this one cannot replace it (ErrStale).
	s := a.subject
	prev, err := h.Ledger.Posted(ctx, s.Key())
	if err != nil {
		return nil, err
	}
	if a.change.UnnamedBy != "" && prev.State != ledger.Held && prev.State != ledger.Waiting && prev.State != ledger.Rejected {
		return nil, nil // job.json no longer names the subject, and there is nothing to withdraw
	}
	if prev, err = h.recoverOnce(ctx, a, prev); err != nil {
		return nil, err
	}
	var prevOfMatch ledger.Posted
	if key := s.MatchStatusKey(); key != "" {
		if prevOfMatch, err = h.Ledger.Posted(ctx, key); err != nil {
			return nil, err
		}
	}
	found, err := h.Resolver.Find(ctx, s)
	if err == nil && found.Match == nil {
		found.Match, err = h.unnamedMatch(ctx, s, prevOfMatch)
	}
	if err == nil {
		err = h.sendUnnamed(ctx, a, prev, &found)
	}
	if err != nil {
		return nil, err
	}
	a.matches = found.Matches
	findings := []finding{{a, found.Own, prev}}
	if found.Match != nil {
		findings = append(findings, finding{a, *found.Match, prevOfMatch})
	}
	return findings, nil
}

// recoverOnce recovers the takes of a subject, but only once for an assessment. It returns the status
// of the subject: prev, or the status read again if there were takes to recover.
func (h *Handler) recoverOnce(ctx context.Context, a *assessment, prev ledger.Posted) (ledger.Posted, error) {
	s := a.subject
	mayHaveTakes := s.Key() == ledger.StatusKey(s.Name) && (a.batch.again || prev.State != "")
	if a.recovered || !mayHaveTakes {
		return prev, nil
	}
	a.recovered = true
	var found bool
	if found, a.recovery = h.recoverTakes(ctx, s.Name, a.batch.again); !found {
		return prev, nil
	}
	return h.Ledger.Posted(ctx, s.Key())
}

// handleFinding submits the job of a finding, or posts why there is no job.
func (h *Handler) handleFinding(ctx context.Context, f finding) error {
	if f.change.UnnamedBy != "" && f.Job.Restart().Match != "" {
		return nil // job.json names the match again, and the event of job.json starts or holds the job
	}
	if f.lastTryMade() {
		return errRetriesEnded
	}
	f.prev.Rewrite = f.mustWrite()
	handle := h.submitJob
	if f.Job == nil {
		handle = h.postFinding
	}
	err := handle(ctx, f)
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable && f.prev.State.Claimed() {
		err = h.warnUnreadable(ctx, f, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

func (a *assessment) isLastTry() bool { return !a.lastTrySince.IsZero() }

// lastTryMade reports whether an earlier delivery made the last try, and the job was held again.
// A job that a cap of the day holds has no last try.
func (f finding) lastTryMade() bool {
	return f.isLastTry() && f.prev.State == ledger.Held && f.prev.Code != problem.OverBudget && f.prev.UpdatedAt.After(f.lastTrySince)
}

// unnamedMatch returns a finding about a match that was deleted and uploaded again, if job.json
// no longer names the match. Without this finding, the status of the match would still say that
// the file was deleted.
func (h *Handler) unnamedMatch(ctx context.Context, s drop.Subject, prev ledger.Posted) (*drop.Finding, error) {
	if prev.Code != problem.FilesGone {
		return nil, nil
	}
	if exists, err := h.Ledger.Bucket.Exists(ctx, s.File()); !exists || err != nil {
		return nil, err
	}
	return &drop.Finding{
		Name: prev.Name, Key: s.MatchStatusKey(), State: ledger.Withdrawn, Problems: []problem.Problem{drop.NoLongerNamed(s.Name, prev.Name)},
	}, nil
}

// mustWrite reports whether the status must be written even if it stays the same, because it was
// not written after the batch's newest change. Another assessment, which began before that change,
// may still be running. Because of the write, that assessment cannot post a status, and starts again.
func (f finding) mustWrite() bool {
	const rounding = 2 * time.Second // UpdatedAt and EventBridge's times are in whole seconds
	return !f.batch.newest.IsZero() && f.prev.State != "" && !f.prev.UpdatedAt.After(f.batch.newest.Add(rounding))
}

// recoverTakes finishes what an earlier delivery may have left undone for a name:
// claims whose invocation died, and submitted takes without an execution. An
// assessment may not find these takes, because the files may have changed since.
// recoverTakes reports whether it found such takes. If again is false (see batch.again), it skips
// takes whose invocation may still be running. If again is true, such a claim gives errBusy.
func (h *Handler) recoverTakes(ctx context.Context, name string, again bool) (found bool, out outcome) {
	takes, err := h.Ledger.RecentTakes(ctx, name, h.Now().Add(-recoverBack), maxRecovered)
	if _, ok := errors.AsType[*bucket.UnreadableError](err); ok {
		// Continue with the other takes of the name.
		slog.ErrorContext(ctx, "record unreadable", "name", name, "err", err)
	} else {
		out.add(err)
	}
	for _, rec := range takes {
		if !again && !rec.ClaimEnded(h.Now()) {
			continue
		}
		switch rec.State {
		case ledger.Submitting:
			found = true
			out.add(h.endInterrupted(ctx, rec))
		case ledger.Submitted:
			found = true
			err := h.startExecution(ctx, rec)
			if err == nil {
				err = h.Ledger.PostTake(ctx, rec)
			}
			out.add(err)
		}
	}
	return found, out
}

// sendUnnamed sends messages for the wildcard matches that a bundle's job.json no longer
// names. Each of these matches that was not submitted becomes withdrawn. The bundle's status,
// which lists the matches, is replaced only afterwards, so that the next delivery can finish
// the work if this invocation dies.
func (h *Handler) sendUnnamed(ctx context.Context, a *assessment, prev ledger.Posted, found *drop.Found) error {
	if len(prev.Jobs) == 0 || a.subject.Key() != ledger.StatusKey(prev.Name) {
		return nil
	}
	if found.Own.State == ledger.Held {
		// A held finding does not say which matches job.json names, for example because S3 refuses
		// to return job.json. The next assessment of the bundle needs the list of the matches in the
		// bundle's status, and the warning that says that the list may be incomplete.
		found.Own.Jobs, found.Own.Warnings = prev.Jobs, prev.Warnings
		return nil
	}
	names := prev.Jobs
	if mayLoseMatches(a.subject, prev, found.Own) {
		// The last name may belong to a changed file that is not among the first files, so the other
		// matches begin after the name before it.
		start := names[max(0, len(names)-2)]
		further, err := h.Ledger.NamesBelow(ctx, prev.Name, start, maxFurther)
		if err != nil {
			return err
		}
		names = slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, further))))
	}
	var unnamed []drop.Subject
	for _, name := range names {
		named := slices.ContainsFunc(found.Findings(), func(f drop.Finding) bool { return f.Name == name || slices.Contains(f.Jobs, name) })
		if !named && strings.HasPrefix(name, prev.Name+"/") {
			// A pair may have the same name as the match, so assess the whole name.
			unnamed = append(unnamed, drop.SubjectOf(name))
		}
	}
	c := a.change
	c.UnnamedBy = prev.Name
	return h.send(ctx, a.batch, c, unnamed)
}

// mayLoseMatches reports whether sendUnnamed must also check matches that the bundle's previous
// status does not list. The assessment of a file in the bundle leaves them to the assessment of the
// bundle itself, if the list in the next status is incomplete too and the two lists have a job in common.
func mayLoseMatches(s drop.Subject, prev ledger.Posted, next drop.Finding) bool {
	if !isPartial(prev.Warnings) {
		return false
	}
	posted := ledger.Status{Jobs: next.Jobs, Warnings: next.Warnings}.Fit(ledger.MaxObject)
	return s.File() == "" || !isPartial(posted.Warnings) ||
		!slices.ContainsFunc(posted.Jobs, func(name string) bool { return slices.Contains(prev.Jobs, name) })
}

// isPartial reports whether one of a bundle's warnings says that the list of its matches may be incomplete.
func isPartial(warnings []string) bool {
	return slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, ledger.OnlyFirst) })
}
