package lambda_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
)

func TestLogs(t *testing.T) {
	var out bytes.Buffer
	h := host(t, func(f *lambda.Function) { f.Log = &out })
	for _, do := range []string{"hello", "exit"} {
		if _, _, err := invoke(t, h, act{Do: do}); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	log := requestID.ReplaceAllString(out.String(), "RequestId: ID ")
	lines := strings.Split(strings.TrimSpace(log), "\n")
	slices.Sort(lines) // one goroutine writes the output of the process, and another writes the failure
	want := []string{"last words", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
