// Package lipdrop embeds template.yaml, so that the command and the tests read the defaults
// of the parameters from it.
package lipdrop

import _ "embed"

// Template is the text of template.yaml.
//
//go:embed template.yaml
var Template []byte
