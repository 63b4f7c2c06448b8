package local

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// readMachine reads the state machine that is deployed, from the root of the
// checkout.
func readMachine(root string) (*states.Machine, error) {
	definition, err := os.ReadFile(filepath.Join(root, "statemachine.asl.json"))
	if err != nil {
		return nil, err
	}
	machine, err := states.Parse(definition, map[string]string{
		"Partition":          "aws",
		"PollFunctionArn":    functionARN(poll),
		"ArchiveFunctionArn": functionARN(archive),
	})
	if err != nil {
		return nil, fmt.Errorf("statemachine.asl.json: %w", err)
	}
	return machine, nil
}

func functionARN(name string) string {
	return "arn:aws:lambda:" + Region + ":" + Account + ":function:" + name
}
