package ui

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// A drop has two phases: the check and the upload. In both, the command reads parts of the
// files through the page: /api/drop/next says which part the page must send next, and the
// page sends that part to /api/drop/part. So the bucket needs no CORS configuration, and the
// command holds only small parts of the files in memory.

const (
	// mostFiles is how many files a person may drop at once.
	mostFiles = 5000

	// mostSessions is how many drops may be under way at once.
	mostSessions = 4

	// idleAfter is how long a drop stays open without a request from the page. The person
	// may have closed the page.
	idleAfter = 2 * time.Minute

	// nextWithin is the longest time that /api/drop/next waits for the command to need a part
	// or for the phase to end.
	nextWithin = 15 * time.Second
)

// dropSession is one drop of a person.
type dropSession struct {
	id     string
	server *Server
	cancel context.CancelCauseFunc
	ctx    context.Context
	idle   *time.Timer
	drop   *client.Drop
	names  []string // of the dropped files, in the order of dropForm.Files
	asks   chan *ask

	mu          sync.Mutex
	lastNumber  int           // the number of the newest ask
	pending     map[int]*ask  // by number
	phase       chan struct{} // closed when the phase has ended
	err         error         // of the phase
	result      dropResult
	sent        int64 // bytes
	total       int64 // bytes
	checked     bool
	uploadBegun bool
}

// dropForm is what the page sends to begin a drop.
type dropForm struct {
	Folder  string            `json:"folder"` // below inbox/
	Files   []droppedFile     `json:"files"`
	Model   string            `json:"model"`
	Options map[string]string `json:"options"`
}

type droppedFile struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// openDrop begins a drop and its check.
func (s *Server) openDrop(r *http.Request) (any, error) {
	var form dropForm
	if err := decode(r, &form); err != nil {
		return nil, err
	}
	session, err := s.openSession(form)
	if err != nil {
		return nil, err
	}
	session.beginPhase(func() error { return session.checkFiles(drop.Choice{Model: form.Model, Options: form.Options}) })
	return map[string]string{"id": session.id}, nil
}

func (s *Server) openSession(form dropForm) (*dropSession, error) {
	folder := strings.Trim(form.Folder, "/")
	if folder != "" {
		if err := validName(folder); err != nil {
			return nil, &requestError{http.StatusBadRequest, fmt.Sprintf("%q is not a folder to drop into: give a folder such as ads/spring", form.Folder)}
		}
		folder += "/"
	}
	if len(form.Files) == 0 || len(form.Files) > mostFiles {
		return nil, &requestError{http.StatusBadRequest, fmt.Sprintf("%d files were dropped; drop 1 to %d at once", len(form.Files), mostFiles)}
	}
	session := &dropSession{
		id: rand.Text(), server: s, asks: make(chan *ask), pending: map[int]*ask{},
		drop: &client.Drop{Client: s.client, Resolver: s.resolver, Uploads: map[string]*client.Upload{}},
	}
	for i, f := range form.Files {
		name := strings.Trim(f.Path, "/")
		if err := validName(name); err != nil || f.Size < 0 {
			return nil, &requestError{http.StatusBadRequest, fmt.Sprintf("%q is not the name of a file", f.Path)}
		}
		session.names = append(session.names, name)
		key := ledger.InboxPrefix + folder + name
		if session.drop.Uploads[key] != nil {
			return nil, &requestError{http.StatusBadRequest, fmt.Sprintf("two files are named %s; rename one", name)}
		}
		file := &browserFile{session, i, f.Size}
		session.drop.Uploads[key] = &client.Upload{
			File: drop.File{Key: key, Size: f.Size, LastModified: time.Now().UTC().Truncate(time.Second)},
			Open: func() (client.Content, error) { return file, nil },
		}
	}
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	if len(s.sessions) >= mostSessions {
		return nil, &requestError{http.StatusTooManyRequests, "other drops are under way; wait until they are uploaded, or close their windows"}
	}
	session.ctx, session.cancel = context.WithCancelCause(s.ctx)
	session.idle = time.AfterFunc(idleAfter, func() { s.endSession(session, errors.New("the page does not respond")) })
	s.sessions[session.id] = session
	return session, nil
}

func (s *Server) endSession(session *dropSession, cause error) {
	session.idle.Stop()
	session.cancel(cause)
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	delete(s.sessions, session.id)
}

// withSession returns a handler of requests about a drop that is under way.
func (s *Server) withSession(do func(*dropSession, *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		s.sessionsMu.Lock()
		session, ok := s.sessions[r.URL.Query().Get("id")]
		s.sessionsMu.Unlock()
		if !ok {
			return nil, &requestError{http.StatusGone, "this drop has ended; drop the files again"}
		}
		session.idle.Reset(idleAfter)
		return do(session, r)
	}
}

// beginPhase starts a phase: it calls run in a new goroutine.
func (d *dropSession) beginPhase(run func() error) {
	d.mu.Lock()
	phase := make(chan struct{})
	d.phase, d.err = phase, nil
	d.mu.Unlock()
	go func() {
		err := run()
		if err != nil {
			err = cmp.Or(context.Cause(d.ctx), err) // why the drop was ended, if it was
		}
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
		close(phase)
	}()
}

// nextStep is the response of /api/drop/next: which part to send, or how the phase ended. If
// it says neither, the page sends the request again.
type nextStep struct {
	Ask   *ask   `json:"ask,omitempty"`
	Sent  int64  `json:"sent"`
	Total int64  `json:"total"`
	End   bool   `json:"end"`
	Error string `json:"error,omitempty"`
	*dropResult
}

// next returns the next step of the page. It waits until the command asks for a part, until
// the phase has ended, or for nextWithin.
func (d *dropSession) next(r *http.Request) (any, error) {
	d.mu.Lock()
	phase := d.phase
	d.mu.Unlock()
	var n nextStep
	select {
	case n.Ask = <-d.asks:
	case <-phase:
		n.End = true
	case <-time.After(nextWithin):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	d.mu.Lock()
	n.Sent, n.Total = d.sent, d.total
	if n.End && d.err != nil {
		n.Error = d.err.Error()
	} else if n.End {
		result := d.result
		n.dropResult = &result
	}
	finished := n.End && d.uploadBegun
	d.mu.Unlock()
	if finished {
		time.AfterFunc(time.Second, func() { d.server.endSession(d, context.Canceled) }) // other requests of the page may still wait for the end
	}
	return n, nil
}

// ask is a request to the page for a part of a file.
type ask struct {
	Number int   `json:"number"`
	File   int   `json:"file"` // an index of dropForm.Files
	Offset int64 `json:"offset"`
	Length int   `json:"length"`

	parts chan part // receivePart sends one part
}

// part is a part of a file, or the reason why the file was not read. It has a buffer of its
// own: the reader may have given up while the page still sends the bytes.
type part struct {
	bytes []byte
	err   error
}

// browserFile is a file that a person drops onto the page.
type browserFile struct {
	session *dropSession
	index   int // of dropForm.Files
	size    int64
}

// ReadAt implements io.ReaderAt. It asks the page for the bytes.
func (f *browserFile) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(f.size-off, 0)))
	for at := 0; at < n; {
		part := p[at:min(at+maxPart, n)]
		if err := f.session.readPart(f.index, off+int64(at), part); err != nil {
			return at, err
		}
		at += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (f *browserFile) Close() error { return nil }

// readPart asks the page for a part of a file and waits for it.
func (d *dropSession) readPart(file int, offset int64, p []byte) error {
	d.mu.Lock()
	d.lastNumber++
	a := &ask{Number: d.lastNumber, File: file, Offset: offset, Length: len(p), parts: make(chan part, 1)}
	d.pending[a.Number] = a
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.pending, a.Number)
		d.mu.Unlock()
	}()
	select {
	case d.asks <- a:
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
	select {
	case got := <-a.parts:
		copy(p, got.bytes)
		return got.err
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
}

// receivePart reads a part of a file that the page sends.
func (d *dropSession) receivePart(r *http.Request) (any, error) {
	number, err := strconv.Atoi(r.URL.Query().Get("number"))
	d.mu.Lock()
	a, ok := d.pending[number]
	delete(d.pending, number)
	d.mu.Unlock()
	if err != nil || !ok {
		return nil, &requestError{http.StatusConflict, "the command has not asked for this part"}
	}
	bytes := make([]byte, a.Length)
	_, err = io.ReadFull(r.Body, bytes)
	if more, _ := r.Body.Read(make([]byte, 1)); err != nil || more > 0 {
		err = fmt.Errorf("%s was not read completely; it may have changed. Drop it again", d.names[a.File])
	}
	a.parts <- part{bytes, err}
	return map[string]bool{"taken": err == nil}, nil
}

// keep does nothing. Every request about a drop keeps the drop open, and the page has no other
// request to send while the person reads the result of the check.
func (d *dropSession) keep(*http.Request) (any, error) { return map[string]bool{"kept": true}, nil }

// close ends a drop: the person has closed its window or changed what to drop, or the page
// cannot read a file.
func (d *dropSession) close(r *http.Request) (any, error) {
	var why struct {
		Reason string `json:"reason"`
	}
	if err := decode(r, &why); err != nil {
		return nil, err
	}
	d.server.endSession(d, errors.New(why.Reason))
	return map[string]bool{"closed": true}, nil
}
