package lambda

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// log receives the output of the environments of a function, line by line, so that
// lines of two environments do not mix.
type log struct {
	name string
	also io.Writer

	mu   sync.Mutex
	file *os.File
}

func openLog(cfg Config, name string) (*log, error) {
	if err := os.MkdirAll(cfg.LogDir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(cfg.LogDir, name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &log{name: name, also: cfg.Log, file: file}, nil
}

func (l *log) close() { _ = l.file.Close() }

// line writes a line, with or without the newline at its end. It ignores errors.
func (l *log) line(text []byte) {
	text = append(bytes.TrimSuffix(text, []byte("\n")), '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.Write(text)
	if l.also != nil {
		_, _ = l.also.Write(append([]byte(l.name+" "), text...))
	}
}

// maxLine is the longest line that is kept whole, as in a log of Lambda.
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
