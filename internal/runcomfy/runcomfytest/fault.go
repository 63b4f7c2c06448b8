package runcomfytest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
)

// Break says whether, and how, a request ends without a complete response.
type Break int

// The breaks.
const (
	// NoBreak: the response arrives.
	NoBreak Break = iota
	// NotSent: the client cannot connect, so no byte of the request is written.
	// Only Transport can refuse a connection. Over a socket, the client sees a Reset.
	NotSent
	// Reset: the connection ends before the first byte of the response.
	Reset
	// Truncate: the connection ends in the middle of the response's body.
	Truncate
	// Silence: no response comes until the client gives up. Transport does not wait:
	// it returns context.DeadlineExceeded at once.
	Silence
)

// Fault is one way to fail. With its zero value, the request has no effect and gets HTTP 500.
type Fault struct {
	Name string

	// Accept lets the request take effect before the fault: a submit charges a job, and a
	// cancel cancels the job.
	Accept bool

	Break Break

	// Status, if it is not 0, replaces the HTTP status of the response.
	Status int

	// Header adds fields to the header of the response, or replaces them.
	Header http.Header

	// Body, if it is not nil, replaces the body of the response.
	Body []byte

	// Edit, if set, changes the members of a response that is a JSON object.
	Edit func(members map[string]any)
}

// faultyResponse returns the response under a fault. The caller applies the Break of the fault.
func (s *Server) faultyResponse(r *http.Request, body []byte, fault *Fault) *httptest.ResponseRecorder {
	original, edited := httptest.NewRecorder(), httptest.NewRecorder()
	if fault.Accept {
		s.handle(original, r, body)
	} else {
		original.Header().Set("Date", s.now().Format(http.TimeFormat))
		refuse(original, http.StatusInternalServerError, 0, "internal error")
	}
	header, content := edited.Header(), original.Body.Bytes()
	maps.Copy(header, original.Header())
	if fault.Body != nil {
		content = fault.Body
		header.Del("Content-Length")
		header.Set("Content-Type", http.DetectContentType(content))
	}
	maps.Copy(header, fault.Header)
	var members map[string]any
	if fault.Edit != nil && json.Unmarshal(content, &members) == nil {
		fault.Edit(members)
		if text, err := json.Marshal(members); err == nil {
			content = text
		}
	}
	edited.WriteHeader(cmp.Or(fault.Status, original.Code))
	_, _ = edited.Write(content)
	return edited
}

// serveFault responds over a socket under a fault.
func (s *Server) serveFault(w http.ResponseWriter, r *http.Request, body []byte, fault *Fault) {
	if fault.Break == NotSent {
		panic(http.ErrAbortHandler)
	}
	rec := s.faultyResponse(r, body, fault)
	switch fault.Break {
	case Reset:
		panic(http.ErrAbortHandler)
	case Silence:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), rec.Header())
	whole := rec.Body.Bytes()
	if fault.Break == Truncate {
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(whole[:len(whole)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(whole)
}
