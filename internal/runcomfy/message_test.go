package runcomfy

import (
	"net/url"
	"strings"
	"testing"
)

// Each text repeats a unit that safeText removes, and ends with a tail. safeText returns the tail
// only if it is within the first maxText bytes.
func TestSafeTextReadsABoundedPartOfAText(t *testing.T) {
	for _, unit := range []string{" ", "?a=b "} {
		for size, want := range map[int]string{maxText - 10: "tail", maxText + 10: "", 900 << 10: ""} {
			text := strings.Repeat(unit, size/len(unit)) + "tail"
			if got := safeText(text, "canary-token-0123456789"); got != want {
				t.Errorf("%d bytes of %q and a tail: safeText returns %q, want %q", size, unit, got, want)
			}
		}
	}
}

func TestRedact(t *testing.T) {
	for name, text := range map[string]string{
		"words":                           "could not fetch it: 'a' <b> \"c\"\t404",
		"a path":                          "https://b.example/a%20b.mp4 and /x/y",
		"63 hex digits":                   strings.Repeat("a", 63),
		"65 hex digits":                   strings.Repeat("a", 65),
		"a file name in Japanese":         "no access to https://b.example/" + strings.Repeat("%E5%8B%95", 30) + ".mp4",
		"a question":                      "why? because",
		"an equals sign":                  "a=b",
		"64 hex digits and an underscore": strings.Repeat("a", 64) + "_",
		"invalid UTF-8":                   "\xff\xfe ?",
	} {
		if got := redact(text, "canary-token-0123456789"); got != text {
			t.Errorf("%s: %q became %q, want no change", name, text, got)
		}
	}
	digits := strings.Repeat("0aF", 21) + "9"
	session := "IQoJ" + strings.Repeat("b3/+", 50) + "=="
	for text, want := range map[string]string{
		digits + "-" + digits:                     "[redacted]-[redacted]",
		"é" + digits + "é":                        "é[redacted]é",
		"\xffhttps%3A%2F%2Fb%3FKeyId%3D1":         "\xffhttps%3A%2F%2Fb",
		"İ/a.mp4?x=1&y=2 İ%3fx%3d1":               "İ/a.mp4 İ",
		"url=https://b.example/a?b#c, retried":    "url=https://b.example/a retried",
		"https://b.example/a#X,https://c/d?e=f g": "https://b.example/a g",
		"<Token-0>" + session + "</Token-0>":      "<Token-0>[redacted]</Token-0>",
		"X-Amz-Security-Token: " + session:        "[redacted] [redacted]",
		"token " + url.QueryEscape(session) + ":": "token [redacted]:",
		url.QueryEscape(url.QueryEscape(session)): "[redacted]",
		"no route to http://user:p@ss@b:80/a@b":   "no route to http://b:80/a@b",
	} {
		if got := redact(text, ""); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// If safeText cuts a text inside a secret, it leaves no part of the secret.
func TestSafeTextCutsNoSecretInHalf(t *testing.T) {
	const token = "canary-token-0123456789"
	for before := maxText - 40; before <= maxText+10; before++ {
		// safeText removes the long query, so maxMessage does not cut off the token.
		text := "https://b.example/a?" + strings.Repeat("q", before-21) + " " + token + " rest"
		if got := safeText(text, token); strings.Contains(got, " "+token[:1]) {
			t.Fatalf("%d bytes before the token: safeText returned %q, want no part of the token", before, got)
		}
	}
}
