// Package drop goes from a key in the bucket to the jobs that it touches:
// names, pairs, presets, bundles and takes. It looks at what is there now, and
// neither claims nor writes anything; what RunComfy's models take is package
// catalog's, and what is in a media file is package media's.
package drop

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// role is what a file is by its key alone.
type role int

const (
	noDrop        role = iota // not below inbox/, a folder marker, hidden, or a system's own file
	visual                    // a video or an image of a pair
	audio                     // the audio of a pair
	preset                    // preset.json
	manifest                  // the job.json of a bundle
	member                    // another file of a bundle
	strayManifest             // a job.json outside a bundle
	crooked                   // a path that other programs take for another one
	unprintable               // a path with characters that nobody can see or type
	unknown                   // a suffix that is no media's
)

const (
	jobJSON      = problem.JobJSON
	presetJSON   = "preset.json"
	bundleSuffix = ".job"
)

// mediaEndings, jsonEnding and bundleEnding are the suffixes in every spelling,
// sorted. nameEndings are those of everything that gives a stem's name.
var (
	mediaEndings = spellings(media.Suffixes()...)
	bundleEnding = spellings(bundleSuffix + "/")
	nameEndings  = spellings(append(media.Suffixes(), bundleSuffix+"/")...)
	jsonEnding   = spellings(".json")
)

// place returns the role of a key and, for a file of a bundle, the bundle's
// folder with its slash. The outermost folder whose name ends in .job is the
// bundle; one inside another is a plain folder.
func place(key string) (role, string) {
	below, ok := strings.CutPrefix(key, ledger.InboxPrefix)
	if !ok || hidden(below) {
		return noDrop, ""
	}
	if relative(below) {
		return crooked, ""
	}
	if !problem.IsPrintable(below) {
		return unprintable, ""
	}
	base := path.Base(below)
	if bundle := bundleOf(key); bundle != "" {
		if sameName(key[len(bundle):], jobJSON) {
			return manifest, bundle
		}
		return member, bundle
	}
	switch kind, isMedia := kindOf(base); {
	case sameName(base, presetJSON):
		return preset, ""
	case sameName(base, jobJSON):
		return strayManifest, ""
	case !isMedia:
		return unknown, ""
	case kind == media.Audio:
		return audio, ""
	default:
		return visual, ""
	}
}

// bundleOf returns the bundle's folder of a key, with its slash, or "".
func bundleOf(key string) string {
	for i := len(ledger.InboxPrefix); ; {
		n := strings.IndexByte(key[i:], '/')
		if n < 0 {
			return ""
		}
		if end := i + n; n > len(bundleSuffix) && sameName(key[end-len(bundleSuffix):end], bundleSuffix) {
			return key[:end+1]
		}
		i += n + 1
	}
}

// hidden reports whether a path is no drop whatever it holds: a folder marker,
// one with a part that begins with a dot but is not . or .., or a file that a
// system writes by itself.
func hidden(below string) bool {
	base := path.Base(below)
	return below == "" || strings.HasSuffix(below, "/") || strings.HasSuffix(below, "_$folder$") ||
		sameName(base, "Thumbs.db") || sameName(base, "desktop.ini") ||
		slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool { return dotted(part) && !relative(part) })
}

// dotted reports whether a part of a path begins with a dot.
func dotted(below string) bool {
	return slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool { return strings.HasPrefix(part, ".") })
}

// relative reports whether a part of a path is . or .., which lead elsewhere in
// most programs.
func relative(below string) bool {
	return slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool { return part == "." || part == ".." })
}

// kindOf is media.KindOf for a suffix of ASCII letters alone: every spelling
// that counts is one that a look searches for.
func kindOf(name string) (media.Kind, bool) {
	if _, ok := slices.BinarySearch(mediaEndings, path.Ext(name)); !ok {
		return "", false
	}
	return media.KindOf(name)
}

// sameName reports whether a name is an ASCII one in any case of letters.
func sameName(name, ascii string) bool {
	return len(name) == len(ascii) && strings.EqualFold(name, ascii)
}

// spellings returns every text in every mixture of capitals and small letters,
// sorted.
func spellings(texts ...string) []string {
	var all []string
	for _, text := range texts {
		variants := []string{""}
		for _, r := range text {
			lower, upper := strings.ToLower(string(r)), strings.ToUpper(string(r))
			var longer []string
			for _, head := range variants {
				longer = append(longer, head+lower)
				if upper != lower {
					longer = append(longer, head+upper)
				}
			}
			variants = longer
		}
		all = append(all, variants...)
	}
	slices.Sort(all)
	return all
}

// folderOf returns the folder of a key, with its slash. Unlike path.Dir it
// keeps every slash as it is.
func folderOf(key string) string {
	return key[:strings.LastIndexByte(key, '/')+1]
}

// stemOf returns a key without its suffix.
func stemOf(key string) string {
	return strings.TrimSuffix(key, path.Ext(key))
}

// nameOf returns the job name of a stem or of a bundle's folder: where the
// drop was made, below inbox/ and without its suffix, in NFC.
func nameOf(stem string) string {
	if trimmed, ok := strings.CutSuffix(stem, "/"); ok {
		stem = trimmed[:len(trimmed)-len(bundleSuffix)]
	}
	return norm.NFC.String(strings.TrimPrefix(stem, ledger.InboxPrefix))
}

// forms returns the spellings of a key under which S3 may hold it, the key's
// own first: its folder and its last part may each be composed, or decomposed
// as a Mac writes them. A spelling longer than room is left out.
func forms(key string, room int) []string {
	folder := folderOf(key)
	base := key[len(folder):]
	var all []string
	for _, f := range []string{folder, norm.NFC.String(folder), norm.NFD.String(folder)} {
		for _, b := range []string{base, norm.NFC.String(base), norm.NFD.String(base)} {
			if len(f+b) <= room && !slices.Contains(all, f+b) {
				all = append(all, f+b)
			}
		}
	}
	return all
}

// sameText compares two keys in NFC.
func sameText(a, b string) bool {
	return norm.NFC.String(a) == norm.NFC.String(b)
}

// shorterStems returns the stems that an audio's tag leaves, longest first:
// a/talk.v2.de gives a/talk.v2 and a/talk. It returns at most maxListings of
// them: none of the others can be searched for.
func shorterStems(stem string) []string {
	var stems []string
	folder := len(folderOf(stem))
	for len(stems) < maxListings {
		i := strings.LastIndexByte(stem[folder:], '.')
		if i <= 0 {
			break
		}
		stem = stem[:folder+i]
		stems = append(stems, stem)
	}
	return stems
}

// Owner returns the name whose takes are cancelled when the file at key is
// deleted, and what further such names begin with: the tagged names of a video
// or image, and the matches of a bundle's wildcard. It returns "" for a file
// whose deletion cancels nothing.
func Owner(key string) (name, further string) {
	role, bundle := place(key)
	switch role {
	case visual:
		name = nameOf(stemOf(key))
		return name, name + "."
	case audio:
		return nameOf(stemOf(key)), ""
	case manifest:
		name = nameOf(bundle)
		return name, name + "/"
	default:
		return "", ""
	}
}
