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
	"github.com/lipdrop/lipdrop/internal/local/states"
)

const (
	// inbox is the prefix whose events the rules want.
	inbox = "inbox/"
	// sweepEvery is the template's schedule for cancel.
	sweepEvery = time.Hour
	// onTheWay is how long an event may take from the bucket to the queue. The
	// S3 server calls at once, and its call waits for one look at the bucket.
	onTheWay = time.Minute
	// catchUpEvery is how often events are looked for that could not be kept.
	catchUpEvery = 5 * time.Second
)

// lastEvent returns the time since when events may have been missed, and
// whether the folder was used before.
func (s *Stack) lastEvent() (since time.Time, restarted bool, err error) {
	text, err := os.ReadFile(s.path("last-event"))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, s.writeLastEvent()
	}
	if err != nil {
		return time.Time{}, false, err
	}
	if err := since.UnmarshalText(text); err != nil {
		return time.Time{}, true, nil // everything, then
	}
	return since.Add(-onTheWay), true, nil
}

// catchUp forwards the events that may have been missed. Afterwards none is,
// unless one could not be kept in the meantime.
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

// catchUpWhenMissed catches up whenever an event could not be kept.
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

// eventKept notes that the events of the bucket until now are kept, but for
// those on their way.
func (s *Stack) eventKept() error {
	if !s.caughtUp.Load() {
		return nil
	}
	return s.writeLastEvent()
}

// noEventSince notes the same when the S3 server has ended.
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
	return writeFile(s.path("last-event"), text)
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

// Sweep has cancel look for executions that ended badly and were not settled,
// as the schedule does every hour.
func (s *Stack) Sweep() error {
	body, err := json.Marshal(events.Schedule(time.Now()))
	if err != nil {
		return err
	}
	return s.cancels.Send(string(body))
}

// schedule sweeps every hour, and at once where a kill may have lost the event
// of an execution.
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
