// Package test checks the imports between the packages of the project.
package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lipdrop/lipdrop/"

// The deployed functions have no local mode: they import neither the local stack nor a
// fake. They get their settings from the environment, not from the template.
func TestFunctionsImportNothingLocal(t *testing.T) {
	deps := goList(t, "-deps", "./functions/...")
	if len(deps) < 10 {
		t.Fatalf("only %d packages were checked", len(deps))
	}
	for _, dep := range deps {
		path, own := strings.CutPrefix(dep, module)
		if own && (strings.HasPrefix(path, "internal/local") || path == "internal/template" || strings.HasSuffix(path, "test") || strings.HasPrefix(path, "cmd/")) {
			t.Errorf("a function imports %s", dep)
		}
	}
}

// To read one of the packages below, a person needs only the packages listed beside it.
func TestLeavesImportFewPackages(t *testing.T) {
	for leaf, allowed := range map[string][]string{
		"problem": nil, "bucket": nil, "runcomfy": nil,
		"media": {"problem"}, "catalog": {"media", "problem"}, "workflow": {"runcomfy", "problem"},
		"origins": {"workflow", "runcomfy", "problem"}, "transfer": {"origins", "bucket", "workflow", "runcomfy", "problem"},
	} {
		for _, dep := range goList(t, "-deps", "./internal/"+leaf) {
			if name, own := strings.CutPrefix(dep, module+"internal/"); own && name != leaf && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", leaf, dep)
			}
		}
	}
}

// Of the internal packages outside the local stack, only client imports the local stack.
func TestOnlyTheClientImportsLocal(t *testing.T) {
	format := "{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}"
	for _, line := range goList(t, "-f", format, "./internal/...") {
		path, imports, _ := strings.Cut(line, ":")
		allowed := strings.HasPrefix(path, module+"internal/local") || path == module+"internal/client"
		if !allowed && strings.Contains(imports, module+"internal/local") {
			t.Errorf("%s imports the local stack", path)
		}
	}
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
