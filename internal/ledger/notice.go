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
	// Key is the key of the status, or of the answer file of a file that cannot belong to
	// a job.
	Key string
	// Drop identifies the drop: it is the take or, if the drop has no take, the time of the
	// drop's newest file.
	Drop string
}

// The write that stores a new state also marks the notice about this state, if there is one, as due.
// The mark of a take that has ended is NoticeDue in its record. The mark of a rejected or held drop
// is dueMetadata of its status. After the notice was sent, another write removes the mark. If the
// notice cannot be sent, or the function dies before the second write, the mark stays. Then, for the
// end of a take, the next call of PostTake sends the notice. For a rejected or held drop, the next
// call of Post for the same state sends it, unless another process may still be sending it (see
// sending). The hourly sweep sends the due notices of ended takes too, for two days after the last
// write of the record. So the notice about the end of a take is sent at least once, unless all tries
// of these days fail, and usually only once. An unsent notice about a rejected or held drop is lost
// if the drop is not assessed again in the same state.

// dueMetadata is the object metadata of a status whose notice is due. It names the Writer.
const dueMetadata = "lipdrop-notice-due"

// sending is the time within which the process that wrote a status sends the notice about
// the status. Until this time is over, other processes that read the mark send no notice. A
// process that reads its own mark sends the notice at once, because no other process is sending it.
const sending = 10 * time.Second

// markDue marks the status of a rejected or held drop if the notice about it is due, and reports
// whether the caller must send the notice. There is one notice when a drop becomes rejected or
// held, and no second notice if only the reason changes. A process that does not send the notice
// keeps the mark of the process that does.
func (s *Store) markDue(prev Posted, posted *Posted) (send bool) {
	own := "by " + s.Writer
	isNew := prev.State != posted.State || prev.Take != posted.Take || !prev.Order.SameDrop(posted.Order)
	switch {
	case posted.State != Rejected && posted.State != Held:
	case s.Notify != nil && (isNew || prev.due == own || prev.due != "" && !s.Now().Before(prev.UpdatedAt.Add(sending))):
		posted.due, send = own, true
	case !isNew:
		posted.due = prev.due
	}
	return send
}

// sendDue sends the notice about a status that was just read or written, and removes the mark.
// If another process rewrites the status meanwhile, that process keeps the mark, and sendDue
// removes the mark from the rewritten status.
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
