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

	"golang.org/x/sync/errgroup"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// row is what the list shows about a name, or about a file that cannot belong to a job.
type row struct {
	Key      string              `json:"key"` // the name; for a file with an answer file, a slash and its path
	Name     string              `json:"name"`
	File     bool                `json:"file,omitempty"` // an answer file
	State    ledger.State        `json:"state"`
	Code     string              `json:"code,omitempty"`
	Model    string              `json:"model,omitempty"`
	Take     string              `json:"take,omitempty"`
	Seconds  float64             `json:"seconds,omitempty"`
	Verdict  ledger.VerdictState `json:"verdict,omitempty"`
	Estimate *float64            `json:"estimate,omitempty"` // in US dollars
	Cost     *float64            `json:"cost,omitempty"`
	Review   client.Decision     `json:"review,omitempty"`
	Updated  time.Time           `json:"updated"`
	Started  time.Time           `json:"started,omitzero"`
	modified time.Time           // of the object in the bucket
}

// The prefixes that the feed follows.
const (
	statusPrefix = "status/"
	answerPrefix = "answers/"
	reviewPrefix = "review/"
)

const (
	firstPause   = time.Second
	longestPause = 15 * time.Second
	readsAtOnce  = 32

	// chunk is how many objects are read before the next, older ones, and how many rows
	// one event has at most.
	chunk = 500
)

// feed follows the statuses, the answer files and the reviews of a bucket while a page
// is open. It lists the keys, and reads only objects with another ETag.
type feed struct {
	client *client.Client

	mu      sync.Mutex
	rows    map[string]row
	etags   map[string]string          // by key in the bucket
	reviews map[string]client.Decision // by name and take, as in the key
	readers map[*reader]bool
	reading bool  // the first listing has not been read completely
	trouble error // of the last listing
	wake    chan struct{}
}

// reader is one stream of events. It holds the keys of the rows that it has not sent,
// so a slow page needs no more memory than a fast one.
type reader struct {
	reset bool
	dirty map[string]bool
	wake  chan struct{}

	trouble string // that was sent last
}

func newFeed(c *client.Client) *feed {
	return &feed{
		client: c, rows: map[string]row{}, etags: map[string]string{}, reviews: map[string]client.Decision{},
		readers: map[*reader]bool{}, reading: true, wake: make(chan struct{}, 1),
	}
}

// run follows the bucket until ctx ends.
func (f *feed) run(ctx context.Context) {
	pause := firstPause
	for {
		if f.isRead() {
			changed, err := f.poll(ctx)
			if ctx.Err() != nil {
				return
			}
			f.settle(err)
			pause = min(pause*3/2, longestPause)
			if changed {
				pause = firstPause
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
			pause = firstPause
		case <-time.After(pause):
		}
	}
}

// poke makes the feed list the bucket at once.
func (f *feed) poke() { notify(f.wake) }

func notify(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// isRead reports whether a page is open.
func (f *feed) isRead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers) > 0
}

// settle notes how a listing ended.
func (f *feed) settle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
	for r := range f.readers {
		notify(r.wake)
	}
}

// poll lists the bucket once and reads what has changed.
func (f *feed) poll(ctx context.Context) (changed bool, err error) {
	var listed []bucket.File
	lists := make([][]bucket.File, 3)
	group, within := errgroup.WithContext(ctx)
	for i, prefix := range []string{statusPrefix, answerPrefix, reviewPrefix} {
		group.Go(func() (err error) {
			lists[i], _, err = f.client.Bucket.List(within, prefix, math.MaxInt)
			return f.client.Explain("list the jobs", prefix, err)
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	here := map[string]bool{}
	f.mu.Lock()
	for _, list := range lists {
		for _, file := range list {
			here[file.Key] = true
			if f.etags[file.Key] != file.ETag && strings.HasSuffix(file.Key, ".json") {
				listed = append(listed, file)
			}
		}
	}
	var gone []string
	for key := range f.etags {
		if !here[key] {
			gone = append(gone, key)
		}
	}
	f.mu.Unlock()
	for _, key := range gone {
		f.forget(key)
	}
	// The reviews come first, because a row shows its review. Then the newest.
	slices.SortFunc(listed, func(a, b bucket.File) int {
		rank := func(f bucket.File) int {
			if strings.HasPrefix(f.Key, reviewPrefix) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.LastModified.Compare(a.LastModified))
	})
	var refused error
	for part := range slices.Chunk(listed, chunk) {
		err := f.read(ctx, part)
		if _, ok := errors.AsType[*client.DeniedError](err); ok {
			refused = err
		} else if err != nil {
			return true, err
		}
	}
	f.mu.Lock()
	f.reading = false
	f.mu.Unlock()
	return len(listed)+len(gone) > 0, refused
}

// read reads objects in parallel and shows them. If S3 refuses to return some, read
// shows the others, and the error is about one that was refused.
func (f *feed) read(ctx context.Context, files []bucket.File) error {
	group := new(errgroup.Group)
	group.SetLimit(readsAtOnce)
	for _, file := range files {
		group.Go(func() error {
			var err error
			if id, ok := strings.CutPrefix(file.Key, reviewPrefix); ok {
				err = f.readReview(ctx, file, id)
			} else {
				err = f.readStatus(ctx, file)
			}
			if errors.Is(err, bucket.ErrNotFound) { // deleted since it was listed
				return nil
			}
			return f.client.Explain("read "+file.Key, file.Key, err)
		})
	}
	return group.Wait()
}

func (f *feed) readStatus(ctx context.Context, file bucket.File) error {
	posted, err := f.client.Ledger.Posted(ctx, file.Key)
	if err != nil {
		return err
	}
	st := posted.Status
	r := row{
		Key: rowKey(file.Key), State: st.State, Code: string(st.Code), Model: st.Model, Take: st.Take,
		Seconds: st.ExpectedSeconds, Verdict: st.Verdict, Estimate: st.EstimateUSD, Cost: st.CostUSD, Updated: st.UpdatedAt, modified: file.LastModified,
	}
	r.Name, r.File = strings.CutPrefix(r.Key, "/")
	if r.Updated.IsZero() {
		r.Updated = file.LastModified
	}
	if started, err := time.Parse(ledger.StampLayout, ledger.Stamp(st.Take)); err == nil {
		r.Started = started
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Review = f.reviews[r.Name+"/"+st.Take]
	f.etags[file.Key] = file.ETag
	f.rows[r.Key] = r
	f.mark(r.Key)
	return nil
}

// readReview reads the review of a take; id is its name, a slash and the take.
func (f *feed) readReview(ctx context.Context, file bucket.File, id string) error {
	id = strings.TrimSuffix(id, ".json")
	i := strings.LastIndexByte(id, '/')
	if i < 0 {
		return nil
	}
	review, _, err := f.client.ReadReview(ctx, id[:i], id[i+1:])
	if err != nil {
		return err
	}
	f.setReview(file.Key, file.ETag, id, review.Decision)
	return nil
}

// setReview notes a decision, and shows it in the row of its name.
func (f *feed) setReview(key, etag, id string, decision client.Decision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.etags[key] = etag
	if decision == "" {
		delete(f.reviews, id)
	} else {
		f.reviews[id] = decision
	}
	name, take := id[:strings.LastIndexByte(id, '/')], id[strings.LastIndexByte(id, '/')+1:]
	if r, ok := f.rows[name]; ok && r.Take == take {
		r.Review = decision
		f.rows[name] = r
		f.mark(name)
	}
}

// forget removes an object that is no longer in the bucket.
func (f *feed) forget(key string) {
	if id, ok := strings.CutPrefix(key, reviewPrefix); ok {
		f.setReview(key, "", strings.TrimSuffix(id, ".json"), "")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.etags, key)
	if strings.HasPrefix(key, reviewPrefix) {
		return
	}
	delete(f.rows, rowKey(key))
	f.mark(rowKey(key))
}

// mark makes every reader send a row. The caller holds the lock.
func (f *feed) mark(key string) {
	for r := range f.readers {
		r.dirty[key] = true
		notify(r.wake)
	}
}

// rowKey returns the key of a row from the key of its status or answer file.
func rowKey(key string) string {
	if file, ok := strings.CutPrefix(key, answerPrefix); ok {
		return "/" + strings.TrimSuffix(file, ".json")
	}
	return strings.TrimSuffix(strings.TrimPrefix(key, statusPrefix), ".json")
}

// maxStreams is how many streams of events are open at the same time.
const maxStreams = 12

// open returns a reader that has sent no row yet, or false if there are too many.
func (f *feed) open() (*reader, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) >= maxStreams {
		return nil, false
	}
	r := &reader{reset: true, dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
	for key := range f.rows {
		r.dirty[key] = true
	}
	f.readers[r] = true
	notify(r.wake)
	f.poke()
	return r, true
}

func (f *feed) close(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, r)
}

// change is the data of an event: rows that are new or have changed, and the keys of
// those that are gone.
type change struct {
	Reset   bool     `json:"reset,omitempty"` // forget all rows first
	Rows    []row    `json:"rows,omitempty"`
	Gone    []string `json:"gone,omitempty"`
	Reading bool     `json:"reading,omitempty"`
}

// next returns what a reader has not sent, the newest first and at most a chunk.
func (f *feed) next(r *reader) (c change, trouble string, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.Reset, r.reset = r.reset, false
	for key := range r.dirty {
		if here, ok := f.rows[key]; ok {
			c.Rows = append(c.Rows, here)
		} else {
			c.Gone = append(c.Gone, key)
		}
	}
	slices.SortFunc(c.Rows, func(a, b row) int { return b.modified.Compare(a.modified) })
	if len(c.Rows) > chunk {
		c.Rows, more = c.Rows[:chunk], true
	}
	for _, sent := range c.Rows {
		delete(r.dirty, sent.Key)
	}
	for _, key := range c.Gone {
		delete(r.dirty, key)
	}
	c.Reading = f.reading || more
	if f.trouble != nil {
		trouble = f.trouble.Error()
	}
	return c, trouble, more
}

// ServeHTTP sends the rows, and then each change, as server-sent events.
func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reader, ok := f.open()
	if !ok {
		http.Error(w, fmt.Sprintf("%d pages are open; close some", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer f.close(reader)
	const (
		writeWithin = 30 * time.Second
		beatEvery   = 20 * time.Second
	)
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeWithin)) // not supported by a test's recorder
		_, err := w.Write([]byte(text))
		return err == nil && control.Flush() == nil
	}
	event := func(name string, data any) bool {
		text, err := json.Marshal(data) // JSON has no line breaks
		return err == nil && send("event: "+name+"\ndata: "+string(text)+"\n\n")
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	sent := change{Reading: true}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if !send(": beat\n\n") {
				return
			}
			continue
		case <-reader.wake:
		}
		for more := true; more; {
			var c change
			var trouble string
			c, trouble, more = f.next(reader)
			if trouble != reader.trouble {
				reader.trouble = trouble
				if trouble != "" && !event("trouble", map[string]string{"message": trouble}) {
					return
				}
				sent.Reading = !c.Reading // so that the page learns that the trouble is over
			}
			if (c.Reset || c.Rows != nil || c.Gone != nil || c.Reading != sent.Reading) && !event("jobs", c) {
				return
			}
			sent = c
		}
	}
}

// review returns the decision about a take, as far as it was read.
func (f *feed) review(name, take string) client.Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reviews[name+"/"+take]
}
