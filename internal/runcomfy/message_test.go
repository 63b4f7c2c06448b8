package runcomfy

import (
	"net/url"
	"runtime"
	"strings"
	"testing"
)

// hostile returns texts of about size bytes, by the unit that each repeats. On such texts, a pattern
// with several repetitions takes quadratic time.
func hostile(size int) map[string]string {
	digits := strings.Repeat("a", 64)
	texts := map[string]string{}
	for _, unit := range []string{digits + "-", digits + ".", "a://x?y ", "a://", "?a=b'", "?", "x-amz", "x-amz-a ", "%3F", "<title>", " ", "é"} {
		texts[unit] = strings.Repeat(unit, size/len(unit))
	}
	return texts
}

// However long a text is, safeText reads only a few kilobytes of it. The allocated bytes
// measure the work of safeText, and do not grow with the text.
func TestSafeTextReadsABoundedPartOfAText(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, which runs with -short, empties the sync.Pools of regexp at random")
	}
	allocated := func(text string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		safeText(text, "canary-token-0123456789")
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	long := hostile(900 << 10)
	for name, short := range hostile(64 << 10) {
		few, many := allocated(short), allocated(long[name])
		if most := 2*few + 64*maxText; many > most {
			t.Errorf("%q, repeated: safeText allocates %d bytes for a short text and %d for a long one, want at most %d", name, few, many, most)
		}
	}
}

func TestRedactKeepsWhatIsNoSecret(t *testing.T) {
	for name, text := range map[string]string{
		"words":                       "could not fetch it: 'a' <b> \"c\"\t404",
		"a path":                      "https://b.example/a%20b.mp4 and /x/y",
		"63 digits":                   strings.Repeat("a", 63),
		"65 digits":                   strings.Repeat("a", 65),
		"a file name in Japanese":     "no access to https://b.example/" + strings.Repeat("%E5%8B%95", 30) + ".mp4",
		"a question":                  "why? because",
		"an equals sign":              "a=b",
		"64 digits and an underscore": strings.Repeat("a", 64) + "_",
		"invalid UTF-8":               "\xff\xfe ?",
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
		// safeText removes the long query, so the result is short enough to show where the text was cut.
		text := "https://b.example/a?" + strings.Repeat("q", before-21) + " " + token + " rest"
		if got := safeText(text, token); strings.Contains(got, " c") {
			t.Fatalf("%d bytes before the token: safeText returned %q, want no part of the token", before, got)
		}
	}
}
