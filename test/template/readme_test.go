package template

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/golden"
)

// README.md has tables of the template's parameters and outputs, in the template's order.
func TestReadmeHasParametersAndOutputs(t *testing.T) {
	s := written(t, withNotices)
	var b strings.Builder
	b.WriteString("\n| parameter | what | default | values |\n| --- | --- | --- | --- |\n")
	for _, name := range members(t, "Parameters") {
		p := s.Parameters[name]
		byDefault := "empty"
		if p.Default != "" {
			byDefault = "`" + fmt.Sprint(p.Default) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, cell(p.Description), byDefault, p.values())
	}
	b.WriteString("\n| output | what |\n| --- | --- |\n")
	for _, name := range members(t, "Outputs") {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, cell(s.Outputs[name].Description))
	}
	b.WriteString("\n")
	golden.CompareBetween(t, root+"/README.md", "<!-- parameters -->", b.String())
}

// fewValues is how many allowed values a cell lists at most. If there are more, the cell has their
// number, the first and the last.
const fewValues = 5

// values returns which values a parameter accepts, or "" if the template does not say.
func (p parameter) values() string {
	switch {
	case p.Type == "Number" && len(p.AllowedValues) == 0:
		return fmt.Sprintf("%g to %g", p.MinValue, p.MaxValue)
	case len(p.AllowedValues) > fewValues:
		return fmt.Sprintf("%d values, from %v to %v", len(p.AllowedValues), p.AllowedValues[0], p.AllowedValues[len(p.AllowedValues)-1])
	case len(p.AllowedValues) > 0:
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(p.AllowedValues), "[]"), " ", ", ")
	}
	return strings.TrimPrefix(p.ConstraintDescription, "must be ")
}

// cell escapes a text for a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// members returns the names in a section of the template, in its order.
func members(t *testing.T, section string) []string {
	t.Helper()
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(lipdrop.Template, &doc); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i, node := range doc[section].Content {
		if i%2 == 0 {
			names = append(names, node.Value)
		}
	}
	if len(names) == 0 {
		t.Fatalf("the template has no %s", section)
	}
	return names
}
