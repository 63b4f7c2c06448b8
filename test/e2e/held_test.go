package e2e

import (
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// The functions of a local stack hold the second job of a day if MaxJobsPerDay is 1.
func TestCapOnTheStack(t *testing.T) {
	t.Parallel()
	s := start(t, local.Options{Variables: map[string]string{"MAX_JOBS_PER_DAY": "1"}})
	if now := time.Now(); budget.Day(now) != budget.Day(now.Add(patience)) {
		t.Skip("the two jobs may be submitted on different days")
	}
	for _, name := range []string{"one", "two"} {
		s.DropPair(name)
	}
	held := func(st ledger.Status) bool { return st.State == ledger.Held && st.Code == problem.OverBudget }
	states := map[ledger.State]bool{}
	for _, name := range []string{"one", "two"} {
		st := s.Await(name, func(st ledger.Status) bool { return st.State == ledger.Succeeded || held(st) })
		states[st.State] = true
		if st.EstimateUSD == nil {
			t.Errorf("%s has no estimate", name)
		}
	}
	if charges := s.Fake().Charges(); charges != 1 || !states[ledger.Held] || !states[ledger.Succeeded] {
		t.Errorf("%d charges, states %v; want 1, one succeeded and one held", charges, states)
	}
}
