package drop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Resolver finds the jobs in Files. It is safe for concurrent use.
type Resolver struct {
	Files   Files
	Catalog *catalog.Catalog
	Settings
}

// Settings are what an operator decides about drops. Each is a parameter of
// template.yaml.
type Settings struct {
	// DefaultVideoModel and DefaultImageModel are the models of pairs without
	// a preset that names one.
	DefaultVideoModel, DefaultImageModel string

	// SharedFolders are the folders, with inbox/ before and a slash behind,
	// whose files any job.json may name.
	SharedFolders []string

	// MaxJobsPerDrop is how many jobs one changed file may start. 0 sets no
	// limit.
	MaxJobsPerDrop int
}

// DefaultSettings returns the defaults of template.yaml.
func DefaultSettings() Settings {
	return Settings{
		DefaultVideoModel: "sync/sync/lipsync/v2/pro", DefaultImageModel: "community/live-avatar",
		SharedFolders: []string{"inbox/shared/"}, MaxJobsPerDrop: 100,
	}
}

// Look is one look at what is there now. What it found is old as soon as
// something changes.
type Look struct {
	*Resolver
	left int // listings that may still be made
}

// Look begins a look at the bucket.
func (r *Resolver) Look() *Look { return &Look{Resolver: r} }

// with returns the look with a number of listings of its own.
func (l *Look) with(listings int) *Look { return &Look{l.Resolver, listings} }

// Subject is something that an event may have changed: a job name, or a file
// that can be no job's.
type Subject struct {
	stem   string // a pair's key without its suffix
	bundle string // a bundle's folder
	match  string // of a bundle with a wildcard: this file's job alone
	beyond int    // of a pair: how many jobs the change concerns, if they are too many for this one to start
	file   string // a file that is answered by itself
}

// Name returns the name that the subject's findings are about, of a bundle
// with a wildcard the name of the bundle.
func (s Subject) Name() string {
	switch {
	case s.stem != "":
		return nameOf(s.stem)
	case s.bundle != "":
		return nameOf(s.bundle)
	default:
		return strings.TrimPrefix(s.file, ledger.InboxPrefix)
	}
}

// Key returns where the subject's status or answer lies.
func (s Subject) Key() string {
	if s.file != "" {
		return answerKey(s.file)
	}
	return about(s.Name()).Key
}

// Finding is what a look found out about a name or a file: a Job, or why there
// is none.
type Finding struct {
	Name string
	// Key is where its status lies.
	Key string
	// Order is the Order of its status (see ledger.Posted): a take where the
	// files that make up its identity are known, else the time of the newest.
	Order string

	// Job is a job whose files are all there. Otherwise State says what to
	// answer, with Problems, the Jobs that a used file is part of, or Warnings.
	Job      *Job
	State    ledger.State
	Problems []problem.Problem
	Jobs     []string
	Warnings []string
}

// Job is one paid run that is asked for, not yet known to be right.
type Job struct {
	Name, Take string

	visual, audio File              // of a pair
	doc           *doc              // of a bundle
	media         []Used            // of a bundle
	match         string            // of a bundle with a wildcard: the key of the match
	wrong         []problem.Problem // with the job.json of a bundle, but for its options
	listings      int               // that Prepare may make
}

// Manifest returns the job.json of a bundle's job.
func (j *Job) Manifest() (File, bool) {
	if j.doc == nil {
		return File{}, false
	}
	return j.doc.file, true
}

// Used is a file or a URL in its place in the model's input.
type Used struct {
	Property string
	File     File
	URL      string // an https URL that is passed on; then there is no File
	Info     media.Info
}

// Input returns what the ledger keeps of a file or URL. The query of a URL
// counts as a secret and is left out.
func (u Used) Input() ledger.Input {
	if u.URL != "" {
		return ledger.Input{Property: u.Property, URL: withoutQuery(u.URL)}
	}
	return ledger.Input{
		Property: u.Property, Key: u.File.Key, ETag: u.File.ETag, VersionID: u.File.VersionID,
		Bytes: u.File.Size, LastModified: u.File.LastModified, DurationSeconds: u.Info.Duration.Seconds(),
	}
}

// Touched returns the subjects that a change of the file at key may concern.
// A key that is no drop concerns none.
func (l *Look) Touched(ctx context.Context, key string) ([]Subject, error) {
	l = l.with(maxTouchedListings)
	role, bundle := place(key)
	switch role {
	case noDrop:
		return nil, nil
	case manifest:
		return []Subject{{bundle: bundle}}, nil
	case member:
		return []Subject{{bundle: bundle, match: key}}, nil
	case visual:
		return l.touchedByVisual(ctx, stemOf(key))
	case audio:
		return l.touchedByAudio(ctx, stemOf(key))
	case preset:
		return l.touchedByPreset(ctx, key)
	default:
		return []Subject{{file: key}}, nil
	}
}

// Find looks at what is there of a subject now. It makes at most maxListings
// listings, whatever the key and the folder.
func (l *Look) Find(ctx context.Context, s Subject) ([]Finding, error) {
	l = l.with(maxListings)
	found, err := l.find(ctx, s)
	if errors.Is(err, errCrowded) {
		f := about(s.Name())
		f.Key = s.Key()
		order := ""
		if len(found) > 0 {
			order = found[0].Order
		}
		return []Finding{f.decide(ledger.Rejected, order, crowded(f.Name))}, nil
	}
	if err != nil {
		return nil, err
	}
	for i, f := range found {
		if f.Job == nil {
			continue
		}
		if f.Job.listings = l.left; s.beyond > 0 {
			found[i] = f.tooMany(s.beyond, l.MaxJobsPerDrop)
		}
	}
	return found, nil
}

func (l *Look) find(ctx context.Context, s Subject) ([]Finding, error) {
	switch {
	case s.stem != "":
		return l.findPair(ctx, s.stem)
	case s.bundle != "":
		return l.findBundle(ctx, s.bundle, s.match)
	default:
		f, err := l.findAnswer(ctx, s.file)
		if errors.Is(err, errCrowded) {
			return []Finding{f}, err
		}
		if err != nil {
			return f.refused(f.Order, err)
		}
		return []Finding{f}, nil
	}
}

// about returns a finding for a job name without a decision yet.
func about(name string) Finding {
	f := Finding{Name: name, Key: ledger.StatusKey(name)}
	if len(f.Key) > maxKey {
		f.Key = answerKey(ledger.InboxPrefix + name)
	}
	return f
}

// decide completes a finding with a state and the problems that explain it.
func (f Finding) decide(state ledger.State, order string, problems ...problem.Problem) Finding {
	f.State, f.Order, f.Problems = state, order, bounded(problems)
	return f
}

// usedBy completes a finding about a file that is part of the named jobs.
func (f Finding) usedBy(jobs []string, order string) Finding {
	if f.Jobs = jobs; len(jobs) > maxJobs {
		f.Jobs = jobs[:maxJobs]
		f.Warnings = []string{fmt.Sprintf("only the first %d jobs are named; upload the audio of another one again to start its job", maxJobs)}
	}
	return f.decide(ledger.Used, order)
}

// tooMany returns the finding of a job that this change may not start: it is
// held until MaxJobsPerDrop is raised or its own audio is uploaded again.
func (f Finding) tooMany(jobs, most int) Finding {
	f.Job = nil
	return f.decide(ledger.Held, f.Order, problem.Problem{
		Code: problem.TooManyJobs, Reason: fmt.Sprintf("one changed file asks for %d jobs; it may start at most %d (MaxJobsPerDrop)", jobs, most),
	})
}

// refused completes a finding about a file that S3 does not give: it is held,
// and retried. Any other error is returned.
func (f Finding) refused(order string, err error) ([]Finding, error) {
	refused, ok := errors.AsType[*bucket.RefusedError](err)
	if !ok {
		return nil, err
	}
	return []Finding{f.decide(ledger.Held, order, refusedProblem(refused, problem.Short(path.Base(refused.Key))))}, nil
}

// StateOf returns the state of a name that has these problems: held if time or
// an operator resolves them all, else rejected.
func StateOf(problems []problem.Problem) ledger.State {
	for _, p := range problems {
		if p.Code.State() != string(ledger.Held) {
			return ledger.Rejected
		}
	}
	return ledger.Held
}

// gone completes a finding about files that are not there any more.
func (f Finding) gone(reason, remedy string) Finding {
	return f.decide(ledger.Withdrawn, "", problem.Problem{Code: problem.FilesGone, Reason: reason, Remedy: remedy})
}
