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

// sources are what could start the job of one name: a pair, bundles, and matches of a bundle's
// wildcard. Two sources would be two jobs with one status, so a name with two sources is rejected.
type sources struct {
	pair      []File   // the files of a pair
	bundles   []string // the .job folders of the name, each once, although it may exist in several Unicode forms
	matches   []File   // the matches that have the name
	matchedBy string   // the .job folder whose wildcard matches them, or ""
}

// sourcesOf returns the sources of a stem's name. With errCrowded, it also returns the
// sources that it found.
func (l *lister) sourcesOf(ctx context.Context, stem string) (sources, error) {
	s, err := l.ownSources(ctx, stem)
	bundleStem := strings.TrimSuffix(folderOf(stem), "/") // inbox/a for the stem inbox/a/b: the match inbox/a.job/b.wav has this stem's name
	if err != nil || !strings.HasPrefix(bundleStem, ledger.InboxPrefix) {
		return s, err
	}
	folders, err := l.withEndings(ctx, bundleStem, bundleEnding)
	if err != nil {
		return s, err
	}
	for _, folder := range folders {
		matches, err := l.matchesOf(ctx, folder.Key, nameOf(stem))
		if err != nil {
			return s, err
		}
		if matches != nil {
			s.matches, s.matchedBy = matches, folder.Key
		}
	}
	return s, nil
}

// ownSources returns the sources of a stem's name without the matches of wildcards. With
// errCrowded, it also returns the sources that it found.
func (l *lister) ownSources(ctx context.Context, stem string) (s sources, err error) {
	found, err := l.withEndings(ctx, stem, nameEndings)
	for _, f := range found {
		switch {
		case !strings.HasSuffix(f.Key, "/"):
			s.pair = append(s.pair, f)
		case !slices.ContainsFunc(s.bundles, func(other string) bool { return equalNFC(f.Key, other) }):
			s.bundles = append(s.bundles, f.Key)
		}
	}
	return s, err
}

// filesIn returns the files that belong to a bundle. For each Unicode form of the bundle's folder, it
// lists at most bucket.PageSize files.
func (l *lister) filesIn(ctx context.Context, bundle string) ([]File, error) {
	files, _, err := l.listBelow(ctx, bundle, bucket.PageSize)
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
	byName, all, err := l.listMatches(ctx, b, "")
	if err != nil || all {
		return byName[name], err
	}
	// The matches of this name may sort after the files that were listed.
	own, err := l.withEndings(ctx, folderOf(b.wildcard.literal)+path.Base(name), mediaEndings)
	if matches := b.matchesByName(own)[name]; matches != nil || err != nil {
		return matches, err
	}
	return byName[name], nil
}

// findMatch assesses a name whose only source is a match of a wildcard.
func (l *lister) findMatch(ctx context.Context, s sources, f Finding) (Finding, error) {
	stem := stemOfBundle(s.matchedBy)
	b, err := l.assessBundle(ctx, newFinding(nameOf(stem)), s.matchedBy)
	switch {
	case err != nil:
		return f, err
	case b.own.State == ledger.Held: // S3 refuses to return a file that every match uses
		f.Order = max(b.own.Order, orderOf(s.matches))
		return f.decide(ledger.Held, b.own.Problems...), nil
	case !b.startsMatches(): // job.json has the wildcard, but something else in it is wrong
		return f.decide(ledger.Withdrawn, NoLongerNamed(b.own.Name, f.Name)), nil
	}
	f = b.matchFinding(f.Name, s.matches)
	ofBundle, err := l.sourcesOf(ctx, stem)
	if err != nil {
		return f, err
	}
	contested, ok, err := l.contested(ctx, &ofBundle, b.own)
	if ok {
		f = f.rejectMatch(contested)
	}
	return f, err
}

// NoLongerNamed returns the problem of a match whose bundle no longer starts a job for it.
func NoLongerNamed(bundle, match string) problem.Problem {
	return problem.Problem{
		Code: problem.NoLongerNamed, Reason: fmt.Sprintf("the job.json of %s is wrong, was deleted, or no longer names %s", bundle, path.Base(match)),
		After: problem.AllMatches,
	}
}

// withMatches returns the assessment of a contested name, with the matches of its bundles.
// The matches start no job either.
func (l *lister) withMatches(ctx context.Context, contested Finding, bundles []string, changedKey string) (Found, error) {
	all := Found{Own: contested}
	for _, folder := range bundles {
		a, err := l.findBundle(ctx, newFinding(contested.Name), folder, changedKey)
		if errors.Is(err, errCrowded) {
			break // too few listings are left for the matches
		}
		if err != nil {
			return all, err
		}
		// The status stores these names, so that submit can later withdraw the matches that job.json
		// no longer names.
		all.Own.Jobs = append(all.Own.Jobs, a.Own.Jobs...)
		all.Own.Warnings = append(all.Own.Warnings, a.Own.Warnings...)
		all.Matches = append(all.Matches, a.Matches...)
		if a.Match != nil {
			all.Match = new(a.Match.rejectMatch(contested))
		}
	}
	slices.Sort(all.Own.Jobs)
	all.Own.Jobs = slices.Compact(all.Own.Jobs)
	return all, nil
}

// rejectMatch rejects a match whose bundle's name is contested if the match starts a job, waits or
// is held. Otherwise it returns the match unchanged.
func (f Finding) rejectMatch(contested Finding) Finding {
	if f.Job != nil || f.State == ledger.Waiting || f.State == ledger.Held {
		f = f.decide(ledger.Rejected, contested.Problems...)
	}
	return f
}

// contested reports whether a name has several sources. If so, it rejects f, the finding of the
// name. A .job folder for which filesIn returns no files is not a source: if there seem to be
// several sources, contested first removes such folders from s.
func (l *lister) contested(ctx context.Context, s *sources, f Finding) (Finding, bool, error) {
	if len(s.bundles)+min(len(s.pair), 1)+min(len(s.matches), 1) < 2 {
		return f, false, nil
	}
	files := slices.Concat(s.pair, s.matches)
	var by []string
	if s.pair != nil {
		by = append(by, fileNames(s.pair))
	}
	folders := s.bundles
	s.bundles = nil
	for _, folder := range folders {
		inside, err := l.filesIn(ctx, folder)
		if err != nil {
			return f, false, err
		}
		if len(inside) > 0 {
			s.bundles, files = append(s.bundles, folder), append(files, inside...)
			by = append(by, "the folder "+problem.Short(path.Base(folder)))
		}
	}
	if s.matches != nil {
		by = append(by, fmt.Sprintf("%s in %s", fileNames(s.matches), problem.Short(path.Base(s.matchedBy))))
	}
	if len(by) < 2 {
		return f, false, nil
	}
	f.Order = orderOf(files)
	return f.decide(ledger.Rejected, problem.Problem{
		Code: problem.Ambiguous, Reason: fmt.Sprintf("the job %s would be started by %s", problem.Short(f.Name), strings.Join(by, ", and also by ")),
		Remedy: "Rename or delete all but one of these drops: the remaining one is then assessed automatically.",
	}), true, nil
}
