package runcomfytest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// Break is how a request ends without a whole answer.
type Break int

// The breaks.
const (
	// NoBreak: the answer arrives.
	NoBreak Break = iota
	// NotSent: no connection comes about, so no byte of the request is
	// written. It takes Transport; at a socket, which the request has reached
	// by then, it is a Reset.
	NotSent
	// Reset: the connection ends before the first byte of the answer.
	Reset
	// Truncate: the connection ends in the middle of the answer's body.
	Truncate
	// Silence: nothing comes until the client gives up. Transport, which may
	// run on a virtual clock, gives up at once.
	Silence
)

// Fault is one way to misbehave. Its zero value answers 500 and does nothing.
type Fault struct {
	// Name says what it is.
	Name string

	// Accept lets the request take effect before the answer goes wrong: a job
	// is taken and charged, a cancel cancels. Otherwise it has no effect.
	Accept bool

	// Break ends the request without a whole answer.
	Break Break

	// Status, where it is not 0, is the HTTP status of the answer.
	Status int

	// Header is added to the answer's.
	Header http.Header

	// Body, where it is not nil, is the answer's body.
	Body []byte

	// Edit, where set, changes the members of the ordinary answer, which only
	// an accepted request has.
	Edit func(members map[string]any)
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newRecorder() *recorder {
	return &recorder{header: http.Header{}, status: http.StatusOK}
}

func (rec *recorder) Header() http.Header         { return rec.header }
func (rec *recorder) WriteHeader(status int)      { rec.status = status }
func (rec *recorder) Write(p []byte) (int, error) { return rec.body.Write(p) }

// replace sets the whole body.
func (rec *recorder) replace(body []byte) {
	rec.body.Reset()
	rec.body.Write(body)
	rec.header.Del("Content-Length")
}

// faulty returns the answer to a request under a fault, before its Break.
func (s *Server) faulty(r *http.Request, body []byte, fault *Fault) *recorder {
	rec := newRecorder()
	if fault.Accept {
		s.handle(rec, r, body)
	} else {
		rec.header.Set("Date", s.now().Format(http.TimeFormat))
		refuse(rec, http.StatusInternalServerError, 0, "internal error")
	}
	if fault.Status != 0 {
		rec.status = fault.Status
	}
	maps.Copy(rec.header, fault.Header)
	if fault.Body != nil {
		rec.replace(fault.Body)
		rec.header.Set("Content-Type", http.DetectContentType(fault.Body))
	}
	var members map[string]any
	if fault.Edit != nil && json.Unmarshal(rec.body.Bytes(), &members) == nil {
		fault.Edit(members)
		if edited, err := json.Marshal(members); err == nil {
			rec.replace(edited)
		}
	}
	return rec
}

// misbehave answers a request at a socket.
func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, body []byte, fault *Fault) {
	if fault.Break == NotSent {
		panic(http.ErrAbortHandler)
	}
	rec := s.faulty(r, body, fault)
	switch fault.Break {
	case Reset:
		panic(http.ErrAbortHandler)
	case Silence:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), rec.header)
	whole := rec.body.Bytes()
	if fault.Break == Truncate {
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		w.WriteHeader(rec.status)
		_, _ = w.Write(whole[:len(whole)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(rec.status)
	_, _ = w.Write(whole)
}
