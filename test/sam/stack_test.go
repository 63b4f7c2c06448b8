package sam

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/localtest"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// stack is a running local stack, in the folder that the README's commands use.
type stack struct {
	*localtest.Stack
	t *testing.T
}

func start(t *testing.T, sam *samCLI, o local.Options) *stack {
	t.Helper()
	o.Dir = filepath.Join(sam.dir, ".lipdrop")
	o.Containers = true
	t.Cleanup(func() {
		if err := os.RemoveAll(o.Dir); err != nil {
			t.Error(err)
		}
	})
	running := localtest.Start(t, o)
	err := errors.Join(running.WriteEnv(filepath.Join(o.Dir, "env.json")), os.WriteFile(filepath.Join(o.Dir, "credentials.sh"), []byte(running.Credentials()), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return &stack{running, t}
}

// record returns the only record of a name.
func (s *stack) record(name string) ledger.Record {
	s.t.Helper()
	var body []byte
	var records []string
	for _, key := range s.List("jobs/" + name + "/") {
		body, _ = s.Object(key)
		records = append(records, key+": "+string(body))
	}
	if len(records) != 1 {
		s.t.Fatalf("%s has the records %q, want one", name, records)
	}
	var rec ledger.Record
	if err := json.Unmarshal(body, &rec); err != nil {
		s.t.Fatal(err)
	}
	return rec
}

func (s *stack) wantStatus(name string, state ledger.State, code problem.Code) {
	s.t.Helper()
	if st := s.Status(name); st.State != state || st.Code != code {
		s.t.Errorf("the status of %s is %+v, want %s %s", name, st, state, code)
	}
}

// await waits until the status of a name has the given state and code.
func (s *stack) await(name string, state ledger.State, code problem.Code) ledger.Status {
	s.t.Helper()
	return s.Await(name, func(st ledger.Status) bool { return st.State == state && st.Code == code })
}

// wantCharges checks how many jobs the fake RunComfy has charged. It also checks that RunComfy
// could fetch each input of these jobs by the URL that a container presigned.
func (s *stack) wantCharges(want int) {
	s.t.Helper()
	if got := s.Fake().Charges(); got != want {
		s.t.Fatalf("%d jobs were charged, want %d", got, want)
	}
	for _, job := range s.Fake().Submitted() {
		if job.FetchError != "" {
			s.t.Errorf("RunComfy could not fetch an input of %s: %s", job.RequestID, job.FetchError)
		}
	}
}
