package lambda

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// log takes the output of a function's environments, line by line, so that
// those of two environments do not mix.
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

// line writes a line, which may lack its end. Where it cannot be written there
// is nobody to tell.
func (l *log) line(text []byte) {
	text = append(bytes.TrimSuffix(text, []byte("\n")), '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.Write(text)
	if l.also != nil {
		_, _ = l.also.Write(append([]byte(l.name+" "), text...))
	}
}

// maxLine bounds what is kept of a line that does not end: Lambda's limit for
// an event in its log.
const maxLine = 256 << 10

// lines is the output of one process. It is written to from one goroutine.
type lines struct {
	log     *log
	started []byte // the beginning of the line that has not ended
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

// flush writes the last line, should it not have ended.
func (w *lines) flush() {
	if len(w.started) > 0 {
		w.log.line(w.started)
	}
}
