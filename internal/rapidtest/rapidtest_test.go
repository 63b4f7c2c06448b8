package rapidtest_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/rapidtest"
)

// TestDraws prints what rapid draws, for TestCheck.
func TestDraws(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		t.Logf("drew %d", rapid.Int64().Draw(rt, "number"))
	})
}

func TestCheck(t *testing.T) {
	draws := func(env string, flags ...string) string {
		cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestDraws$", "-test.v"}, flags...)...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RAPID_") })
		if env != "" {
			cmd.Env = append(cmd.Env, env)
		}
		out, err := cmd.CombinedOutput()
		drawn := regexp.MustCompile(`drew -?\d+`).FindAllString(string(out), -1)
		if err != nil || len(drawn) < 50 {
			t.Fatalf("error %v, %d numbers; want no error and at least 50 numbers:\n%s", err, len(drawn), out)
		}
		return strings.Join(drawn, ", ")
	}
	first := draws("")
	if again := draws(""); again != first {
		t.Errorf("two runs without a seed draw different numbers, want the same:\n%s\n%s", first, again)
	}
	for _, other := range []string{
		draws("RAPID_SEED=7"), draws("", "-rapid.seed=8"), draws("RAPID_SEED=0"), draws("", "-rapid.seed=0"),
	} {
		if other == first {
			t.Errorf("a run with another seed draws the same numbers as a run without a seed, want other numbers: %s", other)
		}
	}
	if draws("RAPID_SEED=7") != draws("", "-rapid.seed=7") {
		t.Error("RAPID_SEED=7 and -rapid.seed=7 draw different numbers, want the same")
	}
}
