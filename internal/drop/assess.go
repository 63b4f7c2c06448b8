package drop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// File is a file in the bucket as it is now.
type File = bucket.File

// Files is where dropped files are stored: a bucket or a local folder. The
// methods do what those of bucket.Bucket do.
type Files interface {
	List(ctx context.Context, prefix string, limit int) ([]File, bool, error)
	ListFolder(ctx context.Context, prefix, after string, limit int) ([]File, bool, error)
	Head(ctx context.Context, key string) (File, error)
	ReadRange(ctx context.Context, f File, off, n int64) ([]byte, error)
}

// Resolver assesses the drops in Files. It is safe for concurrent use.
type Resolver struct {
	Files   Files
	Catalog *catalog.Catalog
	Settings
	Choice *Choice // nil, unless a person has chosen a model or options before a drop
}

// Choice is the model and the options of every pair, in place of those of a preset.
type Choice struct {
	Model   string            // "" stands for the default model
	Options map[string]string // see catalog.Model.Value
}

// Settings are what an operator decides about drops. Each is a parameter of
// template.yaml.
type Settings struct {
	// DefaultVideoModel and DefaultImageModel are the models of pairs for which
	// no preset names one.
	DefaultVideoModel, DefaultImageModel string

	// SharedFolders are the folders whose files any job.json may name: keys that
	// begin with inbox/ and end in a slash.
	SharedFolders []string

	// MaxJobsPerDrop is how many jobs one changed file may start. 0 sets no
	// limit.
	MaxJobsPerDrop int

	// RejectMismatch rejects a job that would drop a part of an input, because the
	// lengths of its inputs differ. Otherwise the job only has a warning.
	RejectMismatch bool
}

// lister is a Resolver that may make a limited number of listings.
type lister struct {
	*Resolver
	left int
}

// Assessment is what Find found about a subject.
type Assessment struct {
	// Own is about the subject's own name or file.
	Own Finding
	// Match is about the job of the subject's file, if the file matches the wildcard of
	// its bundle and only its job is concerned.
	Match *Finding
	// Matches are the subjects of the matches of a wildcard, if the change concerns
	// all of them. Each is assessed by itself.
	Matches []Subject
}

// Findings returns Own and, if there is one, Match.
func (a Assessment) Findings() []Finding {
	if a.Match == nil {
		return []Finding{a.Own}
	}
	return []Finding{a.Own, *a.Match}
}

// Finding is what an assessment of a name or a file found: a Job, or why there
// is no job.
type Finding struct {
	Name string
	// Key is the key of the status or answer file.
	Key string
	// Order says how old the drop is. It is empty if no file is known.
	Order ledger.Order

	// Job is a job whose files are all there. If it is nil, State says what to
	// post, with Problems, the Jobs that use the file, and Warnings.
	Job      *Job
	State    ledger.State
	Problems []problem.Problem
	Jobs     []string
	Warnings []string

	files []File // of a pair without a Job
}

// Files returns the files of the finding's job, or those of a pair that is not a job.
// It returns nil for other findings without a job.
func (f Finding) Files() []File {
	if f.Job == nil {
		return f.files
	}
	files := filesOf(f.Job.media)
	if manifest, ok := f.Job.Manifest(); ok {
		return append(files, manifest)
	}
	return append(files, f.Job.visual, f.Job.audio)
}

// Job is a take that the files ask for. Prepare checks them.
type Job struct {
	Name, Take string

	visual, audio File              // of a pair
	doc           *doc              // of a bundle
	media         []Used            // of a bundle
	match         string            // of a bundle with a wildcard: the key of the match
	wrong         []problem.Problem // of a bundle: problems of job.json, without those of its options
	listings      int               // how many listings Prepare may make
}

// Manifest returns the job.json of a bundle's job. It returns false for the job of a pair,
// and for a nil Job.
func (j *Job) Manifest() (File, bool) {
	if j == nil || j.doc == nil {
		return File{}, false
	}
	return j.doc.file, true
}

// Used is the file or URL of one property of the model's input.
type Used struct {
	Property string
	File     File
	URL      string // an https URL that job.json gives in place of a file
	Info     media.Info
}

// Input returns what a record stores about a file or URL. It leaves out the query of
// a URL, which may be a secret.
func (u Used) Input() ledger.Input {
	if u.URL != "" {
		return ledger.Input{Property: u.Property, URL: withoutQuery(u.URL)}
	}
	input := ledger.Input{
		Property: u.Property, Key: u.File.Key, ETag: u.File.ETag, VersionID: u.File.VersionID,
		Bytes: u.File.Size, LastModified: u.File.LastModified,
	}
	if l := u.Info.Length(); l.Exact {
		input.DurationSeconds = l.D.Seconds()
	}
	input.Width, input.Height, input.Codecs = u.Info.Width, u.Info.Height, u.Info.Codecs()
	if v := u.Info.Video; v != nil {
		input.PictureHash = v.Hash
	}
	return input
}

// Touched returns the subjects that a change of a file may concern.
func (r *Resolver) Touched(ctx context.Context, k Key) ([]Subject, error) {
	l := &lister{r, maxTouchedListings}
	switch k.Role {
	case NoDrop:
		return nil, nil
	case Manifest:
		return []Subject{subjectOf(k.Stem)}, nil
	case Member:
		return []Subject{memberSubject(k)}, nil
	case Visual:
		return l.touchedByVisual(ctx, k.Stem)
	case Audio:
		return l.touchedByAudio(ctx, k.Stem)
	case Preset:
		return l.touchedByPreset(ctx, k.Raw)
	default:
		return []Subject{fileSubject(k.Raw)}, nil
	}
}

// Find assesses a subject. It makes at most maxListings listings, whatever the
// key and the folder.
func (r *Resolver) Find(ctx context.Context, s Subject) (Assessment, error) {
	l := &lister{r, maxListings}
	a, err := l.find(ctx, s)
	if errors.Is(err, errCrowded) {
		f := about(s.Name)
		f.Key = s.Key()
		return Assessment{Own: f.decide(ledger.Rejected, a.Own.Order, crowded(f.Name))}, nil
	}
	for _, f := range []*Finding{&a.Own, a.Match} {
		if f == nil || f.Job == nil {
			continue
		}
		f.Job.listings = l.left
		if s.beyond > 0 {
			*f = f.tooMany(s.beyond, l.MaxJobsPerDrop)
		}
	}
	return a, err
}

// find assesses a subject. With errCrowded, Own has the Order of what was found.
func (l *lister) find(ctx context.Context, s Subject) (a Assessment, err error) {
	if s.file != "" {
		a.Own, err = l.findAnswer(ctx, ParseKey(s.file))
		return a, err
	}
	f := about(s.Name)
	from, err := l.sourcesOf(ctx, s.stem)
	if len(from.pair) > 0 {
		f.Order = orderOf(from.pair)
	}
	if err != nil {
		return Assessment{Own: f}, err
	}
	if contested, ok := from.contested(f); ok {
		return l.withMatches(ctx, contested, s.match, from.bundles)
	}
	switch {
	case len(from.bundles) > 0:
		return l.findBundle(ctx, f, from.bundles[0], s.match)
	case from.parent != "":
		a.Own, err = l.matchFinding(ctx, from, f.Name)
	default:
		a.Own, err = l.findPair(ctx, f, s.stem, from.pair)
	}
	return a, err
}

// about returns a finding of a job name, to be completed.
func about(name string) Finding {
	f := Finding{Name: name, Key: ledger.StatusKey(name)}
	if len(f.Key) > maxKey {
		f.Key = answerKey(ledger.InboxPrefix + name)
	}
	return f
}

// decide completes a finding with a state and its problems.
func (f Finding) decide(state ledger.State, order ledger.Order, problems ...problem.Problem) Finding {
	f.State, f.Order, f.Problems = state, order, bounded(problems)
	return f
}

// usedBy completes a finding of a file that the named jobs use.
func (f Finding) usedBy(jobs []string, order ledger.Order) Finding {
	f.Jobs = jobs
	return f.decide(ledger.Used, order)
}

// tooMany returns the finding of a job that is beyond the limit of one change. The
// job is held until MaxJobsPerDrop is raised or its audio is uploaded again. The change
// asks for at least the given number of jobs: the search for them has a limit.
func (f Finding) tooMany(jobs, most int) Finding {
	f.Job = nil
	return f.decide(ledger.Held, f.Order, problem.Problem{
		Code: problem.TooManyJobs, Reason: fmt.Sprintf("one changed file asks for at least %d jobs; it may start at most %d (MaxJobsPerDrop)", jobs, most),
	})
}

// refused completes a finding of a file that S3 refuses to return. Its state is held.
// For any other error, refused returns that error.
func (f Finding) refused(err error) (Finding, error) {
	if p, ok := refusal(err, ""); ok {
		return f.decide(ledger.Held, f.Order, p), nil
	}
	return f, err
}

// refusal returns the problem of a file that S3 refuses to return, and false for any
// other err. The reason begins with what, or with the file name if what is empty.
func refusal(err error, what string) (problem.Problem, bool) {
	refused, ok := errors.AsType[*bucket.RefusedError](err)
	if !ok {
		return problem.Problem{}, false
	}
	code := problem.MediaForbidden
	if refused.S3Code == "InvalidObjectState" {
		code = problem.MediaArchived
	}
	what = cmp.Or(what, problem.Short(path.Base(refused.Key)))
	return problem.Problem{Code: code, Reason: fmt.Sprintf("%s cannot be read: %s", what, refused.Response())}, true
}

// StateOf returns the state of a name with the given problems: held if all of
// them resolve with time or by an operator, else rejected.
func StateOf(problems []problem.Problem) ledger.State {
	for _, p := range problems {
		if p.Code.State() != string(ledger.Held) {
			return ledger.Rejected
		}
	}
	return ledger.Held
}

// gone completes a finding of files that were deleted.
func (f Finding) gone(reason, remedy string) Finding {
	return f.decide(ledger.Withdrawn, "", problem.Problem{Code: problem.FilesGone, Reason: reason, Remedy: remedy})
}
