package drop

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// ref is a media value of a job.json, and what the value names.
type ref struct {
	property catalog.MediaProperty
	value    string
	key      string           // of the file; "" for a URL or a path on a computer
	bad      *problem.Problem // what is wrong with the value, or nil
}

// refsOf returns the media values of the job.json in a bundle, and separately the wildcard. It
// ignores a value that is blank or not a text: the model's validation reports such a value.
func (s Settings) refsOf(bundle string, d *doc, model *catalog.Model) (refs []ref, w *wildcard) {
	for _, property := range model.MediaProperties() {
		value, ok := d.Input[property.Name].(string)
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		r := ref{property: property, value: value}
		switch {
		case isOutside(value):
			r.bad = r.badOutside()
		case r.isBeside():
			r.key = bundle + strings.TrimPrefix(value, "./")
			r.bad = r.badKey(d.Model)
		default:
			r.key = value[1:]
			if r.bad = r.badKey(d.Model); r.bad == nil && !strings.Contains(value, "*") {
				r.bad = s.notShared(bundle, r)
			}
		}
		if r.key != "" && r.bad == nil && strings.Contains(value, "*") {
			if w == nil && property.Kind == media.Audio && r.isBeside() {
				w = newWildcard(bundle, r)
				continue
			}
			r.bad = badMedia(r.describe() + " has a wildcard; only one value may have a wildcard, and that value must be for audio files beside job.json")
		}
		if r.bad != nil {
			r.bad.Member = property.Name
		}
		refs = append(refs, r)
	}
	return refs, w
}

func (r ref) describe() string { return r.property.Name + " " + problem.Quote(r.value) }

// isBeside reports whether a value that names a file of the bucket is relative to the bundle.
func (r ref) isBeside() bool { return !strings.HasPrefix(r.value, "/") }

// ownPath matches the beginning of a path on a person's own computer. In C:\new, the JSON parser
// replaces \n by a control character.
var ownPath = regexp.MustCompile(`^([A-Za-z]:[\\/[:cntrl:]]|\\\\|~[\\/]|/(Users|home|root|Volumes|mnt|media|tmp)/|(?i:file):/)`)

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,20}$`)

// isOutside reports whether a media value is a URL, or a path on somebody's computer.
func isOutside(value string) bool {
	return ownPath.MatchString(value) || strings.Contains(value, ":/") || strings.HasPrefix(value, "data:")
}

// badOutside returns the problem of a value for which isOutside returns true, or nil for a URL
// that is passed on.
func (r ref) badOutside() *problem.Problem {
	property := r.property.Name
	if ownPath.MatchString(r.value) {
		name := "its name"
		if base := r.value[strings.LastIndexAny(r.value, `/\`)+1:]; base != "" && !strings.ContainsFunc(r.value, unicode.IsControl) {
			name += ", " + problem.Quote(base)
		}
		return wrongValue(r.describe()+" is a path on your own computer",
			fmt.Sprintf("Upload the file beside job.json, and set %s to %s.", property, name))
	}
	orUpload := fmt.Sprintf("or upload the file beside job.json and set %s to its name.", property)
	u, err := url.Parse(r.value)
	kind, _, _ := strings.Cut(r.value, ":")
	switch kind = strings.ToLower(kind); {
	case kind == "https" && err == nil && u.User != nil:
		return wrongValue(property+" is a URL with a user name; such a URL is not passed on", "Use a URL without a user name, "+orUpload)
	case kind == "https" && strings.Contains(r.value, " "):
		return wrongValue(property+" is a URL with a space", "Remove the space, or write %20 in its place.")
	case kind == "https" && err == nil && u.Host != "":
		return nil
	case kind == "s3":
		return wrongValue(property+" begins with s3:, but only https URLs are passed on",
			"Name a file of this bucket by a path that begins with /inbox/, such as /inbox/shared/woman.png, "+orUpload)
	case kind != "https" && scheme.MatchString(kind):
		return wrongValue(fmt.Sprintf("%s begins with %s:, but only https URLs are passed on", property, kind),
			"Name a URL that begins with https:, "+orUpload)
	default:
		return badMedia(property + " is neither a file nor a valid https URL")
	}
}

// badKey returns the problem of the key that the value names, or nil. A value that begins with
// a slash may name a file in a folder whose name begins with a dot: files there start no
// job themselves, so such a folder suits files that several jobs use.
func (r ref) badKey(model string) *problem.Problem {
	below, inbox := strings.CutPrefix(r.key, ledger.InboxPrefix)
	switch kind, known := media.KindOf(r.key); {
	case !inbox:
		return badMedia(r.describe() + " is not below /inbox/")
	case !problem.IsPrintable(below):
		return badMedia(r.describe() + " has characters that cannot be seen or typed")
	case IsRelative(below) || strings.HasPrefix(path.Base(below), ".") || strings.Contains("/"+below, "/.") && r.isBeside():
		return badMedia(r.describe() + " has a part that begins with a dot")
	case len(r.key) > maxKey:
		return badMedia(fmt.Sprintf("%s stands for a key of %d bytes; S3 allows at most %d", r.describe(), len(r.key), maxKey))
	case openEnded(r.value):
		return nil // each match has its own suffix
	case !known:
		return r.wrongSuffix()
	case kind != r.property.Kind:
		return &problem.Problem{
			Code: problem.WrongKind, Reason: fmt.Sprintf("%s is %s; %s accepts %s there", r.describe(), kind.Noun(), model, r.property.Kind.Noun()),
			Remedy: fmt.Sprintf("Set %s to the name of %s.", r.property.Name, r.property.Kind.Noun()), Again: []string{jobJSON},
		}
	default:
		return nil
	}
}

// notShared returns the problem of a key, unless the key is in a shared folder or in the folder
// that contains the bundle. Without this rule, anyone who may write to
// one folder could copy the files of another folder.
func (s Settings) notShared(bundle string, r ref) *problem.Problem {
	folders := append([]string{folderOf(strings.TrimSuffix(bundle, "/"))}, s.SharedFolders...)
	for _, folder := range folders {
		if strings.HasPrefix(norm.NFC.String(r.key), norm.NFC.String(folder)) {
			return nil
		}
	}
	return &problem.Problem{
		Code: problem.FileNotShared, Reason: fmt.Sprintf("%s is not in %s", r.describe(), problem.List(folders, "or")),
		Remedy: "Upload the file beside job.json or into one of these folders, then write its new path into job.json.", Again: []string{jobJSON},
	}
}

func badMedia(reason string) *problem.Problem {
	return wrongValue(reason, "Name a file beside job.json, another file by a path that begins with /inbox/, or an https URL.")
}

func wrongValue(reason, remedy string) *problem.Problem {
	return &problem.Problem{Code: problem.BadValue, Reason: reason, Remedy: remedy, Again: []string{jobJSON}}
}
