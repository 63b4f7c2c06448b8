package ui

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// A page gets each change of the bucket once.
func TestFeed(t *testing.T) {
	storage := &s3test.Bucket{}
	b := &bucket.Bucket{S3: storage, Name: "b"}
	f := newFeed(&client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b, Now: time.Now}})
	set := func(key string, value any) { storage.Set(key, bucket.JSON(value, "")) }
	version := 0
	// want refreshes the feed, and compares what a page gets: each row as its key (see rowKey), its
	// state and its review, and the keys that are gone.
	want := func(what string, rows ...string) {
		t.Helper()
		changed, err := f.refresh(t.Context())
		if err != nil || changed != (len(rows) > 0) {
			t.Errorf("%s: changed %t and error %v, want changed %t and no error", what, changed, err, len(rows) > 0)
		}
		c, next := f.since(version)
		version = c.version
		var got []string
		for _, r := range c.Rows {
			got = append(got, r.Key+" "+string(r.State)+" "+string(r.Review))
		}
		for _, key := range c.Gone {
			got = append(got, key+" is gone")
		}
		slices.Sort(got)
		if diff := cmp.Diff(rows, got); diff != "" || c.Trouble != "" || next == nil {
			t.Errorf("%s: trouble %q and next %v, want no trouble and a channel; rows (-want +got):\n%s", what, c.Trouble, next, diff)
		}
	}

	const take = "20261121T120000Z-0123456789ab"
	set(ledger.StatusKey("ads/talk"), ledger.Status{Name: "ads/talk", State: ledger.Succeeded, Take: take})
	set(ledger.StatusKey("other"), ledger.Status{Name: "other", State: ledger.Waiting})
	set("answers/notes.txt.json", ledger.Status{Name: "notes.txt", State: ledger.Rejected})
	want("the first listing", "/notes.txt rejected ", "ads/talk succeeded ", "other waiting ")
	want("no change")
	set(client.ReviewKey("ads/talk", take), client.Review{Name: "ads/talk", Take: take, Decision: client.Approved})
	want("a review", "ads/talk succeeded approved")
	set(ledger.StatusKey("other"), ledger.Status{Name: "other", State: ledger.InQueue, Take: take})
	want("another status", "other in_queue ")
	storage.Remove(client.ReviewKey("ads/talk", take))
	want("a deleted review", "ads/talk succeeded ")
	storage.Remove(ledger.StatusKey("other"))
	storage.Remove("answers/notes.txt.json")
	want("deleted statuses", "/notes.txt is gone", "other is gone")
	set(client.ReviewKey("ads/talk", take), client.Review{Name: "ads/talk", Take: take, Decision: client.Rejected})
	set(ledger.StatusKey("ads/talk"), ledger.Status{Name: "ads/talk", State: ledger.Succeeded, Take: take, Reason: "again"})
	want("a review and a status at once", "ads/talk succeeded rejected")
}

// If S3 refuses to return one of the statuses, the page still shows the others. Until S3
// returns that status, the page says why it is missing.
func TestFeedInTrouble(t *testing.T) {
	storage := &s3test.Bucket{}
	b := &bucket.Bucket{S3: storage, Name: "b"}
	f := newFeed(&client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b, Now: time.Now}})
	for _, name := range []string{"a", "archived", "z"} {
		storage.Set(ledger.StatusKey(name), []byte(`{"state": "succeeded"}`))
	}
	storage.Before = func(op, key string) error {
		if op == "GetObject" && key == ledger.StatusKey("archived") {
			return s3test.Error(403, "InvalidObjectState")
		}
		return nil
	}
	for _, changed := range []bool{true, false} {
		if got, err := f.refresh(t.Context()); got != changed || err == nil {
			t.Errorf("changed %t, %v, want %t and an error", got, err, changed)
		} else {
			f.setTrouble(err)
		}
	}
	if c, _ := f.since(0); len(c.Rows) != 2 || c.Reading || !strings.Contains(c.Trouble, "InvalidObjectState") {
		t.Errorf("a page gets %+v, want two rows and InvalidObjectState in the trouble", c)
	}
	storage.Before = nil
	_, err := f.refresh(t.Context())
	f.setTrouble(err)
	if c, _ := f.since(0); len(c.Rows) != 3 || c.Trouble != "" {
		t.Errorf("after the trouble, a page gets %+v, want three rows and no trouble", c)
	}
}

// While S3 does not respond, a page says so. After a response, the page recovers.
func TestFeedWithoutAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &s3test.Bucket{}
		responds := make(chan struct{})
		storage.Before = func(string, string) error { <-responds; return nil }
		b := &bucket.Bucket{S3: storage, Name: "b"}
		f := newFeed(&client.Client{Bucket: b, Ledger: &ledger.Store{Bucket: b, Now: time.Now}})
		f.open()
		go f.run(t.Context())
		for _, after := range []time.Duration{time.Second, 3 * silence} {
			want := after > silence
			time.Sleep(after)
			if c, _ := f.since(0); strings.Contains(c.Trouble, "S3 has not responded") != want {
				t.Errorf("after %v, a page gets the trouble %q; want \"S3 has not responded\" in it: %t", after, c.Trouble, want)
			}
		}
		close(responds)
		synctest.Wait()
		if c, _ := f.since(0); c.Trouble != "" {
			t.Errorf("after S3 has responded, a page gets the trouble %q, want none", c.Trouble)
		}
	})
}
