package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

// A webhook on another machine is refused before anything is started.
func TestWebhookOfAnotherMachine(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"local", "--dir", t.TempDir(), "--webhook", "https://example.com/hook"}, &out, &errs)
	if code == 0 || !strings.Contains(errs.String(), "example.com is not an address of this machine") || out.Len() > 0 {
		t.Errorf("exit code %d, want one other than 0, and only an error about the address; printed:\n%s%s", code, &out, &errs)
	}
}

func TestLineOfANotice(t *testing.T) {
	n := events.Notice{DetailType: "Job failed", Detail: []byte(`{"name": "ads/ta\nlk", "state": "failed"}`)}
	if got, want := describeNotice(n), `notice: Job failed, about ads/ta\nlk`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
