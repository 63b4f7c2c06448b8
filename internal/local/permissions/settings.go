package permissions

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// DefaultSettings returns the settings of submit in a stack whose parameters keep
// their defaults.
func DefaultSettings() drop.Settings {
	p, err := Defaults(lipdrop.Template)
	var n numbers
	settings := drop.Settings{
		DefaultVideoModel: p["DefaultVideoModel"], DefaultImageModel: p["DefaultImageModel"],
		SharedFolders: strings.Split(p["SharedFolders"], ","), MaxJobsPerDrop: n.parse(p["MaxJobsPerDrop"]),
		RejectMismatch: p["LengthMismatch"] == "reject",
	}
	if err = errors.Join(err, n.err); err != nil {
		panic(fmt.Sprintf("template.yaml: %v", err)) // the program was built with it
	}
	return settings
}
