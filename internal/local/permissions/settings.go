package permissions

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// DefaultSettings returns the settings of submit in a stack whose parameters keep
// their defaults.
func DefaultSettings() drop.Settings {
	settings, err := Settings(nil)
	if err != nil {
		panic(fmt.Sprintf("template.yaml: %v", err)) // the program was built with this template
	}
	return settings
}

// Settings returns the settings of submit in a stack with the given parameters. The
// other parameters keep their defaults.
func Settings(parameters map[string]string) (drop.Settings, error) {
	p, err := Defaults(lipdrop.Template)
	if err != nil {
		return drop.Settings{}, err
	}
	maps.Copy(p, parameters)
	most, err := strconv.Atoi(p["MaxJobsPerDrop"])
	return drop.Settings{
		DefaultVideoModel: p["DefaultVideoModel"], DefaultImageModel: p["DefaultImageModel"],
		SharedFolders: strings.Split(p["SharedFolders"], ","), MaxJobsPerDrop: most,
		RejectMismatch: p["LengthMismatch"] == "reject",
	}, err
}
