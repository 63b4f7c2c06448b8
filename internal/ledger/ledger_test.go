package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

const machine = "arn:aws:states:eu-central-1:123456789012:stateMachine:lipdrop"

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newStore(storage *s3test.Bucket) *ledger.Store {
	return &ledger.Store{Bucket: &bucket.Bucket{S3: storage, Name: "b"}, MachineARN: machine, Now: func() time.Time { return noon }}
}

func claim(t *testing.T, s *ledger.Store, name, take string) ledger.Record {
	t.Helper()
	rec, ok, err := s.Claim(t.Context(), ledger.Record{Name: name, Take: take, State: ledger.Submitting, Model: "m/m"})
	if err != nil || !ok {
		t.Fatalf("claim: %v, error %v; want true and no error", ok, err)
	}
	return rec
}

func to(state ledger.State) func(*ledger.Record) {
	return func(r *ledger.Record) {
		r.State = state
	}
}

// If many invocations claim a new or released take at once, exactly one wins.
func TestOneOfAHundredClaimsWins(t *testing.T) {
	for _, released := range []bool{false, true} {
		s := newStore(&s3test.Bucket{})
		if released {
			if err := s.Release(t.Context(), claim(t, s, "n", "t")); err != nil {
				t.Fatal(err)
			}
		}
		var wins atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, ok, err := s.Claim(t.Context(), ledger.Record{Name: "n", Take: "t", State: ledger.Submitting})
				if err != nil {
					t.Error(err)
				}
				if ok {
					wins.Add(1)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Errorf("released before: %t; %d claims won, want 1", released, wins.Load())
		}
	}
}

func TestClaimWhoseResponseIsLost(t *testing.T) {
	b := &s3test.Bucket{}
	retrying := newStore(b)
	retrying.Bucket.S3 = s3test.Retrying{Bucket: b}
	b.LoseNextPut()
	rec, ok, err := retrying.Claim(t.Context(), ledger.Record{Name: "n", Take: "t", State: ledger.Submitting})
	if err != nil || !ok {
		t.Fatalf("claim whose first response was lost: %v, error %v; want true and no error", ok, err)
	}
	b.LoseNextPut()
	rec, err = retrying.Update(t.Context(), rec, func(r *ledger.Record) {
		if r.RequestID != "" {
			t.Error("Update called the function twice, want once")
		}
		r.State, r.RequestID = ledger.Submitted, "r1"
	})
	if err != nil || rec.RequestID != "r1" {
		t.Fatalf("update whose first response was lost: %+v, error %v; want the request id r1 and no error", rec, err)
	}
	if _, err := retrying.Update(t.Context(), rec, to(ledger.InQueue)); err != nil {
		t.Errorf("the next update: %v, want no error", err)
	}
}

func TestResponsesOfS3ToAWrite(t *testing.T) {
	tests := []struct {
		name    string
		status  int // of the response to the first write of Update
		wantErr bool
	}{
		{"409 is a lost race", http.StatusConflict, false},
		{"412 is a lost race", http.StatusPreconditionFailed, false},
		{"503 is an error, and nothing is written", http.StatusServiceUnavailable, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &s3test.Bucket{}
			s := newStore(b)
			rec := claim(t, s, "n", "t")
			failPut(tt.status)(b)
			_, err := s.Update(t.Context(), rec, to(ledger.Submitted))
			if (err != nil) != tt.wantErr {
				t.Errorf("update: %v, want an error: %v", err, tt.wantErr)
			}
			got, err := s.Get(t.Context(), "n", "t")
			want := ledger.Submitted
			if tt.wantErr {
				want = ledger.Submitting
			}
			if err != nil || got.State != want {
				t.Errorf("record is %s, %v; want %s", got.State, err, want)
			}
		})
	}
}

func TestUpdateDecidesAgainAfterALostRace(t *testing.T) {
	b := &s3test.Bucket{}
	s := newStore(b)
	rec := claim(t, s, "n", "t")
	if _, err := s.Update(t.Context(), rec, to(ledger.Submitted)); err != nil {
		t.Fatal(err)
	}
	// The update above changed the ETag, so the one in rec is old.
	var seen []ledger.State
	_, err := s.Update(t.Context(), rec, func(r *ledger.Record) {
		seen = append(seen, r.State)
		if r.State == ledger.Submitted {
			r.State = ledger.InQueue
		} else {
			r.State = ledger.Unknown
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]ledger.State{ledger.Submitting, ledger.Submitted}, seen); diff != "" {
		t.Errorf("states that Update passed to the function (-want +got):\n%s", diff)
	}
	if got, _ := s.Get(t.Context(), "n", "t"); got.State != ledger.InQueue {
		t.Errorf("record is %s, want %s", got.State, ledger.InQueue)
	}
}

func TestReleasedTakeCanBeClaimedAgain(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "n", "t")
	if err := s.Release(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "n", "t"); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("the record of a released claim: %v, want %v", err, bucket.ErrNotFound)
	}
	if takes, err := s.Takes(t.Context(), "n"); len(takes) > 0 || err != nil {
		t.Errorf("takes after the release: %+v, %v; want none", takes, err)
	}
	again := claim(t, s, "n", "t")
	if takes, err := s.Takes(t.Context(), "n"); len(takes) != 1 || err != nil || takes[0].Revision != again.Revision {
		t.Errorf("takes after the second claim: %+v, %v; want only the record of this claim", takes, err)
	}
}

// If the response to the write of a release is lost, the S3 client repeats the write. By then
// another invocation may have claimed the take.
func TestReleaseSparesALaterClaim(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "n", "t")
	if err := s.Release(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	later := claim(t, s, "n", "t")
	if err := s.Release(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "n", "t"); err != nil || got.Revision != later.Revision {
		t.Errorf("the later claim is %+v, %v; want %+v", got, err, later)
	}
}

// A person deletes the record of a released claim while the take is claimed again.
func TestClaimOverARecordThatIsDeletedMeanwhile(t *testing.T) {
	b := &s3test.Bucket{}
	s := newStore(b)
	if err := s.Release(t.Context(), claim(t, s, "n", "t")); err != nil {
		t.Fatal(err)
	}
	puts := 0
	b.Before = func(op, key string) error {
		if op == "PutObject" {
			if puts++; puts == 2 {
				b.Remove(key)
			}
		}
		return nil
	}
	claim(t, s, "n", "t")
	if puts != 3 {
		t.Errorf("%d writes, want 3: as a new record, over the released record, and again as a new record", puts)
	}
}

func TestResponsesOfS3ToARelease(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*s3test.Bucket)
		wantErr bool
	}{
		{"404: the record was deleted by hand", func(b *s3test.Bucket) { b.Remove("jobs/n/t.json") }, false},
		{"409 once", failPut(http.StatusConflict), false},
		{"412 once", failPut(http.StatusPreconditionFailed), false},
		{"503 once", failPut(http.StatusServiceUnavailable), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &s3test.Bucket{}
			s := newStore(b)
			rec := claim(t, s, "n", "t")
			tt.prepare(b)
			if err := s.Release(t.Context(), rec); (err != nil) != tt.wantErr {
				t.Errorf("release: %v, want an error: %v", err, tt.wantErr)
			}
			if _, err := s.Get(t.Context(), "n", "t"); (err == nil) != tt.wantErr {
				t.Errorf("read the record after the release: %v, want success: %v", err, tt.wantErr)
			}
		})
	}
}

// failPut makes the next write fail without effect.
func failPut(status int) func(*s3test.Bucket) {
	return func(b *s3test.Bucket) {
		b.Before = func(op, _ string) error {
			if op != "PutObject" {
				return nil
			}
			b.Before = nil
			return s3test.Error(status, "AnyCode")
		}
	}
}

func TestIllegalTransition(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "n", "t")
	for _, state := range []ledger.State{ledger.Submitted, ledger.Succeeded} {
		var err error
		if rec, err = s.Update(t.Context(), rec, to(state)); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []ledger.State{ledger.Cancelled, ledger.Failed, ledger.Unknown, ledger.InQueue, ledger.Submitting} {
		_, err := s.Update(t.Context(), rec, to(state))
		if want := "take t of n is succeeded and cannot become " + string(state); err == nil || err.Error() != want {
			t.Errorf("update from succeeded to %s: error %v, want %s", state, err, want)
		}
	}
}

// Whatever state changes are tried: a take that is Succeeded or Cancelled stays so, and a take
// that was Submitted never becomes Unknown.
func TestTransitionsByRapid(t *testing.T) {
	states := []ledger.State{
		ledger.Submitting, ledger.Submitted, ledger.InQueue, ledger.InProgress, ledger.Archiving,
		ledger.Succeeded, ledger.Failed, ledger.Cancelled, ledger.Unknown,
	}
	rapidtest.Check(t, func(t *rapid.T) {
		at := ledger.Submitting
		var path []ledger.State
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			next := rapid.SampledFrom(states).Draw(t, "next")
			if at.CanBecome(next) {
				if (at == ledger.Succeeded || at == ledger.Cancelled) && next != at {
					t.Fatalf("%s became %s, want it to stay %s", at, next, at)
				}
				if slices.Contains(path, ledger.Submitted) && next == ledger.Unknown {
					t.Fatalf("a submitted take became unknown after the states %v, want it never to become unknown", path)
				}
				at = next
				path = append(path, at)
			}
		}
	})
}

func TestNamesAndTakes(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	for _, id := range [][2]string{{"a/talk", "t1"}, {"a/talk", "t2"}, {"a/talk.de", "t3"}, {"a/talk.fr", "t4"}, {"a/talking", "t5"}, {"a/talk/ü +%", "t6"}} {
		claim(t, s, id[0], id[1])
	}
	takes, err := s.Takes(t.Context(), "a/talk")
	if err != nil || len(takes) != 2 || takes[0].Take != "t1" || takes[1].Take != "t2" {
		t.Errorf("takes: %+v, %v; want t1 and t2", takes, err)
	}
	for prefix, want := range map[string][]string{"a/talk.": {"a/talk.de", "a/talk.fr"}, "a/talk/": {"a/talk/ü +%"}} {
		names, err := s.Names(t.Context(), prefix)
		if diff := cmp.Diff(want, names); diff != "" || err != nil {
			t.Errorf("names that begin with %s: error %v (-want +got):\n%s", prefix, err, diff)
		}
	}
}

func TestMoreNamesThanAPage(t *testing.T) {
	b := &s3test.Bucket{}
	s := newStore(b)
	const many = bucket.PageSize + 100
	for i := range many {
		b.Set(ledger.RecordKey(fmt.Sprintf("talk.%04d", i), "t"), nil)
	}
	if names, err := s.Names(t.Context(), "talk."); len(names) != many || err != nil {
		t.Errorf("%d names, %v; want %d", len(names), err, many)
	}
	if takes, err := s.Written(t.Context(), "", time.Time{}); len(takes) != many || err != nil {
		t.Errorf("%d takes, %v; want %d", len(takes), err, many)
	}
	b.Before = func(string, string) error { return s3test.Error(http.StatusServiceUnavailable, "SlowDown") }
	if takes, err := s.Written(t.Context(), "", time.Time{}); err == nil {
		t.Errorf("the listing fails: %d takes and no error, want an error", len(takes))
	}
}

// The names after take include take-2, although the key take-2.json comes before take.json.
func TestNamesBelow(t *testing.T) {
	storage := &s3test.Bucket{}
	s := newStore(storage)
	for _, name := range []string{"cafe/a", "cafe/take", "cafe/take (2)", "cafe/take-2", "cafe/taken", "cafe/z/deeper"} {
		storage.Set(ledger.StatusKey(name), nil)
	}
	names, err := s.NamesBelow(t.Context(), "cafe", "cafe/take", 10)
	if diff := cmp.Diff([]string{"cafe/take (2)", "cafe/take-2", "cafe/taken"}, names); diff != "" || err != nil {
		t.Errorf("error %v; names (-want +got):\n%s", err, diff)
	}
}

func TestStatusOfATake(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "ads/it's", "20261121T120000Z-0123456789ab")
	rec, err := s.Update(t.Context(), rec, func(r *ledger.Record) {
		r.State, r.RequestID, r.Warnings = ledger.Submitted, "r1", []string{"w1"}
		r.QueuePosition = new(int) // only a status in state in_queue shows a position
	})
	if err != nil {
		t.Fatal(err)
	}
	rec, err = s.Update(t.Context(), rec, func(r *ledger.Record) {
		r.State, r.Code, r.Reason = ledger.Failed, problem.RanTooLong, "it ran for 25 h"
		r.Outputs = []ledger.Output{{Key: "outbox/x.mp4"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PostTake(t.Context(), rec, "w2"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Posted(t.Context(), ledger.StatusKey(rec.Name))
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Posted{Order: ledger.OrderOf(rec.Take, rec.Times.Claimed), Status: ledger.Status{
		Name: "ads/it's", State: ledger.Failed, Code: "ran_too_long", Reason: "it ran for 25 h",
		Remedy:   problem.RanTooLong.Remedy("ads/it's"),
		Warnings: []string{"w1", "w2"}, Take: rec.Take, RequestID: "r1", Model: "m/m", UpdatedAt: noon,
		Outputs: []string{"outbox/x.mp4"},
		Links: &ledger.Links{
			Execution: "https://console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states:eu-central-1:123456789012:execution:lipdrop:ads-it-s-20261121T120000Z-0123456789ab",
			RunComfy:  "https://www.runcomfy.com/models/m/m/api",
			Outputs:   "s3://b/outbox/ads/it's/20261121T120000Z-0123456789ab/",
		},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(ledger.Posted{})); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestVerdictOfATakeIsTheWorst(t *testing.T) {
	states := []ledger.VerdictState{ledger.VerdictOK, ledger.VerdictUnchecked, ledger.VerdictDoubtful} // best first
	for i, better := range states {
		for _, worse := range states[i:] {
			for _, pair := range [][]ledger.VerdictState{{better, worse}, {worse, better}} {
				var rec ledger.Record
				for _, state := range pair {
					rec.Outputs = append(rec.Outputs, ledger.Output{Verdict: &ledger.Verdict{State: state}})
				}
				if got := newStore(&s3test.Bucket{}).TakeStatus(rec).Verdict; got != worse {
					t.Errorf("%s: the verdict is %s, want %s", pair, got, worse)
				}
			}
		}
	}
}

// The link leads to the console of the state machine's partition.
func TestConsoleOfEachPartition(t *testing.T) {
	for arn, page := range map[string]string{
		"arn:aws:states:eu-central-1:1:stateMachine:m":         "https://console.aws.amazon.com/states/home?region=eu-central-1#",
		"arn:aws-cn:states:cn-north-1:1:stateMachine:m":        "https://console.amazonaws.cn/states/home?region=cn-north-1#",
		"arn:aws-us-gov:states:us-gov-west-1:1:stateMachine:m": "https://console.amazonaws-us-gov.com/states/home?region=us-gov-west-1#",
	} {
		s := &ledger.Store{MachineARN: arn}
		got := s.TakeStatus(ledger.Record{Name: "n", Take: "20261121T120000Z-0123456789ab", RequestID: "r1"}).Links.Execution
		if want := page + "/v2/executions/details/" + strings.Replace(arn, ":stateMachine:", ":execution:", 1) + ":n-20261121T120000Z-0123456789ab"; got != want {
			t.Errorf("the link for %s is %s, want %s", arn, got, want)
		}
	}
}

// The status is about the newest take and its latest state, in whatever order the
// writers run.
func TestPostTakeByRapid(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		s := newStore(&s3test.Bucket{})
		path := []ledger.State{ledger.Submitted, ledger.InQueue, ledger.InProgress, ledger.Archiving, ledger.Succeeded}
		var posts []ledger.Record
		for take := range 3 {
			for _, state := range path[:rapid.IntRange(1, len(path)).Draw(rt, "states")] {
				posts = append(posts, ledger.Record{Name: "n", Take: fmt.Sprintf("20261121T12000%dZ-a", take), State: state})
			}
		}
		newest := posts[len(posts)-1]
		for _, rec := range rapid.Permutation(posts).Draw(rt, "order") {
			if err := s.PostTake(t.Context(), rec); err != nil {
				rt.Fatal(err)
			}
		}
		got, err := s.Posted(t.Context(), ledger.StatusKey("n"))
		if err != nil || got.Take != newest.Take || got.State != newest.State {
			rt.Fatalf("status is about %s, %s; want %s, %s (%v)", got.Take, got.State, newest.Take, newest.State, err)
		}
	})
}

func TestPostOverAnotherStatusIsStale(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	key := ledger.StatusKey("n")
	before, err := s.Posted(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	waiting := ledger.Status{Name: "n", State: ledger.Waiting, Code: problem.WaitingForAudio}
	if err := s.Post(t.Context(), key, waiting, "1", before); err != nil {
		t.Fatal(err)
	}
	if err := s.Post(t.Context(), key, waiting, "1", before); !errors.Is(err, ledger.ErrStale) {
		t.Errorf("a second post that expects no status: %v, want %v", err, ledger.ErrStale)
	}
}

func TestPostOfTheSameStatus(t *testing.T) {
	b := &s3test.Bucket{}
	s := newNotified(b)
	st := ledger.Status{Name: "n", State: ledger.Waiting, Code: problem.WaitingForAudio}
	for range 3 {
		s.assess(t, st, "1")
	}
	if puts := b.Calls()["PutObject"]; puts != 1 {
		t.Errorf("three posts for the same drop: %d writes, want 1", puts)
	}
	s.assess(t, st, "2")
	prev, err := s.Posted(t.Context(), ledger.StatusKey("n"))
	if prev.Order != "2" || err != nil {
		t.Errorf("the same status of a newer drop has the order %q, %v; want 2", prev.Order, err)
	}
	s.sinceNoon = time.Hour
	prev.Rewrite = true
	if err := s.Post(t.Context(), ledger.StatusKey("n"), st, "2", prev); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Posted(t.Context(), ledger.StatusKey("n")); !got.UpdatedAt.Equal(s.Now()) || err != nil {
		t.Errorf("the status that must be rewritten is from %v, %v; want %v", got.UpdatedAt, err, s.Now())
	}
}

// The take with the later stamp is newer. Of two takes with the same stamp, the take that was
// claimed later is newer.
func TestStatusIsOfTheNewerTake(t *testing.T) {
	const stamp = "20261121T120000Z"
	at := func(take string, claimed time.Duration) ledger.Record {
		return ledger.Record{Name: "n", Take: take, State: ledger.InQueue, Times: ledger.Times{Claimed: noon.Add(claimed)}}
	}
	tests := []struct {
		name          string
		first, second ledger.Record
		want          string
	}{
		{"a later stamp wins", at(stamp+"-f", time.Minute), at("20261121T120001Z-a", 0), "20261121T120001Z-a"},
		{"a take with an earlier stamp loses, whenever the take was claimed", at(stamp+"-a", 0), at("20261121T115959Z-f", time.Minute), stamp + "-a"},
		{"with the same stamp, the later claim wins", at(stamp+"-f", 0), at(stamp+"-a", time.Millisecond), stamp + "-a"},
		{"with the same stamp, the earlier claim loses", at(stamp+"-a", time.Millisecond), at(stamp+"-f", 0), stamp + "-a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(&s3test.Bucket{})
			for _, rec := range []ledger.Record{tt.first, tt.second} {
				if err := s.PostTake(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.Posted(t.Context(), ledger.StatusKey("n")); err != nil || got.Take != tt.want {
				t.Errorf("the status is about %s, want %s (%v)", got.Take, tt.want, err)
			}
		})
	}
}

// A newer drop has a status and no take. A take of an older drop replaces this status only if
// the take was claimed in a later second than the one in which the status was written.
func TestTakeReplacesTheStatusOfADrop(t *testing.T) {
	for claimed, want := range map[time.Duration]ledger.State{0: ledger.Waiting, 900 * time.Millisecond: ledger.Waiting, time.Second: ledger.InQueue} {
		s := newStore(&s3test.Bucket{})
		st := ledger.Status{Name: "n", State: ledger.Waiting, Code: problem.WaitingForAudio}
		if err := s.Post(t.Context(), ledger.StatusKey("n"), st, "20261121T120001Z", ledger.Posted{}); err != nil {
			t.Fatal(err)
		}
		rec := ledger.Record{Name: "n", Take: "20261121T120000Z-a", State: ledger.InQueue, Times: ledger.Times{Claimed: noon.Add(claimed)}}
		if err := s.PostTake(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Posted(t.Context(), ledger.StatusKey("n")); err != nil || got.State != want {
			t.Errorf("claimed %v after the status was written: the status is %s, %v; want %s", claimed, got.State, err, want)
		}
	}
}

// Two invocations add a warning each. The invocation that added the first warning posts
// last.
func TestStatusHasEveryWarningOfTheRecord(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "n", "20261121T120000Z-a")
	warned := func(text string) ledger.Record {
		var err error
		if rec, err = s.Update(t.Context(), rec, func(r *ledger.Record) { r.Warn(text) }); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	first, second := warned("w1"), warned("w2")
	for _, rec := range []ledger.Record{second, first} {
		if err := s.PostTake(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Posted(t.Context(), ledger.StatusKey("n"))
	if diff := cmp.Diff([]string{"w1", "w2"}, got.Warnings); err != nil || diff != "" {
		t.Errorf("error %v; warnings (-want +got):\n%s", err, diff)
	}
}

func TestNumbersAreKeptAsTheyAre(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := ledger.Record{Name: "n", Take: "t", State: ledger.Submitting, Options: map[string]any{"seed": json.Number("9007199254740993"), "temperature": 0.1}}
	if _, ok, err := s.Claim(t.Context(), rec); !ok || err != nil {
		t.Fatal(ok, err)
	}
	got, err := s.Get(t.Context(), "n", "t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"seed": json.Number("9007199254740993"), "temperature": json.Number("0.1")}, got.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// Every status that is written can be read again.
func TestStatusIsNeverTooLargeToRead(t *testing.T) {
	control := strings.Repeat("\x01", 200<<10) // six times as many bytes of JSON
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("%s%04d", strings.Repeat("\x01", 900), i)
	}
	tests := map[string]ledger.Status{
		"the list of jobs": {Jobs: many},
		"the warnings":     {Warnings: many},
		"the reason":       {Reason: control},
		"the remedy":       {Remedy: control},
		"all of them":      {Jobs: many, Warnings: many, Reason: control, Remedy: control},
	}
	for name, st := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(&s3test.Bucket{})
			st.Name, st.State = "n", ledger.Rejected
			if err := s.Post(t.Context(), ledger.StatusKey("n"), st, "1", ledger.Posted{}); err != nil {
				t.Fatal(err)
			}
			got, err := s.Posted(t.Context(), ledger.StatusKey("n"))
			if err != nil || got.State != ledger.Rejected {
				t.Fatalf("the status that was read again: state %q, error %v; want rejected and no error", got.State, err)
			}
			if st.Jobs != nil && (len(got.Jobs) == 0 || len(got.Jobs) == len(many)) {
				t.Errorf("%d jobs are named, want at least 1 and fewer than %d", len(got.Jobs), len(many))
			}
		})
	}
}

func TestFit(t *testing.T) {
	const most = 128 << 10
	many := slices.Repeat([]string{"ads/talk"}, most)
	long := strings.Repeat("\x01", most) // JSON needs six bytes for each character
	st := ledger.Status{Name: strings.Repeat("n", 900), Reason: long, Remedy: long, Warnings: many, Jobs: many}.Fit(most)
	if n := len(bucket.JSON(st, "  ")); n > most {
		t.Errorf("the status has %d bytes, want at most %d", n, most)
	}
}

// A record that would be too large to be read again is not written.
func TestRecordIsNeverTooLargeToRead(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	rec := claim(t, s, "n", "t")
	_, err := s.Update(t.Context(), rec, func(r *ledger.Record) {
		r.Reason = strings.Repeat("x", ledger.MaxObject)
	})
	if got, readErr := s.Get(t.Context(), "n", "t"); err == nil || readErr != nil || got.Revision != rec.Revision {
		t.Errorf("update: %v, want an error; then the record has the revision %q, %v; want %q", err, got.Revision, readErr, rec.Revision)
	}
}

func TestUnreadableObjects(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		status ledger.State // the state in the body if it is read as a status; "" if it cannot be read
	}{
		"not JSON":                   {"{", ""},
		"too large":                  {`{"name":"` + strings.Repeat("x", ledger.MaxObject) + `"}`, ""},
		"an empty object":            {"{}", ""},
		"null":                       {"null", ""},
		"warnings that are a number": {`{"name":"n","take":"t2","state":"archiving","warnings":1}`, ""},
		"a copy of another take":     {`{"name":"n","take":"t1","state":"archiving"}`, ledger.Archiving},
		"a copy from another name":   {`{"name":"m","take":"t2","state":"archiving"}`, ledger.Archiving},
		"a state that no record has": {`{"name":"n","take":"t2","state":"waiting"}`, ledger.Waiting},
		"a state that is not known":  {`{"name":"n","take":"t2","state":"paused"}`, "paused"},
		"no state":                   {`{"name":"n","take":"t2"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := &s3test.Bucket{}
			s := newStore(b)
			b.Set(ledger.StatusKey("n"), []byte(tt.body))
			prev, err := s.Posted(t.Context(), ledger.StatusKey("n"))
			if err != nil || prev.State != tt.status {
				t.Fatalf("the status: %+v, %v; want the state %q and no error", prev, err, tt.status)
			}
			if err := s.Post(t.Context(), ledger.StatusKey("n"), ledger.Status{Name: "n", State: ledger.Waiting}, "1", prev); err != nil {
				t.Errorf("replace the status: %v, want no error", err)
			}

			claim(t, s, "n", "t1")
			b.Set(ledger.RecordKey("n", "t2"), []byte(tt.body))
			var unreadable *bucket.UnreadableError
			if _, err := s.Get(t.Context(), "n", "t2"); !errors.As(err, &unreadable) || !strings.Contains(err.Error(), "jobs/n/t2.json") {
				t.Errorf("an unreadable record: %v, want an UnreadableError with its key", err)
			}
			takes, err := s.Takes(t.Context(), "n")
			if len(takes) != 1 || !errors.As(err, &unreadable) {
				t.Errorf("takes beside an unreadable record: %+v, %v; want t1 and an UnreadableError", takes, err)
			}
		})
	}
}

// RecentTakes returns the newest takes, although S3 lists many older takes before these. It
// does not list all the names below ads.
func TestRecentTakes(t *testing.T) {
	b := &s3test.Bucket{}
	s := newStore(b)
	for _, take := range []string{"20260101T000000Z-a", "20261120T000000Z-b", "20261121T000000Z-c", "20261121T110000Z-d"} {
		claim(t, s, "ads", take)
	}
	for i := range 3000 {
		b.Set(fmt.Sprintf("jobs/ads/talk %d/20261121T000000Z-x.json", i), []byte("{}"))
	}
	recs, err := s.RecentTakes(t.Context(), "ads", noon.Add(-15*24*time.Hour), 10)
	if len(recs) != 3 || err != nil {
		t.Errorf("%d takes of the last 15 days, %v; want 3", len(recs), err)
	}
	for i := range 1500 {
		b.Set(fmt.Sprintf("jobs/ads/20261120T000000Z-%04d.json", i), []byte("{}"))
	}
	lists := 0
	b.Before = func(op, _ string) error {
		if op == "ListObjectsV2" {
			lists++
		}
		return nil
	}
	recs, err = s.RecentTakes(t.Context(), "ads", noon.Add(-15*24*time.Hour), 2)
	var got []string
	for _, rec := range recs {
		got = append(got, rec.Take)
	}
	if want := []string{"20261121T000000Z-c", "20261121T110000Z-d"}; err != nil || !slices.Equal(got, want) || lists != 2 {
		t.Errorf("%q by %d listings, %v; want %q by two", got, lists, err, want)
	}
}

// Uses returns false for the empty key, although an input that is a URL has an empty key.
func TestUses(t *testing.T) {
	rec := ledger.Record{Inputs: []ledger.Input{{URL: "https://example.com/talk.mp4"}, {Key: "inbox/ads/talk.wav"}}}
	for key, want := range map[string]bool{"inbox/ads/talk.wav": true, "inbox/ads/talk.mp4": false, "": false} {
		if got := rec.Uses(key); got != want {
			t.Errorf("uses %q: %v, want %v", key, got, want)
		}
	}
}

// CostsNothing returns false for a succeeded take, and for a take that RunComfy may have charged.
func TestFreeTakes(t *testing.T) {
	cost := func(usd float64) *float64 { return &usd }
	tests := []struct {
		name string
		rec  ledger.Record
		free bool
	}{
		{"a released claim", ledger.Record{State: ledger.Released}, true},
		{"cancelled", ledger.Record{State: ledger.Cancelled}, true},
		{"cancelled, with a cost", ledger.Record{State: ledger.Cancelled, CostUSD: cost(0.1)}, false},
		{"failed", ledger.Record{State: ledger.Failed}, false},
		{"failed after it was cancelled in the queue", ledger.Record{State: ledger.Failed, NotCharged: true}, true},
		{"failed, with a cost of 0", ledger.Record{State: ledger.Failed, CostUSD: cost(0)}, true},
		{"failed, with a cost", ledger.Record{State: ledger.Failed, CostUSD: cost(0.1)}, false},
		{"unknown", ledger.Record{State: ledger.Unknown}, false},
		{"submitting", ledger.Record{State: ledger.Submitting}, false},
		{"succeeded, with a cost of 0", ledger.Record{State: ledger.Succeeded, CostUSD: cost(0)}, false},
	}
	for _, tt := range tests {
		if got := tt.rec.CostsNothing(); got != tt.free {
			t.Errorf("%s: costs nothing: %t, want %t", tt.name, got, tt.free)
		}
	}
}
