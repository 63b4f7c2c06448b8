package runcomfytest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

var allCalls = []runcomfytest.Call{
	runcomfytest.CallSubmit, runcomfytest.CallStatus, runcomfytest.CallResult,
	runcomfytest.CallCancel, runcomfytest.CallModel, runcomfytest.CallBalance, runcomfytest.CallOutput,
}

func TestFaultsAreNamedAndInOneOrder(t *testing.T) {
	for _, call := range allCalls {
		names := map[string]bool{}
		again := runcomfytest.Faults(call)
		for i, fault := range runcomfytest.Faults(call) {
			if fault.Name == "" || names[fault.Name] {
				t.Errorf("%s: the name %q is empty or used twice", call, fault.Name)
			}
			names[fault.Name] = true
			if fault.Name != again[i].Name {
				t.Errorf("%s: the order changes: %q and %q in the same place", call, fault.Name, again[i].Name)
			}
		}
		if len(names) < 6 {
			t.Errorf("%s: %d faults, want at least 6", call, len(names))
		}
	}
	if faults := runcomfytest.Faults(""); faults != nil {
		t.Errorf("%d faults of no call", len(faults))
	}
}

func TestCallOf(t *testing.T) {
	tests := []struct {
		method, path string
		call         runcomfytest.Call
		id           string
	}{
		{"POST", "/v1/models/a/b-1.0/c", runcomfytest.CallSubmit, "a/b-1.0/c"},
		{"GET", "/v1/models/a/b", runcomfytest.CallModel, "a/b"},
		{"GET", "/prod/v2/balance", runcomfytest.CallBalance, ""},
		{"GET", "/v1/requests/r/status", runcomfytest.CallStatus, "r"},
		{"GET", "/v1/requests/r/result?include_cost=true", runcomfytest.CallResult, "r"},
		{"POST", "/v1/requests/r/cancel", runcomfytest.CallCancel, "r"},
		{"GET", "/media/r-1%3D/output/2.mp4", runcomfytest.CallOutput, "r-1"},
		{"GET", "/media/r-1=/output/2.mp4", runcomfytest.CallOutput, ""},
		{"GET", "/v1/requests/r/cancel", "", "r"},
		{"GET", "/v1/models/", "", ""},
		{"GET", "/health", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			if call, id := runcomfytest.CallOf(httptest.NewRequest(tt.method, tt.path, nil)); call != tt.call || id != tt.id {
				t.Errorf("%q %q, want %q %q", call, id, tt.call, tt.id)
			}
		})
	}
}

// received is what a client receives of a response.
type received struct {
	Status int
	Header http.Header
	Body   string
	CutOff bool
	None   bool
}

func receive(t *testing.T, transport http.RoundTripper, method, url string) received {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if method == "POST" || req.URL.Path[:4] == "/v1/" {
		req.Header.Set("Authorization", "Bearer t")
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return received{None: true}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	header := http.Header{}
	for _, name := range []string{"Retry-After", "Location", "Content-Type", "ETag", "Date"} {
		header[name] = res.Header[name]
	}
	return received{Status: res.StatusCode, Header: header, Body: string(body), CutOff: err != nil}
}

// A client of Transport receives the same responses as a client of a socket.
func TestTransportRespondsLikeASocket(t *testing.T) {
	for _, call := range allCalls {
		for _, fault := range append(runcomfytest.Faults(call), runcomfytest.Fault{Name: "ordinary"}) {
			if fault.Break == runcomfytest.Silence {
				continue // a socket is silent until the client gives up
			}
			t.Run(fmt.Sprint(call, ", ", fault.Name), func(t *testing.T) {
				responses := map[string]received{}
				for _, way := range []string{"socket", "in memory"} {
					c := &clock{noon}
					fake := &runcomfytest.Server{Now: c.Now, Fetch: pairFiles().fetch, OutputURL: "http://storage.example"}
					server := httptest.NewServer(fake)
					defer server.Close()
					id := submit(t, clientOf(fake, "t"), pair())
					fake.Fault = func(*http.Request, []byte) *runcomfytest.Fault {
						if fault.Name == "ordinary" {
							return nil
						}
						return &fault
					}
					method, path := "GET", map[runcomfytest.Call]string{
						runcomfytest.CallSubmit:  "/v1/models/a/b",
						runcomfytest.CallModel:   "/v1/models/sync/react-1",
						runcomfytest.CallBalance: "/prod/v2/balance",
						runcomfytest.CallStatus:  "/v1/requests/" + id + "/status",
						runcomfytest.CallResult:  "/v1/requests/" + id + "/result",
						runcomfytest.CallCancel:  "/v1/requests/" + id + "/cancel",
						runcomfytest.CallOutput:  "/media/" + id + "%3D/output/1.mov",
					}[call]
					if call == runcomfytest.CallSubmit || call == runcomfytest.CallCancel {
						method = "POST"
					}
					transport := fake.Transport()
					if way == "socket" {
						transport = http.DefaultTransport
					}
					response := receive(t, transport, method, server.URL+path)
					response.Body = strings.ReplaceAll(response.Body, server.URL, "http://server")
					responses[way] = response
				}
				if diff := cmp.Diff(responses["socket"], responses["in memory"]); diff != "" {
					t.Errorf("(-socket +in memory):\n%s", diff)
				}
			})
		}
	}
}

func TestTransportTracesItsConnections(t *testing.T) {
	tests := []struct {
		name    string
		fault   *runcomfytest.Fault
		want    string
		reached int
	}{
		{"a response", nil, "asked got ", 1},
		{"not sent", &runcomfytest.Fault{Break: runcomfytest.NotSent}, "asked ", 0},
		{"reset", &runcomfytest.Fault{Break: runcomfytest.Reset}, "asked got ", 1},
		{"silence", &runcomfytest.Fault{Break: runcomfytest.Silence}, "asked got ", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := &runcomfytest.Server{Fault: func(*http.Request, []byte) *runcomfytest.Fault { return tt.fault }}
			got := ""
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn: func(string) { got += "asked " },
				GotConn: func(httptrace.GotConnInfo) { got += "got " },
			})
			_, err := clientOf(fake, "t").Status(ctx, "r")
			if got != tt.want || fake.Calls() != tt.reached {
				t.Errorf("traced %q and reached %d, want %q and %d", got, fake.Calls(), tt.want, tt.reached)
			}
			if wantNotSent := tt.reached == 0; runcomfy.NotSent(err) != wantNotSent {
				t.Errorf("not sent %t: %v", runcomfy.NotSent(err), err)
			}
		})
	}
}

func TestAFaultSeesTheRequest(t *testing.T) {
	var seen []string
	fake := &runcomfytest.Server{Fetch: pairFiles().fetch, Fault: func(r *http.Request, body []byte) *runcomfytest.Fault {
		call, id := runcomfytest.CallOf(r)
		seen = append(seen, fmt.Sprint(call, " ", id, " ", string(body)))
		return nil
	}}
	client := clientOf(fake, "t")
	id := submit(t, client, map[string]any{"seed": 1})
	if _, err := client.Result(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"submit " + model + ` {"seed":1}`, "result " + id + " "}, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}
