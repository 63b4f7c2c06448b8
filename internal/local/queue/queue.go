// Package queue is a queue like those of SQS. Each message is a file, so that a restart at any
// moment loses no message.
package queue

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/private"
)

// Message is a message and the state of its deliveries.
type Message struct {
	ID        string    `json:"id"`
	Body      string    `json:"body"`
	SentAt    time.Time `json:"sentAt"`
	Receives  int       `json:"receives"`  // deliveries so far
	VisibleAt time.Time `json:"visibleAt"` // when the message is due
}

// receipt returns the receipt handle of the last delivery of the message.
func (m Message) receipt() string { return fmt.Sprintf("%s:%d", m.ID, m.Receives) }

// Config describes a queue. Delay can be 0. Every other field is required.
type Config struct {
	Dir         string        // holds the messages
	Delay       time.Duration // from sending to the first delivery
	Visibility  time.Duration // from one delivery to the next
	MaxReceives int           // deliveries before a message becomes a dead letter
	Now         func() time.Time
}

// Queue is safe for concurrent use. Two queues must not share a folder.
type Queue struct {
	cfg Config

	mu       sync.Mutex
	messages map[string]Message // by id
	inFlight map[string]bool    // by id
	wake     chan struct{}      // wakes awaitBatch after a message was added or changed
}

// Open makes the folder of a queue if necessary, and returns the queue. A message that was
// delivered before and is not a dead letter is due at once: its last delivery may have been cut short.
func Open(cfg Config) (*Queue, error) {
	messages, err := private.ReadAllJSON[Message](cfg.Dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, messages: map[string]Message{}, inFlight: map[string]bool{}, wake: make(chan struct{}, 1)}
	for _, m := range messages {
		if m.Receives > 0 {
			m.VisibleAt = cfg.Now()
		}
		q.messages[m.ID] = m
	}
	return q, nil
}

// Send adds a message.
func (q *Queue) Send(body string) error {
	_, err := q.send(body, q.cfg.Delay)
	return err
}

// send adds a message that is delivered after a delay, and returns its id.
func (q *Queue) send(body string, delay time.Duration) (id string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cfg.Now()
	m := Message{ID: uuid.NewString(), Body: body, SentAt: now, VisibleAt: now.Add(delay)}
	if err := q.store(m); err != nil {
		delete(q.messages, m.ID)
		return "", err
	}
	return m.ID, nil
}

// Receive returns up to limit messages that are due, in the order in which they became
// due. It hides each of these messages at least until Delete or Release is called for it.
func (q *Queue) Receive(limit int) []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cfg.Now()
	var due []Message
	for _, m := range q.messages {
		if q.isWaiting(m) && !m.VisibleAt.After(now) {
			due = append(due, m)
		}
	}
	slices.SortFunc(due, func(a, b Message) int {
		return cmp.Or(a.VisibleAt.Compare(b.VisibleAt), a.SentAt.Compare(b.SentAt), strings.Compare(a.ID, b.ID))
	})
	due = due[:min(limit, len(due))]
	for i := range due {
		m := &due[i]
		m.Receives++
		m.VisibleAt = now.Add(q.cfg.Visibility)
		q.inFlight[m.ID] = true
		if err := q.store(*m); err != nil {
			slog.Error("delivery of a message not saved", "message_id", m.ID, "err", err)
		}
	}
	return due
}

// Delete removes a message after a successful delivery.
func (q *Queue) Delete(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.messages, id)
	delete(q.inFlight, id)
	if err := os.Remove(q.file(id)); err != nil {
		slog.Error("message not deleted", "message_id", id, "err", err) // a restart delivers the message again
	}
}

// Release ends a failed delivery. If it was delivery number MaxReceives, the message becomes a
// dead letter. Otherwise the message becomes visible again at the end of its visibility timeout,
// or at the time that postpone has set.
func (q *Queue) Release(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.inFlight, id)
	q.signal()
}

// postpone makes a message become visible again after a pause from now. The receipt must belong
// to a delivery that is under way.
func (q *Queue) postpone(receipt string, pause time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	id, _, _ := strings.Cut(receipt, ":")
	m, ok := q.messages[id]
	if !ok || !q.inFlight[id] || m.receipt() != receipt {
		return awsjson.Errorf("ReceiptHandleIsInvalid", "the receipt handle does not belong to a delivery under way")
	}
	m.VisibleAt = q.cfg.Now().Add(pause)
	return q.store(m)
}

// Len returns the number of messages, without the dead letters.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages) - len(q.deadLetters())
}

// DeadLetters returns the messages that were delivered MaxReceives times without
// success, the oldest first.
func (q *Queue) DeadLetters() []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deadLetters()
}

func (q *Queue) deadLetters() []Message {
	var dead []Message
	for _, m := range q.messages {
		if m.Receives >= q.cfg.MaxReceives && !q.inFlight[m.ID] {
			dead = append(dead, m)
		}
	}
	slices.SortFunc(dead, func(a, b Message) int {
		return cmp.Or(a.SentAt.Compare(b.SentAt), strings.Compare(a.ID, b.ID))
	})
	return dead
}

// isWaiting reports whether a message waits for a delivery. The caller holds q.mu.
func (q *Queue) isWaiting(m Message) bool { return m.Receives < q.cfg.MaxReceives && !q.inFlight[m.ID] }

// store adds or changes a message and replaces its file. If the file cannot be replaced, the
// message is changed only in memory. The caller holds q.mu.
func (q *Queue) store(m Message) error {
	q.messages[m.ID] = m
	q.signal()
	return private.ReplaceJSON(q.file(m.ID), m)
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// nextDue returns when the next message is due. It returns false if no message
// waits for a delivery.
func (q *Queue) nextDue() (at time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if q.isWaiting(m) && (!ok || m.VisibleAt.Before(at)) {
			at, ok = m.VisibleAt, true
		}
	}
	return at, ok
}

func (q *Queue) file(id string) string { return filepath.Join(q.cfg.Dir, id+".json") }
