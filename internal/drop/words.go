package drop

import (
	"cmp"
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

// A sentence lists at most maxNamed names, and a status at most maxProblems problems, because a
// status may have at most ledger.MaxObject bytes.
const (
	maxNamed    = 10
	maxProblems = 50
)

// fileNames lists files for a sentence: "a.wav", "a.wav and a.mp3". It names a file of a bundle by the
// path below the bundle's folder. For files whose names look alike, it uses the paths below inbox/,
// with escapes.
func fileNames(files []File) string {
	var more []string
	if len(files) > maxNamed {
		more = []string{fmt.Sprintf("%d more", len(files)-maxNamed)}
		files = files[:maxNamed]
	}
	below := func(f File) string { return strings.TrimPrefix(f.Key, cmp.Or(bundleOf(f.Key), folderOf(f.Key))) }
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = below(f)
		for j, other := range files {
			if i != j && equalNFC(below(f), below(other)) {
				names[i] = fmt.Sprintf("%+q", strings.TrimPrefix(f.Key, ledger.InboxPrefix))
			}
		}
	}
	return problem.List(append(names, more...), "and")
}

// bounded returns the first maxProblems of the given problems. If there are more, it adds a
// problem that says how many it left out.
func bounded(problems []problem.Problem) []problem.Problem {
	if len(problems) <= maxProblems {
		return problems
	}
	rest := problem.Problem{
		Code: problems[maxProblems].Code, Reason: fmt.Sprintf("and %d more", len(problems)-maxProblems),
		Remedy: "Fix these first; the remaining problems are reported afterwards.",
	}
	return append(slices.Clone(problems[:maxProblems]), rest)
}

// whenUploaded returns a clause that says when a file was uploaded, or when a local file was
// changed.
func whenUploaded(f File) string {
	return fmt.Sprintf("%s is from %s", path.Base(f.Key), f.LastModified.UTC().Format("2006-01-02 15:04:05 MST"))
}

// visible returns a file name, in quotes if it has spaces that a person may overlook.
func visible(name string) string {
	unusual := func(r rune) bool { return r != ' ' && unicode.Is(unicode.Zs, r) || r == '\u200b' || r == '\ufeff' }
	if stem := stemOf(name); strings.TrimSpace(name) != name || strings.TrimSpace(stem) != stem || strings.ContainsFunc(name, unusual) {
		return strconv.Quote(name)
	}
	return name
}

func ambiguous(files []File, what string) problem.Problem {
	return problem.Problem{
		Code: problem.Ambiguous, Reason: fmt.Sprintf("%s could each be %s", fileNames(files), what),
		Remedy: fmt.Sprintf("Delete all but one of %s: the remaining file is then assessed automatically.", fileNames(files)),
	}
}

func nameTooLong(name string) problem.Problem {
	return problem.Problem{Code: problem.NameTooLong, Reason: fmt.Sprintf(
		"the longest key that is made from the name would have %d bytes; S3 allows at most %d", longestKey(name), maxKey)}
}

// relativePath returns the problem of a file whose path below inbox/ has . or .. as a part.
func relativePath(below string) problem.Problem {
	return problem.Problem{
		Code: problem.RelativePath, Reason: problem.Short(below) + " has a part . or .. in its path, which programs resolve to another path",
		Remedy: "Upload the file under a path without such a part, and delete this one.",
	}
}

// unprintablePath returns the problem of a file below inbox/ whose path has
// characters that cannot be seen or typed.
func unprintablePath(below string) problem.Problem {
	var found []string
	for _, r := range below {
		if code := fmt.Sprintf("U+%04X", r); (problem.IsUnprintable(r) || r == utf8.RuneError) && !slices.Contains(found, code) && len(found) < maxNamed {
			found = append(found, code)
		}
	}
	return problem.Problem{
		Code:   problem.UnprintableName,
		Reason: fmt.Sprintf("the path %s has characters that cannot be seen or typed: %s", problem.Short(below), problem.List(found, "and")),
		Remedy: "Rename the file or its folder without these characters, upload the file again, and delete this one.",
	}
}

// crowded returns the problem of a name whose files need too many listings to find.
func crowded(name string) problem.Problem {
	return problem.Problem{Code: problem.Crowded, Reason: fmt.Sprintf(
		"finding the files that belong to %s takes more than %d listings of the bucket: this name has %d dots and %d folders, and the names of many other files may begin like it",
		problem.Short(name), maxListings, strings.Count(path.Base(name), "."), strings.Count(name, "/"))}
}

// strayJob returns the problem of a job.json outside a .job folder.
func strayJob(key string) problem.Problem {
	p := problem.Problem{Code: problem.StrayManifest, Reason: path.Base(key) + " is not directly in a folder whose name ends in .job"}
	if folder := path.Base(folderOf(key)); folder != path.Base(ledger.InboxPrefix) {
		p.Remedy = fmt.Sprintf("Upload it with its files into a folder named %s.job instead of %s.", folder, folder)
	}
	return p
}

// startsNothing returns the problem of a file that cannot belong to a job. If the file's name is
// almost preset.json or job.json, the remedy is to rename it.
func startsNothing(base string) problem.Problem {
	near := catalog.Nearest(base, []string{presetJSON, jobJSON})
	if near == "" {
		return unknownSuffix(base)
	}
	p := problem.Problem{
		Code: problem.UnknownSuffix, Reason: fmt.Sprintf("%s is not accepted: it is not a video, an audio file or an image, and is not named %s", problem.Short(base), near),
		Remedy: fmt.Sprintf("If it is meant to be %s, rename it to %s%s, and upload it", near, near, hiddenEnd(base, near)),
	}
	if near == jobJSON {
		p.Remedy += " with its files into a folder whose name ends in .job"
	}
	p.Remedy += "."
	return p
}

// hiddenEnd returns a hint if a file name begins with the right name but is longer, such as job.json.txt.
func hiddenEnd(base, right string) string {
	if strings.HasPrefix(strings.ToLower(base), right) {
		return " (your computer may hide the end of its name)"
	}
	return ""
}

// conversions lists suffixes that are not accepted, and the suffixes to convert these files to.
var conversions = []struct{ from, to string }{
	{".heic .heif .avif .jxl .jp2 .gif .bmp .tif .tiff .svg .psd .dng .cr2 .cr3 .nef .arw", ".jpg .png"},
	{".aif .aiff .wma .amr .caf .weba .m4b .m4r .mka .oga .mp2 .3ga .dss .ds2 .spx .qta", ".wav .mp3"},
	{".wmv .flv .mpg .mpeg .3gp .3g2 .mts .m2ts .ts .ogv .vob .qt .asf .mxf .f4v", ".mp4"},
}

// remedies says what to do with archives, incomplete files, links, lists and rare suffixes.
var remedies = []struct{ suffixes, remedy string }{
	{".zip .rar .7z .tar .gz .tgz", "Unpack it, and upload the files in it."},
	{".part .partial .crdownload .download .tmp", "Upload it under its own name when it is complete."},
	{".url .lnk .webloc .icloud", "Upload the file that it stands for."},
	{".csv .tsv .jsonl .ndjson", "To start the jobs of a list, run lipdrop drop with the list; --dry-run only says what would start."},
	{".json", "For one job, name it job.json, and upload it with its files into a folder whose name ends in .job. For a list of jobs, save it as CSV or JSON lines, and run lipdrop drop with it."},
	{".xlsx .xls .ods .numbers", "Save it as CSV UTF-8. To start its jobs, run lipdrop drop with the new file."},
	{".jfif .jpe", "Rename it so that its name ends in .jpg, and upload it."},
	{".wave", "Rename it so that its name ends in .wav, and upload it."},
}

// unknownSuffix returns the problem of a file whose suffix is not accepted.
func unknownSuffix(base string) problem.Problem {
	p := problem.Problem{
		Code: problem.UnknownSuffix, Reason: notAccepted(problem.Short(base), base, "not a suffix of a video, an audio file or an image"),
		Remedy: fmt.Sprintf("Upload a file whose name ends in %s.", problem.List(media.Suffixes(), "or")),
	}
	trimmed := strings.TrimSpace(base)
	if _, accepted := media.KindOf(trimmed); accepted {
		p.Reason = visible(problem.Short(base)) + " is not accepted: its name ends with a space"
		p.Remedy = fmt.Sprintf("Rename it to %s, and upload it.", problem.Short(trimmed))
	}
	if to := conversion(base); to != nil {
		p.Remedy = fmt.Sprintf("Convert it to %s, and upload the new file.", problem.List(to, "or"))
	}
	for _, r := range remedies {
		if hasSuffix(base, r.suffixes) {
			p.Remedy = r.remedy
		}
	}
	return p
}

// wrongSuffix returns the problem of a media value of job.json whose suffix is not
// accepted.
func (r ref) wrongSuffix() *problem.Problem {
	name, kind := r.property.Name, r.property.Kind
	accepted := media.Suffixes(kind)
	p := &problem.Problem{
		Code: problem.UnknownSuffix, Reason: notAccepted(r.describe(), r.value, "not a suffix of "+kind.Noun()),
		Remedy: fmt.Sprintf("Set %s to a file name that ends in %s.", name, problem.List(accepted, "or")), Again: []string{jobJSON},
	}
	if to := conversion(r.value); to != nil && slices.Contains(accepted, to[0]) {
		p.Remedy = fmt.Sprintf("Convert the file to %s, upload the new file, and set %s to the new name.", problem.List(to, "or"), name)
	}
	return p
}

func notAccepted(subject, name, which string) string {
	if path.Ext(name) == "" {
		return subject + " is not accepted: it has no suffix that says what it is"
	}
	return fmt.Sprintf("%s is not accepted: its suffix %s is %s", subject, problem.ShortValue(path.Ext(name)), which)
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

// filesMissing returns the problem of files beside job.json that do not exist yet.
func filesMissing(files []string) problem.Problem {
	names := make([]string, len(files))
	for i, name := range files {
		names[i] = visible(problem.ShortValue(name))
	}
	steps := []string{fmt.Sprintf("Upload %s beside job.json (capital letters count): the job then starts automatically. Or fix job.json, then upload it again.", problem.List(names, "and"))}
	for _, name := range files {
		name = problem.ShortValue(name)
		switch {
		case strings.HasPrefix(name, ledger.InboxPrefix):
			steps = append(steps, fmt.Sprintf("Write a slash before the path of a file that is not beside job.json: %s.", visible("/"+name)))
		case strings.HasPrefix(name, "www."):
			steps = append(steps, fmt.Sprintf("Begin a URL with https://, for example %s.", visible("https://"+name)))
		case strings.Contains(name, `\`):
			steps = append(steps, fmt.Sprintf("Separate folders by /, for example %s.", visible(strings.ReplaceAll(name, `\`, "/"))))
		}
	}
	verb := "does"
	if len(files) > 1 {
		verb = "do"
	}
	return problem.Problem{
		Code: problem.WaitingForFiles, Reason: fmt.Sprintf("%s, which job.json names, %s not exist yet", problem.List(names, "and"), verb),
		Remedy: strings.Join(steps, " "),
	}
}
