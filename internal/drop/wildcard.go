package drop

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// wildcard is a value in job.json that has a *, for audio files beside job.json. The
// matches with the same job name (see MatchName) are assessed together, as one job.
type wildcard struct {
	property string
	value    string // as job.json gives it
	literal  string // what every match's key begins with, perhaps in another Unicode form
	pattern  string // the key of every match in NFC, with a * for any text without a slash
}

// newWildcard returns the wildcard of a value that names a key in a bundle's folder. A * in
// the folder's own name is harmless, because only keys in this folder are compared.
func newWildcard(folder string, r ref) *wildcard {
	literal, _, _ := strings.Cut(r.key[len(folder):], "*")
	return &wildcard{r.property.Name, r.value, folder + literal, norm.NFC.String(r.key)}
}

// matches reports whether a key matches: a * stands for any text without a slash.
// Unlike path.Match, this method is fast even if the key and the pattern are repetitive.
func (w *wildcard) matches(key string) bool {
	patterns, parts := strings.Split(w.pattern, "/"), strings.Split(norm.NFC.String(key), "/")
	return slices.EqualFunc(patterns, parts, matchesPart)
}

// matchesPart does what matches does, for one part of a path.
func matchesPart(pattern, part string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	part, ok := strings.CutPrefix(part, first)
	if !wild || !ok {
		return ok && part == ""
	}
	middle := strings.Split(rest, "*")
	last := middle[len(middle)-1]
	if part, ok = strings.CutSuffix(part, last); !ok {
		return false
	}
	for _, text := range middle[:len(middle)-1] {
		if _, part, ok = strings.Cut(part, text); !ok {
			return false
		}
	}
	return true
}

// openEnded reports whether a value has a * in its suffix, or in place of a suffix.
func openEnded(value string) bool {
	base := path.Base(value)
	suffix := path.Ext(base)
	return strings.Contains(suffix, "*") || suffix == "" && strings.Contains(base, "*")
}

// findMatches completes the bundle's own finding: used, waiting or rejected. If job.json names
// the changed file, or changedKey is "", it also returns the subjects of all matches. Otherwise, if
// the changed file is a match, it also assesses that file's job name.
func (l *lister) findMatches(ctx context.Context, b bundle, changedKey string) (Found, error) {
	byName, all, err := l.listMatches(ctx, b, changedKey)
	if err != nil {
		return Found{}, err
	}
	f := b.own
	dropped := []File{b.doc.file}
	var jobs []string
	for name, files := range byName {
		dropped = append(dropped, files...)
		if slices.ContainsFunc(files, isAudio) {
			jobs = append(jobs, name)
		}
	}
	slices.Sort(jobs)
	f.Jobs, f.Order = jobs, orderOf(dropped)
	switch empty := b.job(f.Name).emptyFiles(); {
	case jobs != nil:
		f = f.decide(ledger.Used)
	case empty != nil:
		f = f.decide(ledger.Rejected, empty...)
	default:
		f = f.decide(ledger.Waiting, problem.Problem{
			Code: problem.WaitingForMatch, Reason: fmt.Sprintf("no audio file matches %s of job.json yet", problem.Quote(b.wildcard.value)),
			Remedy: fmt.Sprintf("Beside job.json, upload an audio file that matches %s: the job of this file then starts automatically. Or fix job.json, then upload it again.", problem.Quote(b.wildcard.value)),
		})
	}
	if !all {
		f.Warnings = append(f.Warnings, fmt.Sprintf(ledger.OnlyFirst+"%d files whose keys begin with %q were compared with %s", maxMatches, b.wildcard.literal, problem.Quote(b.wildcard.value)))
	}
	a := Found{Own: f}
	switch {
	case changedKey == "" || b.names(changedKey):
		a.Matches = l.matchSubjects(b, byName, len(jobs))
	case b.wildcard.matches(changedKey):
		m, err := l.findChangedMatch(ctx, b, byName, changedKey)
		if err != nil {
			return a, err
		}
		a.Match, a.Matches = &m.Own, m.Matches
	}
	unused, err := l.unused(ctx, b) // comes last: if the limit of listings is reached, only a warning is lost
	if unused != nil {
		a.Own.Warnings = append(a.Own.Warnings, fmt.Sprintf("job.json does not use %s: only audio files that match %s get a job", fileNames(unused), problem.Quote(b.wildcard.value)))
	}
	return a, exceptCrowded(err)
}

// matchSubjects returns a subject for each job name of the matches. The parameter jobs is the
// number of names that have an audio file. A job that waits for files also counts against
// MaxJobsPerDrop, because the files may arrive before the job's subject is assessed.
func (l *lister) matchSubjects(b bundle, byName map[string][]File, jobs int) []Subject {
	var subjects []Subject
	counted := 0
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s := fileSubject(ParseKey(byName[name][0].Key))
		if f := b.matchFinding(name, byName[name]); f.Job != nil || f.State == ledger.Waiting {
			counted++
			s = l.limited(s, counted, jobs, f.Job == nil)
		}
		subjects = append(subjects, s)
	}
	return subjects
}

// findChangedMatch assesses the job name of a match that was uploaded or deleted.
func (l *lister) findChangedMatch(ctx context.Context, b bundle, byName map[string][]File, changedKey string) (a Found, err error) {
	name := MatchName(b.folder, changedKey)
	f, stem := newFinding(name), ledger.InboxPrefix+name
	from, err := l.ownSources(ctx, stem)
	if err != nil {
		return a, err
	}
	if from.matches = byName[name]; from.matches != nil {
		from.matchedBy = b.folder
	}
	f, contested, err := l.contested(ctx, &from, f)
	switch {
	case contested || err != nil:
		a.Own = f
	case from.pair != nil:
		a.Own, err = l.findPair(ctx, f, stem, from.pair)
	case from.matches != nil:
		a.Own = b.matchFinding(name, from.matches)
	case from.bundles != nil:
		return l.findBundle(ctx, f, from.bundles[0], "")
	default:
		a.Own = f.gone(path.Base(changedKey)+" was deleted", "")
	}
	return a, err
}

// listMatches returns the files that match a wildcard, by job name, and whether it compared
// all files. changedKey is the key of the file that was changed, or "". If this key
// matches, listMatches always compares the media files with the same stem.
func (l *lister) listMatches(ctx context.Context, b bundle, changedKey string) (byName map[string][]File, all bool, err error) {
	files, all, err := l.listBelow(ctx, b.wildcard.literal, maxMatches)
	if err != nil {
		return nil, false, err
	}
	if changedKey != "" && b.wildcard.matches(changedKey) {
		// The file may sort after the files that were listed.
		own, err := l.withEndings(ctx, stemOf(changedKey), mediaEndings)
		if err != nil {
			return nil, false, err
		}
		files = append(files, own...)
	}
	return b.matchesByName(files), all, nil
}

// matchesByName returns the files that match, each once, by job name.
func (b bundle) matchesByName(files []File) map[string][]File {
	byName := map[string][]File{}
	files = slices.CompactFunc(sorted(files), func(a, b File) bool { return a.Key == b.Key })
	for _, file := range files {
		if ParseKey(file.Key).Role == Member && b.wildcard.matches(file.Key) && !b.names(file.Key) {
			name := MatchName(b.folder, file.Key)
			byName[name] = append(byName[name], file)
		}
	}
	return byName
}

// unused returns the files of a bundle that job.json does not name and that do not match its
// wildcard.
func (l *lister) unused(ctx context.Context, b bundle) ([]File, error) {
	var unused []File
	files, err := l.filesIn(ctx, b.folder)
	for _, file := range files {
		if ParseKey(file.Key).Role == Member && !b.wildcard.matches(file.Key) && !b.names(file.Key) {
			unused = append(unused, file)
		}
	}
	return unused, err
}

// names reports whether job.json names a key by a value that is not the wildcard.
func (b bundle) names(key string) bool {
	return slices.ContainsFunc(b.refs, func(r ref) bool { return equalNFC(key, r.key) })
}

// matchFinding returns the finding of files that match a wildcard and have the same job
// name.
func (b bundle) matchFinding(name string, files []File) Finding {
	f := newFinding(name)
	f.Order = max(orderOf(files), b.own.Order)
	if !fits(name) {
		return f.decide(ledger.Rejected, nameTooLong(name))
	}
	var problems []problem.Problem
	var audios []File
	for _, file := range files {
		if isAudio(file) {
			audios = append(audios, file)
			continue
		}
		base := path.Base(file.Key)
		problems = append(problems, problem.Problem{
			Code: problem.WrongKind, Reason: fmt.Sprintf("%s matches %s of job.json, but is not an audio file", base, problem.Quote(b.wildcard.value)),
			Remedy: fmt.Sprintf("Delete %s, or end the wildcard with a suffix such as .wav and upload job.json again.", base), After: problem.AllMatches,
		})
	}
	if len(audios) > 1 {
		problems = append(problems, ambiguous(audios, "the audio of "+name))
	}
	job := b.job(name, audios...)
	job.match = files[0].Key
	if problems != nil || b.missing != nil {
		problems = append(problems, job.emptyFiles()...) // otherwise Prepare reports empty files
	}
	switch {
	case problems != nil:
		return f.decide(ledger.Rejected, problems...)
	case b.missing != nil:
		p := filesMissing(b.missing)
		p.After = problem.AllMatches
		return f.decide(ledger.Waiting, p)
	}
	f.Job = job
	return f
}

func isAudio(f File) bool {
	kind, _ := media.KindOf(f.Key)
	return kind == media.Audio
}

// MatchName returns the job name that a file in a bundle's folder gets if a wildcard matches it.
func MatchName(folder, key string) string {
	return nameOf(stemOfBundle(folder)) + "/" + norm.NFC.String(stemOf(path.Base(key)))
}
