package drop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Prepared is what a checked job would send.
type Prepared struct {
	Model    string
	Input    map[string]any // the options only; submit adds the URLs of the media
	Media    []Medium
	Expected catalog.Expected
	Warnings []string
}

// Prepare checks a job and returns what the job would send, or the problems. It reads the
// preset of a pair, inspects each file, and validates the whole input. The error is
// bucket.ErrChanged, or an error of Files.
func (r *Resolver) Prepare(ctx context.Context, job *Job) (Prepared, []problem.Problem, error) {
	l := &lister{r, job.listings}
	prepare := l.prepareBundle
	if job.doc == nil {
		prepare = l.preparePair
	}
	ready, problems, err := prepare(ctx, job)
	switch {
	case errors.Is(err, errCrowded):
		return ready, []problem.Problem{crowded(job.Name)}, nil
	case err == nil && problems == nil:
		problems = l.compareLengths(job, &ready)
	}
	return ready, bounded(problems), err
}

func (l *lister) prepareBundle(ctx context.Context, job *Job) (Prepared, []problem.Problem, error) {
	model, _ := l.Catalog.Model(job.doc.Model)
	r := Prepared{Model: model.ID, Input: maps.Clone(job.doc.Input), Media: slices.Clone(job.media)}
	problems, err := l.inspect(ctx, job, model, &r)
	if err != nil {
		return r, nil, err
	}
	return r, slices.Concat(job.problems, problems, uploadAgain(r.validate(model), jobJSON)), nil
}

func (l *lister) preparePair(ctx context.Context, job *Job) (Prepared, []problem.Problem, error) {
	visual := job.media[0].File.Key
	kind, _ := media.KindOf(visual)
	s, problems, err := l.pairSetting(ctx, folderOf(visual), kind)
	if err != nil {
		return Prepared{}, nil, err
	}
	r := Prepared{Input: s.options, Media: slices.Clone(job.media)}
	if strings.Count(visual, "/") > maxPresetFolders && l.Choice == nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("a preset.json counts only in inbox/ and in the %d folders nearest to the job; this job is inside more folders", maxPresetFolders-1))
	}
	if s.model != nil {
		var ok bool
		r.Model = s.model.ID
		if r.Media[0].Property, r.Media[1].Property, ok = s.model.Pair(kind); !ok {
			problems = append(problems, l.mismatch(s, kind))
		}
	}
	wrong, err := l.inspect(ctx, job, s.model, &r)
	if err != nil {
		return r, nil, err
	}
	if problems == nil {
		var warnings []string
		r.Input, warnings = s.model.PairInput(s.options, r.Media[1].Info)
		if wrong == nil {
			r.Warnings = append(r.Warnings, warnings...)
		}
		problems = r.validate(s.model)
		for i := range problems {
			problems[i].Start = problem.AudioOfPair
		}
	}
	if slices.ContainsFunc(wrong, needsOtherName) {
		// The upload of the new file starts the job. Start is still needed only if Again has a
		// preset.json, because preset.json is uploaded after the new file and starts no job.
		for i := range problems {
			if problems[i].Again == nil {
				problems[i].Start = ""
			}
		}
	}
	return r, append(problems, wrong...), nil
}

// inspect reads each file of r, and compares the content with the suffix and with the
// limits of the model. If the model is nil, it compares the content with the suffix only.
// It completes the media and the warnings of r.
func (l *lister) inspect(ctx context.Context, job *Job, model *catalog.Model, r *Prepared) ([]problem.Problem, error) {
	var problems []problem.Problem
	for i := range r.Media {
		medium := &r.Media[i]
		if medium.URL != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s is a URL, %s, that was not checked", medium.Property, withoutQuery(medium.URL)))
			continue
		}
		err := l.inspectFile(ctx, medium)
		if wrong, ok := errors.AsType[*problem.Problem](err); ok {
			wrong.Member = medium.Property
			problems = append(problems, job.thenUpload(medium.File.Key, *wrong))
			continue
		}
		if p, ok := refusal(err, ""); ok {
			p.Member, p.Remedy = medium.Property, p.Code.RemedyFor(job.Restart())
			problems = append(problems, p)
			continue
		}
		if err != nil {
			return nil, err
		}
		r.Warnings = append(r.Warnings, medium.Info.Warnings...)
		if model != nil {
			broken, warnings := model.CheckMedia(medium.Property, medium.Info)
			for _, p := range broken {
				p.Member = medium.Property
				problems = append(problems, job.thenUpload(medium.File.Key, p))
			}
			r.Warnings = append(r.Warnings, warnings...)
		}
	}
	return problems, nil
}

// compareLengths sets r.Expected, which says how long the output of a valid job will be. If the
// length of an input does not fit, it adds a warning. If the output would leave out the end of an
// input and RejectMismatch is true, it returns a problem instead.
func (l *lister) compareLengths(job *Job, r *Prepared) []problem.Problem {
	model, _ := l.Catalog.Model(r.Model)
	given := make([]media.Info, len(r.Media))
	for i, medium := range r.Media {
		given[i] = medium.Info
	}
	r.Expected = model.ExpectLength(r.Input, given)
	if r.Expected.Dropped != nil && l.RejectMismatch {
		return []problem.Problem{job.tooLong(r.Media, *r.Expected.Dropped)}
	}
	if r.Expected.Warning != "" {
		r.Warnings = append(r.Warnings, r.Expected.Warning)
	}
	return nil
}

// tooLong completes the problem of an input whose end the output would leave out: it adds
// where the options are and what to upload.
func (j *Job) tooLong(media []Medium, p problem.Problem) problem.Problem {
	if j.doc == nil {
		p.Remedy += " The options of a pair are in a preset.json."
		p.Again, p.After = nil, "Then upload the file that you changed. If you changed preset.json, upload the audio of the pair too."
		return p
	}
	p.Remedy += " The options are in job.json."
	i := slices.IndexFunc(media, func(medium Medium) bool { return medium.Info.Name == p.Again[0] })
	p = j.thenUpload(media[i].File.Key, p)
	// An upload of a file that was not changed may start a job a second time.
	p.After = "Then upload only the file that you changed."
	if p.Start != "" {
		p.After = fmt.Sprintf("Then upload the file that you changed. If you changed %s, upload %s too.", p.Again[0], p.Start)
	}
	if j.match != "" {
		p.After += " " + problem.AllMatches
	}
	p.Again, p.Start = nil, ""
	return p
}

// Restart says how the job is started again. A nil Job counts as a pair.
func (j *Job) Restart() problem.Restart {
	if j == nil {
		return problem.Restart{}
	}
	return problem.Restart{Name: j.Name, Bundle: j.doc != nil, Match: j.match}
}

// inspectFile inspects the content of a file and completes medium with the result. It
// returns bucket.ErrChanged if the file has changed since it was found, and
// *problem.Problem if something is wrong with the file.
func (l *lister) inspectFile(ctx context.Context, medium *Medium) error {
	file, err := l.Files.Head(ctx, medium.File.Key)
	if errors.Is(err, bucket.ErrNotFound) {
		return bucket.ErrChanged
	}
	if err != nil {
		return err
	}
	if !file.Matches(medium.File.ETag, medium.File.LastModified) {
		return bucket.ErrChanged
	}
	info, err := media.Inspect(ctx, media.Source{
		Name: path.Base(file.Key), Size: file.Size,
		ReadRange: func(ctx context.Context, off, n int64) ([]byte, error) { return l.Files.ReadRange(ctx, file, off, n) },
	})
	if err != nil {
		return err
	}
	medium.File, medium.Info = file, info
	return nil
}

// emptyFiles returns a problem for each empty file of the job.
func (j *Job) emptyFiles() []problem.Problem {
	var problems []problem.Problem
	for _, file := range j.files() {
		if file.Size == 0 {
			problems = append(problems, j.thenUpload(file.Key, *media.EmptyFile(path.Base(file.Key))))
		}
	}
	return problems
}

// files returns the media of the job, without the URLs.
func (j *Job) files() []File {
	var files []File
	for _, medium := range j.media {
		if medium.URL == "" {
			files = append(files, medium.File)
		}
	}
	return files
}

// thenUpload completes the problem of the file at key. The remedy says how to fix the file;
// thenUpload adds what to do with the fixed file.
func (j *Job) thenUpload(key string, p problem.Problem) problem.Problem {
	base := path.Base(key)
	renamed := needsOtherName(p)
	inBundle := j.doc != nil && equalNFC(ParseKey(key).Bundle, folderOf(j.doc.file.Key))
	switch {
	case renamed && (j.doc == nil || key == j.match):
		p.Remedy += " Upload the new file in place of " + base + "."
		if j.match != "" {
			p.After = "If the wildcard does not match the new name, change the wildcard in job.json, then upload job.json again. " + problem.AllMatches
		}
	case renamed:
		p.Remedy += " Upload the new file in place of " + base
		if inBundle {
			// If the new file has the old name, it starts the job, and job.json would start a second one.
			p.Remedy += ". If the new file has another name, name it in job.json, and upload job.json last."
		} else {
			p.Remedy += ", and name it in job.json."
			p.Again = []string{jobJSON}
		}
		if j.match != "" {
			p.After = problem.AllMatches
		}
	case j.doc == nil || inBundle:
		p.Again = []string{base}
	case j.match != "": // an upload outside the bundle starts no job of the bundle
		p.Again, p.Start, p.After = []string{key}, path.Base(j.match), problem.AllMatches
	default:
		p.Again, p.Start = []string{key}, jobJSON
	}
	return p
}

// needsOtherName reports whether the fixed file may need another name than the wrong file.
func needsOtherName(p problem.Problem) bool {
	return p.Code == problem.FileMismatch || p.Code == problem.WrongFormat
}

// validate checks the whole input, with a placeholder for the URL of each medium. It adds
// the warnings to r, and removes the media from r.Input, so that only the options are left.
func (r *Prepared) validate(model *catalog.Model) []problem.Problem {
	whole := maps.Clone(r.Input)
	for _, medium := range r.Media {
		whole[medium.Property] = "https://example.com/"
		delete(r.Input, medium.Property)
	}
	r.Warnings = append(r.Warnings, model.Warnings(whole)...)
	return model.Validate(whole)
}

// uploadAgain adds to each problem which file to upload again.
func uploadAgain(problems []problem.Problem, file string) []problem.Problem {
	for i := range problems {
		problems[i].Again = []string{file}
	}
	return problems
}

// withoutQuery returns a URL without its query and user, which may be secrets.
func withoutQuery(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a URL"
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}
