package world

import (
	"cmp"
	"slices"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// submitCodes lists faults of submit's POST by the problem code that submit then writes. A
// submitted job has no code. After all other faults, the outcome is unknown.
var submitCodes = map[problem.Code][]string{
	"":                        {"accepted under HTTP 202", "accepted, with an error code", "accepted, with only the id"},
	problem.Unreachable:       {"not sent"},
	problem.Throttled:         {"429", "429 with Retry-After", "503 with Retry-After"},
	problem.TokenRefused:      {"401", "403", "token refused under HTTP 401", "token refused under HTTP 400", "token refused under HTTP 200"},
	problem.NoBalance:         {"402", "no balance under HTTP 200", "no balance under HTTP 400"},
	problem.RefusedByRunComfy: {"bad model", "bad input code under HTTP 200", "400", "404", "422", "unknown request"},
	problem.AccountRefused:    {"foreign request"},
}

// AfterSubmit returns the state and the problem code that submit writes after its POST met the
// given fault. The state is submitted, held, rejected or unknown.
func AfterSubmit(fault runcomfytest.Fault) (ledger.State, problem.Code) {
	for code, faults := range submitCodes {
		if slices.Contains(faults, fault.Name) {
			return cmp.Or(ledger.State(code.State()), ledger.Submitted), code
		}
	}
	return ledger.Unknown, problem.OutcomeUnknown
}
