package template

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parseGo returns the Go files at a path of the project, or below it, without tests.
func parseGo(t *testing.T, at string) []*ast.File {
	t.Helper()
	var files []*ast.File
	err := filepath.WalkDir(filepath.Join(root, at), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s has no Go files", at)
	}
	return files
}

// A call is an expression of the form receiver.name(args), where receiver is a package or a variable.
type call struct {
	receiver, name string
	args           []ast.Expr
}

// calls returns the calls in some files.
func calls(files []*ast.File) []call {
	var all []call
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			expr, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if fun, ok := expr.Fun.(*ast.SelectorExpr); ok {
				if x, ok := fun.X.(*ast.Ident); ok {
					all = append(all, call{x.Name, fun.Sel.Name, expr.Args})
				}
			}
			return true
		})
	}
	return all
}

// literals returns the names of the fields that each literal of a struct type sets.
func literals(files []*ast.File, structType string) [][]string {
	var all [][]string
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || types.ExprString(lit.Type) != structType {
				return true
			}
			var fields []string
			for _, member := range lit.Elts {
				fields = append(fields, member.(*ast.KeyValueExpr).Key.(*ast.Ident).Name)
			}
			all = append(all, fields)
			return true
		})
	}
	return all
}

// stringLiteral returns the value of a string literal, or false.
func stringLiteral(expr ast.Expr) (string, bool) {
	lit, ok := expr.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(lit.Value)
	return value, err == nil
}

// loggedMessages returns the messages that the code in functions/<function> logs, with their keys. If
// several calls log the same message, it returns only their common keys. If the function sends
// notices, the messages of package notice are included.
func loggedMessages(t *testing.T, function string) map[string]map[string]bool {
	t.Helper()
	messages := map[string]map[string]bool{}
	files := parseGo(t, "functions/"+function)
	if slices.ContainsFunc(files, func(file *ast.File) bool {
		return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return strings.HasSuffix(i.Path.Value, `/internal/notice"`) })
	}) {
		files = append(files, parseGo(t, "internal/notice")...)
	}
	for _, c := range calls(files) {
		args := c.args
		if c.receiver != "slog" || len(args) == 0 {
			continue
		}
		if strings.HasSuffix(c.name, "Context") {
			args = args[1:]
		}
		message, ok := stringLiteral(args[0])
		if !ok {
			continue
		}
		// The logger adds these keys to every line.
		keys := map[string]bool{"message": true, "level": true, "timestamp": true, "requestId": true}
		for i := 1; i < len(args); i += 2 {
			if key, ok := stringLiteral(args[i]); ok {
				keys[key] = true
			}
		}
		if others, ok := messages[message]; ok {
			maps.DeleteFunc(keys, func(key string, _ bool) bool { return !others[key] })
		}
		messages[message] = keys
	}
	if len(messages) == 0 {
		t.Fatalf("%s logs nothing", function)
	}
	return messages
}
