package drop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// findBundle assesses a .job folder, and the matches of its wildcard: see findMatches.
func (l *lister) findBundle(ctx context.Context, f Finding, folder, changedKey string) (Found, error) {
	b, err := l.assessBundle(ctx, f, folder)
	if err != nil || !b.startsMatches() {
		return Found{Own: b.own}, err
	}
	return l.findMatches(ctx, b, changedKey)
}

// bundle is a .job folder. If it has one job.json, the bundle also says what job.json names.
type bundle struct {
	own      Finding        // of the bundle's own name; without a state if it has a Job or startsMatches returns true
	folder   string         // in the Unicode form in which job.json was uploaded
	doc      *doc           // job.json
	model    *catalog.Model // nil if job.json has no known model or no valid input; refs and wildcard are then empty
	refs     []ref          // the media values, except the wildcard
	wildcard *wildcard

	problems []problem.Problem // of job.json, except problems of its options

	// resolve sets these, and adds to problems.
	media   []Medium
	missing []string // files beside job.json that do not exist yet, as job.json names them
}

// startsMatches reports whether job.json starts a job for each match of its wildcard. It returns
// false if something in job.json is wrong, or if S3 refuses to return a file that job.json names.
func (b bundle) startsMatches() bool { return b.wildcard != nil && b.own.State == "" }

// job returns the job of the given name. audios are the matches of the wildcard that have this
// name; the other media are those that job.json names without a wildcard.
func (b bundle) job(name string, audios ...File) *Job {
	take := takeOf(name, append([]File{b.doc.file}, audios...))
	job := &Job{Name: name, Take: take, doc: b.doc, media: slices.Clone(b.media), problems: b.problems}
	for _, audio := range audios {
		job.media = append(job.media, Medium{Property: b.wildcard.property, File: audio})
	}
	return job
}

// assessBundle assesses a .job folder: its job.json, and whether every file that job.json
// names is there. It does not search for the matches of a wildcard.
func (l *lister) assessBundle(ctx context.Context, f Finding, folder string) (bundle, error) {
	manifests, err := l.named(ctx, folder, jobJSON)
	if err == nil && len(manifests) == 0 {
		f, err = l.noManifest(ctx, f, folder)
	}
	if err != nil || len(manifests) == 0 {
		return bundle{own: f}, err
	}
	f.Order, f.restart = orderOf(manifests), problem.Restart{Name: f.Name, Bundle: true}
	switch {
	case !fits(f.Name):
		return bundle{own: f.decide(ledger.Rejected, nameTooLong(f.Name))}, nil
	case len(manifests) > 1:
		return bundle{own: f.decide(ledger.Rejected, ambiguous(manifests, "the job.json of "+f.Name))}, nil
	}
	b, err := l.readBundle(ctx, manifests[0])
	if err == nil {
		err = l.resolve(ctx, &b)
	}
	if err != nil {
		f.restart.Bundle = b.wildcard == nil // with a wildcard, an upload of job.json would submit all matches again
		b.own, err = f.refused(err)
		return b, err
	}
	if b.model == nil {
		b.own = f.decide(ledger.Rejected, b.problems...)
		return b, nil
	}
	b.own = f
	job := b.job(f.Name)
	if b.missing == nil && b.wildcard == nil {
		b.own.Job = job
		return b, nil
	}
	// Prepare may never run for this bundle, so validate here.
	empty, options := job.emptyFiles(), uploadAgain(b.model.Validate(b.doc.Input), jobJSON)
	if b.wildcard != nil && b.problems == nil && options == nil {
		empty = nil // findMatches and Prepare report empty files
	}
	if problems := slices.Concat(b.problems, empty, options); problems != nil {
		b.own = f.decide(ledger.Rejected, problems...)
	} else if b.wildcard == nil {
		b.own = f.decide(ledger.Waiting, filesMissing(b.missing))
	}
	return b, nil
}

// readBundle reads a job.json, and reports problems with its form and its model.
func (l *lister) readBundle(ctx context.Context, manifest File) (bundle, error) {
	b := bundle{folder: folderOf(manifest.Key)}
	var err error
	if b.doc, b.problems, err = l.readDoc(ctx, manifest); err != nil || b.doc == nil {
		return b, err
	}
	model, ok := l.Catalog.Model(b.doc.Model)
	switch {
	case ok && b.doc.Input != nil:
		b.model = model
		b.refs, b.wildcard = l.refsOf(b.folder, b.doc, model)
	case !ok && b.doc.Model != "":
		b.problems = append(b.problems, l.unknownModel(b.doc.Model, jobJSON))
	case !b.doc.hasModel:
		b.problems = append(b.problems, problem.Problem{
			Code: problem.MissingMember, Reason: `job.json has no "model"`,
			Remedy: fmt.Sprintf(`Set "model" to %s.`, problem.List(l.Catalog.IDs(), "or")), Again: []string{jobJSON},
		})
	}
	return b, nil
}

// unknownModel returns the problem of a model that does not exist. base is the name of the
// file that sets the model.
func (l *lister) unknownModel(id, base string) problem.Problem {
	p := problem.Problem{Code: problem.UnknownModel, Reason: fmt.Sprintf("there is no model %s", problem.Quote(id)), Again: []string{base}}
	set := problem.List(l.Catalog.IDs(), "or")
	if near := catalog.Nearest(id, l.Catalog.IDs()); near != "" {
		p.Reason += " (the nearest is " + near + ")"
		set = near
	}
	p.Remedy = fmt.Sprintf(`Set "model" to %s.`, set)
	return p
}

// noManifest completes the finding of a bundle without a job.json. It sets no Order: the
// status must not replace the status of a take, even if a file is newer than the take.
func (l *lister) noManifest(ctx context.Context, f Finding, bundle string) (Finding, error) {
	files, err := l.filesIn(ctx, bundle)
	if err != nil {
		return f, err
	}
	if len(files) == 0 {
		return f.gone("all files of "+f.Name+" were deleted", ""), nil
	}
	if !fits(f.Name) {
		return f.decide(ledger.Rejected, nameTooLong(f.Name)), nil
	}
	folder := norm.NFC.String(path.Base(bundle))
	reason := whenUploaded(files[0]) + "; job.json is missing"
	remedy := fmt.Sprintf("Upload job.json into %s: it starts the job.", folder)
	job := &Job{}
	for _, file := range files {
		base := path.Base(file.Key)
		_, isMedium := media.KindOf(base)
		switch {
		case ParseKey(file.Key).Role == Manifest:
			return f.decide(ledger.Rejected, badSpelling(file, jobJSON)), nil
		case isMedium:
			job.media = append(job.media, Medium{File: file})
		case equalAnyCase(base, jobJSON):
			reason = fmt.Sprintf("%s is not directly in %s", strings.TrimPrefix(file.Key, ledger.InboxPrefix), folder)
			remedy = fmt.Sprintf("Upload job.json directly into %s, together with the files that it names: job.json starts the job.", folder)
		case catalog.Nearest(base, []string{jobJSON}) != "":
			reason = whenUploaded(file) + "; job.json is missing"
			remedy = fmt.Sprintf("Rename %s to job.json%s, and upload it into %s: it starts the job.", problem.Short(base), hiddenEnd(base, jobJSON), folder)
		}
	}
	if empty := job.emptyFiles(); empty != nil {
		return f.decide(ledger.Rejected, empty...), nil
	}
	return f.decide(ledger.Waiting, problem.Problem{Code: problem.WaitingForManifest, Reason: reason, Remedy: remedy}), nil
}

// badSpelling returns the problem of a job.json or preset.json whose name is spelled in
// a way that lister.named does not search for.
func badSpelling(file File, name string) problem.Problem {
	return problem.Problem{
		Code: problem.InvalidJSON, Reason: fmt.Sprintf("%s is a spelling of %s that is not accepted", path.Base(file.Key), name),
		Remedy: fmt.Sprintf("Rename it to %s, in small letters, and upload it.", name),
	}
}

// resolve finds the media that a job.json names without a wildcard.
func (l *lister) resolve(ctx context.Context, b *bundle) error {
	for _, r := range b.refs {
		medium := Medium{Property: r.property.Name}
		var err error
		switch {
		case r.bad != nil:
			b.problems = append(b.problems, *r.bad)
			continue
		case r.key == "":
			medium.URL = r.value
		default:
			medium.File, err = l.head(ctx, r.key)
		}
		switch {
		case err == nil:
			b.media = append(b.media, medium)
		case !errors.Is(err, bucket.ErrNotFound):
			return err
		case r.isBeside():
			b.missing = append(b.missing, r.value)
		default:
			p := problem.Problem{
				Code: problem.FileMissing, Reason: r.describe() + " does not exist", Member: r.property.Name,
				Remedy: fmt.Sprintf("Upload the file as %s.", problem.ShortValue(r.key)), Start: jobJSON,
			}
			if b.wildcard != nil {
				p.After = problem.AllMatches
			}
			b.problems = append(b.problems, p)
		}
	}
	return nil
}
