package drop

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// ownPath matches the beginning of a path on a person's own computer: a drive of Windows;
// a network share; a home folder; a folder of home folders, disks or temporary files; a file
// URL. After a drive, the JSON parser may have replaced the backslash and the next letter by a
// control character.
var ownPath = regexp.MustCompile(`^([A-Za-z]:[\\/[:cntrl:]]|\\\\|~[\\/]|/(Users|home|root|Volumes|mnt|media|tmp)/|(?i:file):/)`)

// scheme matches the scheme of a URL.
var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,20}$`)

// checkLink reports whether a media value is a URL, or a path on somebody's computer,
// and not the name of a file in the bucket. It also returns the problem of such a value, or
// nil for a URL that is passed on.
func checkLink(property, value string) (link bool, bad *problem.Problem) {
	if ownPath.MatchString(value) {
		name := "its name"
		if base := value[strings.LastIndexAny(value, `/\`)+1:]; base != "" && !strings.ContainsFunc(value, unicode.IsControl) {
			name += fmt.Sprintf(", %s", problem.Quote(base))
		}
		return true, wrongValue(fmt.Sprintf("%s %s is a path on your own computer", property, problem.Quote(value)),
			fmt.Sprintf("Upload the file beside job.json, and set %s to %s.", property, name))
	}
	if !strings.Contains(value, ":/") && !strings.HasPrefix(value, "data:") {
		return false, nil
	}
	orUpload := fmt.Sprintf("or upload the file beside job.json and set %s to its name.", property)
	u, err := url.Parse(value)
	kind, _, _ := strings.Cut(value, ":")
	switch kind = strings.ToLower(kind); {
	case kind == "https" && err == nil && u.Host != "" && u.User == nil:
		return true, nil
	case kind == "https" && err == nil && u.User != nil:
		return true, wrongValue(property+" is a URL with a user name; such a URL is not passed on", "Use a URL without a user name, "+orUpload)
	case kind == "s3":
		return true, wrongValue(property+" begins with s3:, but only https URLs are passed on",
			"Name a file of this bucket by a path that begins with /inbox/, such as /inbox/shared/woman.png, "+orUpload)
	case kind != "https" && scheme.MatchString(kind):
		return true, wrongValue(fmt.Sprintf("%s begins with %s:, but only https URLs are passed on", property, kind),
			"Name a URL that begins with https:, "+orUpload)
	default:
		return true, badMedia(property + " is neither a file nor an https URL that can be read")
	}
}

// keyOf returns the key of the file that a media value names, and whether the value
// is relative to the folder of job.json.
func keyOf(bundle, value string) (key string, beside bool) {
	if key, ok := strings.CutPrefix(value, "/"); ok {
		return key, false
	}
	return bundle + strings.TrimPrefix(value, "./"), true
}

// badKey returns the problem of a key that a media value names, or nil. A value that
// begins with a slash may name a file in a folder whose name begins with a dot: files
// there start no job themselves, so several jobs can use them.
func badKey(property catalog.MediaProperty, key, value, model string) *problem.Problem {
	below, inbox := strings.CutPrefix(key, ledger.InboxPrefix)
	switch kind, known := media.KindOf(key); {
	case !inbox:
		return badMedia(describe(property, value) + " is not below /inbox/")
	case !problem.IsPrintable(below):
		return badMedia(describe(property, value) + " has characters that cannot be seen or typed")
	case isRelative(below) || strings.HasPrefix(path.Base(below), ".") || hasDot(below) && !strings.HasPrefix(value, "/"):
		return badMedia(describe(property, value) + " has a part that begins with a dot")
	case len(key) > maxKey:
		return badMedia(fmt.Sprintf("%s stands for a key of %d bytes; S3 allows at most %d", describe(property, value), len(key), maxKey))
	case openEnded(value):
		return nil // each match has its own suffix
	case !known:
		bad := wrongSuffix(property, value)
		return &bad
	case kind != property.Kind:
		return &problem.Problem{
			Code: problem.WrongKind, Reason: fmt.Sprintf("%s is %s; %s accepts %s there", describe(property, value), kind.Noun(), model, property.Kind.Noun()),
			Remedy: fmt.Sprintf("Set %s to the name of %s.", property.Name, property.Kind.Noun()), Again: []string{jobJSON},
		}
	default:
		return nil
	}
}

// mayName reports whether the job.json of a bundle may name a key outside the bundle. The
// key must be in the folder that contains the bundle, or in a shared folder. Without this
// rule, anyone who may write to one folder could copy the files of another folder.
func (s Settings) mayName(bundle, key string) bool {
	return slices.ContainsFunc(append([]string{folderAbove(bundle)}, s.SharedFolders...), func(folder string) bool {
		return strings.HasPrefix(norm.NFC.String(key), norm.NFC.String(folder))
	})
}

// notShared returns the problem of a media value whose key mayName refuses.
func (s Settings) notShared(property catalog.MediaProperty, bundle, value string) *problem.Problem {
	where := problem.List(append([]string{folderAbove(bundle)}, s.SharedFolders...), "or")
	return &problem.Problem{
		Code: problem.FileNotShared, Reason: fmt.Sprintf("%s is not in %s", describe(property, value), where),
		Remedy: "Upload the file beside job.json or into one of these folders, then write its new path into job.json.", Again: []string{jobJSON},
	}
}

// folderAbove returns the folder that contains a folder, with its slash.
func folderAbove(folder string) string { return folderOf(strings.TrimSuffix(folder, "/")) }

func describe(property catalog.MediaProperty, value string) string {
	return fmt.Sprintf("%s %s", property.Name, problem.Quote(value))
}

func badMedia(reason string) *problem.Problem {
	return wrongValue(reason, "Name a file beside job.json, another file by a path that begins with /inbox/, or an https URL.")
}

// wrongValue returns the problem of a media value of job.json.
func wrongValue(reason, remedy string) *problem.Problem {
	return &problem.Problem{Code: problem.BadValue, Reason: reason, Remedy: remedy, Again: []string{jobJSON}}
}
