package template

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Role is the list of what a function may do. It leaves out statements that the local stack does
// not check: for example, a Deny for other accounts, and what lets Lambda write the function's log
// and read its queues.
type Role []Statement

// Statement allows actions on resources, as a statement of an IAM policy does.
type Statement struct {
	Sid       string
	Action    OneOrMany
	Resource  OneOrMany
	Condition map[string]map[string]OneOrMany `json:",omitempty"` // by operator and condition key
}

// OneOrMany is a string or a list of strings, as in policies.
type OneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *OneOrMany) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		return json.Unmarshal(text, (*[]string)(l))
	}
	*l = make(OneOrMany, 1)
	return json.Unmarshal(text, &(*l)[0])
}

// BucketPolicy returns a bucket policy for versitygw: the S3 statements of each role, with their
// conditions. The map users has the role of each versitygw user, by the user's access key.
func BucketPolicy(users map[string]Role) ([]byte, error) {
	type statement struct {
		Statement
		Effect    string
		Principal map[string]string
	}
	var statements []statement
	for _, user := range slices.Sorted(maps.Keys(users)) {
		for _, st := range users[user] {
			if strings.HasPrefix(st.Action[0], "s3:") {
				statements = append(statements, statement{st, "Allow", map[string]string{"AWS": user}})
			}
		}
	}
	return json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
}

// Allows reports whether a role allows an action on a resource, in a request whose
// condition keys have the given values.
func (r Role) Allows(action, resource string, values map[string][]string) bool {
	return slices.ContainsFunc(r, func(st Statement) bool {
		return st.conditionsMet(values) && matches(st.Action, action) && matches(st.Resource, resource)
	})
}

// conditionsMet reports whether the conditions of a statement are met. It knows only
// StringEquals, and treats a condition with another operator as not met.
func (st Statement) conditionsMet(values map[string][]string) bool {
	for operator, keys := range st.Condition {
		for key, allowed := range keys {
			refused := func(value string) bool { return !slices.Contains(allowed, value) }
			if operator != "StringEquals" || len(values[key]) == 0 || slices.ContainsFunc(values[key], refused) {
				return false
			}
		}
	}
	return true
}

// matches reports whether a text matches one of the patterns, in which a * stands
// for any characters.
func matches(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(text)
	})
}
