// Package permissions tests that the functions need each permission in template.yaml that
// they use themselves, except for their logs. It removes each in turn, and a scenario must
// fail. The handlers run in this process, wired as in their main.go. Each has its own user of
// a real S3 server.
package permissions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// permission is the smallest part of a function's role: one action on one resource.
// For a listing it is also one prefix.
type permission struct{ function, sid, action, on string }

// permissionOf returns the permission of a statement that has only one.
func permissionOf(function string, st permissions.Statement) permission {
	arn := strings.SplitN(st.Resource[0], ":", 6)
	on := arn[len(arn)-1]
	if arn[2] == "s3" { // a bucket has another name in each deployment
		_, key, _ := strings.Cut(on, "/")
		on = strings.Join(append(st.Condition["StringLikeIfExists"]["s3:prefix"], key), "")
	}
	return permission{function, st.Sid, st.Action[0], on}
}

// split returns a role as statements of one permission each.
func split(role permissions.Role) permissions.Role {
	var single permissions.Role
	for _, st := range role {
		for _, action := range st.Action {
			for _, resource := range st.Resource {
				one := permissions.Statement{Sid: st.Sid, Action: []string{action}, Resource: []string{resource}, Condition: st.Condition}
				prefixes := st.Condition["StringLikeIfExists"]["s3:prefix"]
				for _, prefix := range prefixes {
					one.Condition = map[string]map[string]permissions.OneOrMany{"StringLikeIfExists": {"s3:prefix": {prefix}}}
					single = append(single, one)
				}
				if len(prefixes) == 0 {
					single = append(single, one)
				}
			}
		}
	}
	return single
}

// With all permissions of the template, each scenario succeeds and nothing is denied.
// Without any one of them, a scenario fails because the permission is missing. So the
// functions have every permission that they need, and no others.
func TestEachPermissionIsNeeded(t *testing.T) {
	l := openLab(t)
	for _, each := range scenarios {
		t.Run(each.name, func(t *testing.T) {
			err := each.run(l.deploy(t, each, permission{}))
			if denied := l.denials(); err != nil || len(denied) > 0 {
				t.Errorf("%v; denied: %v", err, denied)
			}
		})
	}
	if t.Failed() {
		return
	}
	tried := 0
	for function, role := range l.roles("bucket") {
		for _, st := range split(role) {
			without := permissionOf(function, st)
			tried++
			t.Run(fmt.Sprintf("%s without %s: %s on %s", function, without.sid, without.action, without.on), func(t *testing.T) {
				if fails, err := l.failsWithout(t, without); fails == "" {
					t.Errorf("nothing fails: remove the permission, or add a scenario that needs it")
				} else {
					t.Logf("%s: %v", fails, err)
				}
			})
		}
	}
	if tried < 40 {
		t.Errorf("%d permissions were tried, want at least 40", tried)
	}
}

// failsWithout returns the first scenario that fails without a permission, and its
// error.
func (l *lab) failsWithout(t *testing.T, without permission) (scenario string, err error) {
	t.Helper()
	for _, each := range scenarios {
		if !strings.Contains(each.tries, without.function) {
			continue
		}
		err := each.run(l.deploy(t, each, without))
		if err == nil {
			continue
		}
		denied := slices.ContainsFunc(l.denials(), func(d permissions.Denial) bool {
			return d.User == without.function && d.Action == without.action
		})
		if !denied {
			t.Errorf("%s fails, but not because the permission is missing: %v; denied: %v", each.name, err, l.denials())
		}
		return each.name, err
	}
	return "", nil
}
