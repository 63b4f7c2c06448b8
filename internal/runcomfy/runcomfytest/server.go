// Package runcomfytest is a fake of RunComfy's Model API for tests, the local stack
// and the simulation. It is the project's description of how the API behaves.
//
// A [Server] is an http.Handler. The zero Server is ready to use. A Server charges each
// job that it accepts, downloads the job's inputs through their URLs, lets the job
// queue and run for the configured times, and serves an output. The output is the
// job's own video or image, or what Make returns. No model runs.
//
// All times of a job are from the clock Now. No timer changes the state of a job: the
// state is computed when a request asks for it.
package runcomfytest

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxRequest is the largest body of a request, as in RunComfy's own client.
const maxRequest = 64 << 20

// Server is the fake API. Set its fields before its first use. It is safe for concurrent use, and
// must not be copied.
type Server struct {
	// Token is the bearer token that is accepted. If it is empty, every token is accepted.
	Token string

	// Models holds the input schema of each known model by its id. If it is nil,
	// every model is known, and none has a schema.
	Models map[string]json.RawMessage

	// Prices holds prices by model id. A model that is not in Prices has no price. If Prices
	// is nil, each model has its InventedPrice.
	Prices map[string]Price

	// Queue and Run are how long each job queues and runs.
	Queue, Run time.Duration

	// Script, if set, replaces Queue and Run. It is called for each job that is submitted, and
	// by Load for each job in Dir.
	Script func(modelID string, input map[string]any) Script

	// Make, if set, returns the content of a job's outputs, whose URLs then end in .mp4. The
	// contents of the job's inputs are in files, by property name. By default, each output is the
	// job's own video or image.
	Make func(job Job, files map[string][]byte) ([]byte, error)

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time

	// Fetch opens the input behind a URL. Defaults to a GET by HTTPClient.
	Fetch func(ctx context.Context, url string) (io.ReadCloser, error)

	// HTTPClient downloads the inputs if Fetch is not set. Defaults to
	// http.DefaultClient.
	HTTPClient *http.Client

	// If FetchAtStart is true, the inputs are downloaded at the first request about a job that
	// has left the queue. By default, the inputs are downloaded before the response to the POST.
	// RunComfy does not document when it downloads the inputs.
	FetchAtStart bool

	// Dir is a folder for jobs and outputs. Load makes the folder, and continues the jobs of
	// an earlier Server with the same folder. If Dir is empty, jobs and outputs are in memory.
	Dir string

	// OutputURL is the beginning of the URL of each output. If OutputURL is a path, the URL begins
	// with the scheme and host of the request for the result, and the path comes next. ServeHTTP
	// does not know the path: use http.StripPrefix to remove it.
	OutputURL string

	// CostUSD is the cost of each job that succeeded. A result has the cost if the request asks
	// for it and CostUSD is not 0.
	CostUSD float64

	// Fault, if set, is called for each request and returns how the request fails, or nil.
	// Several goroutines may call Fault at once.
	Fault func(r *http.Request, body []byte) *Fault

	mu        sync.Mutex
	jobs      map[string]*job
	order     []*job
	calls     int
	leaked    int
	noBalance bool
}

// Script is the course of one job.
type Script struct {
	Queue, Run time.Duration

	// Fail, if set, makes the job fail at the end of its run, with this JSON value
	// as the error.
	Fail any

	// Outputs is how many outputs the job has; 0 means one. All outputs have the same
	// content. Without Make, a job with neither a video nor an image has no output.
	Outputs int
}

// Call is what a request asks for.
type Call string

// The calls.
const (
	CallSubmit  Call = "submit"
	CallStatus  Call = "status"
	CallResult  Call = "result"
	CallCancel  Call = "cancel"
	CallModel   Call = "model"
	CallOutput  Call = "output"
	CallBalance Call = "balance"
)

// CallOf returns what a request asks for, and the id in its path: a model's id for CallSubmit and
// CallModel, otherwise a job's request id. The id is "" if the path has none. Both are "" if the API
// has no such call.
func CallOf(r *http.Request) (Call, string) {
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/models/"); ok && id != "" {
		switch r.Method {
		case http.MethodPost:
			return CallSubmit, id
		case http.MethodGet:
			return CallModel, id
		}
	}
	if r.Method+" "+r.URL.Path == "GET /prod/v2/balance" {
		return CallBalance, ""
	}
	if strings.HasPrefix(r.URL.Path, outputPrefix) {
		return CallOutput, outputJob(r.URL)
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/requests/")
	if !ok {
		return "", ""
	}
	id, action, _ := strings.Cut(rest, "/")
	switch r.Method + " " + action {
	case "GET status":
		return CallStatus, id
	case "GET result":
		return CallResult, id
	case "POST cancel":
		return CallCancel, id
	}
	return "", ""
}

// ServeHTTP handles one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, 0, "the request cannot be read: "+err.Error())
		return
	}
	s.count(r)
	if fault := s.faultOf(r, body); fault != nil {
		s.serveFault(w, r, body, fault)
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

// count adds a request to the numbers that the methods Calls and LeakedTokens return.
func (s *Server) count(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if call, _ := CallOf(r); call != CallOutput {
		s.calls++
	} else if r.Header.Get("Authorization") != "" {
		s.leaked++
	}
}

// handle responds to a request without a fault.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Date", s.now().Format(http.TimeFormat))
	call, id := CallOf(r)
	if call == CallOutput {
		s.serveOutput(w, r, id)
		return
	}
	if !s.authorised(r) {
		refuse(w, http.StatusUnauthorized, 400004, "the API token is invalid, expired or revoked")
		return
	}
	switch call {
	case CallBalance:
		reply(w, http.StatusOK, map[string]any{"balance_usd": s.balanceUSD()})
	case CallSubmit:
		s.submit(w, r, id, body)
	case CallModel:
		s.describeModel(w, id)
	case CallStatus, CallResult, CallCancel:
		if j := s.find(id); j != nil {
			s.serveJob(w, r, j, call)
		} else {
			refuse(w, http.StatusNotFound, 404001, "the request does not exist or has expired")
		}
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
	if !known && s.Models != nil {
		refuse(w, http.StatusBadRequest, 400001, "there is no model "+id)
		return
	}
	members := map[string]any{"model_id": id, "display_name": id, "input_schema": schema}
	price, ok := s.Prices[id]
	if s.Prices == nil {
		price, ok = InventedPrice(id), true
	}
	if ok {
		members["base_price_usd"], members["price_unit"] = price.USD, price.Unit
		members["pricing_note"] = price.Note
	}
	reply(w, http.StatusOK, members)
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// reply responds with a JSON object.
func reply(w http.ResponseWriter, status int, members map[string]any) {
	body, err := json.Marshal(members)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error_message":"the response cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refuse responds with an error. If the code is 0, the response has no code.
func refuse(w http.ResponseWriter, status, code int, text string) {
	members := map[string]any{"error_message": text}
	if code != 0 {
		members["error_code"] = code
	}
	reply(w, status, members)
}

// Price is the price of a model, as the API describes it.
type Price struct {
	USD  float64
	Unit string
	Note string
}

// InventedPrice returns an invented price of a model, with a note that says so.
func InventedPrice(id string) Price {
	const note = "invented by the fake of RunComfy"
	return cmp.Or(map[string]Price{
		"sync/react-1":                                 {0.16, "second", note},
		"sync/sync/lipsync/v2/pro":                     {0.08, "second", note},
		"community/live-avatar":                        {0.02, "second", note},
		"happyhorse/happyhorse-1.0/reference-to-video": {0.90, "output", note},
	}[id], Price{0.05, "second", note})
}

// SetBalanceEmpty sets whether the account's balance is used up. If it is, no job is
// accepted.
func (s *Server) SetBalanceEmpty(empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBalance = empty
}

func (s *Server) balanceUSD() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noBalance {
		return 0
	}
	return 12.5
}
