package runcomfy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// class is what a caller learns from the error of a call.
type class struct {
	ok      bool
	kind    runcomfy.Kind
	notSent bool
}

var (
	succeeded  = class{ok: true}
	noResponse = class{}
	notSent    = class{notSent: true}
)

func of(kind runcomfy.Kind) class { return class{kind: kind} }

func classOf(err error) class {
	v := class{ok: err == nil, notSent: runcomfy.NotSent(err)}
	if e, ok := errors.AsType[*runcomfy.Error](err); ok {
		v.kind = e.Kind()
	}
	return v
}

// common has the faults whose class does not depend on the call.
var common = map[string]class{
	"not sent":                     notSent,
	"reset":                        noResponse,
	"silence":                      noResponse,
	"429":                          of(runcomfy.KindThrottled),
	"429 with Retry-After":         of(runcomfy.KindThrottled),
	"503":                          of(runcomfy.KindUnavailable),
	"503 with Retry-After":         of(runcomfy.KindThrottled),
	"500":                          of(runcomfy.KindUnavailable),
	"502 page":                     of(runcomfy.KindUnavailable),
	"502 huge page":                of(runcomfy.KindUnavailable),
	"504 empty":                    of(runcomfy.KindUnavailable),
	"408":                          of(runcomfy.KindUnavailable),
	"redirect":                     of(runcomfy.KindUnavailable),
	"401":                          of(runcomfy.KindToken),
	"402":                          of(runcomfy.KindBalance),
	"403":                          of(runcomfy.KindToken),
	"token refused under HTTP 401": of(runcomfy.KindToken),
	"token refused under HTTP 400": of(runcomfy.KindToken),
	"token refused under HTTP 200": of(runcomfy.KindToken),
	"200 empty":                    of(runcomfy.KindUnavailable),
	"200 not JSON":                 of(runcomfy.KindUnavailable),
	"200 page":                     of(runcomfy.KindUnavailable),
	"200 without members":          of(runcomfy.KindUnavailable),
	"200 cut off":                  of(runcomfy.KindUnavailable),
	"foreign request":              of(runcomfy.KindForeign),
	"unknown request":              of(runcomfy.KindUnknownRequest),
}

var submitClasses = map[string]class{
	"accepted, then reset":          noResponse,
	"accepted, then silence":        noResponse,
	"accepted, then cut off":        of(runcomfy.KindUnavailable),
	"accepted, then 500":            of(runcomfy.KindUnavailable),
	"accepted, then 502 page":       of(runcomfy.KindUnavailable),
	"accepted, then 503":            of(runcomfy.KindUnavailable),
	"accepted, then 408":            of(runcomfy.KindUnavailable),
	"accepted, then redirect":       of(runcomfy.KindUnavailable),
	"accepted, then empty":          of(runcomfy.KindUnavailable),
	"accepted, then not JSON":       of(runcomfy.KindUnavailable),
	"accepted, then huge page":      of(runcomfy.KindUnavailable),
	"accepted, without an id":       of(runcomfy.KindUnavailable),
	"accepted, with a null id":      of(runcomfy.KindUnavailable),
	"accepted, with an invalid id":  of(runcomfy.KindUnavailable),
	"accepted, with an error code":  of(runcomfy.KindBalance),
	"accepted under HTTP 202":       succeeded,
	"accepted, with only the id":    succeeded,
	"no balance under HTTP 200":     of(runcomfy.KindBalance),
	"no balance under HTTP 400":     of(runcomfy.KindBalance),
	"bad model":                     of(runcomfy.KindBadModel),
	"bad input code under HTTP 200": of(runcomfy.KindBadInput),
	"400":                           of(runcomfy.KindBadInput),
	"404":                           of(runcomfy.KindBadModel),
	"422":                           of(runcomfy.KindBadInput),
}

// wantClass returns the class of a fault from common or more. It returns false if it is in neither.
func wantClass(fault runcomfytest.Fault, way string, more map[string]class) (want class, known bool) {
	if fault.Break == runcomfytest.NotSent && way == "socket" {
		return noResponse, true // only the fake in memory can refuse a connection
	}
	if want, known = common[fault.Name]; !known {
		want, known = more[fault.Name]
	}
	return want, known
}

// ways are the two ways to reach the fake: over a socket and in memory. Each returns a
// client, and a function that waits for the requests under way.
var ways = map[string]func(*runcomfytest.Server) (client *runcomfy.Client, wait func()){
	"socket": func(fake *runcomfytest.Server) (*runcomfy.Client, func()) {
		server := httptest.NewServer(fake)
		return &runcomfy.Client{Token: fixedToken, BaseURL: server.URL}, server.Close
	},
	"in memory": func(fake *runcomfytest.Server) (*runcomfy.Client, func()) {
		return &runcomfy.Client{Token: fixedToken, HTTPClient: &http.Client{Transport: fake.Transport()}}, func() {}
	},
}

// faultyFake returns a fake with one fault for one call, and a context. If the fault is
// Silence, the context ends when that call arrives.
func faultyFake(t *testing.T, call runcomfytest.Call, fault runcomfytest.Fault) (*runcomfytest.Server, context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &runcomfytest.Server{
		Fetch: func(context.Context, string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("clip")), nil
		},
		Fault: func(r *http.Request, _ []byte) *runcomfytest.Fault {
			if made, _ := runcomfytest.CallOf(r); made != call {
				return nil
			}
			if fault.Break == runcomfytest.Silence {
				cancel()
			}
			return &fault
		},
	}, ctx
}

// If the job was charged, Submit returns an id, with or without an error, or an error that leaves open
// whether RunComfy accepted the job.
func TestSubmitFaults(t *testing.T) {
	for _, fault := range runcomfytest.Faults(runcomfytest.CallSubmit) {
		for way, reach := range ways {
			t.Run(fault.Name+", "+way, func(t *testing.T) {
				fake, ctx := faultyFake(t, runcomfytest.CallSubmit, fault)
				client, wait := reach(fake)
				id, err := client.Submit(ctx, "a/b", map[string]any{"video_url": "https://b.example/a.mp4"})
				wait()
				charged := fake.Charges()
				got := classOf(err)
				if want, known := wantClass(fault, way, submitClasses); !known || got != want {
					t.Errorf("%+v, want %+v: %v", got, want, err)
				}
				if charged > 1 || (charged == 1) != fault.Accept {
					t.Errorf("%d charges, want one only if the fault accepts the job: %t", charged, fault.Accept)
				}
				mayBeAccepted := id != "" || !got.notSent && (got.kind == "" || got.kind == runcomfy.KindUnavailable)
				if charged > 0 && !mayBeAccepted {
					t.Errorf("the job was charged, but the error means that RunComfy did not accept the job: %v", err)
				}
			})
		}
	}
}

func TestFaultsOfTheOtherCalls(t *testing.T) {
	otherClasses := map[string]class{
		"no word":                 of(runcomfy.KindUnavailable),
		"no outcome":              of(runcomfy.KindUnavailable),
		"unknown outcome":         of(runcomfy.KindUnavailable),
		"accepted, then reset":    noResponse,
		"accepted, then silence":  noResponse,
		"accepted, then 502 page": of(runcomfy.KindUnavailable),
	}
	for call, do := range calls {
		if call == runcomfytest.CallSubmit {
			continue
		}
		for _, fault := range runcomfytest.Faults(call) {
			for way, reach := range ways {
				t.Run(string(call)+", "+fault.Name+", "+way, func(t *testing.T) {
					fake, ctx := faultyFake(t, call, fault)
					client, wait := reach(fake)
					defer wait()
					id, err := client.Submit(t.Context(), "a/b", map[string]any{"video_url": "https://b.example/a.mp4"})
					if err != nil {
						t.Fatal(err)
					}
					err = do(ctx, client, id)
					want, known := wantClass(fault, way, otherClasses)
					if !known {
						want = succeeded
					}
					if got := classOf(err); got != want {
						t.Errorf("%+v, want %+v: %v", got, want, err)
					}
				})
			}
		}
	}
}
