package lambda

import (
	"bytes"
	"io"
	"sync"
)

// log receives the output of the environments of a function, line by line, so that
// lines of two environments do not mix.
type log struct {
	mu sync.Mutex
	to io.Writer
}

// line writes a line, with or without the newline at its end. It ignores errors.
func (l *log) line(text []byte) {
	text = append(bytes.TrimSuffix(text, []byte("\n")), '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.to.Write(text)
}

// maxLine is the size at which a line is written although its end is missing, so that no
// process fills the memory.
const maxLine = 256 << 10

// lines splits the output of one process into lines. One goroutine writes to it.
type lines struct {
	log     *log
	started []byte // beginning of the last line
}

func (w *lines) Write(p []byte) (int, error) {
	w.started = append(w.started, p...)
	for {
		line, rest, ended := bytes.Cut(w.started, []byte("\n"))
		if !ended && len(w.started) < maxLine {
			return len(p), nil
		}
		w.log.line(bytes.Clone(line))
		w.started = append(w.started[:0], rest...)
	}
}

// flush writes the last line if it has no newline.
func (w *lines) flush() {
	if len(w.started) > 0 {
		w.log.line(w.started)
	}
}
