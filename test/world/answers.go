package world

import (
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// submitEnds says, by design.md §5, what must follow a fault of a submit, by
// the fault's name. What is not listed leaves the outcome unknown.
var submitEnds = map[string]ledger.Code{
	"accepted as 202":             "",
	"accepted, with the id alone": "",

	"not sent":             ledger.Unreachable,
	"429":                  ledger.Throttled,
	"429 with Retry-After": ledger.Throttled,
	"503 with Retry-After": ledger.Throttled,
	"401":                  ledger.TokenRefused,
	"403":                  ledger.TokenRefused,
	"token refused as 401": ledger.TokenRefused,
	"token refused as 400": ledger.TokenRefused,
	"token refused as 200": ledger.TokenRefused,
	"402":                  ledger.NoBalance,
	"no balance as 200":    ledger.NoBalance,
	"no balance as 400":    ledger.NoBalance,

	"bad model":             ledger.RefusedByRunComfy,
	"bad input code as 200": ledger.RefusedByRunComfy,
	"400":                   ledger.RefusedByRunComfy,
	"404":                   ledger.RefusedByRunComfy,
	"422":                   ledger.RefusedByRunComfy,
	"unknown request":       ledger.RefusedByRunComfy,

	"foreign request": ledger.AccountRefused,
}

// AfterSubmit returns the state and the code that a fault of a submit leaves
// behind at once: submitted, held, rejected or unknown.
func AfterSubmit(fault runcomfytest.Fault) (ledger.State, ledger.Code) {
	code, listed := submitEnds[fault.Name]
	if !listed {
		return ledger.Unknown, ledger.OutcomeUnknown
	}
	for _, info := range ledger.Codes() {
		if info.Code == code {
			return info.State, code
		}
	}
	return ledger.Submitted, ""
}
