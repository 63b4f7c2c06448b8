package main

import (
	"bytes"
	"errors"
	"testing"
)

func TestEscapef(t *testing.T) {
	tests := []struct {
		name   string
		format string
		arg    any
		want   string
	}{
		{"printable text of any language is kept", "%s", `Grüße 1 "日本" %\ 🙂`, `Grüße 1 "日本" %\ 🙂`},
		{"an escape sequence", "%s", "a\x1b]0;title\x07b", `a\x1b]0;title\ab`},
		{"a newline, a tab and a carriage return", "%s", "a\nb\tc\rd", `a\nb\tc\rd`},
		{"a C1 control character", "%s", "a\u009bb", `a\u009bb`},
		{"a byte that is not UTF-8", "%s", "a\x9bb", `a\x9bb`},
		{"a character that reverses the text after it", "%s", "a\u202egpj.b", `a\u202egpj.b`},
		{"a line separator", "%s", "a\u2028b", `a\u2028b`},
		{"a replacement character in valid UTF-8 is kept", "%s", "a\ufffdb", "a\ufffdb"},
		{"an error", "%v", errors.New("no \x1b"), `no \x1b`},
		{"a number with its width", "%5.1f", 2.25, "  2.2"},
		{"the format's own newline", "%s\n", "a\nb", `a\nb` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := escapef(tt.format, tt.arg); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A terminal escapes the same characters as escapef, except newlines and tabs.
func TestTerminalEscapes(t *testing.T) {
	var out bytes.Buffer
	text := "a\x1b[31m\r\u202e\tb\n"
	if n, err := (&terminal{w: &out}).Write([]byte(text)); err != nil || n != len(text) {
		t.Errorf("wrote %d bytes, error %v; want %d bytes and no error", n, err, len(text))
	}
	if want := `a\x1b[31m\r\u202e` + "\tb\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// The warnings about lengths print 2.05 s as 2.1 s, although the float64 is a little less than 2.05. seconds does the same.
func TestSeconds(t *testing.T) {
	for s, want := range map[float64]string{0: "", 2.05: "2.1 s", 8.45: "8.5 s", 599.95: "10 min 0.0 s"} {
		if got := seconds(s); got != want {
			t.Errorf("seconds(%v) = %q, want %q", s, got, want)
		}
	}
}
