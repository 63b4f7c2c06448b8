package local

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// The lines of a function are in its log, and in Options.Log after the function's name. An
// error of Options.Log does not keep them out of the log.
func TestFunctionLog(t *testing.T) {
	var also bytes.Buffer
	s := &Stack{options: Options{Dir: t.TempDir()}}
	for _, s.options.Log = range []io.Writer{&also, nil, closedPipe{}} {
		log, err := s.functionLog(submit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.closers[len(s.closers)-1])
		if _, err := io.WriteString(log, "a line\n"); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(s.path("logs", "submit.log"))
	if string(text) != "a line\na line\na line\n" || err != nil || also.String() != "submit a line\n" {
		t.Errorf("the log has %q (%v), Options.Log %q", text, err, also.String())
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errors.New("closed") }
