package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/sys/unix"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// openTerminal opens a pseudo-terminal of the given size. It also returns a function that
// closes the terminal and returns what was printed on it.
func openTerminal(t *testing.T, columns, lines uint16) (tty *os.File, printed func() string) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = ptmx.Close() })
	fd := int(ptmx.Fd())
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	number := 0
	if err == nil {
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines})
	}
	if err != nil {
		t.Skip(err)
	}
	return tty, func() string {
		_ = tty.Close()
		body, _ := io.ReadAll(ptmx) // ends with an error when the terminal is closed
		return strings.ReplaceAll(string(body), "\r\n", "\n")
	}
}

// The state of a job has a colour, whatever the job's name and however narrow the terminal.
func TestBoardColors(t *testing.T) {
	text.EnableColors() // go-pretty reads NO_COLOR and TERM only when the test binary starts
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	for columns, state := range map[uint16]string{80: text.FgRed.Sprint("failed"), 10: text.FgRed.Sprint("fa") + "…"} {
		want := "a: b: " + state + "\n"
		tty, printed := openTerminal(t, columns, 24)
		b := newBoard(&terminal{w: tty}, false)
		if err := b.change(jobIn("a: b", ledger.Failed)); err != nil {
			t.Fatal(err)
		}
		b.close(false)
		if out := printed(); !strings.Contains(out, want) {
			t.Errorf("drawn: %q, want %q in it", out, want)
		}
	}
}

// On a dumb terminal, the board prints a line for each change, without control sequences.
func TestBoardOnADumbTerminal(t *testing.T) {
	t.Setenv("TERM", "dumb")
	tty, printed := openTerminal(t, 80, 24)
	b := newBoard(&terminal{w: tty}, false)
	if err := b.change(jobIn("a", ledger.Succeeded)); err != nil {
		t.Fatal(err)
	}
	b.close(false)
	if out := printed(); out != "a: succeeded\n" {
		t.Errorf("printed %q, want only the line of the job", out)
	}
}

// Each row of a table fits into one line of the terminal. States have colours, unless NO_COLOR is set.
func TestTableOnATerminal(t *testing.T) {
	text.EnableColors() // go-pretty reads NO_COLOR and TERM only when the test binary starts
	rows := [][]string{
		{"ads/talk", "failed", "3m00s", strings.Repeat("no face was found, ", 10)},
		{"ads/" + strings.Repeat("a-long-name-", 10), "succeeded", "2h00m", "1 output, ok"},
		{"ads/a\x1b[2J", "held", strings.Repeat("1s ", 10), "x"}, // a wide column that is not the first
	}
	for _, noColor := range []string{"", "1"} {
		for _, columns := range []uint16{40, 80, 200} {
			t.Run(fmt.Sprintf("%d columns, NO_COLOR=%s", columns, noColor), func(t *testing.T) {
				t.Setenv("NO_COLOR", noColor)
				t.Setenv("TERM", "xterm")
				tty, printed := openTerminal(t, columns, 24)
				printTable(&terminal{w: tty}, []string{"NAME", "STATE", "AGE", "DETAIL"}, 2, rows)
				out := printed()
				for line := range strings.Lines(out) {
					if width := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); width > int(columns) {
						t.Errorf("a line has %d columns, want at most %d: %q", width, columns, line)
					}
				}
				if n := strings.Count(out, "\n"); n != len(rows)+1 {
					t.Errorf("%d lines, want %d:\n%s", n, len(rows)+1, out)
				}
				if red := text.FgRed.Sprint("failed"); strings.Contains(out, red) == (noColor != "") || strings.Contains(out, "\x1b[2J") {
					t.Errorf("want a red state only without NO_COLOR, and no control character of a name: %q", out)
				}
			})
		}
	}
}

// The table of costs shows each cost, even in a narrow terminal.
func TestCostsOnANarrowTerminal(t *testing.T) {
	tty, printed := openTerminal(t, 40, 24)
	groups := []costs{{Group: strings.Repeat("a-long-name-", 10), Jobs: 100, Seconds: 1000, EstimateUSD: 10, CostUSD: 12.25}}
	printCosts(&terminal{w: tty}, "folder", groups, groups[0])
	if out := printed(); strings.Count(out, "$12.25") != 2 {
		t.Errorf("want the cost of the folder and the total in:\n%s", out)
	}
}

// If a person interrupts the question, the error is printed on a new line.
func TestQuestionInterrupted(t *testing.T) {
	in, _ := openTerminal(t, 80, 24)
	stdin := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = stdin }()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	tty, printed := openTerminal(t, 80, 24)
	err := new(dropCmd).ask(ctx, 1, messages{&terminal{w: tty}})
	if got := printed(); err == nil || got != "Start 1 job? [y/N] \n" {
		t.Errorf("printed %q, error %v; want the question and the end of its line, and an error", got, err)
	}
}
