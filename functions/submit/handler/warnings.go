package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

func (a *assessment) warnLater(name, take string) {
	a.toWarn = append(a.toWarn, ledger.TakeID{Name: name, Take: take})
}

// warnUnused adds a warning to each take of a.toWarn for each uploaded file that the take does not
// use. It checks the files of c.Uploads with the subject's name, and the changed file if the
// subject can use it. The subject talk.de can use talk.mp4.
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
	for _, take := range a.toWarn {
		for _, key := range keys {
			errs = append(errs, h.warnIfUnused(ctx, take, key))
		}
	}
	return errors.Join(errs...)
}

// warnIfUnused adds a warning to a take if the take does not use the present version of the
// file at key.
func (h *Handler) warnIfUnused(ctx context.Context, id ledger.TakeID, key string) error {
	file, err := h.Ledger.Bucket.Listed(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := h.Ledger.Get(ctx, id.Name, id.Take)
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable || errors.Is(err, bucket.ErrNotFound) {
		return nil // handleFinding reports an unreadable record if it needs the content
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
	case inBundle(key) && rec.Match != "" && drop.MatchName(drop.ParseKey(key).Bundle, key) != rec.Name:
		return nil // the file may be another match, which has a job of its own
	case inBundle(key):
		return h.warn(ctx, rec, base+" was uploaded, but job.json of this job does not use it. To use the file, add it to job.json, then upload job.json again.")
	}
	return h.warn(ctx, rec, base+" was uploaded, but started no job. S3 says that its upload began before the upload of this job's newest file. To use "+base+", upload it again.")
}

// warnIfReplaced adds a warning to a take if the file is in a .job folder and the take used another
// version of the file.
func (h *Handler) warnIfReplaced(ctx context.Context, rec ledger.Record, file drop.File) error {
	if !inBundle(file.Key) || !rec.Uses(file.Key) || usesVersion(rec, file) {
		return nil
	}
	restart, note := "job.json", ""
	if rec.Match != "" {
		restart, note = rec.Restart().File(), " "+problem.AllMatches
	}
	return h.warn(ctx, rec, fmt.Sprintf("%[1]s was uploaded again after this job was submitted. To start a job with the new %[1]s, upload %[2]s again.%[3]s",
		path.Base(file.Key), restart, note))
}

// warn adds a warning to the record and the status of a take.
func (h *Handler) warn(ctx context.Context, rec ledger.Record, text string, changes ...func(*ledger.Record)) error {
	slog.WarnContext(ctx, "nothing started", "name", rec.Name, "take", rec.Take, "reason", text)
	rec, err := h.Ledger.Update(ctx, rec, func(r *ledger.Record) {
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
// record it is not known whether the present files may start a job. warnUnreadable returns
// *heldError, so that the queue delivers the message again.
func (h *Handler) warnUnreadable(ctx context.Context, f finding, cause error) error {
	text := cause.Error() + ", so the present files of this name start no job. Restore an earlier version of the record. If the record was unreadable for more than a day, also redrive the dead-letter queue."
	slog.WarnContext(ctx, "not submitted", "name", f.Name, "take", f.prev.Take, "state", f.prev.State, "code", problem.RecordUnreadable, "err", cause)
	if err := h.Ledger.AddWarning(ctx, f.Key, f.prev, text); err != nil {
		return err
	}
	return &heldError{code: problem.RecordUnreadable}
}

// inBundle reports whether the file at key is in a .job folder.
func inBundle(key string) bool { return drop.ParseKey(key).Bundle != "" }
