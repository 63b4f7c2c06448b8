package states

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxEventData is how many bytes of escaped input and output EventBridge takes:
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
const maxEventData = 248 << 10

// statusEvent is the event "Step Functions Execution Status Change" as
// EventBridge delivers it. Dates within the detail are milliseconds since 1970.
type statusEvent struct {
	Version    string       `json:"version"`
	ID         string       `json:"id"`
	DetailType string       `json:"detail-type"`
	Source     string       `json:"source"`
	Account    string       `json:"account"`
	Time       string       `json:"time"`
	Region     string       `json:"region"`
	Resources  []string     `json:"resources"`
	Detail     statusDetail `json:"detail"`
}

type statusDetail struct {
	ExecutionARN           string    `json:"executionArn"`
	StateMachineARN        string    `json:"stateMachineArn"`
	Name                   string    `json:"name"`
	Status                 Status    `json:"status"`
	StartDate              int64     `json:"startDate"`
	StopDate               *int64    `json:"stopDate"`
	Input                  *string   `json:"input"`
	Output                 *string   `json:"output"`
	StateMachineVersionARN *string   `json:"stateMachineVersionArn"`
	StateMachineAliasARN   *string   `json:"stateMachineAliasArn"`
	RedriveCount           int       `json:"redriveCount"`
	RedriveDate            *int64    `json:"redriveDate"`
	RedriveStatus          string    `json:"redriveStatus"`
	RedriveStatusReason    *string   `json:"redriveStatusReason"`
	InputDetails           included  `json:"inputDetails"`
	OutputDetails          *included `json:"outputDetails"`
	Error                  *string   `json:"error"`
	Cause                  *string   `json:"cause"`
}

// included says whether data is in an answer.
type included struct {
	Included bool `json:"included"`
}

// notify hands the status of an execution to OnStatus, soon. The caller holds
// the execution's lock, or is the only one that knows it: so events of one
// execution keep their order.
func (s *Server) notify(r *record) {
	if s.OnStatus != nil {
		s.notices.add([]byte(compact(s.statusEvent(r))))
	}
}

func (s *Server) statusEvent(r *record) statusEvent {
	x := r.Execution
	parts := strings.Split(s.ARN, ":")
	arn := s.executionARN(r.Name)
	status, reason := redriveStatus(&x, s.now())
	detail := statusDetail{
		ExecutionARN:        arn,
		StateMachineARN:     s.ARN,
		Name:                r.Name,
		Status:              x.Status,
		StartDate:           x.StartedAt.UnixMilli(),
		StopDate:            milliseconds(x.StoppedAt),
		Input:               &x.Input,
		RedriveCount:        x.RedriveCount,
		RedriveDate:         milliseconds(x.RedrivenAt),
		RedriveStatus:       status,
		RedriveStatusReason: optional(reason),
		InputDetails:        included{true},
		Error:               optional(x.Error),
		Cause:               optional(x.Cause),
	}
	if x.Status == Succeeded {
		detail.Output, detail.OutputDetails = &x.Output, &included{true}
	}
	if len(compact(x.Input))+len(compact(x.Output)) > maxEventData {
		detail.Input, detail.InputDetails = nil, included{}
	}
	if len(compact(x.Output)) > maxEventData {
		detail.Output, detail.OutputDetails = nil, &included{}
	}
	return statusEvent{
		Version:    "0",
		ID:         newUUID(),
		DetailType: "Step Functions Execution Status Change",
		Source:     "aws.states",
		Account:    parts[4],
		Time:       s.now().Format(time.RFC3339),
		Region:     parts[3],
		Resources:  []string{arn},
		Detail:     detail,
	}
}

// redriveStatus is what DescribeExecution says about a redrive now. The reason
// is empty when there may be one.
func redriveStatus(x *Execution, now time.Time) (status, reason string) {
	if err := x.Redrivable(now); err != nil {
		return "NOT_REDRIVABLE", err.Error()
	}
	return "REDRIVABLE", ""
}

func milliseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// notices is a queue of events that one goroutine hands over, in order, so that
// no execution waits for whoever takes them.
type notices struct {
	mu     sync.Mutex
	some   sync.Cond
	queue  [][]byte
	closed bool
	done   sync.WaitGroup
}

func (n *notices) start(handle func([]byte)) {
	n.some.L = &n.mu
	n.done.Go(func() {
		for {
			event, ok := n.next()
			if !ok {
				return
			}
			handle(event)
		}
	})
}

func (n *notices) next() ([]byte, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) == 0 && !n.closed {
		n.some.Wait()
	}
	if len(n.queue) == 0 {
		return nil, false
	}
	event := n.queue[0]
	n.queue = n.queue[1:]
	return event, true
}

func (n *notices) add(event []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, event)
	n.some.Signal()
}

// close returns when what was added before has been handed over.
func (n *notices) close() {
	n.mu.Lock()
	n.closed = true
	if n.some.L != nil {
		n.some.Signal()
	}
	n.mu.Unlock()
	n.done.Wait()
}
