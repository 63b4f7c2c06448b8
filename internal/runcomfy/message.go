package runcomfy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxMessage is how many runes of a message are kept, because a status file shows
	// the message in a sentence.
	maxMessage = 500

	// minToken is how many bytes an API token must have to be replaced in texts. A shorter one is
	// not a secret, and ordinary words could contain it.
	minToken = 6

	// maxNesting is how many levels of an error are searched for its message.
	maxNesting = 8
)

// errorMembers are the members that may hold an error's text. The first one that
// holds a text is used.
var errorMembers = []string{"error_message", "message", "error", "detail"}

// nestedMembers are the members that may hold the text of an error that is an object.
// Validation errors use msg.
var nestedMembers = slices.Concat(errorMembers, []string{"msg", "reason"})

// maxText is how many bytes of a text are read for a message.
const maxText = 4 << 10

// safeText returns a text as one line of at most maxMessage runes, without secrets, control
// characters and characters that change the direction of text.
func safeText(text, token string) string {
	text = redact(beginning(text), token)
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return r == unicode.ReplacementChar ||
			unicode.In(r, unicode.White_Space, unicode.Cc, unicode.Bidi_Control, unicode.Noncharacter_Code_Point)
	}), " ")
	runes := []rune(text)
	if len(runes) > maxMessage {
		return string(runes[:maxMessage-1]) + "…"
	}
	return text
}

// beginning returns the words of a text that end within its first maxText bytes. It returns
// no part of a word, because redact may not recognize half a secret.
func beginning(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:strings.LastIndexAny(text[:maxText], wordEnds)+1]
}

// wordEnds are the characters that end a word, such as a URL, within a text.
const wordEnds = " \t\n\f\r\"'<>"

// inWord matches a character of a word.
const inWord = "[^" + wordEnds + "]"

// redactions are applied in this order.
var redactions = []struct {
	secret *regexp.Regexp
	with   string
}{
	// the user name and the password in a URL
	{regexp.MustCompile(`://[^/?#` + wordEnds + `]*@`), "://"},
	// the query of a URL
	{regexp.MustCompile(`(://[^?#` + wordEnds + `]*)[?#]` + inWord + `*`), "$1"},
	// a query without a URL, plain or percent-encoded
	{regexp.MustCompile(`(?i)\?` + inWord + `*(=|%3d)` + inWord + `*`), ""},
	{regexp.MustCompile(`(?i)%3f` + inWord + `*(=|%3d)` + inWord + `*`), ""},
	// the parameters and the digests of an AWS signature
	{regexp.MustCompile(`(?i)` + inWord + `*x-amz-` + inWord + `*`), "[redacted]"},
	{regexp.MustCompile(`\b[0-9A-Fa-f]{64}\b`), "[redacted]"},
	// a session token: S3's error ExpiredToken quotes the one in a presigned URL. Of the
	// percent-encoded characters, only +, / and = match, because a file name may have many others.
	{regexp.MustCompile(`(?i)([0-9a-z+/=_-]|%(25)*(2b|2f|3d)){200,}`), "[redacted]"},
}

// redact replaces the API token in a text, and removes the queries, user names and passwords of
// URLs. It also replaces session tokens, and the parameters and digests of AWS signatures: a service
// that could not fetch an input may quote the presigned URL, or S3's error.
func redact(text, token string) string {
	if len(token) >= minToken {
		// A server may return the token in upper case.
		text = regexp.MustCompile("(?i)"+regexp.QuoteMeta(token)).ReplaceAllString(text, "[token]")
	}
	for _, r := range redactions {
		text = r.secret.ReplaceAllString(text, r.with)
	}
	return text
}

// errorText returns the text of an error body, or "".
func errorText(members map[string]json.RawMessage) string {
	for _, name := range errorMembers {
		if text := jsonText(members[name]); text != "" {
			return text
		}
	}
	return ""
}

// jsonText returns the message in a JSON value.
func jsonText(raw json.RawMessage) string {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return ""
	}
	return valueText(value, maxNesting)
}

func valueText(value any, nesting int) string {
	if nesting == 0 {
		return ""
	}
	switch v := value.(type) {
	case nil, bool: // "error":true only says that another member holds the message
		return ""
	case string:
		return strings.TrimSpace(v)
	case []any:
		var texts []string
		for _, element := range v {
			if text := valueText(element, nesting-1); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	case map[string]any:
		return objectText(v, nesting)
	}
	return fmt.Sprint(value)
}

// objectText returns the message of an object. The location of a validation error comes
// before the message: "body.video_url: field required".
func objectText(object map[string]any, nesting int) string {
	for _, name := range nestedMembers {
		text := valueText(object[name], nesting-1)
		if text == "" {
			continue
		}
		if loc, ok := object["loc"].([]any); ok && len(loc) > 0 {
			place := make([]string, len(loc))
			for i := range loc {
				place[i] = fmt.Sprint(loc[i])
			}
			text = strings.Join(place, ".") + ": " + text
		}
		return text
	}
	if len(object) == 0 {
		return ""
	}
	whole, _ := json.Marshal(object) // cannot fail: the object was decoded from JSON
	return string(whole)
}
