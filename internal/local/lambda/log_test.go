package lambda_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
)

func TestLogs(t *testing.T) {
	var also buffer
	var dir string
	h := host(t, func(cfg *lambda.Config, _ *lambda.Function) { cfg.Log, dir = &also, cfg.LogDir })
	for _, do := range []string{"hello", "exit"} {
		if _, _, err := invoke(t, h, act{Do: do}); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	text, err := os.ReadFile(filepath.Join(dir, "act.log"))
	if err != nil {
		t.Fatal(err)
	}
	log := requestID.ReplaceAllString(string(text), "RequestId: ID ")
	lines := strings.Split(strings.TrimSpace(log), "\n")
	slices.Sort(lines) // the output of the process and its end come from two goroutines
	want := []string{"last words", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if got := also.String(); !strings.Contains(got, "act last words\n") {
		t.Errorf("the other log has %q", got)
	}
}

type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}
