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
	for name, row := range map[string]struct{ body, want string }{
		"no entry":          {`{"Entries": []}`, "ValidationException"},
		"two entries":       {`{"Entries": [` + entry + "," + entry + `]}`, "ValidationException"},
		"more than 256 KiB": {`{"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{\"a\":\"` + strings.Repeat("a", 256<<10) + `\"}"}]}`, "ValidationException"},

		"another bus":       {strings.Replace(`{"Entries": [`+entry+`]}`, `{"Source"`, `{"EventBusName": "other", "Source"`, 1), "SerializationException"},
		"a source of AWS's": {strings.Replace(`{"Entries": [`+entry+`]}`, "lipdrop", "aws.s3", 1), "InvalidArgument"},
		"no detail type":    {strings.Replace(`{"Entries": [`+entry+`]}`, "Job failed", "", 1), "InvalidArgument"},
		"a list as detail":  {strings.Replace(`{"Entries": [`+entry+`]}`, "{}", "[]", 1), "MalformedDetail"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", "AWSEvents.PutEvents")
			w := httptest.NewRecorder()
			(&events.Bus{Now: time.Now, Receive: func(events.Notice) { t.Error("the bus delivered the event, want a refusal") }}).Operations().Handler().ServeHTTP(w, r)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("HTTP status %d: %s, want 400: %s", w.Code, w.Body, row.want)
			}
		})
	}
}
