package drop

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

const (
	// maxListings bounds the listings to assess one subject. maxTouchedListings
	// bounds the listings to find the subjects of a change. A name with a few tags,
	// in either form of Unicode, needs fewer listings than these limits.
	maxListings        = 30
	maxTouchedListings = 16

	// maxPages bounds the pages that the method tagged reads for one Unicode form of a stem. maxMatches
	// bounds the files that are compared with a wildcard, for one form of its prefix.
	maxPages   = 2
	maxMatches = maxPages * bucket.PageSize
)

// errCrowded means that the limit of listings was reached.
var errCrowded = errors.New("too many listings")

// exceptCrowded returns an error, or nil for errCrowded.
func exceptCrowded(err error) error {
	if errors.Is(err, errCrowded) {
		return nil
	}
	return err
}

// lister is a Resolver that may make a limited number of listings.
type lister struct {
	*Resolver
	left int
}

// listFolder returns one page of Files.ListFolder, or errCrowded.
func (l *lister) listFolder(ctx context.Context, prefix, after string) ([]File, bool, error) {
	if l.left < 1 {
		return nil, false, errCrowded
	}
	l.left--
	return l.Files.ListFolder(ctx, prefix, after, bucket.PageSize)
}

// withEndings returns the files and folders whose keys consist of stem, in any Unicode form, and
// one of the sorted endings. It makes one request for each form of the stem. If a full
// page does not reach the last ending, it makes another request. With an error, it also
// returns the files that it found.
func (l *lister) withEndings(ctx context.Context, stem string, endings []string) ([]File, error) {
	var found []File
	for _, form := range unicodeForms(stem, maxKey-len(endings[0])) {
		files, err := l.searchForm(ctx, form, ".", endings)
		found = append(found, files...)
		if err != nil {
			return sorted(found), err
		}
	}
	return sorted(found), nil
}

// searchForm does what withEndings does, for one form of a stem. All endings must begin with
// commonPrefix.
func (l *lister) searchForm(ctx context.Context, form, commonPrefix string, endings []string) ([]File, error) {
	var found []File
	after := ""
	for i := 0; i < len(endings); {
		after = max(after, justBefore(form+endings[i]))
		files, more, err := l.listFolder(ctx, form+commonPrefix, after)
		if err != nil {
			return found, err
		}
		for _, f := range files {
			if _, ok := slices.BinarySearch(endings, f.Key[len(form):]); ok {
				found = append(found, f)
			}
		}
		if !more {
			break
		}
		after = files[len(files)-1].Key
		i, _ = slices.BinarySearch(endings, after[len(form):])
	}
	return found, nil
}

// justBefore returns a key that sorts closely before the given key. The given key must end
// in an ASCII character.
func justBefore(key string) string {
	last := len(key) - 1
	return key[:last] + string(key[last]-1)
}

// named returns the files of a folder that have the given name, which ends in .json. The
// folder may have any Unicode form. A file's name without the suffix may be in small
// letters, in capitals, or begin with a capital. The suffix may be in any case.
func (l *lister) named(ctx context.Context, folder, name string) ([]File, error) {
	return l.namedIn(ctx, unicodeForms(folder, maxKey-len(name)), name)
}

// namedIn does what named does, for the given forms of a folder. Files whose names are in
// small letters come first.
func (l *lister) namedIn(ctx context.Context, folders []string, name string) ([]File, error) {
	s := nameSpellings(name)
	var endings []string
	for _, spelling := range s[1:] { // both begin with the same capital
		for _, ending := range jsonEnding {
			endings = append(endings, spelling[1:]+ending)
		}
	}
	slices.Sort(endings)
	var found, capitals []File
	for _, folder := range folders {
		files, err := l.searchForm(ctx, folder+s[0], ".", jsonEnding)
		if err != nil {
			return nil, err
		}
		found = append(found, files...)
		if files, err = l.searchForm(ctx, folder+s[1][:1], "", endings); err != nil {
			return nil, err
		}
		capitals = append(capitals, files...)
	}
	return append(sorted(found), sorted(capitals)...), nil
}

// presentForms returns the Unicode forms in which to search a folder: the folder's own form, then
// each other form if the first folder in which it differs has files.
func (l *lister) presentForms(ctx context.Context, folder string) ([]string, error) {
	all := unicodeForms(folder, maxKey)
	found := all[:1:1]
	for _, form := range all[1:] {
		differs := 0
		for differs < min(len(folder), len(form)) && form[differs] == folder[differs] {
			differs++
		}
		top := form[:differs+strings.IndexByte(form[differs:], '/')+1]
		files, _, err := l.listFolder(ctx, top, "")
		if err != nil {
			return nil, err
		}
		if len(files) > 0 {
			found = append(found, form)
		}
	}
	return found, nil
}

// namedFinds reports whether named, called with the given name, would find a key. The suffix
// of the key must be .json, in any case.
func namedFinds(key, name string) bool {
	base := key[len(folderOf(key)):]
	return slices.Contains(nameSpellings(name), stemOf(base))
}

// nameSpellings returns a name without its suffix: as it is, in capitals, and with a capital first.
func nameSpellings(name string) []string {
	stem := stemOf(name)
	return []string{stem, strings.ToUpper(stem), strings.ToUpper(stem[:1]) + stem[1:]}
}

// tagged returns the stems of the audios that have a tag after stem, each once and sorted.
// It leaves out audios for which it finds a video or image with a longer stem. For each Unicode form
// of stem, it reads at most maxPages pages of the files whose names begin with stem and a dot.
// The result complete is false if there are more files. With an error, it also returns the stems that
// it found.
func (l *lister) tagged(ctx context.Context, stem string) (stems []string, complete bool, err error) {
	var found []File
	complete = true
	for _, form := range unicodeForms(stem, maxKey-len(".mp4")) {
		after, more := "", true
		for page := 1; more; page++ {
			var files []File
			if files, more, err = l.listFolder(ctx, form+".", after); err != nil {
				return taggedStems(found, stem), false, err
			}
			if more {
				after = files[len(files)-1].Key
			}
			if more && page == maxPages {
				// The last tag's video or image may be on the next page. Leave out the tag's
				// files on this page.
				tag, _, _ := strings.Cut(after[len(form)+1:], ".")
				files = slices.DeleteFunc(files, func(f File) bool { return strings.HasPrefix(f.Key, form+"."+tag+".") })
				more, complete = false, false
			}
			found = append(found, files...)
		}
	}
	return taggedStems(found, stem), complete, nil
}

// taggedStems returns the stems that tagged finds among the given files.
func taggedStems(files []File, stem string) []string {
	own := norm.NFC.String(stem)
	visuals := map[string]bool{own: true}
	audios := map[string]string{} // the stems of the audios, by the stem in NFC
	for _, f := range files {
		switch k := ParseKey(f.Key); k.Role {
		case Visual:
			visuals[norm.NFC.String(k.Stem)] = true
		case Audio:
			audios[norm.NFC.String(k.Stem)] = k.Stem
		}
	}
	var stems []string
	for composed, found := range audios {
		candidates := append([]string{composed}, shorterStems(composed)...) // longest first
		i := slices.IndexFunc(candidates, func(s string) bool { return visuals[s] })
		if composed != own && i >= 0 && candidates[i] == own {
			stems = append(stems, found)
		}
	}
	slices.Sort(stems)
	return stems
}

// listBelow returns the files whose keys begin with prefix in any Unicode form, at most limit
// for each form, and whether these are all.
func (l *lister) listBelow(ctx context.Context, prefix string, limit int) (found []File, all bool, err error) {
	all = true
	for _, form := range unicodeForms(prefix, maxKey) {
		most := min(limit, l.left*bucket.PageSize)
		if most < 1 {
			return nil, false, errCrowded
		}
		files, more, err := l.Files.List(ctx, form, most)
		if err != nil {
			return nil, false, err
		}
		if more && most < limit {
			return nil, false, errCrowded
		}
		l.left -= max(1, (len(files)+bucket.PageSize-1)/bucket.PageSize)
		found, all = append(found, files...), all && !more
	}
	return sorted(found), all, nil
}

func sorted(files []File) []File {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Key, b.Key) })
	return files
}

// head returns the file at a key, or else at another form of the key.
func (l *lister) head(ctx context.Context, key string) (File, error) {
	for i, form := range unicodeForms(key, maxKey) {
		if i > 0 { // the request for another form counts as a listing
			if l.left < 1 {
				return File{}, errCrowded
			}
			l.left--
		}
		file, err := l.Files.Head(ctx, form)
		if !errors.Is(err, bucket.ErrNotFound) {
			return file, err
		}
	}
	return File{}, bucket.ErrNotFound
}
