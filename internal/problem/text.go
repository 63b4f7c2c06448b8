package problem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxShown is how many code points of a stranger's text a reason repeats.
const maxShown = 120

// List joins words with commas, and the last two with a conjunction.
func List(words []string, conjunction string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + conjunction + " " + words[n]
}

// Length writes the length of a file or of an output with one decimal. Below ten minutes it
// writes only seconds, such as 4.0 s; otherwise it writes 12 min 5.5 s or 1 h 0 min 5.5 s.
func Length(d time.Duration) string {
	d = d.Round(100 * time.Millisecond)
	hours, minutes, seconds := d/time.Hour, d%time.Hour/time.Minute, (d % time.Minute).Seconds()
	switch {
	case hours > 0:
		return fmt.Sprintf("%d h %d min %.1f s", hours, minutes, seconds)
	case d >= 10*time.Minute:
		return fmt.Sprintf("%d min %.1f s", minutes, seconds)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Short returns a stranger's text for use in a sentence: cut to maxShown code
// points, and with escapes if it is not printable (see IsPrintable).
func Short(text string) string {
	text = cut(text)
	if !IsPrintable(text) {
		quoted := strconv.Quote(text) // also escapes what changes the direction of text
		text = quoted[1 : len(quoted)-1]
	}
	return text
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return text
}

// ShortValue shortens a value, a member's name or a model id as Short does, and also removes
// a URL's query, which may hold a secret.
func ShortValue(value string) string { return Short(hideQuery(value)) }

// Quote returns a value as a Go string literal. Like ShortValue, it cuts the value and leaves
// out a URL's query.
func Quote(value string) string { return strconv.Quote(cut(hideQuery(value))) }

func hideQuery(value string) string {
	if path, query, ok := strings.Cut(value, "?"); ok && (strings.Contains(query, "=") || strings.Contains(path, "://")) {
		return path + "?…"
	}
	return value
}

// ShellWord quotes a word for a POSIX shell, if that is necessary.
func ShellWord(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@+,"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// PathArgument returns a path as an argument that no command takes for a flag.
func PathArgument(path string) string {
	if strings.HasPrefix(path, "-") {
		return "./" + path
	}
	return path
}

// NameWord returns the argument that means the job of a name, quoted for a POSIX shell. The
// command reads -a as a flag and a* as all names with the prefix a, and removes one leading inbox/.
func NameWord(name string) string {
	if strings.HasPrefix(name, "-") || strings.HasPrefix(name, "inbox/") {
		name = "inbox/" + name
	}
	if start, ok := strings.CutSuffix(name, "*"); ok {
		name = start + `\*`
	}
	return ShellWord(name)
}

// IsPrintable reports whether a text is UTF-8 without unprintable characters.
func IsPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, IsUnprintable)
}

// IsUnprintable reports whether a character is a control character, a separator of lines or
// paragraphs, a character that sets the direction of the text after it, or a noncharacter such
// as U+FFFF, which SQS refuses. Joiners are printable, because scripts and emoji need them.
func IsUnprintable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point) ||
		'\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}

// JSONMistake returns what is wrong with a text that the JSON parser refused. The text must not
// be empty. JSONMistake describes the most common mistakes in plain words, and the others in the
// parser's words.
func JSONMistake(text []byte, parser *json.SyntaxError) string {
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(new(any)); errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early: a closing bracket or quote is missing"
	}
	at := min(max(int(parser.Offset)-1, 0), len(text)-1)
	here, _ := utf8.DecodeRune(text[at:])
	before := bytes.TrimSpace(text[:at])
	last, _ := utf8.DecodeLastRune(before)
	isValueNext := strings.ContainsRune("{[,:", last)
	switch {
	case strings.HasSuffix(parser.Error(), "in string literal") && (here == '\n' || here == '\r'):
		return "a text must end on the line where it starts"
	case strings.Contains(parser.Error(), "escape"):
		return `write a \ in a text as \\`
	case here == '#' || bytes.HasPrefix(text[at:], []byte("//")) || bytes.HasPrefix(text[at:], []byte("/*")):
		return "JSON has no comments"
	case here == '\'' || unicode.In(here, unicode.Pi, unicode.Pf, unicode.Ps) && here >= utf8.RuneSelf:
		return fmt.Sprintf("%q has no meaning there; JSON takes plain double quotes", string(here))
	case here >= utf8.RuneSelf:
		return fmt.Sprintf("%q has no meaning there", string(here))
	case (here == '}' || here == ']') && last == ',':
		return "remove the comma before this place"
	case json.Valid(before) && bytes.HasPrefix(before, []byte("{")):
		return "there is text after the end of the object"
	case json.Valid(before), len(before) == 0:
		return "it must begin with {"
	case slices.ContainsFunc([]string{"True", "False", "None"}, func(word string) bool { return bytes.HasPrefix(text[at:], []byte(word)) }):
		return "write true, false and null in small letters"
	case isValueNext && (unicode.IsLetter(here) || here == '/'): // such as /inbox/shared/v.mp4
		return "write names and texts in double quotes"
	case !isValueNext && strings.ContainsRune(`"{[`, here):
		return "a comma or a colon is missing before this place"
	default:
		return parser.Error()
	}
}
