// Package permissions tests the roles of the functions in template.yaml. The roles must allow
// everything that the functions do in the scenarios. If any one permission is removed, a
// scenario must fail. The permissions with which AWS itself writes a function's log and reads
// its queue are not tested. The handlers run in this process, wired as in their main.go. Each
// handler has its own user of a real S3 server.
//
// The package also tests the permissions that docs/iam.md lists for people.
package permissions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/template"
)

// permission is the smallest part of a function's role: one action on one resource and, for
// a listing, with one prefix.
type permission struct{ function, sid, action, on string }

// permissionOf returns the only permission of a statement.
func permissionOf(function string, st template.Statement) permission {
	arn := strings.SplitN(st.Resource[0], ":", 6)
	on := arn[len(arn)-1]
	if arn[2] == "s3" { // the key or the prefix, without the bucket's name, which differs between deployments
		_, key, _ := strings.Cut(on, "/")
		on = key + strings.Join(st.Condition["StringLikeIfExists"]["s3:prefix"], "")
	}
	return permission{function, st.Sid, st.Action[0], on}
}

// split returns a role as statements of one permission each.
func split(role template.Role) template.Role {
	var single template.Role
	for _, st := range role {
		for _, action := range st.Action {
			for _, resource := range st.Resource {
				one := template.Statement{Sid: st.Sid, Action: []string{action}, Resource: []string{resource}, Condition: st.Condition}
				prefixes := st.Condition["StringLikeIfExists"]["s3:prefix"]
				for _, prefix := range prefixes {
					one.Condition = map[string]map[string]template.OneOrMany{"StringLikeIfExists": {"s3:prefix": {prefix}}}
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

func TestEachPermissionIsNeeded(t *testing.T) {
	l := openLab(t)
	for _, each := range scenarios {
		t.Run(each.name, func(t *testing.T) {
			d := l.deploy(t, each, permission{})
			err := attempt(func() { each.run(d) })
			if denied := l.denials(); err != nil || len(denied) > 0 {
				t.Errorf("error %v, denied %v; want neither", err, denied)
			}
		})
	}
	if t.Failed() {
		return
	}
	tried := 0
	for function, role := range l.roles(t, "bucket") {
		for _, st := range split(role) {
			without := permissionOf(function, st)
			tried++
			t.Run(fmt.Sprintf("%s without %s: %s on %s", function, without.sid, without.action, without.on), func(t *testing.T) {
				if fails, err := l.failsWithout(t, without); fails == "" {
					t.Errorf("no scenario fails: remove the permission from template.yaml, or add a scenario that needs it")
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

// failsWithout returns the name of the first scenario that fails without a permission, and
// the scenario's error.
func (l *lab) failsWithout(t *testing.T, without permission) (scenario string, err error) {
	t.Helper()
	for _, each := range scenarios {
		if !strings.Contains(each.functions, without.function) {
			continue
		}
		d := l.deploy(t, each, without)
		err := attempt(func() { each.run(d) })
		if err == nil {
			continue
		}
		denied := slices.ContainsFunc(l.denials(), func(d access.Denial) bool {
			return d.User == without.function && d.Action == without.action
		})
		if !denied {
			t.Errorf("%s fails, but not because the permission is missing: %v; denied: %v", each.name, err, l.denials())
		}
		return each.name, err
	}
	return "", nil
}
