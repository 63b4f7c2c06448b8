package runcomfytest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/media"
)

// faults are the ways in which each call can fail or get an unusual response.
var faults = map[Call][]Fault{
	CallSubmit:  slices.Concat(submitAccepted, unanswered, refusals, submitRefusals),
	CallStatus:  slices.Concat(statusForms, unanswered, refusals, unusable),
	CallResult:  slices.Concat(resultForms(), unanswered, refusals, unusable),
	CallCancel:  slices.Concat(cancelForms, unanswered, refusals, unusable),
	CallModel:   slices.Concat(priceForms, unanswered, refusals, unusable),
	CallBalance: slices.Concat(unanswered, refusals, unusable),
	CallOutput:  slices.Concat(unanswered, outputFaults),
}

// Faults returns the faults of a call, each with a name that is unique for the call. Of the faults of
// CallSubmit, only those with Accept charge a job.
func Faults(call Call) []Fault { return slices.Clone(faults[call]) }

// FaultNamed returns the fault of a call that has the given name. It panics if there is no such
// fault.
func FaultNamed(call Call, name string) Fault {
	all := Faults(call)
	return all[slices.IndexFunc(all, func(fault Fault) bool { return fault.Name == name })]
}

var (
	hugePage = []byte("<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>" +
		strings.Repeat("<p>The server is having a bad day.</p>\n", 60_000) + "</body></html>")
	page = []byte("<html><head><title>502 Bad Gateway</title></head><body><center>cloudflare</center></body></html>")
)

func retryAfter(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }

func errorBody(code int, text string) []byte {
	return fmt.Appendf(nil, `{"error_code":%d,"error_message":%q}`, code, text)
}

// unanswered are faults with which a request has no effect and gets no response.
var unanswered = []Fault{
	{Name: "not sent", Break: NotSent},
	{Name: "reset", Break: Reset},
	{Name: "silence", Break: Silence},
}

// refusals are faults with which a request has no effect and gets an error or a redirect as
// the response.
var refusals = []Fault{
	{Name: "429", Status: 429, Body: []byte(`{"message":"too many requests"}`)},
	{Name: "429 with Retry-After", Status: 429, Header: retryAfter("7"), Body: []byte(`{"message":"too many requests"}`)},
	{Name: "503", Status: 503, Body: []byte("upstream connect error")},
	{Name: "503 with Retry-After", Status: 503, Header: retryAfter("20"), Body: page},
	{Name: "500", Status: 500},
	{Name: "502 page", Status: 502, Body: page},
	{Name: "502 huge page", Status: 502, Body: hugePage},
	{Name: "504 empty", Status: 504, Body: []byte{}},
	{Name: "408", Status: 408, Body: []byte{}},
	{Name: "redirect", Status: 307, Header: http.Header{"Location": {"https://elsewhere.example/v1?key=secret"}}, Body: []byte{}},
	{Name: "401", Status: 401, Body: []byte(`{"detail":"Not authenticated"}`)},
	{Name: "402", Status: 402, Body: []byte(`{"error":"payment required"}`)},
	{Name: "403", Status: 403, Body: []byte(`{"error":{"message":"forbidden"}}`)},
	{Name: "token refused under HTTP 401", Status: 401, Body: errorBody(400004, "invalid token")},
	{Name: "token refused under HTTP 400", Status: 400, Body: errorBody(400004, "invalid token")},
	{Name: "token refused under HTTP 200", Status: 200, Body: errorBody(400004, "invalid token")},
}

// unusable are faults with which a request has no effect and gets a response that lacks
// what the call asks for.
var unusable = []Fault{
	{Name: "200 empty", Status: 200, Body: []byte{}},
	{Name: "200 not JSON", Status: 200, Body: []byte("ok")},
	{Name: "200 page", Status: 200, Body: page},
	{Name: "200 without members", Status: 200, Body: []byte("{}")},
	{Name: "200 cut off", Status: 200, Break: Truncate},
	{Name: "foreign request", Status: 403, Body: errorBody(403001, "not your request")},
	{Name: "unknown request", Status: 404, Body: errorBody(404001, "request not found")},
}

var submitAccepted = []Fault{
	{Name: "accepted, then reset", Accept: true, Break: Reset},
	{Name: "accepted, then cut off", Accept: true, Break: Truncate},
	{Name: "accepted, then silence", Accept: true, Break: Silence},
	{Name: "accepted, then 500", Accept: true, Status: 500, Body: []byte(`{"message":"internal error"}`)},
	{Name: "accepted, then 502 page", Accept: true, Status: 502, Body: page},
	{Name: "accepted, then 503", Accept: true, Status: 503, Body: []byte{}},
	{Name: "accepted, then 408", Accept: true, Status: 408, Body: []byte{}},
	{Name: "accepted, then redirect", Accept: true, Status: 303, Header: http.Header{"Location": {"/v1/models"}}, Body: []byte{}},
	{Name: "accepted, then empty", Accept: true, Body: []byte{}},
	{Name: "accepted, then not JSON", Accept: true, Body: []byte("ok")},
	{Name: "accepted, then huge page", Accept: true, Body: hugePage},
	{Name: "accepted, without an id", Accept: true, Edit: without("request_id")},
	{Name: "accepted, with a null id", Accept: true, Edit: set("request_id", nil)},
	{Name: "accepted, with an invalid id", Accept: true, Edit: set("request_id", "../models")},
	{Name: "accepted under HTTP 202", Accept: true, Status: 202},
	{Name: "accepted, with an error code", Accept: true, Edit: set("error_code", 400002)},
	{Name: "accepted, with only the id", Accept: true, Edit: without("status_url", "result_url", "cancel_url")},
}

var submitRefusals = []Fault{
	{Name: "no balance under HTTP 200", Status: 200, Body: errorBody(400002, "insufficient balance")},
	{Name: "no balance under HTTP 400", Status: 400, Body: errorBody(400002, "insufficient balance")},
	{Name: "bad model", Status: 400, Body: errorBody(400001, "invalid model id")},
	{Name: "bad input code under HTTP 200", Status: 200, Body: errorBody(400003, "invalid input")},
	{Name: "400", Status: 400, Body: []byte(`{"message":"bad request"}`)},
	{Name: "404", Status: 404, Body: []byte(`{"detail":"Not Found"}`)},
	{Name: "422", Status: 422, Body: []byte(`{"detail":[{"loc":["body","video_url"],"msg":"field required","type":"value_error.missing"}]}`)},
}

// priceForms are faults whose response describes a model without a price that lipdrop can use.
var priceForms = []Fault{
	{Name: "no price", Accept: true, Edit: without("base_price_usd", "price_unit", "pricing_note")},
	{Name: "no unit", Accept: true, Edit: without("price_unit")},
	{Name: "an unknown unit", Accept: true, Edit: set("price_unit", "megapixel")},
	{Name: "a price of 0", Accept: true, Edit: set("base_price_usd", 0)},
	{Name: "a negative price", Accept: true, Edit: set("base_price_usd", -0.05)},
	{Name: "a price as text", Accept: true, Edit: set("base_price_usd", "on request")},
	{Name: "a price in millions", Accept: true, Edit: set("base_price_usd", 1e7)},
}

var statusForms = []Fault{
	{Name: "unknown word", Accept: true, Edit: set("status", "warming_up")},
	{Name: "upper case", Accept: true, Edit: editText("status", strings.ToUpper)},
	{Name: "canceled", Accept: true, Edit: editText("status", spellCanceled)},
	{Name: "succeeded instead of completed", Accept: true, Edit: editText("status", strings.NewReplacer("completed", "succeeded").Replace)},
	{Name: "no queue position", Accept: true, Edit: without("queue_position")},
	{Name: "queue position as text", Accept: true, Edit: set("queue_position", "soon")},
	{Name: "no word", Accept: true, Edit: without("status")},
}

func resultForms() []Fault {
	forms := []Fault{
		{Name: "not ready under HTTP 400", Status: 400, Body: errorBody(400005, "the result is not ready")},
		{Name: "not ready under HTTP 200", Accept: true, Edit: notReady},
		{Name: "unknown word", Accept: true, Edit: set("status", "uploading")},
		{Name: "upper case", Accept: true, Edit: editText("status", strings.ToUpper)},
		{Name: "canceled", Accept: true, Edit: editText("status", spellCanceled)},
		{Name: "completed instead of succeeded", Accept: true, Edit: editText("status", strings.NewReplacer("succeeded", "completed").Replace)},
		{Name: "no word", Accept: true, Edit: without("status")},
		{Name: "error as text beside an error code", Accept: true, Edit: func(members map[string]any) {
			if members["error"] != nil {
				members["error"], members["error_code"] = "face not found", 500100
			}
		}},
		{Name: "no dates and no cost", Accept: true, Edit: without("created_at", "finished_at", "cost")},
	}
	for _, failure := range []struct {
		name  string
		error any
	}{
		{"text", "face not found"},
		{"an object", map[string]any{"code": 17, "message": "face not found"}},
		{"a nested object", map[string]any{"error": map[string]any{"detail": "face not found"}}},
		{"a list of texts", []any{"face not found", "second line"}},
		{"a list of objects", []any{map[string]any{"loc": []any{"video", 0}, "msg": "face not found"}}},
		{"null", nil},
	} {
		forms = append(forms, Fault{Name: "error as " + failure.name, Accept: true, Edit: func(members map[string]any) {
			if members["error"] != nil {
				members["error"] = failure.error
			}
		}})
	}
	for _, shape := range []struct {
		name string
		of   func(u any) any
	}{
		{"a URL", func(u any) any { return u }},
		{"a list of URLs", func(u any) any { return []any{u} }},
		{"videos", func(u any) any { return map[string]any{"videos": []any{u}} }},
		{"images", func(u any) any { return map[string]any{"images": []any{u}} }},
		{"one among others", func(u any) any {
			return map[string]any{
				"video": u, "thumbnail": "https://example.com/t.png",
				"input": map[string]any{"video": "https://example.com/in.mp4"},
			}
		}},
	} {
		forms = append(forms, Fault{Name: "output as " + shape.name, Accept: true, Edit: reshape(shape.of)})
	}
	return forms
}

var cancelForms = []Fault{
	{Name: "accepted, then reset", Accept: true, Break: Reset},
	{Name: "accepted, then silence", Accept: true, Break: Silence},
	{Name: "accepted, then 502 page", Accept: true, Status: 502, Body: page},
	{Name: "accepted under HTTP 200", Accept: true, Status: 200},
	{Name: "upper case", Accept: true, Edit: editText("outcome", strings.ToUpper)},
	{Name: "canceled", Accept: true, Edit: editText("outcome", spellCanceled)},
	{Name: "not cancellable", Status: 202, Body: []byte(`{"status":"in_queue","outcome":"not_cancellable"}`)},
	{Name: "unknown outcome", Status: 202, Body: []byte(`{"status":"in_queue","outcome":"requested"}`)},
	{Name: "no outcome", Accept: true, Edit: without("outcome")},
}

var outputFaults = []Fault{
	{Name: "cut off", Accept: true, Break: Truncate},
	{Name: "500", Status: 500},
	{Name: "503 with Retry-After", Status: 503, Header: retryAfter("2")},
	{Name: "404", Status: 404, Body: []byte("not found")},
}

func spellCanceled(word string) string { return strings.Replace(word, "cancelled", "canceled", 1) }

func set(name string, value any) func(map[string]any) {
	return func(members map[string]any) { members[name] = value }
}

func without(names ...string) func(map[string]any) {
	return func(members map[string]any) {
		for _, name := range names {
			delete(members, name)
		}
	}
}

// editText edits a member if it exists and is a string.
func editText(name string, edit func(string) string) func(map[string]any) {
	return func(members map[string]any) {
		if text, ok := members[name].(string); ok {
			members[name] = edit(text)
		}
	}
}

// notReady turns a result into the result of a job that has not ended. An error response has
// no status, and stays as it is.
func notReady(members map[string]any) {
	if members["status"] == nil {
		return
	}
	members["status"], members["finished_at"] = inProgress, nil
	without("output", "error", "cost")(members)
}

// reshape puts the URL of a job's only output into another form.
func reshape(shape func(u any) any) func(map[string]any) {
	return func(members map[string]any) {
		output, _ := members["output"].(map[string]any)
		for _, kind := range []media.Kind{media.Video, media.Image} {
			if u, ok := output[string(kind)]; ok && len(output) == 1 {
				members["output"] = shape(u)
			}
		}
	}
}
