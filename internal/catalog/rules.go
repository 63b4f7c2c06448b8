package catalog

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/message"
)

// Keywords of this package. model.schema.json describes them.
const (
	notBlank         = "notBlank"
	maxLengthChinese = "maxLengthChinese"
)

// textRule is the compiled form of the two keywords of one property.
type textRule struct {
	notBlank   bool
	maxChinese int // code points; 0 means no limit
}

// compileTextRule returns the textRule of a property, or nil if the property has neither keyword.
func compileTextRule(_ *jsonschema.CompilerContext, property map[string]any) (jsonschema.SchemaExt, error) {
	rule := &textRule{notBlank: property[notBlank] == true, maxChinese: int(number(property[maxLengthChinese]))}
	if *rule == (textRule{}) {
		return nil, nil
	}
	return rule, nil
}

// Validate implements jsonschema.SchemaExt.
func (r *textRule) Validate(ctx *jsonschema.ValidatorContext, v any) {
	text, ok := v.(string)
	if !ok {
		return
	}
	if r.notBlank && isBlank(text) {
		ctx.AddError(&textError{keyword: notBlank})
	}
	if r.maxChinese > 0 && utf8.RuneCountInString(text) > r.maxChinese && isChinese(text) {
		ctx.AddError(&textError{keyword: maxLengthChinese, limit: r.maxChinese})
	}
}

// textError says which of the two keywords a text breaks.
type textError struct {
	keyword string
	limit   int // of maxLengthChinese
}

// KeywordPath implements jsonschema.ErrorKind.
func (e *textError) KeywordPath() []string { return []string{e.keyword} }

// LocalizedString implements jsonschema.ErrorKind.
func (e *textError) LocalizedString(*message.Printer) string {
	return "breaks " + e.keyword
}

// isBlank reports whether a text has no visible character.
func isBlank(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) })
}

// isChinese reports whether more than half of a text's letters are Han. It ignores
// digits, punctuation and spaces: "character1" counts as nine letters that are not Han.
// Japanese prose has more kana than Han, so it does not count as Chinese.
func isChinese(text string) bool {
	letters, han := 0, 0
	for _, r := range text {
		if !unicode.IsLetter(r) {
			continue
		}
		letters++
		if unicode.Is(unicode.Han, r) {
			han++
		}
	}
	return 2*han > letters
}
