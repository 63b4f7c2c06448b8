package problem_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Every constant of the type Code has one row in the table, with a meaning and a remedy.
// Every constant is used by another package.
func TestEveryCodeHasARow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[problem.Code]int{}
	for _, info := range problem.Codes() {
		rows[info.Code]++
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(string(info.Code)) {
			t.Errorf("%q is not in snake_case", info.Code)
		}
		for what, text := range map[string]string{"meaning": info.Meaning, "remedy": info.Remedy} {
			if !strings.HasSuffix(text, ".") || strings.ToUpper(text[:1]) != text[:1] && !strings.HasPrefix(text, "job.json") {
				t.Errorf("the %s of %s is not a sentence with a full stop: %q", what, info.Code, text)
			}
		}
	}
	code := sources(t)
	consts := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		if ident, ok := spec.Type.(*ast.Ident); !ok || ident.Name != "Code" {
			return true
		}
		consts++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || rows[problem.Code(value)] != 1 {
			t.Errorf("%s has %d rows, want 1", value, rows[problem.Code(value)])
		}
		// Package workflow has error types with the names of constants. A use of such a type is a use of the constant.
		if name := spec.Names[0].Name; !regexp.MustCompile(`\b(problem|workflow)\.` + name + `\b`).MatchString(code) {
			t.Errorf("no package uses %s", name)
		}
		return true
	})
	if consts != len(rows) {
		t.Errorf("%d constants and %d rows, want the same number", consts, len(rows))
	}
}

// sources returns the Go code of the functions, the command and the packages, without tests.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"functions", "cmd", "internal"} {
		err := fs.WalkDir(os.DirFS("../.."), dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(filepath.Join("../..", path))
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// docs/codes.md consists of this introduction and the table of codes.
func TestDocumentOfCodes(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Codes\n\nEvery status that is `waiting`, `rejected`, `held`, `withdrawn`, `failed`, `cancelled` or `unknown` has one of these codes " +
		"and a `reason`. The list is closed, so a program can act on a code. The remedy of a status may be more specific than the one in the table. NAME stands for the job's name, and FILE " +
		"for the file that starts the job again: the audio of a pair, the job.json of a bundle, or the file that a wildcard matched. In an answer file (`answers/…`), FILE is the file that the answer file is about. " +
		"The remedy for a match of a wildcard may also say: \"" + problem.AllMatches + "\"\n\n" +
		"If a job is `failed`, and RunComfy cancelled it before it started, its remedy is the same for every code: \"" + problem.NotChargedRemedy + "\"\n\n" +
		"`UPDATE_GOLDEN=1 go test ./internal/problem` writes this table from internal/problem/codes.go.\n\n" +
		"| code | state | meaning | remedy |\n| --- | --- | --- | --- |\n")
	for _, info := range problem.Codes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", info.Code, info.State, info.Meaning, info.Remedy)
	}
	golden.Compare(t, "../../docs/codes.md", b.String())
}
