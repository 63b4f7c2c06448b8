package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// mustNotRun reports whether a job must not run although Ledger.Get found no record of its take.
// The job must not run in these cases:
//   - The status is about this take, which was claimed, and a person has deleted the record.
//   - The status says that the record could not be read, and a person has deleted the record.
//   - The status is about a newer take, which was claimed.
//   - A file of the newest take was deleted, and no file of this job was uploaded since. Then
//     mustNotRun also adds a warning to the newest take.
func (h *Handler) mustNotRun(ctx context.Context, f finding) (bool, error) {
	prev := f.prev
	if prev.Take == f.Job.Take && prev.Code == problem.RecordUnreadable {
		// Get also reports the record of a released claim as not found. So if the record exists, a
		// person has restored it, and this job was not submitted: it may run.
		released, err := h.Ledger.Bucket.Exists(ctx, ledger.RecordKey(prev.Name, prev.Take))
		return !released, err
	}
	if !prev.State.Claimed() {
		return false, nil
	}
	if prev.Take == f.Job.Take {
		slog.ErrorContext(ctx, "the record of a claimed take is missing", "name", f.Name, "take", prev.Take, "request_id", prev.RequestID)
		return true, nil
	}
	if f.Order.OlderThan(prev.Order) {
		slog.InfoContext(ctx, "older than the newest take", "name", f.Name, "take", f.Job.Take, "newest", prev.Take)
		f.warnLater(prev.Name, prev.Take)
		return true, nil
	}
	newest, gone, err := h.deletedFile(ctx, f)
	if gone == "" || err != nil {
		return false, err
	}
	file := "one of its files"
	switch job := f.Job.Restart(); {
	case job.Match != "":
		file = job.File()
	case !job.Bundle:
		file = "its audio"
	}
	text := fmt.Sprintf("%s was deleted. The files that are left form another job of this name. A deletion starts no job: to start the other job, upload %s again.", gone, file)
	return true, h.warn(ctx, newest, text, func(r *ledger.Record) {
		if gone == f.change.deletedKey() && h.timeOf(f.change).After(r.Deleted) {
			r.Deleted = h.timeOf(f.change)
		}
	})
}

// deletedFile returns the newest take of a finding's name. If a file of the take was deleted, and
// no file of the finding was uploaded since, it also returns the key of the deleted file. A record
// that is missing counts as no take. So does an unreadable record, if a file was uploaded in this batch.
//
// Another event may be assessed before the event of the deletion, so deletedFile checks
// whether the files of the take still exist.
func (h *Handler) deletedFile(ctx context.Context, f finding) (newest ledger.Record, gone string, err error) {
	newest, err = h.Ledger.Get(ctx, f.prev.Name, f.prev.Take)
	_, unreadable := errors.AsType[*bucket.UnreadableError](err)
	deleted := f.change.deletedKey()
	switch {
	case errors.Is(err, bucket.ErrNotFound), unreadable && f.uploadedSince(ledger.Record{}):
		return ledger.Record{}, "", nil
	case err != nil || f.uploadedSince(newest):
		return newest, "", err
	case !newest.Uses(deleted):
		gone, err = h.goneFrom(ctx, newest)
	case !ledger.OrderAt(h.timeOf(f.change)).OlderThan(f.Order): // no file was uploaded after the deletion
		gone = deleted
	}
	return newest, gone, err
}

// timeOf returns the time of a change, or the current time if the change has none.
func (h *Handler) timeOf(c change) time.Time {
	if c.Time.IsZero() {
		return ledger.Timestamp(h.Now())
	}
	return c.Time
}

// uploadedSince reports whether an upload in this batch lets the finding start a job, although
// a file of the take was deleted. An upload of a version that the take uses does not count.
// Nor does an upload of a pair's shared file, such as talk.mp4 for the job talk.de, if it is known
// to be older than the claim of the take or than take.Deleted. EventBridge gives times in whole seconds.
func (f finding) uploadedSince(take ledger.Record) bool {
	since := latest(take.Times.Claimed, take.Deleted)
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool {
		at, uploaded := f.batch.uploads[file.Key]
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
		return in.Key == file.Key && file.Matches(in.ETag, in.LastModified)
	})
}

// goneFrom returns the key of an input that was deleted, or "". If the object at the key is older
// than the take's input, the version that the take used was deleted. goneFrom checks only inputs
// whose deletion cancels the take.
func (h *Handler) goneFrom(ctx context.Context, rec ledger.Record) (string, error) {
	for _, in := range rec.Inputs {
		if !rec.CancelledBy(in.Key) {
			continue
		}
		switch file, err := h.Ledger.Bucket.Listed(ctx, in.Key); {
		case errors.Is(err, bucket.ErrNotFound):
			return in.Key, nil
		case err != nil:
			return "", err
		case file.LastModified.Before(in.LastModified.Add(-time.Second)): // S3 may round the times differently
			return in.Key, nil
		}
	}
	return "", nil
}
