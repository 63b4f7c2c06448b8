package problem

import (
	"strconv"
	"strings"
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

// Short returns a stranger's text for use in a sentence: cut to 120 code
// points, and with escapes for characters that cannot be seen.
func Short(text string) string {
	if runes := []rune(text); len(runes) > maxShown {
		text = string(runes[:maxShown]) + "…"
	}
	if !IsPrintable(text) {
		quoted := strconv.Quote(text) // also escapes what changes the direction of text
		text = quoted[1 : len(quoted)-1]
	}
	return text
}

// ShortValue returns Short of a value, a member's name or a model id without the
// query of a URL, which may be a secret.
func ShortValue(value string) string {
	if path, query, ok := strings.Cut(value, "?"); ok && (strings.Contains(query, "=") || strings.Contains(path, "://")) {
		value = path + "?…"
	}
	return Short(value)
}

// IsPrintable reports whether a text is UTF-8 without unprintable characters.
func IsPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, IsUnprintable)
}

// IsUnprintable reports whether a character is a control character, a line separator, or
// one that changes the direction of the text around it. Joiners are printable, because
// scripts and emoji need them.
func IsUnprintable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) ||
		'\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}
