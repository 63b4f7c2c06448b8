package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// The help of each verb has at least two examples.
func TestHelp(t *testing.T) {
	for field := range reflect.TypeFor[cli]().Fields() {
		verb := strings.ToLower(field.Name)
		t.Run(verb, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), []string{verb, "--help"}, &out, &out); code != 0 {
				t.Fatalf("exit code %d: %s", code, &out)
			}
			if n := strings.Count(out.String(), "\n    lipdrop "+verb); n < 2 {
				t.Errorf("%d examples, want at least 2", n)
			}
		})
	}
}
