package events

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

// maxEvent is EventBridge's limit for the size of one request, in bytes. A request must be
// smaller.
const maxEvent = 256 << 10

// Notice is an event that a function sent, as EventBridge delivers the event.
type Notice = events.EventBridgeEvent

// Bus is the default event bus.
type Bus struct {
	Account, Region string
	Now             func() time.Time

	// Receive is called with each event.
	Receive func(Notice)
}

// Operations returns PutEvents, the only operation of EventBridge that the functions
// call. A request must have one event, because the functions send one at a time.
// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
func (b *Bus) Operations() awsjson.Operations {
	return awsjson.Operations{"AWSEvents.PutEvents": awsjson.Operation(b.putEvents)}
}

func (b *Bus) putEvents(request struct {
	Entries []struct{ Source, DetailType, Detail string }
}) (any, error) {
	if n := len(request.Entries); n != 1 {
		return nil, awsjson.Errorf("ValidationException", "%d events; the local stack accepts one in a request", n)
	}
	e := request.Entries[0]
	var object map[string]any
	switch size := len(e.Source) + len(e.DetailType) + len(e.Detail); {
	case size >= maxEvent:
		return nil, awsjson.Errorf("ValidationException", "an event of %d bytes; EventBridge accepts less than %d", size, maxEvent)
	case e.Source == "" || e.DetailType == "" || strings.HasPrefix(e.Source, "aws."):
		return nil, awsjson.Errorf("InvalidArgument", "the source or the detail type is missing, or the source begins with aws., which is reserved")
	case json.Unmarshal([]byte(e.Detail), &object) != nil:
		return nil, awsjson.Errorf("MalformedDetail", "Detail is malformed.")
	}
	n := Notice{
		Version: "0", ID: uuid.NewString(), DetailType: e.DetailType, Source: e.Source, AccountID: b.Account, Region: b.Region,
		Time: b.Now().UTC().Truncate(time.Second), Resources: []string{}, Detail: json.RawMessage(e.Detail),
	}
	b.Receive(n)
	return map[string]any{"FailedEntryCount": 0, "Entries": []any{map[string]string{"EventId": n.ID}}}, nil
}
