package states

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
)

// A page has 100 entries unless the request says otherwise, and 1,000 at most:
// https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html
const (
	defaultPage = 100
	maxPage     = 1000
)

// page is the part of a request that asks for one page.
type page struct {
	MaxResults int    `json:"maxResults"`
	NextToken  string `json:"nextToken"`
}

// size is how many entries the page has.
func (p page) size() (int, error) {
	if p.MaxResults < 0 || p.MaxResults > maxPage {
		return 0, invalid("maxResults", "Member must have value between 0 and %d", maxPage)
	}
	return cmp.Or(p.MaxResults, defaultPage), nil
}

// resume reads where the page begins into a value that next was given. It
// leaves the value of a first page alone.
func (p page) resume(from any) error {
	if p.NextToken == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.NextToken)
	if err == nil {
		err = json.Unmarshal(text, from)
	}
	if err != nil {
		return refuse("InvalidToken", "Invalid Token: '%s'", p.NextToken)
	}
	return nil
}

// next is the token of the page that begins after a place.
func next(place any) string {
	return base64.RawURLEncoding.EncodeToString([]byte(compact(place)))
}

type listRequest struct {
	StateMachineARN string `json:"stateMachineArn"`
	StatusFilter    Status `json:"statusFilter"`
	page
}

type listAnswer struct {
	Executions []summary `json:"executions"`
	NextToken  string    `json:"nextToken,omitempty"`
}

// listPlace is the last execution of a page. Unlike a count it stays where it is
// when executions are started in between.
type listPlace struct {
	Milliseconds int64
	Name         string
}

func placeOf(e summary) listPlace { return listPlace{e.StartDate.UnixMilli(), e.Name} }

// newestFirst orders executions by their start, those of one instant by name.
func newestFirst(a, b listPlace) int {
	return cmp.Or(cmp.Compare(b.Milliseconds, a.Milliseconds), cmp.Compare(a.Name, b.Name))
}

func (s *Server) listExecutions(request listRequest) (listAnswer, error) {
	if err := s.checkMachine(request.StateMachineARN); err != nil {
		return listAnswer{}, err
	}
	known := []Status{"", Running, Succeeded, Failed, TimedOut, Aborted}
	if !slices.Contains(known, request.StatusFilter) {
		return listAnswer{}, invalid("statusFilter", "Member must satisfy enum value set: %v", known[1:])
	}
	size, err := request.size()
	if err != nil {
		return listAnswer{}, err
	}
	var after *listPlace
	if err := request.resume(&after); err != nil {
		return listAnswer{}, err
	}

	s.mu.Lock()
	runs := slices.Collect(maps.Values(s.runs))
	s.mu.Unlock()
	matching := []summary{}
	for _, r := range runs {
		r.mu.Lock()
		e := s.summary(&r.record)
		r.mu.Unlock()
		if request.StatusFilter != "" && e.Status != request.StatusFilter {
			continue
		}
		if after == nil || newestFirst(placeOf(e), *after) > 0 {
			matching = append(matching, e)
		}
	}
	slices.SortFunc(matching, func(a, b summary) int { return newestFirst(placeOf(a), placeOf(b)) })
	if len(matching) <= size {
		return listAnswer{Executions: matching}, nil
	}
	return listAnswer{matching[:size], next(placeOf(matching[size-1]))}, nil
}

type historyRequest struct {
	ExecutionARN         string `json:"executionArn"`
	ReverseOrder         bool   `json:"reverseOrder"`
	IncludeExecutionData *bool  `json:"includeExecutionData"`
	page
}

type historyAnswer struct {
	Events    []json.RawMessage `json:"events"`
	NextToken string            `json:"nextToken,omitempty"`
}

// historyPlace is the id of the last event of a page.
type historyPlace struct{ ID int }

func (s *Server) getExecutionHistory(request historyRequest) (historyAnswer, error) {
	if request.IncludeExecutionData != nil && !*request.IncludeExecutionData {
		return historyAnswer{}, invalid("includeExecutionData", "only true is known here")
	}
	size, err := request.size()
	if err != nil {
		return historyAnswer{}, err
	}
	r, err := s.find(request.ExecutionARN)
	if err != nil {
		return historyAnswer{}, err
	}
	var after *historyPlace
	if err := request.resume(&after); err != nil {
		return historyAnswer{}, err
	}
	lines, err := s.history(r)
	if err != nil {
		return historyAnswer{}, err
	}

	// Ids count from 1 without a gap, so that an id tells the place in either
	// order, and stays true while the history grows.
	place := func(id int) int { return id - 1 }
	if request.ReverseOrder {
		slices.Reverse(lines)
		place = func(id int) int { return len(lines) - id }
	}
	from := 0
	if after != nil {
		from = min(max(place(after.ID)+1, 0), len(lines))
	}
	to := min(from+size, len(lines))
	answer := historyAnswer{Events: []json.RawMessage{}}
	for _, line := range lines[from:to] {
		answer.Events = append(answer.Events, line)
	}
	if to < len(lines) {
		last := to
		if request.ReverseOrder {
			last = len(lines) - to + 1
		}
		answer.NextToken = next(historyPlace{last})
	}
	return answer, nil
}
