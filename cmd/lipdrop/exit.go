package main

import (
	"context"
	"errors"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// The exit codes of the command. docs/command.md describes them.
const (
	exitFailed        = 1
	exitUsage         = 2
	exitCredentials   = 3
	exitTimeout       = 4
	exitHeldOrUnknown = 5
	exitInterrupted   = 130
)

// exitError makes the command end with an exit code.
type exitError struct {
	code int
	error
}

// exitCode returns the exit code of a command that ended with err.
func exitCode(ctx context.Context, err error) int {
	var exit *exitError
	var usage *client.UsageError
	var credentials *client.CredentialsError
	var denied *client.DeniedError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &credentials), errors.As(err, &denied):
		return exitCredentials
	}
	return exitFailed
}

// exitCodeOf returns the exit code for one status.
func exitCodeOf(st ledger.Status) int {
	switch st.State {
	case ledger.Succeeded, ledger.Used, ledger.Accepted:
		return 0
	case ledger.Held, ledger.Unknown:
		return exitHeldOrUnknown
	case ledger.Failed, ledger.Rejected, ledger.Cancelled, ledger.Withdrawn:
		return exitFailed
	}
	return exitTimeout
}

// worstExitCode returns the exit code for several jobs: exitFailed if one has it, else exitHeldOrUnknown,
// else exitTimeout, else 0.
func worstExitCode(jobs map[string]client.Status) int {
	for _, code := range []int{exitFailed, exitHeldOrUnknown, exitTimeout} {
		for _, st := range jobs {
			if exitCodeOf(st.Status) == code {
				return code
			}
		}
	}
	return 0
}
