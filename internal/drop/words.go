package drop

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
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
	rest := Problem{
		Code: problems[maxProblems].Code, Reason: fmt.Sprintf("and %d more", len(problems)-maxProblems),
		Remedy: "Mend these first; then the others are told.",
	}
	return append(slices.Clone(problems[:maxProblems]), rest)
}

// Reason says everything that is wrong, with a number before each of several
// problems.
func Reason(problems []Problem) string {
	var reasons []string
	for _, p := range problems {
		if !slices.Contains(reasons, p.Reason) {
			reasons = append(reasons, p.Reason)
		}
	}
	if len(reasons) == 1 {
		return reasons[0]
	}
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("(%d) %s", i+1, reason)
	}
	return strings.Join(reasons, "; ")
}

// Remedy says what to do about all problems of a name, and in the end what to
// drop again.
func Remedy(name string, problems []Problem) string {
	var steps, again []string
	for _, p := range problems {
		step := p.Remedy
		if step == "" {
			step = p.Code.Remedy(name)
		}
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
		for _, file := range p.Again {
			if !slices.Contains(again, file) {
				again = append(again, file)
			}
		}
	}
	if again != nil {
		// What starts the job comes last.
		slices.SortStableFunc(again, func(a, b string) int { return startsJob(a) - startsJob(b) })
		steps = append(steps, fmt.Sprintf("Then drop %s again.", list(again, "and")))
	}
	return strings.Join(steps, " ")
}

// startsJob is 1 for what starts a job when it is dropped after other files.
func startsJob(again string) int {
	if again == manifestName || again == aFile {
		return 1
	}
	return 0
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

// visible returns a name in quotes where nobody would see in a sentence how it
// ends.
func visible(name string) string {
	if stem := stemOf(name); strings.TrimSpace(name) != name || strings.TrimSpace(stem) != stem {
		return strconv.Quote(name)
	}
	return name
}

func article(kind media.Kind) string {
	if kind == media.KindVideo {
		return "a video"
	}
	return "an " + string(kind)
}

// short bounds a stranger's text in a sentence, and shows what is invisible in
// it.
func short(text string) string {
	const most = 120
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	if !printable(text) {
		quoted := strconv.Quote(text) // also escapes what changes the direction of text
		text = quoted[1 : len(quoted)-1]
	}
	return text
}

// shown is short of a media value or a model, without what looks like the query
// of a URL, which may be a secret.
func shown(value string) string {
	if path, query, ok := strings.Cut(value, "?"); ok && strings.Contains(query, "=") {
		value = path + "?…"
	}
	return short(value)
}

func ambiguous(files []File, what string) Problem {
	return Problem{
		Code: problem.Ambiguous, Reason: fmt.Sprintf("%s could each be %s", naming(files), what),
		Remedy: fmt.Sprintf("Delete all but one of %s: the rest is then looked at by itself.", naming(files)),
	}
}

func nameTooLong(name string) Problem {
	return Problem{Code: problem.NameTooLong, Reason: fmt.Sprintf(
		"the longest key that is made from the name would have %d bytes; S3 allows at most %d", longestKey(name), maxKey)}
}

// relativePath is the problem of a file below inbox/ whose path other programs
// take for another one.
func relativePath(below string) Problem {
	return Problem{
		Code: problem.RelativePath, Reason: short(below) + " has a part . or .. in its path, which programs take for another place",
		Remedy: "Drop it under a name without such a part, and delete this one.",
	}
}

// unprintablePath is the problem of a file below inbox/ whose path holds
// characters that nobody can see or type.
func unprintablePath(below string) Problem {
	var found []string
	for _, r := range below {
		if code := fmt.Sprintf("U+%04X", r); (isUnprintable(r) || r == utf8.RuneError) && !slices.Contains(found, code) && len(found) < maxNamed {
			found = append(found, code)
		}
	}
	return Problem{
		Code:   problem.UnprintableName,
		Reason: fmt.Sprintf("the path %s holds characters that cannot be seen or typed: %s", short(below), list(found, "and")),
		Remedy: "Rename the file or its folder without them, upload it again, and delete this one.",
	}
}

// crowded is the problem of a name whose files take too many listings.
func crowded(name string) Problem {
	return Problem{Code: problem.Crowded, Reason: fmt.Sprintf(
		"finding the files that belong to %s takes more than %d listings of the bucket: its name has %d dots and %d folders, and other files may begin alike",
		short(name), maxListings, strings.Count(path.Base(name), "."), strings.Count(name, "/"))}
}

// strayJob is the problem of a job.json that starts nothing where it lies.
func strayJob(key string) Problem {
	p := Problem{Code: problem.StrayManifest, Reason: path.Base(key) + " is not directly in a folder whose name ends in .job"}
	if folder := path.Base(folderOf(key)); folder != path.Base(ledger.InboxPrefix) {
		p.Remedy = fmt.Sprintf("Drop it with its files into a folder named %s.job instead of %s.", folder, folder)
	}
	return p
}

// startsNothing is the problem of a file whose suffix is no medium's.
func startsNothing(base string) Problem {
	near := catalog.Nearest(base, []string{presetName, manifestName})
	if near == "" {
		return unknownSuffix(base)
	}
	p := Problem{
		Code: problem.UnknownSuffix, Reason: fmt.Sprintf("%s is not taken: it is neither a video, an audio or an image nor named %s", short(base), near),
		Remedy: fmt.Sprintf("If it is a %s, rename it so%s, and drop that", near, hiddenEnd(base, near)),
	}
	if near == manifestName {
		p.Remedy += " with its files into a folder whose name ends in .job"
	}
	p.Remedy += "."
	return p
}

// hiddenEnd explains why a file that looks as if it had the right name has not.
func hiddenEnd(base, right string) string {
	if strings.HasPrefix(strings.ToLower(base), right) {
		return " (your computer may hide the end of its name)"
	}
	return ""
}

// conversions are what files of suffixes that no model takes are best converted
// to: those that people drop all the same.
var conversions = []struct{ from, to string }{
	{".heic .heif .avif .gif .bmp .tif .tiff .svg .psd .dng", ".jpg .png"},
	{".aif .aiff .wma .amr .caf .m4b .mka .oga .mp2 .3ga", ".wav .mp3"},
	{".wmv .flv .mpg .mpeg .3gp .mts .m2ts .ts .ogv .vob", ".mp4"},
}

// others are what to do with files that hold media, or will, and are none.
var others = []struct{ suffixes, remedy string }{
	{".zip .rar .7z .tar .gz .tgz", "Unpack it, and drop the files that are in it."},
	{".part .partial .crdownload .download .tmp", "Drop it under its own name when it is complete."},
}

// unknownSuffix is the problem of a file that can be no job's for its suffix.
func unknownSuffix(base string) Problem {
	p := Problem{
		Code: problem.UnknownSuffix, Reason: notTaken(short(base), base, "no video's, audio's or image's"),
		Remedy: fmt.Sprintf("Drop a file that ends in %s.", list(media.Suffixes(), "or")),
	}
	if to := conversion(base); to != nil {
		p.Remedy = fmt.Sprintf("Convert it to %s, and drop that.", list(to, "or"))
	}
	for _, other := range others {
		if hasSuffix(base, other.suffixes) {
			p.Remedy = other.remedy
		}
	}
	return p
}

// wrongSuffix is the problem of a media value of job.json that cannot be what
// the property takes for its suffix.
func wrongSuffix(property catalog.MediaProperty, value string) Problem {
	kind := media.Kind(property.Kind)
	isOfKind := func(suffix string) bool { k, _ := media.KindOf(suffix); return k == kind }
	takes := slices.DeleteFunc(media.Suffixes(), func(s string) bool { return !isOfKind(s) })
	p := Problem{
		Code: problem.UnknownSuffix, Reason: notTaken(describe(property, value), value, fmt.Sprintf("no %s's", kind)),
		Remedy: fmt.Sprintf("Set %s to the name of a file that ends in %s.", property.Name, list(takes, "or")), Again: []string{manifestName},
	}
	if to := conversion(value); to != nil && isOfKind(to[0]) {
		p.Remedy = fmt.Sprintf("Convert the file to %s, drop that, and set %s to its name.", list(to, "or"), property.Name)
	}
	return p
}

func notTaken(subject, name, which string) string {
	if path.Ext(name) == "" {
		return subject + " is not taken: it has no suffix that says what it is"
	}
	return fmt.Sprintf("%s is not taken: its suffix %s is %s", subject, shown(path.Ext(name)), which)
}

func conversion(name string) []string {
	for _, c := range conversions {
		if hasSuffix(name, c.from) {
			return strings.Fields(c.to)
		}
	}
	return nil
}

func hasSuffix(name, suffixes string) bool {
	return slices.Contains(strings.Fields(suffixes), strings.ToLower(path.Ext(name)))
}

// missing says which files beside job.json are not there yet.
func missing(files []string) Problem {
	names := make([]string, len(files))
	for i, name := range files {
		names[i] = shown(name)
	}
	steps := []string{fmt.Sprintf("Drop %s beside job.json: the job then starts by itself. Or mend job.json, and drop that again.", list(names, "and"))}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, ledger.InboxPrefix):
			steps = append(steps, fmt.Sprintf("A file that is not beside job.json has a slash before it, /%s.", name))
		case strings.HasPrefix(name, "www."):
			steps = append(steps, fmt.Sprintf("A URL begins with https://, as https://%s.", name))
		case strings.Contains(name, `\`):
			steps = append(steps, fmt.Sprintf("Folders are parted by /, as %s.", strings.ReplaceAll(name, `\`, "/")))
		}
	}
	verb := "is"
	if len(files) > 1 {
		verb = "are"
	}
	return Problem{
		Code: problem.WaitingForFiles, Reason: fmt.Sprintf("%s, which job.json names, %s not there yet", list(names, "and"), verb),
		Remedy: strings.Join(steps, " "),
	}
}
