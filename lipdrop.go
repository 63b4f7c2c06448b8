// Package lipdrop holds template.yaml, the one place for the defaults of the
// parameters, for the command and the tests.
package lipdrop

import _ "embed"

// Template is the text of template.yaml.
//
//go:embed template.yaml
var Template []byte
