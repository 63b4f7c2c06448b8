package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// notified is a store that collects its notices.
type notified struct {
	*ledger.Store
	sent      []string
	fail      bool          // nothing can be sent
	dies      bool          // the function dies before the notice
	sinceNoon time.Duration // Now returns noon plus this; 10 s after a status was marked, any process may send its notice
}

func newNotified(storage *s3test.Bucket) *notified {
	n := &notified{Store: newStore(storage)}
	n.Now = func() time.Time { return noon.Add(n.sinceNoon) }
	n.Notify = func(_ context.Context, notice ledger.Notice) bool {
		if n.dies {
			panic("the function dies")
		}
		if !n.fail {
			n.sent = append(n.sent, fmt.Sprint(notice.State, " ", notice.Drop, " ", notice.Key))
		}
		return !n.fail
	}
	return n
}

func (n *notified) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, n.sent); diff != "" {
		t.Errorf("notices (-want +sent):\n%s", diff)
	}
}

// assess posts a status, as an assessment does.
func (n *notified) assess(t *testing.T, st ledger.Status, order ledger.Order) {
	t.Helper()
	prev, err := n.Posted(t.Context(), ledger.StatusKey("n"))
	if err == nil {
		err = n.Post(t.Context(), ledger.StatusKey("n"), st, order, prev)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dying calls post, and simulates that Lambda's process dies when post sends a notice.
func (n *notified) dying(post func()) {
	n.dies = true
	defer func() { _ = recover(); n.dies = false }()
	post()
}

func TestNoticesOfDrops(t *testing.T) {
	const first, second = "20261121T120000Z", "20261121T120001Z"
	const take = first + "-0123456789ab"
	rejected := ledger.Status{Name: "n", State: ledger.Rejected, Code: problem.TooLong, Reason: "17.3 s"}
	waiting := ledger.Status{Name: "n", State: ledger.Waiting, Code: problem.WaitingForAudio}
	throttled := ledger.Status{Name: "n", State: ledger.Held, Code: problem.Throttled, Take: take}
	noBalance := throttled
	noBalance.Code = problem.NoBalance
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, n *notified)
		want []string
	}{
		{"a rejected drop that is assessed again", func(t *testing.T, n *notified) {
			for range 3 {
				n.assess(t, rejected, first)
			}
		}, []string{"rejected " + first + " status/n.json"}},
		{"two drops that are rejected one after the other", func(t *testing.T, n *notified) {
			n.assess(t, rejected, first)
			n.assess(t, rejected, second)
		}, []string{"rejected " + first + " status/n.json", "rejected " + second + " status/n.json"}},
		{"a take that is held for one reason, then for another", func(t *testing.T, n *notified) {
			for _, st := range []ledger.Status{throttled, throttled, noBalance, throttled} {
				n.assess(t, st, first)
			}
		}, []string{"held " + take + " status/n.json"}},
		{"two takes of one second, both held", func(t *testing.T, n *notified) {
			n.assess(t, throttled, first)
			other := throttled
			other.Take = first + "-ba9876543210"
			n.assess(t, other, first)
		}, []string{"held " + take + " status/n.json", "held " + first + "-ba9876543210 status/n.json"}},
		{"a held take that is rejected", func(t *testing.T, n *notified) {
			n.assess(t, throttled, first)
			st := rejected
			st.Take = take
			n.assess(t, st, first)
		}, []string{"held " + take + " status/n.json", "rejected " + take + " status/n.json"}},
		{"a waiting drop", func(t *testing.T, n *notified) { n.assess(t, waiting, first) }, nil},
		{"the function dies before the notice", func(t *testing.T, n *notified) {
			n.dying(func() { n.assess(t, rejected, first) })
			n.Writer = "another process"
			n.sinceNoon += 10 * time.Second
			n.assess(t, rejected, first)
			n.assess(t, rejected, first)
		}, []string{"rejected " + first + " status/n.json"}},
		{"a process reads its own mark of a due notice, because S3's response to its write was lost", func(t *testing.T, n *notified) {
			n.dying(func() { n.assess(t, rejected, first) })
			n.assess(t, rejected, first)
			n.assess(t, rejected, first)
		}, []string{"rejected " + first + " status/n.json"}},
		{"a process reads its own mark of a due notice after another process has written the status", func(t *testing.T, n *notified) {
			n.dying(func() { n.assess(t, throttled, first) })
			n.Writer = "another process"
			n.assess(t, noBalance, first)
			n.Writer = ""
			n.assess(t, noBalance, first)
		}, []string{"held " + take + " status/n.json"}},
		{"another process is still sending the notice", func(t *testing.T, n *notified) {
			n.dying(func() { n.assess(t, throttled, first) })
			n.Writer = "another process"
			n.sinceNoon += 9 * time.Second
			n.assess(t, throttled, first)
			n.assess(t, noBalance, first)
		}, nil},
		{"another process writes the status while the notice is sent", func(t *testing.T, n *notified) {
			send := n.Notify
			n.Notify = func(ctx context.Context, notice ledger.Notice) bool {
				n.Notify, n.Writer = send, "another process"
				n.assess(t, noBalance, first)
				n.Writer = ""
				return send(ctx, notice)
			}
			n.assess(t, throttled, first)
			if posted, err := n.Posted(t.Context(), ledger.StatusKey("n")); err != nil || posted.Code != noBalance.Code {
				t.Errorf("the status has the code %s (%v), want %s, which the other process wrote", posted.Code, err, noBalance.Code)
			}
			n.sinceNoon += 10 * time.Second
			n.assess(t, noBalance, first)
		}, []string{"held " + take + " status/n.json"}},
		{"the notice cannot be sent at first", func(t *testing.T, n *notified) {
			n.fail = true
			n.assess(t, throttled, first)
			n.fail = false
			n.assess(t, noBalance, first)
			n.sinceNoon += 10 * time.Second
			n.assess(t, noBalance, first)
			n.assess(t, noBalance, first)
		}, []string{"held " + take + " status/n.json"}},
		{"poll, which sends no notices, writes the status before the notice is sent", func(t *testing.T, n *notified) {
			send := n.Notify
			n.dying(func() { n.assess(t, throttled, first) })
			n.Notify = nil
			n.assess(t, noBalance, first)
			n.Notify = send
			n.sinceNoon += 10 * time.Second
			n.assess(t, noBalance, first)
		}, []string{"held " + take + " status/n.json"}},
		{"the reason for a notice is gone before the notice is sent", func(t *testing.T, n *notified) {
			n.dying(func() { n.assess(t, rejected, first) })
			n.assess(t, waiting, first)
			n.assess(t, waiting, first)
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNotified(&s3test.Bucket{})
			tt.do(t, n)
			n.want(t, tt.want...)
		})
	}
}

func TestNoticesOfTakes(t *testing.T) {
	const take, newer = "20261121T120000Z-0123456789ab", "20261121T120001Z-0123456789ab"
	read := func(t *testing.T, n *notified) ledger.Record {
		t.Helper()
		rec, err := n.Get(t.Context(), "n", take)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	setState := func(t *testing.T, n *notified, state ledger.State) ledger.Record {
		t.Helper()
		rec, err := n.Update(t.Context(), read(t, n), func(r *ledger.Record) { r.State, r.Code = state, "" })
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	post := func(t *testing.T, n *notified, rec ledger.Record) {
		t.Helper()
		if err := n.PostTake(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	const key = " status/n.json"
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, n *notified)
		want []string
	}{
		{"a take that is posted again", func(t *testing.T, n *notified) {
			post(t, n, setState(t, n, ledger.Succeeded))
			post(t, n, read(t, n))
		}, []string{"succeeded " + take + key}},
		{"a take that has not ended", func(t *testing.T, n *notified) { post(t, n, setState(t, n, ledger.InQueue)) }, nil},
		{"a failed take that a redrive archives", func(t *testing.T, n *notified) {
			post(t, n, setState(t, n, ledger.Failed))
			post(t, n, setState(t, n, ledger.Succeeded))
		}, []string{"failed " + take + key, "succeeded " + take + key}},
		{"a failed take that a redrive archives before the notice about the failure is sent", func(t *testing.T, n *notified) {
			failed := setState(t, n, ledger.Failed)
			setState(t, n, ledger.Succeeded)
			post(t, n, failed)
			post(t, n, read(t, n))
		}, []string{"failed " + take + key, "succeeded " + take + key}},
		{"a take that is older than the take in the status", func(t *testing.T, n *notified) {
			post(t, n, claim(t, n.Store, "n", newer))
			post(t, n, setState(t, n, ledger.Succeeded))
			post(t, n, read(t, n))
		}, []string{"succeeded " + take + key}},
		{"the function dies before the notice", func(t *testing.T, n *notified) {
			rec := setState(t, n, ledger.Succeeded)
			n.dying(func() { post(t, n, rec) })
			post(t, n, read(t, n))
			post(t, n, read(t, n))
		}, []string{"succeeded " + take + key}},
		{"the function dies before it writes the status", func(t *testing.T, n *notified) {
			setState(t, n, ledger.Cancelled)
			post(t, n, read(t, n))
		}, []string{"cancelled " + take + key}},
		{"the status cannot be written at first", func(t *testing.T, n *notified) {
			rec, storage := setState(t, n, ledger.Succeeded), n.Bucket.S3
			n.Bucket.S3 = refusing{storage}
			if err := n.PostTake(t.Context(), rec); err == nil {
				t.Error("PostTake returned no error, want an error")
			}
			n.Bucket.S3 = storage
			post(t, n, read(t, n))
		}, []string{"succeeded " + take + key}},
		{"the notice cannot be sent at first", func(t *testing.T, n *notified) {
			n.fail = true
			post(t, n, setState(t, n, ledger.Succeeded))
			n.fail = false
			n.SendNotice(t.Context(), read(t, n))
			n.SendNotice(t.Context(), read(t, n))
		}, []string{"succeeded " + take + key}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNotified(&s3test.Bucket{})
			rec := claim(t, n.Store, "n", take)
			if _, err := n.Update(t.Context(), rec, to(ledger.Submitted)); err != nil {
				t.Fatal(err)
			}
			tt.do(t, n)
			n.want(t, tt.want...)
		})
	}
}

// When notices are switched on, none is sent about earlier drops and takes.
func TestNoMarkWithoutNotices(t *testing.T) {
	n := newNotified(&s3test.Bucket{})
	send, rejected := n.Notify, ledger.Status{Name: "n", State: ledger.Rejected, Code: problem.TooLong}
	n.Notify = nil
	n.assess(t, rejected, "20261121T115959Z")
	rec := claim(t, n.Store, "n", "20261121T120000Z-0123456789ab")
	for _, state := range []ledger.State{ledger.Submitted, ledger.Succeeded} {
		var err error
		if rec, err = n.Update(t.Context(), rec, to(state)); err != nil {
			t.Fatal(err)
		}
	}
	n.Notify, n.Writer = send, "another process"
	n.sinceNoon += 10 * time.Second
	n.assess(t, rejected, "20261121T115959Z")
	if err := n.PostTake(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	n.want(t)
}

// If the mark of a due notice cannot be removed, Post returns no error. The notice may be sent again.
func TestMarkThatCannotBeRemoved(t *testing.T) {
	storage := &s3test.Bucket{}
	n := newNotified(storage)
	send := n.Notify
	n.Notify = func(ctx context.Context, notice ledger.Notice) bool {
		n.Bucket.S3 = refusing{storage}
		return send(ctx, notice)
	}
	n.assess(t, ledger.Status{Name: "n", State: ledger.Rejected, Code: problem.TooLong}, "20261121T120000Z")
	n.want(t, "rejected 20261121T120000Z status/n.json")
}

type refusing struct{ bucket.S3 }

func (refusing) PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return nil, errors.New("S3 is not there")
}
