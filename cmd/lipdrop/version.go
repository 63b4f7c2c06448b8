package main

import (
	"cmp"
	"context"
	"runtime"
	"runtime/debug"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print a JSON object."`
}

// build is what version --json prints.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from files that are not committed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints which lipdrop this is.
func (c *versionCmd) Run(_ context.Context, out *terminal) error {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if c.JSON {
		return writeJSON(out, b)
	}
	commit := cmp.Or(b.Commit, "unknown")
	if b.Modified {
		commit += ", with changes"
	}
	printf(out, "lipdrop %s\ncommit %s\n%s %s\n", b.Version, commit, b.Go, b.Platform)
	return nil
}
