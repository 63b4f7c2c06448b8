// Package runcomfytest is a fake of RunComfy's Model API, for tests, for the
// local stack and for the simulation. It is the one description in this
// project of how the API behaves.
//
// A [Server] is an http.Handler; a zero Server is ready to use. It charges a
// job for each POST that it takes, downloads the job's inputs through their
// URLs, lets it queue and run for as long as it is told to, and serves an
// output. The output is the job's own video, or image, as it was downloaded:
// nothing is generated.
//
// Time is what Now says: nothing here sleeps or starts a timer, and a job's
// state is computed when it is asked for.
package runcomfytest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxRequest bounds the body of a request, as RunComfy's own client does.
const maxRequest = 64 << 20

// FetchTime is when a job's inputs are downloaded. RunComfy does not say when
// it does it.
type FetchTime int

// The times to fetch.
const (
	// FetchAtSubmit downloads before the POST is answered.
	FetchAtSubmit FetchTime = iota
	// FetchAtStart downloads when the job leaves the queue: at the first
	// question about it after that moment.
	FetchAtStart
)

// Server is the fake API. Its fields are set before its first use; its methods
// may be called at any time. It must not be copied.
type Server struct {
	// Token is the bearer token that is accepted. Empty: any is.
	Token string

	// Models holds the input schema of each known model by its id. Nil: every
	// model is known.
	Models map[string]json.RawMessage

	// Queue and Run are how long each job queues and runs.
	Queue, Run time.Duration

	// Script, where set, says how each job goes, in place of Queue and Run. It
	// is asked once a job (and once more after a restart, see Dir).
	Script func(modelID string, input map[string]any) Script

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time

	// Fetch opens the input behind a URL. Defaults to a GET by HTTPClient.
	Fetch func(ctx context.Context, url string) (io.ReadCloser, error)

	// HTTPClient downloads the inputs where Fetch is not set. Defaults to
	// http.DefaultClient.
	HTTPClient *http.Client

	// FetchAt is when inputs are downloaded.
	FetchAt FetchTime

	// Dir keeps jobs and outputs in a folder, which must exist: a Server that
	// is started on the folder of an earlier one goes on with its jobs. Empty:
	// in memory, with inputs of at most 32 MiB.
	Dir string

	// OutputURL is the address, scheme and host, below which the outputs are
	// announced; this Server must be what answers there. Defaults to the
	// address of the request for the result.
	OutputURL string

	// OutputPath, where set and OutputURL is not, stands before the path of each
	// output that is announced. Whoever serves it takes it off again.
	OutputPath string

	// CostUSD is the cost that a result tells when it is asked for it. Zero:
	// it tells none.
	CostUSD float64

	// Fault, where set, is asked about each request before it is handled, and
	// says how to misbehave; nil is ordinary behaviour. It may be called by
	// several goroutines at once.
	Fault func(r *http.Request, body []byte) *Fault

	loading   sync.Once
	loadError error

	mu        sync.Mutex
	jobs      map[string]*job
	order     []*job
	cancelled []string
	calls     int
	leaked    int
	noBalance bool
}

// Script says how one job goes.
type Script struct {
	Queue, Run time.Duration

	// Fail, where set, is the error of a job that fails at the end of its
	// run: whatever JSON can say.
	Fail any

	// Outputs is how many outputs the job has; 0 is one. All have the same
	// content.
	Outputs int

	// Output, where set, shapes the output member of the result from the
	// outputs' URLs, of which there are none where the job has no video and
	// no image. Defaults to video and videos, or image and images.
	Output func(urls []string) any
}

// Call is what a request asks for.
type Call string

// The calls.
const (
	CallSubmit Call = "submit"
	CallStatus Call = "status"
	CallResult Call = "result"
	CallCancel Call = "cancel"
	CallModel  Call = "model"
	CallOutput Call = "output"
)

// CallOf returns what a request asks for, empty when the API has no such path,
// and the id that it names: of a model for CallSubmit and CallModel, of a
// request for the others.
func CallOf(r *http.Request) (Call, string) {
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/models/"); ok && id != "" {
		switch r.Method {
		case http.MethodPost:
			return CallSubmit, id
		case http.MethodGet:
			return CallModel, id
		}
		return "", id
	}
	if strings.HasPrefix(r.URL.Path, outputPrefix) {
		return CallOutput, outputJob(r.URL)
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/requests/")
	id, action, _ := strings.Cut(rest, "/")
	if !ok {
		return "", ""
	}
	switch r.Method + " " + action {
	case "GET status":
		return CallStatus, id
	case "GET result":
		return CallResult, id
	case "POST cancel":
		return CallCancel, id
	}
	return "", id
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, 0, "the request cannot be read: "+err.Error())
		return
	}
	s.count(r)
	if fault := s.faultOf(r, body); fault != nil {
		s.misbehave(w, r, body, fault)
		return
	}
	s.handle(w, r, body)
}

func (s *Server) faultOf(r *http.Request, body []byte) *Fault {
	if s.Fault == nil {
		return nil
	}
	return s.Fault(r, body)
}

// count records a request that has reached the server.
func (s *Server) count(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if call, _ := CallOf(r); call != CallOutput {
		s.calls++
	} else if r.Header.Get("Authorization") != "" {
		s.leaked++
	}
}

// handle is the ordinary behaviour.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Date", s.now().Format(http.TimeFormat))
	if err := s.ready(); err != nil {
		refuse(w, http.StatusInternalServerError, 0, err.Error())
		return
	}
	call, id := CallOf(r)
	if call == CallOutput {
		s.serveOutput(w, r, id)
		return
	}
	if !s.authorised(r) {
		refuse(w, http.StatusUnauthorized, 400004, "the API token is invalid, expired or revoked")
		return
	}
	if r.URL.Path == "/prod/v2/balance" {
		reply(w, http.StatusOK, map[string]any{"balance_usd": 12.5})
		return
	}
	switch call {
	case CallSubmit:
		s.submit(w, r, id, body)
	case CallModel:
		s.describeModel(w, id)
	case CallStatus, CallResult, CallCancel:
		s.mu.Lock()
		j := s.jobs[id]
		s.mu.Unlock()
		if j == nil {
			refuse(w, http.StatusNotFound, 404001, "the request does not exist or has expired")
			return
		}
		s.askJob(w, r, j, call)
	default:
		refuse(w, http.StatusNotFound, 0, "no such path")
	}
}

func (s *Server) authorised(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok && token != "" && (s.Token == "" || token == s.Token)
}

func (s *Server) describeModel(w http.ResponseWriter, id string) {
	schema, known := s.Models[id]
	if s.Models == nil {
		schema, known = json.RawMessage(`{"type":"object"}`), true
	}
	if !known {
		refuse(w, http.StatusBadRequest, 400001, "there is no model "+id)
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"model_id": id, "display_name": id, "input_schema": schema,
		"base_price_usd": 0.05, "price_unit": "second",
	})
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// reply answers with a JSON object.
func reply(w http.ResponseWriter, status int, members map[string]any) {
	body, err := json.Marshal(members)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error_message":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refuse answers with an error; a code of 0 is left out.
func refuse(w http.ResponseWriter, status, code int, text string) {
	members := map[string]any{"error_message": text}
	if code != 0 {
		members["error_code"] = code
	}
	reply(w, status, members)
}

// Token is a runcomfy.TokenSource with a token that never changes.
type Token string

// Token returns t.
func (t Token) Token(context.Context) (string, error) { return string(t), nil }

// Refused does nothing.
func (Token) Refused() {}
