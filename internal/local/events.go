package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/private"
)

const (
	// sweepEvery is the time between two sweeps, as in the template's schedule for cancel.
	sweepEvery = time.Hour
	// onTheWay is how long an event may take from the bucket to the queue.
	onTheWay = time.Minute
)

// Forward does what the template's rules do: it puts each event of the bucket into
// the queue of drops, and a deletion also into the queue of deletions. If an event
// cannot be kept, for example because the disk is full, the stack fails. The next
// start forwards the event again.
func (s *Stack) Forward(event events.Event) error {
	err := send(s.dropQueue, event)
	if err == nil && event.DetailType == events.ObjectDeleted {
		err = send(s.deletionQueue, event)
	}
	if err == nil {
		err = s.saveLastEvent()
	}
	if err != nil {
		s.fail(fmt.Errorf("an event of the bucket was not kept: %w", err))
	}
	return err
}

func send(q *queue.Queue, event events.Event) error {
	return q.Send(string(bucket.JSON(event, "")))
}

// lastEvent returns the time after which events may have been missed, and whether the folder
// of the stack was used before.
func (s *Stack) lastEvent() (since time.Time, restarted bool, err error) {
	text, err := os.ReadFile(s.path("last-event"))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	_ = since.UnmarshalText(text) // a damaged text leaves the zero time, which means all events
	return since.Add(-onTheWay), true, err
}

// catchUp forwards the events that may have been missed.
func (s *Stack) catchUp(ctx context.Context, since time.Time) error {
	if err := s.webhook.CatchUp(ctx, s.S3(), since); err != nil {
		return err
	}
	s.caughtUp.Store(true)
	return s.saveLastEvent()
}

// saveLastEvent saves the present time. All events of the bucket that are more than a minute older
// (see onTheWay) are in the queues. saveLastEvent does nothing before catchUp has succeeded, or
// after the stack has failed.
func (s *Stack) saveLastEvent() error {
	if !s.caughtUp.Load() || s.failed.Err() != nil {
		return nil
	}
	text, err := time.Now().UTC().MarshalText()
	if err != nil {
		return err
	}
	s.lastEventLock.Lock()
	defer s.lastEventLock.Unlock()
	return private.Replace(s.path("last-event"), text, 0o600)
}

// onEnd sends an event to the cancel function if an execution did not succeed, as the
// template's rule does.
func (s *Stack) onEnd(end states.End) {
	if end.Status == states.Succeeded {
		return
	}
	event := events.StatusChange(time.Now(), MachineARN, end.ExecutionARN, string(end.Status), end.RedriveCount)
	if err := send(s.cancelQueue, event); err != nil {
		slog.Error("event of an execution lost", "execution", end.ExecutionARN, "err", err)
	}
}

// Sweep makes the cancel function sweep, and returns when the sweep has ended.
func (s *Stack) Sweep(ctx context.Context) error {
	_, err := s.lambda.Invoke(ctx, cancel, bucket.JSON(events.Schedule(time.Now()), ""))
	return err
}

// schedule sweeps every hour. If sweepNow is true, it also sweeps at once: an earlier stack that
// was killed may have lost the event of an execution's end.
func (s *Stack) schedule(sweepNow bool) {
	hours := time.NewTicker(sweepEvery)
	defer hours.Stop()
	for {
		if sweepNow {
			if err := send(s.cancelQueue, events.Schedule(time.Now())); err != nil {
				slog.Error("sweep not started", "err", err)
			}
		}
		select {
		case <-hours.C:
			sweepNow = true
		case <-s.intakeCtx.Done():
			return
		}
	}
}
