package local

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/private"
	"github.com/lipdrop/lipdrop/internal/local/states"
)

const (
	// inbox is the prefix whose events the rules of the template match.
	inbox = "inbox/"
	// sweepEvery is the template's schedule for cancel.
	sweepEvery = time.Hour
	// onTheWay is how long an event may take from the bucket to the queue.
	onTheWay = time.Minute
	// catchUpEvery is how often the stack searches for events that it could not keep.
	catchUpEvery = 5 * time.Second
)

// lastEvent returns the time since which events may have been missed, and whether
// the folder was used before.
func (s *Stack) lastEvent() (since time.Time, restarted bool, err error) {
	text, err := os.ReadFile(s.path("last-event"))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, s.writeLastEvent()
	}
	if err != nil {
		return time.Time{}, false, err
	}
	if err := since.UnmarshalText(text); err != nil {
		return time.Time{}, true, nil // the text is damaged: search for all events
	}
	return since.Add(-onTheWay), true, nil
}

// catchUp forwards the events that may have been missed. Afterwards no event is
// missing, unless one could not be kept in the meantime.
func (s *Stack) catchUp(ctx context.Context) error {
	before := s.missed.Load()
	since, _, err := s.lastEvent()
	if err != nil {
		return err
	}
	if err := s.webhook.CatchUp(ctx, s.S3(), since); err != nil {
		return err
	}
	s.caughtUp.Store(true)
	if s.missed.Load() != before {
		s.caughtUp.Store(false)
	}
	return nil
}

// catchUpWhenMissed calls catchUp whenever an event could not be kept.
func (s *Stack) catchUpWhenMissed() {
	again := time.NewTicker(catchUpEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-s.intake.Done():
			return
		}
		if s.caughtUp.Load() {
			continue
		}
		if err := s.catchUp(s.intake); err != nil && s.intake.Err() == nil {
			slog.Error("events still missing", "err", err)
		}
	}
}

// eventKept records that all events of the bucket until now are kept, except those
// on the way.
func (s *Stack) eventKept() error {
	if !s.caughtUp.Load() {
		return nil
	}
	return s.writeLastEvent()
}

// noEventSince records the same after the S3 server has ended.
func (s *Stack) noEventSince() {
	if err := s.eventKept(); err != nil {
		slog.Error("time of the last event not saved", "err", err)
	}
}

func (s *Stack) writeLastEvent() error {
	text, err := time.Now().UTC().MarshalText()
	if err != nil {
		return err
	}
	s.lastEventLock.Lock()
	defer s.lastEventLock.Unlock()
	return private.Replace(s.path("last-event"), text, 0o600)
}

// onEnd sends cancel the event of an execution that ended badly, if the rule of
// the template wants it.
func (s *Stack) onEnd(end states.End) {
	if end.Status == states.Succeeded {
		return
	}
	event := events.StatusChange(time.Now(), MachineARN, end.ExecutionARN, string(end.Status), end.RedriveCount)
	body, err := json.Marshal(event)
	if err == nil {
		err = s.cancels.Send(string(body))
	}
	if err != nil {
		slog.Error("event of an execution lost", "err", err)
	}
}

// Sweep makes cancel sweep, as the schedule does every hour.
func (s *Stack) Sweep() error {
	body, err := json.Marshal(events.Schedule(time.Now()))
	if err != nil {
		return err
	}
	return s.cancels.Send(string(body))
}

// schedule sweeps every hour, and at once if a kill may have lost the event of an
// execution.
func (s *Stack) schedule(now bool) {
	hours := time.NewTicker(sweepEvery)
	defer hours.Stop()
	for {
		if now {
			if err := s.Sweep(); err != nil {
				slog.Error("sweep not started", "err", err)
			}
		}
		select {
		case <-hours.C:
			now = true
		case <-s.intake.Done():
			return
		}
	}
}
