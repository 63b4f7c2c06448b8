package runcomfytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/private"
)

// The states as /result names them. On /status, "completed" stands for both succeeded and
// failed.
const (
	inQueue    = "in_queue"
	inProgress = "in_progress"
	succeeded  = "succeeded"
	failed     = "failed"
	cancelled  = "cancelled"
)

// job is an accepted job. Its mutex is held while its inputs are downloaded, so
// requests about the job wait for the downloads.
type job struct {
	mu sync.Mutex
	record
	script Script
	media  []byte // the output, if the Server has no Dir
}

// record is what a Server stores of a job in its Dir.
type record struct {
	ID          string         `json:"id"`
	Model       string         `json:"model"`
	Input       map[string]any `json:"input"`
	Submitted   time.Time      `json:"submitted"`
	Queue       time.Duration  `json:"queueNanoseconds"`
	Run         time.Duration  `json:"runNanoseconds"`
	CancelledAt time.Time      `json:"cancelledAt"`
	Fetched     bool           `json:"fetched"`
	FetchError  string         `json:"fetchError"`
	Kind        media.Kind     `json:"kind"`   // of the output; empty if there is no output
	Suffix      string         `json:"suffix"` // of the input that became the output, such as .png; .mp4 if Server.Make returned the output
	SHA256      string         `json:"sha256"`
}

func (j *job) startsAt() time.Time { return j.Submitted.Add(j.Queue) }

// endsAt returns when the job ended or will end. A cancel or a failed download makes this time earlier.
func (j *job) endsAt() time.Time {
	switch {
	case !j.CancelledAt.IsZero():
		return j.CancelledAt
	case j.FetchError != "":
		return j.startsAt()
	}
	return j.startsAt().Add(j.Run)
}

func (j *job) state(now time.Time) string {
	switch {
	case !j.CancelledAt.IsZero():
		return cancelled
	case now.Before(j.startsAt()):
		return inQueue
	case now.Before(j.endsAt()):
		return inProgress
	case j.FetchError != "" || j.script.Fail != nil:
		return failed
	}
	return succeeded
}

// queuePosition returns how many jobs of the same length can run before the job starts.
func (j *job) queuePosition(now time.Time) int {
	return int(j.startsAt().Sub(now) / max(j.Run, time.Second))
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request, modelID string, body []byte) {
	if _, known := s.Models[modelID]; !known && s.Models != nil {
		refuse(w, http.StatusBadRequest, 400001, "there is no model "+modelID)
		return
	}
	var input map[string]any
	if err := json.Unmarshal(body, &input); err != nil || input == nil {
		reply(w, http.StatusUnprocessableEntity, map[string]any{
			"detail": []any{map[string]any{"loc": []any{"body"}, "msg": "value is not a valid object"}},
		})
		return
	}
	j := &job{
		record: record{Model: modelID, Input: input, Submitted: s.now()},
		script: s.scriptOf(modelID, input),
	}
	j.Queue, j.Run = j.script.Queue, j.script.Run
	j.mu.Lock()
	defer j.mu.Unlock()
	if !s.charge(w, j) {
		return
	}
	s.fetchIfDue(j, j.Submitted)
	base := baseURL(r) + "/v1/requests/" + j.ID
	reply(w, http.StatusOK, map[string]any{
		"request_id": j.ID,
		"status_url": base + "/status", "result_url": base + "/result", "cancel_url": base + "/cancel",
	})
}

// idPrefix is what all request ids begin with. A number that counts up follows.
const idPrefix = "00000000-0000-4000-8000-"

// charge gives a job its id and charges the job. If charge refuses the job, it responds to the
// request and returns false.
func (s *Server) charge(w http.ResponseWriter, j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noBalance {
		refuse(w, http.StatusPaymentRequired, 400002, "the account's balance does not cover this request")
		return false
	}
	last := 0
	if n := len(s.order); n > 0 {
		last, _ = strconv.Atoi(strings.TrimPrefix(s.order[n-1].ID, idPrefix))
	}
	j.ID = fmt.Sprintf("%s%012d", idPrefix, last+1)
	if err := s.save(j); err != nil {
		refuse(w, http.StatusInternalServerError, 0, err.Error())
		return false
	}
	s.addJob(j)
	return true
}

// addJob adds a job to the known jobs. The caller holds s.mu.
func (s *Server) addJob(j *job) {
	if s.jobs == nil {
		s.jobs = map[string]*job{}
	}
	s.jobs[j.ID] = j
	s.order = append(s.order, j)
}

func (s *Server) scriptOf(modelID string, input map[string]any) Script {
	if s.Script != nil {
		return s.Script(modelID, input)
	}
	return Script{Queue: s.Queue, Run: s.Run}
}

func (s *Server) serveJob(w http.ResponseWriter, r *http.Request, j *job, call Call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := s.now()
	s.fetchIfDue(j, now)
	state := j.state(now)
	switch call {
	case CallStatus:
		base := baseURL(r) + "/v1/requests/" + j.ID
		members := map[string]any{
			"request_id": j.ID, "status": onStatus(state),
			"status_url": base + "/status", "result_url": base + "/result",
		}
		if state == inQueue {
			members["queue_position"] = j.queuePosition(now)
		}
		reply(w, http.StatusOK, members)
	case CallResult:
		cost, _ := strconv.ParseBool(r.URL.Query().Get("include_cost"))
		reply(w, http.StatusOK, s.result(r, j, state, cost))
	case CallCancel:
		outcome, status := "not_cancellable", onStatus(state)
		if state == inQueue {
			j.CancelledAt = now
			if err := s.save(j); err != nil {
				j.CancelledAt = time.Time{}
				refuse(w, http.StatusInternalServerError, 0, err.Error())
				return
			}
			outcome, status = "cancelled", "completed" // as in the real API's response
		}
		reply(w, http.StatusAccepted, map[string]any{
			"request_id": j.ID, "status": status, "outcome": outcome,
		})
	}
}

// onStatus returns the name of a state on /status.
func onStatus(state string) string {
	if state == succeeded || state == failed {
		return "completed"
	}
	return state
}

func (s *Server) result(r *http.Request, j *job, state string, withCost bool) map[string]any {
	members := map[string]any{
		"request_id": j.ID, "status": state, "model_id": j.Model,
		"input":      j.Input,
		"created_at": j.Submitted.Format(time.RFC3339Nano), "finished_at": nil,
	}
	if state == inQueue || state == inProgress {
		return members
	}
	members["finished_at"] = j.endsAt().Format(time.RFC3339Nano)
	switch state {
	case succeeded:
		members["output"] = s.output(r, j)
		if withCost && s.CostUSD != 0 {
			members["cost"] = s.CostUSD
		}
	case failed:
		members["error"] = j.script.Fail
		if j.FetchError != "" {
			members["error"] = j.FetchError
		}
	}
	return members
}

// save writes the record of a job into Dir atomically.
func (s *Server) save(j *job) error {
	if s.Dir == "" {
		return nil
	}
	return private.ReplaceJSON(filepath.Join(s.Dir, j.ID+".json"), j.record)
}

// Load makes Dir if it is missing, and reads the jobs of an earlier Server from Dir. If Dir
// is set, call Load before the first use of the Server. The ids count up, so the files are in
// the order in which the jobs were accepted.
func (s *Server) Load() error {
	records, err := private.ReadAllJSON[record](s.Dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		// Queue and Run are in the record. Only the other fields of the script are used.
		s.addJob(&job{record: r, script: s.scriptOf(r.Model, r.Input)})
	}
	return nil
}
