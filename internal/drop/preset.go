package drop

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// setting is the model and the options of a pair.
type setting struct {
	model   *catalog.Model // nil if nearestPreset found problems, or the model does not exist
	options map[string]any
	from    string // the key of the preset, or "" if there is no preset
}

// pairSetting returns the model and the options of a pair in a folder. They come from the Choice
// or, if it is nil, from the nearest preset. If no model is set, pairSetting returns the default
// model for a video or for an image.
func (l *lister) pairSetting(ctx context.Context, folder string, kind media.Kind) (setting, []problem.Problem, error) {
	s := setting{options: map[string]any{}}
	id := l.DefaultVideoModel
	if kind == media.Image {
		id = l.DefaultImageModel
	}
	if l.Choice != nil {
		id = cmp.Or(l.Choice.Model, id)
	} else {
		preset, problems, err := l.nearestPreset(ctx, folder)
		if err != nil || problems != nil {
			return s, problems, err
		}
		if preset != nil {
			s.from, s.options = preset.file.Key, preset.Input
			id = cmp.Or(preset.Model, id)
		}
	}
	model, ok := l.Catalog.Model(id)
	if !ok {
		return s, s.blame([]problem.Problem{l.unknownModel(id, presetJSON)}), nil
	}
	s.model = model
	if l.Choice != nil {
		for name, text := range l.Choice.Options {
			s.options[name] = model.Value(name, text)
		}
	}
	return s, s.blame(uploadAgain(model.ValidateOptions(s.options), presetJSON)), nil
}

// blame attributes problems of a setting to its preset, if there is one.
func (s setting) blame(problems []problem.Problem) []problem.Problem {
	if s.from == "" {
		return problems
	}
	return badPreset(s.from, problems)
}

// mismatch returns the problem of a pair whose media the model does not accept.
func (l *lister) mismatch(s setting, kind media.Kind) problem.Problem {
	if l.Choice != nil {
		return problem.Problem{
			Code: problem.ModelMismatch, Reason: fmt.Sprintf("%s does not accept a pair of %s and an audio file", s.model.ID, kind.Noun()),
			Remedy: "Choose another model.",
		}
	}
	return problem.Problem{
		Code: problem.ModelMismatch, Reason: fmt.Sprintf("the preset %s sets %s, which does not accept a pair of %s and an audio file", s.from, s.model.ID, kind.Noun()),
		Remedy: "In a preset.json, set a model that accepts the pair, or remove the preset.", Start: problem.AudioOfPair,
	}
}

// badPreset turns problems of a preset into problems of a pair that uses the preset.
func badPreset(key string, problems []problem.Problem) []problem.Problem {
	bad := slices.Clone(problems)
	for i, p := range bad {
		bad[i].Code = problem.InvalidPreset
		bad[i].Reason = fmt.Sprintf("the preset in %s is wrong: %s", folderOf(key), p.Reason)
		bad[i].Start = problem.AudioOfPair
	}
	return bad
}

// maxPresetFolders bounds the folders that are searched for the preset of a pair. If there are
// more, only the nearest ones and inbox/ are searched.
const maxPresetFolders = 12

// presetFolders returns the folders whose presets count for the pairs in a folder, nearest
// first.
func presetFolders(folder string) (folders []string) {
	for strings.HasPrefix(folder, ledger.InboxPrefix) {
		folders = append(folders, folder)
		folder = folderOf(strings.TrimSuffix(folder, "/"))
	}
	if len(folders) > maxPresetFolders {
		folders = append(folders[:maxPresetFolders-1], ledger.InboxPrefix)
	}
	return folders
}

// nearestPreset returns the preset of a folder. If there is none, it returns the preset of
// the nearest folder above that has one, or nil.
func (l *lister) nearestPreset(ctx context.Context, folder string) (*doc, []problem.Problem, error) {
	present, err := l.presentForms(ctx, folder)
	if err != nil {
		return nil, nil, err
	}
	for i := range presetFolders(folder) {
		var level []string // the Unicode forms of one folder
		for _, form := range present {
			if f := presetFolders(form)[i]; !slices.Contains(level, f) {
				level = append(level, f)
			}
		}
		files, err := l.namedIn(ctx, level, presetJSON)
		switch {
		case err != nil:
			return nil, nil, err
		case len(files) > 1:
			p := severalPresets(files)
			p.Remedy, p.Start = fmt.Sprintf("Delete all but one of %s.", fileNames(files)), problem.AudioOfPair
			return nil, []problem.Problem{p}, nil
		case len(files) == 1:
			doc, problems, err := l.readDoc(ctx, files[0])
			if p, ok := refusal(err, "the preset "+problem.Short(files[0].Key)); ok {
				return nil, []problem.Problem{p}, nil
			}
			return doc, badPreset(files[0].Key, problems), err
		}
	}
	return nil, nil, nil
}

// touchedByPreset returns the subjects of a preset and of the other presets of its folder,
// because a change of one preset may make the others ambiguous, or valid again.
func (l *lister) touchedByPreset(ctx context.Context, k Key) ([]Subject, error) {
	files, err := l.named(ctx, folderOf(k.Raw), presetJSON)
	subjects := []Subject{fileSubject(k)}
	for _, f := range files {
		if f.Key != k.Raw {
			subjects = append(subjects, fileSubject(ParseKey(f.Key)))
		}
	}
	return subjects, exceptCrowded(err)
}

func severalPresets(files []File) problem.Problem {
	return ambiguous(files, "the preset of "+folderOf(files[0].Key))
}

// checkPreset returns the problems of a preset that do not depend on the pair.
func (l *lister) checkPreset(ctx context.Context, file File) ([]problem.Problem, error) {
	if !namedFinds(file.Key, presetJSON) {
		return []problem.Problem{badSpelling(file, presetJSON)}, nil
	}
	files, err := l.named(ctx, folderOf(file.Key), presetJSON)
	if err != nil {
		return nil, err
	}
	if len(files) > 1 {
		return []problem.Problem{severalPresets(files)}, nil
	}
	doc, problems, err := l.readDoc(ctx, file)
	if err != nil || problems != nil {
		return problems, err
	}
	base := path.Base(file.Key)
	if doc.Model != "" {
		model, ok := l.Catalog.Model(doc.Model)
		switch {
		case !ok:
			return []problem.Problem{l.unknownModel(doc.Model, base)}, nil
		case !takesPairs(model):
			return []problem.Problem{{
				Code: problem.ModelMismatch, Reason: doc.Model + " accepts neither a video nor an image with an audio file",
				Remedy: `Use the model in a folder whose name ends in .job, or set "model" to another model.`, Again: []string{base},
			}}, nil
		}
		return uploadAgain(model.ValidateOptions(doc.Input), base), nil
	}
	// Without a model, the options must be right for one of the default models.
	for _, id := range []string{l.DefaultVideoModel, l.DefaultImageModel} {
		model, ok := l.Catalog.Model(id)
		if !ok {
			continue // an older command may not know a default model of a newer stack
		}
		wrong := uploadAgain(model.ValidateOptions(doc.Input), base)
		if wrong == nil {
			return nil, nil
		}
		if problems == nil {
			problems = wrong
		}
	}
	return problems, nil
}

func takesPairs(model *catalog.Model) bool {
	_, _, video := model.Pair(media.Video)
	_, _, image := model.Pair(media.Image)
	return video || image
}
