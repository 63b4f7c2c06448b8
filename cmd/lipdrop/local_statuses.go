package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// printEvery is how often printStatuses lists the statuses.
const printEvery = time.Second

// printStatuses prints each status and each answer file that changes from now on, until ctx
// ends. If listings fail one after the other with the same error, it prints the error once.
func printStatuses(ctx context.Context, stack *client.Client, say func(string)) {
	seen, last := map[string]string{}, ""
	for first := true; ; first = false {
		var errs []error
		for _, folder := range []string{client.StatusPrefix, client.AnswerPrefix} {
			changed, err := stack.Changes(ctx, folder, seen, client.Pattern{Prefix: true})
			errs = append(errs, err)
			for _, st := range changed {
				if !first {
					say(lineOf(st))
				}
			}
		}
		text := ""
		if err := errors.Join(errs...); err != nil {
			text = err.Error()
		}
		if workflow.Sleep(ctx, printEvery) != nil {
			return
		}
		if text != last && text != "" {
			say(escapef("%s", text))
		}
		last = text
	}
}

// lineOf returns a status in a line, and each of its outputs in a line of its own.
func lineOf(st client.Status) string {
	about := client.Describe(st.Status)
	if st.State == "" {
		about = unreadable
	}
	if st.Jobs != nil {
		about += " by " + strings.Join(st.Jobs, ", ")
	}
	lines := []string{escapef("%s  %s: %s", time.Now().Format(time.TimeOnly), st.Name, about)}
	for _, output := range st.Outputs {
		lines = append(lines, escapef("          %s", output))
	}
	return strings.Join(lines, "\n")
}
