package drop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// File is a file below inbox/ as it is now.
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

// Subject is something to assess: a job name, or a file that cannot belong to a
// job. It is comparable.
type Subject struct {
	// Name is the job name. For the matches of a bundle it is the name of the
	// bundle. If the file cannot belong to a job, it is the file's path below
	// inbox/.
	Name string

	stem   string // see Key.Stem; "" for a file that cannot belong to a job
	match  string // of a bundle with a wildcard: assess only the job of this file
	beyond int    // if the job is beyond the limit: how many jobs, at least, the change asks for; else 0
	file   string // the key of a file that cannot belong to a job
}

// TooMany reports whether the change asks for more jobs than it may start, and
// the job of this subject is beyond the limit.
func (s Subject) TooMany() bool { return s.beyond > 0 }

// Match returns the key of the file, if the subject is one match of a bundle, else "".
func (s Subject) Match() string { return s.match }

// SubjectOf returns the subject of a job name.
func SubjectOf(name string) Subject { return subjectOf(ledger.InboxPrefix + name) }

func subjectOf(stem string) Subject { return Subject{Name: nameOf(stem), stem: stem} }

// memberSubject returns the subject of a file in a bundle.
func memberSubject(k Key) Subject { return Subject{Name: k.Name, stem: k.Stem, match: k.Raw} }

func fileSubject(key string) Subject {
	return Subject{Name: strings.TrimPrefix(key, ledger.InboxPrefix), file: key}
}

// subjectJSON is a Subject in a message of the queue. The key names the file or the
// match; it is left out for a job name.
type subjectJSON struct {
	Stem   string `json:"stem,omitempty"`
	Key    string `json:"key,omitempty"`
	Beyond int    `json:"beyond,omitempty"`
}

// MarshalJSON returns the text that UnmarshalJSON reads.
func (s Subject) MarshalJSON() ([]byte, error) {
	return json.Marshal(subjectJSON{s.stem, cmp.Or(s.match, s.file), s.beyond})
}

// UnmarshalJSON reads the text of a subject. The text must be one that MarshalJSON
// returns.
func (s *Subject) UnmarshalJSON(text []byte) error {
	var read subjectJSON
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil {
		return err
	}
	k := ParseKey(read.Key)
	switch {
	case read.Key == "" && len(read.Stem) > len(ledger.InboxPrefix) && strings.HasPrefix(read.Stem, ledger.InboxPrefix):
		*s = subjectOf(read.Stem)
	case read.Stem == "" && k.Stem == "" && k.Role != NoDrop:
		*s = fileSubject(read.Key)
	case k.Role == Member && k.Stem == read.Stem:
		*s = memberSubject(k)
	default:
		return fmt.Errorf("not a subject: %.100s", text)
	}
	if s.beyond = read.Beyond; s.beyond < 0 {
		return fmt.Errorf("not a subject: %d jobs", s.beyond)
	}
	return nil
}

// Keys returns the key of the subject's status or answer file, and the key of its
// match's status. Find returns findings for these keys only.
func (s Subject) Keys() []string {
	keys := []string{s.Key()}
	if s.match != "" {
		keys = append(keys, about(matchName(ParseKey(s.match).Bundle, s.match)).Key)
	}
	return keys
}

// Key returns the key of the subject's status or answer file.
func (s Subject) Key() string {
	if s.file != "" {
		return answerKey(s.file)
	}
	return about(s.Name).Key
}

// Finding is what an assessment of a name or a file found: a Job, or why there
// is no job.
type Finding struct {
	Name string
	// Key is the key of its status or answer file.
	Key string
	// Order is the Order of its status (see ledger.Posted): a take if the files
	// that identify it are known, else the time of the newest file. It is empty if
	// neither is known.
	Order string

	// Job is a job whose files are all there. If it is nil, State says what to
	// post, with Problems, the Jobs that use the file, and Warnings.
	Job      *Job
	State    ledger.State
	Problems []problem.Problem
	Jobs     []string
	Warnings []string

	// Matches are the subjects of the matches of a wildcard, if the change concerns
	// all of them. Each is assessed by itself.
	Matches []Subject

	allJobs []string // Jobs may hold only the first of them
	files   []File   // of a pair without a Job
}

// Files returns the files of the finding's job, or of its pair if that is no job. It
// returns nil for other findings without a job.
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

// RemedyJob returns the job of the finding, for a remedy. A finding without a job counts
// as a pair.
func (f Finding) RemedyJob() problem.Job {
	if f.Job == nil {
		return problem.Job{Name: f.Name}
	}
	return f.Job.remedyJob()
}

// Asks reports whether the finding is about a job of this name, or about a file that
// a job of this name uses.
func (f Finding) Asks(name string) bool {
	return f.Name == name || slices.Contains(f.Jobs, name) || slices.Contains(f.allJobs, name)
}

// Job is a take that the files ask for. Prepare checks them.
type Job struct {
	Name, Take string

	visual, audio File              // of a pair
	doc           *doc              // of a bundle
	media         []Used            // of a bundle
	match         string            // of a bundle with a wildcard: the key of the match
	wrong         []problem.Problem // of a bundle: problems of job.json other than options
	listings      int               // how many Prepare may make
}

// Manifest returns the job.json of a bundle's job, and false for a pair.
func (j *Job) Manifest() (File, bool) {
	if j.doc == nil {
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
func (r *Resolver) Find(ctx context.Context, s Subject) ([]Finding, error) {
	l := &lister{r, maxListings}
	found, err := l.find(ctx, s)
	if errors.Is(err, errCrowded) {
		f := about(s.Name)
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

func (l *lister) find(ctx context.Context, s Subject) ([]Finding, error) {
	if s.file != "" {
		f, err := l.findAnswer(ctx, ParseKey(s.file))
		if err != nil && !errors.Is(err, errCrowded) {
			return f.refused(f.Order, err)
		}
		return []Finding{f}, err
	}
	f := about(s.Name)
	c, err := l.claimsOf(ctx, s.stem)
	if len(c.pair) > 0 {
		f.Order = stamp(c.pair)
	}
	if err != nil {
		return []Finding{f}, err
	}
	if f, contested := c.contested(f); contested {
		return l.withMatches(ctx, f, s.match, c.bundles)
	}
	switch {
	case len(c.bundles) > 0:
		return l.findBundle(ctx, f, c.bundles[0], s.match)
	case c.parent != "":
		return l.matchFinding(ctx, c, f.Name)
	}
	f, err = l.findPair(ctx, f, s.stem, c.pair)
	return []Finding{f}, err
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
func (f Finding) decide(state ledger.State, order string, problems ...problem.Problem) Finding {
	f.State, f.Order, f.Problems = state, order, bounded(problems)
	return f
}

// usedBy completes a finding of a file that the named jobs use.
func (f Finding) usedBy(jobs []string, order string) Finding {
	f.allJobs = jobs
	if f.Jobs = jobs; len(jobs) > maxJobs {
		f.Jobs = jobs[:maxJobs]
		f.Warnings = append(f.Warnings, fmt.Sprintf("only the first %d jobs are named here; each other job that was started has a status of its own", maxJobs))
	}
	return f.decide(ledger.Used, order)
}

// tooMany returns the finding of a job that is beyond the limit of one change. The
// job is held until MaxJobsPerDrop is raised or its audio is uploaded again. The change
// may ask for more jobs, because the search for them has a limit.
func (f Finding) tooMany(jobs, most int) Finding {
	f.Job = nil
	return f.decide(ledger.Held, f.Order, problem.Problem{
		Code: problem.TooManyJobs, Reason: fmt.Sprintf("one changed file asks for at least %d jobs; it may start at most %d (MaxJobsPerDrop)", jobs, most),
	})
}

// refused completes a finding of a file that S3 refuses to return as held. It
// returns any other error.
func (f Finding) refused(order string, err error) ([]Finding, error) {
	p, ok := refusal(err, "")
	if !ok {
		return nil, err
	}
	return []Finding{f.decide(ledger.Held, order, p)}, nil
}

// refusal returns the problem of a file that S3 refuses to return, if that is what err
// says. The reason calls the file what, or by its name if what is empty.
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
