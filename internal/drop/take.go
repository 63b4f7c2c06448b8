package drop

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// maxKey is the length of the longest key that S3 accepts, in bytes.
const maxKey = 1024

// hashLength is the number of hex digits of a SHA-256 in takes and answer keys.
const hashLength = 12

// orderOf returns the Order of a drop that consists of the given files.
func orderOf(files []File) ledger.Order {
	newest := slices.MaxFunc(files, func(a, b File) int { return a.LastModified.Compare(b.LastModified) })
	return ledger.OrderAt(newest.LastModified)
}

// takeOf returns the take of a job name from the files that identify the take. The result
// does not depend on the order of the files.
func takeOf(name string, files []File) string {
	var identity []map[string]any
	for _, f := range sorted(slices.Clone(files)) {
		identity = append(identity, map[string]any{"etag": f.ETag, "key": f.Key, "lastModified": f.LastModified.UTC().Truncate(time.Second)})
	}
	text := bucket.JSON(map[string]any{"files": identity, "name": name}, "")
	return orderOf(files).Stamp() + "-" + shortHash(string(text))
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:hashLength]
}

// longestKey returns the length in bytes of the longest key that is made from a name: the
// key of an output.
func longestKey(name string) int {
	const take = len(ledger.StampLayout) + 1 + hashLength
	return len(ledger.OutputPrefix(name, "")) + take + len(path.Base(name)) + len("-9999.webm")
}

// fits reports whether S3 accepts every key that is made from a name.
func fits(name string) bool { return longestKey(name) <= maxKey }

// answerKey returns the key of an answer file: answers/, the path of key below inbox/, and .json.
// The parameter key is the key of a file that cannot belong to a job, or inbox/ followed by a name
// whose status key would be too long. If the answer key would be too long, or the path is
// unprintable or has a part "." or "..", answerKey replaces the bad characters and parts by
// underscores, cuts the path to at most cutAt bytes, and appends ~ and a hash of key.
func answerKey(key string) string {
	const cutAt = 900 // leaves room for what is put around the path
	below := strings.TrimPrefix(key, ledger.InboxPrefix)
	if answer := ledger.AnswerPrefix + below + ".json"; len(answer) <= maxKey && !IsRelative(below) && problem.IsPrintable(below) {
		return answer
	}
	below = strings.Map(func(r rune) rune {
		if problem.IsUnprintable(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(below, "_"))
	parts := strings.Split(below, "/")
	for i, part := range parts {
		if IsRelative(part) {
			parts[i] = strings.Repeat("_", len(part))
		}
	}
	below = strings.Join(parts, "/")
	cut := min(cutAt, len(below))
	for cut < len(below) && !utf8.RuneStart(below[cut]) {
		cut--
	}
	return ledger.AnswerPrefix + below[:cut] + "~" + shortHash(key) + ".json"
}
