package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// terminal is a writer whose text a person reads. File names and texts of remote
// servers may contain control sequences, so terminal writes each control and format
// character as an escape such as \x1b. It keeps newlines and tabs; use escapef for
// values that may contain these. It is safe for concurrent use.
type terminal struct {
	w io.Writer

	mu  sync.Mutex
	err error // of the first failed write
}

// messages is where a command writes progress and hints, which are not its results.
type messages struct{ *terminal }

// Write implements io.Writer.
func (t *terminal) Write(p []byte) (int, error) {
	if err := t.raw(escape(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// raw writes a text as it is. The caller must have escaped file names and texts of servers.
func (t *terminal) raw(text string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := io.WriteString(t.w, text)
	if t.err == nil {
		t.err = err
	}
	return err
}

// failed returns the error of the first write that failed.
func (t *terminal) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// size returns the columns and lines of the terminal, 80 and 24 if they cannot be read, or
// zeros if w is not a terminal.
func (t *terminal) size() (columns, lines int) {
	file, ok := t.w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, 0
	}
	columns, lines, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 80, 24
	}
	return columns, lines
}

// canvas does the same as size, but it also returns zeros for a terminal that does not
// interpret control sequences. Such a terminal cannot redraw a line.
func (t *terminal) canvas() (columns, lines int) {
	if os.Getenv("TERM") == "dumb" {
		return 0, 0
	}
	return t.size()
}

// colored reports whether to write colours: see https://no-color.org
func (t *terminal) colored() bool {
	columns, _ := t.canvas()
	return columns > 0 && os.Getenv("NO_COLOR") == ""
}

// newBar shows bytes, speed and the time left of a transfer on a terminal that can redraw.
// Elsewhere, or if total is 0, it shows nothing. The caller reports each number of new bytes
// with add, and stops the bar with end. The bar then stays visible.
func newBar(say *terminal, total int64) (add func(n int64), end func()) {
	if columns, _ := say.canvas(); columns == 0 || total == 0 {
		return func(int64) {}, func() {}
	}
	p := mpb.New(mpb.WithOutput(say.w), mpb.WithWidth(40))
	bar := p.AddBar(total,
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f "), decor.AverageETA(decor.ET_STYLE_GO)))
	return bar.IncrInt64, func() {
		bar.Abort(false)
		p.Wait()
	}
}

// escapef is fmt.Sprintf, but it escapes the arguments (see escape), including newlines.
func escapef(format string, args ...any) string {
	escaped := make([]any, len(args))
	for i, arg := range args {
		escaped[i] = escapedArg{arg}
	}
	return fmt.Sprintf(format, escaped...)
}

// printf prints what escapef returns.
func printf(out io.Writer, format string, args ...any) {
	fmt.Fprint(out, escapef(format, args...))
}

type escapedArg struct{ value any }

// Format implements fmt.Formatter.
func (a escapedArg) Format(s fmt.State, verb rune) {
	_, _ = io.WriteString(s, escape(fmt.Sprintf(fmt.FormatString(s, verb), a.value), ""))
}

// isControl reports whether a terminal may interpret a character.
func isControl(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// escape replaces characters that a terminal may interpret, and bytes that are not
// UTF-8, by Go's escapes. It keeps the characters in keep.
func escape(text, keep string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(text, "") { // a character, or a byte that is not UTF-8
		if r, size := utf8.DecodeRuneInString(part); (isControl(r) || r == utf8.RuneError && size == 1) && !strings.ContainsRune(keep, r) {
			quoted := strconv.QuoteToASCII(part)
			part = quoted[1 : len(quoted)-1]
		}
		b.WriteString(part)
	}
	return b.String()
}
