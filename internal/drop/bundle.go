package drop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// findBundle assesses a .job folder: its job.json, and whether every file that it
// names is there. If job.json has a wildcard, it returns what findMatches returns.
func (l *lister) findBundle(ctx context.Context, f Finding, bundle, match string) ([]Finding, error) {
	manifests, err := l.named(ctx, bundle, jobJSON)
	if err != nil {
		return nil, err
	}
	switch {
	case len(manifests) == 0:
		f, err = l.noManifest(ctx, f, bundle)
		return []Finding{f}, err
	case !fits(f.Name):
		return []Finding{f.decide(ledger.Rejected, orderOf(manifests), nameTooLong(f.Name))}, nil
	case len(manifests) > 1:
		return []Finding{f.decide(ledger.Rejected, orderOf(manifests), ambiguous(manifests, "the job.json of "+f.Name))}, nil
	}
	bundle = folderOf(manifests[0].Key) // in the Unicode form in which job.json was uploaded
	f.Order = orderOf(manifests)
	doc, problems, err := l.readDoc(ctx, manifests[0])
	if err != nil {
		return f.refused(f.Order, err)
	}
	model, wrong := l.modelOf(doc)
	problems = append(problems, wrong...)
	if model == nil || doc.Input == nil {
		return []Finding{f.decide(ledger.Rejected, f.Order, problems...)}, nil
	}
	refs, wrong, err := l.resolve(ctx, bundle, doc, model)
	if err != nil {
		return f.refused(f.Order, err)
	}
	problems = append(problems, wrong...)
	job := &Job{Name: f.Name, Take: takeOf(f.Name, manifests), doc: doc, media: refs.media, wrong: problems}
	if refs.missing != nil || refs.wildcard != nil {
		// Prepare may never run for this bundle, so validate here. If there is a wildcard
		// and nothing else is wrong, findMatches and Prepare report empty files.
		options := uploadAgain(model.Validate(doc.Input), jobJSON)
		if problems != nil || options != nil || refs.wildcard == nil {
			problems = append(problems, job.emptyFiles(filesOf(refs.media))...)
		}
		if problems = append(problems, options...); problems != nil {
			return []Finding{f.decide(ledger.Rejected, f.Order, problems...)}, nil
		}
	}
	switch {
	case refs.wildcard != nil:
		return l.findMatches(ctx, f, match, refs)
	case refs.missing != nil:
		return []Finding{f.decide(ledger.Waiting, f.Order, missing(refs.missing))}, nil
	}
	f.Job = job
	return []Finding{f}, nil
}

// modelOf returns the model that a job.json names, or the problem with it. It
// returns neither for a job.json that cannot be read.
func (l *lister) modelOf(d *doc) (*catalog.Model, []problem.Problem) {
	if d == nil {
		return nil, nil
	}
	if model, ok := l.Catalog.Model(d.Model); ok {
		return model, nil
	}
	if d.Model != "" {
		return nil, []problem.Problem{l.unknownModel(d.Model, jobJSON)}
	}
	if d.hasModel {
		return nil, nil // readDoc reports the wrong form
	}
	return nil, []problem.Problem{{
		Code: problem.MissingMember, Reason: `job.json has no "model"`,
		Remedy: fmt.Sprintf(`Set "model" to %s.`, problem.List(l.Catalog.IDs(), "or")), Again: []string{jobJSON},
	}}
}

// unknownModel returns the problem of a model that does not exist. The file named
// base sets it.
func (l *lister) unknownModel(id, base string) problem.Problem {
	p := problem.Problem{Code: problem.UnknownModel, Reason: fmt.Sprintf("there is no model %s", problem.Quote(id)), Again: []string{base}}
	set := problem.List(l.Catalog.IDs(), "or")
	if near := l.Catalog.Nearest(id); near != "" {
		p.Reason += " (the nearest is " + near + ")"
		set = near
	}
	p.Remedy = fmt.Sprintf(`Set "model" to %s.`, set)
	return p
}

// noManifest completes the finding of a bundle without a job.json. The finding has
// no Order: only job.json makes a take, so a newer file of another kind must not
// hide a take of the name.
func (l *lister) noManifest(ctx context.Context, f Finding, bundle string) (Finding, error) {
	files, err := l.dropsIn(ctx, bundle)
	if err != nil {
		return f, err
	}
	if len(files) == 0 {
		return f.gone("all files of "+f.Name+" were deleted", ""), nil
	}
	folder := norm.NFC.String(path.Base(bundle))
	reason := since(files[0]) + "; job.json is missing"
	remedy := fmt.Sprintf("Upload job.json into %s: it starts the job.", folder)
	var dropped []File
	for _, file := range files {
		base := path.Base(file.Key)
		_, isMedium := kindOf(base)
		switch {
		case ParseKey(file.Key).Role == Manifest:
			return f.decide(ledger.Rejected, "", badSpelling(file, jobJSON)), nil
		case isMedium:
			dropped = append(dropped, file)
		case sameName(base, jobJSON):
			reason = fmt.Sprintf("%s is not directly in %s", strings.TrimPrefix(file.Key, ledger.InboxPrefix), folder)
			remedy = fmt.Sprintf("Upload job.json and the files that it names directly into %s: it starts the job.", folder)
		case catalog.Nearest(base, []string{jobJSON}) != "":
			reason = since(file) + "; job.json is missing"
			remedy = fmt.Sprintf("Rename %s to job.json%s, and upload it into %s: it starts the job.", problem.Short(base), hiddenEnd(base, jobJSON), folder)
		}
	}
	if empty := (&Job{}).emptyFiles(dropped); empty != nil {
		return f.decide(ledger.Rejected, "", empty...), nil
	}
	return f.decide(ledger.Waiting, "", problem.Problem{Code: problem.WaitingForManifest, Reason: reason, Remedy: remedy}), nil
}

// badSpelling returns the problem of a job.json or preset.json whose name is spelled in
// a way that lister.named does not search for.
func badSpelling(file File, name string) problem.Problem {
	return problem.Problem{
		Code: problem.InvalidJSON, Reason: fmt.Sprintf("%s is a spelling of %s that is not accepted", path.Base(file.Key), name),
		Remedy: fmt.Sprintf("Rename it to %s, in small letters, and upload it.", name),
	}
}

// mediaRefs are the files and URLs that the media values of a job.json name.
type mediaRefs struct {
	bundle   string // the folder of job.json
	doc      *doc   // job.json
	media    []Used
	missing  []string // files beside job.json that do not exist yet, as job.json names them
	keys     []string // of all files that are named without a wildcard, whether they exist or not
	wildcard *wildcard
}

// resolve finds the files of the media values of a job.json. It ignores values
// that are blank or not texts: the model's validation reports them.
func (l *lister) resolve(ctx context.Context, bundle string, d *doc, model *catalog.Model) (mediaRefs, []problem.Problem, error) {
	refs := mediaRefs{bundle: bundle, doc: d}
	var problems []problem.Problem
	wrong := func(property catalog.MediaProperty, p problem.Problem) {
		p.Member = property.Name
		problems = append(problems, p)
	}
	for _, property := range model.MediaProperties() {
		value, ok := d.Input[property.Name].(string)
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		switch link, bad := checkLink(property.Name, value); {
		case bad != nil:
			wrong(property, *bad)
			continue
		case link:
			refs.media = append(refs.media, Used{Property: property.Name, URL: value})
			continue
		}
		key, beside := keyOf(bundle, value)
		if bad := badKey(property, key, value, d.Model); bad != nil {
			wrong(property, *bad)
			continue
		}
		if strings.Contains(value, "*") {
			if property.Kind != media.Audio || !beside || refs.wildcard != nil {
				wrong(property, *badMedia(describe(property, value) + " has a wildcard; only one value may have one, and it must be for audio files beside job.json"))
				continue
			}
			refs.wildcard = newWildcard(property.Name, value, bundle, key[len(bundle):])
			continue
		}
		if !beside && !l.mayName(bundle, key) {
			wrong(property, l.notShared(property, bundle, value))
			continue
		}
		refs.keys = append(refs.keys, key)
		file, err := l.head(ctx, key)
		switch {
		case err == nil:
			refs.media = append(refs.media, Used{Property: property.Name, File: file})
		case !errors.Is(err, bucket.ErrNotFound):
			return refs, nil, err
		case beside:
			refs.missing = append(refs.missing, value)
		default:
			wrong(property, problem.Problem{
				Code: problem.FileMissing, Reason: describe(property, value) + " does not exist",
				Remedy: fmt.Sprintf("Upload the file as %s.", problem.ShortValue(key)), Again: []string{jobJSON},
			})
		}
	}
	return refs, problems, nil
}
