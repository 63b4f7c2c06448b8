package runcomfy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxMessage is the longest message in runes: a status file shows it in a
	// sentence.
	maxMessage = 500

	// minToken is the shortest token that is replaced in texts: a shorter one
	// is no secret, and would be found within words.
	minToken = 6

	// maxNesting bounds how deep an error is looked into for its message.
	maxNesting = 8
)

// errorMembers are the members that carry an error's text, in the order in
// which they are asked.
var errorMembers = []string{"error_message", "message", "error", "detail"}

// nestedMembers are those of an error that is itself an object; msg is that of
// a validation error.
var nestedMembers = slices.Concat(errorMembers, []string{"msg", "reason"})

var (
	absoluteURL = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+`)
	pageTitle   = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

	// urlSecrets is what follows the path of a URL; looseQuery is a query
	// without its URL, plain or percent-encoded; signature is what is left of
	// an AWS signature, its hex digest included.
	urlSecrets = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>?#]*)[?#][^\s"'<>]*`)
	looseQuery = regexp.MustCompile(`(?:\?|%3[Ff])[^\s"'<>]*(?:=|%3[Dd])[^\s"'<>]*`)
	signature  = regexp.MustCompile(`(?i)[^\s"'<>]*x-amz-[^\s"'<>]*|\b[0-9a-f]{64}\b`)
)

// message returns a text in one line, without secrets, of at most maxMessage
// runes.
func message(text, token string) string {
	text = redact(text, token)
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	}), " ")
	runes := []rune(text)
	if len(runes) > maxMessage {
		return string(runes[:maxMessage-1]) + "…"
	}
	return text
}

// redact replaces the token and the queries of URLs in a text: a service that
// could not fetch an input likes to quote the presigned URL.
func redact(text, token string) string {
	if len(token) >= minToken {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	text = urlSecrets.ReplaceAllString(text, "$1")
	text = looseQuery.ReplaceAllString(text, "")
	return signature.ReplaceAllString(text, "[redacted]")
}

// redactJSON redacts every string of a JSON text, and returns the text as it
// was where there is nothing to redact.
func redactJSON(raw json.RawMessage, token string) json.RawMessage {
	clean := func(s string) string { return redact(s, token) }
	if raw == nil || !anyString(raw, func(s string) bool { return clean(s) != s }) {
		return raw
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(redactValue(value, clean)) != nil {
		return nil
	}
	return bytes.TrimSpace(b.Bytes())
}

// anyString tells whether a string of a JSON text, a member's name included,
// is such a one. It sees those too that a decoded map would not hold, where a
// name is given twice, and takes what it cannot read for one.
func anyString(raw json.RawMessage, such func(string) bool) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := dec.Token()
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		if s, ok := token.(string); ok && such(s) {
			return true
		}
	}
}

func redactValue(value any, clean func(string) string) any {
	switch v := value.(type) {
	case string:
		return clean(v)
	case []any:
		for i := range v {
			v[i] = redactValue(v[i], clean)
		}
	case map[string]any:
		members := make(map[string]any, len(v))
		for name, member := range v {
			members[clean(name)] = redactValue(member, clean)
		}
		return members
	}
	return value
}

// errorText returns the text of an error body, empty when it has none.
func errorText(members map[string]json.RawMessage) string {
	for _, name := range errorMembers {
		if text := jsonText(members[name]); text != "" {
			return text
		}
	}
	return ""
}

// jsonText returns what a JSON value says for people.
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
	case nil:
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

// objectText returns the message of an object, after the place that it is
// about where it is a validation error: "body.video_url: field required".
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
	whole, err := json.Marshal(object)
	if err != nil {
		return ""
	}
	return string(whole)
}

func htmlTitle(page string) string {
	found := pageTitle.FindStringSubmatch(page)
	if found == nil {
		return ""
	}
	return strings.TrimSpace(html.UnescapeString(found[1]))
}
