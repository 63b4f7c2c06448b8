package drop

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
)

// findBundle looks at a .job folder: its job.json, and whether every file that
// it names is there. A wildcard gives a finding for the folder and those of the
// matches that a change of the file match concerns, or of all when it is "".
func (l *Look) findBundle(ctx context.Context, bundle, match string) ([]Finding, error) {
	f := about(nameOf(bundle))
	manifests, err := l.named(ctx, bundle, manifestName)
	if err != nil {
		return nil, err
	}
	switch {
	case len(manifests) == 0:
		f, err = l.noManifest(ctx, f, bundle)
		return []Finding{f}, err
	case !fits(f.Name):
		return []Finding{f.decide(ledger.Rejected, stamp(manifests), nameTooLong(f.Name))}, nil
	case len(manifests) > 1:
		return []Finding{f.decide(ledger.Rejected, stamp(manifests), ambiguous(manifests, "the job.json of "+f.Name))}, nil
	}
	bundle = folderOf(manifests[0].Key) // in the form in which job.json lies there
	take := takeOf(f.Name, manifests)
	doc, problems, err := l.readDoc(ctx, manifests[0])
	if err != nil {
		return nil, err
	}
	model, wrong := l.modelOf(doc)
	problems = append(problems, wrong...)
	if model == nil || doc.Input == nil {
		return []Finding{f.decide(ledger.Rejected, take, problems...)}, nil
	}
	n, wrong, err := l.resolve(ctx, bundle, doc, model)
	if err != nil {
		return nil, err
	}
	problems = append(problems, wrong...)
	// What Prepare would find of the options is told at once where it is not
	// certain that there will be one Prepare.
	if problems != nil || n.missing != nil || n.wildcard != nil {
		problems = append(problems, ofCatalog(model.Validate(doc.Input))...)
	}
	switch {
	case problems != nil:
		return []Finding{f.decide(ledger.Rejected, take, problems...)}, nil
	case n.wildcard != nil:
		return l.findMatches(ctx, f, bundle, match, doc, n)
	case n.missing != nil:
		return []Finding{f.decide(ledger.Waiting, stamp(manifests), missing(n.missing))}, nil
	}
	f.Job = &Job{Name: f.Name, Take: take, doc: doc, media: n.media}
	f.Order = take
	return []Finding{f}, nil
}

// modelOf returns the model that a job.json names, or what is wrong with that.
// Of a job.json that cannot be read there is neither.
func (l *Look) modelOf(d *doc) (*catalog.Model, []Problem) {
	if d == nil {
		return nil, nil
	}
	if model, ok := l.Catalog.Model(d.Model); ok {
		return model, nil
	}
	if d.Model != "" {
		return nil, []Problem{l.unknownModel(d.Model)}
	}
	if d.hasModel {
		return nil, nil // of the wrong form, which is told already
	}
	return nil, []Problem{{ledger.MissingMember, `job.json has no "model"`,
		fmt.Sprintf("Set it to one of %s, and drop job.json again.", list(l.Catalog.IDs(), "or"))}}
}

func (l *Look) unknownModel(id string) Problem {
	p := Problem{Code: ledger.UnknownModel, Reason: fmt.Sprintf("there is no model %q", short(id))}
	if near := l.Catalog.Nearest(id); near != "" {
		p.Reason += "; the nearest is " + near
	}
	p.Remedy = fmt.Sprintf("Set the model to one of %s, and drop the file again.", list(l.Catalog.IDs(), "or"))
	return p
}

// noManifest is a bundle without a job.json: waiting for it while it has files.
func (l *Look) noManifest(ctx context.Context, f Finding, bundle string) (Finding, error) {
	files, err := l.below(ctx, bundle, listPage)
	if err != nil {
		return f, err
	}
	files = slices.DeleteFunc(files, func(f File) bool {
		role, _ := place(f.Key)
		return role == noDrop
	})
	if len(files) == 0 {
		return f.gone("no file of "+f.Name+" is there any more", ""), nil
	}
	for _, file := range files {
		if role, _ := place(file.Key); role == manifest {
			return f.decide(ledger.Rejected, stamp(files), badSpelling(file, manifestName)), nil
		}
	}
	return f.decide(ledger.Waiting, stamp(files), Problem{ledger.WaitingForManifest,
		since(files[0]) + "; job.json is missing",
		fmt.Sprintf("Drop job.json into %s.", norm.NFC.String(path.Base(bundle)))}), nil
}

// badSpelling is the problem of a file that a look does not search for.
func badSpelling(file File, name string) Problem {
	return Problem{ledger.InvalidJSON, fmt.Sprintf("%s is not a spelling of %s that is looked for", path.Base(file.Key), name),
		fmt.Sprintf("Name it %s.", name)}
}

// named is what the media values of a job.json name.
type named struct {
	media    []Used
	missing  []string // files beside job.json that are not there yet, as job.json has them
	keys     []string // of all files, there or not
	wildcard *wildcard
}

// resolve looks up the media values of a job.json. A value that is not a text,
// or blank, is left to the model's validation.
func (l *Look) resolve(ctx context.Context, bundle string, d *doc, model *catalog.Model) (named, []Problem, error) {
	var n named
	var problems []Problem
	for _, property := range model.MediaProperties() {
		value, ok := d.Input[property.Name].(string)
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		if strings.Contains(value, ":/") || strings.HasPrefix(value, "data:") {
			if !httpsURL(value) {
				problems = append(problems, badMedia(property.Name+" is neither a file nor an https URL that can be read"))
				continue
			}
			n.media = append(n.media, Used{Property: property.Name, URL: value})
			continue
		}
		key, beside := keyOf(bundle, value)
		if problem := badKey(property, key, value, d.Model); problem != nil {
			problems = append(problems, *problem)
			continue
		}
		if strings.Contains(value, "*") {
			if property.Kind != catalog.Audio || !beside || n.wildcard != nil {
				problems = append(problems, badMedia(describe(property, value)+" has a wildcard; only one audio beside job.json may have one"))
				continue
			}
			n.wildcard = newWildcard(property.Name, value, bundle, key[len(bundle):])
			continue
		}
		n.keys = append(n.keys, key)
		file, err := l.head(ctx, key)
		switch {
		case err == nil:
			n.media = append(n.media, Used{Property: property.Name, File: file})
		case !errors.Is(err, ErrAbsent):
			return n, nil, err
		case beside:
			n.missing = append(n.missing, value)
		default:
			problems = append(problems, Problem{ledger.FileMissing, describe(property, value) + " is not there",
				fmt.Sprintf("Drop it as %s, then drop job.json again.", shown(key))})
		}
	}
	return n, problems, nil
}

func httpsURL(value string) bool {
	u, err := url.Parse(value)
	return err == nil && strings.EqualFold(u.Scheme, "https") && u.Host != "" && u.User == nil
}

// keyOf returns the key of the file that a media value names, and whether it
// lies beside job.json, or below it.
func keyOf(bundle, value string) (key string, beside bool) {
	if key, ok := strings.CutPrefix(value, "/"); ok {
		return key, false
	}
	return bundle + strings.TrimPrefix(value, "./"), true
}

// badKey returns what is wrong with a key that a media value names, or nil.
func badKey(property catalog.MediaProperty, key, value, model string) *Problem {
	below, inbox := strings.CutPrefix(key, ledger.InboxPrefix)
	var bad Problem
	switch kind, known := kindOf(key); {
	case !inbox:
		bad = badMedia(describe(property, value) + " is not below /inbox/")
	case dotted(below):
		bad = badMedia(describe(property, value) + " leads out of the folder, or to a hidden file")
	case len(key) > maxKey:
		bad = badMedia(fmt.Sprintf("%s has more than the %d bytes that S3 allows", describe(property, value), maxKey))
	case openEnded(value):
		return nil // each match has a suffix of its own
	case !known:
		bad = Problem{ledger.UnknownSuffix, describe(property, value) + " has " + suffixIn(shown(value)),
			fmt.Sprintf("Name one of %s, and drop job.json again.", list(media.Suffixes(), "or"))}
	case catalog.Kind(kind) != property.Kind:
		bad = Problem{Code: ledger.WrongKind, Reason: fmt.Sprintf("%s is %s; %s takes %s there",
			describe(property, value), article(kind), model, article(media.Kind(property.Kind)))}
	default:
		return nil
	}
	return &bad
}

func describe(property catalog.MediaProperty, value string) string {
	return fmt.Sprintf("%s %q", property.Name, shown(value))
}

func badMedia(reason string) Problem {
	return Problem{ledger.BadValue, reason,
		"Name a file beside job.json, a file elsewhere as /inbox/…, or an https URL; then drop job.json again."}
}
