package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// row is what the list shows about a name, or about a file that cannot belong to a job.
type row struct {
	Key           string          `json:"key"`            // the name; for a file, a path with a leading slash (see rowKey)
	File          bool            `json:"file,omitempty"` // the row is about a file, not about a name
	Review        client.Decision `json:"review,omitempty"`
	Started       time.Time       `json:"started,omitzero"` // the timestamp at the beginning of Take
	ledger.Status                 // without its texts and lists

	gone    bool // the status or the answer file is no longer in the bucket
	version int  // of the feed after the row's last change
}

const (
	// maxRows is how many rows one event has at most.
	maxRows = 500

	// maxStreams is how many streams of events may be open at the same time.
	maxStreams = 12
)

// feed follows the statuses, the answer files and the reviews of a bucket while a page
// is open. It lists the keys, and reads only objects whose ETags have changed.
//
// Each change of a row gets the next version. A stream sends the rows that have a later version
// than its page.
type feed struct {
	client *client.Client
	wake   chan struct{} // makes run list the bucket at once

	mu      sync.Mutex
	etags   map[string]string          // of the objects that were read, by their keys
	reviews map[string]client.Decision // by the keys of the reviews
	rows    map[string]row
	version int
	streams int           // how many are open
	reading bool          // no refresh has read all objects yet; objects that S3 refuses count as read
	trouble error         // of the last refresh
	changed chan struct{} // closed, and replaced, by announce
}

func newFeed(c *client.Client) *feed {
	return &feed{
		client: c, wake: make(chan struct{}, 1), etags: map[string]string{}, reviews: map[string]client.Decision{},
		rows: map[string]row{}, reading: true, changed: make(chan struct{}),
	}
}

// run follows the bucket until ctx ends.
func (f *feed) run(ctx context.Context) {
	pause := client.FirstPause
	for {
		if f.isOpen() {
			changed, err := f.refreshWatched(ctx)
			if ctx.Err() != nil {
				return
			}
			f.setTrouble(err)
			pause = min(pause*3/2, client.LongestPause)
			if changed {
				pause = client.FirstPause
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
			pause = client.FirstPause
		case <-time.After(pause):
		}
	}
}

// listNow makes the feed list the bucket at once.
func (f *feed) listNow() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// isOpen reports whether a page is open.
func (f *feed) isOpen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.streams > 0
}

// setTrouble sets the error of the last refresh; nil means that the refresh succeeded.
func (f *feed) setTrouble(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
	f.announce()
}

// announce wakes the streams. The caller holds the lock.
func (f *feed) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// silence is the least time that S3 must be silent before the pages report it.
const silence = 10 * time.Second

// refreshWatched calls refresh. Meanwhile, the pages report it if S3 does not respond: the SDK
// gives up only after minutes.
func (f *feed) refreshWatched(ctx context.Context) (changed bool, err error) {
	sent := f.client.Bucket.Requests()
	done := make(chan struct{})
	go func() {
		defer close(done)
		changed, err = f.refresh(ctx)
	}()
	for {
		select {
		case <-done:
			return changed, err
		case <-time.After(silence):
			before := sent
			if sent = f.client.Bucket.Requests(); sent == before {
				f.setTrouble(fmt.Errorf("S3 has not responded for %.0f seconds, so the list may be out of date. Check your network", silence.Seconds()))
			}
		}
	}
}

// refresh lists the bucket once, reads what has changed, and reports whether a row has
// changed. If S3 refuses some objects, refresh reads the others, and returns the error of one
// refused object.
func (f *feed) refresh(ctx context.Context) (changed bool, err error) {
	var listed []bucket.File
	for _, prefix := range []string{client.ReviewPrefix, ledger.StatusPrefix, ledger.AnswerPrefix} {
		files, _, err := f.client.Bucket.List(ctx, prefix, math.MaxInt)
		if err != nil {
			return false, f.client.Explain("list the jobs", prefix, err)
		}
		listed = append(listed, files...)
	}
	files, before := f.compare(listed)

	refused, err := client.InParallel(ctx, client.ReadsAtOnce, files, func(ctx context.Context, file bucket.File) ([]error, error) {
		err := f.client.Explain("read "+file.Key, file.Key, f.read(ctx, file))
		_, denied := errors.AsType[*client.DeniedError](err)
		_, failed := errors.AsType[*client.ServiceError](err)
		if denied || failed {
			return []error{err}, nil
		}
		return nil, err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = f.reading && err != nil
	if len(refused) > 0 {
		err = refused[0]
	}
	return f.version != before, err
}

// compare returns the files of a listing that have changed, in the order in which to read
// them. It also forgets the files that are not in the listing. oldVersion is the feed's version
// when compare was called.
func (f *feed) compare(listed []bucket.File) (changed []bucket.File, oldVersion int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldVersion = f.version
	here := map[string]bool{}
	for _, file := range listed {
		here[file.Key] = true
		if f.etags[file.Key] != file.ETag && strings.HasSuffix(file.Key, ".json") {
			changed = append(changed, file)
		}
	}
	for key := range f.etags {
		if here[key] {
			continue
		}
		delete(f.etags, key)
		if strings.HasPrefix(key, client.ReviewPrefix) {
			f.setReview(key, "")
		} else {
			f.setRow(row{Key: rowKey(key), gone: true})
		}
	}
	// The reviews come first, because the rows show them. The newest rows come next.
	slices.SortFunc(changed, func(a, b bucket.File) int {
		rank := func(f bucket.File) int {
			if strings.HasPrefix(f.Key, client.ReviewPrefix) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.LastModified.Compare(a.LastModified))
	})
	return changed, oldVersion
}

// read reads an object and sets its row, or the review of a row. If the object was deleted
// since it was listed, the next refresh removes the row or the review.
func (f *feed) read(ctx context.Context, file bucket.File) error {
	if strings.HasPrefix(file.Key, client.ReviewPrefix) {
		name, take := client.ReviewedTake(file.Key)
		review, _, err := f.client.ReadReview(ctx, name, take)
		if err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.etags[file.Key] = file.ETag
		f.setReview(file.Key, review.Decision)
		return nil
	}
	posted, err := f.client.Ledger.Posted(ctx, file.Key)
	if err != nil {
		return err
	}
	key := rowKey(file.Key)
	name, isFile := strings.CutPrefix(key, "/")
	r := row{Key: key, File: isFile, Status: posted.Status}
	r.Reason, r.Remedy, r.Warnings, r.Links, r.Outputs, r.Jobs = "", "", nil, nil, nil, nil
	// The key of an answer file may be shortened. The whole name is in the file.
	if !isFile || r.Name == "" {
		r.Name = name
	}
	if r.UpdatedAt.IsZero() {
		r.UpdatedAt = file.LastModified
	}
	if started, err := time.Parse(ledger.StampLayout, ledger.Order(r.Take).Stamp()); err == nil {
		r.Started = started
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.etags[file.Key] = file.ETag
	f.setRow(r)
	return nil
}

// setReview sets the decision of a review; "" means that there is no review. The caller holds
// the lock.
func (f *feed) setReview(key string, decision client.Decision) {
	f.reviews[key] = decision
	name, take := client.ReviewedTake(key)
	if r, ok := f.rows[name]; ok && r.Take == take {
		f.setRow(r)
	}
}

// setRow sets a row and makes every stream send it. The caller holds the lock.
func (f *feed) setRow(r row) {
	f.version++
	r.version = f.version
	f.rows[r.Key] = r
	f.announce()
}

// review returns the decision about a take, or "" if none was read.
func (f *feed) review(name, take string) client.Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reviews[client.ReviewKey(name, take)]
}

// rowKey returns the key of a row from the key of its status or answer file.
func rowKey(key string) string {
	if file, ok := strings.CutPrefix(key, ledger.AnswerPrefix); ok {
		return "/" + strings.TrimSuffix(file, ".json")
	}
	return strings.TrimSuffix(strings.TrimPrefix(key, ledger.StatusPrefix), ".json")
}

// change is the data of an event: the rows that are new or have changed, and the keys of
// the rows that are gone.
type change struct {
	Reset   bool     `json:"reset,omitempty"` // the stream begins; at its first event without Reading, the page drops the rows that the stream has not sent
	Rows    []row    `json:"rows,omitempty"`
	Gone    []string `json:"gone,omitempty"`
	Reading bool     `json:"reading,omitempty"` // more rows follow
	Trouble string   `json:"trouble,omitempty"` // the error of the last refresh
	Proof   string   `json:"proof"`             // shell.proof, because EventSource hides the headers of the response

	version int // that the page has after this event
}

// since returns the rows that have changed since a version, in the order of the changes. It
// returns at most maxRows of them. If there are more, next is nil. Otherwise, announce
// closes next.
func (f *feed) since(version int) (c change, next <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []row
	for _, r := range f.rows {
		if r.version > version {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.version, b.version) })
	c, next = change{Reading: f.reading, version: version}, f.changed
	if len(rows) > maxRows {
		rows, c.Reading, next = rows[:maxRows], true, nil
	}
	for _, r := range rows {
		c.version = r.version
		if r.gone {
			c.Gone = append(c.Gone, r.Key)
			continue
		}
		r.Review = f.reviews[client.ReviewKey(r.Name, r.Take)]
		c.Rows = append(c.Rows, r)
	}
	if f.trouble != nil {
		c.Trouble = f.trouble.Error()
	}
	return c, next
}

// open counts a new stream. It returns false if too many streams are open already.
func (f *feed) open() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams >= maxStreams {
		return false
	}
	f.streams++
	f.listNow()
	return true
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams--
}

// ServeHTTP sends the rows, and then each change, as server-sent events.
func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.open() {
		http.Error(w, fmt.Sprintf("%d pages are open; close some", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer f.close()
	const writeWithin = 30 * time.Second
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	var sent change
	for first := true; ; first = false {
		c, next := f.since(sent.version)
		c.Reset, c.Proof = first, w.Header().Get(proofHeader)
		if first || c.version != sent.version || c.Reading != sent.Reading || c.Trouble != sent.Trouble {
			text, err := json.Marshal(c) // JSON has no line breaks
			if err == nil {
				err = control.SetWriteDeadline(time.Now().Add(writeWithin))
			}
			if err == nil {
				_, err = fmt.Fprintf(w, "event: jobs\ndata: %s\n\n", text)
			}
			if err != nil || control.Flush() != nil {
				return
			}
		}
		if sent = c; next == nil {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-next:
		}
	}
}
