package runcomfytest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// Break is how a request ends without a complete response.
type Break int

// The breaks.
const (
	// NoBreak: the response arrives.
	NoBreak Break = iota
	// NotSent: the client cannot connect, so no byte of the request is written.
	// Only Transport can do that; over a socket it is a Reset.
	NotSent
	// Reset: the connection ends before the first byte of the response.
	Reset
	// Truncate: the connection ends in the middle of the response's body.
	Truncate
	// Silence: no response comes until the client gives up. Transport, which may
	// run on a virtual clock, gives up at once.
	Silence
)

// Fault is one way to fail. Its zero value is HTTP 500 without effect.
type Fault struct {
	Name string

	// Accept lets the request take effect before the fault: a job is charged, a
	// cancel cancels. Otherwise it has no effect.
	Accept bool

	// Break ends the request without a complete response.
	Break Break

	// Status is the HTTP status of the response, if it is not 0.
	Status int

	// Header is added to the header of the response.
	Header http.Header

	// Body is the body of the response, if it is not nil.
	Body []byte

	// Edit, if set, changes the members of the response to an accepted request.
	Edit func(members map[string]any)
}

// recorder records a response.
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

// faulty returns the response under a fault, before its Break.
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

// misbehave responds over a socket under a fault.
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
