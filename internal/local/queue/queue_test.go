package queue_test

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }
func (c *clock) config(dir string) queue.Config {
	return queue.Config{Dir: dir, Delay: 10 * time.Second, Visibility: time.Minute, MaxReceives: 3, Now: c.Now}
}

func open(t *testing.T, cfg queue.Config) *queue.Queue {
	t.Helper()
	q, err := queue.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func send(t *testing.T, q *queue.Queue, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := q.Send(body); err != nil {
			t.Fatal(err)
		}
	}
}

// receive returns the bodies of the messages that a queue delivers, and the messages.
func receive(t *testing.T, q *queue.Queue, limit int) ([]string, []queue.Message) {
	t.Helper()
	batch := q.Receive(limit)
	return bodies(batch), batch
}

func bodies(batch []queue.Message) []string {
	var all []string
	for _, m := range batch {
		all = append(all, m.Body)
	}
	return all
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLifeOfAMessage(t *testing.T) {
	c := &clock{start}
	q := open(t, c.config(t.TempDir()))
	send(t, q, "a")
	c.advance(10*time.Second - 1)
	got, _ := receive(t, q, 10)
	expect(t, "before the delay", got)

	c.advance(1)
	got, batch := receive(t, q, 10)
	expect(t, "after the delay", got, "a")
	want := queue.Message{
		ID: batch[0].ID, Body: "a", SentAt: start, Receives: 1, VisibleAt: start.Add(70 * time.Second),
	}
	if diff := cmp.Diff([]queue.Message{want}, batch); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}

	c.advance(2 * time.Minute)
	got, _ = receive(t, q, 10)
	expect(t, "during the delivery", got)

	q.Release(want.ID)
	got, _ = receive(t, q, 10)
	expect(t, "after a delivery that failed late", got, "a")
	q.Release(want.ID)
	got, _ = receive(t, q, 10)
	expect(t, "within the visibility timeout", got)

	c.advance(time.Minute)
	got, batch = receive(t, q, 10)
	expect(t, "after the visibility timeout", got, "a")
	if batch[0].Receives != 3 {
		t.Errorf("third delivery: %+v, want 3 receives", batch[0])
	}
	q.Delete(want.ID)
	c.advance(time.Hour)
	got, _ = receive(t, q, 10)
	expect(t, "after a successful delivery", got)
	expect(t, "dead letters", bodies(q.DeadLetters()))
}

func TestRestart(t *testing.T) {
	c := &clock{start}
	cfg := c.config(t.TempDir())
	q := open(t, cfg)
	send(t, q, "worked on")
	c.advance(10 * time.Second)
	receive(t, q, 10)
	send(t, q, "waiting")

	q = open(t, cfg)
	got, batch := receive(t, q, 10)
	expect(t, "at once", got, "worked on")
	if batch[0].Receives != 2 {
		t.Errorf("%d deliveries, want 2", batch[0].Receives)
	}
	c.advance(10 * time.Second)
	got, _ = receive(t, q, 10)
	expect(t, "after its delay", got, "waiting")
}

// TestNothingIsLost uses and restarts a queue in random order, and compares the messages of
// the queue with a model.
func TestNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	rapidtest.Check(t, func(t *rapid.T) {
		c := &clock{start}
		folder, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		cfg := c.config(folder)
		q, err := queue.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		alive := map[string]int{} // body → deliveries
		working := map[string]queue.Message{}
		var sent int
		pick := func(t *rapid.T) queue.Message {
			if len(working) == 0 {
				t.Skip("no delivery is under way")
			}
			return working[rapid.SampledFrom(slices.Sorted(maps.Keys(working))).Draw(t, "message")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				sent++
				body := string(rune('a' + sent))
				if err := q.Send(body); err != nil {
					t.Fatal(err)
				}
				alive[body] = 0
			},
			"receive": func(t *rapid.T) {
				for _, m := range q.Receive(rapid.IntRange(1, 3).Draw(t, "limit")) {
					if _, twice := working[m.Body]; twice {
						t.Fatalf("%q delivered during another delivery, want one delivery at a time", m.Body)
					}
					alive[m.Body]++
					if m.Receives != alive[m.Body] || m.Receives > cfg.MaxReceives {
						t.Fatalf("%q: Receives is %d at delivery %d, want the number of the delivery, at most %d", m.Body, m.Receives, alive[m.Body], cfg.MaxReceives)
					}
					working[m.Body] = m
				}
			},
			"delete": func(t *rapid.T) {
				m := pick(t)
				q.Delete(m.ID)
				delete(working, m.Body)
				delete(alive, m.Body)
			},
			"release": func(t *rapid.T) {
				m := pick(t)
				q.Release(m.ID)
				delete(working, m.Body)
			},
			"restart": func(t *rapid.T) {
				if q, err = queue.Open(cfg); err != nil {
					t.Fatal(err)
				}
				clear(working)
			},
			"wait": func(t *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			},
		})
		// At the end, every message that was not deleted is received or is a dead letter.
		if q, err = queue.Open(cfg); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Hour)
		rest := q.Receive(len(alive) + 1)
		got := append(bodies(rest), bodies(q.DeadLetters())...)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(alive)), got); diff != "" {
			t.Fatalf("messages (-want +got):\n%s", diff)
		}
	})
}
