package runcomfytest_test

import (
	"net/http/httptest"
	"testing"

	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// Each fault of a call has a name of its own, so FaultNamed finds each fault.
func TestFaultsHaveNames(t *testing.T) {
	for _, call := range []runcomfytest.Call{
		runcomfytest.CallSubmit, runcomfytest.CallStatus, runcomfytest.CallResult,
		runcomfytest.CallCancel, runcomfytest.CallModel, runcomfytest.CallBalance, runcomfytest.CallOutput,
	} {
		names := map[string]bool{}
		for _, fault := range runcomfytest.Faults(call) {
			if fault.Name == "" || names[fault.Name] {
				t.Errorf("%s: the name %q is empty or used twice, want a unique name", call, fault.Name)
			}
			names[fault.Name] = true
		}
		if len(names) < 6 {
			t.Errorf("%s: %d faults, want at least 6", call, len(names))
		}
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
		{"GET", "/media/r-1=/output/2.mp4", runcomfytest.CallOutput, ""}, // a client must not change the %3D
		{"GET", "/v1/requests/r/cancel", "", ""},
		{"DELETE", "/v1/models/a/b", "", ""},
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
