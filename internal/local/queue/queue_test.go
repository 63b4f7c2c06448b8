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

type clock struct{ now time.Time }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }
func (c *clock) config(dir string) queue.Config {
	return queue.Config{Dir: dir, Delay: 10 * time.Second, Visibility: time.Minute, MaxReceives: 3, Now: c.Now}
}

func open(t rapid.TB, cfg queue.Config) *queue.Queue {
	t.Helper()
	q, err := queue.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func send(t rapid.TB, q *queue.Queue, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := q.Send(body); err != nil {
			t.Fatal(err)
		}
	}
}

func bodies(batch []queue.Message) []string {
	var all []string
	for _, m := range batch {
		all = append(all, m.Body)
	}
	return all
}

func expect(t rapid.TB, what string, got []string, want ...string) {
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
	expect(t, "before the delay", bodies(q.Receive(10)))

	c.advance(1)
	batch := q.Receive(10)
	expect(t, "after the delay", bodies(batch), "a")
	want := queue.Message{
		ID: batch[0].ID, Body: "a", SentAt: start, Receives: 1, VisibleAt: start.Add(70 * time.Second),
	}
	if diff := cmp.Diff([]queue.Message{want}, batch); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}

	c.advance(2 * time.Minute)
	expect(t, "during the delivery", bodies(q.Receive(10)))

	q.Release(want.ID)
	expect(t, "after a delivery that failed late", bodies(q.Receive(10)), "a")
	q.Release(want.ID)
	expect(t, "within the visibility timeout", bodies(q.Receive(10)))

	c.advance(time.Minute)
	batch = q.Receive(10)
	expect(t, "after the visibility timeout", bodies(batch), "a")
	if batch[0].Receives != 3 {
		t.Errorf("third delivery: %+v, want 3 receives", batch[0])
	}
	q.Delete(want.ID)
	c.advance(time.Hour)
	expect(t, "after a successful delivery", bodies(q.Receive(10)))
	expect(t, "dead letters", bodies(q.DeadLetters()))
}

func TestRestart(t *testing.T) {
	c := &clock{start}
	cfg := c.config(t.TempDir())
	q := open(t, cfg)
	send(t, q, "worked on")
	c.advance(10 * time.Second)
	q.Receive(10)
	send(t, q, "waiting")

	q = open(t, cfg)
	batch := q.Receive(10)
	expect(t, "at once", bodies(batch), "worked on")
	if batch[0].Receives != 2 {
		t.Errorf("%d deliveries, want 2", batch[0].Receives)
	}
	c.advance(10 * time.Second)
	expect(t, "after its delay", bodies(q.Receive(10)), "waiting")
}

// TestNothingIsLost makes random calls of a queue and restarts it at random. It compares the
// messages of the queue with a model.
func TestNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	rapidtest.Check(t, func(t *rapid.T) {
		c := &clock{start}
		folder, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		cfg := c.config(folder)
		q := open(t, cfg)
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
				send(t, q, body)
				alive[body] = 0
			},
			"receive": func(t *rapid.T) {
				for _, m := range q.Receive(rapid.IntRange(1, 3).Draw(t, "limit")) {
					if _, twice := working[m.Body]; twice {
						t.Fatalf("%q delivered during another delivery, want one delivery at a time", m.Body)
					}
					alive[m.Body]++
					if m.Receives != alive[m.Body] || m.Receives > cfg.MaxReceives {
						t.Fatalf("%q at delivery %d: Receives is %d, want the same number, at most %d", m.Body, alive[m.Body], m.Receives, cfg.MaxReceives)
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
				q = open(t, cfg)
				clear(working)
			},
			"wait": func(t *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			},
		})
		// At the end, every message that was not deleted is received or is a dead letter.
		q = open(t, cfg)
		c.advance(time.Hour)
		rest := q.Receive(len(alive) + 1)
		got := append(bodies(rest), bodies(q.DeadLetters())...)
		slices.Sort(got)
		expect(t, "messages", got, slices.Sorted(maps.Keys(alive))...)
	})
}
