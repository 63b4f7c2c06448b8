package main

import (
	"context"
	"errors"
	"slices"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// The exit codes of the command. docs/command.md describes them.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitCredentials = 3
	exitTimeout     = 4
	exitPerson      = 5
	exitInterrupted = 130
)

// exitError ends the command with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the reason.
func (e *exitError) Unwrap() error { return e.err }

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

// codeOf returns the exit code that the state of one job asks for.
func codeOf(st ledger.Status) int {
	switch st.State {
	case ledger.Succeeded, ledger.Used, ledger.Accepted:
		return 0
	case ledger.Held, ledger.Unknown:
		return exitPerson
	case ledger.Failed, ledger.Rejected, ledger.Cancelled, ledger.Withdrawn:
		return exitFailed
	}
	return exitTimeout
}

// worst returns the exit code of several jobs: a failure counts more than a job that
// needs a person, and that more than a job that continues.
func worst(codes ...int) int {
	for _, code := range []int{exitFailed, exitPerson, exitTimeout} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return 0
}
