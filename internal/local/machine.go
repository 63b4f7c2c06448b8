package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// readMachine reads the state machine that is deployed. A wait above 0 replaces
// the time of its Wait states: the functions choose that for jobs that take
// minutes, and the fake's may take seconds.
func readMachine(root string, wait time.Duration) (*states.Machine, error) {
	definition, err := os.ReadFile(filepath.Join(root, "statemachine.asl.json"))
	if err == nil && wait > 0 {
		definition, err = withWait(definition, wait)
	}
	if err != nil {
		return nil, err
	}
	machine, err := states.Parse(definition, map[string]string{
		"PollFunctionArn":    functionARN(poll),
		"ArchiveFunctionArn": functionARN(archive),
	})
	if err != nil {
		return nil, fmt.Errorf("statemachine.asl.json: %w", err)
	}
	return machine, nil
}

// withWait returns a definition whose Wait states take the same time, in whole
// seconds, at least one.
func withWait(definition []byte, wait time.Duration) ([]byte, error) {
	var machine map[string]any
	if err := json.Unmarshal(definition, &machine); err != nil {
		return nil, fmt.Errorf("statemachine.asl.json: %w", err)
	}
	all, _ := machine["States"].(map[string]any)
	for _, each := range all {
		if state, ok := each.(map[string]any); ok && state["Type"] == "Wait" {
			state["Seconds"] = max(int(wait.Seconds()), 1)
		}
	}
	return json.Marshal(machine)
}
