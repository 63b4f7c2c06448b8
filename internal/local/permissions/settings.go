package permissions

import (
	"fmt"
	"maps"
	"strings"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// DefaultSettings returns the settings of submit in a stack whose parameters keep
// their defaults.
func DefaultSettings() drop.Settings {
	settings, err := Settings(nil)
	if err != nil {
		panic(fmt.Sprintf("template.yaml: %v", err)) // the program was built with it
	}
	return settings
}

// Settings returns the settings of submit in a stack with the given parameters. The
// others keep their defaults.
func Settings(parameters map[string]string) (drop.Settings, error) {
	p, err := Defaults(lipdrop.Template)
	if err != nil {
		return drop.Settings{}, err
	}
	maps.Copy(p, parameters)
	var n numbers
	settings := drop.Settings{
		DefaultVideoModel: p["DefaultVideoModel"], DefaultImageModel: p["DefaultImageModel"],
		SharedFolders: strings.Split(p["SharedFolders"], ","), MaxJobsPerDrop: n.parse(p["MaxJobsPerDrop"]),
		RejectMismatch: p["LengthMismatch"] == "reject",
	}
	return settings, n.err
}
