// Package drop decides which jobs the files below inbox/ ask for. It knows names, pairs,
// presets, bundles and takes. It reads what the bucket holds now, and writes
// nothing. Package catalog knows what RunComfy's models accept; package media
// knows what a media file holds.
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

// Key is a parsed key of the bucket.
type Key struct {
	Raw  string
	Role Role

	// Name is the job name that the file belongs to, in NFC. If the file cannot
	// belong to a job, Name is the file's path below inbox/.
	Name string

	// Stem is the text from which Name is made. For a file of a pair, it is Raw without
	// its suffix. For a file of a bundle, it is the bundle's folder without ".job/". For
	// other files, it is "".
	Stem string

	// Bundle is the bundle's folder with the slash at the end, or "". The outermost
	// folder whose name ends in .job is the bundle. A .job folder inside a bundle is a
	// plain folder.
	Bundle string
}

// Role is what a file is by its key.
type Role int

// The roles.
const (
	NoDrop       Role = iota // not below inbox/, a folder marker, hidden, or a file of the operating system
	Visual                   // the video or image of a pair
	Audio                    // the audio of a pair
	Preset                   // preset.json
	Manifest                 // the job.json of a bundle
	Member                   // another file of a bundle
	StrayJobJSON             // a job.json outside a bundle
	RelativePath             // has a part . or .. in its path
	Unprintable              // is not printable (see problem.IsPrintable)
	UnknownFile              // does not have the suffix of a medium
)

const (
	jobJSON      = problem.JobJSON
	presetJSON   = "preset.json"
	bundleSuffix = ".job"
)

// The endings of the keys to search for, in every mixture of capitals and small letters,
// sorted. nameEndings are the endings of all keys from which a job name is made.
var (
	mediaEndings = spellings(media.Suffixes()...)
	bundleEnding = spellings(bundleSuffix + "/")
	nameEndings  = spellings(append(media.Suffixes(), bundleSuffix+"/")...)
	jsonEnding   = spellings(".json")
)

// ParseKey parses a key.
func ParseKey(key string) Key {
	below, ok := strings.CutPrefix(key, ledger.InboxPrefix)
	k := Key{Raw: key, Name: below}
	base := path.Base(below)
	kind, isMedia := media.KindOf(base)
	bundle := bundleOf(key)
	switch {
	case !ok || isHidden(below):
		k.Role = NoDrop
	case IsRelative(below):
		k.Role = RelativePath
	case !problem.IsPrintable(below):
		k.Role = Unprintable
	case bundle != "":
		k.Role, k.Bundle = Member, bundle
		if equalAnyCase(key[len(k.Bundle):], jobJSON) {
			k.Role = Manifest
		}
		k.Stem = stemOfBundle(k.Bundle)
		k.Name = nameOf(k.Stem)
	case equalAnyCase(base, presetJSON):
		k.Role = Preset
	case equalAnyCase(base, jobJSON):
		k.Role = StrayJobJSON
	case !isMedia:
		k.Role = UnknownFile
	default:
		k.Role = Visual
		if kind == media.Audio {
			k.Role = Audio
		}
		k.Stem = stemOf(key)
		k.Name = nameOf(k.Stem)
	}
	return k
}

// Owns returns the name whose takes are cancelled when the file is deleted, or "" if the
// deletion cancels nothing. If prefix is not "", the deletion may also cancel takes of the
// names that begin with prefix.
func (k Key) Owns() (name, prefix string) {
	switch k.Role {
	case Visual:
		return k.Name, k.Name + "." // the tagged audios
	case Audio:
		return k.Name, ""
	case Manifest:
		return k.Name, k.Name + "/" // the matches of a wildcard
	default:
		return "", ""
	}
}

// EventDetail is the detail of an EventBridge event of S3 about an upload or a deletion.
type EventDetail struct {
	Bucket struct{ Name string }
	Object struct{ Key string } // not URL-encoded, unlike the key in an S3 notification
	Reason string
}

// Expired reports whether a lifecycle rule deleted the object. Submit and cancel ignore such a
// deletion, because no person made it.
func (d EventDetail) Expired() bool { return d.Reason == "Lifecycle Expiration" }

// bundleOf returns the folder of the bundle that contains a key, with the slash at the
// end, or "" if no bundle contains the key.
func bundleOf(key string) string {
	end := 0
	for part := range strings.SplitAfterSeq(key, "/") {
		end += len(part)
		if name, isFolder := strings.CutSuffix(part, "/"); isFolder && equalAnyCase(path.Ext(name), bundleSuffix) {
			return key[:end]
		}
	}
	return ""
}

// stemOfBundle returns a bundle's folder without ".job/".
func stemOfBundle(folder string) string { return folder[:len(folder)-len(bundleSuffix+"/")] }

// isHidden reports whether a file is ignored because of its path: the file is a folder
// marker, a part of the path begins with a dot but is not . or .., or an operating system
// has created the file.
func isHidden(below string) bool {
	base := path.Base(below)
	return below == "" || strings.HasSuffix(below, "/") || strings.HasSuffix(below, "_$folder$") ||
		equalAnyCase(base, "Thumbs.db") || equalAnyCase(base, "desktop.ini") ||
		slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool { return strings.HasPrefix(part, ".") && part != "." && part != ".." })
}

// IsRelative reports whether a part of a path is "." or "..". Most programs resolve such a path
// to another path.
func IsRelative(below string) bool {
	return slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool { return part == "." || part == ".." })
}

// equalAnyCase reports whether a name is the given ASCII name in any case. It compares the
// lengths, because EqualFold also accepts longer letters such as the Kelvin sign for K.
func equalAnyCase(name, ascii string) bool {
	return len(name) == len(ascii) && strings.EqualFold(name, ascii)
}

// spellings returns every text in every mixture of capitals and small letters,
// sorted.
func spellings(texts ...string) []string {
	var all []string
	for _, text := range texts {
		variants := []string{""}
		for _, r := range text {
			var longer []string
			for _, head := range variants {
				longer = append(longer, head+strings.ToLower(string(r)), head+strings.ToUpper(string(r)))
			}
			variants = longer
		}
		all = append(all, variants...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// folderOf returns the folder of a key, with the slash at the end. Unlike path.Dir, it
// keeps double slashes.
func folderOf(key string) string {
	return key[:strings.LastIndexByte(key, '/')+1]
}

// stemOf returns a key without its suffix.
func stemOf(key string) string {
	return strings.TrimSuffix(key, path.Ext(key))
}

// nameOf returns the job name of a stem: its path below inbox/, in NFC.
func nameOf(stem string) string {
	return norm.NFC.String(strings.TrimPrefix(stem, ledger.InboxPrefix))
}

// unicodeForms returns the Unicode forms in which to search for a key, the key's own form first.
// The folder and the last part may each be composed (NFC) or, as on a Mac, decomposed
// (NFD). Forms of more than maxBytes bytes are left out.
func unicodeForms(key string, maxBytes int) []string {
	folder := folderOf(key)
	base := key[len(folder):]
	var all []string
	for _, f := range []string{folder, norm.NFC.String(folder), norm.NFD.String(folder)} {
		for _, b := range []string{base, norm.NFC.String(base), norm.NFD.String(base)} {
			if len(f+b) <= maxBytes && !slices.Contains(all, f+b) {
				all = append(all, f+b)
			}
		}
	}
	return all
}

// equalNFC reports whether two keys are equal in NFC.
func equalNFC(a, b string) bool {
	return norm.NFC.String(a) == norm.NFC.String(b)
}

// shorterStems returns the stems that remain when tags are removed from a stem, longest
// first: for a/talk.v2.de, they are a/talk.v2 and a/talk. It returns at most maxListings
// stems, because a search needs a listing for each of them.
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
