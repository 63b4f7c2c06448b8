// Package permissions is what template.yaml lets each function do, for the parts
// of the local stack that hold the functions to it: the S3 server by a bucket
// policy, Step Functions and Secrets Manager by a Guard.
//
// Of the statements those about S3, Step Functions and Secrets Manager are kept.
// The others are about what services do in a function's name: its log and its
// queue.
package permissions

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Role is what a function may do, and nothing else.
type Role []Statement

// Statement allows actions on resources, as a statement of a policy of AWS does.
type Statement struct {
	Sid       string
	Action    OneOrMany
	Resource  OneOrMany
	Condition map[string]map[string]OneOrMany `json:",omitempty"` // by operator and key
}

// OneOrMany is a string or a list of them, as policies have it.
type OneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *OneOrMany) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		return json.Unmarshal(text, (*[]string)(l))
	}
	*l = make(OneOrMany, 1)
	return json.Unmarshal(text, &(*l)[0])
}

// Denial says that a user was refused what its role does not allow.
type Denial struct {
	User     string // a function's name
	Action   string // such as s3:GetObject
	Resource string // an ARN
	Prefix   string // of what was to be listed
}

func (d *Denial) Error() string {
	about := d.Resource
	if d.Prefix != "" {
		about += " with the prefix " + d.Prefix
	}
	return fmt.Sprintf("%s may not %s on %s: no statement of its role in template.yaml allows it", d.User, d.Action, about)
}

// BucketPolicy returns the policy of a bucket in which each user may do what the
// statements of its role about S3 say, conditions included. A user is named by its
// access key, as versitygw names them.
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

// allows reports whether a role allows an action on a resource, by a statement
// without conditions.
func (r Role) allows(action, resource string) bool {
	return slices.ContainsFunc(r, func(st Statement) bool {
		return st.Condition == nil && matches(st.Action, action) && matches(st.Resource, resource)
	})
}

// matches reports whether a text is as one of some patterns, in which a * stands
// for anything.
func matches(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(text)
	})
}
