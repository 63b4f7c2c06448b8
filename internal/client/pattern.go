package client

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Pattern selects jobs by their names: one name or, with Prefix, every name that
// begins with Text. The zero value selects nothing.
type Pattern struct {
	Text   string
	Prefix bool
}

// ParsePattern returns the pattern that a person wrote: a name such as ads/talk, or a
// prefix such as ads/ or ads/t*. A \* at the end stands for an asterisk (see problem.NameWord).
func ParsePattern(text string) (Pattern, error) {
	cleaned := norm.NFC.String(text)
	for strings.HasPrefix(cleaned, "./") {
		cleaned = cleaned[len("./"):]
	}
	name, prefix := strings.CutSuffix(cleaned, "*")
	if start, escaped := strings.CutSuffix(name, `\`); prefix && escaped {
		name, prefix = start+"*", false
	}
	prefix = prefix || strings.HasSuffix(cleaned, "/")
	name = strings.TrimPrefix(name, ledger.InboxPrefix)
	if !prefix && name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "//") || slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "." || part == ".." }) {
		return Pattern{}, &UsageError{fmt.Sprintf("%q is not the name of a job: write a name such as ads/talk, or ads/ for all jobs in a folder", text)}
	}
	return Pattern{Text: name, Prefix: prefix}, nil
}

// UnmarshalText is ParsePattern for an argument of the command.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// String returns the pattern as a person writes it.
func (p Pattern) String() string {
	if p.Prefix && !strings.HasSuffix(p.Text, "/") {
		return p.Text + "*"
	}
	return p.Text
}

// Matches reports whether the pattern selects a name.
func (p Pattern) Matches(name string) bool {
	return name == p.Text && name != "" || p.Prefix && strings.HasPrefix(name, p.Text)
}
