package drop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// sources are what asks for the job of one name: a pair, bundles and matches of a
// wildcard. Two sources would be two jobs with one status, so the name is rejected,
// whichever of them is assessed.
type sources struct {
	pair    []File   // the files of a pair
	bundles []string // the .job folders with files; a folder that is the only source may have no files
	inside  []File   // the files of these folders; none if a folder is the only source
	parent  string   // a bundle whose wildcard has a match of this name, or ""
	matches []File   // its matches of this name
}

// sourcesOf returns the sources of a stem's name. After errCrowded it also returns
// what it found.
func (l *lister) sourcesOf(ctx context.Context, stem string) (sources, error) {
	s, err := l.ownSources(ctx, stem)
	if err != nil {
		return s, err
	}
	parent := strings.TrimSuffix(folderOf(stem), "/")
	if !strings.HasPrefix(parent, ledger.InboxPrefix) {
		return s, nil
	}
	folders, err := l.at(ctx, parent, bundleEnding)
	if err != nil {
		return s, err
	}
	for _, folder := range folders {
		matches, err := l.matchesOf(ctx, folder.Key, nameOf(stem))
		if err != nil {
			return s, err
		}
		if matches != nil {
			s.parent, s.matches = folder.Key, matches
		}
	}
	if s.parent != "" && s.pair == nil && len(s.bundles) == 1 {
		// The folder is not the only source, so it counts only if it has files.
		if s.inside, err = l.dropsIn(ctx, s.bundles[0]); len(s.inside) == 0 {
			s.bundles = nil
		}
	}
	return s, err
}

// ownSources returns the sources of a stem's name without the matches of wildcards.
// After errCrowded it also returns what it found.
func (l *lister) ownSources(ctx context.Context, stem string) (sources, error) {
	var s sources
	var folders []string // each once, in whatever Unicode form
	found, err := l.at(ctx, stem, nameEndings)
	for _, f := range found {
		switch {
		case !strings.HasSuffix(f.Key, "/"):
			s.pair = append(s.pair, f)
		case !slices.ContainsFunc(folders, func(other string) bool { return sameText(f.Key, other) }):
			folders = append(folders, f.Key)
		}
	}
	if err != nil {
		return s, err
	}
	if s.pair == nil && len(folders) < 2 {
		s.bundles = folders // it is the only source, whatever it contains
		return s, nil
	}
	for _, folder := range folders {
		inside, err := l.dropsIn(ctx, folder)
		if err != nil {
			return s, err
		}
		if len(inside) > 0 {
			s.bundles, s.inside = append(s.bundles, folder), append(s.inside, inside...)
		}
	}
	return s, nil
}

// dropsIn lists at most bucket.PageSize files below a bundle for each Unicode form, and
// returns those that belong to the bundle.
func (l *lister) dropsIn(ctx context.Context, bundle string) ([]File, error) {
	files, err := l.below(ctx, bundle, bucket.PageSize)
	return slices.DeleteFunc(files, func(f File) bool {
		role := ParseKey(f.Key).Role
		return role != Manifest && role != Member
	}), err
}

// matchesOf returns the matches of a bundle's wildcard that have this job name.
func (l *lister) matchesOf(ctx context.Context, bundle, name string) ([]File, error) {
	if bundleOf(bundle) != bundle {
		return nil, nil // it is a folder in another bundle
	}
	manifests, err := l.named(ctx, bundle, jobJSON)
	if err != nil || len(manifests) != 1 {
		return nil, err
	}
	folder := folderOf(manifests[0].Key)
	doc, _, err := l.readDoc(ctx, manifests[0])
	if _, refused := refusal(err, ""); refused {
		return nil, nil // the bundle's own status says so
	}
	if err != nil {
		return nil, err
	}
	model, _ := l.modelOf(doc)
	if model == nil {
		return nil, nil
	}
	refs := mediaRefs{bundle: folder, doc: doc}
	for _, property := range model.MediaProperties() {
		value, _ := doc.Input[property.Name].(string)
		if link, _ := checkLink(property.Name, value); link || value == "" {
			continue
		}
		key, beside := keyOf(folder, value)
		switch {
		case !strings.Contains(value, "*"):
			refs.keys = append(refs.keys, key)
		case beside && property.Kind == media.Audio && badKey(property, key, value, doc.Model) == nil:
			refs.wildcard = newWildcard(property.Name, value, folder, key[len(folder):])
		}
	}
	if refs.wildcard == nil {
		return nil, nil
	}
	byName, _, err := l.matches(ctx, "", refs)
	return byName[name], err
}

// matchFinding assesses a name whose only source is a match of a wildcard.
func (l *lister) matchFinding(ctx context.Context, s sources, name string) ([]Finding, error) {
	stem := stemOfBundle(s.parent)
	found, err := l.findBundle(ctx, about(nameOf(stem)), s.parent, s.matches[0].Key)
	if err != nil {
		return nil, err
	}
	bundle := found[0]
	found = slices.DeleteFunc(found, func(f Finding) bool { return f.Name != name })
	if len(found) == 0 && bundle.State == ledger.Held { // S3 refuses to return a file that every match uses
		order := max(bundle.Order, orderOf(s.matches))
		return []Finding{about(name).decide(ledger.Held, order, bundle.Problems...)}, nil
	}
	if len(found) == 0 && bundle.Problems != nil { // job.json has the wildcard, but is wrong otherwise
		return []Finding{about(name).decide(ledger.Withdrawn, "", NoLongerNamed(bundle.Name, name))}, nil
	}
	ofBundle, err := l.sourcesOf(ctx, stem)
	if err != nil {
		return found, err
	}
	if contested, ok := ofBundle.contested(about(nameOf(stem))); ok {
		return suspended(found, contested), nil
	}
	return found, nil
}

// NoLongerNamed returns the problem of a match for which the job.json of its bundle
// starts no job now.
func NoLongerNamed(bundle, match string) problem.Problem {
	return problem.Problem{Code: problem.NoLongerNamed, Reason: fmt.Sprintf("the job.json of %s is wrong, was deleted, or no longer names %s", bundle, path.Base(match))}
}

// withMatches returns the finding of a contested name, and the findings of its
// bundles' matches. The matches start no job either.
func (l *lister) withMatches(ctx context.Context, contested Finding, match string, bundles []string) ([]Finding, error) {
	found := []Finding{contested}
	for _, bundle := range bundles {
		all, err := l.findBundle(ctx, about(contested.Name), bundle, match)
		if errors.Is(err, errCrowded) {
			break
		}
		if err != nil {
			return found, err
		}
		for _, f := range suspended(all, contested) {
			if f.Name == contested.Name {
				// Submit withdraws these when job.json is deleted or changed.
				found[0].Jobs = append(found[0].Jobs, f.Jobs...)
				found[0].Matches = append(found[0].Matches, f.Matches...)
				found[0].Warnings = append(found[0].Warnings, f.Warnings...) // Jobs may hold only the first of them
			}
			if !slices.ContainsFunc(found, func(other Finding) bool { return other.Name == f.Name }) {
				found = append(found, f)
			}
		}
	}
	slices.Sort(found[0].Jobs)
	found[0].Jobs = slices.Compact(found[0].Jobs)
	return found, nil
}

// suspended rejects matches of a bundle whose own name has several sources.
func suspended(matches []Finding, contested Finding) []Finding {
	for i, f := range matches {
		if f.Job != nil || f.State == ledger.Waiting || f.State == ledger.Held {
			f.Job = nil
			matches[i] = f.decide(ledger.Rejected, f.Order, contested.Problems...)
		}
	}
	return matches
}

// contested reports whether a name has several sources. If so, it completes the
// finding of the name.
func (s sources) contested(f Finding) (Finding, bool) {
	var by []string
	if s.pair != nil {
		by = append(by, naming(s.pair))
	}
	for _, bundle := range s.bundles {
		by = append(by, "the folder "+problem.Short(path.Base(bundle)))
	}
	if s.parent != "" {
		by = append(by, fmt.Sprintf("%s in %s", naming(s.matches), problem.Short(path.Base(s.parent))))
	}
	if len(by) < 2 {
		return f, false
	}
	return f.decide(ledger.Rejected, orderOf(slices.Concat(s.pair, s.inside, s.matches)), problem.Problem{
		Code: problem.Ambiguous, Reason: fmt.Sprintf("%s would each be the job %s", problem.List(by, "and"), problem.Short(f.Name)),
		Remedy: "Rename or delete all but one of them: the other one is then assessed automatically.",
	}), true
}
