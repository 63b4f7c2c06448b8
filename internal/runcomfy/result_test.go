package runcomfy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

func TestResult(t *testing.T) {
	got, err := respondingJSON(t, 200, `{"request_id":"r","status":"succeeded","model_id":"a/b","cost":0.42,
		"output":{"video":"https://f.example/a%3Db/v.mp4"},"error":null,
		"created_at":"2026-05-01T10:00:00.5Z","finished_at":"2026-05-01T12:01:00+02:00"}`).Result(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	want := runcomfy.Result{
		State:      runcomfy.ResultSucceeded,
		Outputs:    []string{"https://f.example/a%3Db/v.mp4"},
		CostUSD:    new(0.42),
		CreatedAt:  time.Date(2026, 5, 1, 10, 0, 0, 500_000_000, time.UTC),
		FinishedAt: time.Date(2026, 5, 1, 10, 1, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestResultWords(t *testing.T) {
	tests := []struct {
		word  string
		want  runcomfy.ResultStatus
		ended bool
	}{
		{"succeeded", runcomfy.ResultSucceeded, true},
		{"SUCCEEDED", runcomfy.ResultSucceeded, true},
		{"completed", runcomfy.ResultSucceeded, true},
		{"Completed", runcomfy.ResultSucceeded, true},
		{"failed", runcomfy.ResultFailed, true},
		{"cancelled", runcomfy.ResultCancelled, true},
		{"Canceled", runcomfy.ResultCancelled, true},
		{"in_queue", runcomfy.ResultInQueue, false},
		{"in_progress", runcomfy.ResultInProgress, false},
		{"Uploading", "uploading", false},
	}
	for _, tt := range tests {
		t.Run(tt.word, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"`+tt.word+`"}`).Result(t.Context(), "r")
			if err != nil || got.State != tt.want || got.State.Ended() != tt.ended {
				t.Errorf("%q, ended %t, error %v; want %q, %t", got.State, got.State.Ended(), err, tt.want, tt.ended)
			}
		})
	}
}

func TestUnfinishedResultIsNoError(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
	}{
		{"HTTP 400 with the code", 400, `{"error_code":400005,"error_message":"not completed"}`},
		{"HTTP 200 with the code", 200, `{"error_code":400005}`},
		{"failed, with the code", 200, `{"request_id":"r","status":"failed","error_code":400005}`},
		{"the code as text", 400, `{"error_code":"400005"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, tt.status, tt.body).Result(t.Context(), "r")
			if err != nil || got.State == "" || got.State.Ended() || got.Failure != "" {
				t.Errorf("state %q, failure %q, error %v; want a state that has not ended, and no failure", got.State, got.Failure, err)
			}
		})
	}
	t.Run("HTTP 400 without the code is an error", func(t *testing.T) {
		if got, err := respondingJSON(t, 400, `{"status":"in_progress"}`).Result(t.Context(), "r"); err == nil {
			t.Errorf("state %q, want an error", got.State)
		}
	})
}

func TestOutputsComeOnlyFromOutput(t *testing.T) {
	const a, b, c, d = "https://f.example/a.mp4", "https://f.example/b.mp4", "https://f.example/c.png", "https://f.example/d.png"
	tests := []struct {
		name, output string
		want         []string
	}{
		{"video", `{"video":"` + a + `"}`, []string{a}},
		{"videos", `{"videos":["` + a + `","` + b + `"]}`, []string{a, b}},
		{"image", `{"image":"` + c + `"}`, []string{c}},
		{"images", `{"images":["` + c + `","` + d + `"]}`, []string{c, d}},
		{"all four members, in the documented order", `{"images":["` + d + `"],"image":"` + c + `","videos":["` + b + `"],"video":"` + a + `"}`, []string{a, b, c, d}},
		{"a list instead of one URL, and one URL instead of a list", `{"video":["` + a + `"],"videos":"` + b + `"}`, []string{a, b}},
		{"a URL in two members", `{"video":"` + a + `","videos":["` + a + `","` + b + `"]}`, []string{a, b}},
		{"output is a URL", `"` + a + `"`, []string{a}},
		{"output is a list of URLs", `["` + b + `","` + a + `"]`, []string{b, a}},
		{"the escaped path is kept", `"https://f.example/x%3D%3D/a%20b%2Fc.mp4"`, []string{"https://f.example/x%3D%3D/a%20b%2Fc.mp4"}},
		{"the query is kept", `{"video":"https://f.example/a.mp4?sig=1&x=%2B"}`, []string{"https://f.example/a.mp4?sig=1&x=%2B"}},
		{"other members are ignored", `{"input":{"video":"` + a + `"},"audio":"` + b + `","video_url":"` + c + `"}`, nil},
		{"white space around a URL", `{"video":" ` + a + `\n","videos":["` + a + `","` + b + ` "]}`, []string{a, b}},
		{"elements of a list that are not URLs", `["` + a + `",7,null,"",{"url":"` + b + `"},"done"]`, []string{a}},
		{"not a URL", `{"video":"a.mp4","image":"data:image/png;base64,AA=="}`, nil},
		{"null", `null`, nil},
		{"empty", `{}`, nil},
		{"a number", `3`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"completed","video":"https://f.example/echo.mp4",
				"input":{"video_url":"https://f.example/in.mp4"},"output":`+tt.output+`}`).Result(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			if got.State != runcomfy.ResultSucceeded {
				t.Errorf("state %q, want succeeded", got.State)
			}
			if diff := cmp.Diff(tt.want, got.Outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
		})
	}
}

// A warning counts the outputs that are not URLs, except null and "".
func TestOutputsThatAreNotURLs(t *testing.T) {
	for output, want := range map[string]string{
		`{"video":"https://f.example/a.mp4","videos":[null,""],"audio":7}`: "",
		`["https://f.example/a.mp4",7,{"url":"b"},"done",null]`:            "outputs not fetched because they are not URLs: 3 of 4",
		`{"video":{"url":"https://f.example/a.mp4"}}`:                      "outputs not fetched because they are not URLs: 1 of 1",
	} {
		got, err := respondingJSON(t, 200, `{"status":"succeeded","output":`+output+`}`).Result(t.Context(), "r")
		if warnings := strings.Join(got.Warnings, "; "); err != nil || warnings != want {
			t.Errorf("%s: error %v, warnings %q; want %q", output, err, warnings, want)
		}
	}
}

func TestFailureOfAJob(t *testing.T) {
	tests := []struct {
		name, members string
		want          string
	}{
		{"text", `"error":"face not found"`, "face not found"},
		{"object with a message", `"error":{"code":7,"message":"no face"}`, "no face"},
		{"object in an object", `"error":{"error":{"detail":"no face"}}`, "no face"},
		{"object without a message", `"error":{"code":7}`, `{"code":7}`},
		{"list of texts", `"error":["no face","no sound"]`, "no face; no sound"},
		{"list of objects", `"error":[{"loc":["video",0],"msg":"no face"}]`, "video.0: no face"},
		{"an empty object", `"error":{}`, ""},
		{"null", `"error":null`, ""},
		{"absent", `"x":1`, ""},
		{"empty text", `"error":""`, ""},
		{"number", `"error":500`, "500"},
		{"true beside a message", `"error":true,"message":"no face"`, "no face"},
		{"object with true beside a message", `"error":{"error":true,"reason":"no face"}`, "no face"},
		{"in another member", `"message":"no face"`, "no face"},
		{"with line breaks and control characters", `"error":"no\n\tface\u0000"`, "no face"},
		{"with characters that change the direction of text, and a noncharacter", `"error":"\u202eno\u2066face\uffff"`, "no face"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"failed",`+tt.members+`}`).Result(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			want := runcomfy.Result{State: runcomfy.ResultFailed, Failure: tt.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailureHoldsNoSecret(t *testing.T) {
	const signed = "https://b.s3.amazonaws.com/inbox/talk%20one.mp4?X-Amz-Algorithm=A&X-Amz-Signature=5f5f"
	tests := []struct{ name, error string }{
		{"a presigned URL with JSON escapes", `"could not fetch https:\/\/b.example\/a.mp4\u003fX-Amz-Expires=9\u0026a=1"`},
		{"a query without its URL", `{"message":"retries exceeded with url: /inbox/talk.mp4?X-Amz-Expires=9 (timeout)"}`},
		{"a percent-encoded URL", `"https%3A%2F%2Fb.example%2Fa.mp4%3FX-Amz-Expires%3D9"`},
		{"a member's name", `{"` + signed + `":"not found"}`},
		{"deep in a list", `[{"a":[{"b":"` + signed + `"}]}]`},
		{"a member that occurs twice", `{"message":"` + signed + `","message":"fine"}`},
		{"after a number that is too large", `[1e999,"` + signed + `"]`},
		{"the token", `{"message":"bad token ` + canary + `"}`},
		{"a key beside a parameter that looks like one of AWS", `"could not fetch https://files.example/a.mp4?X-Amz-fake&key=5f5f"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"failed","error":`+tt.error+`}`).Result(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			if text := got.Failure; strings.Contains(strings.ToLower(text), "x-amz-") || strings.Contains(text, canary) || strings.Contains(text, "5f5f") {
				t.Errorf("failure %q, want no secret in it", text)
			}
		})
	}
	t.Run("the URL without its query stays", func(t *testing.T) {
		got, err := respondingJSON(t, 200, `{"status":"failed","error":"could not fetch `+signed+`: 403"}`).Result(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		if want := "could not fetch https://b.s3.amazonaws.com/inbox/talk%20one.mp4 403"; got.Failure != want {
			t.Errorf("%q, want %q", got.Failure, want)
		}
	})
}

func TestTimesAndCost(t *testing.T) {
	cost := func(raw string) string {
		return "the cost " + raw + " that RunComfy reports is not a number of US dollars from 0 to below 10000, so it is not recorded"
	}
	outside := func(time, member string) string {
		return "the time " + time + " that RunComfy reports for " + member + " is outside the years 0 to 9999, so it is not recorded"
	}
	tests := []struct {
		name, members string
		want          runcomfy.Result
	}{
		{"none", `"x":1`, runcomfy.Result{}},
		{"null", `"created_at":null,"cost":null`, runcomfy.Result{}},
		{"a time without a zone", `"created_at":"2026-05-01T10:00:00.25"`, runcomfy.Result{CreatedAt: time.Date(2026, 5, 1, 10, 0, 0, 250_000_000, time.UTC)}},
		{"a time with a space for the T", `"finished_at":"2026-05-01 10:00:00"`, runcomfy.Result{FinishedAt: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)}},
		{"not a time", `"created_at":"yesterday","finished_at":17`, runcomfy.Result{}},
		{"nothing to pay", `"cost":0`, runcomfy.Result{CostUSD: new(0.0)}},
		{"a cost as text", `"cost":"0.42"`, runcomfy.Result{CostUSD: new(0.42)}},
		{"a cost that is not a number", `"cost":"NaN"`, runcomfy.Result{Warnings: []string{cost(`"NaN"`)}}},
		{"a cost of NaN", `"cost":NaN`, runcomfy.Result{}},
		{"a cost in another form", `"cost":{"usd":1}`, runcomfy.Result{Warnings: []string{cost(`{"usd":1}`)}}},
		{"a negative cost", `"cost":-5`, runcomfy.Result{Warnings: []string{cost("-5")}}},
		{"a cost that is too large for a float64", `"cost":1e400`, runcomfy.Result{Warnings: []string{cost("1e400")}}},
		{"a cost just below the limit", `"cost":9999.99`, runcomfy.Result{CostUSD: new(9999.99)}},
		{"a cost at the limit", `"cost":10000`, runcomfy.Result{Warnings: []string{cost("10000")}}},
		{"the last second of the year 9999", `"created_at":"9999-12-31T23:59:59Z"`, runcomfy.Result{CreatedAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}},
		{"a time after the year 9999 in UTC", `"created_at":"9999-12-31T23:59:59-01:00"`, runcomfy.Result{Warnings: []string{outside("9999-12-31T23:59:59-01:00", "created_at")}}},
		{"a time before the year 0 in UTC", `"finished_at":"0000-01-01T00:00:00+01:00"`, runcomfy.Result{Warnings: []string{outside("0000-01-01T00:00:00+01:00", "finished_at")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondingJSON(t, 200, `{"status":"cancelled",`+tt.members+`}`).Result(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			tt.want.State = runcomfy.ResultCancelled
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResultOfAnotherRequest(t *testing.T) {
	for body, want := range map[string]string{
		`{"status":"succeeded","request_id":"r"}`:                 "",
		`{"status":"succeeded"}`:                                  "",
		`{"status":"succeeded","request_id":"s"}`:                 "of request s when asked for r;",
		`{"status":"succeeded","request_id":"s\n` + canary + `"}`: "of request s [token] when asked for r;",
	} {
		got, err := respondingJSON(t, 200, body).Result(t.Context(), "r")
		if text := strings.Join(got.Warnings, ""); err != nil || !strings.Contains(text, want) || (want == "") != (text == "") {
			t.Errorf("%s: error %v, warnings %q; want %q", body, err, text, want)
		}
	}
}

// Result ignores an error code about the job, but not a code about the call, such as a bad token. It
// ignores a code only if the response has HTTP 2xx and the request's id, and also says failed or
// cancelled, or has an output.
func TestFailureWithAnErrorCode(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string // the failure; empty if the code is not ignored
	}{
		{"a code of a server error", 200, `{"request_id":"r","status":"failed","error_code":500100,"error_message":"no face"}`, "no face"},
		{"a code about the input, and an error", 200, `{"request_id":"r","status":"FAILED","error_code":422001,"error":{"message":"no face"}}`, "no face"},
		{"a word as code", 200, `{"request_id":"r","status":"failed","error_code":"E_FACE","message":"no face"}`, "no face"},
		{"no balance", 200, `{"request_id":"r","status":"failed","error_code":400002,"error_message":"no balance"}`, "no balance"},
		{"a bad token", 200, `{"request_id":"r","status":"failed","error_code":400004}`, ""},
		{"an unknown request", 200, `{"request_id":"r","status":"failed","error_code":404001}`, ""},
		{"the id of another request", 200, `{"request_id":"s","status":"failed","error_code":500100}`, ""},
		{"no request id", 200, `{"status":"failed","error_code":500100}`, ""},
		{"HTTP 500", 500, `{"request_id":"r","status":"failed","error_code":500100}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := respondingJSON(t, tt.status, tt.body)
			ended := tt.want != ""
			result, err := client.Result(t.Context(), "r")
			if result.Failure != tt.want || result.State.Ended() != ended || (err == nil) != ended {
				t.Errorf("state %q, failure %q, error %v; want the failure %q, ended %t and an error %t", result.State, result.Failure, err, tt.want, ended, !ended)
			}
			if status, err := client.Status(t.Context(), "r"); status.State.Ended() != ended || (err == nil) != ended {
				t.Errorf("status %q, error %v; want ended %t and an error %t", status.State, err, ended, !ended)
			}
		})
	}
	t.Run("completed, without an output", func(t *testing.T) {
		got, err := respondingJSON(t, 200, `{"request_id":"r","status":"completed","error_code":500100}`).Result(t.Context(), "r")
		if err == nil || got.State.Ended() || got.Failure != "" {
			t.Errorf("state %q, failure %q, error %v; want an error", got.State, got.Failure, err)
		}
	})
	t.Run("an output", func(t *testing.T) {
		got, err := respondingJSON(t, 200, `{"request_id":"r","status":"succeeded","output":"https://f.example/a.mp4","error_code":500100}`).Result(t.Context(), "r")
		if err != nil || got.State != runcomfy.ResultSucceeded || len(got.Outputs) != 1 {
			t.Errorf("state %q, outputs %q, error %v; want succeeded with one output", got.State, got.Outputs, err)
		}
	})
}

// If a job has ended, Status ignores an error code about the job, because only /result says how the job ended.
func TestEndWithAnErrorCode(t *testing.T) {
	const body = `{"request_id":"r","status":"%s","error_code":%d,"error_message":"boom"}`
	for _, word := range []string{"completed", "Succeeded", "canceled", "failed"} {
		if got, err := respondingJSON(t, 200, fmt.Sprintf(body, word, 500100)).Status(t.Context(), "r"); err != nil || !got.State.Ended() {
			t.Errorf("/status says %q: state %q, error %v; want an end", word, got.State, err)
		}
		for _, code := range []int{400004, 400005, 403001, 404001} {
			if got, err := respondingJSON(t, 200, fmt.Sprintf(body, word, code)).Status(t.Context(), "r"); err == nil {
				t.Errorf("/status says %q with the code %d: state %q, want an error", word, code, got.State)
			}
		}
	}
	for _, word := range []string{"in_progress", "in_queue", "other"} {
		if got, err := respondingJSON(t, 200, fmt.Sprintf(body, word, 500100)).Status(t.Context(), "r"); err == nil {
			t.Errorf("/status says %q: state %q, want an error", word, got.State)
		}
	}
	if got, err := respondingJSON(t, 200, fmt.Sprintf(body, "cancelled", 500100)).Result(t.Context(), "r"); err != nil || got.State != runcomfy.ResultCancelled {
		t.Errorf("/result says cancelled: state %q, error %v", got.State, err)
	}
}
