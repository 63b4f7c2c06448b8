package events_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

func TestBusRefuses(t *testing.T) {
	const entry = `{"Source": "lipdrop", "DetailType": "Job failed", "Detail": "{}"}`
	for name, row := range map[string]struct {
		target, body, want string
		status             int
	}{
		"another operation": {"AWSEvents.PutRule", `{}`, "UnknownOperationException", http.StatusBadRequest},
		"not JSON":          {"AWSEvents.PutEvents", "<xml>", "SerializationException", http.StatusBadRequest},
		"an unknown member": {"AWSEvents.PutEvents", `{"EndpointId": "e", "Entries": [` + entry + `]}`, "SerializationException", http.StatusBadRequest},
		"no entry":          {"AWSEvents.PutEvents", `{"Entries": []}`, "ValidationException", http.StatusBadRequest},
		"eleven entries":    {"AWSEvents.PutEvents", `{"Entries": [` + strings.Repeat(entry+",", 10) + entry + `]}`, "ValidationException", http.StatusBadRequest},
		"more than 256 KiB": {"AWSEvents.PutEvents", `{"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{\"a\":\"` + strings.Repeat("a", 256<<10) + `\"}"}]}`, "ValidationException", http.StatusBadRequest},

		"another bus":       {"AWSEvents.PutEvents", strings.Replace(`{"Entries": [`+entry+`]}`, `{"Source"`, `{"EventBusName": "other", "Source"`, 1), "ResourceNotFoundException", http.StatusOK},
		"a source of AWS's": {"AWSEvents.PutEvents", strings.Replace(`{"Entries": [`+entry+`]}`, "lipdrop", "aws.s3", 1), "InvalidArgument", http.StatusOK},
		"no detail type":    {"AWSEvents.PutEvents", strings.Replace(`{"Entries": [`+entry+`]}`, "Job failed", "", 1), "InvalidArgument", http.StatusOK},
		"a list as detail":  {"AWSEvents.PutEvents", strings.Replace(`{"Entries": [`+entry+`]}`, "{}", "[]", 1), "MalformedDetail", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", row.target)
			w := httptest.NewRecorder()
			(&events.Bus{Now: time.Now, Receive: func(events.Notice) { t.Error("received") }}).ServeHTTP(w, r)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, row.status, row.want)
			}
		})
	}
}
