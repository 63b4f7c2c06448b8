package world

import (
	"cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// submitCodes maps the name of a fault of CallSubmit to the code of the status that
// follows. The code is empty if submit records the job as submitted. After a fault that is
// not listed, the outcome is unknown.
var submitCodes = map[string]problem.Code{
	"accepted as 202":              "",
	"accepted, with an error code": "",
	"accepted, with only the id":   "",

	"not sent":             problem.Unreachable,
	"429":                  problem.Throttled,
	"429 with Retry-After": problem.Throttled,
	"503 with Retry-After": problem.Throttled,
	"401":                  problem.TokenRefused,
	"403":                  problem.TokenRefused,
	"token refused as 401": problem.TokenRefused,
	"token refused as 400": problem.TokenRefused,
	"token refused as 200": problem.TokenRefused,
	"402":                  problem.NoBalance,
	"no balance as 200":    problem.NoBalance,
	"no balance as 400":    problem.NoBalance,

	"bad model":             problem.RefusedByRunComfy,
	"bad input code as 200": problem.RefusedByRunComfy,
	"400":                   problem.RefusedByRunComfy,
	"404":                   problem.RefusedByRunComfy,
	"422":                   problem.RefusedByRunComfy,
	"unknown request":       problem.RefusedByRunComfy,

	"foreign request": problem.AccountRefused,
}

// AfterSubmit returns the state and the code of the status after submit's POST met the given
// fault. The state is submitted, held, rejected or unknown.
func AfterSubmit(fault runcomfytest.Fault) (ledger.State, problem.Code) {
	code, listed := submitCodes[fault.Name]
	if !listed {
		return ledger.Unknown, problem.OutcomeUnknown
	}
	return cmp.Or(ledger.State(code.State()), ledger.Submitted), code
}
