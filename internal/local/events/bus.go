package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// maxEntries and maxTotal are EventBridge's limits of one request.
	maxEntries = 10
	maxTotal   = 256 << 10

	// maxRequest bounds a request, in which JSON escapes the detail.
	maxRequest = 2 << 20
)

// Notice is an event of a function, with every member that EventBridge delivers.
type Notice struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       time.Time       `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// Bus serves PutEvents for the default event bus, the only operation of EventBridge
// that the functions call. It does not check signatures: see package access.
type Bus struct {
	Account, Region string
	Now             func() time.Time

	// Receive is called with each event, in the order of the request.
	Receive func(Notice)
}

type entry struct{ Source, DetailType, Detail, EventBusName string }

type result struct {
	EventID      string `json:"EventId,omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

// ServeHTTP serves the API in AWS JSON 1.1. It does not pass on an entry that
// EventBridge would refuse. The response counts these entries.
// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
func (b *Bus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if r.Header.Get("X-Amz-Target") != "AWSEvents.PutEvents" {
		refuse(w, "UnknownOperationException", "the local stack serves only PutEvents")
		return
	}
	var request struct{ Entries []entry }
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		refuse(w, "SerializationException", err.Error())
		return
	}
	total := 0
	for _, e := range request.Entries {
		total += len(e.Source) + len(e.DetailType) + len(e.Detail)
	}
	if n := len(request.Entries); n == 0 || n > maxEntries || total >= maxTotal {
		refuse(w, "ValidationException", fmt.Sprintf("%d entries of %d bytes; at most %d of less than %d are accepted", n, total, maxEntries, maxTotal))
		return
	}
	response := struct {
		FailedEntryCount int
		Entries          []result
	}{}
	for _, e := range request.Entries {
		done := b.receive(e)
		if done.ErrorCode != "" {
			response.FailedEntryCount++
		}
		response.Entries = append(response.Entries, done)
	}
	_ = json.NewEncoder(w).Encode(response)
}

func (b *Bus) receive(e entry) result {
	var object map[string]any
	switch {
	case e.EventBusName != "" && e.EventBusName != "default":
		return result{ErrorCode: "ResourceNotFoundException", ErrorMessage: "there is only the default event bus"}
	case e.Source == "" || e.DetailType == "" || strings.HasPrefix(e.Source, "aws."):
		return result{ErrorCode: "InvalidArgument", ErrorMessage: "the source or the detail type is missing, or is reserved"}
	case json.Unmarshal([]byte(e.Detail), &object) != nil:
		return result{ErrorCode: "MalformedDetail", ErrorMessage: "Detail is malformed."}
	}
	n := Notice{
		Version: "0", ID: uuid.NewString(), DetailType: e.DetailType, Source: e.Source, Account: b.Account, Region: b.Region,
		Time: b.Now().UTC().Truncate(time.Second), Resources: []string{}, Detail: json.RawMessage(e.Detail),
	}
	b.Receive(n)
	return result{EventID: n.ID}
}

func refuse(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
