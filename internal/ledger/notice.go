package ledger

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// Notice says that a drop was rejected or is held, or that a take has ended.
type Notice struct {
	Status
	// Key is where the status is stored: below status/ or, about a file that cannot belong to a
	// job, below answers/.
	Key string
	// Drop identifies the drop: it is the take or, if the drop has no take, the time of the
	// drop's newest file.
	Drop string
}

// The write that stores a new state also marks its notice as due: with NoticeDue in the record of a
// take that has ended, or with dueMetadata on the status of a rejected or held drop. A second write,
// after the notice was sent, removes the mark. If the function fails in between, the mark stays.
//
// The next call of SendNotice sends the due notice of an ended take. Until two days after the record's
// last write, each hourly sweep calls it through PostTake. So the notice is lost only if all tries fail.
//
// The next call of Post for the same state sends the due notice of a rejected or held drop. The
// notice is lost if the drop is not assessed again in the same state.

// dueMetadata is the object metadata of a status whose notice is due. Its value contains Store.Writer.
const dueMetadata = "lipdrop-notice-due"

// Until a mark is older than sendingTime, only the process that wrote it sends the notice.
const sendingTime = 10 * time.Second

// markDue marks the status of a rejected or held drop if the notice about it is due, and reports
// whether the caller must send the notice. There is one notice when a drop becomes rejected or
// held, and no second notice if only the reason changes. If the caller must not send
// the notice, an earlier mark of the same state stays: another process may be sending it.
func (s *Store) markDue(prev Posted, posted *Posted) (send bool) {
	own := "by " + s.Writer
	isNew := prev.State != posted.State || prev.Take != posted.Take || !prev.Order.SameStamp(posted.Order)
	switch {
	case posted.State != Rejected && posted.State != Held:
	case s.Notify != nil && (isNew || prev.due == own || prev.due != "" && !s.Now().Before(prev.UpdatedAt.Add(sendingTime))):
		posted.due, send = own, true
	case !isNew:
		posted.due = prev.due
	}
	return send
}

// sendDue sends the notice about a status that was just read or written. Then it removes the mark
// from the status, or from a newer version with the same mark.
func (s *Store) sendDue(ctx context.Context, key string, posted Posted) {
	if !s.Notify(ctx, Notice{posted.Status, key, cmp.Or(posted.Take, posted.Order.Stamp())}) {
		return
	}
	mark, name := posted.due, posted.Name
	var err error
	for range maxRaces {
		posted.due = ""
		err = s.putStatus(ctx, key, &posted)
		if !errors.Is(err, bucket.ErrConflict) {
			break
		}
		if posted, err = s.Posted(ctx, key); err != nil || posted.due != mark {
			break
		}
	}
	if err != nil {
		slog.WarnContext(ctx, "notice sent, but still marked as due, so it may be sent again", "name", name, "err", err)
	}
}

// putStatus calls put with a status, and stores the order and the mark of the status as metadata.
func (s *Store) putStatus(ctx context.Context, key string, posted *Posted) error {
	metadata := map[string]string{orderMetadata: string(posted.Order)}
	if posted.due != "" {
		metadata[dueMetadata] = posted.due
	}
	return s.put(ctx, key, posted.Status, &posted.etag, metadata)
}

// SendNotice sends the notice about the end of a take, if the notice is due. It returns no
// error: a notice that cannot be sent changes nothing about the job. The notice is
// sent even if the name's status is about a newer drop.
func (s *Store) SendNotice(ctx context.Context, rec Record) {
	if !rec.NoticeDue || s.Notify == nil {
		return
	}
	st := s.TakeStatus(rec)
	st.UpdatedAt = s.Now().UTC().Truncate(time.Second)
	if !s.Notify(ctx, Notice{st, StatusKey(rec.Name), rec.Take}) {
		return
	}
	state := rec.State
	_, err := s.Update(ctx, rec, func(r *Record) {
		if r.State == state {
			r.NoticeDue = false
		}
	})
	if err != nil {
		slog.WarnContext(ctx, "notice sent, but still marked as due, so it will be sent again", "name", rec.Name, "take", rec.Take, "err", err)
	}
}
