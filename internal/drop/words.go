package drop

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
)

// A status names at most so many files and so many problems: a stranger's drop
// may have any number of them, and package ledger reads no status without end.
const (
	maxNamed    = 10
	maxProblems = 50
)

// naming lists files as a sentence does: "a.wav", "a.wav and a.mp3". Files that
// look alike are told apart by their folders and by escapes.
func naming(files []File) string {
	var more []string
	if len(files) > maxNamed {
		more = []string{fmt.Sprintf("%d more", len(files)-maxNamed)}
		files = files[:maxNamed]
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = path.Base(f.Key)
		for j, other := range files {
			if i != j && sameText(path.Base(f.Key), path.Base(other.Key)) {
				names[i] = fmt.Sprintf("%+q", strings.TrimPrefix(f.Key, ledger.InboxPrefix))
			}
		}
	}
	return list(append(names, more...), "and")
}

// bounded returns the first problems, and one that says how many there are more.
func bounded(problems []Problem) []Problem {
	if len(problems) <= maxProblems {
		return problems
	}
	rest := Problem{Code: problems[maxProblems].Code, Reason: fmt.Sprintf("and %d more", len(problems)-maxProblems)}
	return append(slices.Clone(problems[:maxProblems]), rest)
}

// list joins words with commas, and the last two with and or or.
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}

// sentence makes a sentence of a clause.
func sentence(clause string) string {
	first, size := utf8.DecodeRuneInString(clause)
	return string(unicode.ToUpper(first)) + clause[size:] + "."
}

// since says of one file when it came, for a person.
func since(f File) string {
	return fmt.Sprintf("%s has been there since %s", path.Base(f.Key), f.LastModified.UTC().Format("2006-01-02 15:04:05 MST"))
}

func article(kind media.Kind) string {
	if kind == media.KindVideo {
		return "a video"
	}
	return "an " + string(kind)
}

// short bounds a stranger's text in a sentence.
func short(text string) string {
	const most = 120
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// shown is short of a media value, without what looks like the query of a URL,
// which may be a secret.
func shown(value string) string {
	if path, query, ok := strings.Cut(value, "?"); ok && strings.Contains(query, "=") {
		value = path + "?…"
	}
	return short(value)
}

func ambiguous(files []File, what string) Problem {
	return Problem{ledger.Ambiguous, fmt.Sprintf("%s could each be %s", naming(files), what),
		fmt.Sprintf("Delete all but one of %s.", naming(files))}
}

func nameTooLong(name string) Problem {
	return Problem{Code: ledger.NameTooLong, Reason: fmt.Sprintf(
		"the name has %d bytes, and a key made from it would pass the %d bytes that S3 allows", len(name), maxKey)}
}

func unknownSuffix(name string) Problem {
	return Problem{ledger.UnknownSuffix, short(name) + " has " + suffixIn(name),
		fmt.Sprintf("Convert it to one of %s, and drop that.", list(media.Suffixes(), "or"))}
}

func suffixIn(name string) string {
	if suffix := path.Ext(name); suffix != "" {
		return fmt.Sprintf("the suffix %s, which is no video's, audio's or image's", short(suffix))
	}
	return "no suffix, and so is no video, audio or image"
}

// missing says which files beside job.json are not there yet.
func missing(files []string) Problem {
	names := make([]string, len(files))
	for i, name := range files {
		names[i] = shown(name)
	}
	verb := "is"
	if len(files) > 1 {
		verb = "are"
	}
	return Problem{ledger.WaitingForFiles, fmt.Sprintf("%s, which job.json names, %s not there yet", list(names, "and"), verb),
		fmt.Sprintf("Drop %s beside job.json, or mend job.json and drop it again.", list(names, "and"))}
}
