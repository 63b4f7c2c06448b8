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

// claims are the sources of one job name: pairs, bundles and matches of a wildcard.
// Two claims would be two jobs with one status, so the name is rejected, whichever
// of them is assessed.
type claims struct {
	pair    []File   // the files of a pair
	bundles []string // the .job folders with files; a folder that is the only claim may have no files
	inside  []File   // the files of these folders
	parent  string   // a bundle whose wildcard has a match of this name, or ""
	matches []File   // its matches of this name
}

// claimsOf returns the claims to the name of a stem.
func (l *lister) claimsOf(ctx context.Context, stem string) (claims, error) {
	c, err := l.ownClaims(ctx, stem)
	if err != nil {
		return c, err
	}
	parent := strings.TrimSuffix(folderOf(stem), "/")
	if !strings.HasPrefix(parent, ledger.InboxPrefix) {
		return c, nil
	}
	folders, err := l.at(ctx, parent, bundleEnding)
	if err != nil {
		return c, err
	}
	for _, folder := range folders {
		matches, err := l.matchesOf(ctx, folder.Key, nameOf(stem))
		if err != nil {
			return c, err
		}
		if matches != nil {
			c.parent, c.matches = folder.Key, matches
		}
	}
	if c.parent != "" && c.pair == nil && len(c.bundles) == 1 {
		if c.inside, err = l.dropsIn(ctx, c.bundles[0]); len(c.inside) == 0 {
			c.bundles = nil
		}
	}
	return c, err
}

// ownClaims returns the claims to a stem's name, except those of wildcards.
func (l *lister) ownClaims(ctx context.Context, stem string) (claims, error) {
	var c claims
	found, err := l.at(ctx, stem, nameEndings)
	for _, f := range found {
		if !strings.HasSuffix(f.Key, "/") {
			c.pair = append(c.pair, f)
		}
	}
	if err != nil {
		return c, err
	}
	var folders []string // each once, in whatever Unicode form
	for _, f := range found {
		if strings.HasSuffix(f.Key, "/") && !slices.ContainsFunc(folders, func(other string) bool { return sameText(f.Key, other) }) {
			folders = append(folders, f.Key)
		}
	}
	if c.pair == nil && len(folders) < 2 {
		c.bundles = folders // it is the only claim, whatever it contains
		return c, nil
	}
	for _, folder := range folders {
		inside, err := l.dropsIn(ctx, folder)
		if err != nil {
			return c, err
		}
		if len(inside) > 0 {
			c.bundles, c.inside = append(c.bundles, folder), append(c.inside, inside...)
		}
	}
	return c, nil
}

// dropsIn returns the files of a bundle, without hidden ones.
func (l *lister) dropsIn(ctx context.Context, bundle string) ([]File, error) {
	files, err := l.below(ctx, bundle, bucket.PageSize)
	return slices.DeleteFunc(files, func(f File) bool {
		role := ParseKey(f.Key).Role
		return role != Manifest && role != Member
	}), err
}

// matchesOf returns the files that a bundle's wildcard makes jobs of this name.
func (l *lister) matchesOf(ctx context.Context, bundle, name string) ([]File, error) {
	if bundleOf(bundle) != bundle {
		return nil, nil // it is a folder in another bundle
	}
	manifests, err := l.named(ctx, bundle, jobJSON)
	if err != nil || len(manifests) != 1 {
		return nil, err
	}
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
	n := named{}
	for _, property := range model.MediaProperties() {
		value, _ := doc.Input[property.Name].(string)
		if bad, link := badLink(property.Name, value); bad != nil || link || value == "" {
			continue
		}
		key, beside := keyOf(folderOf(manifests[0].Key), value)
		switch {
		case !strings.Contains(value, "*"):
			n.keys = append(n.keys, key)
		case beside && badKey(property, key, value, doc.Model) == nil:
			n.wildcard = newWildcard(property.Name, value, folderOf(manifests[0].Key), key[len(folderOf(manifests[0].Key)):])
		}
	}
	if n.wildcard == nil {
		return nil, nil
	}
	byName, _, err := l.matches(ctx, bundle, n)
	return byName[name], err
}

// matchFinding returns the finding of the wildcard's match that claims a name.
func (l *lister) matchFinding(ctx context.Context, c claims, name string) ([]Finding, error) {
	stem := stemOfBundle(c.parent)
	found, err := l.findBundle(ctx, about(nameOf(stem)), c.parent, c.matches[0].Key)
	if err != nil {
		return nil, err
	}
	bundle := found[0]
	found = slices.DeleteFunc(found, func(f Finding) bool { return f.Name != name })
	if len(found) == 0 && bundle.State == ledger.Held { // S3 refuses to return a file that every match uses
		order := max(ledger.Stamp(bundle.Order), stamp(c.matches))
		return []Finding{about(name).decide(ledger.Held, order, bundle.Problems...)}, nil
	}
	if len(found) == 0 && bundle.Problems != nil { // job.json has the wildcard, but is wrong otherwise
		return []Finding{about(name).decide(ledger.Withdrawn, "", NoLongerNamed(bundle.Name, name))}, nil
	}
	parent, err := l.claimsOf(ctx, stem)
	if err != nil {
		return found, err
	}
	if p, contested := parent.contested(about(nameOf(stem))); contested {
		return suspended(found, p), nil
	}
	return found, nil
}

// NoLongerNamed returns the problem of a match that the bundle's job.json starts no
// job for now.
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
			}
			if !slices.ContainsFunc(found, func(other Finding) bool { return other.Name == f.Name }) {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// suspended rejects matches of a bundle whose own name has several claims.
func suspended(matches []Finding, contested Finding) []Finding {
	for i, f := range matches {
		if f.Job != nil || f.State == ledger.Waiting || f.State == ledger.Held {
			f.Job = nil
			matches[i] = f.decide(ledger.Rejected, f.Order, contested.Problems...)
		}
	}
	return matches
}

// contested completes the finding of a name that has several claims, and reports
// whether it has several.
func (c claims) contested(f Finding) (Finding, bool) {
	var by []string
	if c.pair != nil {
		by = append(by, naming(c.pair))
	}
	for _, bundle := range c.bundles {
		by = append(by, "the folder "+problem.Short(path.Base(bundle)))
	}
	if c.parent != "" {
		by = append(by, fmt.Sprintf("%s in %s", naming(c.matches), problem.Short(path.Base(c.parent))))
	}
	if len(by) < 2 {
		return f, false
	}
	return f.decide(ledger.Rejected, stamp(slices.Concat(c.pair, c.inside, c.matches)), problem.Problem{
		Code: problem.Ambiguous, Reason: fmt.Sprintf("%s would each be the job %s", problem.List(by, "and"), problem.Short(f.Name)),
		Remedy: "Rename or delete all but one of them: the other one is then assessed automatically.",
	}), true
}
