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
	"github.com/lipdrop/lipdrop/internal/problem"
)

// sources are what asks for the job of one name: a pair, bundles and matches of a
// wildcard. Two sources would be two jobs with one status, so a name with two sources is
// rejected, whichever source was changed.
type sources struct {
	pair    []File   // the files of a pair
	bundles []string // the .job folders that have files; if one folder is the only source, it may be empty
	inside  []File   // the files of these folders; not listed if one folder is the only source
	parent  string   // the folder of a bundle whose wildcard has a match of this name, or ""
	matches []File   // the matches of this name in parent
}

// sourcesOf returns the sources of a stem's name. With errCrowded, it also returns the
// sources that it found.
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

// ownSources returns the sources of a stem's name without the matches of wildcards. With
// errCrowded, it also returns the sources that it found.
func (l *lister) ownSources(ctx context.Context, stem string) (sources, error) {
	var s sources
	var folders []string // each folder once, although it may exist in several Unicode forms
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
		s.bundles = folders // one folder is the only source, whatever it contains
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

// dropsIn lists at most bucket.PageSize files below a bundle's folder for each Unicode form
// of the folder. It returns the listed files that belong to the bundle.
func (l *lister) dropsIn(ctx context.Context, bundle string) ([]File, error) {
	files, err := l.below(ctx, bundle, bucket.PageSize)
	return slices.DeleteFunc(files, func(f File) bool {
		role := ParseKey(f.Key).Role
		return role != Manifest && role != Member
	}), err
}

// matchesOf returns the matches of a bundle's wildcard that have the given job name.
func (l *lister) matchesOf(ctx context.Context, bundle, name string) ([]File, error) {
	if bundleOf(bundle) != bundle {
		return nil, nil // this folder is inside another bundle
	}
	manifests, err := l.named(ctx, bundle, jobJSON)
	if err != nil || len(manifests) != 1 {
		return nil, err
	}
	b, err := l.readBundle(ctx, manifests[0])
	if _, refused := refusal(err, ""); refused || err == nil && b.wildcard == nil {
		return nil, nil // if S3 refuses to return job.json, the bundle's own status says so
	}
	if err != nil {
		return nil, err
	}
	byName, _, err := l.matches(ctx, "", b)
	return byName[name], err
}

// matchFinding assesses a name whose only source is a match of a wildcard.
func (l *lister) matchFinding(ctx context.Context, s sources, name string) (Finding, error) {
	stem := stemOfBundle(s.parent)
	own, b, err := l.assessBundle(ctx, about(nameOf(stem)), s.parent)
	switch {
	case err != nil:
		return Finding{}, err
	case own.State == ledger.Held: // S3 refuses to return a file that every match uses
		return about(name).decide(ledger.Held, max(own.Order, orderOf(s.matches)), own.Problems...), nil
	case own.Problems != nil || b.wildcard == nil: // job.json has the wildcard, but something else in it is wrong
		return about(name).decide(ledger.Withdrawn, "", NoLongerNamed(own.Name, name)), nil
	}
	f := matched(name, s.matches, b)
	ofBundle, err := l.sourcesOf(ctx, stem)
	if err != nil {
		return f, err
	}
	if contested, ok := ofBundle.contested(own); ok {
		return f.suspended(contested), nil
	}
	return f, nil
}

// NoLongerNamed returns the problem of a match for which the job.json of its bundle
// starts no job now.
func NoLongerNamed(bundle, match string) problem.Problem {
	return problem.Problem{Code: problem.NoLongerNamed, Reason: fmt.Sprintf("the job.json of %s is wrong, was deleted, or no longer names %s", bundle, path.Base(match))}
}

// withMatches returns the assessment of a contested name, with the matches of its bundles.
// The matches start no job either.
func (l *lister) withMatches(ctx context.Context, contested Finding, match string, bundles []string) (Assessment, error) {
	all := Assessment{Own: contested}
	for _, folder := range bundles {
		a, err := l.findBundle(ctx, about(contested.Name), folder, match)
		if errors.Is(err, errCrowded) {
			break
		}
		if err != nil {
			return all, err
		}
		// Submit withdraws the statuses of these jobs when job.json is deleted or changed.
		all.Own.Jobs = append(all.Own.Jobs, a.Own.Jobs...)
		all.Own.Warnings = append(all.Own.Warnings, a.Own.Warnings...)
		all.Matches = append(all.Matches, a.Matches...)
		if a.Match != nil {
			all.Match = new(a.Match.suspended(contested))
		}
	}
	slices.Sort(all.Own.Jobs)
	all.Own.Jobs = slices.Compact(all.Own.Jobs)
	return all, nil
}

// suspended rejects a match of a bundle, because the bundle's own name has several sources.
func (f Finding) suspended(contested Finding) Finding {
	if f.Job != nil || f.State == ledger.Waiting || f.State == ledger.Held {
		f.Job = nil
		f = f.decide(ledger.Rejected, f.Order, contested.Problems...)
	}
	return f
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
		Remedy: "Rename or delete all but one of them: the remaining one is then assessed automatically.",
	}), true
}
