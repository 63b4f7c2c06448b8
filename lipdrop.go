// Package lipdrop embeds template.yaml and statemachine.asl.json. The command reads the defaults
// of the parameters from the template. The tests check both files and run the state machine.
package lipdrop

import _ "embed"

// Template is the text of template.yaml.
//
//go:embed template.yaml
var Template []byte

// Machine is the text of statemachine.asl.json.
//
//go:embed statemachine.asl.json
var Machine []byte
