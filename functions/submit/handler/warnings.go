package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

func (a *assessment) keep(name, take string) {
	a.kept = append(a.kept, ledger.TakeID{Name: name, Take: take})
}

// warnUnused adds warnings to the takes that an assessment kept, about the uploads
// that may have been meant for them: those of the same name or bundle, and talk.mp4 for
// the name talk.de.
func (h *Handler) warnUnused(ctx context.Context, a *assessment, c change) error {
	if c.Deleted {
		return nil
	}
	var keys []string
	if k := drop.ParseKey(c.Key); k.Bundle != "" || k.Name == a.subject.Name || strings.HasPrefix(a.subject.Name, k.Name+".") {
		keys = append(keys, c.Key)
	}
	for key := range c.Uploads {
		if key != c.Key && drop.ParseKey(key).Name == a.subject.Name {
			keys = append(keys, key)
		}
	}
	var errs []error
	for _, take := range a.kept {
		for _, key := range keys {
			errs = append(errs, h.warnIfUnused(ctx, take, key))
		}
	}
	return errors.Join(errs...)
}

// warnIfUnused adds a warning to a take whose status was kept, if the file at
// key is not one of its inputs.
func (h *Handler) warnIfUnused(ctx context.Context, id ledger.TakeID, key string) error {
	file, err := h.Ledger.Bucket.Listed(ctx, key) // S3 may refuse a HEAD
	if errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable || errors.Is(err, bucket.ErrNotFound) {
		return nil // reported where the record is needed
	}
	if err != nil {
		return err
	}
	if usesVersion(rec, file) {
		return nil
	}
	base := path.Base(key)
	switch {
	case inBundle(key) && rec.Uses(key):
		return h.warnIfReplaced(ctx, rec, file)
	case inBundle(key):
		return h.warn(ctx, rec, base+" was uploaded, but job.json of this job does not use it. To use it, name it in job.json, then upload job.json again.")
	}
	return h.warn(ctx, rec, base+" was uploaded, but S3 says that its upload began before the files of this job; it started nothing. Upload it again to use it.")
}

// warnIfReplaced adds a warning to the take of a bundle, if the file is in its folder
// and another version of it is one of the take's inputs.
func (h *Handler) warnIfReplaced(ctx context.Context, rec ledger.Record, file drop.File) error {
	if !inBundle(file.Key) || !rec.Uses(file.Key) || usesVersion(rec, file) {
		return nil
	}
	text := path.Base(file.Key) + " was uploaded again after this job was submitted. Upload job.json again to start a job with it."
	if rec.Match != "" {
		text = fmt.Sprintf("%s was uploaded again after this job was submitted. Upload %s again to start a job with it. %s",
			path.Base(file.Key), rec.Restart().File(), problem.AllMatches)
	}
	return h.warn(ctx, rec, text)
}

// warn adds a warning to the record and the status of a take, and applies changes to
// the record.
func (h *Handler) warn(ctx context.Context, rec ledger.Record, text string, changes ...func(*ledger.Record)) error {
	slog.WarnContext(ctx, "nothing started", "name", rec.Name, "take", rec.Take, "reason", text)
	rec, err := h.Ledger.UpdateFrom(ctx, rec, func(r *ledger.Record) {
		r.Warn(text)
		for _, change := range changes {
			change(r)
		}
	})
	if err != nil {
		return err
	}
	return h.Ledger.PostTake(ctx, rec)
}

// warnUnreadable adds a warning to the status of a take whose record cannot be read. Without the
// record it is not known whether the present files may start a job. The queue delivers the
// message again.
func (h *Handler) warnUnreadable(ctx context.Context, f drop.Finding, prev ledger.Posted, cause error) error {
	st := prev.Status
	st.UpdatedAt = time.Time{}
	text := cause.Error() + ", so no file of this name starts a job. Restore an earlier version of the record. After a day, also redrive the dead-letter queue."
	if !slices.Contains(st.Warnings, text) {
		st.Warnings = append(slices.Clone(st.Warnings), text)
	}
	slog.WarnContext(ctx, "not submitted", "name", f.Name, "take", prev.Take, "state", prev.State, "code", problem.RecordUnreadable, "err", cause)
	if err := h.Ledger.Post(ctx, f.Key, st, prev.Order, prev); err != nil {
		return err
	}
	return &heldError{code: problem.RecordUnreadable}
}

// inBundle reports whether the file at key is in a .job folder.
func inBundle(key string) bool { return drop.ParseKey(key).Bundle != "" }
