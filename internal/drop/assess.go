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

// File is the current version of a file in the bucket.
type File = bucket.File

// Files is where dropped files are stored: a bucket or a local folder. Each method does
// what the method of bucket.Bucket with the same name does.
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

// Choice is a model and options for every pair. If there is a Choice, no pair uses a preset.
type Choice struct {
	Model   string            // "" stands for the default model
	Options map[string]string // see catalog.Model.Value
}

// Settings are what an operator decides about drops. Each is a parameter of
// template.yaml.
type Settings struct {
	// DefaultVideoModel is the model for a pair with a video, and DefaultImageModel the
	// model for a pair with an image, if neither a preset nor a Choice sets a model.
	DefaultVideoModel, DefaultImageModel string

	// SharedFolders are the folders whose files any job.json may name: keys that
	// begin with inbox/ and end in a slash.
	SharedFolders []string

	// MaxJobsPerDrop is how many jobs one changed file may start. 0 sets no
	// limit.
	MaxJobsPerDrop int

	// RejectMismatch rejects each job whose output would leave out the end of an input (see
	// catalog.Expected.Dropped). Without it, such a job gets a warning.
	RejectMismatch bool
}

// Found is what Find found about a subject.
type Found struct {
	// Own is about the subject's own name or file.
	Own Finding
	// Match is about the job name that a wildcard gives the subject's file (see MatchName).
	// It is nil if the file is not a match, or if the change concerns all matches.
	Match *Finding
	// Matches are the subjects of all matches of a wildcard, if the change concerns all
	// of them. The caller assesses each of these subjects separately.
	Matches []Subject
}

// Findings returns Own and, if there is one, Match.
func (a Found) Findings() []Finding {
	if a.Match == nil {
		return []Finding{a.Own}
	}
	return []Finding{a.Own, *a.Match}
}

// Finding is what an assessment of a name or a file found: a Job, or why there
// is no job.
type Finding struct {
	Name string
	// Key is the key of the status or answer file (see ledger.AnswerPrefix).
	Key string
	// Order says how old the drop is. It may be empty, for example for a bundle without a
	// job.json.
	Order ledger.Order

	// Job is a job whose files are all there. If Job is nil, the next four fields are for the
	// status or answer file.
	Job      *Job
	State    ledger.State
	Problems []problem.Problem
	Jobs     []string // names of the jobs that use the dropped video or image, or that a bundle's wildcard makes
	Warnings []string

	files   []File          // of a pair
	restart problem.Restart // if Job is nil
}

// Restart says how the drop is started again.
func (f Finding) Restart() problem.Restart {
	if f.Job == nil {
		return f.restart
	}
	return f.Job.Restart()
}

// Files returns the files of the finding's job, or the files of a pair that is not a job
// yet. It returns nil for any other finding without a job.
func (f Finding) Files() []File {
	if f.Job == nil {
		return f.files
	}
	files := f.Job.files()
	if manifest, ok := f.Job.Manifest(); ok {
		files = append(files, manifest)
	}
	return files
}

// Job is a take that dropped files ask for. Prepare checks the files and the options.
type Job struct {
	Name, Take string

	media    []Medium          // of a pair: the video or image, then the audio
	doc      *doc              // job.json of a bundle; nil for a pair
	match    string            // of a bundle with a wildcard: the key of the match
	problems []problem.Problem // of a bundle: problems of job.json, except problems of its options
	listings int               // how many listings Prepare may make
}

// Manifest returns the job.json of a bundle's job. It returns false for the job of a pair,
// and for a nil Job.
func (j *Job) Manifest() (File, bool) {
	if j == nil || j.doc == nil {
		return File{}, false
	}
	return j.doc.file, true
}

// Medium is the file or URL of one property of the model's input.
type Medium struct {
	Property string
	File     File
	URL      string // an https URL that job.json gives in place of a file
	Info     media.Info
}

// Input returns what a record stores about a file or URL. It leaves out the query of
// a URL, which may be a secret.
func (m Medium) Input() ledger.Input {
	if m.URL != "" {
		return ledger.Input{Property: m.Property, URL: withoutQuery(m.URL)}
	}
	input := ledger.Input{
		Property: m.Property, Key: m.File.Key, ETag: m.File.ETag, VersionID: m.File.VersionID,
		Bytes: m.File.Size, LastModified: m.File.LastModified,
	}
	if l := m.Info.Length(); l.Exact {
		input.DurationSeconds = l.D.Seconds()
	}
	input.Width, input.Height, input.Codecs = m.Info.Width, m.Info.Height, m.Info.Codecs()
	if v := m.Info.Video; v != nil {
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
	case Visual:
		return l.touchedByVisual(ctx, k.Stem)
	case Audio:
		return l.touchedByAudio(ctx, k.Stem)
	case Preset:
		return l.touchedByPreset(ctx, k)
	default:
		return []Subject{fileSubject(k)}, nil
	}
}

// Find assesses a subject. It makes at most maxListings listings.
func (r *Resolver) Find(ctx context.Context, s Subject) (Found, error) {
	l := &lister{r, maxListings}
	a, err := l.find(ctx, s)
	if errors.Is(err, errCrowded) {
		f := Finding{Name: s.Name, Key: s.Key(), Order: a.Own.Order}
		return Found{Own: f.decide(ledger.Rejected, crowded(f.Name))}, nil
	}
	for _, f := range []*Finding{&a.Own, a.Match} {
		if f == nil || f.Job == nil {
			continue
		}
		f.Job.listings = l.left
		if s.jobs > 0 {
			*f = f.holdExcess(s.jobs, l.MaxJobsPerDrop)
		}
	}
	return a, err
}

// find assesses a subject. If it returns errCrowded, Own.Order covers the files found so far,
// or is empty.
func (l *lister) find(ctx context.Context, s Subject) (a Found, err error) {
	if s.stem == "" {
		a.Own, err = l.findAnswer(ctx, ParseKey(s.key))
		return a, err
	}
	f := newFinding(s.Name)
	from, err := l.sourcesOf(ctx, s.stem)
	if len(from.pair) > 0 {
		f.Order = orderOf(from.pair)
	}
	contested := false
	if err == nil {
		f, contested, err = l.contested(ctx, &from, f)
	}
	switch {
	case err != nil:
		a.Own = f
	case contested:
		return l.withMatches(ctx, f, from.bundles, s.File())
	case len(from.bundles) > 0:
		return l.findBundle(ctx, f, from.bundles[0], s.File())
	case from.matchedBy != "":
		a.Own, err = l.findMatch(ctx, from, f)
	default:
		a.Own, err = l.findPair(ctx, f, s.stem, from.pair)
	}
	return a, err
}

// findAnswer assesses a file that cannot belong to a job.
func (l *lister) findAnswer(ctx context.Context, k Key) (Finding, error) {
	f := Finding{Name: k.Name, Key: answerKey(k.Raw), restart: problem.Restart{Name: k.Name, NoJob: true}}
	base := path.Base(k.Raw)
	file, err := l.Files.Head(ctx, k.Raw)
	if errors.Is(err, bucket.ErrNotFound) {
		return f.gone(problem.Short(base)+" was deleted", "Nothing to do."), nil
	}
	if err != nil {
		return f.refused(err)
	}
	f.Order = orderOf([]File{file})
	switch k.Role {
	case Preset:
		problems, err := l.checkPreset(ctx, file)
		if err != nil {
			return f.refused(err)
		}
		if problems != nil {
			return f.decide(ledger.Rejected, problems...), nil
		}
		return f.decide(ledger.Accepted), nil
	case StrayJobJSON:
		return f.decide(ledger.Rejected, strayJob(k.Raw)), nil
	case RelativePath:
		return f.decide(ledger.Rejected, relativePath(f.Name)), nil
	case Unprintable:
		return f.decide(ledger.Rejected, unprintablePath(f.Name)), nil
	default:
		return f.decide(ledger.Rejected, startsNothing(base)), nil
	}
}

// newFinding returns the finding of a job name, with only Name and Key set.
func newFinding(name string) Finding {
	f := Finding{Name: name, Key: ledger.StatusKey(name)}
	if len(f.Key) > maxKey {
		f.Key = answerKey(ledger.InboxPrefix + name)
	}
	return f
}

// decide returns the finding with a state and problems, and without a job.
func (f Finding) decide(state ledger.State, problems ...problem.Problem) Finding {
	f.Job, f.State, f.Problems = nil, state, bounded(problems)
	return f
}

// holdExcess returns the finding as held, because more jobs than allowed were found for the
// change. There may be even more, because the search has a limit.
func (f Finding) holdExcess(found, allowed int) Finding {
	return f.decide(ledger.Held, problem.Problem{
		Code: problem.TooManyJobs, Reason: fmt.Sprintf("one changed file asks for at least %d jobs; it may start at most %d (MaxJobsPerDrop)", found, allowed),
	})
}

// refused returns the finding as held if err says that S3 refuses to return a file. It
// returns any other err.
func (f Finding) refused(err error) (Finding, error) {
	if p, ok := refusal(err, ""); ok {
		p.Remedy = p.Code.RemedyFor(f.Restart())
		return f.decide(ledger.Held, p), nil
	}
	return f, err
}

// refusal returns the problem if err says that S3 refuses to return a file, and false for
// any other err. The reason begins with label, or with the file name if label is empty.
func refusal(err error, label string) (problem.Problem, bool) {
	refused, ok := errors.AsType[*bucket.RefusedError](err)
	if !ok {
		return problem.Problem{}, false
	}
	code := problem.MediaForbidden
	if refused.S3Code == "InvalidObjectState" {
		code = problem.MediaArchived
	}
	label = cmp.Or(label, problem.Short(path.Base(refused.Key)))
	return problem.Problem{Code: code, Reason: fmt.Sprintf("%s cannot be read: %s", label, refused.Response())}, true
}

// StateOf returns the state of a name with the given problems. The state is held if time
// or an operator resolves all of these problems. Otherwise the state is rejected.
func StateOf(problems []problem.Problem) ledger.State {
	for _, p := range problems {
		if !p.Code.In(string(ledger.Held)) {
			return ledger.Rejected
		}
	}
	return ledger.Held
}

// gone returns the finding as withdrawn, because its files were deleted.
func (f Finding) gone(reason, remedy string) Finding {
	return f.decide(ledger.Withdrawn, problem.Problem{Code: problem.FilesGone, Reason: reason, Remedy: remedy})
}
