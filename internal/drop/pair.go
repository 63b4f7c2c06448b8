package drop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// touchedByVisual returns the subjects that a change of a video or image may concern:
// the file's own name, the names of the tagged audios that use the file, and the name of the
// video or image that these audios use if the file does not exist. For example, if talk.v2.mp4 is
// deleted, talk.v2.de.wav uses talk.mp4, so the status of talk may change.
func (l *lister) touchedByVisual(ctx context.Context, stem string) ([]Subject, error) {
	tagged, _, err := l.tagged(ctx, stem)
	if err = exceptCrowded(err); err != nil {
		return nil, err
	}
	_, shorter, shorterErr := l.visualsOf(ctx, shorterStems(stem))
	if err = exceptCrowded(shorterErr); err != nil {
		return nil, err
	}
	jobs, noVisual := len(tagged), false
	if l.MaxJobsPerDrop > 0 && jobs >= l.MaxJobsPerDrop {
		files, err := l.withEndings(ctx, stem, mediaEndings)
		if exceptCrowded(err) != nil {
			return nil, err
		}
		audios, visuals := byRole(files)
		jobs += min(len(audios), 1) // an audio with the same stem makes the first job
		noVisual = err == nil && shorterErr == nil && shorter == "" && visuals == nil
	}
	subjects := []Subject{subjectOf(stem)}
	for i, s := range tagged {
		subjects = append(subjects, l.limited(subjectOf(s), jobs-len(tagged)+i+1, jobs, noVisual))
	}
	if shorter != "" {
		subjects = append(subjects, subjectOf(shorter))
	}
	return subjects, nil
}

// touchedByAudio returns the subjects that a change of an audio may concern: the audio's
// own name and, if its tags lead to a video or image, the name of this video or image.
func (l *lister) touchedByAudio(ctx context.Context, stem string) ([]Subject, error) {
	subjects := []Subject{subjectOf(stem)}
	_, at, err := l.visualsOf(ctx, append([]string{stem}, shorterStems(stem)...))
	if at != "" && at != stem { // with errCrowded, at is ""
		subjects = append(subjects, subjectOf(at))
	}
	return subjects, exceptCrowded(err)
}

// findPair assesses the files of a stem: a video or an image and an audio file with the
// same stem in the same folder are one job. An audio file without such a partner may have
// tags: talk.v2.de.wav uses the video or image of talk.v2 or, if there is none, of talk.
func (l *lister) findPair(ctx context.Context, f Finding, stem string, files []File) (Finding, error) {
	if len(files) == 0 {
		return f.gone("all files of "+f.Name+" were deleted", ""), nil
	}
	f.Order = orderOf(files)
	if !fits(f.Name) {
		return f.decide(ledger.Rejected, nameTooLong(f.Name)), nil
	}
	audios, visuals := byRole(files)
	if len(audios) > 0 && len(visuals) == 0 {
		var err error
		if visuals, _, err = l.visualsOf(ctx, shorterStems(stem)); err != nil {
			return f, err
		}
	}
	if len(audios) == 0 {
		tagged, all, err := l.tagged(ctx, stem)
		if err != nil && (len(tagged) == 0 || !errors.Is(err, errCrowded)) {
			return f, err
		}
		switch {
		case err != nil:
			f.Warnings = []string{fmt.Sprintf("not all files whose names begin with %q were checked, because finding them takes more than %d listings of the bucket", path.Base(stem)+".", maxListings)}
		case !all:
			f.Warnings = []string{fmt.Sprintf(ledger.OnlyFirst+"%d files whose names begin with %q were checked", maxMatches, path.Base(stem)+".")}
		}
		if len(tagged) > 0 {
			for _, s := range tagged {
				f.Jobs = append(f.Jobs, nameOf(s))
			}
			slices.Sort(f.Jobs)
			return f.decide(ledger.Used), nil
		}
	}
	used := slices.Concat(visuals, audios)
	f.files, f.Order = used, orderOf(used)
	job := &Job{Name: f.Name, Take: takeOf(f.Name, used)}
	for _, file := range used {
		job.media = append(job.media, Medium{File: file})
	}
	var problems []problem.Problem
	if len(audios) > 1 {
		problems = append(problems, ambiguous(audios, "the audio of "+f.Name))
	}
	if len(visuals) > 1 {
		p := ambiguous(visuals, "the video or image of "+f.Name)
		if hasKind(visuals, media.Video) && hasKind(visuals, media.Image) {
			p.Remedy += " If the image is only a thumbnail of the video, delete the image."
		}
		problems = append(problems, p)
	}
	if len(audios) != 1 || len(visuals) != 1 {
		problems = append(problems, job.emptyFiles()...) // for a whole pair, Prepare reports empty files
	}
	switch {
	case problems != nil:
		return f.decide(ledger.Rejected, problems...), nil
	case len(audios) == 0:
		return f.decide(ledger.Waiting, waitingForAudio(f.Name, visuals[0])), nil
	case len(visuals) == 0:
		p := waitingForVisual(f.Name, audios[0])
		hint, err := l.tagHint(ctx, stem, audios[0])
		if err != nil {
			return f, err
		}
		p.Remedy += hint
		return f.decide(ledger.Waiting, p), nil
	}
	f.Job = job
	return f, nil
}

// tagHint returns a further sentence for the remedy of an audio without a partner, if the audio
// may have a tag that begins with a _ or - instead of a dot: talk_de.wav beside talk.mp4.
func (l *lister) tagHint(ctx context.Context, stem string, audio File) (string, error) {
	i := strings.LastIndexAny(stem, "_-")
	if i <= len(folderOf(stem)) || i == len(stem)-1 {
		return "", nil
	}
	visuals, _, err := l.visualsOf(ctx, []string{stem[:i]})
	if len(visuals) == 0 {
		return "", exceptCrowded(err)
	}
	tagged := path.Base(stem[:i]) + "." + stem[i+1:] + path.Ext(audio.Key)
	return fmt.Sprintf(" A tag begins with a dot: if %s belongs to %s, rename it to %s.", visible(path.Base(audio.Key)), fileNames(visuals), visible(tagged)), nil
}

// visualsOf returns the videos and images of the first stem that has any, and this stem.
func (l *lister) visualsOf(ctx context.Context, stems []string) ([]File, string, error) {
	for _, stem := range stems {
		files, err := l.withEndings(ctx, stem, mediaEndings)
		if err != nil {
			return nil, "", err
		}
		if _, visuals := byRole(files); len(visuals) > 0 {
			return visuals, stem, nil
		}
	}
	return nil, "", nil
}

func hasKind(files []File, kind media.Kind) bool {
	return slices.ContainsFunc(files, func(f File) bool { k, _ := media.KindOf(f.Key); return k == kind })
}

func byRole(files []File) (audios, visuals []File) {
	for _, f := range files {
		if isAudio(f) {
			audios = append(audios, f)
		} else {
			visuals = append(visuals, f)
		}
	}
	return audios, visuals
}

func waitingForAudio(name string, visual File) problem.Problem {
	base := path.Base(name)
	return problem.Problem{
		Code: problem.WaitingForAudio, Reason: whenUploaded(visual) + "; an audio file with the same name is missing",
		Remedy: fmt.Sprintf("Upload an audio file named %s, such as %s, into the same folder, %s", visible(base), visible(base+".wav"), sameNames),
	}
}

// waitingForVisual suggests the audio's name and, if this name has tags, the name without them.
func waitingForVisual(name string, audio File) problem.Problem {
	base := path.Base(name)
	called := visible(base)
	if shorter := shorterStems(base); len(shorter) > 0 {
		called += " or " + visible(shorter[len(shorter)-1])
	}
	return problem.Problem{
		Code: problem.WaitingForVisual, Reason: whenUploaded(audio) + "; a video or an image with the same name is missing",
		Remedy: fmt.Sprintf("Upload a video or an image named %s, such as %s, into the same folder, %s", called, visible(base+".mp4"), sameNames),
	}
}

// sameNames ends the remedies of a file without a partner.
const sameNames = "or give both files the same name (capital letters count): the job then starts automatically."
