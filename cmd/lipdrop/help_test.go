package main

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/golden"
)

// The help of each verb has at least two examples.
func TestHelp(t *testing.T) {
	verbs := []string{""}
	for field := range reflect.TypeFor[cli]().Fields() {
		verbs = append(verbs, strings.ToLower(field.Name))
	}
	for _, verb := range verbs {
		t.Run(verb, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), strings.Fields(verb+" --help"), &out, &out); code != 0 {
				t.Fatalf("exit code %d: %s", code, &out)
			}
			if verb == "" {
				golden.Compare(t, filepath.Join("testdata", "help", "lipdrop.txt"), out.String())
				return
			}
			golden.Compare(t, filepath.Join("testdata", "help", verb+".txt"), out.String())
			if n := strings.Count(out.String(), "\n    lipdrop "+verb); n < 2 {
				t.Errorf("%d examples, want at least 2", n)
			}
		})
	}
}
