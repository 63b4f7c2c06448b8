package main

import (
	"encoding/json"
	"os"
)

// writeEnv writes the file that `sam local` takes with --env-vars: the
// variables with which each function of template.yaml reaches a local stack.
// SAM passes on those that the template declares for a function.
func writeEnv(path string, variables map[string]string) error {
	all := map[string]map[string]string{}
	for _, function := range []string{"SubmitFunction", "PollFunction", "ArchiveFunction", "CancelFunction"} {
		all[function] = variables
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
